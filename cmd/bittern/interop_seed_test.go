//go:build linux

package main_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bitternShares is the command as one more client: get goes on seeding, and says as JSON when it is
// complete.
var bitternShares = client{"bittern", "bittern", func(t *testing.T, j job) command {
	return command{name: "bittern", argv: []string{bittern(t), "get", j.source, "-d", j.dir, "--seed", "--json",
		"--interface", j.at.Addr().String(), "--port", strconv.Itoa(int(j.at.Port()))}}
}, func(_ job, p *process) bool { return strings.Contains(p.out.String(), `"event":"complete"`) }}

// TestInteropSeed lets the real clients download from bittern seed.
func TestInteropSeed(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{aria2, transmission, libtorrent, rtorrent} {
		for _, content := range []content{small, nested} {
			t.Run(c.name+" gets "+content.label, func(t *testing.T) {
				t.Parallel()
				x := content.make()
				at, url := httpTracker.open(t)
				torrent := x.torrent(t, url)
				startOpentracker(t, at, x.hash)
				from, to := t.TempDir(), t.TempDir()
				x.lay(t, from)
				was := states(t, from)
				run(t, "seed", torrent, "-d", from, "--interface", newHost())
				awaitSeeds(t, at, x.hash, 1)
				c.share(t, newHost(), torrent, to).completes(t, 90*time.Second)
				x.isIn(t, to)
				if now := states(t, from); now != was {
					t.Errorf("what is seeded was\n%snow\n%s", was, now)
				}
			})
		}
	}
}

// TestInteropSwarm: two of the command and one of each of three clients, of which none has
// everything, complete each other.
func TestInteropSwarm(t *testing.T) {
	if !isolated(t) {
		return
	}
	const piece = 64 * kib
	var files []file
	for i := range 10 {
		files = append(files, file{fmt.Sprintf("part %d", i), 32 * piece}) // no piece crosses files
	}
	x := newFolder("swarm", piece, files...)
	at, url := httpTracker.open(t)
	torrent := x.torrent(t, url)
	startOpentracker(t, at, x.hash)
	clients := []client{bitternShares, aria2, transmission, libtorrent, bitternShares}
	var shares []*share
	var dirs []string
	for n, c := range clients {
		dir, i := t.TempDir(), 0
		x.each(dir, func(path string, data []byte) {
			if i%len(clients) == n {
				write(t, string(data), path)
			}
			i++
		})
		dirs = append(dirs, dir)
		shares = append(shares, c.share(t, newHost(), torrent, dir))
	}
	for n, s := range shares {
		s.completes(t, 150*time.Second)
		x.isIn(t, dirs[n])
	}
}

// TestInteropServeTracker: the tracker inside seed brings the real clients to it, by HTTP and by UDP.
func TestInteropServeTracker(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := small.make()
	from := t.TempDir()
	x.lay(t, from)
	host := newHost()
	seed := run(t, "seed", x.torrent(t), "-d", from, "--interface", host, "--serve-tracker", host+":0", "--json")
	var url string
	await(t, 20*time.Second, "the tracker's URL", func() bool {
		_, rest, _ := strings.Cut(seed.out.String(), `"tracker_url":"`)
		var found bool
		url, _, found = strings.Cut(rest, `"`)
		return found
	})
	_, at, _ := strings.Cut(url, "//")
	for _, tt := range []struct {
		client client
		url    string
	}{{aria2, "http://" + at}, {transmission, "udp://" + at}, {libtorrent, "http://" + at}, {libtorrent, "udp://" + at}} {
		t.Run(tt.client.name+" by "+tt.url[:4], func(t *testing.T) {
			t.Parallel()
			to := t.TempDir()
			tt.client.share(t, newHost(), x.torrent(t, tt.url), to).completes(t, 90*time.Second)
			x.isIn(t, to)
		})
	}
}
