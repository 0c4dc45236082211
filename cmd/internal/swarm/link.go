package swarm

import (
	"errors"
	"log/slog"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
)

// A link is one connection as the loop sees it.
type link struct {
	id      core.LinkID
	conn    *peer.Conn
	control []byte // encoded messages not yet handed to the writer
	reads   reads
	dirty   bool // in Swarm.dirty
	held    bool // in Swarm.held
}

var (
	errOutboxFull = errors.New("peer does not read what we send")
	// Only somebody who ignores the reqq that we announce can have so many (BEP 10): the core's queue
	// is for blocks, of which it hands on few at a time, but single bytes pass it by the thousand.
	errManyReads = errors.New("peer asks for too many small ranges")
)

// join starts a connection that has shaken hands.
func (s *Swarm) join(now time.Time, o *opened) {
	r := o.remote
	s.nextID++
	id := s.nextID
	s.wg.Add(1) // until the connection's last batch, which comes when its goroutines are done
	conn := peer.Start(o.conn, r, peer.Config{
		ID:      uint32(id),
		Limits:  r.Limits(s.content.Core.Layout.Pieces()),
		Blocks:  s.blocks,
		Reads:   s.readBudget,
		Deliver: s.deliver,
		OnPanic: s.in.Panicked,
	})
	s.links[id] = &link{id: id, conn: conn}
	s.log.Info("peer joined", "peer", r.Addr, "outgoing", r.Outgoing, "id", peerID(r.ID))
	s.handle(now, core.Event{Op: core.Joined, Link: id, Remote: &core.Remote{
		ID: r.ID, Addr: r.Addr, Outgoing: r.Outgoing, Fast: r.Fast(), Ext: r.Ext(), DHT: r.DHT(),
	}})
}

// A peerID shows in the log as what it says of the client, which is formatted only if it is shown.
type peerID [20]byte

// LogValue returns the first eight bytes (BEP 20); handlers quote what is not fit to print.
func (id peerID) LogValue() slog.Value { return slog.StringValue(string(id[:8])) }

// deliver passes on what a connection has for us. What is large and in no buffer of a pool it waits for
// the loop to handle, so that one peer has no more than one such batch in memory: it could send
// extended messages faster than they are parsed.
func (s *Swarm) deliver(b *peer.Batch) {
	if b.Err != nil {
		defer s.wg.Done()
	}
	m := message{batch: b}
	if payload(b) > largePayload {
		m.taken = make(chan struct{})
	}
	if !s.in.send(m) {
		m.discard()
		return
	}
	if m.taken != nil {
		select {
		case <-m.taken:
		case <-s.in.done:
		}
	}
}

// largePayload is more than all but the largest bitfields and extension handshakes have, in bytes.
const largePayload = 32 << 10

// payload returns the bytes of a batch that no pool counts.
func payload(b *peer.Batch) (n int) {
	for i := range b.Msgs {
		n += len(b.Msgs[i].Payload)
	}
	return n
}

// batch handles what a connection has delivered, of a link that may be gone already.
func (s *Swarm) batch(now time.Time, b *peer.Batch) {
	defer func() {
		b.ReleaseAll() // what a panic has left
		b.Recycle()
	}()
	id := core.LinkID(b.Conn.ID)
	for i := range b.Msgs {
		m := &b.Msgs[i]
		ev := core.Event{Op: core.Message, Link: id, Msg: m.Message}
		if m.Buf != nil {
			ev.Op, s.buf, m.Buf = core.BlockIn, m.Buf, nil
		}
		s.handle(now, ev)
		s.releaseBlock()
	}
	if b.IdleBytes > 0 {
		s.handle(now, core.Event{Op: core.Idle, Link: id, N: b.Idle, Bytes: b.IdleBytes})
	}
	if b.SentBytes > 0 {
		if l := s.links[id]; l != nil {
			l.reads.sent(b.SentBytes)
			s.mark(l) // for what waits in its reads
		}
		s.handle(now, core.Event{Op: core.Sent, Link: id, N: b.SentBytes})
	}
	if b.Err != nil {
		s.left(now, id, b.Err)
	}
	if b.SentBytes > 0 || b.Err != nil { // the writer has given buffers back
		s.readHeld()
	}
}

// left tells the core that a connection is closed, unless it was the core that dropped it.
func (s *Swarm) left(now time.Time, id core.LinkID, err error) {
	l := s.links[id]
	if l == nil {
		return
	}
	s.log.Info("peer left", "peer", l.conn.Remote().Addr, "why", err)
	delete(s.links, id)
	s.handle(now, core.Event{Op: core.Left, Link: id, Err: err})
}

// drop closes a connection that the core has forgotten.
func (s *Swarm) drop(id core.LinkID, err error) {
	l := s.links[id]
	if l == nil {
		return
	}
	level := slog.LevelInfo
	if m, ok := errors.AsType[*core.Misdeed](err); ok && m.Ban {
		level = slog.LevelWarn // a user whose only peer lies wants to know
	}
	s.log.Log(s.ctx, level, "peer dropped", "peer", l.conn.Remote().Addr, "why", err)
	delete(s.links, id)
	l.conn.Close(err)
}

// send hands something to a link's writer. When that refuses, the connection is closed already or
// the peer does not read: the last batch, which is bound to come then, tells the core which.
func (l *link) send(o peer.Outgoing) {
	if !l.conn.Send(o) {
		l.conn.Close(errOutboxFull)
	}
}

// controlOf returns the buffer that gathers l's messages until the next flush.
func (s *Swarm) controlOf(l *link) []byte {
	s.mark(l)
	if l.control == nil {
		return peer.ControlBuffer()
	}
	return l.control
}

// mark notes that l has something to flush.
func (s *Swarm) mark(l *link) {
	if !l.dirty {
		l.dirty = true
		s.dirty = append(s.dirty, l)
	}
}

// flush hands to the writers and the storage what the events of this turn have gathered.
func (s *Swarm) flush() {
	for _, l := range s.dirty {
		l.dirty = false
		if s.links[l.id] != l {
			continue
		}
		if len(l.control) > 0 {
			out := peer.Outgoing{Control: l.control}
			l.control = nil
			l.send(out)
		}
		s.read(l)
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}
