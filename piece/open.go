package piece

// maxAskers is how many peers a block is asked of at once, in endgame.
const maxAskers = 3

// stored in place of a block's first asker says that we have the block.
const stored = 1<<16 - 1

// A block is the state of one block of an open piece: free (no asker), asked of one to three
// peers, or stored. The askers' slots come first, zeros behind them.
type block [maxAskers]uint16

// askers returns how many peers a block that is not stored is asked of.
func (b *block) askers() int {
	n := 0
	for n < maxAskers && b[n] != 0 {
		n++
	}
	return n
}

// asks reports whether the block is asked of the peer in slot.
func (b *block) asks(slot uint16) bool {
	return b[0] == slot || b[1] == slot || b[2] == slot
}

// drop removes the asker in slot.
func (b *block) drop(slot uint16) {
	switch slot {
	case b[0]:
		b[0], b[1], b[2] = b[1], b[2], 0
	case b[1]:
		b[1], b[2] = b[2], 0
	case b[2]:
		b[2] = 0
	}
}

// An open is a piece of which some block is asked or stored. Records are used again.
type open struct {
	piece   int
	slot    int32  // index in Scheduler.opens
	loose   int32  // index in Scheduler.loose, or -1
	wanted  bool   // by the user, and not held; else nothing of it is asked any more
	suspect bool   // it has failed before
	held    bool   // the caller wants it to wait; then it counts as not wanted
	reason  Reason // why blocks of it were given last
	// owner asks for this piece in order. While it is fast others leave the free blocks to
	// it; while it is slow, slow peers share them. Nil: whoever comes first owns it.
	owner  *Peer
	free   int                // blocks neither asked nor stored
	stored int                // blocks
	asked  [maxAskers + 1]int // by number of askers: blocks; [0] is the sum of the others
	head   int                // no block before this one is free
	tail   int                // no block from this one on is free
	blocks []block
}

// hashing reports whether all is stored and the verdict awaited.
func (o *open) hashing() bool { return o.stored == len(o.blocks) }

// reset makes o the record of a piece of n blocks, all of them free.
func (o *open) reset(piece, n int, wanted, suspect bool) {
	if cap(o.blocks) < n {
		o.blocks = make([]block, n)
	}
	*o = open{
		piece: piece, slot: o.slot, loose: -1, wanted: wanted, suspect: suspect,
		free: n, tail: n, blocks: o.blocks[:n],
	}
	clear(o.blocks)
}

// front returns the first free block; there must be one.
func (o *open) front() int {
	for o.blocks[o.head][0] != 0 {
		o.head++
	}
	return o.head
}

// back returns the last free block; there must be one.
func (o *open) back() int {
	for o.blocks[o.tail-1][0] != 0 {
		o.tail--
	}
	return o.tail - 1
}

// released says that block n is free again.
func (o *open) released(n int) {
	o.head, o.tail = min(o.head, n), max(o.tail, n+1)
}
