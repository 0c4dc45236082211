package peer

import (
	"cmp"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// Config sets up a [Conn]. Limits, Blocks and Deliver must be given.
type Config struct {
	ID     uint32      // for the owner's use, see [Conn.ID]
	Limits wire.Limits // usually [Remote.Limits]
	Blocks *pool.Pool  // for incoming blocks; of at least [wire.MaxBlock] bytes

	// Deliver passes a batch to the owner, by whichever of the two goroutines has one; never two with
	// messages at a time. It may block: that is the back-pressure. But it must return when the
	// owner is gone, or the goroutines stay for ever; it then releases what it was given.
	Deliver func(*Batch)

	// OnPanic is told of a bug, with the stack, by the goroutine that met it; the connection ends
	// after it. Nil means that the panic takes its course.
	OnPanic func(v any, stack []byte)

	Reads *Budget // of the read buffers of all connections of the owner; nil means no bound

	OutboxCap   int           // messages that wait to be sent; 0 means 256
	OutboxBytes int           // bytes that wait to be sent; 0 means 4 MiB
	KeepAlive   time.Duration // silence of ours after which we send a keep-alive; 0 means 100 s
	Silence     time.Duration // silence of the peer after which it is dropped; 0 means 3 min
	Stall       time.Duration // for a begun message to come in whole, and for any byte to go out; 0 means 60 s
}

func (c Config) withDefaults() Config {
	c.OutboxCap = cmp.Or(c.OutboxCap, 256)
	c.OutboxBytes = cmp.Or(c.OutboxBytes, 4<<20)
	// BEP 3 has them "generally sent once every two minutes", but libtorrent closes a connection that has
	// been silent for exactly that long: ours must have arrived by then.
	c.KeepAlive = cmp.Or(c.KeepAlive, 100*time.Second)
	c.Silence = cmp.Or(c.Silence, 3*time.Minute)
	c.Stall = cmp.Or(c.Stall, time.Minute)
	return c
}

// A Conn is a connection after the handshake. Its methods are safe for concurrent use.
type Conn struct {
	// ID is Config.ID. The Conn does not look at it.
	ID uint32

	nc      net.Conn
	remote  Remote
	cfg     Config
	outbox  outbox
	done    chan struct{} // closed by Close
	written chan struct{} // closed when the writer has returned
	once    sync.Once
	cause   error // set before done is closed
}

// Start runs a connection whose handshake is done. It takes nc over, and two goroutines run until the
// batch with Err has been delivered. Of the data that r's handshake left in nc nothing is lost.
func Start(nc net.Conn, r Remote, cfg Config) *Conn {
	if cfg.Blocks == nil || cfg.Blocks.Size() < wire.MaxBlock || cfg.Deliver == nil {
		panic("peer: Config without Blocks of a sufficient size, or without Deliver")
	}
	cfg = cfg.withDefaults()
	c := &Conn{
		ID: cfg.ID, nc: nc, remote: r, cfg: cfg,
		outbox:  outbox{wake: make(chan struct{}, 1), maxItems: cfg.OutboxCap, maxBytes: cfg.OutboxBytes},
		done:    make(chan struct{}),
		written: make(chan struct{}),
	}
	go c.write()
	go c.read()
	return c
}

// Remote returns what the handshake told.
func (c *Conn) Remote() Remote { return c.remote }

// Send queues o, which passes to the Conn in any case, and never blocks. It returns false when o will
// not be sent, because the connection is closed or because its outbox is full: the peer
// does not read what we send it, and the owner closes the connection.
func (c *Conn) Send(o Outgoing) bool { return c.outbox.put(o) }

// Close ends the connection and does not wait for it. The first cause given, by whichever end,
// is the one that Batch.Err has; nil means [ErrClosed]. What is queued is not sent any more.
func (c *Conn) Close(cause error) {
	c.once.Do(func() {
		c.cause = cmp.Or(cause, ErrClosed)
		close(c.done)
		// The cause is known, and there is nobody left whom an error here would help.
		_ = c.nc.Close()
	})
}

// Finish closes the connection once what is queued has been sent and the peer has closed its end, or else after a time
// limit. Nothing more can be queued. It does not wait.
func (c *Conn) Finish(limit time.Duration) {
	c.outbox.finish()
	time.AfterFunc(limit, func() { c.Close(nil) })
}

// hangUp ends our half of a connection that has two and waits for the end of the other. A system that is told to close
// a connection while there is something in it to read throws away what it has not yet sent.
func (c *Conn) hangUp() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		<-c.done
	}
}

// write is the writer goroutine.
func (c *Conn) write() {
	defer close(c.written)
	w := writer{c: c}
	c.Close(c.guard(w.run))
	c.outbox.close()
	w.release()
}

// read is the reader goroutine, which also has the last word.
func (c *Conn) read() {
	r := reader{c: c, buf: make([]byte, minRead)}
	c.Close(c.guard(r.run))
	c.cfg.Reads.give(len(r.buf) - minRead)
	<-c.written
	_ = c.guard(func() error { // a panic in Deliver has been told, and there is no cause to add
		b := r.batch
		if b == nil {
			b = newBatch(c)
		}
		b.Err = c.cause
		c.cfg.Deliver(b)
		return nil
	})
}

// guard runs f, and if somebody wants to hear of panics turns one into an error.
func (c *Conn) guard(f func() error) (err error) {
	if c.cfg.OnPanic != nil {
		defer func() {
			if v := recover(); v != nil {
				c.cfg.OnPanic(v, debug.Stack())
				err = errPanicked
			}
		}()
	}
	return f()
}
