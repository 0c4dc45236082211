package peer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

func TestKeepAlive(t *testing.T) { synctest.Test(t, testKeepAlive) }
func testKeepAlive(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Silence = time.Hour })
	start := time.Now()
	next := func(want []byte, at time.Duration) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r.theirs, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %x, %v; want %x", got, err, want)
		}
		if d := time.Since(start); d != at {
			t.Errorf("%x came after %v, want exactly %v", want, d, at)
		}
	}
	empty, have := []byte{0, 0, 0, 0}, msg(wire.Message{ID: wire.Have})
	const every = 100 * time.Second // others close what has been silent for two minutes
	next(empty, every)
	next(empty, 2*every)
	time.Sleep(time.Minute)
	r.c.Send(Outgoing{Control: append(ControlBuffer(), have...)})
	next(have, 2*every+time.Minute)
	next(empty, 3*every+time.Minute) // after the last message, not after the last keep-alive
	r.c.Close(nil)
	r.end()
}

// Whatever is sent, in whatever portions, arrives as the bytes that it stands for, is reported
// once, and all that was handed over is given back.
func TestSend(t *testing.T) { synctest.Test(t, testSend) }
func testSend(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		slabs := pool.New(256<<10, 4)
		r := newRig(t, nil)
		var want []byte
		sent := 0
		for range 30 {
			o := Outgoing{}
			for range rng.IntN(3) {
				m := wire.Message{ID: wire.Request, Index: rng.Uint32(), Begin: rng.Uint32(), Length: rng.Uint32()}
				if o.Control == nil {
					o.Control = ControlBuffer()
				}
				o.Control = wire.Append(o.Control, m)
				want = wire.Append(want, m)
			}
			if slab := slabs.TryGet(); slab != nil {
				o.Slab, o.Parts = slab, PartBuffer()
				for i := range rng.IntN(20) {
					p := Part{Index: uint32(i), Begin: rng.Uint32(), Off: i * 12000, Len: 1 + rng.IntN(12000)}
					m, data := block(p.Index, p.Begin, p.Len)
					copy(slab.Bytes()[p.Off:], data)
					o.Parts = append(o.Parts, p)
					want = append(want, m...)
					sent += p.Len
				}
			}
			if !r.c.Send(o) {
				t.Fatal("outbox is full too early")
			}
			if rng.IntN(4) == 0 {
				want, sent = r.expect(want, sent)
			}
		}
		r.expect(want, sent)
		if slabs.Outstanding() != 0 {
			t.Errorf("%d slabs lent at the end", slabs.Outstanding())
		}
		r.c.Close(nil)
		r.end()
	}
}

// expect reads these bytes and reports of so many bytes of blocks, and nothing more.
func (r *rig) expect(want []byte, sent int) ([]byte, int) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r.theirs, got); err != nil || !bytes.Equal(got, want) {
			r.t.Errorf("%d bytes came, %v; they are others than were sent", len(got), err)
		}
	}()
	reported := 0
	for reported < sent {
		b := <-r.in
		if len(b.Msgs) > 0 || b.Err != nil || b.SentBytes <= 0 {
			r.t.Fatalf("odd report %+v", b)
		}
		reported += b.SentBytes
		b.Recycle()
	}
	<-done
	synctest.Wait()
	if reported != sent {
		r.t.Errorf("%d bytes reported, %d sent", reported, sent)
	}
	return nil, 0
}

// A peer that reads nothing is dropped after a minute, and what was queued is given back.
func TestWriteStall(t *testing.T) { synctest.Test(t, testWriteStall) }
func testWriteStall(t *testing.T) {
	slabs := pool.New(16<<10, 2)
	r := newRig(t, nil)
	start := time.Now()
	for range 2 {
		r.c.Send(Outgoing{Slab: slabs.TryGet(), Parts: append(PartBuffer(), Part{Len: 100})})
		synctest.Wait()
	}
	err := r.end()
	if d := time.Since(start); !errors.Is(err, ErrStalled) || d != time.Minute {
		t.Errorf("dropped after %v by %v", d, err)
	}
	if slabs.Outstanding() != 0 {
		t.Errorf("%d slabs lent at the end", slabs.Outstanding())
	}
}

