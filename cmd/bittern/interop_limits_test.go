//go:build linux

package main_test

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestInteropLimits holds bittern to its limits while a real client downloads from it, or uploads to it. The client is
// behind a relay, which counts what it reads from bittern's connections and writes to them: all bytes of the protocol, and
// none of the headers of packets.
func TestInteropLimits(t *testing.T) {
	if !isolated(t) {
		return
	}
	const limit = mib // bytes a second
	x := newFixture("limited", 18*mib, 256*kib)
	for _, c := range []client{aria2, transmission, libtorrent} {
		t.Run("max-upload to "+c.name, func(t *testing.T) {
			t.Parallel()
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			at := freePort(t, newHost())
			run(t, "seed", x.torrent(t), "-d", from, "--interface", at.Addr().String(), "--port", strconv.Itoa(int(at.Port())),
				"--no-trackers", "--max-upload", "1M")
			r := newRelay(t, at)
			k := newTrackerAt(t, newHost(), r.at)
			c.share(t, newHost(), x.torrent(t, k.url), to)
			keepsTo(t, limit, &r.back)
		})
		t.Run("max-download from "+c.name, func(t *testing.T) {
			t.Parallel()
			from, to := t.TempDir(), t.TempDir()
			x.lay(t, from)
			seed := c.share(t, newHost(), x.torrent(t, noTracker), from)
			seed.seeds(t, x.hash, x.pieces())
			r := newRelay(t, seed.job.at)
			run(t, "get", x.torrent(t), "-d", to, "--interface", newHost(), "--peer", r.at.String(), "--max-download", "1M")
			keepsTo(t, limit, &r.back)
		})
	}
}

// A relay passes on connections to an address, and counts the bytes that come back from there.
type relay struct {
	at   netip.AddrPort // where it listens
	back atomic.Int64
}

// newRelay starts a relay at an address of its own.
func newRelay(t *testing.T, to netip.AddrPort) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(newHost(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := &relay{at: ln.Addr().(*net.TCPAddr).AddrPort()}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			go r.pass(t, near, to)
		}
	}()
	return r
}

// pass passes on one connection until either end closes it.
func (r *relay) pass(t *testing.T, near net.Conn, to netip.AddrPort) {
	defer near.Close()
	far, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Logf("relay: %v", err)
		return
	}
	defer far.Close()
	go func() {
		defer far.Close()
		io.Copy(far, near) // until either is closed
	}()
	io.Copy(io.MultiWriter(near, counter{&r.back}), far) // likewise
}

// A counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// keepsTo checks that a count grows at a rate within 2 %, over the median of the spans of ten seconds that begin in the two
// seconds after the transfer has begun: transmission sends in pulses of half a second, and where it does single
// spans have one more or one less.
func keepsTo(t *testing.T, rate float64, count *atomic.Int64) {
	t.Helper()
	const every = 100 * time.Millisecond
	const span, starts = 100, 20 // samples
	await(t, 60*time.Second, "the transfer runs", func() bool { return count.Load() > mib })
	type sample struct {
		at time.Time
		n  int64
	}
	var samples []sample
	tick := time.NewTicker(every)
	defer tick.Stop()
	for len(samples) < span+starts {
		<-tick.C
		samples = append(samples, sample{time.Now(), count.Load()})
	}
	var got []float64
	for i, last := range samples[span:] {
		got = append(got, float64(last.n-samples[i].n)/last.at.Sub(samples[i].at).Seconds()/rate)
	}
	slices.Sort(got)
	median := got[len(got)/2]
	t.Logf("%.4f of the limit, from %.4f to %.4f", median, got[0], got[len(got)-1])
	if median < 0.98 || median > 1.02 {
		t.Errorf("%.4f of the limit over ten seconds", median)
	}
}
