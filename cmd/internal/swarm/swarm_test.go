package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/simnet"
	"bittern/peer/wire"
	"bittern/piece"
	"bittern/piece/storage"
)

func TestDownload(t *testing.T) { synctest.Test(t, testDownload) }

func testDownload(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 4*mib+777, 256*kib)
	net.SetHost(host(1).Addr(), simnet.Host{Up: 1 * mib, Delay: 20 * time.Millisecond})
	a := seed(t, net, o, 1).start()
	b := (&node{t: t, net: net, o: o, n: 2}).start(1)
	begin := time.Now()
	b.complete()
	if d := time.Since(begin); d < 4*time.Second || d > 5*time.Second {
		t.Errorf("4 MiB at 1 MiB/s took %v", d)
	}
	a.until("the peer has left", func(s core.Snapshot) bool { return s.Peers == 0 })
	a.stop()
	if s := b.s.in.Snapshot(); s.Left != 0 || s.Done != s.Total || s.Received < s.Total || s.Met != 1 {
		t.Errorf("last snapshot of the download is %+v", s)
	}
	if s := a.s.in.Snapshot(); s.Uploaded < int64(len(o.data)) || s.Met != 1 {
		t.Errorf("last snapshot of the seed is %+v", s)
	}
	for _, words := range [][]string{
		{"msg=interested", "10.0.0.1", "it has what we want"}, {`msg="it unchokes us"`, "10.0.0.1"}, {"msg=dial", "10.0.0.1"},
		{"msg=ask", "10.0.0.1", "suggested", "piece=", "blocks=", "peers=1"}, {"msg=ask", "rarest first", "rate="},
	} {
		if b.logged(words...) == 0 {
			t.Errorf("the log has no line with %q\n%s", words, &b.log)
		}
	}
	for _, what := range []string{"peer joined", "peer dropped"} {
		if n := a.logged("level=INFO", what, "10.0.0.2", "id", "-TT") + a.logged("level=INFO", what, "10.0.0.2", "why"); n != 1 {
			t.Errorf("the seed's log has %d lines %q\n%s", n, what, &a.log)
		}
	}
}

// TestParts has three nodes exchange what each of them alone has.
func TestParts(t *testing.T) { synctest.Test(t, testParts) }

func testParts(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 3*mib, 64*kib)
	var ds []*node
	for n := 1; n <= 3; n++ {
		net.SetHost(host(n).Addr(), simnet.Host{Up: 1 * mib, Down: 2 * mib, Delay: 10 * time.Millisecond})
		ds = append(ds, (&node{t: t, net: net, o: o, n: n, core: forever, has: func(p int) bool { return p%3 == n-1 }}).open())
	}
	for i, d := range ds {
		d.start((i+1)%3+1, (i+2)%3+1) // so each pair is dialed from both ends
	}
	for _, d := range ds {
		<-d.seeds
	}
	for _, d := range ds {
		d.stop()
		d.same()
		if s := d.s.in.Snapshot(); s.Uploaded == 0 || !s.Seeding {
			t.Errorf("node %d ends with %+v", d.n, s)
		}
	}
}

// TestVanish has a seed vanish, beside another one and alone.
func TestVanish(t *testing.T) {
	t.Run("beside another", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testVanish(t, 2) }) })
	t.Run("alone", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testVanish(t, 1) }) })
}