// A peer that reads slowly, but reads, stays however long a write takes.
func TestSlowWriteIsNotStalled(t *testing.T) { synctest.Test(t, testSlowWriteIsNotStalled) }
func testSlowWriteIsNotStalled(t *testing.T) {
	slabs := pool.New(16<<10, 1)
	r := newRig(t, func(c *Config) { c.Silence = time.Hour })
	slab := slabs.TryGet()
	_, data := block(5, 0, 16<<10)
	copy(slab.Bytes(), data)
	want, _ := block(5, 0, 16<<10)
	r.c.Send(Outgoing{Slab: slab, Parts: append(PartBuffer(), Part{Index: 5, Len: 16 << 10})})
	for len(want) > 0 {
		got := make([]byte, min(len(want), 2000))
		if _, err := io.ReadFull(r.theirs, got); err != nil || !bytes.Equal(got, want[:len(got)]) {
			t.Fatalf("after a time-out with progress the bytes went on wrongly: %v", err)
		}
		want = want[len(got):]
		time.Sleep(50 * time.Second)
	}
	b := <-r.in
	if b.SentBytes != 16<<10 {
		t.Errorf("%+v, want the report of a block", b)
	}
	r.c.Close(nil)
	r.end()
}

func TestOutboxIsBounded(t *testing.T) { synctest.Test(t, testOutboxIsBounded) }
func testOutboxIsBounded(t *testing.T) {
	slabs := pool.New(16<<10, 100)
	one := func() Outgoing {
		return Outgoing{Slab: slabs.TryGet(), Parts: append(PartBuffer(), Part{Len: 1000})}
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   int // messages taken besides the one being written
	}{
		{"by count", func(c *Config) { c.OutboxCap = 5 }, 5},
		{"by bytes", func(c *Config) { c.OutboxBytes = 7999 }, 7},
	} {
		r := newRig(t, tt.change)
		r.c.Send(one())
		synctest.Wait() // the writer has it, and nobody reads
		n := 0
		for r.c.Send(one()) {
			n++
		}
		if n != tt.want || slabs.Outstanding() != n+1 {
			t.Errorf("%s: %d taken, want %d; %d slabs lent", tt.name, n, tt.want, slabs.Outstanding())
		}
		r.c.Close(nil)
		r.end()
		if slabs.Outstanding() != 0 {
			t.Errorf("%s: %d slabs lent at the end", tt.name, slabs.Outstanding())
		}
		if r.c.Send(one()) || slabs.Outstanding() != 0 {
			t.Errorf("%s: a closed connection takes messages", tt.name)
		}
	}
}

// Thousands of haves to a peer that is slow to read take bytes of the outbox and not slots.
func TestSmallMessagesJoin(t *testing.T) { synctest.Test(t, testSmallMessagesJoin) }
func testSmallMessagesJoin(t *testing.T) {
	r := newRig(t, nil)
	var want []byte
	for i := range uint32(10_000) {
		m := msg(wire.Message{ID: wire.Have, Index: i})
		want = append(want, m...)
		if !r.c.Send(Outgoing{Control: append(ControlBuffer(), m...)}) {
			t.Fatalf("outbox is full after %d haves", i)
		}
	}
	r.expect(want, 0)
	r.c.Close(nil)
	r.end()
}

func TestOutgoingIsRecycled(t *testing.T) {
	if n := testing.AllocsPerRun(1000, func() {
		o := Outgoing{Control: append(ControlBuffer(), 1, 2, 3), Parts: append(PartBuffer(), Part{})}
		o.release()
	}); n > 1 { // not recycled it would be 2; the race detector makes pools lose some
		t.Errorf("%v allocations for a message", n)
	}
	grown := Outgoing{Control: make([]byte, 10, 1<<20), Parts: make([]Part, 1, 1000)}
	grown.release() // is left to the collector
	if cap(ControlBuffer()) > 4*controlSize || cap(PartBuffer()) > 4*partCount {
		t.Error("grown buffers are kept")
	}
}
