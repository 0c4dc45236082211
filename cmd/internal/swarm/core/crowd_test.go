package core

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// In a new swarm few are dialed, so that places are left for those who come later; in any other, and after a while, all
// there is room for.
func TestFewAreDialedInANewSwarm(t *testing.T) {
	const few = defaultMaxPeers / newSwarmDials
	bits := func(n int) wire.Message {
		b := piece.NewBitfield(16)
		for i := range n {
			b.Set(i)
		}
		return wire.Message{ID: wire.Bitfield, Payload: b.Bytes()}
	}
	type meeting struct {
		*rig
		dials []netip.AddrPort
	}
	meet := func(m *meeting, n, pieces int) { // n of those that were dialed connect
		for range n {
			who := remote(LinkID(m.c.met + 1))
			who.Addr, m.dials = m.dials[0], m.dials[1:]
			m.handle(Event{Op: Joined, Link: LinkID(m.c.met + 1), Remote: who})
			m.msg(LinkID(m.c.met), bits(pieces))
		}
	}
	for _, tt := range []struct {
		name  string
		after func(m *meeting)
		want  int
	}{
		{"nobody met yet", func(m *meeting) {}, few},
		{"nobody met for a second", func(m *meeting) { m.tick(tickEvery) }, defaultHalfOpen},
		{"peers with next to nothing", func(m *meeting) { meet(m, few, 1); m.tick(newSwarmFor - 1) }, few},
		{"the same for long", func(m *meeting) { meet(m, few, 1); m.tick(newSwarmFor) }, few + defaultHalfOpen},
		{"those that answer nothing for a second", func(m *meeting) { meet(m, 3, 0); m.tick(tickEvery) }, 3 + 2*(few-3)},
		{"one that has an eighth", func(m *meeting) { meet(m, 1, 2) }, 1 + defaultHalfOpen},
		{"the seed first", func(m *meeting) { meet(m, 1, 16) }, 1 + defaultHalfOpen},
		{"the seed of a crowd", func(m *meeting) { meet(m, few-1, 0); meet(m, 1, 16) }, few},
		{"those that have nothing, and as many that have a quarter", func(m *meeting) { meet(m, 5, 0); meet(m, 5, 4) }, few + defaultHalfOpen},
		{"those whom the user named", func(m *meeting) {
			var named []netip.AddrPort
			for n := range 15 {
				named = append(named, addr(n+2000))
			}
			m.handle(Event{Op: Found, Addrs: named, Source: SourceStatic})
		}, few + 15},
		{"callers", func(m *meeting) {
			for id := range LinkID(few) {
				who := remote(id + 1)
				who.Outgoing = false
				m.handle(Event{Op: Joined, Link: id + 1, Remote: who})
				m.msg(id+1, bits(0))
			}
			meet(m, few, 0)
			m.tick(tickEvery)
		}, few + few},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &meeting{rig: newRig(t, Config{})}
			m.tick(time.Minute) // a tracker may be slow
			m.see = func(e Effect) {
				if e.Op == Dial {
					m.dials = append(m.dials, e.Addr)
				}
			}
			var many []netip.AddrPort
			for n := range 200 {
				many = append(many, addr(n+1000))
			}
			m.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
			tt.after(m)
			if n := m.c.dialing.underWay + len(m.c.links); n != tt.want {
				t.Errorf("%d peers here or dialed, want %d", n, tt.want)
			}
		})
	}
}

// However few places there are, some are for those we dial.
func TestFewPlacesInANewSwarm(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxPeers: leastDials + 1}})
	for n := range 10 {
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(n)}, Source: SourceTracker})
	}
	if n := r.c.dialing.underWay; n != leastDials {
		t.Errorf("%d are dialed, want %d", n, leastDials)
	}
}
