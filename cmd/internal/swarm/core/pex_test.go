package core

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/peer/wire"
)

const (
	ourPex   = 3 // the id by which we want messages of ut_pex
	theirPex = 7
)

// newPexRig returns a rig whose core exchanges peers, at the moment from which it tells of them.
func newPexRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	cfg.Ext.M.UtPex = ourPex
	r := newRig(t, cfg)
	r.tick(pexSettle)
	return r
}

// meet joins a peer that exchanges peers. Whoever connects to us does so from a port where nobody listens.
func (r *rig) meet(id LinkID, at netip.AddrPort, outgoing bool, h wire.ExtHandshake) {
	r.t.Helper()
	rem := fast(id)
	rem.Addr, rem.Outgoing = at, outgoing
	if !outgoing {
		rem.Addr = netip.AddrPortFrom(at.Addr(), 40_000)
	}
	h.M.UtPex = theirPex
	r.handle(Event{Op: Joined, Link: id, Remote: rem})
	r.says(id, h)
}

// names has a peer name others.
func (r *rig) names(id LinkID, added ...netip.AddrPort) {
	p := wire.Pex{Added: added, Flags: make([]byte, len(added))}
	r.msg(id, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: wire.AppendPex(nil, p)})
}

// takeTold returns what one peer was told since the last time, and forgets what all were.
func (r *rig) takeTold(id LinkID) (ps []wire.Pex) {
	r.t.Helper()
	for _, e := range r.exts {
		if e.Link != id {
			continue
		}
		p, err := wire.ParsePex(e.Msg.Payload)
		if err != nil || e.Msg.ExtID != theirPex {
			r.t.Errorf("a message of id %d, %v", e.Msg.ExtID, err)
		}
		ps = append(ps, p)
	}
	r.exts = nil
	return ps
}

// wantTold checks the one message that a peer was told: "+address flags" and "-address"; "" is none.
func (r *rig) wantTold(why string, id LinkID, want ...string) {
	r.t.Helper()
	got := []string{}
	for _, p := range r.takeTold(id) {
		for i, at := range p.Added {
			got = append(got, fmt.Sprintf("+%v %#x", at, p.Flags[i]))
		}
		for _, at := range p.Dropped {
			got = append(got, fmt.Sprintf("-%v", at))
		}
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: peer %d was told %q, want %q", why, id, got, want)
	}
}

func TestPeersAreToldWhomOthersCanReach(t *testing.T) {
	r := newPexRig(t, Config{})
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	r.meet(2, addr(2), false, wire.ExtHandshake{P: 6881, UploadOnly: true})
	r.meet(3, addr(3), false, wire.ExtHandshake{}) // does not say where it listens
	r.meet(4, addr(4), true, wire.ExtHandshake{})
	r.say(4, wire.HaveAll)
	r.join(5) // knows no extensions: may be named, and is told nothing
	r.tick(tickEvery)
	sent := r.exts
	for id, want := range map[LinkID][]string{
		1: {"+198.18.0.2:6881 0x2", "+198.18.0.4:6881 0x12", "+198.18.0.5:6881 0x10"},
		3: {"+198.18.0.1:6881 0x10", "+198.18.0.2:6881 0x2", "+198.18.0.4:6881 0x12", "+198.18.0.5:6881 0x10"},
		4: {"+198.18.0.1:6881 0x10", "+198.18.0.2:6881 0x2", "+198.18.0.5:6881 0x10"},
		5: {},
	} {
		r.exts = sent
		r.wantTold("all but itself", id, want...)
	}
}

func TestPeersAreToldOfChangesOnceAMinute(t *testing.T) {
	r := newPexRig(t, Config{})
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	r.tick(pexEvery)
	r.wantTold("alone", 1)
	r.meet(2, addr(2), true, wire.ExtHandshake{})
	r.tick(tickEvery)
	r.wantTold("somebody has come", 1, "+198.18.0.2:6881 0x10")
	r.meet(3, addr(3), true, wire.ExtHandshake{})
	r.meet(4, addr(4), true, wire.ExtHandshake{})
	r.handle(Event{Op: Left, Link: 2})
	r.handle(Event{Op: Left, Link: 3})
	r.tick(pexEvery - 2*tickEvery)
	r.wantTold("too early", 1)
	r.tick(2 * tickEvery)
	r.wantTold("whoever has come and gone is not worth a word", 1, "+198.18.0.4:6881 0x10", "-198.18.0.2:6881")
	r.handle(Event{Op: Left, Link: 4})
	r.meet(5, addr(4), true, wire.ExtHandshake{}) // the same address
	r.tick(10 * pexEvery)
	r.wantTold("nothing has changed in effect", 1)
}

