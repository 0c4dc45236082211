package peer

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// What a block costs on its way through the reader and to an owner who does nothing with it,
// socket and system calls left out.
func BenchmarkReadBlock(b *testing.B) {
	for _, bb := range []struct {
		name string
		read int // bytes that come with one read at most
	}{{"full", 1 << 30}, {"64KiB", 64 << 10}, {"1448B", 1448}} {
		b.Run(bb.name, func(b *testing.B) {
			raw, _ := block(1, 0, wire.MaxBlock)
			src := &endless{raw: raw, most: bb.read}
			benchmarkRead(b, src)
		})
	}
}

// The same over TCP on the loopback interface, with a sender that is as fast as it can be.
func BenchmarkReadBlockTCP(b *testing.B) {
	ours, theirs := tcpPair(b)
	go func() {
		raw, _ := block(1, 0, wire.MaxBlock)
		var slab []byte
		for range 16 {
			slab = append(slab, raw...)
		}
		for {
			if _, err := theirs.Write(slab); err != nil {
				return
			}
		}
	}()
	benchmarkRead(b, ours)
}

func benchmarkRead(b *testing.B, nc net.Conn) {
	inbox := make(chan *Batch, 16)
	blocks := pool.New(wire.MaxBlock, 256)
	c := Start(nc, Remote{}, Config{Limits: plain, Blocks: blocks, Deliver: func(b *Batch) { inbox <- b }})
	b.SetBytes(wire.MaxBlock)
	b.ReportAllocs()
	batches, left := 0, 0
	for b.Loop() {
		for left == 0 {
			batch := <-inbox
			left = len(batch.Msgs)
			batches++
			batch.ReleaseAll()
			batch.Recycle()
		}
		left--
	}
	b.ReportMetric(float64(b.N)/float64(batches), "blocks/batch")
	c.Close(nil)
	for batch := range inbox {
		batch.ReleaseAll()
		if batch.Err != nil {
			return
		}
	}
}

// An endless connection has the same message to be read, again and again, and swallows what is written.
type endless struct {
	net.Conn
	raw    []byte
	at     int
	most   int
	closed atomic.Bool
}

func (e *endless) Read(b []byte) (n int, err error) {
	if e.closed.Load() {
		return 0, net.ErrClosed
	}
	b = b[:min(len(b), e.most)]
	for n < len(b) {
		k := copy(b[n:], e.raw[e.at:])
		n += k
		e.at = (e.at + k) % len(e.raw)
	}
	return n, nil
}

func (e *endless) SetReadDeadline(time.Time) error { return nil }
func (e *endless) RemoteAddr() net.Addr            { return nil }

func (e *endless) Close() error {
	e.closed.Store(true)
	return nil
}

// What 16 blocks, out of one slab with one writev, cost on their way to a TCP connection on the
// loopback interface, whose other end throws them away. Per block.
func BenchmarkWriteBlockTCP(b *testing.B) {
	const n = 16
	ours, theirs := tcpPair(b)
	go io.Copy(io.Discard, struct{ io.Reader }{theirs}) // reads, whatever splice could do
	slabs := pool.New(n*wire.MaxBlock, 4)
	inbox := make(chan *Batch, 16)
	c := Start(ours, Remote{}, Config{Limits: plain, Blocks: pool.New(wire.MaxBlock, 1), Deliver: func(b *Batch) { inbox <- b }})
	b.SetBytes(wire.MaxBlock)
	b.ReportAllocs()
	part := 0
	var o Outgoing
	for b.Loop() {
		if part == 0 {
			o = Outgoing{Slab: slabs.Get(nil), Parts: PartBuffer()}
		}
		o.Parts = append(o.Parts, Part{Index: 1, Begin: uint32(part * wire.MaxBlock), Off: part * wire.MaxBlock, Len: wire.MaxBlock})
		if part++; part == n {
			part = 0
			if !c.Send(o) {
				b.Fatal("outbox is full")
			}
			for more := true; more; {
				select {
				case batch := <-inbox:
					batch.Recycle()
				default:
					more = false
				}
			}
		}
	}
	c.Close(nil)
	for batch := range inbox {
		if batch.Err != nil {
			return
		}
	}
}

func tcpPair(b *testing.B) (ours, theirs net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = theirs.Close() })
	return ours, theirs
}
