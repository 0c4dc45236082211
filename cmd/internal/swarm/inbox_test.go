package swarm

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/pool"
	"bittern/peer/wire"
	"bittern/piece/storage"
)

// A sender puts messages that own something into an inbox.
type sender struct {
	in    *Inbox
	pool  *pool.Pool
	conns []*watched
}

// A watched counts how often it was closed.
type watched struct {
	net.Conn
	mu     sync.Mutex
	closed int
}

func (w *watched) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed++
	return nil
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// send posts one message of each kind.
func (s *sender) send() {
	w := &watched{}
	s.conns = append(s.conns, w)
	s.in.post(message{batch: &peer.Batch{Msgs: []peer.Received{{Buf: s.pool.TryGet()}, {}, {Buf: s.pool.TryGet()}}}})
	s.in.Storage(storage.Event{Op: storage.ReadDone, Read: storage.ReadJob{Buf: s.pool.TryGet()}})
	s.in.Storage(storage.Event{Op: storage.Verified, Piece: 1})
	s.in.post(message{opened: &opened{conn: w}})
	s.in.Found([]netip.AddrPort{host(1)}, core.SourceTracker)
	s.in.Sources(true)
	s.in.Panicked("a bug", nil)
}

// check checks that everything was given back.
func (s *sender) check(t *testing.T) {
	t.Helper()
	if n := s.pool.Outstanding(); n != 0 {
		t.Errorf("%d buffers are lent", n)
	}
	for _, w := range s.conns {
		if w.count() != 1 {
			t.Errorf("a connection was closed %d times", w.count())
		}
	}
}

// TestInboxEnd checks what becomes of messages that nobody takes, sent before and after the end.
func TestInboxEnd(t *testing.T) {
	s := &sender{in: NewInbox(), pool: pool.New(wire.MaxBlock, 100)}
	s.send()
	want := core.Snapshot{Left: 77}
	s.in.close(want)
	s.check(t)
	for range inboxSize { // so that many coins would be tossed
		s.send()
	}
	s.check(t)
	if got := s.in.Snapshot(); got != want {
		t.Errorf("Snapshot = %+v after the end, want the last one", got)
	}
}

// TestInboxFull checks that a full inbox blocks everybody until it has ended.
func TestInboxFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := NewInbox()
		for range inboxSize {
			in.Sources(true)
		}
		senders := make([]*sender, 8)
		var wg sync.WaitGroup
		for i := range senders {
			s := &sender{in: in, pool: pool.New(wire.MaxBlock, 100)}
			senders[i] = s
			wg.Go(s.send)
			wg.Go(func() { in.Snapshot() })
		}
		synctest.Wait()
		for _, s := range senders {
			if n := s.pool.Outstanding(); n != 2 {
				t.Errorf("%d buffers are lent by one who is to wait at its first message", n)
			}
		}
		in.close(core.Snapshot{})
		wg.Wait()
		for _, s := range senders {
			s.check(t)
		}
	})
}

// TestInboxRace has messages come at the very moment of the end.
func TestInboxRace(t *testing.T) {
	for range 200 {
		in := NewInbox()
		senders := make([]*sender, 4)
		var wg sync.WaitGroup
		for i := range senders {
			s := &sender{in: in, pool: pool.New(wire.MaxBlock, 100)}
			senders[i] = s
			wg.Go(func() {
				for range 3 {
					s.send()
				}
			})
		}
		wg.Go(func() {
			for range 10 {
				m := <-in.c
				m.discard()
			}
			in.close(core.Snapshot{})
		})
		wg.Wait()
		for _, s := range senders {
			s.check(t)
		}
	}
}

// TestSnapshotBefore checks that a snapshot that is asked for early waits for the swarm.
func TestSnapshotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newIdle(t)
		got := make(chan core.Snapshot, 1)
		go func() { got <- d.s.in.Snapshot() }()
		synctest.Wait()
		select {
		case s := <-got:
			t.Errorf("Snapshot = %+v before there is a swarm", s)
		default:
		}
		d.start()
		if s := <-got; s.Left != int64(len(d.o.data)) {
			t.Errorf("Snapshot = %+v", s)
		}
		d.stop()
	})
}

// TestLargeBatches checks that a connection has one large batch on the way at a time, and no more
// after the end.
func TestLargeBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newIdle(t)
		var ended sync.WaitGroup
		d.s.wg.Add(1)
		ended.Go(func() {
			for i := range 5 {
				b := &peer.Batch{Conn: &peer.Conn{ID: 99}}
				b.Msgs = append(b.Msgs, peer.Received{Message: wire.Message{ID: wire.Extended, ExtID: 9, Payload: make([]byte, 128*kib)}})
				if i == 4 {
					b.Err = peer.ErrClosed
				}
				d.s.deliver(b)
			}
		})
		synctest.Wait()
		if n := len(d.s.in.c); n != 1 {
			t.Errorf("%d large batches are on the way, want 1", n)
		}
		m := <-d.s.in.c
		m.discard()
		synctest.Wait()
		if n := len(d.s.in.c); n != 1 {
			t.Errorf("%d large batches are on the way after one was taken, want 1", n)
		}
		d.start()
		d.stop()
		ended.Wait()
	})
}
