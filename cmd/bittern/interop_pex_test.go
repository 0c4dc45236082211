//go:build linux

package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestInteropPEX: two peers that know one in the middle alone get to know each other through it (BEP 11).
// Nobody ever has the whole content, so that everybody has a reason to stay.
func TestInteropPEX(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{aria2, transmission, libtorrent} {
		t.Run(c.name+" learns through bittern", func(t *testing.T) {
			t.Parallel()
			x, torrent := exchanged(t)
			// It does not learn itself, so it is the client who calls; and knowing nobody it would not get.
			far := newExchange(t, x, torrent, "seed", "--no-pex")
			middle := c.share(t, newHost(), torrent, t.TempDir())
			newExchange(t, x, torrent, "get", "--peer", far.at.String(), "--peer", middle.job.at.String())
			far.meets(t, middle.job.at.Addr(), false)
		})
		t.Run("bittern learns through "+c.name, func(t *testing.T) {
			t.Parallel()
			x, torrent := exchanged(t)
			middle := c.share(t, newHost(), torrent, t.TempDir())
			// A seed with nothing more for it would be dropped by libtorrent.
			far := newExchange(t, x, torrent, "get", "--no-pex", "--peer", middle.job.at.String())
			// One after the other: aria2c tells a newcomer of those who are there, and others only a minute later, when it has
			// sent idle ones away.
			far.meets(t, middle.job.at.Addr(), true)
			near := newExchange(t, x, torrent, "get", "--peer", middle.job.at.String())
			far.meets(t, near.at.Addr(), false)
		})
	}
}

// exchanged makes a torrent of two files.
func exchanged(t *testing.T) (x *fixture, torrent string) {
	x = newFolder("exchanged", 64*kib, file{"here", 4 * 64 * kib}, file{"nowhere", 4 * 64 * kib})
	return x, x.torrent(t, noTracker)
}

// An exchange is a bittern that serves the file that is there or, told to get, waits for the other, too.
type exchange struct {
	*process
	at  netip.AddrPort
	log string
}

// newExchange starts one. It has a tracker that knows nobody, or it would end when all have sent it away.
func newExchange(t *testing.T, x *fixture, torrent, command string, args ...string) *exchange {
	t.Helper()
	dir := t.TempDir()
	x.each(dir, func(path string, data []byte) {
		if filepath.Base(path) == "here" {
			write(t, string(data), path)
		}
	})
	e := &exchange{at: freePort(t, newHost()), log: filepath.Join(t.TempDir(), "log")}
	e.process = run(t, append([]string{command, torrent, "-d", dir, "--no-trackers", "--tracker", newTrackerAt(t, newHost()).url, "--log", e.log,
		"--interface", e.at.Addr().String(), "--port", strconv.Itoa(int(e.at.Port()))}, args...)...)
	return e
}

// meets waits until e has connected to a peer at an address or, if not outgoing, the peer to e. transmission tells of
// peers every 90 seconds.
func (e *exchange) meets(t *testing.T, peer netip.Addr, outgoing bool) {
	t.Helper()
	await(t, 150*time.Second, "a connection with "+peer.String(), func() bool {
		log, err := os.ReadFile(e.log)
		if err != nil {
			return false // not begun yet
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "peer joined") && strings.Contains(line, "peer="+peer.String()+":") &&
				strings.Contains(line, fmt.Sprintf("outgoing=%t", outgoing)) {
				return true
			}
		}
		return false
	})
}