func TestAtTheStartTheFirstMessageWaits(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{Ext: wire.ExtHandshake{M: wire.ExtIDs{UtPex: ourPex}}}})
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	r.meet(2, addr(2), true, wire.ExtHandshake{})
	r.tick(pexSettle - tickEvery)
	r.wantTold("too early", 1)
	r.meet(3, addr(3), true, wire.ExtHandshake{})
	r.tick(tickEvery)
	r.wantTold("now", 1, "+198.18.0.2:6881 0x10", "+198.18.0.3:6881 0x10")
	r.meet(4, addr(4), true, wire.ExtHandshake{})
	r.tick(tickEvery)
	r.wantTold("a newcomer need not wait", 4, "+198.18.0.1:6881 0x10", "+198.18.0.2:6881 0x10", "+198.18.0.3:6881 0x10")
}

// Eighty peers are more than fit into a message, those who come and those who go.
func TestALongListIsToldInParts(t *testing.T) {
	r := newPexRig(t, Config{})
	for id := LinkID(1); id <= 80; id++ {
		r.meet(id, addr(int(id)), true, wire.ExtHandshake{})
	}
	counts := func() (s string) {
		for range 4 {
			r.tick(pexEvery)
			for _, p := range r.takeTold(80) {
				s += fmt.Sprintf("+%d-%d ", len(p.Added), len(p.Dropped))
			}
		}
		return s
	}
	if got := counts(); got != "+50-0 +29-0 " {
		t.Errorf("told %s", got)
	}
	for id := LinkID(1); id <= 79; id++ {
		r.handle(Event{Op: Left, Link: id})
		r.meet(100+id, addr(100+int(id)), true, wire.ExtHandshake{})
	}
	if got := counts(); got != "+50-50 +29-29 " {
		t.Errorf("when all have changed told %s", got)
	}
}

// Whatever happens, who reads all messages knows in the end who is here; and none breaks a rule of BEP 11.
func TestWhoReadsAllMessagesKnowsWhoIsHere(t *testing.T) {
	for seed := range uint64(5) {
		r, rng := newPexRig(t, Config{Peering: Peering{MaxPeers: 200}}), rand.New(rand.NewPCG(seed, 0))
		r.meet(1, addr(1), true, wire.ExtHandshake{})
		here, known := map[netip.AddrPort]LinkID{}, map[netip.AddrPort]bool{}
		last := time.Time{}
		next := LinkID(2)
		hear := func() {
			for _, p := range r.takeTold(1) {
				if r.now.Sub(last) < pexEvery && !last.IsZero() {
					t.Errorf("two messages within %v", r.now.Sub(last))
				}
				last = r.now
				if len(p.Added) > 50 || len(p.Dropped) > 50 || len(p.Added)+len(p.Dropped) == 0 {
					t.Errorf("%d added, %d dropped", len(p.Added), len(p.Dropped))
				}
				for _, at := range p.Added {
					if known[at] || slices.Contains(p.Dropped, at) {
						t.Errorf("%v added twice or dropped in the same message", at)
					}
					known[at] = true
				}
				for _, at := range p.Dropped {
					if !known[at] {
						t.Errorf("%v dropped that was not added", at)
					}
					delete(known, at)
				}
				if len(known) > 200 {
					t.Errorf("told of %d peers at once", len(known))
				}
			}
		}
		for range 300 {
			at := addr(2 + rng.IntN(300))
			if id, ok := here[at]; ok {
				r.handle(Event{Op: Left, Link: id})
				delete(here, at)
			} else if len(here) < 150 {
				r.meet(next, at, rng.IntN(2) == 0, wire.ExtHandshake{P: at.Port()})
				here[at] = next
				next++
			}
			for range rng.IntN(10) {
				r.tick(tickEvery)
				hear()
			}
		}
		for range 300 {
			r.tick(tickEvery)
			hear()
		}
		if len(known) != len(here) {
			t.Errorf("seed %d: it knows %d peers, %d are here", seed, len(known), len(here))
		}
		for at := range here {
			if !known[at] {
				t.Errorf("seed %d: it does not know %v", seed, at)
			}
		}
	}
}

