package piece

import (
	"math"
	"testing"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// layout is NewLayout for lengths known to be good.
func layout(t testing.TB, total, pieceLength int64) Layout {
	t.Helper()
	l, err := NewLayout(total, pieceLength)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mustPanic fails the test unless f panics.
func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func TestLayout(t *testing.T) {
	for _, tt := range []struct {
		name            string
		total, pieceLen int64 // bytes
		pieces          int
		last            int64 // length of the final piece, bytes
		lastBlocks      int   // of the final piece
		lastBlock       Block
	}{
		{"one byte", 1, mib, 1, 1, 1, Block{0, 0, 1}},
		{"one short piece", 5, mib, 1, 5, 1, Block{0, 0, 5}},
		{"exact multiple", 4 * mib, mib, 4, mib, 64, Block{3, mib - BlockSize, BlockSize}},
		{"remainder of one byte", 4*mib + 1, mib, 5, 1, 1, Block{4, 0, 1}},
		{"remainder of a block and a byte", 4*mib + BlockSize + 1, mib, 5, BlockSize + 1, 2, Block{4, BlockSize, 1}},
		{"pieces below a block", 10, 4, 3, 2, 1, Block{2, 0, 2}},
		{"odd piece length", 50_000, 20_000, 3, 10_000, 1, Block{2, 0, 10_000}},
		{"longest piece", 3 * MaxPieceLength, MaxPieceLength, 3, MaxPieceLength, 1 << 17, Block{2, 1<<31 - BlockSize, BlockSize - 1}},
		{"most pieces", MaxPieces << 30, 1 << 30, MaxPieces, 1 << 30, 1 << 16, Block{MaxPieces - 1, 1<<30 - BlockSize, BlockSize}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := layout(t, tt.total, tt.pieceLen)
			last := tt.pieces - 1
			if l.Total() != tt.total || l.PieceLength() != tt.pieceLen || l.Pieces() != tt.pieces {
				t.Fatalf("got %d bytes, %d a piece, %d pieces, want %d pieces", l.Total(), l.PieceLength(), l.Pieces(), tt.pieces)
			}
			if got := l.PieceSize(last); got != tt.last {
				t.Errorf("last piece has %d bytes, want %d", got, tt.last)
			}
			if got := l.Offset(last) + l.PieceSize(last); got != tt.total {
				t.Errorf("last piece ends at %d, want %d", got, tt.total)
			}
			if got := l.Blocks(last); got != tt.lastBlocks {
				t.Fatalf("last piece has %d blocks, want %d", got, tt.lastBlocks)
			}
			b := l.BlockAt(last, tt.lastBlocks-1)
			if b != tt.lastBlock || !l.IsBlock(b) || !l.Fits(b) || l.Number(b) != tt.lastBlocks-1 {
				t.Errorf("last block is %+v (number %d, IsBlock %t, Fits %t), want %+v", b, l.Number(b), l.IsBlock(b), l.Fits(b), tt.lastBlock)
			}
			mustPanic(t, "a block behind the last", func() { l.BlockAt(last, tt.lastBlocks) })
			mustPanic(t, "a block before the first", func() { l.BlockAt(last, -1) })
			mustPanic(t, "a piece behind the last", func() { l.PieceSize(tt.pieces) })
			mustPanic(t, "a piece before the first", func() { l.Offset(-1) })
		})
	}
}

func TestLayoutBounds(t *testing.T) {
	for _, tt := range []struct {
		name            string
		total, pieceLen int64
		ok              bool
	}{
		{"nothing", 0, 1, true},
		{"negative total", -1, 1, false},
		{"piece length zero", 1, 0, false},
		{"negative piece length", 1, -1, false},
		{"least negative", 1, math.MinInt64, false},
		{"piece length of 2^31", 1, 1 << 31, false},
		{"piece length of 2^31-1", 1, 1<<31 - 1, true},
		{"as many pieces as allowed", MaxPieces, 1, true},
		{"one byte more than the most pieces hold", MaxPieces*mib + 1, mib, false},
		{"greatest total", math.MaxInt64, MaxPieceLength, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewLayout(tt.total, tt.pieceLen); (err == nil) != tt.ok {
				t.Errorf("NewLayout(%d, %d): %v", tt.total, tt.pieceLen, err)
			}
		})
	}
}