func testVanish(t *testing.T, seeds int) {
	net, o := simnet.New(1), newTorrent(t, 4*mib, 128*kib)
	var ds []*node
	for n := 1; n <= seeds; n++ {
		net.SetHost(host(n).Addr(), simnet.Host{Up: 512 * kib, Delay: 10 * time.Millisecond})
		ds = append(ds, seed(t, net, o, n).start())
	}
	b := (&node{t: t, net: net, o: o, n: 3, core: func(c *core.Config) { c.Stall = 30 * time.Second }}).start(1, 2)
	b.until("a fourth is there", func(s core.Snapshot) bool { return s.Done > mib })
	ds[0].stop()
	if seeds > 1 {
		b.complete()
		ds[1].stop()
		return
	}
	since := b.s.in.Snapshot().Since
	if out, err := b.end(); out != core.Stalled || err != nil {
		t.Errorf("Run = %v, %v; want stalled", out, err)
	}
	if d := time.Since(b.s.in.Snapshot().Since); d != 30*time.Second {
		t.Errorf("stalled %v after the last block, which came after %v; want 30s", d, since)
	}
}

// TestFlood has a peer ask for more than it may, and read nothing. One that goes on at that rate is dropped for it, and one
// that asks once a second because nothing goes.
func TestFlood(t *testing.T) {
	for _, fast := range []bool{false, true} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("fast=%v,slow=%v", fast, slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testFlood(t, fast, slow) })
			})
		}
	}
}

func testFlood(t *testing.T, fast, slow bool) {
	net, o := simnet.New(1), newTorrent(t, 8*mib, 256*kib)
	a := seed(t, net, o, 1).start()
	r := shake(t, net, o, 2, 1, fast)
	begin := time.Now()
	r.send(wire.Message{ID: wire.Interested})
	r.await(wire.Unchoke)
	var flood []byte
	for i := range 1000 {
		flood = wire.Append(flood, ask(wire.Request, o.layout.BlockAt(i%32, i/32%16)))
	}
	for most := 0; ; {
		if _, err := r.nc.Write(flood); err != nil {
			break // it has hung up
		}
		synctest.Wait()
		most = max(most, a.s.small.Outstanding()*blockSize+a.s.slabs.Outstanding()*slabSize)
		if most > 2*mib {
			t.Fatalf("%d bytes in memory for one peer", most)
		}
		if slow {
			flood = wire.Append(nil, ask(wire.Request, o.layout.BlockAt(0, 0)))
		}
		time.Sleep(time.Second)
	}
	// The writer looks every minute whether anything has gone, and the test every second.
	if d := time.Since(begin); slow && d < time.Minute || !slow && d > time.Minute || d > 2*time.Minute+2*time.Second {
		t.Errorf("dropped after %v", d)
	}
	r.untilEOF()
	a.until("it is gone", func(s core.Snapshot) bool { return s.Peers == 0 })
	a.stop()
	if n := a.logged("peer left") + a.logged("peer dropped"); n != 1 {
		t.Errorf("%d lines say that it is gone:\n%s", n, &a.log)
	}
}

// TestLiar has a peer send garbage beside an honest one.
func TestLiar(t *testing.T) { synctest.Test(t, testLiar) }

func testLiar(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 4*mib, 128*kib)
	net.SetHost(host(1).Addr(), simnet.Host{Up: 1 * mib, Delay: 10 * time.Millisecond})
	net.SetHost(host(2).Addr(), simnet.Host{Up: 1 * mib, Delay: 10 * time.Millisecond})
	a := seed(t, net, o, 1).start()
	l, err := net.Listen(host(2))
	if err != nil {
		t.Fatal(err)
	}
	lies := make(chan *puppet, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		r, err := peer.Accept(t.Context(), nc, func([20]byte) bool { return true }, peer.Greeting{ID: [20]byte{'-', 'L', 'I'}})
		if err != nil {
			t.Error(err)
		}
		garbage := make([]byte, blockSize)
		p := play(nc, r, o.layout.Pieces(), func(c *peer.Conn, m wire.Message) {
			if m.ID == wire.Request {
				out := wire.AppendPiece(peer.ControlBuffer(), m.Index, m.Begin, int(m.Length))
				c.Send(peer.Outgoing{Control: append(out, garbage[:m.Length]...)})
			}
		})
		p.conn.Send(peer.Outgoing{Control: wire.Append(wire.Append(nil, wire.Message{ID: wire.HaveAll}), wire.Message{ID: wire.Unchoke})})
		lies <- p
	}()
	b := (&node{t: t, net: net, o: o, n: 3}).start(1, 2)
	b.complete()
	a.stop()
	<-(<-lies).ended
	_ = l.Close()
	if n := b.logged("level=WARN", "peer dropped", "10.0.0.2", "corrupt"); n != 1 {
		t.Errorf("%d lines say that the liar is caught:\n%s", n, &b.log)
	}
	if b.logged("level=DEBUG", `msg="bad piece"`, "10.0.0.2", "of one peer alone", "piece=") == 0 {
		t.Errorf("no line says how:\n%s", &b.log)
	}
	if s := b.s.in.Snapshot(); s.Wasted == 0 || s.Wasted > mib {
		t.Errorf("%d bytes wasted by a liar who sends as much as the honest one", s.Wasted)
	}
}

