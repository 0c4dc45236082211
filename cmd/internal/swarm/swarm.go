// Package swarm runs the core of one torrent: it owns the connections, hands blocks to the
// storage, keeps the one timer, and does what the core decides.
//
// One goroutine, the loop, owns the [core.Core] and the map of links; no lock guards them. All
// others reach it through the [Inbox]: the readers of the connections, the storage, the dialers
// and the sources of addresses. They may block there, which is the back-pressure that in the end
// shuts a sender's TCP window; the loop itself blocks on nobody. A peer whose outbox is full is
// dropped.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/pool"
	"bittern/peer/wire"
	"bittern/piece/storage"
)

// A Config sets up a [Swarm].
type Config struct {
	InfoHash [20]byte
	Core     core.Config // PeerID is also what handshakes say
	Store    *storage.Store

	// Dial connects to a peer; nil means never.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	Log       *slog.Logger // nil means discard
	Completed func()       // called on the loop when all is verified and seeding goes on; nil: not
}

const (
	// downloadBuffers blocks may be on the way between the sockets and the storage.
	downloadBuffers = 512

	// slabSize is the largest read for upload. Runs of requests share one.
	slabSize = 256 << 10
)

// A Swarm downloads and seeds one torrent.
type Swarm struct {
	cfg Config
	in  *Inbox
	log *slog.Logger
	wg  sync.WaitGroup // dials, and connections until their last batch

	blocks, small, slabs *pool.Pool

	// ---- owned by the loop ----
	ctx     context.Context
	core    *core.Core
	links   map[core.LinkID]*link
	dirty   []*link // have something to flush
	held    []*link // have reads that wait for a buffer
	nextID  core.LinkID
	buf     *pool.Buffer // the block of the event being handled
	outcome core.Outcome
	err     error
	last    core.Snapshot
}

// A link is one connection as the loop sees it.
type link struct {
	id      core.LinkID
	conn    *peer.Conn
	control []byte // encoded messages not yet handed to the writer
	reads   reads
	dirty   bool
	held    bool
}

// New returns a swarm that listens to in.
func New(in *Inbox, cfg Config) *Swarm {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Swarm{
		cfg: cfg, in: in, log: cfg.Log,
		links:  make(map[core.LinkID]*link),
		blocks: pool.New(blockSize, downloadBuffers),
		small:  pool.New(blockSize, core.ReadCredit/blockSize),
		slabs:  pool.New(slabSize, core.ReadCredit/slabSize),
	}
}

// A PanicError is a bug of ours that was caught on a goroutine which serves input.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("bug: %v", e.Value) }

// Run runs the swarm until the core is done, the storage fails or ctx ends. It returns how the core
// ended, or the error that ended it, which is ctx's cause where that did. All connections are
// closed and all goroutines gone when it returns; the storage is left open.
func (s *Swarm) Run(ctx context.Context) (core.Outcome, error) {
	inner, cancel := context.WithCancel(ctx)
	s.ctx = inner
	s.core = core.New(time.Now(), s.cfg.Core)
	s.loop(ctx)
	s.last = s.core.Snapshot(time.Now())
	cancel()
	s.in.close(s.last)
	for _, l := range s.links {
		l.conn.Close(errStopped)
	}
	s.wg.Wait()
	return s.outcome, s.err
}

var errStopped = errors.New("stopped")

// loop is the one goroutine that owns the core.
func (s *Swarm) loop(ctx context.Context) {
	defer s.recover()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var armed time.Time
	for s.outcome == core.Running && s.err == nil {
		select {
		case m := <-s.in.c:
			now := time.Now()
			s.take(now, m)
			s.drain(now)
		case <-timer.C:
			armed = time.Time{}
			s.handle(time.Now(), core.Event{Op: core.Tick})
		case <-ctx.Done():
			s.err = context.Cause(ctx)
			return
		}
		s.flush()
		if next := s.core.Next(); !next.Equal(armed) {
			armed = next
			if next.IsZero() {
				timer.Stop()
			} else {
				timer.Reset(time.Until(next))
			}
		}
	}
}

