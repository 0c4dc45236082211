package core

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
)

// nth is the remote end of a peer with an id and an address of its own.
func nth(id LinkID, ip string) *Remote {
	r := remote(id)
	r.Fast = true
	if ip != "" {
		r.Addr = netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(1000+id))
	}
	return r
}

// comes joins a peer that says at once that it has everything.
func (r *rig) comes(id LinkID, as *Remote) {
	r.handle(Event{Op: Joined, Link: id, Remote: as})
	r.say(id, wire.HaveAll)
}

// wantCopies checks how many copies are known.
func (r *rig) wantCopies(why string, want int) {
	r.t.Helper()
	if s := r.c.Snapshot(r.now); s.Copies != want {
		r.t.Errorf("%s: %d copies, want %d", why, s.Copies, want)
	}
}

func seeder(t *testing.T, until Seeding) *rig {
	l := layoutOf(t, 2*64*kib, 64*kib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: until})
	r.tick(0)
	r.forget()
	return r
}

// Whoever came complete and whoever became so count alike, once, and after they have gone.
func TestCopiesArePeersThatHaveEverything(t *testing.T) {
	r := seeder(t, Seeding{Copies: 3, Time: time.Hour})
	r.comes(1, nth(1, ""))
	r.want("a seed is not kept", "1:have all, 1:drop both ends are seeds")
	r.wantCopies("a seed", 1)
	r.comes(2, nth(1, "198.18.9.9"))
	r.wantCopies("the same peer from elsewhere", 1)
	r.handle(Event{Op: Joined, Link: 3, Remote: nth(3, "")})
	r.msg(3, wire.Message{ID: wire.Have, Index: 0})
	r.wantCopies("half a copy", 1)
	r.msg(3, wire.Message{ID: wire.Have, Index: 0})
	r.wantCopies("the same half", 1)
	r.msg(3, wire.Message{ID: wire.Have, Index: 1})
	r.wantCopies("the other half", 2)
	r.forget()
	r.comes(4, nth(4, ""))
	r.want("the third", "4:have all, 4:drop both ends are seeds, done copies reached")
}

// A partial seed wants nothing, but is no copy.
func TestAPartialSeedIsNoCopy(t *testing.T) {
	r := seeder(t, Seeding{Copies: 1})
	r.handle(Event{Op: Joined, Link: 1, Remote: nth(1, "")})
	r.msg(1, wire.Message{ID: wire.Have, Index: 0})
	r.msg(1, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, wire.ExtHandshake{UploadOnly: true})})
	r.wantCopies("a partial seed", 0)
	if !r.has("1:drop both ends are seeds") {
		t.Error("it is kept")
	}
}

// Of one address, or network of IPv6, only so many count, so that nobody alone can pass for all the copies that are waited for.
func TestCopiesOfOnePlaceAreBounded(t *testing.T) {
	for _, tt := range []struct {
		ip   string // of the first; the others have the next ones if next is set
		next bool
		want int
	}{
		{"198.18.1.1", false, maxPerIP},
		{"198.18.1.1", true, 10},
		{"127.0.0.1", false, 10},
		{"2001:db8::1", false, maxPerIP},
		{"2001:db8::1", true, maxPerIP},
		{"2001:db8::ffff:ffff:ffff:fffb", true, maxPerIP + maxPerIP}, // five in each of two networks
		{"::1", false, 10},
	} {
		r := seeder(t, Seeding{Copies: 11})
		ip := netip.MustParseAddr(tt.ip)
		for i := range LinkID(10) {
			r.comes(1+i, nth(1+i, ip.String()))
			if tt.next {
				ip = ip.Next()
			}
		}
		r.wantCopies(tt.ip, tt.want)
	}
}

