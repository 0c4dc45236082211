package storage

import (
	"hash"
	"math/bits"
	"sync"

	"bittern/piece"
)

const (
	// slabSize is the unit of writing, in bytes: system calls are dear, so blocks are gathered.
	slabSize   = 256 << 10
	slabBlocks = slabSize / piece.BlockSize
	// earlyWeight is how many newer arrivals a slab must have missed to be put out instead of
	// one that holds one early block less: early blocks must be read back later.
	earlyWeight = 32
)

// A slab holds blocks of one region of one open piece in memory, until they are written and
// hashed.
type slab struct {
	data   []byte // slabSize bytes
	piece  *openPiece
	region int // number of the slab in its piece
	filled uint16
	dirty  uint16 // filled and not written
	last   int64  // shard's clock at the last arrival
}

// A slabPool lends slabs to the windows of all shards, so that their number, and with it the
// memory of the store, has one bound. Each shard has a reserve that nobody can take from it;
// the others go to who needs them: a large piece that slow peers share is all on one shard.
type slabPool struct {
	mu    sync.Mutex
	free  []*slab
	spare int // slabs beyond all reserves that may be lent yet
}

// get returns a slab, out of a shard's reserve or not, or nil when no spare one is left.
func (l *slabPool) get(reserved bool) *slab {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !reserved {
		if l.spare == 0 {
			return nil
		}
		l.spare--
	}
	if n := len(l.free); n > 0 {
		s := l.free[n-1]
		l.free = l.free[:n-1]
		return s
	}
	return &slab{data: make([]byte, slabSize)}
}

// put takes a slab back.
func (l *slabPool) put(s *slab, reserved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !reserved {
		l.spare++
	}
	l.free = append(l.free, s)
}

// A window is the slabs that one shard uses. Those beyond its reserve are spare ones.
type window struct {
	pool    *slabPool
	reserve int
	used    []*slab
}

// find returns the slab that holds a region, or nil.
func (w *window) find(p *openPiece, region int) *slab {
	for _, s := range w.used {
		if s.piece == p && s.region == region {
			return s
		}
	}
	return nil
}

// add returns an empty slab for a region, or nil when the shard must first do without another.
func (w *window) add(p *openPiece, region int) *slab {
	s := w.pool.get(len(w.used) < w.reserve)
	if s == nil {
		return nil
	}
	s.piece, s.region, s.filled, s.dirty = p, region, 0, 0
	w.used = append(w.used, s)
	return s
}

// remove gives a slab back, whose blocks are written or not needed.
func (w *window) remove(s *slab) {
	for i, u := range w.used {
		if u == s {
			last := len(w.used) - 1
			w.used[i] = w.used[last]
			w.used = w.used[:last]
			s.piece = nil
			w.pool.put(s, last < w.reserve)
			return
		}
	}
}

// drop removes every slab of a piece.
func (w *window) drop(p *openPiece) {
	for i := len(w.used) - 1; i >= 0; i-- {
		if w.used[i].piece == p {
			w.remove(w.used[i])
		}
	}
}

// least returns the slab that is worth least: it was touched long ago and holds few blocks
// that are ahead of their piece's cursor. Blocks behind the cursor are hashed already, and so
// cost nothing but a smaller write.
func (w *window) least(now int64) *slab {
	var least *slab
	var best int64
	for _, s := range w.used {
		worth := int64(s.early())*earlyWeight - (now - s.last)
		if least == nil || worth < best {
			least, best = s, worth
		}
	}
	return least
}

// early returns how many blocks of the slab are not hashed yet.
func (s *slab) early() int {
	ahead := s.piece.cursor - s.region*slabBlocks
	if ahead >= slabBlocks {
		return 0
	}
	return bits.OnesCount16(s.filled >> max(ahead, 0) << max(ahead, 0))
}

// run returns the first run of set bits at or after bit from: its start and length.
func run(mask uint16, from int) (start, n int) {
	start = from + bits.TrailingZeros16(mask>>from)
	if start >= slabBlocks {
		return slabBlocks, 0
	}
	return start, bits.TrailingZeros16(^(mask >> start)) // the shift brings zeros in: never all ones beyond bit 15-start
}

// An openPiece is a piece of which some blocks have come.
type openPiece struct {
	index  int
	size   int64 // bytes
	blocks int
	got    []uint64 // blocks that have come
	count  int      // of them
	cursor int      // blocks that are hashed: all before it
	sha    hash.Hash
}

// reset makes p stand for another piece, of which nothing has come.
func (p *openPiece) reset(index int, size int64, blocks int) {
	words := (blocks + 63) / 64
	if cap(p.got) < words {
		p.got = make([]uint64, words)
	}
	p.got = p.got[:words]
	clear(p.got)
	p.index, p.size, p.blocks, p.count, p.cursor = index, size, blocks, 0, 0
}

func (p *openPiece) has(n int) bool { return p.got[n>>6]&(1<<(n&63)) != 0 }

func (p *openPiece) set(n int) {
	p.got[n>>6] |= 1 << (n & 63)
	p.count++
}

func (p *openPiece) clear(n int) {
	p.got[n>>6] &^= 1 << (n & 63)
	p.count--
}

// whole reports whether every block of a region has come.
func (p *openPiece) whole(region int) bool {
	for n := region * slabBlocks; n < min(p.blocks, (region+1)*slabBlocks); n++ {
		if !p.has(n) {
			return false
		}
	}
	return true
}

// bytes returns the range of the piece that blocks [n, n+k) take.
func (p *openPiece) bytes(n, k int) (begin, length int64) {
	begin = int64(n) * piece.BlockSize
	return begin, min(p.size, begin+int64(k)*piece.BlockSize) - begin
}