func TestBlockChecks(t *testing.T) {
	l := layout(t, 1*mib+100_000, mib) // the last piece: 6 blocks of 16 KiB and one of 1,696 bytes
	for _, tt := range []struct {
		name           string
		b              Block
		isBlock, serve bool
	}{
		{"first", Block{0, 0, BlockSize}, true, true},
		{"last of a piece", Block{0, mib - BlockSize, BlockSize}, true, true},
		{"last of all", Block{1, 6 * BlockSize, 1696}, true, true},
		{"last of all, too long", Block{1, 6 * BlockSize, BlockSize}, false, false},
		{"last of all, too short", Block{1, 6 * BlockSize, 1695}, false, true},
		{"empty", Block{0, 0, 0}, false, false},
		{"empty at the end", Block{0, mib, 0}, false, false},
		{"one byte", Block{0, 0, 1}, false, true},
		{"not at a block's begin", Block{0, 1, BlockSize}, false, true},
		{"over the end by one", Block{0, mib - BlockSize + 1, BlockSize}, false, false},
		{"begin at the end", Block{0, mib, BlockSize}, false, false},
		{"most that is served", Block{0, 0, MaxRequest}, false, true},
		{"more than is served", Block{0, 0, MaxRequest + 1}, false, false},
		{"no such piece", Block{2, 0, BlockSize}, false, false},
		{"greatest piece", Block{math.MaxUint32, 0, BlockSize}, false, false},
		{"begin that would wrap", Block{0, math.MaxUint32 - BlockSize + 1, BlockSize}, false, false},
		{"all ones", Block{math.MaxUint32, math.MaxUint32, math.MaxUint32}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := l.IsBlock(tt.b); got != tt.isBlock {
				t.Errorf("IsBlock(%+v) = %t", tt.b, got)
			}
			if got := l.Fits(tt.b); got != tt.serve {
				t.Errorf("Fits(%+v) = %t", tt.b, got)
			}
		})
	}
}

// TestBlocksCoverStream: the blocks of a layout, in order, are the stream without gap or overlap.
func TestBlocksCoverStream(t *testing.T) {
	for _, l := range []Layout{
		layout(t, 1, 1), layout(t, 100, 7), layout(t, 5*BlockSize, 2*BlockSize),
		layout(t, 1_000_003, 50_021), layout(t, 3*mib+1, 256*kib), {},
	} {
		var at int64
		for i := range l.Pieces() {
			for n := range l.Blocks(i) {
				b := l.BlockAt(i, n)
				if got := l.Offset(i) + int64(b.Begin); got != at {
					t.Fatalf("%+v: block %d of piece %d begins at %d, want %d", l, n, i, got, at)
				}
				at += int64(b.Length)
			}
		}
		if at != l.Total() {
			t.Errorf("%+v: blocks end at %d", l, at)
		}
	}
}

// FuzzLayout: a range is a block exactly if BlockAt gives it, and no range that fits leaves its piece.
func FuzzLayout(f *testing.F) {
	f.Add(int64(1*mib+100_000), int64(mib), uint32(1), uint32(6*BlockSize), uint32(1696))
	f.Add(int64(math.MaxInt64), int64(MaxPieceLength), uint32(math.MaxUint32), uint32(math.MaxUint32), uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, total, pieceLength int64, index, begin, length uint32) {
		l, err := NewLayout(total, pieceLength)
		if err != nil {
			return
		}
		b := Block{index, begin, length}
		in := int64(index) < int64(l.Pieces())
		isBlock := in && l.Number(b) < l.Blocks(int(index)) && l.BlockAt(int(index), l.Number(b)) == b
		if got := l.IsBlock(b); got != isBlock {
			t.Errorf("IsBlock(%+v) = %t in %+v", b, got, l)
		}
		if !l.Fits(b) {
			if isBlock {
				t.Errorf("block %+v does not fit in %+v", b, l)
			}
			return
		}
		if end := l.Offset(int(index)) + int64(begin) + int64(length); !in || int64(begin)+int64(length) > l.PieceSize(int(index)) || end > total {
			t.Errorf("%+v fits in %+v", b, l)
		}
	})
}
