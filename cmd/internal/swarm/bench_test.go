package swarm

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"bittern/cmd/internal/swarm/core"
)

// A lane is the way from a benchmark's seed to its download: loopback TCP.
type lane struct {
	l net.Listener
}

func newLane(b *testing.B) *lane {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return &lane{l}
}

// serve passes connections to a seed until the listener is closed.
func (n *lane) serve(ctx context.Context, d *node) {
	d.wg.Go(func() {
		for {
			nc, err := n.l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.s.Accept(ctx, nc) })
		}
	})
}

// join lets a node dial over the lane.
func (n *lane) join(d *node) {
	to := n.l.Addr().String()
	d.silence = true
	d.config = func(c *Config) {
		c.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp4", to)
		}
		c.Log = nil
	}
}

// BenchmarkDownload brings 64 MiB in pieces of 256 KiB from one swarm to another over loopback,
// from disk to disk. allocs/block counts all that both do after the first quarter.
func BenchmarkDownload(b *testing.B) { benchDownload(b, 256*kib) }

// BenchmarkDownloadSmall is the same with pieces of one block.
func BenchmarkDownloadSmall(b *testing.B) { benchDownload(b, 16*kib) }

func benchDownload(b *testing.B, pieceLength int) {
	const total = 64 * mib
	o := newTorrent(b, total, pieceLength)
	n := newLane(b)
	defer n.l.Close()
	a := &node{t: b, o: o, n: 1, has: all, core: forever}
	n.join(a)
	a.start()
	n.serve(b.Context(), a)
	b.SetBytes(total)
	b.ReportAllocs()
	var mallocs, blocks float64
	for b.Loop() {
		b.StopTimer()
		d := &node{t: b, o: o, n: 2}
		n.join(d)
		d.open()
		b.StartTimer()
		d.start(1)
		from, have := d.quarter()
		<-d.ended
		var to runtime.MemStats
		runtime.ReadMemStats(&to)
		mallocs += float64(to.Mallocs - from)
		blocks += float64(total-have) / blockSize
		b.StopTimer()
		d.complete()
		b.StartTimer()
	}
	b.ReportMetric(mallocs/blocks, "allocs/block")
	_ = n.l.Close()
	a.stop()
}

// quarter waits until a quarter of the download is there. It returns how many allocations there have
// been so far, and the bytes that are there.
func (d *node) quarter() (mallocs uint64, have int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for have < int64(len(d.o.data))/4 {
		<-tick.C
		have = d.s.in.Snapshot().Done
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs, have
}

// BenchmarkLoop measures what the loop itself takes of a block: it is the loop of a download of
// 64 MiB and counts only the time from taking messages out of the inbox to having done what the core
// decided. It is the wall's time: on a busy machine it holds that of whoever had the core meanwhile.
func BenchmarkLoop(b *testing.B) {
	const total = 64 * mib
	o := newTorrent(b, total, 256*kib)
	n := newLane(b)
	defer n.l.Close()
	a := &node{t: b, o: o, n: 1, has: all, core: forever}
	n.join(a)
	a.start()
	n.serve(b.Context(), a)
	var busy time.Duration
	for b.Loop() {
		b.StopTimer()
		d := &node{t: b, o: o, n: 2}
		n.join(d)
		d.open()
		go d.s.in.Found([]netip.AddrPort{host(1)}, core.SourceTracker)
		b.StartTimer()
		busy += d.byHand()
		b.StopTimer()
		close(d.ended)
		_, _ = d.end()
		d.same()
		b.StartTimer()
	}
	b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/(total/blockSize), "loop-ns/block")
	_ = n.l.Close()
	a.stop()
}

// byHand is Run with a watch.
func (d *node) byHand() (busy time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	d.s.ctx = ctx
	d.s.phase = core.New(time.Now(), d.s.content.Core)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for d.s.running() {
		select {
		case m := <-d.s.in.c:
			begin := time.Now()
			d.s.turn(m)
			busy += time.Since(begin)
		case <-tick.C:
			d.s.handle(time.Now(), core.Event{Op: core.Tick})
			d.s.flush()
		}
	}
	cancel()
	d.s.in.close(core.Snapshot{})
	for _, l := range d.s.links {
		l.conn.Close(io.EOF)
	}
	d.s.wg.Wait()
	return busy
}
