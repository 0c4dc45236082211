//go:build linux

package main_test

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// linkWithTracker is the magnet link of a torrent with a tracker, and linkWithPeer with a peer (BEP 9).
func (x *fixture) linkWithTracker(announce string) string {
	return x.magnet() + "&tr=" + url.QueryEscape(announce)
}

func (x *fixture) linkWithPeer(at netip.AddrPort) string { return x.magnet() + "&x.pe=" + at.String() }

// seedAt starts bittern seed at an address and waits until it has printed the magnet link.
func seedAt(t *testing.T, at netip.AddrPort, env []string, args ...string) *process {
	t.Helper()
	argv := append([]string{bittern(t), "seed", "--interface", at.Addr().String(), "--port", strconv.Itoa(int(at.Port()))}, args...)
	p := frugal(t, spawn(t, command{name: "bittern", argv: argv, env: env}))
	await(t, 30*time.Second, "bittern seeds", func() bool {
		if p.ended() {
			t.Fatal("bittern has ended")
		}
		return strings.Contains(p.out.String(), "magnet:")
	})
	return p
}

// TestInteropMagnetGet resolves and downloads a magnet link whose seed is a real client, which its tracker or the
// link itself names.
func TestInteropMagnetGet(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{libtorrent, transmission, aria2} {
		t.Run(c.name+" by tracker", func(t *testing.T) {
			t.Parallel()
			x := newMagnetFixture("payload")
			at, announce := httpTracker.open(t)
			startOpentracker(t, at, x.hash)
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			c.share(t, newHost(), x.torrent(t, announce), from)
			awaitSeeds(t, at, x.hash, 1)
			run(t, "get", x.linkWithTracker(announce), "-d", to, "--interface", newHost()).exits(t, 0, 60*time.Second)
			x.isAloneIn(t, to)
		})
		t.Run(c.name+" by x.pe", func(t *testing.T) {
			t.Parallel()
			x := newMagnetFixture("payload")
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			seed := c.share(t, newHost(), x.torrent(t), from)
			seed.seeds(t, x.hash, x.pieces())
			run(t, "get", x.linkWithPeer(seed.job.at), "-d", to, "--interface", newHost()).exits(t, 0, 60*time.Second)
			x.isAloneIn(t, to)
		})
	}
}

// TestInteropMagnetSeed lets the real clients resolve and download a magnet link whose seed is bittern.
func TestInteropMagnetSeed(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{libtorrent, transmission, aria2} {
		t.Run(c.name+" by tracker", func(t *testing.T) {
			t.Parallel()
			x := newMagnetFixture("payload")
			at, announce := httpTracker.open(t)
			startOpentracker(t, at, x.hash)
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			seedAt(t, freePort(t, newHost()), nil, x.torrent(t, announce), "-d", from)
			awaitSeeds(t, at, x.hash, 1)
			c.share(t, newHost(), x.linkWithTracker(announce), to).completes(t, 60*time.Second)
			x.isIn(t, to)
		})
	}
	t.Run("libtorrent by x.pe", func(t *testing.T) { // which the other two do not know
		t.Parallel()
		x := newMagnetFixture("payload")
		from, to := t.TempDir(), t.TempDir()
		x.lay(t, from)
		at := freePort(t, newHost())
		seedAt(t, at, nil, x.torrent(t), "-d", from)
		libtorrent.share(t, newHost(), x.linkWithPeer(at), to).completes(t, 60*time.Second)
		x.isIn(t, to)
	})
}
