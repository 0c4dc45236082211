package core

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
)

// house is a rig whose places are taken by n peers, of which nobody wants or gives anything that counts: they have
// a piece each and choke us.
func house(t *testing.T, n int, cfg Config) *rig {
	cfg.MaxPeers = n
	r := newRig(t, cfg)
	for id := range LinkID(n) {
		r.join(1 + id)
		r.say(1+id, wire.Interested)
		r.msg(1+id, wire.Message{ID: wire.Have, Index: uint32(id)})
	}
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(101), addr(102), addr(103)}, Source: SourceTracker})
	r.forget()
	return r
}

// gone returns how many peers have left for their uselessness.
func (r *rig) gone() (n int) {
	for _, w := range r.got {
		if len(w) > 2 && w[1:] == ":drop "+errUseless.Error() {
			n++
		}
	}
	return n
}

func TestUselessPeersGiveWayOneAtATime(t *testing.T) {
	r := house(t, 4, Config{Slots: -1})
	r.tick(uselessAfter - time.Second)
	if n := r.gone(); n != 0 {
		t.Fatalf("%d have gone early", n)
	}
	r.block(2, r.all(1)[0]) // not asked for: it does not count
	r.tick(2 * time.Second)
	if n := r.gone(); n != 1 || !r.has("dial "+addr(101).String()) && !r.has("dial "+addr(102).String()) && !r.has("dial "+addr(103).String()) {
		t.Fatalf("%d have gone, want one for another: %s", n, squeeze(r.got))
	}
	r.tick(5 * time.Minute) // the dial is under way, or its end not heard of
	if n := r.gone(); n != 1 {
		t.Errorf("%d have gone while a place is empty", n)
	}
}

func TestTurnoverIsPaced(t *testing.T) {
	r := house(t, 4, Config{Slots: -1})
	r.tick(uselessAfter)
	for i := range 3 {
		if n := r.gone(); n != i+1 {
			t.Fatalf("after %d turns %d have gone", i+1, n)
		}
		who := remote(LinkID(5 + i))
		for _, a := range r.c.dialing.order {
			if a.state == dialing {
				who.Addr = a.at
			}
		}
		r.handle(Event{Op: Joined, Link: LinkID(5 + i), Remote: who})
		r.tick(turnEvery)
	}
	r.tick(time.Hour)
	if n := r.gone(); n != 3 {
		t.Errorf("%d have gone, with nobody new to dial after three", n)
	}
}

func TestWhoIsOfUseStays(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		used func(r *rig)
	}{
		{"it waits for its turn with a seed", Config{Seed: Seeding{Forever: true}, Slots: -1, Have: full(layoutOf(t, mib, 64*kib))}, func(*rig) {}},
		{"it is served", Config{Slots: 4}, func(r *rig) {
			for id := range LinkID(4) {
				r.handle(Event{Op: Sent, Link: 1 + id, N: kib})
			}
		}},
		{"it serves", Config{Slots: -1}, func(r *rig) {
			for id := range LinkID(4) {
				r.say(1+id, wire.Unchoke)
			}
			for _, b := range r.takeAsks() {
				r.block(1+LinkID(b.Piece), b)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := house(t, 4, tt.cfg)
			r.tick(uselessAfter - 2*time.Second)
			tt.used(r)
			r.tick(uselessAfter - 2*time.Second)
			if n := r.gone(); n != 0 {
				t.Errorf("%d have gone", n)
			}
		})
	}
}

// Who may ask a seed for what it wants, and does not, is of no use though it says that it is interested.
func TestWhoOnlySaysThatItIsInterestedGivesWay(t *testing.T) {
	r := house(t, 4, Config{Seed: Seeding{Forever: true}, Slots: 4, Have: full(layoutOf(t, mib, 64*kib))})
	r.tick(uselessAfter + time.Second)
	if n := r.gone(); n != 1 {
		t.Errorf("%d have gone, want one", n)
	}
}

// A caller takes the place of a useless peer too, no more often than that.
func TestCallersTakeTheUselessPlaces(t *testing.T) {
	r := house(t, 4, Config{Slots: -1})
	for _, a := range r.c.dialing.order {
		a.due = r.now.Add(time.Hour) // nobody to dial
	}
	r.c.dialing.stale = true
	r.tick(uselessAfter + time.Second)
	if n := r.gone(); n != 0 {
		t.Fatalf("%d have gone for nobody", n)
	}
	r.forget()
	for id := range LinkID(2) {
		who := *remote(11 + id)
		who.Outgoing = false
		r.handle(Event{Op: Joined, Link: 11 + id, Remote: &who})
	}
	dropped := 0
	for _, w := range r.got {
		if w == "1:drop "+errMadeRoom.Error() || w == "12:drop "+errFull.Error() {
			dropped++
		}
	}
	if dropped != 2 {
		t.Errorf("want the first let in and the second not: %s", squeeze(r.got))
	}
}
