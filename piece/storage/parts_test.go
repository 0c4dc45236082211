package storage

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"bittern/piece"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCut: the parts of any range are in order, without gap, and each lies in its file.
func TestCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		var files []File
		total := int64(1)
		for range rng.IntN(12) {
			n := rng.Int64N(40) * rng.Int64N(2)
			files = append(files, File{Length: n, Pad: rng.IntN(4) == 0})
			total += n
		}
		files = append(files, File{Length: 1})
		layout, err := piece.NewLayout(total, 1+rng.Int64N(60))
		if err != nil {
			t.Fatal(err)
		}
		v := newVolume(layout, files)
		for p := range layout.Pieces() {
			checkCut(t, v, p, rng)
		}
	}
}

func checkCut(t *testing.T, v *volume, p int, rng *rand.Rand) {
	t.Helper()
	begin := rng.Int64N(v.layout.PieceSize(p))
	n := 1 + rng.Int64N(v.layout.PieceSize(p)-begin)
	pos, at, real := v.layout.Offset(p)+begin, int64(0), map[int]bool{}
	for c := v.cut(p, begin, n); c.next(); {
		if v.start[c.file]+c.off != pos || c.at != at || c.n <= 0 || c.off+c.n > v.files[c.file].Length {
			t.Fatalf("piece %d at %d, %d bytes: part %+v, want position %d", p, begin, n, c, pos)
		}
		pos, at = pos+c.n, at+c.n
	}
	if at != n {
		t.Fatalf("parts of %d bytes, want %d", at, n)
	}
	for c := v.cut(p, 0, v.layout.PieceSize(p)); c.next(); {
		if !c.pad() {
			real[c.file] = true
		}
		whole := c.n == v.layout.PieceSize(p)
		if v.inside(p, c.file) != whole {
			t.Errorf("piece %d inside file %d: %v", p, c.file, !whole)
		}
		if lo, hi := v.pieces(c.file); p < lo || p > hi {
			t.Errorf("piece %d touches file %d, but pieces says %d to %d", p, c.file, lo, hi)
		}
	}
	if slot, ok := v.slot(p); ok != (len(real) > 1) || ok && v.shared[slot/v.layout.PieceLength()] != int32(p) {
		t.Errorf("piece %d of %d files: slot %d, %v", p, len(real), slot, ok)
	}
}

// TestRun compares run with counting bit by bit.
func TestRun(t *testing.T) {
	for mask := range 1 << slabBlocks {
		for from := 0; from <= slabBlocks; from += 5 {
			start := from
			for start < slabBlocks && mask>>start&1 == 0 {
				start++
			}
			n := 0
			for start+n < slabBlocks && mask>>(start+n)&1 == 1 {
				n++
			}
			if s, k := run(uint16(mask), from); k != n || n > 0 && s != start {
				t.Fatalf("run(%016b, %d) = %d, %d; want %d, %d", mask, from, s, k, start, n)
			}
		}
	}
}

// TestLeast: under pressure a slab goes that was left alone for long, rather one that need not
// be read back.
func TestLeast(t *testing.T) {
	fresh := func() (*window, []*slab) {
		w := &window{pool: &slabPool{}, reserve: 3}
		var slabs []*slab
		for i := range 3 {
			p := &openPiece{index: i, cursor: 4}
			s := w.add(p, 0)
			s.last = 100
			s.filled = 0x000f // all behind the cursor
			slabs = append(slabs, s)
		}
		return w, slabs
	}
	for _, tt := range []struct {
		name string
		edit func(s []*slab)
		want int
	}{
		{"the oldest", func(s []*slab) { s[1].last = 90 }, 1},
		{"early blocks stay", func(s []*slab) { s[1].last, s[1].filled = 90, 0xff00 }, 0},
		{"not for ever", func(s []*slab) { s[2].last, s[2].filled = -1000, 0xff00 }, 2},
		{"few early blocks before many", func(s []*slab) { s[0].filled, s[1].filled, s[2].filled = 0xff00, 0x0100, 0xff00 }, 1},
		{"all is early beyond the cursor", func(s []*slab) { s[0].region, s[1].region = 1, 1 }, 2},
	} {
		w, slabs := fresh()
		tt.edit(slabs)
		if got := w.least(101); got != slabs[tt.want] {
			t.Errorf("%s: piece %d goes, want %d", tt.name, got.piece.index, tt.want)
		}
	}
}