// TestCancel ends a download at many moments of it.
func TestCancel(t *testing.T) {
	for _, after := range []time.Duration{0, 1, 5, 11, 20, 21, 35, 40, 45, 50, 60, 75, 100, 250, 1000, 1500} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testCancel(t, after*time.Millisecond) })
		})
	}
}

func testCancel(t *testing.T, after time.Duration) {
	net, o := simnet.New(1), newTorrent(t, 4*mib, 64*kib)
	net.SetHost(host(1).Addr(), simnet.Host{Up: 2 * mib, Delay: 10 * time.Millisecond})
	net.SetHost(host(4).Addr(), simnet.Host{Deaf: true})
	a := seed(t, net, o, 1).start()
	b := (&node{t: t, net: net, o: o, n: 2}).start(1, 4)
	c := (&node{t: t, net: net, o: o, n: 3}).start(1, 2, 4)
	time.Sleep(after)
	b.stop()
	a.stop()
	c.stop()
	for _, d := range []*node{a, b, c} {
		if got := d.s.in.Snapshot(); got.Total != int64(len(o.data)) {
			t.Errorf("after the end Snapshot = %+v", got)
		}
	}
}

// TestEndedBefore runs a swarm whose context has ended already.
func TestEndedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := (&node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 64*kib), n: 1}).open()
		cause := errors.New("too late")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		close(d.ended)
		for range 100 { // more than the inbox holds: nobody may wait for it for ever
			go d.s.in.Sources(true)
		}
		d.out, d.err = d.s.Run(ctx)
		if _, err := d.end(); err != cause {
			t.Errorf("Run = %v, want %v", err, cause)
		}
	})
}

// TestStorageFault has the disk fail while blocks come in, and while they are read for upload.
func TestStorageFault(t *testing.T) {
	t.Run("write", func(t *testing.T) { synctest.Test(t, testWriteFault) })
	t.Run("read", func(t *testing.T) { synctest.Test(t, testReadFault) })
}

func testWriteFault(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 8*mib, 256*kib)
	net.SetHost(host(1).Addr(), simnet.Host{Up: 4 * mib, Delay: 10 * time.Millisecond})
	a := seed(t, net, o, 1).start()
	var writes atomic.Int32
	b := (&node{t: t, net: net, o: o, n: 2, store: func(c *storage.Config) {
		c.FS = newFaultyFS(t, c.Dir, func(op string) error {
			if op == "write" && writes.Add(1) > 8 {
				return syscall.ENOSPC
			}
			return nil
		})
	}}).start(1)
	if out, err := b.end(); !errors.Is(err, syscall.ENOSPC) || out != core.Running {
		t.Errorf("Run = %v, %v; want no space left", out, err)
	}
	a.stop()
}

