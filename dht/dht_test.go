package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bittern/dht/krpc"
)

// A peer that announces itself is found by another, and by one that has only just begun and asks the nodes that it is
// told of while it looks for others.
func TestAnnounceAndFind(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		nodes := w.crowd(20)
		_, r, err := search(t.Context(), nodes[3], Announce{Port: 4000})
		if err != nil || r.Announced != krpc.K || r.Answered < krpc.K {
			t.Fatalf("announced: %+v, %v", r, err)
		}
		want := []netip.AddrPort{netip.AddrPortFrom(hostAt(3).Addr(), 4000)}
		if found, r, err := search(t.Context(), nodes[9], Announce{}); err != nil || !slices.Equal(found, want) || r.Announced != 0 {
			t.Errorf("found %v, want %v; %+v, %v", found, want, r, err)
		}
		fresh, _ := w.run(hostAt(100), Config{Bootstrap: []string{hostAt(0).String()}, ReadOnly: 10 * time.Minute})
		begun := time.Now()
		if found, _, err := search(t.Context(), fresh, Announce{}); err != nil || !slices.Equal(found, want) {
			t.Errorf("the newcomer found %v, want %v; %v", found, want, err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the newcomer searched for %v", took)
		}
	})
}

// A search that is begun before any node is known begins when the first name is found, without waiting for the others.
func TestSearchWaitsForANode(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		nodes := w.crowd(10)
		if _, _, err := search(t.Context(), nodes[3], Announce{Port: 4000}); err != nil {
			t.Fatal(err)
		}
		n, _ := w.run(hostAt(100), Config{
			Bootstrap: []string{"silent.test:6881", "slow.test:6881"},
			Lookup: func(ctx context.Context, _, host string) ([]netip.Addr, error) {
				if host == "silent.test" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				time.Sleep(2 * time.Second)
				return []netip.Addr{hostAt(0).Addr()}, nil
			},
		})
		begun := time.Now()
		found, _, err := search(t.Context(), n, Announce{})
		if took := time.Since(begun); err != nil || len(found) != 1 || took < 2*time.Second || took > 3*time.Second {
			t.Errorf("found %v after %v, %v", found, took, err)
		}
	})
}

// Failures to begin are counted, told, and tried again at growing distance until a node answers.
func TestBootstrapFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var at []time.Duration
		begun := time.Now()
		down := errors.New("no network")
		n, _ := w.run(hostAt(100), Config{
			Bootstrap: []string{"node.test:6881"},
			Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
				at = append(at, time.Since(begun))
				if len(at) < 6 {
					return nil, down
				}
				return []netip.Addr{hostAt(0).Addr()}, nil
			},
		})
		for want, until := range []time.Duration{4 * time.Second, 14 * time.Second, 34 * time.Second, 74 * time.Second} {
			time.Sleep(until - time.Since(begun))
			if s := n.Status(); s.Failures != want || s.Err != down || s.IPv4 != 0 {
				t.Errorf("after %v: %+v, want %d failures", until, s, want)
			}
		}
		w.crowd(3) // which takes a minute
		time.Sleep(2 * time.Minute)
		if s := n.Status(); s.Failures != 0 || s.Err != nil || s.IPv4 == 0 {
			t.Errorf("in the end: %+v", s)
		}
		want := []time.Duration{0, 5, 15, 35, 75, 135}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("looked up at %v, want %v", at, want)
		}
	})
}

// A network that comes back has hope, however often there was none, until nobody answers there either.
func TestNetworkComesBack(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		begun := time.Now()
		n, _ := w.run(hostAt(100), Config{
			Bootstrap: []string{"node.test:6881"},
			Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
				if time.Since(begun) < 2*time.Minute {
					return nil, errors.New("no network")
				}
				return []netip.Addr{hostAt(0).Addr()}, nil // where nobody is
			},
		})
		for s := n.Status(); time.Since(begun) < 3*time.Minute; s = n.Status() {
			if s.Err == nil && s.Failures >= 3 {
				t.Fatalf("%d failures after %v", s.Failures, time.Since(begun))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(4 * time.Minute)
		if s := n.Status(); s.Failures < 3 {
			t.Errorf("%d failures in the end", s.Failures)
		}
	})
}