// TestWindow: a shard's reserve is its own, what is spare goes to who comes first, and slabs are
// used again.
func TestWindow(t *testing.T) {
	pool := &slabPool{spare: 1}
	w, v := &window{pool: pool, reserve: 1}, &window{pool: pool, reserve: 1}
	p, q := &openPiece{}, &openPiece{}
	a, b := w.add(p, 0), w.add(q, 7)
	if a == nil || b == nil || w.find(q, 7) != b || w.find(p, 7) != nil {
		t.Fatal("the window does not hold what was added")
	}
	if w.add(p, 1) != nil {
		t.Error("more than the reserve and what is spare")
	}
	if v.add(p, 2) == nil || v.add(p, 3) != nil {
		t.Error("the other shard does not have its reserve, or has more")
	}
	w.drop(p)
	if w.find(p, 0) != nil || w.find(q, 7) != b {
		t.Error("the window holds what was dropped, or not the rest")
	}
	if c := v.add(q, 8); c != a || c.filled != 0 {
		t.Error("the other shard does not get what became spare")
	}
	if w.add(p, 1) != nil {
		t.Error("what the other shard took is there again")
	}
	w.remove(b)
	if w.add(p, 1) != b {
		t.Error("the reserve is gone")
	}
}

// TestWindowStorm: whatever is taken and given back, the bound and the reserves hold.
func TestWindowStorm(t *testing.T) {
	const shards, reserve, spare = 3, 2, 5
	pool := &slabPool{spare: spare}
	rng := rand.New(rand.NewPCG(2, 2))
	var ws [shards]*window
	for i := range ws {
		ws[i] = &window{pool: pool, reserve: reserve}
	}
	p := &openPiece{}
	for n := range 10_000 {
		w := ws[rng.IntN(shards)]
		switch room := len(w.used) < reserve; {
		case rng.IntN(2) == 0 && len(w.used) > 0:
			w.remove(w.used[rng.IntN(len(w.used))])
		default:
			if w.add(p, n) == nil && (room || pool.spare > 0) {
				t.Fatalf("step %d: no slab for %d in use, %d spare", n, len(w.used), pool.spare)
			}
		}
		used, beyond := 0, 0
		for _, w := range ws {
			used += len(w.used)
			beyond += max(0, len(w.used)-reserve)
		}
		if beyond+pool.spare != spare || used+len(pool.free) > shards*reserve+spare {
			t.Fatalf("step %d: %d in use, %d free, %d beyond the reserves and %d spare", n, used, len(pool.free), beyond, pool.spare)
		}
	}
}

// TestQueueOrder: what goes in comes out in order, whatever the interleaving.
func TestQueueOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	q := newQueue[int]()
	in, out := 0, 0
	for range 5000 {
		for range rng.IntN(20) {
			if !q.put(in) {
				t.Fatal("an open queue takes nothing")
			}
			in++
		}
		for range rng.IntN(20) {
			if out == in {
				break
			}
			if v, ok := q.take(); v != out || !ok {
				t.Fatalf("took %d, want %d", v, out)
			}
			out++
		}
	}
	q.close()
	if q.put(0) {
		t.Error("a closed queue takes a value")
	}
	for ; out < in; out++ {
		if v, ok := q.take(); v != out || !ok {
			t.Fatalf("took %d after the close, want %d", v, out)
		}
	}
	if _, ok := q.take(); ok {
		t.Error("an empty closed queue gives a value")
	}
}

// TestNoAllocation: in steady state a block costs no allocation.
func TestNoAllocation(t *testing.T) {
	r := newRig(t, "disk", 256*kib, file("T/a", 64*256*kib))
	s := r.open(func(c *Config) { c.FS = nil })
	free := make(chan *poolBuffer, 32)
	for range cap(free) {
		free <- &poolBuffer{make([]byte, piece.BlockSize), free}
	}
	give := func(pieces int) {
		for p := range pieces {
			for n := range r.cfg.Layout.Blocks(p) {
				buf, b := <-free, r.cfg.Layout.BlockAt(p, n)
				copy(buf.data, r.piece(p)[b.Begin:])
				s.Write(b, buf)
			}
		}
	}
	give(4)
	for p := range 4 {
		r.evs.want(t, Verified, func(e Event) bool { return e.Piece == p })
	}
	r.evs.all = slices.Grow(r.evs.all, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	give(63) // the last piece would finish the file
	for p := 4; p < 63; p++ {
		r.evs.want(t, Verified, func(e Event) bool { return e.Piece == p })
	}
	runtime.ReadMemStats(&after)
	if n, blocks := after.Mallocs-before.Mallocs, 63*16; n > uint64(blocks)/4 {
		t.Errorf("%d allocations for %d blocks", n, blocks)
	}
	r.give(s, 63)
	r.evs.want(t, Complete, nil)
	r.close(s)
}
