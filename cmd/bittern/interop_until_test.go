//go:build linux

package main_test

import (
	"testing"
	"time"
)

// TestInteropUntil: a seed with a stop condition ends with success when real clients have got what it says, and not before. It is
// the only source, so what they have got in whole it has sent.
func TestInteropUntil(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, c := range []client{aria2, libtorrent} {
		// The first leecher goes before the second comes, which cannot have a byte of it.
		t.Run("ratio with "+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSoleSource(t, "--seed-ratio", "2")
			s.goesTo(t, c).kill()
			if s.seed.ended() {
				t.Fatal("the seed ended with half of the ratio")
			}
			s.goesTo(t, c)
			s.seed.exits(t, 0, 20*time.Second)
		})
		t.Run("time with "+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSoleSource(t, "--seed-time", "8s")
			s.goesTo(t, c)
			s.seed.exits(t, 0, 20*time.Second)
			if took := time.Since(s.begun); took < 8*time.Second {
				t.Errorf("the seed ended after %v", took)
			}
		})
		// Both stay, so that the seed hears of the second copy while it is told of others, or not at all.
		t.Run("copies with "+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSoleSource(t, "--until-copies", "2")
			s.goesTo(t, c)
			if s.seed.ended() {
				t.Fatal("the seed ended with one copy")
			}
			s.goesTo(t, c)
			s.seed.exits(t, 0, 40*time.Second)
		})
	}
}

// A soleSource is a torrent that one seed has, and its tracker knows.
type soleSource struct {
	x       *fixture
	torrent string
	seed    *process
	begun   time.Time
}

func newSoleSource(t *testing.T, until ...string) *soleSource {
	t.Helper()
	return newSourceOf(t, small.make(), until...)
}

// newSourceOf is the same of other content.
func newSourceOf(t *testing.T, x *fixture, args ...string) *soleSource {
	t.Helper()
	at, url := httpTracker.open(t)
	s := &soleSource{x: x, torrent: x.torrent(t, url), begun: time.Now()}
	startOpentracker(t, at, x.hash)
	from := t.TempDir()
	x.lay(t, from)
	s.begun = time.Now()
	s.seed = run(t, append([]string{"seed", s.torrent, "-d", from, "--interface", newHost()}, args...)...)
	awaitSeeds(t, at, x.hash, 1)
	return s
}

// goesTo has a client download everything; it goes on seeding.
func (s *soleSource) goesTo(t *testing.T, c client) *share {
	t.Helper()
	to := t.TempDir()
	got := c.share(t, newHost(), s.torrent, to)
	got.completes(t, 60*time.Second)
	s.x.isIn(t, to)
	return got
}
