package storage

import (
	"bytes"
	"slices"
	"testing"
)

// wanting selects files by index.
func wanting(files ...int) func(*Config) {
	return func(c *Config) {
		for i := range c.Files {
			c.Files[i].Wanted = slices.Contains(files, i) && !c.Files[i].Pad
		}
	}
}

// TestSelect: no unselected path is made, and what the edges carry of it survives in the side
// file, so that the same command run again has nothing to fetch.
func TestSelect(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		s := r.open(wanting(0))
		r.complete(s)
		r.close(s)
		r.wantNames("T/a", ".T.bittern-side")
		r.wantContent(0)

		s = r.open(wanting(0))
		if !s.Complete() || len(r.rest(s)) != 0 {
			t.Errorf("run again it lacks %v", r.rest(s))
		}
		buf := &testBuffer{make([]byte, 64*kib), &r.held}
		s.Read(ReadJob{Piece: 3, Length: 64 * kib, Buf: buf}) // of a, b and c
		if ev := r.evs.want(t, ReadDone, nil); ev.Err != nil || !bytes.Equal(buf.data, r.piece(3)) {
			t.Errorf("a piece at the edge cannot be read: %v", ev.Err)
		}
		r.close(s)
	})
}

// TestWiden: a later and wider selection fetches only what is new, and at the end nothing is
// left beside the content.
func TestWiden(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		for _, killed := range []bool{false, true} {
			r := newRig(t, kind, 64*kib, sharing()...)
			s := r.open(wanting(1)) // b, all of which is in piece 3
			r.complete(s)
			if killed {
				r.kill(s)
			} else {
				r.close(s)
			}
			s = r.open(wanting(1, 2))
			if got := r.rest(s); !slices.Equal(got, []int{4, 5, 6}) {
				t.Errorf("killed %v: the wider selection lacks %v, want 4 5 6", killed, got)
			}
			r.giveAndWait(s, 4)
			if killed {
				r.kill(s)
			} else {
				r.close(s)
			}
			s = r.open(nil)
			if got := r.rest(s); !slices.Equal(got, []int{0, 1, 2, 5, 6}) {
				t.Errorf("killed %v: everything lacks %v, want 0 1 2 5 6", killed, got)
			}
			r.complete(s)
			r.close(s)
			r.wantContent(0, 1, 2, 3)
			r.wantNames("T/a", "T/b", "T/c", "T/e")
		}
	})
}

// TestNarrow: a file that is not selected any more is not written to, but serves.
func TestNarrow(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		s := r.open(nil)
		r.giveAndWait(s, 3, 5)
		r.close(s)
		part := r.read("T/c.part")
		s = r.open(wanting(0))
		if have := s.Have(); !have.Has(3) || !have.Has(5) {
			t.Errorf("lacks what is there: %v", slices.Collect(have.All()))
		}
		r.complete(s)
		r.close(s)
		r.wantContent(0)
		if !bytes.Equal(part, r.read("T/c.part")) {
			t.Error("an unselected file was written to")
		}
		if slices.Contains(r.names(), "T/c") {
			t.Error("an unselected file was finished")
		}
	})
}

// TestForeignUnselected: whatever stands at an unselected path is none of our business.
func TestForeignUnselected(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		foreign := bytes.Repeat([]byte("mine"), 200*kib/4)
		r.put("T/c", foreign) // even of the right size
		s := r.open(wanting(0))
		r.complete(s)
		r.close(s)
		s = r.open(wanting(0))
		if !s.Complete() {
			t.Error("not complete when run again")
		}
		r.close(s)
		r.wantContent(0)
		if !bytes.Equal(r.read("T/c"), foreign) {
			t.Error("a foreign file was changed")
		}
	})
}

// TestStaleSide: a side file full of garbage is not believed.
func TestStaleSide(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		r.put(".T.bittern-side", bytes.Repeat([]byte{9}, 300*kib))
		s := r.open(wanting(0))
		if !s.Have().Empty() {
			t.Error("garbage counts as verified")
		}
		r.complete(s)
		r.close(s)
		s = r.open(nil)
		r.complete(s)
		r.close(s)
		r.wantContent(0, 1, 2, 3)
		r.wantNames("T/a", "T/b", "T/c", "T/e")
	})
}

// TestSelectNothingButEmpty is complete at once.
func TestSelectNothingButEmpty(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		s := r.open(wanting(3))
		if !s.Complete() {
			t.Error("not complete")
		}
		r.close(s)
		r.wantNames("T/e")
	})
}