func testReadFault(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 8*mib, 256*kib)
	var broken atomic.Bool
	a := seed(t, net, o, 1)
	a.store = func(c *storage.Config) {
		c.FS = newFaultyFS(t, c.Dir, func(op string) error {
			if op == "read" && broken.Load() {
				return syscall.EIO
			}
			return nil
		})
	}
	a.start()
	broken.Store(true)
	b := (&node{t: t, net: net, o: o, n: 2}).start(1)
	if _, err := a.end(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Run = %v, want an I/O error", err)
	}
	b.stop()
}

// TestBothDial has two nodes connect to each other at the same moment: one connection stays.
func TestBothDial(t *testing.T) { synctest.Test(t, testBothDial) }

func testBothDial(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 4*mib, 64*kib)
	for n := 1; n <= 2; n++ {
		net.SetHost(host(n).Addr(), simnet.Host{Up: 1 * mib, Delay: 10 * time.Millisecond})
	}
	a := (&node{t: t, net: net, o: o, n: 1, core: forever, has: func(p int) bool { return p%2 == 0 }}).open()
	b := (&node{t: t, net: net, o: o, n: 2, core: forever, has: func(p int) bool { return p%2 == 1 }}).open()
	a.start(2)
	b.start(1)
	time.Sleep(time.Second)
	for _, d := range []*node{a, b} {
		if s := d.s.in.Snapshot(); s.Peers != 1 || s.Met < 1 {
			t.Errorf("node %d after a second: %+v", d.n, s)
		}
	}
	<-a.seeds
	<-b.seeds
	a.stop()
	b.stop()
}

// TestEarlyLeft has peers hang up as soon as they have shaken hands, or before.
func TestEarlyLeft(t *testing.T) { synctest.Test(t, testEarlyLeft) }

func testEarlyLeft(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, mib, 64*kib)
	a := seed(t, net, o, 1)
	a.core = func(c *core.Config) { c.Seed.Forever, c.MaxPeers = true, 100 }
	a.start()
	for i := range 100 {
		r := shake(t, net, o, 2+i, 1, i%2 == 0)
		if i%3 == 0 {
			r.send(wire.Message{ID: wire.Interested}, ask(wire.Request, o.layout.BlockAt(0, 0)))
		}
		if err := r.nc.Close(); err != nil {
			t.Fatal(err)
		}
		nc, err := net.Dial(t.Context(), netip.AddrPortFrom(host(150).Addr(), 0), host(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.until("all are gone", func(s core.Snapshot) bool { return s.Met == 100 && s.Peers == 0 })
	a.stop()
	if n := a.logged("peer left"); n != 100 {
		t.Errorf("%d of 100 peers are logged to have left", n)
	}
}

// TestOddRequests asks for ranges that follow each other but are no blocks.
func TestOddRequests(t *testing.T) { synctest.Test(t, testOddRequests) }

func testOddRequests(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, mib, 256*kib)
	a := seed(t, net, o, 1).start()
	r := shake(t, net, o, 2, 1, true)
	r.send(wire.Message{ID: wire.Interested})
	r.await(wire.Unchoke)
	var begin uint32
	var asked []piece.Block
	for _, n := range []uint32{blockSize, 100, blockSize, blockSize, 2 * blockSize, blockSize, 1, 1, 65536, 100, 100} {
		b := piece.Block{Piece: 1, Begin: begin, Length: n}
		asked = append(asked, b)
		begin += n
	}
	var out []wire.Message
	for _, b := range asked {
		out = append(out, ask(wire.Request, b))
	}
	r.send(out...)
	left := map[piece.Block]bool{}
	for _, b := range asked {
		left[b] = true
	}
	for len(left) > 0 {
		m, data := r.await(wire.Piece)
		b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: uint32(len(data))}
		if !left[b] {
			t.Fatalf("%v came, which was not asked for", b)
		}
		delete(left, b)
		if string(data) != string(o.at(b)) {
			t.Errorf("%v is not what is in the torrent", b)
		}
	}
	_ = r.nc.Close()
	a.stop()
}

