package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"bittern/peer/wire"
)

// writeSize is how many bytes are given to the system at once, about: enough to make calls
// few, little enough to report and to give slabs back while the socket still has something to send.
const writeSize = 512 << 10

// A writer sends what is in the outbox. One goroutine owns it.
type writer struct {
	c     *Conn
	items []Outgoing  // being sent
	heads []byte      // of the blocks among them
	vec   net.Buffers // what is left to be sent; consumed by WriteTo
	store net.Buffers // the array under vec, kept
}

var keepAlive = wire.Append(nil, wire.Message{ID: wire.KeepAlive})

// run writes until the connection ends.
func (w *writer) run() error {
	every := w.c.cfg.KeepAlive
	timer := time.NewTimer(every)
	defer timer.Stop()
	last := time.Now() // when something was sent
	for {
		if w.items = w.c.outbox.take(w.items[:0], writeSize); len(w.items) > 0 {
			if err := w.send(); err != nil {
				return err
			}
			last = time.Now()
			continue
		}
		if w.c.outbox.finished() {
			w.c.hangUp()
			return ErrClosed
		}
		select {
		case <-w.c.outbox.wake:
		case <-w.c.done:
			return ErrClosed
		case <-timer.C:
			// The timer is not set anew at every write; it looks how long ago the last one was.
			if idle := time.Since(last); idle < every {
				timer.Reset(every - idle)
				continue
			}
			w.store = append(w.store[:0], keepAlive)
			if err := w.flush(); err != nil {
				return err
			}
			last = time.Now()
			timer.Reset(every)
		}
	}
}

// send writes items, gives back what they own and reports the blocks among them.
func (w *writer) send() error {
	sent := w.gather()
	if err := w.flush(); err != nil {
		return err
	}
	w.release()
	if sent > 0 {
		b := newBatch(w.c)
		b.SentBytes = sent
		w.c.cfg.Deliver(b)
	}
	return nil
}

// gather lists in store the memory that items consist of, and returns the bytes of blocks in it.
func (w *writer) gather() (sent int) {
	blocks := 0
	for i := range w.items {
		blocks += len(w.items[i].Parts)
	}
	// All heads at once: appending must not move those that store points to already.
	if cap(w.heads) < blocks*wire.PieceHeadLen {
		w.heads = make([]byte, 0, 2*blocks*wire.PieceHeadLen)
	}
	w.heads, w.store = w.heads[:0], w.store[:0]
	for i := range w.items {
		o := &w.items[i]
		if len(o.Control) > 0 {
			w.store = append(w.store, o.Control)
		}
		for _, p := range o.Parts {
			at := len(w.heads)
			w.heads = wire.AppendPiece(w.heads, p.Index, p.Begin, p.Len)
			w.store = append(w.store, w.heads[at:], o.Slab.Bytes()[p.Off:p.Off+p.Len])
			sent += p.Len
		}
	}
	return sent
}

// flush writes all of store, by writev where the connection has it.
func (w *writer) flush() error {
	w.vec = w.store
	for len(w.vec) > 0 {
		if err := w.c.nc.SetWriteDeadline(time.Now().Add(w.c.cfg.Stall)); err != nil {
			return fmt.Errorf("peer: write: %w", err)
		}
		n, err := w.vec.WriteTo(w.c.nc)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("peer: write: %w", err)
		case n == 0:
			return ErrStalled
		}
	}
	return nil
}

// release gives back what items own, sent or not.
func (w *writer) release() {
	for i := range w.items {
		w.items[i].release()
	}
	w.items = w.items[:0]
}
