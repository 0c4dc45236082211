// Package swarm runs the core of one torrent: it owns the connections, hands blocks to the
// storage, keeps the one timer, and does what the core decides.
//
// A swarm that knows no more than an info-hash begins with the phase that fetches the metadata
// ([NewFetch]), tells whoever waits for it, and goes on with the content that [Inbox.Proceed] brings.
//
// One goroutine, the loop, owns the phase, which is a [core.Fetch] or a [core.Core], and the map of links; no lock guards them. All
// others reach it through the [Inbox]: the readers and writers of the connections, the storage, the
// dialers and the sources of addresses. They may block there, which is the back-pressure that in the
// end shuts a sender's TCP window; the loop itself blocks on nobody. A peer whose outbox is full is
// dropped.
//
// # Buffers
//
// A buffer belongs to the message that carries it. The block of an incoming message is the loop's
// while the core looks at it, and then the storage's or the pool's again. A buffer for upload goes to
// the storage with the read, comes back with its event and passes to the connection's writer.
// Whatever is in the inbox when the swarm ends, or comes later, is given back there.
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

// A Config sets up a [Swarm]. InfoHash must be given.
type Config struct {
	InfoHash [20]byte

	// Dial connects to a peer, within 10 seconds: then ctx ends. Nil means never.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	// Local reports whether an error of Dial says something about this machine, such as that it has
	// no network or no file descriptors left, and so nothing about the address. It is called on many
	// goroutines. Nil means that no error does.
	Local func(error) bool

	// Node is told on the loop where a peer says that its DHT node is (BEP 5); it must not block. Nil means that
	// there is no DHT: peers are not told that we run a node.
	Node func(at netip.AddrPort)

	Log *slog.Logger // nil means discard

	// Resolved is called on the loop with the info dictionary that hashes to InfoHash; it must not block. A
	// swarm that has its content from the start does not call it.
	Resolved func(info []byte)

	// Completed is called on the loop when all is verified and seeding goes on; it must not
	// block. Nil means nobody wants to know.
	Completed func()
}

// A Content is what a swarm works on once the torrent is known.
type Content struct {
	Core  core.Config // PeerID is also what handshakes say
	Store *storage.Store
}

const (
	// downloadBuffers blocks may be on the way between the sockets and the storage.
	downloadBuffers = 512

	// readBudget is what the read buffers of all peers take beyond the least, in bytes: as much as the usual 80 peers can use.
	readBudget = 24 << 20

	// slabSize is the largest read for upload. Runs of requests share one.
	slabSize = 256 << 10
)

// farewell is how long a swarm that is complete waits for its last messages to go out.
const farewell = 500 * time.Millisecond

// A Swarm downloads and seeds one torrent.
type Swarm struct {
	cfg Config
	id  [20]byte // our peer id
	in  *Inbox
	log *slog.Logger
	wg  sync.WaitGroup // dials, checks, and connections until their last batch

	blocks, small, slabs *pool.Pool
	readBudget           *peer.Budget

	// ---- owned by the loop ----
	ctx     context.Context // of the dials; ends with the loop
	content Content
	fetch   *core.FetchConfig // of a swarm that begins without content
	phase   phase
	info    []byte           // the good copy of the metadata that the phase is being told of
	early   []*storage.Event // of a store that is being opened: it is not ours yet
	links   map[core.LinkID]*link
	dirty   []*link // have something to flush
	held    []*link // have reads that wait for a buffer
	retry   []*link // the array that held had before
	nextID  core.LinkID
	buf     *pool.Buffer // the block of the event being handled
	outcome core.Outcome
	err     error // the first one
}

// A phase is who decides: a [core.Fetch], then a [core.Core].
type phase interface {
	Handle(time.Time, core.Event) []core.Effect
	Next() time.Time
	Snapshot(time.Time) core.Snapshot
}

