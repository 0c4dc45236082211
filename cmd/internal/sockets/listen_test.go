package sockets

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]Ports{"1": {1, 1}, "6881": {6881, 6881}, "6881-6889": {6881, 6889}, "65535": {65535, 65535}, "7-7": {7, 7}} {
		if got, err := ParsePorts(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "-", "1-", "-1", "65536", "9-8", "a", "1-2-3", " 1", "0-5", "+1"} {
		if got, err := ParsePorts(in); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
	for want, p := range map[string]Ports{"any": {}, "5": {5, 5}, "5-7": {5, 7}} {
		if p.String() != want {
			t.Errorf("%v", p)
		}
	}
}

func TestListenBothFamilies(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Policy
		want []string // addresses
	}{
		{"any", Policy{}, []string{"0.0.0.0", "::"}},
		{"-4", Policy{Only4: true}, []string{"0.0.0.0"}},
		{"-6", Policy{Only6: true}, []string{"::"}},
		{"IPv4 interface", Policy{Interface: ip4}, []string{"127.0.0.1"}},
		{"IPv6 interface", Policy{Interface: ip6}, []string{"::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Listen(tt.p, Ports{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var got []string
			for _, a := range l.Addrs() {
				got = append(got, a.Addr().String())
				if a.Port() != l.Port() || a.Port() == 0 {
					t.Errorf("port %d at %v", l.Port(), a)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("listens on %v, want %v", got, tt.want)
			}
		})
	}
	if _, err := Listen(Policy{Only4: true, Only6: true}, Ports{}); err == nil {
		t.Error("a policy that forbids everything listens")
	}
}

func TestPortTaken(t *testing.T) {
	p := Policy{Interface: ip4}
	first, err := Listen(p, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	n := first.Port()
	_, err = Listen(p, Ports{n, n})
	if e, ok := errors.AsType[*PortError](err); !ok || e.Ports != (Ports{n, n}) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a single port that is taken: %v", err)
	}
	if n == 65535 {
		return // no port behind it
	}
	next, err := Listen(p, Ports{n, uint16(min(int(n)+200, 65535))})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if next.Port() <= first.Port() || next.PassedOver() != int(next.Port()-first.Port()) {
		t.Errorf("port %d after %d, %d passed over", next.Port(), first.Port(), next.PassedOver())
	}
}

// A port that is taken in one family only is taken: both listen on the same number.
func TestPortTakenInOneFamily(t *testing.T) {
	six, err := Listen(Policy{Only6: true}, quietPorts())
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	_, err = Listen(Policy{}, Ports{six.Port(), six.Port()})
	if _, ok := errors.AsType[*PortError](err); !ok {
		t.Errorf("err = %v, want a PortError", err)
	}
	four, err := Listen(Policy{Only4: true}, Ports{six.Port(), six.Port()}) // and the failed attempt left nothing open
	if err != nil {
		t.Fatal(err)
	}
	four.Close()
}

// quietPorts are ports that the kernel gives nobody who asks for any, for tests that open one again which they have closed.
func quietPorts() Ports {
	low := uint16(10000 + rand.IntN(20000))
	return Ports{low, low + 200}
}

// UDP has the number of TCP, in the families that TCP has; who takes it has it to itself.
func TestListenBoth(t *testing.T) {
	for _, tt := range []struct {
		name       string
		p          Policy
		ipv4, ipv6 string
	}{
		{"any", Policy{}, "0.0.0.0", "::"},
		{"-4", Policy{Only4: true}, "0.0.0.0", ""},
		{"-6", Policy{Only6: true}, "", "::"},
		{"IPv4 interface", Policy{Interface: ip4}, "127.0.0.1", ""},
		{"IPv6 interface", Policy{Interface: ip6}, "", "::1"},
	} {
		l, err := ListenBoth(tt.p, Ports{})
		if err != nil {
			t.Fatal(err)
		}
		ipv4, ipv6 := l.TakeUDP()
		if again4, again6 := l.TakeUDP(); again4 != nil || again6 != nil {
			t.Errorf("%s: taken twice", tt.name)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for _, u := range []struct {
			c    net.PacketConn
			want string
		}{{ipv4, tt.ipv4}, {ipv6, tt.ipv6}} {
			if u.c == nil || u.want == "" {
				if u.c != nil || u.want != "" {
					t.Errorf("%s: UDP at %v, want %q", tt.name, u.c, u.want)
				}
				continue
			}
			if at := u.c.LocalAddr().(*net.UDPAddr).AddrPort(); at.Addr().String() != u.want || at.Port() != l.Port() {
				t.Errorf("%s: UDP at %v, want %s and port %d", tt.name, at, u.want, l.Port())
			}
			if err := u.c.Close(); err != nil {
				t.Errorf("%s: the listener has closed what was taken: %v", tt.name, err)
			}
		}
	}
}

// A port that is taken for UDP, in whichever family, is taken, unless only TCP is asked for; the next of a range will do. What
// nobody takes is closed with the rest.
func TestUDPPortTaken(t *testing.T) {
	for _, family := range []Policy{{Only4: true}, {Only6: true}} {
		l, err := ListenBoth(family, quietPorts())
		if err != nil {
			t.Fatal(err)
		}
		n := l.Port()
		ipv4, ipv6 := l.TakeUDP()
		l.Close()
		_, err = ListenBoth(Policy{}, Ports{n, n})
		if e, ok := errors.AsType[*PortError](err); !ok || !errors.Is(e, syscall.EADDRINUSE) {
			t.Errorf("a port that is taken for UDP: %v", err)
		}
		next, err := ListenBoth(Policy{}, Ports{n, n + 200})
		if err != nil || next.Port() == n || next.PassedOver() == 0 {
			t.Fatalf("in a range: %v, %v", next, err)
		}
		next.Close()
		tcp, err := Listen(Policy{}, Ports{n, n}) // and the failed attempt left nothing open
		if err != nil {
			t.Fatal(err)
		}
		tcp.Close()
		for _, c := range []net.PacketConn{ipv4, ipv6} {
			if c != nil {
				c.Close()
			}
		}
		both, err := ListenBoth(Policy{}, Ports{n, n})
		if err != nil {
			t.Fatal(err)
		}
		both.Close()
		if both, err = ListenBoth(Policy{}, Ports{n, n}); err != nil {
			t.Fatalf("closing has left something open: %v", err)
		}
		both.Close()
	}
}

// start serves l in the background; stop ends it and waits.
func start(t *testing.T, l *Listener, pending int, handle func(context.Context, net.Conn)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Serve(ctx, pending, handle)
	}()
	return func() { cancel(); <-done }
}

func TestServe(t *testing.T) {
	l, err := Listen(Policy{}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, l, 10, func(_ context.Context, nc net.Conn) {
		defer nc.Close()
		io.WriteString(nc, nc.RemoteAddr().Network())
	})
	for _, host := range []string{"127.0.0.1", "::1"} {
		nc, err := Policy{}.Dial(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(host), l.Port()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(nc); err != nil || string(got) != "tcp" {
			t.Errorf("%s: %q, %v", host, got, err)
		}
		nc.Close()
	}
	stop()
	if _, err := (Policy{}).Dial(t.Context(), netip.AddrPortFrom(ip4, l.Port())); err == nil {
		t.Error("the port is still open")
	}
}

// The oldest connection in its handle makes room for a new one.
func TestServeEvicts(t *testing.T) {
	l, err := Listen(Policy{Interface: ip4}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	const pending = 3
	entered := make(chan string)
	left := make(chan string, 100)
	stop := start(t, l, pending, func(_ context.Context, nc net.Conn) {
		entered <- nc.RemoteAddr().String()
		io.Copy(io.Discard, nc) // a silent peer: until it is closed under us
		left <- nc.RemoteAddr().String()
	})
	var order []string
	for range 2 * pending {
		nc, err := Policy{}.Dial(t.Context(), netip.AddrPortFrom(ip4, l.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		order = append(order, <-entered)
	}
	for i := range pending {
		if got := <-left; !slices.Contains(order[:pending], got) {
			t.Errorf("eviction %d took %s of %v", i, got, order)
		}
	}
	select {
	case got := <-left:
		t.Errorf("%s was evicted too", got)
	default:
	}
	stop() // closes what is left
	if len(left) != pending {
		t.Errorf("%d handles ended with Serve, want %d", len(left), pending)
	}
}

// One that has been passed on is no longer the listener's to close.
func TestServeForgetsWhatWasPassedOn(t *testing.T) {
	l, err := Listen(Policy{Interface: ip4}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	passed := make(chan net.Conn, 10)
	stop := start(t, l, 1, func(_ context.Context, nc net.Conn) { passed <- nc })
	var theirs, ours []net.Conn
	for range 5 {
		nc, err := Policy{}.Dial(t.Context(), netip.AddrPortFrom(ip4, l.Port()))
		if err != nil {
			t.Fatal(err)
		}
		theirs, ours = append(theirs, <-passed), append(ours, nc)
		for l.waiting.count() > 0 { // until its handle has returned
			runtime.Gosched()
		}
	}
	stop()
	for i, nc := range theirs {
		if _, err := nc.Write([]byte("x")); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		nc.Close()
		ours[i].Close()
	}
}

func (w *waiting) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.list)
}

// flaky is a listener that fails some times before it works.
type flaky struct {
	mu   sync.Mutex
	errs []error
	at   []time.Time // of each call
	conn chan net.Conn
}

func (f *flaky) Accept() (net.Conn, error) {
	f.mu.Lock()
	f.at = append(f.at, time.Now())
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		f.mu.Unlock()
		return nil, err
	}
	f.mu.Unlock()
	nc, ok := <-f.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (f *flaky) Close() error   { close(f.conn); return nil }
func (f *flaky) Addr() net.Addr { return &net.TCPAddr{} }

// Without files to spare the listener waits, longer each time, and goes on.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		f := &flaky{errs: slices.Repeat([]error{emfile}, 9), conn: make(chan net.Conn)}
		taken := 0
		stop := start(t, &Listener{socks: portSockets{tcp: []net.Listener{f}}}, 1, func(_ context.Context, nc net.Conn) { taken++; nc.Close() })
		ours, theirs := net.Pipe()
		begin := time.Now()
		f.conn <- theirs
		io.Copy(io.Discard, ours)
		took := time.Since(begin)
		stop()
		var waits []time.Duration
		for i := range 9 {
			waits = append(waits, f.at[i+1].Sub(f.at[i]))
		}
		ms := time.Millisecond
		if want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 500 * ms, 500 * ms}; !slices.Equal(waits, want) {
			t.Errorf("waited %v, want %v", waits, want)
		}
		if taken != 1 || took > 2*time.Second {
			t.Errorf("%d taken in %v", taken, took)
		}
	})
}

// The end does not wait for a back-off.
func TestServeEndsInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{errs: slices.Repeat([]error{syscall.EMFILE}, 1000), conn: make(chan net.Conn)}
		stop := start(t, &Listener{socks: portSockets{tcp: []net.Listener{f}}}, 1, func(_ context.Context, nc net.Conn) { nc.Close() })
		time.Sleep(10 * time.Second)
		begin := time.Now()
		if stop(); time.Since(begin) != 0 {
			t.Errorf("took %v", time.Since(begin))
		}
	})
}
