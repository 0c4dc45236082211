package peer

import (
	"net"
	"testing"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// In steady state neither a block that comes nor one that goes costs an allocation. What is
// recycled through a sync.Pool may be lost, and is at random under the race detector: a few
// allocations for 16 blocks are forgiven, where one a block would make 16.
func TestBlocksDoNotAllocate(t *testing.T) {
	raw, _ := block(1, 0, wire.MaxBlock)
	src := &endless{raw: raw, most: 1 << 30}
	got := 0
	c := &Conn{nc: src, cfg: Config{Limits: plain, Blocks: pool.New(wire.MaxBlock, 64), Deliver: func(b *Batch) {
		got += len(b.Msgs)
		b.ReleaseAll()
		b.Recycle()
	}}.withDefaults()}
	r := &reader{c: c, buf: make([]byte, minRead)}
	read := func() {
		if err := r.fill(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.parse(); err != nil {
			t.Fatal(err)
		}
		r.flush()
	}
	for range 100 { // until the buffer has grown and the pools are full
		read()
	}
	got = 0
	if n := testing.AllocsPerRun(200, read); n > 4 || got < 200*16 {
		t.Errorf("reading: %v allocations for each of %d reads, %d blocks", n, 200, got)
	}

	slabs := pool.New(16*wire.MaxBlock, 1)
	out := &outbox{wake: make(chan struct{}, 1), maxItems: 10, maxBytes: 1 << 20}
	c.nc = sink{}
	w := &writer{c: c}
	write := func() {
		o := Outgoing{Control: append(ControlBuffer(), raw[:9]...), Slab: slabs.TryGet(), Parts: PartBuffer()}
		for i := range 16 {
			o.Parts = append(o.Parts, Part{Off: i * wire.MaxBlock, Len: wire.MaxBlock})
		}
		if !out.put(o) {
			t.Fatal("outbox is full")
		}
		w.items = out.take(w.items[:0], writeSize)
		if err := w.send(); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		write()
	}
	if n := testing.AllocsPerRun(200, write); n > 4 {
		t.Errorf("writing: %v allocations for 16 blocks", n)
	}
}

// A sink swallows what is written.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error)      { return len(b), nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }
