package simnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	alice = netip.MustParseAddrPort("10.0.0.1:0")
	bob   = netip.MustParseAddrPort("10.0.0.2:6881")
	carol = netip.MustParseAddrPort("10.0.0.3:0")

	_ net.Listener   = (*Listener)(nil)
	_ net.Conn       = (*Conn)(nil)
	_ net.PacketConn = (*PacketConn)(nil)
)

// pair connects alice to bob.
func pair(t *testing.T, n *Network) (ours, theirs net.Conn) {
	t.Helper()
	return dialed(t, n, alice)
}

func dialed(t *testing.T, n *Network, from netip.AddrPort) (ours, theirs net.Conn) {
	t.Helper()
	l, err := n.Listen(bob)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = n.Dial(t.Context(), from, bob); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestStream(t *testing.T) { synctest.Test(t, testStream) }
func testStream(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Delay: 30 * time.Millisecond, Up: 1e6, Buffer: 50_000})
	a, b := pair(t, n)
	want := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range want {
		want[i] = byte(rng.Uint32())
	}
	var wg sync.WaitGroup
	for _, c := range []struct{ from, to net.Conn }{{a, b}, {b, a}} { // both directions at once
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, 2))
			for rest := want; len(rest) > 0; {
				k := min(len(rest), 1+rng.IntN(40_000))
				if got, err := c.from.Write(rest[:k]); got != k || err != nil {
					t.Errorf("wrote %d of %d bytes, %v", got, k, err)
				}
				rest = rest[k:]
			}
			if err := c.from.(*Conn).CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if got, err := io.ReadAll(c.to); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came, %v; not those that were sent", len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestDelay(t *testing.T) { synctest.Test(t, testDelay) }
func testDelay(t *testing.T) {
	n := New(1)
	n.SetHost(alice.Addr(), Host{Delay: 20 * time.Millisecond})
	n.SetHost(bob.Addr(), Host{Delay: 30 * time.Millisecond})
	start := time.Now()
	a, b := pair(t, n)
	if d := time.Since(start); d != 100*time.Millisecond {
		t.Errorf("dialing took %v, want a round trip", d)
	}
	start = time.Now()
	if _, err := a.Write([]byte("x")); err != nil || time.Since(start) != 0 {
		t.Errorf("writing took %v, %v", time.Since(start), err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, io.EOF} {
		if _, err := b.Read(make([]byte, 9)); err != want || time.Since(start) != 50*time.Millisecond {
			t.Errorf("read %v after %v, want %v", err, time.Since(start), want)
		}
	}
}

// All connections of a host share its link.
func TestRateIsTheHosts(t *testing.T) { synctest.Test(t, testRateIsTheHosts) }
func testRateIsTheHosts(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Down: 1e6})
	n.SetHost(carol.Addr(), Host{Up: 1e5})
	for _, tt := range []struct {
		name string
		from []netip.AddrPort
		want time.Duration // for a million bytes each
	}{
		{"one", []netip.AddrPort{alice}, time.Second},
		{"two share bob's link", []netip.AddrPort{alice, alice}, 2 * time.Second},
		{"carol's link is the narrow one", []netip.AddrPort{carol}, 10 * time.Second},
	} {
		start := time.Now()
		var wg sync.WaitGroup
		for _, from := range tt.from {
			a, b := dialed(t, n, from)
			wg.Go(func() { a.Write(make([]byte, 1e6)); a.Close() })
			wg.Go(func() { io.Copy(io.Discard, b) })
		}
		wg.Wait()
		if d := time.Since(start); d < tt.want-time.Microsecond || d > tt.want+20*time.Millisecond { // a segment crosses both links
			t.Errorf("%s: took %v, want %v", tt.name, d, tt.want)
		}
	}
}

// A writer waits when the other end does not read, and goes on when it does.
func TestBufferIsBounded(t *testing.T) { synctest.Test(t, testBufferIsBounded) }
func testBufferIsBounded(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Buffer: 1000})
	a, b := pair(t, n)
	wrote := make(chan int)
	go func() {
		k, _ := a.Write(make([]byte, 1500))
		wrote <- k
	}()
	synctest.Wait()
	select {
	case k := <-wrote:
		t.Fatalf("%d bytes were written into a buffer of 1000", k)
	default:
	}
	if k, err := b.Read(make([]byte, 2000)); k != 1000 || err != nil {
		t.Errorf("read %d, %v; want the buffer", k, err)
	}
	if k := <-wrote; k != 1500 {
		t.Errorf("wrote %d", k)
	}
}

