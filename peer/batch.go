package peer

import (
	"sync"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// MaxBatch is how many messages a batch holds at most.
const MaxBatch = 64

// A Received is a message that came in. Whoever holds it owns Buf and must release it once.
type Received struct {
	wire.Message              // its Payload, if any, belongs to the message alone
	Buf          *pool.Buffer // of a piece the Length bytes of data, from the start; nil otherwise
}

// A Batch is what a connection hands to its owner, who calls Recycle when done with it.
type Batch struct {
	Conn *Conn
	// Msgs are messages in the order in which they came; keep-alives and unknown ones left out.
	Msgs []Received
	// Idle counts those that were left out, as they begin, and IdleBytes their bytes, as they come. Some are sent by
	// everybody, and many by nobody with good intentions.
	Idle, IdleBytes int
	// SentBytes counts the bytes of blocks, heads not included, that the network has taken since
	// the last report.
	SentBytes int
	// Err, when not nil, says why the connection ended. It comes exactly once, with the last
	// batch, which may hold messages too; both goroutines of the Conn are done by then.
	Err error
}

var batches = sync.Pool{New: func() any { return &Batch{Msgs: make([]Received, 0, MaxBatch/4)} }}

func newBatch(c *Conn) *Batch {
	b := batches.Get().(*Batch)
	b.Conn = c
	return b
}

// Recycle gives the batch and its Msgs back. What the messages point to stays with the owner.
func (b *Batch) Recycle() {
	clear(b.Msgs)
	*b = Batch{Msgs: b.Msgs[:0]}
	batches.Put(b)
}

// ReleaseAll releases the buffers of all messages, for an owner that has no use for them any more.
func (b *Batch) ReleaseAll() {
	for i := range b.Msgs {
		if buf := b.Msgs[i].Buf; buf != nil {
			buf.Release()
			b.Msgs[i].Buf = nil
		}
	}
}
