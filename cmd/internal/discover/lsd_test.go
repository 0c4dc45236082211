package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A lan is a local network in memory: what a member sends to a group reaches all its members, the
// sender included.
type lan struct {
	mu      sync.Mutex
	members []*station
	sent    []string // when, by whom and to which group
	start   time.Time
}

// A station is a membership of a machine in a group.
type station struct {
	lan      *lan
	ip       netip.Addr
	group    netip.AddrPort
	in       chan datagram
	rejoined int // guarded by lan.mu
	closed   chan struct{}
}

type datagram struct {
	text string
	from netip.AddrPort
}

func newLAN() *lan { return &lan{start: time.Now()} }

// join is [LSDConfig.Join] of a machine with an address of each family; of one without IPv6 if ip6 is "".
func (l *lan) join(ip4, ip6 string) func(netip.AddrPort) (Multicast, error) {
	return func(group netip.AddrPort) (Multicast, error) {
		ip := ip4
		if group.Addr().Is6() {
			ip = ip6
		}
		if ip == "" {
			return nil, errors.New("no such family")
		}
		s := &station{lan: l, ip: netip.MustParseAddr(ip), group: group, in: make(chan datagram, 100), closed: make(chan struct{})}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.members = append(l.members, s)
		return s, nil
	}
}

func (l *lan) send(d datagram, group netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, fmt.Sprintf("%v %v %v", time.Since(l.start), d.from.Addr(), group.Addr()))
	for _, m := range l.members {
		if m.group == group {
			m.in <- d
		}
	}
}

// take returns what has been sent since the last call.
func (l *lan) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.sent
	l.sent = nil
	return out
}

func (s *station) Send(b []byte) error {
	s.lan.send(datagram{string(b), netip.AddrPortFrom(s.ip, 40000)}, s.group)
	return nil
}

func (s *station) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-s.in:
		if d.text == "broken" {
			return 0, netip.AddrPort{}, errors.New("broken")
		}
		return copy(b, d.text), d.from, nil
	case <-s.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *station) Rejoin() error {
	s.lan.mu.Lock()
	defer s.lan.mu.Unlock()
	s.rejoined++
	return nil
}

func (s *station) Close() error { close(s.closed); return nil }

// lsd returns a source on a lan that listens at a port.
func lsd(l *lan, port uint16, e *emitted, ip4, ip6 string) *LSD {
	return NewLSD(LSDConfig{InfoHash: hash, Port: func() uint16 { return port }, Join: l.join(ip4, ip6), Emit: e.emit})
}

func TestLSD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var a, b, other emitted
		defer running(t, lsd(l, 1000, &a, "10.0.0.1", "fe80::1%eth0"))()
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if got := a.take(); got != nil {
			t.Errorf("found %v, ourselves", got)
		}
		defer running(t, lsd(l, 2000, &b, "10.0.0.2", ""))() // which has no IPv6
		another := lsd(l, 3000, &other, "10.0.0.3", "fe80::3%eth0")
		another.cfg.InfoHash[0]++
		defer running(t, another)()
		if got := a.take(); !slices.Equal(got, []string{"LSD[10.0.0.2:2000]"}) {
			t.Errorf("the first found %v", got)
		}
		if got := b.take(); !slices.Equal(got, []string{"LSD[10.0.0.1:1000]"}) { // by the answer
			t.Errorf("the second found %v", got)
		}
		if got := other.take(); got != nil {
			t.Errorf("who shares something else found %v", got)
		}
		time.Sleep(time.Hour)
		if got := b.take(); len(got) < 10 || len(got) > 20 || got[0] != got[len(got)-1] {
			t.Errorf("found again in an hour: %v", got)
		}
	})
}

// At the start, twice more a minute apart, then every five minutes; a newcomer is answered at once, but
// never is there more than one a minute.
func TestLSDTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var e emitted
		s := lsd(l, 1000, &e, "10.0.0.1", "")
		defer running(t, s)()
		var log []string
		newcomer := func(ip string) {
			a := announcement{port: 1, hashes: [][20]byte{hash}}
			from := netip.AddrPortFrom(netip.MustParseAddr(ip), 1)
			l.send(datagram{string(a.append(nil, group)), from}, lsdGroups[0])
			log = append(log, l.take()...)
		}
		time.Sleep(10 * time.Second)
		newcomer("10.0.0.2") // answered now
		time.Sleep(10 * time.Second)
		newcomer("10.0.0.3") // answered a minute after that
		newcomer("10.0.0.2") // known
		time.Sleep(20 * time.Minute)
		log = append(log, l.take()...)
		var ours []string
		for _, line := range log {
			if at, ok := strings.CutSuffix(line, " 10.0.0.1 239.192.152.143"); ok {
				ours = append(ours, at)
			}
		}
		if want := []string{"0s", "10s", "1m10s", "6m10s", "11m10s", "16m10s"}; !slices.Equal(ours, want) {
			t.Errorf("announced at %v, want %v", ours, want)
		}
	})
}

