//go:build linux

package main_test

import (
	"testing"
	"time"
)

// TestPartialSeed: who has what it wants and not everything tells its trackers so in every announce, and what is missing, whether it
// was to be served from the start or was downloaded (BEP 21).
func TestPartialSeed(t *testing.T) {
	t.Parallel()
	x := newFolder("parts", 64*kib, file{"one", 128 * kib}, file{"two", 64 * kib})
	dir := t.TempDir()
	write(t, string(x.data[:128*kib]), dir, "parts", "one")

	k := newTracker(t)
	seed := run(t, "seed", x.torrent(t, k.url), "-d", dir, "--interface", "127.0.0.1", "--seed-time", "3s")
	first := k.awaits(t, "paused", 10*time.Second)
	first.counts(t, 0, 64*kib)

	l := newTracker(t)
	get := run(t, "get", x.torrent(t, l.url), "-d", t.TempDir(), "--select", "1", "--seed", "--interface", "127.0.0.1", "--peer", first.listens(t).String())
	l.awaits(t, "started", 10*time.Second).counts(t, 0, 192*kib)
	l.awaits(t, "paused", 10*time.Second).counts(t, 128*kib, 64*kib)
	for _, a := range l.asked() {
		if a.query.Get("event") == "completed" {
			t.Error("a partial seed says that it is complete")
		}
	}
	seed.exits(t, 0, 10*time.Second)
	k.awaits(t, "stopped", time.Second)
	get.kill()
}
