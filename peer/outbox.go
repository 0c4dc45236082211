package peer

import (
	"sync"

	"bittern/peer/pool"
)

// An Outgoing is what goes to a peer at one time: encoded messages, then blocks. All that it
// refers to passes to the Conn with [Conn.Send], whatever Send returns.
type Outgoing struct {
	Control []byte       // whole messages, encoded; from [ControlBuffer] to be recycled
	Slab    *pool.Buffer // holds the data of Parts; nil without parts
	Parts   []Part       // from [PartBuffer] to be recycled
}

// A Part is a block to be sent as a piece message: Len bytes of the slab from Off on.
type Part struct {
	Index, Begin uint32 // piece, and offset in it in bytes
	Off, Len     int    // bytes
}

const (
	controlSize = 1 << 10 // bytes of a recycled control buffer: 60 requests or 113 haves
	partCount   = 16      // of a recycled part buffer: blocks in 256 KiB
)

// Arrays, since a pointer to one goes into a sync.Pool without an allocation where a slice does not.
var (
	controls = sync.Pool{New: func() any { return new([controlSize]byte) }}
	parts    = sync.Pool{New: func() any { return new([partCount]Part) }}
)

// ControlBuffer returns an empty buffer to append encoded messages to. It may grow.
func ControlBuffer() []byte { return controls.Get().(*[controlSize]byte)[:0] }

// PartBuffer returns an empty slice to append parts to. It may grow.
func PartBuffer() []Part { return parts.Get().(*[partCount]Part)[:0] }

// bytes returns what the message keeps from being used otherwise.
func (o *Outgoing) bytes() int {
	n := len(o.Control)
	for _, p := range o.Parts {
		n += p.Len
	}
	return n
}

// release gives back what o owns.
func (o *Outgoing) release() {
	if o.Slab != nil {
		o.Slab.Release()
	}
	recycle(o.Control)
	if cap(o.Parts) >= partCount && cap(o.Parts) < 4*partCount {
		parts.Put((*[partCount]Part)(o.Parts[:partCount]))
	}
	*o = Outgoing{}
}

// recycle keeps a control buffer, unless it has grown so much that keeping it would be a leak.
func recycle(control []byte) {
	if cap(control) >= controlSize && cap(control) < 4*controlSize {
		controls.Put((*[controlSize]byte)(control[:controlSize]))
	}
}

// An outbox is a queue bounded in messages and in bytes, from the owner to the writer. Its lock is
// a leaf and never waited on for longer than a copy of one control buffer.
type outbox struct {
	wake     chan struct{} // of one slot: something was put, or the outbox closed
	maxItems int
	maxBytes int

	mu     sync.Mutex
	items  []Outgoing
	bytes  int // in items
	closed bool
}

// put takes o over and reports whether it will be sent: false if the outbox is full or closed.
func (b *outbox) put(o Outgoing) bool {
	n := o.bytes()
	b.mu.Lock()
	ok := b.join(o)
	if !ok && !b.closed && len(b.items) < b.maxItems && b.bytes+n <= b.maxBytes {
		b.items = append(b.items, o)
		o = Outgoing{}
		ok = true
	}
	if ok {
		b.bytes += n
	}
	b.mu.Unlock()
	o.release() // of what was refused, or copied
	if ok {
		b.signal()
	}
	return ok
}

// join appends a small control message to the one queued last, so that a peer who is slow to
// read while we tell it of thousands of pieces fills bytes and not slots. mu is held.
func (b *outbox) join(o Outgoing) bool {
	if b.closed || o.Slab != nil || len(b.items) == 0 || b.bytes+len(o.Control) > b.maxBytes {
		return false
	}
	last := &b.items[len(b.items)-1]
	if last.Slab != nil || len(last.Control)+len(o.Control) > cap(last.Control) {
		return false
	}
	last.Control = append(last.Control, o.Control...)
	return true
}

// take moves items of up to about limit bytes to dst, at least one if there is any.
func (b *outbox) take(dst []Outgoing, limit int) []Outgoing {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.items) && limit > 0 {
		size := b.items[n].bytes()
		limit -= size
		b.bytes -= size
		n++
	}
	dst = append(dst, b.items[:n]...)
	rest := copy(b.items, b.items[n:])
	clear(b.items[rest:])
	b.items = b.items[:rest]
	return dst
}

// finish refuses everything from now on.
func (b *outbox) finish() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.signal()
}

// finished reports whether nothing is queued and nothing will be.
func (b *outbox) finished() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed && len(b.items) == 0
}

// close refuses everything from now on and releases what was queued.
func (b *outbox) close() {
	b.mu.Lock()
	items := b.items
	b.items, b.bytes, b.closed = nil, 0, true
	b.mu.Unlock()
	for i := range items {
		items[i].release()
	}
}

func (b *outbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
