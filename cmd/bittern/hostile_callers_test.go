//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// caller is the address of caller number i: no two share one.
func caller(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})
}

// TestHostileSlowHandshakes: 500 callers that never end their handshake do not keep out the honest
// seed that calls after them, and each is hung up on once its ten seconds are over. They begin when the
// command has taken the call: one that found the kernel's queue full waits for several seconds first.
func TestHostileSlowHandshakes(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 2*mib, 64*kib)
	k := newTracker(t)
	dir := t.TempDir()
	get := run(t, "get", x.torrent(t, k.url), "-d", dir)
	to := k.awaits(t, "started", 10*time.Second).listens(t)
	var slow []net.Conn
	for i := range 500 {
		c := dialFrom(t, caller(i), to)
		io.WriteString(c, protocol[:1+i%len(protocol)]) // it may have been refused: so much the better
		slow = append(slow, c)
	}
	honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
	honest.dial(t, to)
	await(t, 5*time.Second, "half of the content", func() bool { return honest.blocksServed() == x.blocks()/2 })
	called := time.Now()
	for i, c := range slow {
		if !hungUp(c, called.Add(40*time.Second)) {
			t.Fatalf("caller %d is still connected after %v", i, time.Since(called))
		}
	}
	honest.release()
	get.exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
}

// hungUp reads until the other end closes the connection, and reports whether it did in time.
func hungUp(c net.Conn, until time.Time) bool {
	if c.SetReadDeadline(until) != nil {
		return true // closed
	}
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestHostileCallers: 1,000 callers that shake hands and then do nothing are not all kept, and do not
// disturb the download from a seed that is there.
func TestHostileCallers(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 2*mib, 64*kib)
	k := newTracker(t)
	honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
	dir := t.TempDir()
	get := run(t, "get", x.torrent(t, k.url), "-d", dir, "--peer", honest.addr.String())
	to := k.awaits(t, "started", 10*time.Second).listens(t)
	await(t, 5*time.Second, "half of the content", func() bool { return honest.blocksServed() == x.blocks()/2 })
	var kept atomic.Int32
	for i := range 1000 {
		c := dialFrom(t, caller(i), to)
		id := [20]byte([]byte(fmt.Sprintf("-TI0001-%012d", i)))
		l := &link{Conn: c, peer: &peer{x: x, script: script{id: id}}}
		kept.Add(1)
		go func() {
			defer kept.Add(-1)
			if l.shake() == nil {
				io.Copy(io.Discard, c) // until it ends
			}
		}()
	}
	await(t, 10*time.Second, "all but 80 callers are sent away", func() bool { return kept.Load() <= 80 })
	honest.release()
	get.exits(t, 0, 10*time.Second)
	x.isAloneIn(t, dir)
}

// TestHostileIdleCallers: callers that shake hands and then do nothing, as many as there are places, do
// not keep out one that has something to give.
func TestHostileIdleCallers(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 2*mib, 64*kib)
	k := newTracker(t)
	dir := t.TempDir()
	get := run(t, "get", x.torrent(t, k.url), "-d", dir)
	to := k.awaits(t, "started", 10*time.Second).listens(t)
	for i := range 100 {
		l := &link{Conn: dialFrom(t, caller(i), to), peer: &peer{x: x, script: script{id: [20]byte([]byte(fmt.Sprintf("-TI0001-%012d", i)))}}}
		go func() {
			if l.shake() == nil {
				io.Copy(io.Discard, l) // until it ends
			}
		}()
	}
	honest := newPeer(t, x, "127.0.0.1", script{})
	await(t, 30*time.Second, "the honest seed is let in", func() bool {
		if honest.open() == 0 && honest.tryDial(t, to) == nil {
			<-time.After(200 * time.Millisecond) // between two calls
		}
		return get.ended()
	})
	get.exits(t, 0, time.Second)
	x.isAloneIn(t, dir)
}

