//go:build linux

package main_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// A content is what a torrent of the interop tests holds; the label is for the tests' names, which
// become paths: rtorrent reads no option file whose path has a comma.
type content struct {
	label string
	make  func() *fixture
}

var (
	oneByte = content{"one byte", func() *fixture { return newFixture("one byte", 1, 32*kib) }}
	// transmission-create leaves empty files out, and transmission makes none.
	withEmpty = content{"empty file", func() *fixture {
		return newFolder("with empty", 32*kib, file{"a", 100_000}, file{"nothing", 0}, file{"z/b", 5})
	}}
	nested = content{"nested files", func() *fixture {
		words := []string{"Ünïcode", "日本語", "Ελλάδα", "с пробелом", "🎼 score", "e\u0301cole"}
		var files []file
		for i := range 200 {
			files = append(files, file{fmt.Sprintf("%s/%s %d/%s-%03d.bin", words[i%6], words[i/6%6], i%3, words[i/36%6], i), 1 + i*331})
		}
		return newFolder("verschachtelt — 入れ子", 64*kib, files...)
	}}
	large = content{"300 MiB", func() *fixture { return newFixture("large", 300*mib, mib) }}
	small = content{"5 MiB", func() *fixture { return newFixture("small", 5*mib+12345, 256*kib) }}
)

// A route is how a downloader comes to know the seed.
type route struct {
	name string
	// open starts what is needed and returns the tracker's URL, for the torrent.
	open func(t *testing.T) (at netip.AddrPort, url string)
}

// noTracker is an address of the lab at which no tracker runs.
const noTracker = "http://198.18.0.1:1/announce"

var (
	httpTracker = route{"HTTP tracker", func(t *testing.T) (netip.AddrPort, string) {
		at := freePort(t, newHost())
		return at, "http://" + at.String() + "/announce"
	}}
	udpTracker = route{"UDP tracker", func(t *testing.T) (netip.AddrPort, string) {
		at := freePort(t, newHost())
		return at, "udp://" + at.String() + "/announce"
	}}
	byPeer = route{"--peer", func(*testing.T) (netip.AddrPort, string) { return netip.AddrPort{}, noTracker }}
)

// getCases covers each seed, each route, each content, each maker of torrents and each piece length at
// least once; it is no cross product. (aria2c speaks to UDP trackers only with its DHT on.)
var getCases = []struct {
	seed    client
	route   route
	content content
	maker   maker
	piece   int
}{
	{aria2, httpTracker, small, mktorrent, 32 * kib},
	{aria2, httpTracker, withEmpty, libtorrentV1, 8 * mib},
	{aria2, byPeer, large, bitternCreate, 16 * mib},
	{aria2, byPeer, nested, libtorrentV1, 16 * kib},
	{transmission, httpTracker, nested, transmissionCreate, 64 * kib},
	{transmission, udpTracker, oneByte, bitternCreate, 16 * kib},
	{transmission, byPeer, small, libtorrentV1, mib},
	{libtorrent, httpTracker, large, mktorrent, 2 * mib},
	{libtorrent, udpTracker, nested, libtorrentHybrid, 16 * kib},
	{libtorrent, byPeer, withEmpty, libtorrentHybrid, 32 * kib},
	{rtorrent, httpTracker, small, libtorrentV1, 4 * mib},
	{rtorrent, udpTracker, nested, bitternCreate, 128 * kib},
	{ctorrent, httpTracker, withEmpty, mktorrent, 256 * kib},
	{ctorrent, byPeer, small, transmissionCreate, 512 * kib},
}

// TestInteropGet downloads from each real client.
func TestInteropGet(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, tt := range getCases {
		t.Run(fmt.Sprintf("%s by %s %s of %s in %d KiB", tt.seed.name, tt.route.name, tt.content.label, tt.maker.name, tt.piece/kib), func(t *testing.T) {
			t.Parallel()
			x := tt.content.make()
			at, url := tt.route.open(t)
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			m := tt.maker.torrent(t, filepath.Join(from, x.name), tt.piece, url)
			args := []string{"get", m.path, "-d", to, "--interface", newHost()}
			if at.IsValid() {
				startOpentracker(t, at, m.hash)
			}
			seed := tt.seed.share(t, newHost(), m.path, from)
			if at.IsValid() {
				awaitSeeds(t, at, m.hash, 1)
			} else {
				seed.seeds(t, m.hash, m.pieces)
				args = append(args, "--no-trackers", "--peer", seed.job.at.String())
			}
			run(t, args...).exits(t, 0, 90*time.Second)
			x.isAloneIn(t, to)
		})
	}
}