// New returns a swarm that listens to in, which serves no other.
func New(in *Inbox, cfg Config, content Content) *Swarm {
	s := newSwarm(in, cfg, content.Core.PeerID)
	s.content = content
	s.content.Core.Explain = explains(s.log)
	return s
}

// NewFetch returns a swarm without content yet: it fetches the metadata first.
func NewFetch(in *Inbox, cfg Config, fetch core.FetchConfig) *Swarm {
	s := newSwarm(in, cfg, fetch.PeerID)
	fetch.Explain = explains(s.log)
	s.fetch = &fetch
	return s
}

func newSwarm(in *Inbox, cfg Config, id [20]byte) *Swarm {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Swarm{
		cfg: cfg, id: id, in: in, log: cfg.Log,
		links:  make(map[core.LinkID]*link),
		blocks: pool.New(blockSize, downloadBuffers),
		small:  pool.New(blockSize, core.ReadCredit/blockSize),
		slabs:  pool.New(slabSize, core.ReadCredit/slabSize),

		readBudget: peer.NewBudget(readBudget),
	}
}

// A PanicError is a bug of ours that was caught on a goroutine which serves input.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("bug: %v", e.Value) }

var errStopped = errors.New("stopped")

// Run runs the swarm, once, until the phase is done, the storage fails or ctx ends. It returns how
// it ended, or the first error, which is ctx's cause where that ended it, and a *[PanicError]
// after a bug. All connections are closed and all goroutines gone when it returns; the storage is
// left open, and may hold blocks until it is closed.
func (s *Swarm) Run(ctx context.Context) (core.Outcome, error) {
	inner, cancel := context.WithCancel(ctx)
	s.ctx = inner
	s.guard(func() { s.loop(ctx) })
	var last core.Snapshot
	s.guard(func() { last = s.phase.Snapshot(time.Now()) })
	s.releaseBlock() // a panic may have left it
	for _, ev := range s.early {
		recycle(ev)
	}
	cancel()
	for _, l := range s.links {
		if s.outcome.Succeeded() && s.err == nil {
			l.conn.Finish(farewell) // who serves us may wait to hear that we have everything
		} else {
			l.conn.Close(errStopped)
		}
	}
	last.Uploaded += s.settle()
	s.in.close(last)
	return s.outcome, s.err
}

// settle waits until all connections are closed, and returns how many bytes of blocks had gone out meanwhile or just before:
// the trackers are told of them too.
func (s *Swarm) settle() (sent int64) {
	closed := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(closed)
	}()
	take := func(m message) {
		if m.batch != nil {
			sent += int64(m.batch.SentBytes)
		}
		m.discard()
	}
	for {
		select {
		case m := <-s.in.c:
			take(m)
			continue
		case <-closed:
		}
		for {
			select {
			case m := <-s.in.c:
				take(m)
			default:
				return sent
			}
		}
	}
}