func TestDeadlines(t *testing.T) { synctest.Test(t, testDeadlines) }
func testDeadlines(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Buffer: 10})
	a, b := pair(t, n)
	timedOut := func(what string, want time.Duration, do func() (int, error), n int) {
		t.Helper()
		start := time.Now()
		k, err := do()
		var ne net.Error
		if d := time.Since(start); k != n || d != want || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%s: %d bytes, %v after %v; want %d and a time-out after %v", what, k, err, d, n, want)
		}
	}
	read := func() (int, error) { return a.Read(make([]byte, 5)) }
	write := func() (int, error) { return a.Write(make([]byte, 15)) }
	a.SetDeadline(time.Now().Add(time.Second))
	timedOut("read", time.Second, read, 0)
	timedOut("read again", 0, read, 0)
	timedOut("write later", 0, write, 0)
	a.SetWriteDeadline(time.Now().Add(time.Second))
	timedOut("write", time.Second, write, 10)
	a.SetReadDeadline(time.Time{})
	time.AfterFunc(time.Minute, func() { a.SetReadDeadline(time.Unix(1, 0)) })
	timedOut("set while waiting", time.Minute, read, 0)
	a.SetDeadline(time.Time{})
	go b.Write([]byte("hello"))
	if k, err := read(); k != 5 || err != nil {
		t.Errorf("without a deadline: %d, %v", k, err)
	}
}

func TestClosing(t *testing.T) { synctest.Test(t, testClosing) }
func testClosing(t *testing.T) {
	n := New(1)
	a, b := pair(t, n)
	waiting := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		waiting <- err
	}()
	synctest.Wait()
	a.Close()
	a.Close()
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a waiting read got %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing to what we closed: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to what they closed: %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("reading what they closed: %v", err)
	}
}

func TestDialFails(t *testing.T) { synctest.Test(t, testDialFails) }
func testDialFails(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Delay: time.Second})
	n.SetHost(carol.Addr(), Host{Deaf: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tt := range []struct {
		name     string
		from, to netip.AddrPort
		want     error
		after    time.Duration
	}{
		{"nobody there", alice, bob, syscall.ECONNREFUSED, 2 * time.Second},
		{"no address", netip.AddrPort{}, bob, syscall.EADDRNOTAVAIL, 0},
		{"not answered", alice, carol, context.DeadlineExceeded, 58 * time.Second},
		{"too late", alice, bob, context.DeadlineExceeded, 0},
	} {
		start := time.Now()
		_, err := n.Dial(ctx, tt.from, tt.to)
		if d := time.Since(start); !errors.Is(err, tt.want) || d != tt.after {
			t.Errorf("%s: %v after %v, want %v after %v", tt.name, err, d, tt.want, tt.after)
		}
	}
}

func TestListener(t *testing.T) { synctest.Test(t, testListener) }
func testListener(t *testing.T) {
	n := New(1)
	l, err := n.Listen(bob)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr().(*net.TCPAddr).AddrPort() != bob {
		t.Errorf("listens on %v", l.Addr())
	}
	if _, err := n.Listen(bob); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	one, _ := n.Listen(alice)
	two, _ := n.Listen(alice)
	if one.Addr().String() == two.Addr().String() {
		t.Error("two listeners got the same port")
	}
	c, err := n.Dial(t.Context(), alice, bob)
	if err != nil {
		t.Fatal(err)
	}
	if c.RemoteAddr().(*net.TCPAddr).AddrPort() != bob || c.LocalAddr().(*net.TCPAddr).Port == 0 {
		t.Errorf("connected %v to %v", c.LocalAddr(), c.RemoteAddr())
	}
	for range backlog - 1 {
		if _, err := n.Dial(t.Context(), alice, bob); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Dial(t.Context(), alice, bob); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("beyond the backlog: %v", err)
	}
	l.Close()
	l.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that was never accepted: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting after Close: %v", err)
	}
	if _, err := n.Listen(bob); err != nil {
		t.Errorf("listening again after Close: %v", err)
	}
}

