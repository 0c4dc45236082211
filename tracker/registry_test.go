package tracker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func newRegistry() *registry {
	return &registry{swarms: make(map[[20]byte]*members), swarmMax: 3, peerMax: 8, hostMax: 3, life: 3 * time.Minute, rng: rng()}
}

func anyFamily(netip.Addr) bool { return true }

// known returns the peers that addr would be told of, sorted.
func (g *registry) known(s *members, asks string, seeder bool, n int) []string {
	var out []string
	g.pick(s, netip.MustParseAddrPort(asks), !seeder, n, anyFamily, func(m *member) { out = append(out, m.addr.String()) })
	slices.Sort(out)
	return out
}

func TestRegistryLife(t *testing.T) {
	g := newRegistry()
	now := epoch
	s := g.allow(hashA)
	say := func(addr string, left int64, ev Event) {
		g.announce(now, s, netip.MustParseAddrPort(addr), Request{Left: left, Event: ev})
	}
	say("1.0.0.1:1", 5, Started)
	say("1.0.0.2:2", 0, Started)
	say("1.0.0.3:3", 0, Started)
	say("1.0.0.4:0", 5, Started) // takes no connections
	if c := s.counts().Counts; c != (Counts{Seeders: 2, Leechers: 1}) {
		t.Errorf("counts %+v", c)
	}
	if got := g.known(s, "1.0.0.1:1", false, 9); !slices.Equal(got, []string{"1.0.0.2:2", "1.0.0.3:3"}) {
		t.Errorf("a leecher is told of %v", got)
	}
	if got := g.known(s, "1.0.0.2:2", true, 9); !slices.Equal(got, []string{"1.0.0.1:1"}) {
		t.Errorf("a seed is told of %v", got)
	}
	if got := g.known(s, "9.9.9.9:9", false, 2); len(got) != 2 {
		t.Errorf("two wanted, told of %v", got)
	}
	say("1.0.0.1:1", 0, Completed)
	say("1.0.0.1:1", 0, Completed) // once is enough
	say("1.0.0.9:9", 0, Completed) // never seen before: not a download of ours
	say("1.0.0.9:9", 0, Stopped)   // gone
	say("8.8.8.8:8", 0, Stopped)   // was not there
	if c := s.counts().Counts; c != (Counts{3, 0, 1}) || len(s.at) != 3 || len(s.hosts) != 3 {
		t.Errorf("counts %+v, %d, %d", c, len(s.at), len(s.hosts))
	}
	now = now.Add(2 * time.Minute)
	say("1.0.0.2:2", 0, None)
	now = now.Add(time.Minute)
	s.sweep(now, g.life)
	if got := g.known(s, "9.9.9.9:9", false, 9); !slices.Equal(got, []string{"1.0.0.2:2"}) {
		t.Errorf("after three minutes %v are left, want the one that announced", got)
	}
}

func TestRegistryIsBounded(t *testing.T) {
	g := newRegistry()
	s := g.allow(hashA)
	for i := range 100 {
		g.announce(epoch, s, netip.AddrPortFrom(netip.MustParseAddr("1.0.0.1"), uint16(1+i)), Request{Left: 1})
	}
	if len(s.list) != g.hostMax {
		t.Errorf("%d peers of one address, want %d", len(s.list), g.hostMax)
	}
	for i := range 100 {
		g.announce(epoch, s, netip.AddrPortFrom(netip.AddrFrom4([4]byte{2, 0, 0, byte(i)}), 1), Request{Left: 1})
	}
	if len(s.list) != g.peerMax {
		t.Errorf("%d peers, want %d", len(s.list), g.peerMax)
	}
	s = g.allow(hashB)
	for i := range 100 { // this machine's own clients are not strangers
		g.announce(epoch, s, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1+i)), Request{Left: 1})
	}
	if len(s.list) != g.peerMax {
		t.Errorf("%d peers on loopback, want %d", len(s.list), g.peerMax)
	}
}

func TestRegistryOpen(t *testing.T) {
	g := newRegistry()
	if g.swarm(epoch, hashA) != nil {
		t.Error("a torrent that nobody allowed is served")
	}
	g.open = true
	for i := range 3 {
		s := g.swarm(epoch, [20]byte{byte(i)})
		g.announce(epoch, s, netip.MustParseAddrPort("1.2.3.4:5"), Request{Left: 1})
	}
	if g.swarm(epoch, [20]byte{9}) != nil || len(g.swarms) != 3 {
		t.Errorf("%d swarms, want the limit of 3", len(g.swarms))
	}
	if g.swarm(epoch.Add(time.Hour), [20]byte{9}) == nil || len(g.swarms) != 1 {
		t.Errorf("%d swarms, want those that everybody left to make room", len(g.swarms))
	}
}

// Property: the three views of a swarm agree whatever happens to it.
func TestRegistryViewsAgree(t *testing.T) {
	r := rng()
	g := newRegistry()
	s := g.allow(hashA)
	now := epoch
	for i := range 5000 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, 0, byte(r.IntN(5))}), uint16(r.IntN(5)))
		g.announce(now, s, addr, Request{Left: r.Int64N(2), Event: Event(r.IntN(4))})
		now = now.Add(time.Duration(r.IntN(20)) * time.Second)
		hosts := make(map[netip.Addr]int)
		for j, m := range s.list {
			if s.at[m.addr] != j {
				t.Fatalf("step %d: %v is at %d, said to be at %d", i, m.addr, j, s.at[m.addr])
			}
			hosts[m.addr.Addr()]++
		}
		if len(s.at) != len(s.list) || fmt.Sprint(hosts) != fmt.Sprint(s.hosts) {
			t.Fatalf("step %d: %d listed, %d indexed, hosts %v and %v", i, len(s.list), len(s.at), hosts, s.hosts)
		}
	}
}

func BenchmarkRegistryAnnounce(b *testing.B) {
	g := newRegistry()
	g.peerMax, g.hostMax = 2000, 2000
	s := g.allow(hashA)
	r := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, 0, 1}), uint16(1+r.IntN(2000)))
		g.announce(epoch, s, addr, Request{Left: 1})
		g.pick(s, addr, false, 50, anyFamily, func(*member) {})
	}
}
