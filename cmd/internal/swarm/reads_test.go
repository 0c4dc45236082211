package swarm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer/pool"
	"bittern/piece"
	"bittern/piece/storage"
)

// blocksOf returns the requests that a run is cut into again.
func (r *run) blocksOf() (bs []piece.Block) {
	buf := pool.New(1, 1).TryGet()
	job := storage.ReadJob{Piece: int(r.first.Piece), Begin: int(r.first.Begin), Length: r.bytes}
	off := 0
	for _, p := range outgoing(&job, buf, int(r.first.Length)).Parts {
		if p.Off != off {
			return nil
		}
		off += p.Len
		bs = append(bs, piece.Block{Piece: p.Index, Begin: p.Begin, Length: uint32(p.Len)})
	}
	return bs
}

// TestReads checks how requests are gathered, and that they come out again as they were.
func TestReads(t *testing.T) {
	const k = 16 << 10
	lengths := func(begin uint32, ns ...uint32) (bs []piece.Block) {
		for _, n := range ns {
			bs = append(bs, piece.Block{Piece: 3, Begin: begin, Length: n})
			begin += n
		}
		return bs
	}
	for _, tt := range []struct {
		name string
		asks []piece.Block
		runs int
	}{
		{"one", lengths(0, k), 1},
		{"a slab", lengths(0, slices.Repeat([]uint32{k}, 16)...), 1},
		{"more than a slab", lengths(0, slices.Repeat([]uint32{k}, 33)...), 3},
		{"short end", lengths(k, k, k, 5), 1},
		{"behind a short one", lengths(0, k, 5, k), 2},
		{"longer than the first", lengths(0, k, 2*k), 2},
		{"large ones", lengths(0, 8*k, 8*k, 8*k), 2},
		{"largest", lengths(7, 8*k), 1},
		{"small ones", lengths(0, slices.Repeat([]uint32{100}, 17)...), 2},
		{"a gap", append(lengths(0, k), lengths(2*k, k)...), 2},
		{"backwards", append(lengths(k, k), lengths(0, k)...), 2},
		{"twice the same", append(lengths(0, k), lengths(0, k)...), 2},
		{"another piece", []piece.Block{{Piece: 1, Begin: 0, Length: k}, {Piece: 2, Begin: k, Length: k}}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := checkReads(t, tt.asks); n != tt.runs {
				t.Errorf("%d runs, want %d", n, tt.runs)
			}
		})
	}
}

// TestReadsRandom does the same with requests nobody thought of.
func TestReadsRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []uint32{1, 2, 100, blockSize / 2, blockSize, blockSize, 2 * blockSize, 128 * kib}
	for range 2000 {
		var asks []piece.Block
		begin := uint32(0)
		for range 40 {
			n := sizes[rng.IntN(len(sizes))]
			if rng.IntN(8) == 0 {
				begin += uint32(rng.IntN(3))
			}
			if rng.IntN(3) > 0 && len(asks) > 0 {
				n = asks[len(asks)-1].Length
			}
			asks = append(asks, piece.Block{Piece: uint32(rng.IntN(20) / 19), Begin: begin, Length: n})
			begin += n
		}
		checkReads(t, asks)
	}
}

func checkReads(t *testing.T, asks []piece.Block) (runs int) {
	t.Helper()
	var r reads
	for _, b := range asks {
		r.add(b)
	}
	var got []piece.Block
	for i := range r.runs {
		if r.runs[i].bytes > slabSize {
			t.Errorf("a run has %d bytes", r.runs[i].bytes)
		}
		bs := r.runs[i].blocksOf()
		if len(bs) > maxRun {
			t.Errorf("a run has %d requests", len(bs))
		}
		got = append(got, bs...)
	}
	if !slices.Equal(got, asks) {
		t.Fatalf("asked for %v\ngot %v", asks, got)
	}
	return len(r.runs)
}

func TestTag(t *testing.T) {
	for _, id := range []core.LinkID{0, 1, 1<<32 - 1} {
		for _, each := range []int{1, blockSize, 128 * kib} {
			if gotID, got := untag(tag(id, each)); gotID != id || got != each {
				t.Errorf("untag(tag(%d, %d)) = %d, %d", id, each, gotID, got)
			}
		}
	}
}

// TestShare checks the count of a link's buffers against the order in which they come and go.
func TestShare(t *testing.T) {
	var r reads
	for range maxReads {
		r.begin(100)
	}
	if r.room(100) {
		t.Error("room for more than the share")
	}
	for range maxReads {
		r.read(100)
	}
	for _, tt := range []struct{ sent, left int }{{99, 32}, {1, 31}, {100, 30}, {250, 28}, {50, 27}, {2700, 0}, {5, 0}} {
		if r.sent(tt.sent); len(r.writing) != tt.left || r.reading != 0 || r.room(100) != (tt.left < maxReads) {
			t.Errorf("%d buffers are in use, want %d", len(r.writing), tt.left)
		}
	}
}

// TestSlabShare: a link whose every request needs a slab has only a few of them, and small ones besides.
func TestSlabShare(t *testing.T) {
	const n = blockSize + 1
	var r reads
	for i := range maxSlabs {
		if !r.room(n) {
			t.Fatalf("no room for slab %d", i)
		}
		r.begin(n)
	}
	if r.room(n) || !r.room(blockSize) {
		t.Errorf("room for one more slab: %v, for a block: %v", r.room(n), r.room(blockSize))
	}
	for range maxSlabs {
		r.read(n)
	}
	if r.sent(n - 1); r.room(n) {
		t.Error("room for a slab whose last byte is still to go")
	}
	if r.sent(1); !r.room(n) {
		t.Error("no room once a slab has gone")
	}
}
