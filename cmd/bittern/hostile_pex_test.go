//go:build linux

package main_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestHostilePEX: whom a peer names in peer exchange (BEP 11) is called, but not for a private torrent, nor
// where the user forbids it; and a flood of strangers does not bury the one who is there.
func TestHostilePEX(t *testing.T) {
	for _, tt := range []struct {
		name    string
		private bool
		args    []string
		floods  bool
		want    int // exit code
	}{
		{"the only seed is named", false, nil, false, 0},
		{"and so are thousands of others", false, nil, true, 0},
		{"a private torrent", true, nil, false, 5},
		{"peer exchange is off", false, []string{"--no-pex", "--max-time", "3s"}, false, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", mib, 64*kib)
			args := append([]string{"--max-time", "60s"}, tt.args...)
			if tt.private {
				x.private()
				args = []string{"--max-time", "3s"}
			}
			seed := newPeer(t, x, "127.0.0.3", script{})
			id := make(chan byte, 1)
			gossip := newPeer(t, x, "127.0.0.2", script{
				has: func(int) bool { return false },
				greet: func(l *link) error {
					n, err := l.pexID()
					if err != nil {
						return err
					}
					id <- n
					if n == 0 {
						n = 2 // it was told not to; it may guess
					}
					if err := l.name(n, seed.addr); err != nil || !tt.floods {
						return err
					}
					for i := range 5000 {
						to := netip.AddrPortFrom(caller(i), 1)
						if err := l.name(n, to); err != nil {
							return err
						}
					}
					return nil
				},
			})
			dir := t.TempDir()
			get := run(t, append([]string{"get", x.torrent(t), "-d", dir, "--peer", gossip.addr.String()}, args...)...)
			get.exits(t, tt.want, 30*time.Second)
			if tt.want == 0 {
				x.isAloneIn(t, dir)
			}
			if n := <-id; (n != 0) != (tt.want == 0) {
				t.Errorf("the extension handshake names id %d for ut_pex", n)
			}
			if n := seed.met(); (n > 0) != (tt.want == 0) {
				t.Errorf("the seed was called %d times", n)
			}
			frugal(t, get)
		})
	}
}

// pexID sends an extension handshake and reads the command's: the id that it names for ut_pex, 0 if none.
func (l *link) pexID() (byte, error) {
	if err := l.send(msgExtended, []byte("\x00d1:md6:ut_pexi1eee")); err != nil {
		return 0, err
	}
	for {
		id, body, err := l.receive()
		if err != nil {
			return 0, err
		}
		if id != msgExtended || len(body) == 0 || body[0] != 0 {
			continue
		}
		m := regexp.MustCompile(`6:ut_pexi(\d+)e`).FindSubmatch(body)
		if m == nil {
			return 0, nil
		}
		n, err := strconv.ParseUint(string(m[1]), 10, 8)
		return byte(n), err
	}
}

// name sends a message of ut_pex that names one IPv4 address.
func (l *link) name(id byte, at netip.AddrPort) error {
	ip, port := at.Addr().As4(), at.Port()
	entry := string(ip[:]) + string([]byte{byte(port >> 8), byte(port)})
	return l.send(msgExtended, []byte{id}, []byte(fmt.Sprintf("d5:added%se", bstring(entry))))
}
