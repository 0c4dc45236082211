package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestStorm lives through random histories: runs with changing selections and little memory,
// ends of every kind, and damage in between. The laws:
//
//   - what a store says it has, it can read, and it is right;
//   - what was verified stays, unless it was damaged;
//   - in the end everything is complete, right, and nothing else is left on disk.
func TestStorm(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		seeds := uint64(40)
		if kind == "disk" {
			seeds = 12
		}
		if testing.Short() {
			seeds /= 4
		}
		for seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) { storm(t, kind, seed) })
		}
	})
}

type stormRig struct {
	*rig
	rng  *rand.Rand
	safe map[int]bool // pieces that must not get lost
}

func storm(t *testing.T, kind string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 99))
	files := []File{file("T/empty", 0)}
	for i := range 3 + rng.IntN(5) {
		if rng.IntN(4) == 0 {
			files = append(files, pad(1+rng.Int64N(20*kib)))
		}
		files = append(files, file(fmt.Sprintf("T/%d/%d", i%2, i), 50*kib+rng.Int64N(100*kib)))
	}
	r := &stormRig{newRig(t, kind, 33*kib+rng.Int64N(16*kib), files...), rng, map[int]bool{}}
	for range 6 {
		r.run()
		r.damage()
	}
	s := r.open(nil)
	r.wantRight(s)
	r.complete(s)
	r.close(s)
	var names []string
	for i, f := range files {
		if !f.Pad {
			names = append(names, f.Path)
			r.wantContent(i)
		}
	}
	r.wantNames(names...)
}

// run is one run of the store.
func (r *stormRig) run() {
	r.t.Helper()
	all := r.rng.IntN(3) == 0
	pick := r.rng.Uint32()
	s := r.open(func(c *Config) {
		c.Window, c.Shards, c.OpenFiles = 1+r.rng.IntN(8<<20), 1+r.rng.IntN(3), 1+r.rng.IntN(5)
		for i := range c.Files {
			c.Files[i].Wanted = !c.Files[i].Pad && (all || pick>>i&1 == 1)
		}
	})
	r.wantRight(s)
	if r.rng.IntN(4) == 0 {
		r.runIntoFault(s)
		return
	}
	given := r.someBlocks(s)
	for p := range given {
		r.evs.want(r.t, Verified, func(e Event) bool { return e.Piece == p })
		r.safe[p] = true
	}
	r.wantRight(s)
	switch r.rng.IntN(3) {
	case 0:
		r.kill(s)
	case 1:
		r.fs.set(failOn([]string{"sync", "open", "write"}[r.rng.IntN(3)], "", syscall.EIO))
		_ = s.Close(r.t.Context()) // some of it fails
		r.fs.set(nil)
	default:
		r.close(s)
	}
	r.wantReleased()
}

// runIntoFault lets the disk fail for good after a while. What was verified before must last.
func (r *stormRig) runIntoFault(s *Store) {
	r.t.Helper()
	op := []string{"write", "open", "rename", "mkdir", "read", "lstat"}[r.rng.IntN(6)]
	left := r.rng.IntN(10)
	r.fs.set(func(o, _ string) error {
		if o != op {
			return nil
		}
		if left--; left >= 0 {
			return nil
		}
		return syscall.ENOSPC
	})
	r.someBlocks(s)
	_ = s.Close(r.t.Context()) // some of it fails
	r.fs.set(nil)
	r.wantReleased()
	if n := r.evs.count(Fault); n > 1 {
		r.t.Errorf("%d faults", n)
	}
	for p := range s.Have().All() {
		r.safe[p] = true
	}
}

// someBlocks gives some of the missing pieces, and parts of others, in random order. It returns
// the pieces that will become good.
func (r *stormRig) someBlocks(s *Store) map[int]bool {
	good := map[int]bool{}
	var blocks [][2]int
	for _, p := range r.rest(s) {
		fate := r.rng.IntN(4)
		for n := range r.cfg.Layout.Blocks(p) {
			if fate > 1 || fate == 1 && n > 0 {
				blocks = append(blocks, [2]int{p, n})
			}
		}
		if fate > 1 {
			good[p] = true
		}
	}
	r.rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	for _, b := range blocks {
		r.block(s, b[0], b[1], nil)
	}
	return good
}

// wantRight checks the first two laws.
func (r *stormRig) wantRight(s *Store) {
	r.t.Helper()
	have := s.Have()
	for p := range r.safe {
		if !have.Has(p) {
			r.t.Errorf("piece %d was verified, was not damaged, and is lost", p)
			delete(r.safe, p)
		}
	}
	for p := range have.All() {
		buf := &testBuffer{make([]byte, 64*kib), &r.held}
		n := len(r.piece(p))
		s.Read(ReadJob{Piece: p, Length: n, Buf: buf})
		if ev := r.evs.want(r.t, ReadDone, nil); ev.Err != nil || !bytes.Equal(buf.data[:n], r.piece(p)) {
			r.t.Fatalf("piece %d is wrong: %v", p, ev.Err)
		}
	}
}

// damage changes what is on disk, now and then. What is not complete may be damaged in any
// way; then anything may be lost.
func (r *stormRig) damage() {
	if r.rng.IntN(2) == 0 {
		return
	}
	names := slices.DeleteFunc(r.names(), func(name string) bool {
		return !strings.HasSuffix(name, partSuffix) && !strings.HasPrefix(name, ".")
	})
	if len(names) == 0 {
		return
	}
	name := names[r.rng.IntN(len(names))]
	data := r.read(name)
	switch what := r.rng.IntN(3); {
	case what == 0:
		r.remove(name)
	case len(data) == 0:
		return
	case what == 1:
		r.truncate(name, int64(r.rng.IntN(len(data))))
	default:
		r.poke(name, int64(r.rng.IntN(len(data))))
	}
	if name != ".T.bittern-resume" { // that alone loses nothing
		clear(r.safe)
	}
}