// TestInteropGetSecondTracker: the first tracker of the torrent is gone, the second knows the seed.
func TestInteropGetSecondTracker(t *testing.T) {
	if !isolated(t) {
		return
	}
	at, url := udpTracker.open(t)
	x := small.make()
	torrent := x.torrent(t, noTracker, url)
	startOpentracker(t, at, x.hash)
	from, to := t.TempDir(), t.TempDir()
	x.lay(t, from)
	libtorrent.share(t, newHost(), torrent, from)
	awaitSeeds(t, at, x.hash, 1)
	run(t, "get", torrent, "-d", to, "--interface", newHost()).exits(t, 0, 60*time.Second)
	x.isAloneIn(t, to)
}

// TestInteropGet6 downloads over IPv6, from a tracker that hands out such addresses (BEP 7) and from
// a peer named on the command line.
func TestInteropGet6(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{libtorrent, aria2, transmission} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := small.make()
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			torrent := x.torrent(t)
			seed := c.share(t, newHost6(), torrent, from)
			seed.seeds(t, x.hash, x.pieces())
			// From an address each: transmission refuses a second connection from one for a while.
			run(t, "get", torrent, "-d", to, "-6", "--interface", newHost6(), "--peer", seed.job.at.String()).exits(t, 0, 60*time.Second)
			x.isAloneIn(t, to)
			k := newTrackerAt(t, newHost6(), seed.job.at)
			to = t.TempDir()
			run(t, "get", torrent, "-d", to, "--interface", newHost6(), "-t", k.url).exits(t, 0, 60*time.Second)
			x.isAloneIn(t, to)
		})
	}
}

// TestInteropGetFromAll downloads from every client at once.
func TestInteropGetFromAll(t *testing.T) {
	if !isolated(t) {
		return
	}
	at, url := httpTracker.open(t)
	x := large.make()
	torrent := x.torrent(t, url)
	startOpentracker(t, at, x.hash)
	from, to := t.TempDir(), t.TempDir()
	x.lay(t, from)
	all := []client{aria2, transmission, libtorrent, rtorrent, ctorrent}
	for _, c := range all {
		c.share(t, newHost(), torrent, from)
	}
	awaitSeeds(t, at, x.hash, len(all))
	get := run(t, "get", torrent, "-d", to, "--interface", newHost())
	get.exits(t, 0, 120*time.Second)
	x.isAloneIn(t, to)
}

// TestInteropRig proves the rig without the command: the real clients, started the way the other
// tests start them, download from each other and from the fake seed. Where this fails, they are not
// what is wrong with bittern.
func TestInteropRig(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, tt := range []struct {
		seed, get client
		route     route
		maker     maker
	}{
		{libtorrent, aria2, httpTracker, mktorrent},
		{libtorrent, transmission, udpTracker, transmissionCreate},
		{transmission, libtorrent, httpTracker, libtorrentV1},
		{aria2, libtorrent, httpTracker, mktorrent},
		{rtorrent, libtorrent, udpTracker, libtorrentHybrid},
		{ctorrent, libtorrent, httpTracker, transmissionCreate},
	} {
		t.Run(fmt.Sprintf("%s from %s by %s", tt.get.name, tt.seed.name, tt.route.name), func(t *testing.T) {
			t.Parallel()
			x := small.make()
			at, url := tt.route.open(t)
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			m := tt.maker.torrent(t, filepath.Join(from, x.name), 32*kib, url)
			startOpentracker(t, at, m.hash)
			seed := tt.seed.share(t, newHost(), m.path, from)
			seed.seeds(t, m.hash, m.pieces)
			awaitSeeds(t, at, m.hash, 1)
			tt.get.share(t, newHost(), m.path, to).completes(t, 90*time.Second)
			x.isIn(t, to)
		})
	}
	t.Run("aria2c from the fake seed", func(t *testing.T) {
		t.Parallel()
		x := small.make()
		p := newPeer(t, x, newHost(), script{})
		k := newTrackerAt(t, newHost(), p.addr)
		to := t.TempDir()
		aria2.share(t, newHost(), x.torrent(t, k.url), to).completes(t, 60*time.Second)
		x.isIn(t, to)
	})
	t.Run("the fake leech from libtorrent", func(t *testing.T) {
		t.Parallel()
		x := small.make()
		from := t.TempDir()
		x.lay(t, from)
		seed := libtorrent.share(t, newHost(), x.torrent(t), from)
		seed.seeds(t, x.hash, x.pieces())
		if err := leech(t.Context(), x, newHost(), seed.job.at, 64); err != nil {
			t.Error(err)
		}
	})
	t.Run("libtorrent over IPv6", func(t *testing.T) {
		t.Parallel()
		x := small.make()
		from, to := t.TempDir(), t.TempDir()
		x.lay(t, from)
		seed := transmission.share(t, newHost6(), x.torrent(t), from)
		seed.seeds(t, x.hash, x.pieces())
		k := newTrackerAt(t, newHost6(), seed.job.at)
		libtorrent.share(t, newHost6(), x.torrent(t, k.url), to).completes(t, 60*time.Second)
		x.isIn(t, to)
	})
}
