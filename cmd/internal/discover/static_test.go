package discover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParsePeer(t *testing.T) {
	for in, want := range map[string]Peer{
		"1.2.3.4:5": {"1.2.3.4", 5}, "[2001:db8::1]:6881": {"2001:db8::1", 6881}, "host.example:65535": {"host.example", 65535}, "localhost:1": {"localhost", 1},
	} {
		got, err := ParsePeer(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%q: %v (%s), %v", in, got, got, err)
		}
	}
	for _, in := range []string{"", "host", "host:", ":80", "host:0", "host:65536", "host:x", "1:2:3", "::1:5", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1", "host:-1"} {
		if got, err := ParsePeer(in); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

// names is a resolver in memory.
type names struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	asked []time.Duration // since start
	start time.Time
}

func (n *names) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, time.Since(n.start))
	if a := n.addrs[host]; a != nil {
		return a, nil
	}
	return nil, errors.New("no such host")
}

func (n *names) set(host string, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[host] = nil
	for _, ip := range ips {
		n.addrs[host] = append(n.addrs[host], netip.MustParseAddr(ip))
	}
}

// emitted collects what a source finds, as text.
type emitted struct {
	mu  sync.Mutex
	got []string
}

func (e *emitted) emit(f Found) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, fmt.Sprint(f.Source, f.Addrs))
}

func (e *emitted) take() []string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.got
	e.got = nil
	slices.Sort(out)
	return out
}

// running runs a source in a bubble until stop is called.
func running(t *testing.T, s Source) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func peers(t *testing.T, in ...string) (out []Peer) {
	for _, s := range in {
		p, err := ParsePeer(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestStaticNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e emitted
		s := NewStatic(StaticConfig{Peers: peers(t, "1.2.3.4:5", "[2001:db8::1]:6", "[::ffff:9.9.9.9]:7"), Emit: e.emit})
		defer running(t, s)()
		if got := e.take(); !slices.Equal(got, []string{"--peer[1.2.3.4:5 [2001:db8::1]:6 9.9.9.9:7]"}) {
			t.Errorf("found %v", got)
		}
		time.Sleep(time.Hour)
		if got := e.take(); got != nil || !s.Exhausted() {
			t.Errorf("found %v again; exhausted %v, want that nothing more is to be had", got, s.Exhausted())
		}
	})
}

func TestStaticNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e emitted
		n := &names{addrs: make(map[string][]netip.Addr), start: time.Now()}
		s := NewStatic(StaticConfig{Peers: peers(t, "a:5"), Lookup: n.lookup, Emit: e.emit, Allows: netip.Addr.Is4})
		defer running(t, s)()
		time.Sleep(14 * time.Second)
		if e.take() != nil || s.Exhausted() {
			t.Error("exhausted after two failures, or found something")
		}
		time.Sleep(2 * time.Second)
		if synctest.Wait(); !s.Exhausted() {
			t.Error("not exhausted after three failures")
		}
		n.set("a", "2001:db8::1") // a family that is not allowed is no address
		time.Sleep(20 * time.Second)
		if got := e.take(); got != nil {
			t.Errorf("found %v", got)
		}
		n.set("a", "5.6.7.8", "1.2.3.4", "::ffff:1.2.3.4", "0.0.0.0", "224.0.0.1", "2001:db8::1")
		time.Sleep(time.Minute)
		if got := e.take(); !slices.Equal(got, []string{"--peer[1.2.3.4:5 5.6.7.8:5]"}) || !s.Exhausted() {
			t.Errorf("found %v, exhausted %v", got, s.Exhausted())
		}
		n.set("a", "1.2.3.4", "5.6.7.8")
		time.Sleep(5 * time.Minute)
		if got := e.take(); got != nil { // the same in another order is no news
			t.Errorf("found %v", got)
		}
		n.set("a", "9.9.9.9")
		time.Sleep(5 * time.Minute)
		if got := e.take(); !slices.Equal(got, []string{"--peer[9.9.9.9:5]"}) {
			t.Errorf("found %v", got)
		}
		n.set("a") // an address once found stays with those who dial it
		time.Sleep(5 * time.Minute)
		if got := e.take(); got != nil {
			t.Errorf("found %v", got)
		}
		sec := time.Second
		if want := []time.Duration{0, 5 * sec, 15 * sec, 35 * sec, 75 * sec}; !slices.Equal(n.asked[:5], want) {
			t.Errorf("asked at %v, want %v", n.asked[:5], want)
		}
	})
}

// A name that leads somewhere after all has nothing more to give, and one still looked up has.
func TestStaticPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e emitted
		n := &names{addrs: make(map[string][]netip.Addr), start: time.Now()}
		s := NewStatic(StaticConfig{Peers: peers(t, "1.2.3.4:5", "a:5"), Lookup: n.lookup, Emit: e.emit})
		if s.Exhausted() {
			t.Error("exhausted before it ran")
		}
		defer running(t, s)()
		if synctest.Wait(); s.Exhausted() {
			t.Error("exhausted while a name was looked up")
		}
		n.set("a", "5.6.7.8")
		time.Sleep(6 * time.Second)
		if synctest.Wait(); !s.Exhausted() {
			t.Error("not exhausted although all is known")
		}
	})
}

func TestStaticBackoffHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{addrs: make(map[string][]netip.Addr), start: time.Now()}
		defer running(t, NewStatic(StaticConfig{Peers: peers(t, "a:5"), Lookup: n.lookup, Emit: func(Found) {}}))()
		time.Sleep(time.Hour)
		n.mu.Lock()
		defer n.mu.Unlock()
		for i := 6; i < len(n.asked); i++ {
			if wait := n.asked[i] - n.asked[i-1]; wait != time.Minute {
				t.Fatalf("waited %v before attempt %d", wait, i)
			}
		}
	})
}

func TestStaticWithoutPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStatic(StaticConfig{})
		if !s.Exhausted() {
			t.Error("a source of nothing is not exhausted")
		}
		running(t, s)()
	})
}

func TestExhausted(t *testing.T) {
	none := NewStatic(StaticConfig{})
	some := NewStatic(StaticConfig{Peers: []Peer{{"a", 1}}})
	if !Exhausted() || !Exhausted(none, none) || Exhausted(none, some) {
		t.Error("all sources must be exhausted, no more and no less")
	}
}