// TestHostileRequestFlood: peers that are unchoked, ask without end and do not read cost a seed
// nothing that grows, and another peer gets the whole content meanwhile. One that asked for everything
// once gets, when it begins to read at last, what was queued and no more. (That they are dropped after a minute is tested with the
// connection's own clock.)
func TestHostileRequestFlood(t *testing.T) {
	t.Parallel()
	const (
		queue   = 250                   // requests that a peer may have waiting
		kernel  = 4 * mib / blockSize   // blocks in the buffers of the two sockets
		windows = 512 * kib / blockSize // blocks in the writer's hands
	)
	x := newFixture("payload", 32*mib, 256*kib)
	_, to := seeding(t, x)
	var floods []*link
	for i := range 7 { // a seed serves eight
		c := dialSmall(t, caller(i), to)
		l := &link{Conn: c, peer: &peer{x: x, script: script{id: [20]byte([]byte(fmt.Sprintf("-TF0001-%012d", i)))}}}
		if err := l.unchoked(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			go l.flood()
		} else if err := l.raw(l.everything()); err != nil {
			t.Fatal(err)
		}
		floods = append(floods, l)
	}
	if err := leech(t.Context(), x, "127.0.0.1", to, 64); err != nil {
		t.Fatalf("the honest peer: %v", err)
	}
	l, got := floods[0], 0
	for {
		if err := l.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		id, _, err := l.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatalf("after %d blocks: %v", got, err)
		}
		if id == msgPiece {
			got++
		}
	}
	if most := queue + kernel + windows; got == 0 || got > most {
		t.Errorf("%d blocks of %d came, want at most %d", got, x.blocks(), most)
	}
}

// unchoked takes the link through handshake and interest until the other end serves it.
func (l *link) unchoked() error {
	if err := l.shake(); err != nil {
		return err
	}
	if _, err := io.ReadFull(l, make([]byte, 68)); err != nil {
		return err
	}
	if err := l.send(msgInterested); err != nil {
		return err
	}
	for {
		id, _, err := l.receive()
		if err != nil || id == msgUnchoke {
			return err
		}
	}
}

// flood asks for everything again and again until the connection ends, and reads nothing.
func (l *link) flood() {
	for all := l.everything(); l.raw(all) == nil; {
	}
}

// everything is a request for each block.
func (l *link) everything() []byte {
	var all []byte
	for _, b := range l.peer.x.all() {
		all = append(all, u32(13)...)
		all = append(all, msgRequest)
		all = append(all, u32(b.piece, b.begin, b.length)...)
	}
	return all
}

// dialSmall is dialFrom with a receive buffer of a few blocks only, as a peer has that does not read.
func dialSmall(t *testing.T, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{
		Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from.AsSlice()},
		Control: func(_, _ string, rc syscall.RawConn) error {
			var err error
			if e := rc.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64*kib) }); e != nil {
				return e
			}
			return err
		},
	}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// seeding starts the command as a seed of x and returns where it listens.
func seeding(t *testing.T, x *fixture, args ...string) (*process, netip.AddrPort) {
	t.Helper()
	k := newTracker(t)
	dir := t.TempDir()
	x.lay(t, dir)
	// The callers ask for what they like, not for what they are shown.
	seed := run(t, append([]string{"seed", x.torrent(t, k.url), "-d", dir, "--super-seed=false"}, args...)...)
	return seed, k.awaits(t, "started", 10*time.Second).listens(t)
}

// TestHostileBothDial: when both ends dial at once one connection stays, that which the end with
// the larger peer id opened, and the download completes over it.
func TestHostileBothDial(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   byte // first byte of the fake's peer id; the command's begins with a dash
	}{{"larger id", 0xff}, {"smaller id", 0x01}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 2*mib, 64*kib)
			k := newTracker(t)
			p := newPeer(t, x, "127.0.0.2", script{id: [20]byte{tt.id, 7: 'x'}, quota: x.blocks() / 2})
			dir := t.TempDir()
			get := run(t, "get", x.torrent(t, k.url), "-d", dir, "--peer", p.addr.String())
			p.dial(t, k.awaits(t, "started", 10*time.Second).listens(t))
			await(t, 10*time.Second, "both handshakes, and one connection left", func() bool { return p.met() == 2 && p.open() == 1 })
			p.release()
			get.exits(t, 0, 30*time.Second)
			x.isAloneIn(t, dir)
		})
	}
}

// TestHostileFewDescriptors: with 40 open files in all the command gets a torrent of 200 files
// from 30 peers.
func TestHostileFewDescriptors(t *testing.T) {
	t.Parallel()
	var files []file
	for i := range 200 {
		files = append(files, file{fmt.Sprintf("d%02d/f%03d", i%20, i), 10_000 + i})
	}
	x := newFolder("many", 32*kib, files...)
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir}
	for i := range 30 {
		args = append(args, "--peer", newPeer(t, x, fmt.Sprintf("127.0.0.%d", 1+i), script{}).addr.String())
	}
	get := limited(t, "-n 40", args...)
	get.exits(t, 0, 60*time.Second)
	x.isAloneIn(t, dir)
}
