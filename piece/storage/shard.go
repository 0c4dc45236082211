package storage

import (
	"crypto/sha1"
	"runtime/debug"

	"bittern/piece"
)

// A shard assembles, hashes and writes the pieces that fall to it. All of it is owned by the
// goroutine in run.
//
// A block is copied into a slab and its buffer released at once; what is contiguous at the
// piece's hash cursor is hashed while it is in the cache; a region that is whole is written
// with one WriteAt per file. Early blocks wait in the window. Under pressure the slab that is
// worth least is written as far as it is filled, and read back when the cursor comes to it.
type shard struct {
	store   *Store
	jobs    *queue[writeJob]
	open    map[int]*openPiece
	suspect map[int]bool // pieces that failed and have not passed since
	window  window
	clock   int64           // blocks that have come
	scratch []byte          // for reading back; made at the first need
	sum     [sha1.Size]byte // of the piece being judged: on the stack it would escape

	spare []*openPiece // closed ones, for their hash and bitmap
}

// A writeJob is a block on its way to its shard. The shard releases the buffer; without one the block is to be forgotten,
// which must not overtake what was written before.
type writeJob struct {
	block piece.Block
	buf   Buffer
}

// maxSpare is how many closed pieces are kept for reuse.
const maxSpare = 64

func newShard(s *Store, pool *slabPool, reserve int) *shard {
	return &shard{
		store: s, jobs: newQueue[writeJob](), window: window{pool: pool, reserve: reserve},
		open: make(map[int]*openPiece), suspect: make(map[int]bool),
	}
}

// run works until the queue is closed and empty. What is in slabs then belongs to pieces that
// are not complete: it would not be trusted by the next run, so it is not written.
func (h *shard) run() {
	for {
		j, ok := h.jobs.take()
		if !ok {
			return
		}
		h.handle(j)
	}
}

// handle stores one block. Its buffer is released whatever happens.
func (h *shard) handle(j writeJob) {
	defer func() {
		if v := recover(); v != nil {
			h.store.fail(&PanicError{v, debug.Stack()})
		}
	}()
	if j.buf == nil {
		h.forgetBlock(j.block)
		return
	}
	p, n := h.enter(j)
	if p == nil {
		return
	}
	if err := h.proceed(p, n/slabBlocks); err != nil {
		h.store.fail(err)
	}
}

// enter copies a block into its slab and releases its buffer. It returns nil for a block that
// is not needed, or when there is no room because the disk failed.
func (h *shard) enter(j writeJob) (*openPiece, int) {
	defer j.buf.Release()
	if h.store.broken() {
		return nil, 0
	}
	p := h.piece(int(j.block.Piece))
	n := h.store.cfg.Layout.Number(j.block)
	if p == nil || p.has(n) {
		return nil, 0
	}
	s, err := h.slab(p, n/slabBlocks)
	if err != nil {
		h.store.fail(err)
		return nil, 0
	}
	k := n % slabBlocks
	data := s.data[k*piece.BlockSize:][:j.block.Length]
	copy(data, j.buf.Bytes())
	h.store.blank(j.block, data)
	p.set(n)
	s.filled |= 1 << k
	s.dirty |= 1 << k
	return p, n
}

// piece returns the open piece i, opened if need be, or nil when it is verified already.
func (h *shard) piece(i int) *openPiece {
	if p := h.open[i]; p != nil {
		return p
	}
	if h.store.verified(i) {
		return nil
	}
	var p *openPiece
	if n := len(h.spare); n > 0 {
		p, h.spare = h.spare[n-1], h.spare[:n-1]
		p.sha.Reset()
	} else {
		p = &openPiece{sha: sha1.New()}
	}
	l := h.store.cfg.Layout
	p.reset(i, l.PieceSize(i), l.Blocks(i))
	h.open[i] = p
	return p
}

// forget closes a piece after its verdict.
func (h *shard) forget(p *openPiece) {
	h.window.drop(p)
	if len(h.spare) < maxSpare {
		h.spare = append(h.spare, p)
	}
	delete(h.open, p.index)
}

// forgetBlock makes a block missing again. If it was hashed already, all before it will be read and hashed once more.
func (h *shard) forgetBlock(b piece.Block) {
	p, n := h.open[int(b.Piece)], h.store.cfg.Layout.Number(b)
	if p == nil || !p.has(n) {
		return
	}
	p.clear(n)
	if n < p.cursor {
		p.cursor = 0
		p.sha.Reset()
	}
	if s := h.window.find(p, n/slabBlocks); s != nil {
		s.filled &^= 1 << (n % slabBlocks)
		s.dirty &^= 1 << (n % slabBlocks)
	}
}