// A peer names, and is named, nobody of a narrower scope than its own address.
func TestScopesOfExchangedPeers(t *testing.T) {
	all := addrs("127.0.0.1:6881", "169.254.1.2:6881", "10.1.2.3:6881", "8.8.8.8:6881")
	six := addrs("[::1]:6881", "[fe80::1]:6881", "[fd00::1]:6881", "[2600::1]:6881")
	for _, tt := range []struct {
		who  string
		from int // the first of each list that it may name
	}{
		{"127.0.0.2", 0}, {"169.254.9.9", 1}, {"192.168.1.1", 2}, {"9.9.9.9", 3},
		{"::1", 0}, {"fe80::2", 1}, {"fd12::1", 2}, {"2a00::1", 3},
		{"100.64.0.1", 2}, {"198.19.255.255", 2}, {"192.0.2.1", 2}, {"198.51.100.1", 2}, {"203.0.113.1", 2}, {"2001:db8::1", 2},
		{"100.128.0.1", 3}, {"198.20.0.1", 3},
	} {
		t.Run(tt.who, func(t *testing.T) {
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.who), 7)
			r := newPexRig(t, Config{})
			r.meet(1, at, true, wire.ExtHandshake{})
			r.forget()
			r.names(1, slices.Concat(all, six)...)
			want := ""
			for _, a := range slices.Concat(all[tt.from:], six[tt.from:]) {
				want += ", dial " + a.String()
			}
			r.want("dialed", strings.TrimPrefix(want, ", "))

			r = newPexRig(t, Config{})
			r.meet(1, at, true, wire.ExtHandshake{})
			told := []string{}
			for i, a := range slices.Concat(all, six) {
				r.meet(LinkID(2+i), a, true, wire.ExtHandshake{})
				if i%len(all) >= tt.from {
					told = append(told, fmt.Sprintf("+%v 0x10", a))
				}
			}
			r.tick(tickEvery)
			r.wantTold("told", 1, told...)
		})
	}
}

func TestWhomPeersNameIsDialed(t *testing.T) {
	four := func(n byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, n}), port)
	}
	for _, tt := range []struct {
		name  string
		named []netip.AddrPort
		want  string
	}{
		{"unusable ones are not", addrs("9.9.9.1:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1", "[::]:1"), ""},
		{"one port of an IP", []netip.AddrPort{four(1, 1), four(1, 2), four(2, 1), four(1, 3)}, "dial 9.9.9.1:1, dial 9.9.9.2:1"},
		{"who is here is not", addrs("198.18.0.1:6881", "8.8.8.8:6881", "8.8.4.4:6881"), "dial 8.8.4.4:6881"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newPexRig(t, Config{})
			r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
			r.meet(1, addr(1), true, wire.ExtHandshake{})
			r.meet(2, netip.MustParseAddrPort("8.8.8.8:6881"), false, wire.ExtHandshake{P: 6881})
			r.forget()
			r.names(1, tt.named...)
			r.want("dialed", tt.want)
		})
	}
}

func TestASeedNeedsNoSeeds(t *testing.T) {
	for _, complete := range []bool{false, true} {
		r := newPexRig(t, Config{Seed: Seeding{Forever: true}})
		r.meet(1, addr(1), true, wire.ExtHandshake{})
		if complete {
			r.handle(Event{Op: Stored})
		}
		r.forget()
		p := wire.Pex{Added: []netip.AddrPort{addr(2), addr(3)}, Flags: []byte{wire.PexSeed | wire.PexReachable, wire.PexReachable}}
		r.msg(1, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: wire.AppendPex(nil, p)})
		if got := r.has("dial " + addr(2).String()); got == complete {
			t.Errorf("complete %v: the seed is dialed: %v", complete, got)
		}
		if !r.has("dial " + addr(3).String()) {
			t.Errorf("complete %v: the other is not dialed", complete)
		}
	}
}