func TestPackets(t *testing.T) { synctest.Test(t, testPackets) }
func testPackets(t *testing.T) {
	n := New(1)
	n.SetHost(bob.Addr(), Host{Delay: 40 * time.Millisecond})
	a, _ := n.ListenPacket(alice)
	b, err := n.ListenPacket(bob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.ListenPacket(bob); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two sockets at one address: %v", err)
	}
	start := time.Now()
	if k, err := a.WriteTo([]byte("hello"), b.LocalAddr()); k != 5 || err != nil {
		t.Fatalf("sent %d bytes, %v", k, err)
	}
	buf := make([]byte, 3)
	k, from, err := b.ReadFrom(buf)
	if err != nil || string(buf[:k]) != "hel" || from.String() != a.LocalAddr().String() {
		t.Errorf("got %q from %v, %v", buf[:k], from, err)
	}
	if d := time.Since(start); d != 40*time.Millisecond {
		t.Errorf("took %v", d)
	}
	b.SetDeadline(time.Now().Add(time.Second))
	if _, _, err := b.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the rest of a packet was kept: %v", err)
	}
	if _, err := a.WriteTo([]byte("x"), carolAddr()); err != nil {
		t.Errorf("sending to nobody fails: %v", err)
	}
	if _, err := a.WriteTo([]byte("x"), &net.TCPAddr{}); err == nil {
		t.Error("an address of another kind is taken")
	}
	time.AfterFunc(time.Hour, func() { b.Close() })
	b.SetDeadline(time.Time{})
	if _, _, err := b.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of what is closed: %v", err)
	}
	if _, err := b.WriteTo([]byte("x"), a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write to what is closed: %v", err)
	}
}

func carolAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(carol.Addr(), 1))
}

// Packets are lost in the share that was asked for, and the same ones for the same seed.
func TestLoss(t *testing.T) { synctest.Test(t, testLoss) }
func testLoss(t *testing.T) {
	run := func(seed uint64, h Host) []byte {
		n := New(seed)
		n.SetHost(bob.Addr(), h)
		a, _ := n.ListenPacket(alice)
		b, _ := n.ListenPacket(bob)
		var got []byte
		buf := make([]byte, 1)
		for i := range byte(200) {
			a.WriteTo([]byte{i}, b.LocalAddr())
			b.SetReadDeadline(time.Now().Add(time.Second))
			if _, _, err := b.ReadFrom(buf); err == nil {
				got = append(got, buf[0])
			}
		}
		return got
	}
	one, same, other := run(1, Host{Loss: 0.3}), run(1, Host{Loss: 0.3}), run(2, Host{Loss: 0.3})
	if len(one) < 120 || len(one) > 160 {
		t.Errorf("%d of 200 arrived, 30 %% are to be lost", len(one))
	}
	if !bytes.Equal(one, same) || bytes.Equal(one, other) {
		t.Error("the seed does not decide what is lost")
	}
	if got := run(1, Host{Deaf: true}); len(got) != 0 {
		t.Errorf("%d packets reached a deaf host", len(got))
	}
}

// A packet that is sent later may arrive earlier; the queue is bounded.
func TestPacketOrder(t *testing.T) { synctest.Test(t, testPacketOrder) }
func testPacketOrder(t *testing.T) {
	n := New(1)
	n.SetHost(carol.Addr(), Host{Delay: time.Second})
	a, _ := n.ListenPacket(alice)
	b, _ := n.ListenPacket(bob)
	c, _ := n.ListenPacket(carol)
	c.WriteTo([]byte("far"), b.LocalAddr())
	a.WriteTo([]byte("near"), b.LocalAddr())
	buf := make([]byte, 10)
	for _, want := range []string{"near", "far"} {
		if k, _, err := b.ReadFrom(buf); err != nil || string(buf[:k]) != want {
			t.Errorf("got %q, %v; want %q", buf[:k], err, want)
		}
	}
	for range 2 * queue {
		a.WriteTo([]byte("x"), b.LocalAddr())
	}
	if len(b.queue) != queue {
		t.Errorf("%d packets wait, want %d at most", len(b.queue), queue)
	}
}