func (s *Swarm) recover() {
	if v := recover(); v != nil {
		s.err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// drain takes what else is waiting, up to a bound, so that one flush serves many events.
func (s *Swarm) drain(now time.Time) {
	for range cap(s.in.c) {
		select {
		case m := <-s.in.c:
			s.take(now, m)
		default:
			return
		}
	}
}

// take handles one message of the inbox.
func (s *Swarm) take(now time.Time, m message) {
	switch {
	case m.batch != nil:
		s.batch(now, m.batch)
	case m.store != nil:
		s.stored(now, m.store)
	case m.conn != nil:
		s.join(now, m.conn, m.remote)
	case m.ask != nil:
		m.ask <- s.core.Snapshot(now)
	default:
		s.handle(now, m.event)
	}
}

// batch handles what one read of a connection brought.
func (s *Swarm) batch(now time.Time, b *peer.Batch) {
	id := core.LinkID(b.Conn.ID)
	for i := range b.Msgs {
		m := &b.Msgs[i]
		ev := core.Event{Op: core.Message, Link: id, Msg: m.Message}
		if m.Buf != nil {
			ev.Op, s.buf, m.Buf = core.BlockIn, m.Buf, nil
		}
		s.handle(now, ev)
		s.releaseHeld()
	}
	if b.SentBytes > 0 {
		s.handle(now, core.Event{Op: core.Sent, Link: id, N: b.SentBytes})
		s.readHeld()
	}
	if b.Err != nil {
		s.log.Debug("peer left", "peer", b.Conn.Remote().Addr, "why", b.Err)
		delete(s.links, id)
		s.handle(now, core.Event{Op: core.Left, Link: id, Err: b.Err})
	}
	b.Recycle()
}

// releaseHeld lets go of a block that the core had no use for.
func (s *Swarm) releaseHeld() {
	if s.buf != nil {
		s.buf.Release()
		s.buf = nil
	}
}

// handle tells the core and does what it decides.
func (s *Swarm) handle(now time.Time, ev core.Event) {
	effects := s.core.Handle(now, ev)
	for i := range effects {
		s.do(&effects[i])
	}
}

func (s *Swarm) do(e *core.Effect) {
	switch e.Op {
	case core.Send:
		if l := s.links[e.Link]; l != nil {
			l.control = wire.Append(s.controlOf(l), e.Msg)
		}
	case core.Write:
		s.cfg.Store.Write(e.Block, s.buf)
		s.buf = nil
	case core.Release:
		s.releaseHeld()
	case core.ReadBlock:
		if l := s.links[e.Link]; l != nil {
			l.reads.add(e.Block)
			s.mark(l)
		}
	case core.Dial:
		s.dial(e.Addr)
	case core.Drop:
		if l := s.links[e.Link]; l != nil {
			s.log.Debug("drop peer", "peer", l.conn.Remote().Addr, "why", e.Err)
			delete(s.links, e.Link)
			l.conn.Close(e.Err)
		}
	case core.Done:
		s.outcome = e.Outcome
	case core.Completed:
		if s.cfg.Completed != nil {
			s.cfg.Completed()
		}
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

func (s *Swarm) mark(l *link) {
	if !l.dirty {
		l.dirty = true
		s.dirty = append(s.dirty, l)
	}
}

// flush hands to the writers and the storage what the events of this turn have gathered.
func (s *Swarm) flush() {
	for i := 0; i < len(s.dirty); i++ { // it may grow: a full outbox has consequences
		l := s.dirty[i]
		l.dirty = false
		if s.links[l.id] != l {
			continue
		}
		if len(l.control) > 0 {
			out := peer.Outgoing{Control: l.control}
			l.control = nil
			if !l.conn.Send(out) {
				s.fail(l, errOutboxFull)
				continue
			}
		}
		s.read(l)
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}

var errOutboxFull = errors.New("peer does not read what we send")

// fail closes a link from our side and tells the core.
func (s *Swarm) fail(l *link, err error) {
	delete(s.links, l.id)
	l.conn.Close(err)
	s.handle(time.Now(), core.Event{Op: core.Left, Link: l.id, Err: err})
}

// join starts a connection that has shaken hands.
func (s *Swarm) join(now time.Time, nc net.Conn, r peer.Remote) {
	s.nextID++
	id := s.nextID
	s.wg.Add(1) // until the connection's last batch, which comes when its goroutines are done
	conn := peer.Start(nc, r, peer.Config{
		ID:      uint32(id),
		Limits:  r.Limits(s.cfg.Core.Layout.Pieces()),
		Blocks:  s.blocks,
		Deliver: s.deliver,
		OnPanic: s.in.panicked,
	})
	s.links[id] = &link{id: id, conn: conn}
	s.log.Debug("peer joined", "peer", r.Addr, "outgoing", r.Outgoing, "id", fmt.Sprintf("%.8q", r.ID[:8]))
	s.handle(now, core.Event{Op: core.Joined, Link: id, Remote: &core.Remote{
		ID: r.ID, Addr: r.Addr, Outgoing: r.Outgoing, Fast: r.Fast(), Ext: r.Ext(),
	}})
}

// deliver passes on what a connection has for us.
func (s *Swarm) deliver(b *peer.Batch) {
	last := b.Err != nil
	s.in.batch(b)
	if last {
		s.wg.Done()
	}
}

// dial connects and shakes hands on a goroutine of its own.
func (s *Swarm) dial(to netip.AddrPort) {
	s.wg.Go(func() {
		nc, r, err := s.connect(to)
		if err != nil {
			s.log.Debug("dial failed", "peer", to, "why", err)
			s.in.send(message{event: core.Event{Op: core.DialFailed, Addr: to, Err: err}})
			return
		}
		if !s.in.send(message{conn: nc, remote: r}) {
			nc.Close()
		}
	})
}

func (s *Swarm) connect(to netip.AddrPort) (net.Conn, peer.Remote, error) {
	if s.cfg.Dial == nil {
		return nil, peer.Remote{}, errors.New("not dialing")
	}
	nc, err := s.cfg.Dial(s.ctx, to)
	if err != nil {
		return nil, peer.Remote{}, err
	}
	r, err := peer.Initiate(s.ctx, nc, s.cfg.InfoHash, s.cfg.Core.PeerID)
	if err != nil {
		nc.Close()
		return nil, peer.Remote{}, err
	}
	r.Addr = to
	return nc, r, nil
}

// Accept shakes hands on a connection from the listener and passes it to the loop, or closes it. It
// returns soon after ctx or nc ends.
func (s *Swarm) Accept(ctx context.Context, nc net.Conn) {
	known := func(hash [20]byte) bool { return hash == s.cfg.InfoHash }
	r, err := peer.Accept(ctx, nc, known, s.cfg.Core.PeerID)
	if err != nil {
		s.log.Debug("handshake failed", "peer", nc.RemoteAddr(), "why", err)
		nc.Close()
		return
	}
	if !s.in.send(message{conn: nc, remote: r}) {
		nc.Close()
	}
}