// A hundred messages at once, each of fifty new addresses, are as good as one a minute. (More are a flood.)
func TestAFloodOfPeers(t *testing.T) {
	r := newPexRig(t, Config{Peering: Peering{HalfOpen: 1}})
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	n := 0
	flood := func() {
		for range 100 {
			named := make([]netip.AddrPort, 2*wire.MaxPex)
			for i := range named {
				n++
				named[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(n >> 16), byte(n >> 8), byte(n)}), 1)
			}
			r.names(1, named...)
		}
	}
	flood()
	if got := len(r.c.dialing.order); got != 2*wire.MaxPex {
		t.Errorf("%d addresses of the first flood, want %d", got, 2*wire.MaxPex)
	}
	for range 3 {
		r.tick(pexEvery)
		flood()
	}
	if got := len(r.c.dialing.order); got != 5*wire.MaxPex {
		t.Errorf("%d addresses after three minutes, want %d", got, 5*wire.MaxPex)
	}
	if r.c.byID[1] == nil {
		t.Error("the peer was dropped")
	}
}

func TestPeerExchangeIsOffUnlessNamed(t *testing.T) {
	r := newRig(t, Config{}) // a private torrent, say
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	r.meet(2, addr(2), true, wire.ExtHandshake{})
	r.forget()
	r.names(1, addr(3))
	r.msg(1, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: []byte("junk")})
	r.tick(10 * pexEvery)
	r.want("nothing is taken", "")
	r.wantTold("nor told", 1)
}

func TestJunkIsNoPeerExchange(t *testing.T) {
	r := newPexRig(t, Config{})
	r.meet(1, addr(1), true, wire.ExtHandshake{})
	r.forget()
	r.msg(1, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: []byte("le")})
	r.want("no dictionary", "1:drop "+wire.ErrPex.Error())
}

// The metadata phase exchanges peers, too, and what a peer was told then it is not told again.
func TestPeersAreExchangedWithoutMetadata(t *testing.T) {
	p := Peering{Rand: rand.New(rand.NewPCG(1, 2)), Ext: wire.ExtHandshake{M: wire.ExtIDs{UtPex: ourPex}}}
	f := NewFetch(epoch, FetchConfig{Peering: p})
	hello := wire.AppendExtHandshake(nil, wire.ExtHandshake{M: wire.ExtIDs{UtPex: theirPex}})
	for id := LinkID(1); id <= 2; id++ {
		f.Handle(epoch, Event{Op: Joined, Link: id, Remote: fast(id)})
		f.Handle(epoch, Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Extended, Payload: hello}})
	}
	raw := wire.AppendPex(nil, wire.Pex{Added: []netip.AddrPort{addr(3)}, Flags: []byte{0}})
	got := f.Handle(epoch, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: raw}})
	if len(got) != 1 || got[0].Op != Dial || got[0].Addr != addr(3) {
		t.Errorf("when a peer names another: %+v, want a dial", got)
	}
	told := func(effects []Effect) (n int) {
		for _, e := range effects {
			if e.Op == Send && e.Msg.ExtID == theirPex {
				n++
			}
		}
		return n
	}
	at := epoch.Add(pexSettle)
	if n := told(f.Handle(at, Event{Op: Tick})); n != 2 {
		t.Errorf("%d of two peers were told", n)
	}
	c, first := f.Proceed(at, Config{Peering: p, Layout: layoutOf(t, mib, 64*kib)})
	n := told(first)
	for range 3 {
		at = at.Add(pexEvery)
		n += told(c.Handle(at, Event{Op: Tick}))
	}
	if n != 0 {
		t.Errorf("%d messages after it without news", n)
	}
	c.Handle(at, Event{Op: Left, Link: 2})
	if n := told(c.Handle(at.Add(tickEvery), Event{Op: Tick})); n != 1 {
		t.Errorf("%d messages when one has left, want 1", n)
	}
}