// TestCrumbs has peers ask for single bytes, and read nothing, beside an honest download.
func TestCrumbs(t *testing.T) { synctest.Test(t, testCrumbs) }

func testCrumbs(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 4*mib, 256*kib)
	net.SetHost(host(1).Addr(), simnet.Host{Up: 4 * mib, Delay: 10 * time.Millisecond})
	a := seed(t, net, o, 1).start()
	var hogs []*raw
	for n := 10; n < 15; n++ {
		net.SetHost(host(n).Addr(), simnet.Host{Buffer: 500})
		r := shake(t, net, o, n, 1, false)
		r.send(wire.Message{ID: wire.Interested})
		r.await(wire.Unchoke)
		for i := range uint32(250) {
			r.send(ask(wire.Request, piece.Block{Piece: uint32(n), Begin: 2 * i, Length: 1}))
		}
		hogs = append(hogs, r)
	}
	time.Sleep(time.Second)
	if n := a.s.small.Outstanding(); n == 0 {
		t.Error("the test is pointless: nothing waits for the greedy")
	}
	net.SetHost(host(9).Addr(), simnet.Host{Buffer: 500})
	r := shake(t, net, o, 9, 1, false)
	r.send(wire.Message{ID: wire.Interested})
	r.await(wire.Unchoke)
	for i := range uint32(600) { // more than we have announced to queue
		r.send(ask(wire.Request, piece.Block{Piece: 9, Begin: 2 * i, Length: 1}))
	}
	r.untilEOF()
	begin := time.Now()
	(&node{t: t, net: net, o: o, n: 2}).start(1).complete()
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("the honest download took %v", d)
	}
	a.stop()
	if n := a.logged("peer left", "10.0.0.9", errManyReads.Error()); n != 1 {
		t.Errorf("%d lines say why the greediest is gone:\n%s", n, &a.log)
	}
	for _, r := range hogs {
		r.untilEOF()
	}
}

// TestHeld has reads wait for buffers that only a leaving peer gives back.
func TestHeld(t *testing.T) { synctest.Test(t, testHeld) }

func testHeld(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, mib, 256*kib)
	a := seed(t, net, o, 1).start()
	hog, r := shake(t, net, o, 2, 1, true), shake(t, net, o, 3, 1, true)
	for _, r := range []*raw{hog, r} {
		r.send(wire.Message{ID: wire.Interested})
		r.await(wire.Unchoke)
	}
	var lent []interface{ Release() }
	for b := a.s.bufferFor(1); b != nil; b = a.s.bufferFor(1) {
		lent = append(lent, b)
	}
	want := o.layout.BlockAt(2, 3)
	r.send(ask(wire.Request, want))
	time.Sleep(time.Second) // no clock of ours brings it
	for _, b := range lent {
		b.Release()
	}
	if err := hog.nc.Close(); err != nil {
		t.Fatal(err)
	}
	if _, data := r.await(wire.Piece); string(data) != string(o.at(want)) {
		t.Error("the block is not what is in the torrent")
	}
	_ = r.nc.Close()
	a.stop()
}

// TestIdle checks that an hour with a peer that wants nothing passes, and quietly. If the loop's
// timer were ever due at once, no time would pass here.
func TestIdle(t *testing.T) { synctest.Test(t, testIdle) }

func testIdle(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, mib, 256*kib)
	a := seed(t, net, o, 1).start()
	b := (&node{t: t, net: net, o: o, n: 2, has: func(p int) bool { return p == 0 }, core: func(c *core.Config) {
		one := piece.NewBitfield(4)
		one.Set(0)
		c.Wanted, c.Seed.Forever = &one, true
	}}).start(1)
	time.Sleep(time.Hour)
	for _, d := range []*node{a, b} {
		d.stop()
	}
}

