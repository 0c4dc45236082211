package peer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

var errSnubbed = errors.New("snubbed")

// Close ends a connection whatever it is doing, with the first cause, and says so once.
func TestCloseDuring(t *testing.T) { synctest.Test(t, testCloseDuring) }
func testCloseDuring(t *testing.T) {
	piece, _ := block(1, 0, 100)
	for _, tt := range []struct {
		name  string
		setup func(r *rig)
	}{
		{"nothing", func(r *rig) {}},
		{"a read", func(r *rig) { synctest.Wait() }},
		{"a read of a part", func(r *rig) { r.write(piece[:50]) }},
		{"a wait for a buffer", func(r *rig) {
			r.pool.Get(nil)
			r.write(piece)
		}},
		{"a delivery", func(r *rig) { r.write(append(msg(wire.Message{ID: wire.Choke}), piece[:20]...)) }},
		{"a write", func(r *rig) { r.c.Send(Outgoing{Control: append(ControlBuffer(), 1, 2, 3)}) }},
		{"a report", func(r *rig) {
			slab := r.pool.TryGet()
			r.c.Send(Outgoing{Slab: slab, Parts: append(PartBuffer(), Part{Len: 10})})
			r.theirs.Read(make([]byte, 13))
			r.theirs.Read(make([]byte, 10))
		}},
	} {
		r := newRig(t, func(c *Config) { c.Blocks = pool.New(wire.MaxBlock, 1) })
		tt.setup(r)
		synctest.Wait()
		start := time.Now()
		r.c.Close(errSnubbed)
		r.c.Close(errors.New("another cause"))
		var err error
		for err == nil {
			b := <-r.in
			err = b.Err
			b.ReleaseAll()
		}
		if !errors.Is(err, errSnubbed) || time.Since(start) != 0 {
			t.Errorf("during %s: ended by %v after %v", tt.name, err, time.Since(start))
		}
		synctest.Wait()
		select {
		case b := <-r.in:
			t.Errorf("during %s: %+v came after the end", tt.name, b)
		case <-time.After(time.Hour):
		}
		_ = r.theirs.Close()
	}
}

// Close and Send at once with everything else lose no buffer; the race detector watches.
func TestCloseRace(t *testing.T) { synctest.Test(t, testCloseRace) }
func testCloseRace(t *testing.T) {
	piece, _ := block(1, 0, 100)
	for range 200 {
		slabs := pool.New(16<<10, 50)
		r := newRig(t, nil)
		go func() { // the peer
			for {
				if _, err := r.theirs.Write(piece); err != nil {
					return
				}
			}
		}()
		r.drain()
		go func() {
			for r.c.Send(Outgoing{Slab: slabs.Get(nil), Parts: append(PartBuffer(), Part{Len: 10})}) {
			}
		}()
		go r.c.Close(errSnubbed)
		if err := r.end(); !errors.Is(err, errSnubbed) {
			t.Errorf("ended by %v", err)
		}
		synctest.Wait()
		if slabs.Outstanding() != 0 {
			t.Fatalf("%d slabs lent at the end", slabs.Outstanding())
		}
	}
}

func TestCloseWithoutCause(t *testing.T) { synctest.Test(t, testCloseWithoutCause) }
func testCloseWithoutCause(t *testing.T) {
	r := newRig(t, nil)
	if r.c.ID != 7 || r.c.Remote() != (Remote{}) {
		t.Errorf("ID %d, remote %v", r.c.ID, r.c.Remote())
	}
	r.c.Close(nil)
	if err := r.end(); !errors.Is(err, ErrClosed) {
		t.Errorf("ended by %v", err)
	}
}

// Finish lets go out what is queued, but waits no longer than it is told for a peer that does not read.
func TestFinish(t *testing.T) { synctest.Test(t, testFinish) }
func testFinish(t *testing.T) {
	for _, reads := range []bool{true, false} {
		r := newRig(t, nil)
		want := msg(wire.Message{ID: wire.Have, Index: 3})
		r.c.Send(Outgoing{Control: append(ControlBuffer(), want...)})
		start := time.Now()
		r.c.Finish(time.Second)
		if r.c.Send(Outgoing{Control: append(ControlBuffer(), want...)}) {
			t.Error("more is taken")
		}
		limit := time.Second
		read := make(chan struct{})
		if reads {
			limit = 0
			go func() {
				defer close(read)
				if got, err := io.ReadAll(r.theirs); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the peer reads %x, %v; want %x", got, err, want)
				}
			}()
			<-read // before end closes the peer's side
		}
		if err := r.end(); !errors.Is(err, ErrClosed) {
			t.Errorf("ended by %v", err)
		}
		if d := time.Since(start); d != limit {
			t.Errorf("reads %t: ended after %v, want %v", reads, d, limit)
		}
	}
}

// A bug met by either goroutine is reported with its stack, and the connection ends.
func TestOnPanic(t *testing.T) { synctest.Test(t, testOnPanic) }
func testOnPanic(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig)
	}{
		{"reader", func(r *rig) { r.write(msg(wire.Message{ID: wire.Choke})) }},
		{"writer", func(r *rig) {
			r.c.Send(Outgoing{Slab: r.pool.TryGet(), Parts: append(PartBuffer(), Part{Len: 1 << 20})})
		}},
	} {
		panics := 0
		r := newRig(t, func(c *Config) {
			deliver := c.Deliver
			c.Deliver = func(b *Batch) {
				if len(b.Msgs) > 0 {
					panic("a bug")
				}
				deliver(b)
			}
			c.OnPanic = func(v any, stack []byte) {
				if v == nil || len(stack) == 0 {
					t.Errorf("%s: told of %v, %q", tt.name, v, stack)
				}
				panics++
			}
		})
		go tt.do(r)
		if err := r.end(); !errors.Is(err, errPanicked) || panics != 1 {
			t.Errorf("%s: ended by %v after %d panics", tt.name, err, panics)
		}
	}
}

func TestStartRefusesNonsense(t *testing.T) {
	deliver, good := func(*Batch) {}, pool.New(wire.MaxBlock, 1)
	for name, cfg := range map[string]Config{
		"no pool": {Deliver: deliver}, "small buffers": {Blocks: pool.New(100, 1), Deliver: deliver}, "no owner": {Blocks: good},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Start(nil, Remote{}, cfg)
		}()
	}
}

// Where a connection has two halves, Finish ends ours and waits for the peer to end its own: closing at once would lose what is
// on its way if the peer has just sent something.
func TestFinishWaitsForThePeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	c := Start(ours, Remote{}, Config{Limits: plain, Blocks: pool.New(wire.MaxBlock, 1), Deliver: func(b *Batch) {
		if b.Err != nil {
			ended <- b.Err
		}
	}})
	want := msg(wire.Message{ID: wire.Have, Index: 3})
	c.Send(Outgoing{Control: append(ControlBuffer(), want...)})
	c.Finish(time.Minute)
	if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer reads %x, %v; want %x", got, err, want)
	}
	if _, err := theirs.Write(want); err != nil {
		t.Errorf("the peer cannot write: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("ended by %v before the peer has closed", err)
	default:
	}
	theirs.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v, want the peer's end", err)
	}
}
