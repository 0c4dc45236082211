package peer

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/pool"
	"bittern/peer/simnet"
	"bittern/peer/wire"
)

// Two connections, a handshake between them, and a link of 10 MB/s with 50 ms of round trip: with
// enough requests outstanding the blocks fill the link, and both ends know what was moved.
func TestTransfer(t *testing.T) { synctest.Test(t, testTransfer) }
func testTransfer(t *testing.T) {
	const blocks, window, rate = 1000, 100, 10e6
	n := simnet.New(1)
	seed, leech := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:0")
	n.SetHost(seed.Addr(), simnet.Host{Up: rate, Delay: 25 * time.Millisecond})
	l, err := n.Listen(seed)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan int)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		served <- serve(t, nc)
	}()
	nc, err := n.Dial(t.Context(), leech, seed)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r, err := Initiate(t.Context(), nc, hash, Greeting{ID: ourID})
	if err != nil {
		t.Fatal(err)
	}
	in := make(chan *Batch, 4)
	buffers := pool.New(wire.MaxBlock, 20)
	c := Start(nc, r, Config{Limits: r.Limits(blocks), Blocks: buffers, Deliver: func(b *Batch) { in <- b }})
	asked, got := uint32(0), uint32(0)
	ask := func(k int) {
		o := Outgoing{Control: ControlBuffer()}
		for ; k > 0 && asked < blocks; k-- {
			o.Control = wire.Append(o.Control, wire.Message{ID: wire.Request, Index: asked, Length: wire.MaxBlock})
			asked++
		}
		if !c.Send(o) {
			t.Fatal("outbox is full")
		}
	}
	ask(window)
	want := make([]byte, wire.MaxBlock)
	for got < blocks {
		b := <-in
		if b.Err != nil {
			t.Fatalf("ended by %v after %d blocks", b.Err, got)
		}
		for _, m := range b.Msgs {
			want[0], want[len(want)-1] = byte(m.Index), byte(m.Index>>8)
			if m.ID != wire.Piece || m.Index != got || !bytes.Equal(m.Buf.Bytes(), want) {
				t.Fatalf("message %v of piece %d came, want block %d", m.ID, m.Index, got)
			}
			m.Buf.Release()
			got++
		}
		ask(len(b.Msgs))
		b.Recycle()
	}
	took := time.Since(start)
	c.Close(nil)
	for b := range in {
		if b.Err != nil {
			break
		}
	}
	if sent := <-served; sent != blocks*wire.MaxBlock {
		t.Errorf("%d bytes reported as sent, want %d", sent, blocks*wire.MaxBlock)
	}
	if ideal := time.Duration(blocks * wire.MaxBlock / rate * 1e9); took < ideal || took > ideal*102/100+200*time.Millisecond {
		t.Errorf("took %v, the link needs %v", took, ideal)
	}
	if buffers.Outstanding() != 0 {
		t.Errorf("%d buffers lent at the end", buffers.Outstanding())
	}
}

// serve answers requests until the other end leaves, and returns the bytes reported as sent.
func serve(t *testing.T, nc net.Conn) (sent int) {
	r, err := Accept(t.Context(), nc, isOurs, Greeting{ID: peerID})
	if err != nil {
		t.Error(err)
		return 0
	}
	slabs := pool.New(wire.MaxBlock, 200)
	in := make(chan *Batch, 4)
	c := Start(nc, r, Config{Limits: r.Limits(0), Blocks: pool.New(wire.MaxBlock, 1), Deliver: func(b *Batch) { in <- b }})
	for b := range in {
		sent += b.SentBytes
		for _, m := range b.Msgs {
			slab := slabs.TryGet()
			data := slab.Bytes()
			data[0], data[len(data)-1] = byte(m.Index), byte(m.Index>>8)
			if !c.Send(Outgoing{Slab: slab, Parts: append(PartBuffer(), Part{Index: m.Index, Len: int(m.Length)})}) {
				t.Error("outbox is full")
			}
		}
		if b.Err != nil {
			if errors.Is(b.Err, wire.ErrProtocol) {
				t.Errorf("ended by %v", b.Err)
			}
			break
		}
		b.Recycle()
	}
	if slabs.Outstanding() != 0 {
		t.Errorf("%d slabs lent at the end", slabs.Outstanding())
	}
	return sent
}
