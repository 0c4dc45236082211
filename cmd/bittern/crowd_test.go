//go:build linux

package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// crowdSize is how many leechers a seed must be able to serve at once: an office.
const crowdSize = 200

// TestCrowd: 200 leechers that are all connected before the first block goes out get everything from one seed, each by itself, and the
// seed takes no more memory than with eight.
func TestCrowd(t *testing.T) {
	t.Parallel()
	x := newFixture("crowd", 8*mib, 256*kib)
	seed, to := seeding(t, x, "--max-peers", "250")
	begin := time.Now()
	var connected, done sync.WaitGroup
	connected.Add(crowdSize)
	errs := make(chan error, crowdSize)
	for i := range crowdSize {
		done.Go(func() { errs <- crowd{x, &connected}.leech(t.Context(), to, i) })
	}
	for range crowdSize {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	t.Logf("%d MiB each in %v, %d MiB resident at the peak", len(x.data)/mib, time.Since(begin).Round(time.Millisecond), seed.peak.Load()/mib)
}

// A crowd is many leechers of one torrent.
type crowd struct {
	x         *fixture
	connected *sync.WaitGroup // with how many are not yet
}

// leech connects number i, waits for the others, and downloads everything.
func (c crowd) leech(ctx context.Context, to netip.AddrPort, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute*patience)
	defer cancel()
	l, err := c.join(ctx, to, i)
	c.connected.Done()
	if err != nil {
		return err
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	c.connected.Wait()
	if err := l.send(msgInterested); err != nil {
		return err
	}
	if err := l.fetch(c.x, c.x.all(), 64); err != nil {
		return fmt.Errorf("leecher %d: %w", i, err)
	}
	return nil
}

// join connects number i and shakes hands.
func (c crowd) join(ctx context.Context, to netip.AddrPort, i int) (*link, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: caller(i).AsSlice()}}
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	l := &link{Conn: nc}
	if err := l.shakeAs(c.x.hash, [20]byte([]byte(fmt.Sprintf("-TC0001-%012d", i)))); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(l, make([]byte, 68))
	return l, err
}