// TestOnTime checks that limits hold to the moment though nothing else happens.
func TestOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 256*kib), n: 1}
		d.core = func(c *core.Config) { c.MaxTime = 90*time.Second + 1 }
		begin := time.Now()
		d.start()
		if out, err := d.end(); out != core.NoPeers || err != nil || time.Since(begin) != 90*time.Second+1 {
			t.Errorf("Run = %v, %v after %v; want no peers after 90s", out, err, time.Since(begin))
		}
	})
}

// TestDialTimeout has addresses where nobody answers.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simnet.New(1)
		sim.SetHost(host(2).Addr(), simnet.Host{Deaf: true})
		d := (&node{t: t, net: sim, o: newTorrent(t, mib, 256*kib), n: 1}).start(2, 3)
		synctest.Wait()
		if s := d.s.in.Snapshot(); s.Dialing != 1 {
			t.Errorf("%d dials are under way, want the one that is not refused", s.Dialing)
		}
		time.Sleep(dialTimeout - 1)
		if s := d.s.in.Snapshot(); s.Dialing != 1 {
			t.Errorf("%d dials are under way shortly before the limit, want 1", s.Dialing)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if s := d.s.in.Snapshot(); s.Dialing != 0 {
			t.Errorf("%d dials are under way after the limit", s.Dialing)
		}
		d.stop()
		if n := d.logged("level=DEBUG", "dial failed", host(2).String()); n != 1 {
			t.Errorf("%d dials are logged to have timed out, want 1:\n%s", n, &d.log)
		}
	})
}

// TestLocal checks that the core is told when a dial fails on our side: such a one is repeated soon.
func TestLocal(t *testing.T) {
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprint(local), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dials atomic.Int32
				d := &node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 256*kib), n: 1}
				d.config = func(c *Config) {
					c.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
						dials.Add(1)
						return nil, fmt.Errorf("dial: %w", syscall.EMFILE)
					}
					c.Local = func(err error) bool { return local && errors.Is(err, syscall.EMFILE) }
				}
				d.start(2)
				time.Sleep(30 * time.Second)
				if n := dials.Load(); local != (n > 2) {
					t.Errorf("%d dials in half a minute", n)
				}
				d.stop()
			})
		})
	}
}

// TestNoDial has a swarm that cannot dial at all.
func TestNoDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 256*kib), n: 1}
		d.config = func(c *Config) { c.Dial, c.Log = nil, nil }
		d.start(2)
		d.until("the address has failed", func(s core.Snapshot) bool { return s.Known == 1 && s.Dialing == 0 })
		d.stop()
	})
}

// TestManySeeds is heavy on everything: many small pieces from several seeds at once.
func TestManySeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, o := simnet.New(1), newTorrent(t, 16*mib, 16*kib)
		var ds []*node
		for n := 1; n <= 5; n++ {
			ds = append(ds, seed(t, net, o, n).start())
		}
		b := (&node{t: t, net: net, o: o, n: 6}).start(1, 2, 3)
		c := (&node{t: t, net: net, o: o, n: 7, core: forever}).start(3, 4, 5, 6)
		b.complete()
		<-c.seeds
		c.stop()
		c.same()
		for _, d := range ds {
			d.stop()
		}
	})
}

// TestCountsWhatWentOut: what a seed had sent when it was stopped counts as uploaded, though its loop had not heard of it.
func TestCountsWhatWentOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newIdle(t)
		d.s.wg.Add(1)
		b := &peer.Batch{Conn: &peer.Conn{ID: 99}, SentBytes: 1000, Err: peer.ErrClosed}
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		var late sync.WaitGroup
		late.Go(func() { d.s.deliver(b) })
		if _, err := d.s.Run(ctx); !errors.Is(err, cause) {
			t.Errorf("Run: %v", err)
		}
		late.Wait()
		if n := d.s.in.Snapshot().Uploaded; n != 1000 {
			t.Errorf("%d bytes uploaded, want 1000", n)
		}
		close(d.ended) // Run has returned
		d.tidy()
	})
}