// guard runs f and takes a panic for the end of the swarm.
func (s *Swarm) guard(f func()) {
	defer func() {
		if v := recover(); v != nil {
			s.fail(&PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	f()
}

// fail ends the swarm with an error, unless one has ended it already.
func (s *Swarm) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// running reports whether nothing has ended the swarm yet.
func (s *Swarm) running() bool { return s.outcome == core.Running && s.err == nil }

// loop is the one goroutine that owns the core.
func (s *Swarm) loop(ctx context.Context) {
	if s.fetch != nil {
		s.phase = core.NewFetch(time.Now(), *s.fetch)
	} else {
		s.phase = core.New(time.Now(), s.content.Core)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var armed time.Time
	for s.running() {
		select {
		case m := <-s.in.c:
			s.turn(m)
		case <-timer.C:
			armed = time.Time{}
			s.handle(time.Now(), core.Event{Op: core.Tick})
			s.flush()
		case <-ctx.Done():
			s.fail(context.Cause(ctx))
			return
		}
		if next := s.phase.Next(); !next.Equal(armed) {
			armed = next
			if next.IsZero() {
				timer.Stop()
			} else {
				timer.Reset(time.Until(next))
			}
		}
	}
}

// turn handles m and what else is waiting, so that one flush serves many events.
func (s *Swarm) turn(m message) {
	now := time.Now()
	s.take(now, m)
	s.drain(now)
	s.flush()
}

// drain takes what is waiting, but no more than the inbox holds, lest the flush be put off for ever.
func (s *Swarm) drain(now time.Time) {
	for n := 0; n < inboxSize && s.running(); n++ {
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
		if m.taken != nil {
			close(m.taken)
		}
	case m.store != nil:
		s.stored(now, m.store)
	case m.opened != nil:
		s.join(now, m.opened)
	case m.ask != nil:
		m.ask <- s.phase.Snapshot(now)
	case m.checked != nil:
		s.checked(now, m.checked)
	case m.content != nil:
		s.proceed(now, *m.content)
	case m.bug != nil:
		s.fail(m.bug)
	case m.event != nil:
		if m.event.Op == core.DialFailed {
			s.log.Debug("dial failed", "peer", m.event.Addr, "why", m.event.Err)
		}
		s.handle(now, *m.event)
	}
}

// stored handles an event of the storage.
func (s *Swarm) stored(now time.Time, ev *storage.Event) {
	if s.content.Store == nil {
		s.early = append(s.early, ev)
		return
	}
	switch ev.Op {
	case storage.Verified, storage.Failed:
		s.handle(now, core.Event{Op: core.Verified, Piece: ev.Piece, OK: ev.Op == storage.Verified, Sums: ev.Sums})
	case storage.ReadDone:
		s.sendRead(ev)
	case storage.Complete:
		s.handle(now, core.Event{Op: core.Stored})
	case storage.Fault:
		s.fail(ev.Err)
	case storage.FileDone:
		s.log.Debug("file complete", "number", ev.File+1)
	}
	recycle(ev)
}

// handle tells the core and does what it decides.
func (s *Swarm) handle(now time.Time, ev core.Event) {
	s.doAll(s.phase.Handle(now, ev))
}

func (s *Swarm) doAll(effects []core.Effect) {
	for i := range effects {
		s.do(&effects[i])
	}
}

// do carries out one effect. Nothing here calls the core, whose list of effects is being read.
func (s *Swarm) do(e *core.Effect) {
	switch e.Op {
	case core.Send:
		if l := s.links[e.Link]; l != nil {
			l.control = wire.Append(s.controlOf(l), e.Msg)
		}
	case core.Write:
		s.content.Store.Write(e.Block, s.buf)
		s.buf = nil
	case core.Forget:
		s.content.Store.Forget(e.Block)
	case core.Release:
		s.releaseBlock()
	case core.ReadBlock:
		if l := s.links[e.Link]; l != nil {
			if l.reads.add(e.Block); len(l.reads.runs) > core.MaxQueue {
				l.conn.Close(errManyReads)
			}
			s.mark(l)
		}
	case core.Dial:
		s.dial(e.Addr)
	case core.Drop:
		s.drop(e.Link, e.Err)
	case core.Done:
		s.outcome = e.Outcome
		if e.Number > 0 {
			s.log.Warn("seeding ends before every piece is out", "pieces", e.Number)
		}
	case core.Node:
		if s.cfg.Node != nil {
			s.cfg.Node(e.Addr)
		}
	case core.Explain:
		s.explain(e.Note)
	case core.Check:
		s.check(e.Number, e.Parts)
	case core.Resolved:
		s.cfg.Resolved(s.info)
	case core.Completed:
		if s.cfg.Completed != nil {
			s.cfg.Completed()
		}
	}
}

// releaseBlock lets go of the block of the event being handled, if nobody has taken it.
func (s *Swarm) releaseBlock() {
	if s.buf != nil {
		s.buf.Release()
		s.buf = nil
	}
}
