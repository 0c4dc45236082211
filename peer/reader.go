package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"bittern/peer/wire"
)

// The read buffer starts as large as a block with its head needs, and doubles as long as reads
// fill it and the budget allows, or if a message does not fit. The largest holds any message, and 256 KiB besides a block that has begun to come in.
const (
	minRead   = 18 << 10     // bytes
	maxRead   = minRead << 4 // bytes: 288 KiB
	smallRead = 8            // a read of less than a part in this many of the buffer is a small one
	maxSmall  = 256          // small reads in a row after which the buffer is halved
	idleBytes = 1 << 10      // bytes of an unknown message that are worth a batch
)

// Every message that wire.Limits lets pass fits: an array cannot have a negative length.
var (
	_ [minRead - wire.PieceHeadLen - wire.MaxBlock]struct{}
	_ [maxRead - wire.HeadLen - wire.MaxPieces/8]struct{}
	_ [maxRead - wire.HeadLen - 1 - wire.MaxExtended]struct{}
)

// A reader turns the bytes of a connection into batches. One goroutine owns it.
type reader struct {
	c     *Conn
	buf   []byte
	from  int // buf[from:to] has been read and not parsed
	to    int
	skip  int       // bytes of an unknown message that are still to be thrown away
	begun time.Time // when a part of a message was first there and the rest was not; zero when none is
	full  bool      // the last read filled the buffer
	small int       // small reads in a row
	batch *Batch    // not delivered yet; nil when empty
	idle  int       // messages left out since the last delivery
	bytes int       // of these, prefixes included, as far as they have come
}

// run reads until the connection ends. It leaves in batch what it could not deliver.
func (r *reader) run() error {
	for {
		moved, err := r.parse()
		if err != nil {
			return err
		}
		if moved {
			r.begun = time.Time{} // whatever is left belongs to another message than before
		}
		r.flush() // before waiting: the owner may be what the peer waits for
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// parse takes all whole messages out of the buffer, and reports whether there was one.
func (r *reader) parse() (moved bool, err error) {
	lim := &r.c.cfg.Limits
	for {
		if r.skip > 0 {
			n := min(r.skip, r.to-r.from)
			r.skip -= n
			r.from += n
			r.bytes += n
			if r.skip > 0 {
				return moved, nil
			}
			moved = true
		}
		in := r.buf[r.from:r.to]
		if len(in) < wire.PrefixLen {
			return moved, nil
		}
		length := binary.BigEndian.Uint32(in)
		if length == 0 { // keep-alive: "ignored" (BEP 3)
			r.leaveOut(wire.PrefixLen)
			moved = true
			continue
		}
		if len(in) < wire.HeadLen {
			return moved, wire.CheckPrefix(length)
		}
		id := wire.ID(in[wire.PrefixLen])
		if err := lim.Check(id, length); err != nil {
			return moved, err
		}
		if !lim.Knows(id) {
			r.leaveOut(wire.HeadLen)
			r.skip = int(length) - 1
			moved = moved || r.skip == 0
			continue
		}
		end := wire.PrefixLen + int(length)
		if len(in) < end {
			return moved, nil
		}
		if err := r.message(id, in[wire.HeadLen:end]); err != nil {
			return moved, err
		}
		r.from += end
		moved = true
	}
}

// leaveOut passes over the first n bytes of a message that is not delivered.
func (r *reader) leaveOut(n int) {
	r.idle++
	r.bytes += n
	r.from += n
}

// message adds a message that is in whole to the batch.
func (r *reader) message(id wire.ID, body []byte) error {
	m, err := wire.Parse(id, body)
	if err != nil {
		return err
	}
	in := Received{Message: m}
	switch {
	case id == wire.Piece:
		if in.Buf = r.c.cfg.Blocks.TryGet(); in.Buf == nil {
			// The owner may hold all buffers, and those of this very batch among them.
			r.flush()
			if in.Buf = r.c.cfg.Blocks.Get(r.c.done); in.Buf == nil {
				return ErrClosed
			}
		}
		copy(in.Buf.Bytes(), body[wire.PieceHeadLen-wire.HeadLen:])
	case len(m.Payload) > 0:
		in.Payload = bytes.Clone(m.Payload)
	}
	if r.batch == nil {
		r.batch = newBatch(r.c)
	}
	r.batch.Msgs = append(r.batch.Msgs, in)
	if len(r.batch.Msgs) == MaxBatch {
		r.flush()
	}
	return nil
}

// flush delivers what has been gathered.
func (r *reader) flush() {
	if r.batch == nil && (r.idle > 0 || r.bytes >= idleBytes) {
		r.batch = newBatch(r.c)
	}
	if b := r.batch; b != nil {
		b.Idle, b.IdleBytes = r.idle, r.bytes
		r.batch, r.idle, r.bytes = nil, 0, 0
		r.c.cfg.Deliver(b)
	}
}

// fill reads once, into a buffer that has room.
func (r *reader) fill() error {
	r.fit()
	now := time.Now()
	deadline := now.Add(r.c.cfg.Silence)
	late := ErrSilent
	if r.to > 0 || r.skip > 0 {
		if r.begun.IsZero() {
			r.begun = now
		}
		deadline = r.begun.Add(r.c.cfg.Stall)
		late = ErrStalled
	}
	closed := r.c.nc.SetReadDeadline(deadline)
	room := r.buf[r.to:]
	n, err := r.c.nc.Read(room)
	if err == nil { // of a closed connection Read knows better why
		err = closed
	}
	r.to += n
	r.full = n == len(room)
	if n < len(r.buf)/smallRead {
		r.small++
	} else {
		r.small = 0
	}
	switch {
	case n > 0:
		return nil // an error that came with data comes again
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late
	case err != nil:
		return fmt.Errorf("peer: read: %w", err)
	}
	return nil
}

// fit moves what has not been parsed to the front of a buffer of the right size.
func (r *reader) fit() {
	rest := r.buf[r.from:r.to]
	size := len(r.buf)
	switch {
	case r.full && size < maxRead && r.c.cfg.Reads.take(size, len(rest) == size):
		size *= 2
	case r.small >= maxSmall && size > minRead && len(rest) < size/2:
		size /= 2
		r.c.cfg.Reads.give(size)
		r.small = 0
	}
	to := r.buf
	if size != len(r.buf) {
		to = make([]byte, size)
	}
	r.to = copy(to, rest)
	r.from, r.buf = 0, to
}