// slab returns the slab of a region, at the cost of another one if the window is full.
func (h *shard) slab(p *openPiece, region int) (*slab, error) {
	h.clock++
	s := h.window.find(p, region)
	if s == nil {
		s = h.window.add(p, region)
	}
	for s == nil { // mostly once; another shard may be faster to take what became spare
		least := h.window.least(h.clock)
		if err := h.flush(least); err != nil {
			return nil, err
		}
		h.window.remove(least)
		s = h.window.add(p, region)
	}
	s.last = h.clock
	return s, nil
}

// proceed hashes and writes what can be, after a block has come in a region.
func (h *shard) proceed(p *openPiece, region int) error {
	for p.cursor < p.blocks && p.has(p.cursor) {
		if err := h.advance(p); err != nil {
			return err
		}
	}
	if s := h.window.find(p, region); s != nil && p.whole(region) {
		if err := h.flush(s); err != nil { // it stays, clean, until it is hashed
			return err
		}
	}
	if p.count < p.blocks {
		return nil
	}
	return h.judge(p)
}

// advance moves the cursor over one run of blocks, in memory or on disk, within one region.
// A region that is behind it is written and its slab set free.
func (h *shard) advance(p *openPiece) error {
	region, k := p.cursor/slabBlocks, p.cursor%slabBlocks
	s := h.window.find(p, region)
	var filled uint16
	if s != nil {
		filled = s.filled
	}
	var n int
	if start, length := run(filled, k); start == k && length > 0 {
		n = length
		at, size := p.bytes(p.cursor, n)
		p.sha.Write(s.data[at-int64(region)*slabSize:][:size])
	} else {
		for n = 1; k+n < start && p.cursor+n < p.blocks && p.has(p.cursor+n); {
			n++
		}
		at, size := p.bytes(p.cursor, n)
		data, err := h.readBack(p.index, at, size)
		if err != nil {
			return err
		}
		h.store.stats.readBack.Add(size)
		p.sha.Write(data)
	}
	p.cursor += n
	if s == nil || p.cursor < min(p.blocks, (region+1)*slabBlocks) {
		return nil
	}
	if err := h.flush(s); err != nil {
		return err
	}
	h.window.remove(s)
	return nil
}

// flush writes what is dirty in a slab, each run at once.
func (h *shard) flush(s *slab) error {
	for start, n := run(s.dirty, 0); n > 0; start, n = run(s.dirty, start+n) {
		at, size := s.piece.bytes(s.region*slabBlocks+start, n)
		data := s.data[start*piece.BlockSize:][:size]
		if err := h.store.writeFetched(s.piece.index, at, data); err != nil {
			return err
		}
	}
	s.dirty = 0
	return nil
}

// readBack reads a range, at most a slab, of a piece that is not verified. The result is valid
// until the next call.
func (h *shard) readBack(p int, begin, n int64) ([]byte, error) {
	if h.scratch == nil {
		h.scratch = make([]byte, slabSize)
	}
	data := h.scratch[:n]
	return data, h.store.readFetched(p, begin, data)
}

// judge compares a piece, all of whose blocks are hashed and written, with the torrent.
func (h *shard) judge(p *openPiece) error {
	p.sha.Sum(h.sum[:0])
	good := h.sum == [sha1.Size]byte(h.store.cfg.Sums[20*p.index:])
	i := p.index
	var sums [][20]byte
	if !good || h.suspect[i] {
		var err error
		if sums, err = h.blockSums(p); err != nil {
			return err
		}
	}
	h.forget(p)
	if !good {
		h.suspect[i] = true
		h.store.cfg.Notify(Event{Op: Failed, Piece: i, Sums: sums})
		return nil
	}
	delete(h.suspect, i)
	return h.store.accept(i, sums)
}

// blockSums returns the SHA-1 of each block of a piece that is on disk.
func (h *shard) blockSums(p *openPiece) ([][20]byte, error) {
	sums := make([][20]byte, 0, p.blocks)
	for n := 0; n < p.blocks; n += slabBlocks {
		at, size := p.bytes(n, slabBlocks)
		data, err := h.readBack(p.index, at, size)
		if err != nil {
			return nil, err
		}
		for len(data) > 0 {
			k := min(len(data), piece.BlockSize)
			sums = append(sums, sha1.Sum(data[:k]))
			data = data[k:]
		}
	}
	return sums, nil
}