// Without anybody there is hope for as long as an answer may take.
func TestLSDExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e emitted
		s := lsd(newLAN(), 1000, &e, "10.0.0.1", "")
		if s.Exhausted() {
			t.Error("exhausted before it ran")
		}
		defer running(t, s)()
		time.Sleep(lsdHopes - time.Second)
		if synctest.Wait(); s.Exhausted() {
			t.Error("exhausted before its time")
		}
		time.Sleep(time.Second)
		if synctest.Wait(); !s.Exhausted() {
			t.Error("not exhausted in time")
		}
	})
}

// Refused multicast is logged and no more than that, until the network changes.
func TestLSDRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var e emitted
		var log bytes.Buffer
		var network atomic.Int32 // which one this machine is in; it has none at first
		s := lsd(l, 1000, &e, "", "")
		s.cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s.watch = watch{wall: time.Now, addrs: func() ([]string, error) { return []string{fmt.Sprint(network.Load())}, nil }}
		s.cfg.Join = func(group netip.AddrPort) (Multicast, error) {
			if network.Load() == 0 {
				return nil, errors.New("refused")
			}
			return l.join("10.0.0.1", "")(group)
		}
		stop := running(t, s)
		if synctest.Wait(); !s.Exhausted() {
			t.Error("not exhausted without a group")
		}
		network.Store(1)
		time.Sleep(watchEvery)
		if got := l.take(); len(got) != 1 || s.Exhausted() {
			t.Errorf("sent %v, exhausted %v after the network came", got, s.Exhausted())
		}
		network.Store(2)
		time.Sleep(watchEvery)
		l.take()
		if n := l.members[0].rejoined; n != 1 {
			t.Errorf("joined again %d times", n)
		}
		stop()
		if n := strings.Count(log.String(), "error=refused"); n != len(lsdGroups) {
			t.Errorf("logged %q", &log)
		}
	})
}

// Who does not listen has nothing to announce, but hears the others.
func TestLSDWithoutPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var a, b emitted
		defer running(t, lsd(l, 0, &a, "10.0.0.1", ""))()
		synctest.Wait()
		defer running(t, lsd(l, 2000, &b, "10.0.0.2", ""))()
		time.Sleep(time.Second)
		if got := a.take(); !slices.Equal(got, []string{"LSD[10.0.0.2:2000]"}) || b.take() != nil {
			t.Errorf("found %v", got)
		}
	})
}

// Junk is not heard, a failure to receive is outlived, and a flood of neighbours is bounded until they have gone.
func TestLSDFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var e emitted
		defer running(t, lsd(l, 1000, &e, "10.0.0.1", ""))()
		text := string(announcement{port: 1, hashes: [][20]byte{hash}}.append(nil, group))
		send := func(text, from string) {
			l.send(datagram{text, netip.MustParseAddrPort(from)}, lsdGroups[0])
			synctest.Wait()
		}
		for _, junk := range []string{"", "broken", "BT-SEARCH", strings.Repeat("x", 60_000), text + strings.Repeat("\r\n", maxAnnouncement)} {
			send(junk, "10.0.0.2:1")
		}
		send(text, "0.0.0.0:1")
		time.Sleep(2 * receivePause)
		if got := e.take(); got != nil {
			t.Errorf("found %v in junk", got)
		}
		for i := range 2 * maxNeighbours {
			send(text, fmt.Sprintf("10.1.%d.%d:1", i/256, i%256))
		}
		if got := e.take(); len(got) != maxNeighbours {
			t.Errorf("found %d", len(got))
		}
		if got := l.take(); len(got) > 2*maxNeighbours+10 {
			t.Errorf("%d datagrams of ours", len(got)-2*maxNeighbours)
		}
		time.Sleep(neighbourGone + time.Second)
		send(text, "10.2.0.1:1")
		if got := e.take(); len(got) != 1 {
			t.Errorf("found %v after the others had gone", got)
		}
	})
}

func TestLSDPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN()
		var e emitted
		s := lsd(l, 1000, &e, "10.0.0.1", "")
		told := make(chan any, len(lsdGroups))
		s.cfg.OnPanic = func(v any, _ []byte) { told <- v }
		s.cfg.Join = func(netip.AddrPort) (Multicast, error) { return buggy{}, nil }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Run(ctx)
		if v := <-told; v != "bug" {
			t.Errorf("told %v", v)
		}
	})
}

// buggy panics.
type buggy struct{ Multicast }

func (buggy) Receive([]byte) (int, netip.AddrPort, error) { panic("bug") }
func (buggy) Send([]byte) error                           { return nil }
func (buggy) Close() error                                { return nil }
