package peer

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

func newOutbox(items, size int) *outbox {
	return &outbox{wake: make(chan struct{}, 1), maxItems: items, maxBytes: size}
}

// control returns a message of n bytes that are all of one value.
func control(value byte, n int) Outgoing {
	o := Outgoing{Control: ControlBuffer()}
	for range n {
		o.Control = append(o.Control, value)
	}
	return o
}

func TestOutboxJoins(t *testing.T) {
	slabs := pool.New(16, 4)
	slab := func() Outgoing { return Outgoing{Slab: slabs.TryGet(), Parts: append(PartBuffer(), Part{Len: 16})} }
	for _, tt := range []struct {
		name string
		put  []Outgoing
		want int // items
	}{
		{"small ones join", []Outgoing{control(1, 9), control(2, 9), control(3, 9)}, 1},
		{"until the buffer is full", []Outgoing{control(1, controlSize-5), control(2, 5), control(3, 1)}, 2},
		{"not behind blocks", []Outgoing{slab(), control(1, 9)}, 2},
		{"blocks never", []Outgoing{control(1, 9), slab()}, 2},
		{"after blocks again", []Outgoing{slab(), control(1, 9), control(2, 9)}, 2},
	} {
		b := newOutbox(10, 1<<20)
		for _, o := range tt.put {
			if !b.put(o) {
				t.Errorf("%s: refused", tt.name)
			}
		}
		if len(b.items) != tt.want {
			t.Errorf("%s: %d items, want %d", tt.name, len(b.items), tt.want)
		}
		b.close()
	}
	if slabs.Outstanding() != 0 {
		t.Errorf("%d slabs lent at the end", slabs.Outstanding())
	}
}

// Whatever is put and taken: bytes come out in the order in which they went in, the bounds hold, what
// is refused leaves no trace, and every slab is given back once.
func TestOutboxModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		const maxItems, maxBytes = 6, 5000
		b, slabs := newOutbox(maxItems, maxBytes), pool.New(2000, 100)
		var want, got []byte
		read := func(items []Outgoing) {
			for i := range items {
				got = append(got, items[i].Control...)
				for _, p := range items[i].Parts {
					got = append(got, items[i].Slab.Bytes()[p.Off:p.Off+p.Len]...)
				}
				items[i].release()
			}
		}
		for step := range 60 {
			value := byte(step)
			switch rng.IntN(3) {
			case 0:
				n := 1 + rng.IntN(400)
				if b.put(control(value, n)) {
					want = append(want, bytes.Repeat([]byte{value}, n)...)
				}
			case 1:
				o := control(value, rng.IntN(20))
				o.Slab, o.Parts = slabs.TryGet(), PartBuffer()
				for i := range o.Slab.Bytes() {
					o.Slab.Bytes()[i] = value
				}
				for range rng.IntN(3) {
					o.Parts = append(o.Parts, Part{Off: rng.IntN(1000), Len: 1 + rng.IntN(1000)})
				}
				n := o.bytes()
				if b.put(o) {
					want = append(want, bytes.Repeat([]byte{value}, n)...)
				}
			case 2:
				read(b.take(nil, 1+rng.IntN(3000)))
			}
			queued := 0
			for i := range b.items {
				queued += b.items[i].bytes()
			}
			if queued != b.bytes || queued > maxBytes || len(b.items) > maxItems || slabs.Outstanding() != slabsIn(b.items) {
				t.Fatalf("%d bytes counted as %d in %d items, %d slabs lent", queued, b.bytes, len(b.items), slabs.Outstanding())
			}
		}
		read(b.take(nil, 1<<30))
		if !bytes.Equal(got, want) {
			t.Fatal("what came out is not what went in")
		}
		b.put(Outgoing{Slab: slabs.TryGet()})
		b.close()
		if b.put(Outgoing{Slab: slabs.TryGet()}) || b.put(control(1, 1)) {
			t.Error("a closed outbox takes messages")
		}
		if slabs.Outstanding() != 0 {
			t.Fatalf("%d slabs lent at the end", slabs.Outstanding())
		}
	}
}

func slabsIn(items []Outgoing) (n int) {
	for _, o := range items {
		if o.Slab != nil {
			n++
		}
	}
	return n
}

// A portion is at least one item, and ends with the one that reaches the limit.
func TestOutboxTake(t *testing.T) {
	for _, tt := range []struct{ limit, want int }{{1, 1}, {1000, 1}, {1001, 2}, {2000, 2}, {9999, 4}} {
		b := newOutbox(10, 1<<20)
		for i := range 4 {
			b.put(control(byte(i), controlSize)) // full, so that they do not join
		}
		b.items[0].Control = b.items[0].Control[:1000]
		b.bytes -= controlSize - 1000
		if got := b.take(nil, tt.limit); len(got) != tt.want || len(b.items) != 4-tt.want {
			t.Errorf("limit %d: took %d items, want %d", tt.limit, len(got), tt.want)
		}
	}
}

// The largest messages that the limits allow come through, though they outgrow the first buffer,
// and nothing is allocated for what has only been announced.
func TestLargestMessages(t *testing.T) {
	for _, m := range []wire.Message{
		{ID: wire.Bitfield, Payload: noise[:wire.MaxPieces/8]},
		{ID: wire.Extended, ExtID: 3, Payload: noise[:wire.MaxExtended]},
	} {
		var got []byte
		c := &Conn{cfg: Config{Limits: wire.Limits{Ext: true}, Deliver: func(b *Batch) {
			got = append(got, b.Msgs[0].Payload...)
			b.Recycle()
		}}}
		r := &reader{c: c, buf: make([]byte, minRead)}
		arrived := 0
		for raw := msg(m); len(raw) > 0; {
			r.fit()
			n := copy(r.buf[r.to:], raw[:min(len(raw), 5000)])
			r.to += n
			r.full = r.to == len(r.buf)
			raw = raw[n:]
			arrived += n
			if len(r.buf) > max(minRead, 2*arrived) {
				t.Errorf("%v: a buffer of %d bytes for the %d that have come", m.ID, len(r.buf), arrived)
			}
			if _, err := r.parse(); err != nil {
				t.Fatal(err)
			}
			r.flush()
		}
		if !bytes.Equal(got, m.Payload) {
			t.Errorf("%v: %d bytes came through, want %d", m.ID, len(got), len(m.Payload))
		}
	}
}