// Names are looked up a few at a time, strangers' names are few, and lead to this machine only where that is meant.
func TestNamedNodes(t *testing.T) {
	for _, loopback := range []bool{false, true} {
		in(t, func(t *testing.T, w *world) {
			at := netip.MustParseAddrPort("127.0.0.1:7000")
			w.run(at, Config{})
			w.run(hostAt(0), Config{})
			var mu sync.Mutex
			var looked []string
			atOnce, most := 0, 0
			c, err := w.net.ListenPacket(netip.MustParseAddrPort("127.0.0.1:7001"))
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{IPv4: c, Loopback: loopback, Named: []string{at.String(), "junk", "[::1]:7", "host:0"}}
			for range 100 {
				cfg.Named = append(cfg.Named, "named.test:6881")
			}
			cfg.Lookup = func(_ context.Context, network, host string) ([]netip.Addr, error) {
				mu.Lock()
				looked = append(looked, network+" "+host)
				atOnce++
				most = max(most, atOnce)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				atOnce--
				mu.Unlock()
				return slices.Repeat([]netip.Addr{hostAt(0).Addr()}, 100), nil
			}
			n, _ := w.run(at, cfg)
			time.Sleep(10 * time.Second)
			want := 1
			if loopback {
				want = 2
			}
			if s := n.Status(); s.IPv4 != want {
				t.Errorf("loopback %v: knows %d nodes, want %d", loopback, s.IPv4, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(looked) != maxNamed-3 || most > maxLookups || looked[0] != "ip named.test" && looked[0] != "ip host" {
				t.Errorf("%d names looked up, %d at once, the first %q", len(looked), most, looked[0])
			}
		})
	}
}

// Ping takes a node in, and never blocks.
func TestPing(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(hostAt(0), Config{})
		n, stop := w.run(hostAt(1), Config{})
		n.Ping(netip.AddrPortFrom(netip.AddrFrom16(hostAt(0).Addr().As16()), hostAt(0).Port()))
		time.Sleep(2 * time.Second)
		if s := n.Status(); s.IPv4 != 1 || s.IPv6 != 0 {
			t.Errorf("knows %+v", s)
		}
		stop()
		for range 10 * maxPings {
			n.Ping(hostAt(0))
		}
	})
}

// A search ends with its context, with the node, and at once where there is no node any more.
func TestSearchEnds(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		n, stop := w.run(hostAt(0), Config{})
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				_, _, err := search(ctx, n, Announce{})
				errs <- err
			}()
			synctest.Wait()
		}
		cancel(cause)
		if err := <-errs; err != cause {
			t.Errorf("the first ended with %v, want its context's cause", err)
		}
		stop()
		if err := <-errs; err != ErrClosed {
			t.Errorf("the second ended with %v", err)
		}
		if _, _, err := search(t.Context(), n, Announce{}); err != ErrClosed {
			t.Errorf("the third ended with %v", err)
		}
		if _, _, err := search(ctx, n, Announce{}); err != cause && err != ErrClosed {
			t.Errorf("the fourth ended with %v", err)
		}
	})
}

// One that was begun is given up as well.
func TestSearchStopped(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		n, _ := w.run(hostAt(0), Config{Bootstrap: []string{hostAt(7).String()}}) // where nobody is
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := search(ctx, n, Announce{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		synctest.Wait()
		hunts := make(chan int, 1)
		n.do(t.Context(), func(time.Time) { hunts <- len(n.hunts) + len(n.waiting) })
		if got := <-hunts; got != 0 {
			t.Errorf("%d searches go on", got)
		}
	})
}

// A read-only node answers nobody; after a while it answers if a stranger, to whom it had not sent anything, has asked it something.
func TestReadOnly(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		const quiet = 10 * time.Minute
		asked := w.stranger(hostAt(0)) // a node that does not mind BEP 43
		n, _ := w.run(hostAt(1), Config{Bootstrap: []string{hostAt(0).String()}, ReadOnly: quiet})
		time.Sleep(5 * time.Second)
		if asked.answers(hostAt(1)) {
			t.Error("it answers")
		}
		time.Sleep(quiet)
		if asked.answers(hostAt(1)) || !n.Status().ReadOnly {
			t.Error("it answers one who answers to it, which shows nothing")
		}
		stranger := w.stranger(hostAt(2))
		stranger.send(hostAt(1), []byte("d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t2:aa1:y1:re"))
		stranger.send(hostAt(1), []byte("junk"))
		if asked.answers(hostAt(1)) {
			t.Error("it takes anything for a query")
		}
		if !stranger.answers(hostAt(1)) || !asked.answers(hostAt(1)) {
			t.Error("it still does not answer, though strangers reach it")
		}
		time.Sleep(time.Second)
		if n.Status().ReadOnly {
			t.Error("its status says that it is read-only")
		}
	})
}

// A stranger that comes early counts, but nothing is answered before the time.
func TestReadOnlyUntil(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(hostAt(1), Config{ReadOnly: time.Minute})
		stranger := w.stranger(hostAt(2))
		if stranger.answers(hostAt(1)) {
			t.Error("it answers at once")
		}
		time.Sleep(time.Minute)
		if !stranger.answers(hostAt(1)) {
			t.Error("it does not answer after a minute")
		}
	})
}