// Some clients have another peer id in each connection. They are known again by where they listen.
func TestACopyOfManyIDsCountsOnce(t *testing.T) {
	type meeting struct {
		from string
		out  bool   // we dialed
		port uint16 // that it says it listens on
		want int    // copies, after it
	}
	for _, tt := range []struct {
		name     string
		meetings []meeting
	}{
		{"dialed twice", []meeting{{"198.18.1.1:6881", true, 0, 1}, {"198.18.1.1:6881", true, 0, 1}}},
		{"it calls, and is dialed", []meeting{{"198.18.1.1:50000", false, 6881, 1}, {"198.18.1.1:6881", true, 0, 1}}},
		{"it is dialed, and calls", []meeting{{"198.18.1.1:6881", true, 0, 1}, {"198.18.1.1:50000", false, 6881, 1}}},
		{"it calls and does not say its port, and is dialed", []meeting{
			{"198.18.1.1:50000", false, 0, 1}, {"198.18.1.1:6881", true, 0, 1}, {"198.18.1.1:6881", true, 0, 1},
		}},
		{"it is dialed, and calls and does not say its port", []meeting{{"198.18.1.1:6881", true, 0, 1}, {"198.18.1.1:50000", false, 0, 1}}},
		{"it calls twice and never says its port", []meeting{{"198.18.1.1:50000", false, 0, 1}, {"198.18.1.1:50001", false, 0, 1}}},
		{"two behind one address", []meeting{{"198.18.1.1:50000", false, 6881, 1}, {"198.18.1.1:50001", false, 6882, 2}}},
		{"two addresses of one network", []meeting{{"[2001:db8::1]:50000", false, 6881, 1}, {"[2001:db8::2]:6881", true, 0, 1}}},
		{"two on this machine", []meeting{{"127.0.0.1:50000", false, 0, 1}, {"127.0.0.1:50001", false, 0, 2}}},
		{"one on this machine", []meeting{{"127.0.0.1:50000", false, 6881, 1}, {"127.0.0.1:6881", true, 0, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := seeder(t, Seeding{Copies: 3})
			for i, m := range tt.meetings {
				id := LinkID(1 + i)
				who := remote(id)
				who.Addr, who.Outgoing, who.Ext = netip.MustParseAddrPort(m.from), m.out, true
				r.handle(Event{Op: Joined, Link: id, Remote: who})
				if m.port != 0 {
					r.says(id, wire.ExtHandshake{P: m.port})
				}
				r.msg(id, wire.Message{ID: wire.Bitfield, Payload: full(r.c.cfg.Layout).Bytes()})
				r.wantCopies(m.from, m.want)
			}
			last := len(tt.meetings) - 1
			m := tt.meetings[last]
			if !m.out && m.port == 0 {
				return // it may be any at its address
			}
			who := remote(LinkID(1 + last))
			who.Addr, who.Outgoing = netip.MustParseAddrPort(m.from), m.out
			r.c.copies.remove(&contact{remote: *who, ext: wire.ExtHandshake{P: m.port}})
			r.wantCopies("it has lied", m.want-1)
		})
	}
}

func TestWhatIsRememberedOfCopiesIsBounded(t *testing.T) {
	var s copyState
	s.init()
	for i := range MaxCopies + 10 {
		r := remote(1)
		r.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		r.ID = [20]byte{byte(i >> 16), byte(i >> 8), byte(i)}
		s.add(&contact{remote: *r})
	}
	if s.count() != MaxCopies || len(s.perSubscriber) != MaxCopies {
		t.Errorf("%d copies of %d addresses, want %d", s.count(), len(s.perSubscriber), MaxCopies)
	}
}

// The copy of a liar is worth nothing.
func TestALiarIsNoCopy(t *testing.T) {
	l := layoutOf(t, 2*64*kib, 64*kib)
	r := newRig(t, Config{Layout: l, Seed: Seeding{Copies: 2}})
	r.seed(1)
	r.wantCopies("a seed", 1)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.handle(Event{Op: Verified, Piece: 0})
	r.wantCopies("convicted", 0)
	if len(r.c.copies.perSubscriber) != 0 {
		t.Error("its address is still counted")
	}
}

// Whom a download came from counts too: enough copies may be known when it is complete.
func TestCopiesKnownAtCompletionAreEnough(t *testing.T) {
	l := layoutOf(t, 64*kib, 64*kib)
	r := newRig(t, Config{Layout: l, Seed: Seeding{Copies: 1}})
	r.seed(1)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true})
	r.forget()
	r.handle(Event{Op: Stored})
	r.want("no more is waited for", "completed, 1:drop both ends are seeds, done copies reached")
}

// A peer that hung up with some pieces to go is asked again what it has, for it may have hung up because it is complete.
func TestWhoHangsUpIsLookedAtAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until Seeding
		sent  int
		want  string
	}{
		{"served", Seeding{Copies: 1}, 1, "dial 127.0.0.5:7777"},
		{"not served", Seeding{Copies: 1}, 0, ""},
		{"no copies are waited for", Seeding{Forever: true}, 1, ""},
	} {
		r := seeder(t, tt.until)
		who := *nth(1, "127.0.0.5")
		who.Ext, who.Outgoing = true, false
		r.handle(Event{Op: Joined, Link: 1, Remote: &who})
		r.say(1, wire.HaveNone)
		r.msg(1, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, wire.ExtHandshake{P: 7777})})
		r.handle(Event{Op: Sent, Link: 1, N: tt.sent})
		r.handle(Event{Op: Left, Link: 1})
		r.forget()
		r.tick(lookAfter - 1)
		r.want(tt.name+", too early", "")
		r.tick(1)
		r.want(tt.name, tt.want)
		if tt.want == "" {
			continue
		}
		again := who
		again.Addr, again.Outgoing = netip.MustParseAddrPort("127.0.0.5:7777"), true
		r.comes(2, &again)
		r.want("it is complete", "2:have all, 2:extended, 2:drop both ends are seeds, done copies reached")
	}
}