// Of those that packets went to only so many are remembered.
func TestReachBounded(t *testing.T) {
	r := newReach()
	for i := range 3 * maxSent {
		r.sent(netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}), 1))
	}
	if n := len(r.young) + len(r.old); n > maxSent || n < maxSent/2 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// A panic on any goroutine is told once with its stack, and ends the node in order.
func TestPanic(t *testing.T) {
	for _, where := range []string{"look-up", "reader", "loop"} {
		t.Run(where, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				var told []string
				cfg := Config{Bootstrap: []string{"node.test:1"}}
				cfg.OnPanic = func(v any, stack []byte) {
					if !strings.Contains(string(stack), "dht_test.go") {
						t.Errorf("stack:\n%s", stack)
					}
					told = append(told, v.(string))
				}
				cfg.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
					if where == "look-up" {
						panic("bug")
					}
					return nil, errors.New("no names here")
				}
				cfg.IPv4 = w.socket(hostAt(0))
				if where == "reader" {
					cfg.IPv4 = broken{cfg.IPv4}
				}
				n := New(cfg)
				done := make(chan struct{})
				go func() {
					defer close(done)
					n.Run(t.Context())
				}()
				if where == "loop" {
					n.do(t.Context(), func(time.Time) { panic("bug") })
				}
				<-done
				if !slices.Equal(told, []string{"bug"}) {
					t.Errorf("told %q", told)
				}
				if _, _, err := search(t.Context(), n, Announce{}); err != ErrClosed {
					t.Errorf("searched with %v", err)
				}
			})
		})
	}
}

// broken is a socket that meets a bug.
type broken struct{ net.PacketConn }

func (broken) ReadFrom([]byte) (int, net.Addr, error) { panic("bug") }

// flaky is a socket on which some reads fail.
type flaky struct {
	net.PacketConn
	fail int
}

func (f *flaky) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.fail > 0 {
		f.fail--
		return 0, nil, errors.New("message too long")
	}
	return f.PacketConn.ReadFrom(b)
}

func (f *flaky) WriteTo(b []byte, to net.Addr) (int, error) {
	if to.String() == hostAt(9).String() {
		return 0, errors.New("no route")
	}
	return f.PacketConn.WriteTo(b, to)
}

// While nothing can be sent the status says why.
func TestNothingSent(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(hostAt(1), Config{})
		for i, bootstrap := range map[int]netip.AddrPort{2: hostAt(1), 3: hostAt(9)} {
			n, _ := w.run(hostAt(i), Config{IPv4: &flaky{w.socket(hostAt(i)), 0}, Bootstrap: []string{bootstrap.String()}})
			time.Sleep(time.Minute)
			if err := n.Status().Err; (err != nil) != (bootstrap == hostAt(9)) {
				t.Errorf("with %v to begin from it says %v", bootstrap, err)
			}
		}
	})
}

// A socket that fails now and then goes on to serve.
func TestSocketErrors(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		n, _ := w.run(hostAt(0), Config{IPv4: &flaky{w.socket(hostAt(0)), 12}})
		n.Ping(hostAt(9))
		time.Sleep(5 * time.Second)
		if !w.stranger(hostAt(1)).answers(hostAt(0)) {
			t.Error("it has stopped to answer")
		}
	})
}

// Over real sockets, in both families at once.
func TestLoopback(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var nodes []*Node
	var at []netip.AddrPort
	var wg sync.WaitGroup
	for range 3 {
		c4, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c6, err := net.ListenPacket("udp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		n := New(Config{IPv4: c4, IPv6: c6})
		wg.Go(func() { n.Run(ctx) })
		nodes = append(nodes, n)
		at = append(at, c4.LocalAddr().(*net.UDPAddr).AddrPort(), c6.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	for _, n := range nodes {
		for _, a := range at {
			n.Ping(a)
		}
		poll(t, "every node knows the others", func() bool { s := n.Status(); return s.IPv4 == 2 && s.IPv6 == 2 })
	}
	if _, r, err := search(ctx, nodes[0], Announce{Port: 4000}); err != nil || r.Announced != 4 {
		t.Errorf("announced: %+v, %v", r, err)
	}
	found, _, err := search(ctx, nodes[1], Announce{})
	slices.SortFunc(found, netip.AddrPort.Compare)
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4000"), netip.MustParseAddrPort("[::1]:4000")}
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("found %v, want %v; %v", found, want, err)
	}
	cancel()
	wg.Wait()
}

// poll waits until something is so, for ten seconds at most.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("not so: %s", what)
}
