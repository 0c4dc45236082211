package core

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/peer/wire"
)

func addrs(s ...string) (out []netip.AddrPort) {
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func TestOnlyUsableAddressesAreDialed(t *testing.T) {
	for _, tt := range []struct {
		name, at string
		src      Source
		want     bool
	}{
		{"a peer", "198.18.0.1:6881", SourceTracker, true},
		{"IPv6", "[2001:db8::1]:6881", SourceTracker, true},
		{"IPv4 in IPv6", "[::ffff:198.18.0.1]:6881", SourceTracker, true},
		{"port 0", "198.18.0.1:0", SourceStatic, false},
		{"unspecified", "0.0.0.0:6881", SourceStatic, false},
		{"multicast", "224.0.0.1:6881", SourceTracker, false},
		{"broadcast", "255.255.255.255:6881", SourceTracker, false},
		{"loopback of a far tracker", "127.0.0.1:6881", SourceTracker, false},
		{"loopback of a tracker here", "127.0.0.1:6881", SourceLocalTracker, true},
		{"loopback of the local network", "127.0.0.1:6881", SourceLSD, true},
		{"link-local", "[fe80::1%eth0]:6881", SourceLSD, true},
		{"loopback the user named", "127.0.0.1:6881", SourceStatic, true},
		{"loopback of the DHT", "127.0.0.1:6881", SourceDHT, false},
		{"loopback of a DHT here", "127.0.0.1:6881", SourceLocalDHT, true},
		{"private", "192.168.1.1:6881", SourceTracker, true},
		{"of no network", "0.1.2.3:6881", SourceTracker, false},
		{"IPv6 multicast", "[ff02::1]:6881", SourceTracker, false},
		{"IPv6 unspecified", "[::]:6881", SourceTracker, false},
		{"IPv6 loopback of a far tracker", "[::1]:6881", SourceTracker, false},
		{"loopback in IPv6 of a far tracker", "[::ffff:127.0.0.1]:6881", SourceTracker, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.handle(Event{Op: Found, Addrs: addrs(tt.at), Source: tt.src})
			if got := len(r.got) > 0; got != tt.want {
				t.Errorf("dialed: %v, want %v (%v)", got, tt.want, r.got)
			}
		})
	}
}

func TestDialsAreBoundedAndGoOn(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{HalfOpen: 3}})
	var many []netip.AddrPort
	for n := range 10 {
		many = append(many, addr(n+1))
	}
	r.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
	if len(r.got) != 3 {
		t.Fatalf("%d dials at once, want 3: %v", len(r.got), r.got)
	}
	r.forget()
	r.handle(Event{Op: DialFailed, Addr: addr(1), Err: errors.New("refused")})
	if len(r.got) != 1 || r.has("dial "+addr(1).String()) {
		t.Errorf("after a failure: %v, want one dial to another address", r.got)
	}
}

func TestTheListOfAddressesIsBounded(t *testing.T) {
	r := newRig(t, Config{})
	var many []netip.AddrPort
	for n := range 10_000 {
		many = append(many, addr(n+1))
	}
	r.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
	if n := r.c.Snapshot(r.now).Known; n != maxKnown {
		t.Errorf("%d addresses kept, want %d", n, maxKnown)
	}
	if r.tick(tickEvery); len(r.got) != defaultHalfOpen {
		t.Errorf("%d dials, want %d", len(r.got), defaultHalfOpen)
	}
}

func TestARefusedAddressWaitsTwiceAsLongEachTime(t *testing.T) {
	for _, tt := range []struct {
		src         Source
		first, most time.Duration
	}{
		{SourceTracker, firstPause, mostPause},
		{SourceStatic, firstStaticPause, mostStaticPause},
	} {
		r := newRig(t, Config{})
		r.join(999) // somebody else is there
		r.handle(Event{Op: Found, Addrs: addrs("198.18.0.1:1"), Source: tt.src})
		want := tt.first
		for range 12 {
			r.forget()
			r.handle(Event{Op: DialFailed, Addr: addrs("198.18.0.1:1")[0]})
			r.tick(want - 1)
			r.want("too early", "")
			r.tick(1)
			r.want("due", "dial 198.18.0.1:1")
			want = min(2*want, tt.most)
		}
	}
}

func TestTheOnlyAddressIsTriedAgainSoon(t *testing.T) {
	r := newRig(t, Config{})
	at := addrs("198.18.0.1:1")
	r.handle(Event{Op: Found, Addrs: at, Source: SourceTracker})
	for _, want := range []time.Duration{firstStaticPause, 2 * firstPause, 4 * firstPause} {
		r.forget()
		r.handle(Event{Op: DialFailed, Addr: at[0]})
		r.tick(want - 1)
		r.want("too early", "")
		r.tick(1)
		r.want("due", "dial 198.18.0.1:1")
	}
}

func TestWithoutSourcesAndAddressesThereIsNoHope(t *testing.T) {
	r := newRig(t, Config{})
	r.handle(Event{Op: Found, Addrs: addrs("127.0.0.1:1"), Source: SourceStatic})
	r.handle(Event{Op: Sources, OK: false})
	for range 2 {
		r.handle(Event{Op: DialFailed, Addr: addrs("127.0.0.1:1")[0]})
		r.tick(mostStaticPause)
	}
	r.want("three tries", "3x dial 127.0.0.1:1")
	r.handle(Event{Op: DialFailed, Addr: addrs("127.0.0.1:1")[0]})
	r.want("the third failure", "done no source left")
}

func TestOfTwoConnectionsBothEndsKeepTheSame(t *testing.T) {
	for _, tt := range []struct {
		name      string
		theirs    string // first byte of their peer id; ours begins with '-'
		firstOut  bool   // we opened the first connection
		secondOut bool
		keepsNew  bool
	}{
		{"they are larger, theirs comes second", "z", true, false, true},
		{"they are larger, theirs came first", "z", false, true, false},
		{"we are larger, ours comes second", "!", false, true, true},
		{"we are larger, ours came first", "!", true, false, false},
		{"both ours", "z", true, true, false},
		{"both theirs", "!", false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			first, second := remote(1), remote(2)
			first.ID[0], first.Outgoing = tt.theirs[0], tt.firstOut
			second.ID, second.Outgoing = first.ID, tt.secondOut
			r.handle(Event{Op: Joined, Link: 1, Remote: first})
			r.handle(Event{Op: Joined, Link: 2, Remote: second})
			want := "2:drop already connected to this peer"
			if tt.keepsNew {
				want = "1:drop already connected to this peer"
			}
			r.want("one of them goes", want)
		})
	}
}

// Whoever calls from elsewhere with the id of a peer that we dialed takes its place at most in the moment in which both may
// have dialed, and never its address.
func TestAnImpostorDoesNotStay(t *testing.T) {
	const refused = "2:drop already connected to this peer"
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  string
		again bool // the peer is dialed again when a connection of its is gone
	}{
		{"later", crossFor, refused, false},
		{"at once", 0, "1:drop already connected to this peer", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			peer := remote(1) // larger than we are, so its calls win over our dials
			r.handle(Event{Op: Found, Addrs: []netip.AddrPort{peer.Addr}, Source: SourceTracker})
			r.tick(0)
			r.handle(Event{Op: Joined, Link: 1, Remote: peer})
			r.tick(tt.after)
			r.forget()
			r.handle(Event{Op: Joined, Link: 2, Remote: &Remote{ID: peer.ID, Addr: netip.MustParseAddrPort("192.0.2.66:40000")}})
			r.want("somebody else with its id", tt.want)
			r.tick(time.Hour)
			if got := r.has("dial " + peer.Addr.String()); got != tt.again {
				t.Errorf("dialed again: %v, want %v", got, tt.again)
			}
		})
	}
}

// Nor does it get the address of a peer whose id it showed before we dialed the peer.
func TestAnImpostorDoesNotGetAnAddress(t *testing.T) {
	r := newRig(t, Config{})
	peer := remote(1)
	r.handle(Event{Op: Joined, Link: 1, Remote: &Remote{ID: peer.ID, Addr: netip.MustParseAddrPort("192.0.2.66:40000")}})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{peer.Addr}, Source: SourceTracker})
	r.tick(crossFor)
	r.forget()
	r.handle(Event{Op: Joined, Link: 2, Remote: peer})
	r.want("we dial the peer", "2:drop already connected to this peer")
	if at := r.c.byID[1].at; at != nil {
		t.Errorf("who showed its id first is taken to listen at %v", at.at)
	}
	r.handle(Event{Op: Left, Link: 1})
	if r.tick(time.Hour); !r.has("dial " + peer.Addr.String()) {
		t.Error("the peer is never dialed again")
	}
}

func TestWeDoNotTalkToOurselves(t *testing.T) {
	r := newRig(t, Config{})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
	self := remote(1)
	self.ID = r.c.cfg.PeerID
	r.forget()
	r.handle(Event{Op: Joined, Link: 1, Remote: self})
	r.want("our own id", "1:drop connected to ourselves")
	if n := r.c.Snapshot(r.now).Known; n != 0 {
		t.Errorf("%d addresses to try, with our own", n)
	}
	r.tick(time.Hour)
	r.want("never again", "")
}

// Trackers and peers name us to ourselves, at any of the addresses that we have.
func TestOurOwnAddressIsNotDialed(t *testing.T) {
	for _, tt := range []struct {
		name, peer, sees, at string
		src                  Source
		dialed               bool
	}{
		{"in the world", "9.9.9.9:1", "8.8.8.8", "8.8.8.8:6881", SourceTracker, false},
		{"on this network", "192.168.1.1:1", "192.168.1.2", "192.168.1.2:6881", SourceTracker, false},
		{"on this machine", "127.0.0.1:1", "127.0.0.2", "127.0.0.2:6881", SourceLocalTracker, false},
		{"of IPv6", "[2600::1]:1", "2600::2", "[2600::2]:6881", SourceTracker, false},
		{"another port", "9.9.9.9:1", "8.8.8.8", "8.8.8.8:6882", SourceTracker, true},
		{"the user insists", "9.9.9.9:1", "8.8.8.8", "8.8.8.8:6881", SourceStatic, true},
		{"a stranger cannot know this network", "9.9.9.9:1", "192.168.1.2", "192.168.1.2:6881", SourceTracker, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Peering: Peering{Ext: wire.ExtHandshake{P: 6881}}})
			rem := fast(1)
			rem.Addr = netip.MustParseAddrPort(tt.peer)
			r.handle(Event{Op: Joined, Link: 1, Remote: rem})
			r.says(1, wire.ExtHandshake{YourIP: netip.MustParseAddr(tt.sees)})
			r.forget()
			r.handle(Event{Op: Found, Addrs: addrs(tt.at), Source: tt.src})
			if got := r.has("dial " + tt.at); got != tt.dialed {
				t.Errorf("dialed: %v, want %v", got, tt.dialed)
			}
		})
	}
}

func TestOurOwnAddressesAreBounded(t *testing.T) {
	r := newRig(t, Config{})
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	for n := range 100 {
		r.says(1, wire.ExtHandshake{YourIP: addr(n).Addr()})
	}
	if n := len(r.c.dialing.selves); n != maxSelves {
		t.Errorf("%d addresses of our own, want %d", n, maxSelves)
	}
}

func TestAnAddressIsKeptOnce(t *testing.T) {
	r := newRig(t, Config{})
	for _, at := range []string{"198.18.0.1:6881", "[::ffff:198.18.0.1]:6881"} {
		for _, src := range []Source{SourcePEX, SourceTracker, SourceStatic, SourceTracker} {
			r.handle(Event{Op: Found, Addrs: addrs(at, at), Source: src})
		}
	}
	r.want("one dial", "dial 198.18.0.1:6881")
	if a := r.c.dialing.book[addr(1)]; len(r.c.dialing.order) != 1 || a == nil || a.source != SourceStatic {
		t.Errorf("%d addresses; want one, from the most trusted of its sources: %+v", len(r.c.dialing.order), a)
	}
}

func TestThreeConnectionsFromOneAddress(t *testing.T) {
	r := newRig(t, Config{})
	for id := LinkID(1); id <= 4; id++ {
		rem := remote(id)
		rem.Addr = netip.AddrPortFrom(addr(1).Addr(), uint16(id))
		r.handle(Event{Op: Joined, Link: id, Remote: rem})
	}
	r.want("the fourth is too many", "4:drop too many connections from this address")
}

func TestAFullHouseMakesRoomForTheUseful(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxPeers: 2}})
	r.join(1)
	r.join(2)
	r.join(3)
	r.want("nobody has been useless for long", "3:drop no place for another peer")
	r.tick(2 * time.Minute)
	r.join(4)
	r.want("the oldest useless one goes", "1:drop made room for another peer")
}

func TestNoSourceShutsTheOthersOut(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{HalfOpen: 1}})
	var many []netip.AddrPort
	for n := range 10_000 {
		many = append(many, addr(n+1))
	}
	r.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
	late := netip.MustParseAddrPort("203.0.113.1:1")
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{late}, Source: SourceTracker})
	if r.c.dialing.book[late] == nil {
		t.Error("an address that came last was refused")
	}
	if n := r.c.Snapshot(r.now).Known; n != maxKnown {
		t.Errorf("%d addresses kept, want %d", n, maxKnown)
	}
}

// What peers say takes no place of what trackers say, but the other way round.
func TestTheLeastTrustedSourceMakesRoom(t *testing.T) {
	for _, tt := range []struct {
		full, late Source
		kept       bool
	}{
		{SourceTracker, SourcePEX, false},
		{SourcePEX, SourceTracker, true},
		{SourcePEX, SourcePEX, true},
		{SourceStatic, SourceStatic, false}, // nothing that the user named is forgotten
	} {
		r := newRig(t, Config{Peering: Peering{HalfOpen: 1}})
		var many []netip.AddrPort
		for n := range maxKnown {
			many = append(many, addr(n+1))
		}
		r.handle(Event{Op: Found, Addrs: many, Source: tt.full})
		late := netip.MustParseAddrPort("203.0.113.1:1")
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{late}, Source: tt.late})
		if got := r.c.dialing.book[late] != nil; got != tt.kept {
			t.Errorf("source %d in a list full of source %d: kept %v, want %v", tt.late, tt.full, got, tt.kept)
		}
	}
}

// Without a network of ours nothing is held against the addresses, few dials are made, and each
// address is tried within a minute of the network's return.
func TestALocalFailureIsNotThePeersFault(t *testing.T) {
	r := newRig(t, Config{})
	var many []netip.AddrPort
	for n := range 100 {
		many = append(many, addr(n+1))
	}
	r.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
	r.handle(Event{Op: Sources, OK: false})
	dials := r.failAll(10*time.Minute, true)
	if most := 16 * len(many); dials > most {
		t.Errorf("%d dials in ten minutes without a network, want %d at most: each address once a minute in the end", dials, most)
	}
	if r.has("done no source left") {
		t.Fatal("gave up without a network")
	}
	dials = r.failAll(mostLocalPause+5*time.Second, false)
	if dials < len(many) {
		t.Errorf("%d dials in the minute after the network's return, want all %d", dials, len(many))
	}
}

// failAll lets time pass while every dial fails at once, and counts them.
func (r *rig) failAll(d time.Duration, local bool) (dials int) {
	for end := r.now.Add(d); r.now.Before(end); r.tick(100 * time.Millisecond) {
		for again := true; again; {
			again = false
			got := r.got
			r.got = nil
			for _, w := range got {
				if at, ok := strings.CutPrefix(w, "dial "); ok {
					dials, again = dials+1, true
					r.handle(Event{Op: DialFailed, Addr: netip.MustParseAddrPort(at), Local: local})
				} else {
					r.keep = append(r.keep, w)
				}
			}
		}
	}
	r.got, r.keep = append(r.keep, r.got...), nil
	return dials
}

// When the network is lost all peers are, and their addresses come due together: then dials are spread over time. While
// this side fails there is one dial a second.
func TestALostNetworkMakesNoStorm(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxPeers: 500, HalfOpen: 30}})
	for n := range 400 {
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(n + 1)}, Source: SourceTracker})
		r.join(LinkID(n + 1))
	}
	r.tick(time.Minute)
	for n := range 400 {
		r.handle(Event{Op: Left, Link: LinkID(n + 1), Err: errors.New("no route to host")})
	}
	r.forget()
	r.failAll(firstPause-time.Second, true)
	if n := r.failAll(10*time.Second, true); n > 11 {
		t.Errorf("%d dials in ten seconds without a network, want one in each", n)
	}
	first := r.failAll(time.Second, false)
	if first > 90 {
		t.Errorf("%d dials in the second after the network's return, want 90 at most", first)
	}
	if n := first + r.failAll(time.Minute, false); n < 400 {
		t.Errorf("%d dials in the minute after the network's return, want one to each of 400", n)
	}
}

func TestAFamilyWithoutANetworkHoldsNobodyUp(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{HalfOpen: 1}})
	six := addrs("[2001:db8::1]:1", "[2001:db8::2]:1", "198.18.0.1:1", "198.18.0.2:1")
	r.handle(Event{Op: Found, Addrs: six, Source: SourceTracker})
	r.want("the first", "dial [2001:db8::1]:1")
	r.handle(Event{Op: DialFailed, Addr: six[0], Local: true})
	r.want("another family at once", "dial 198.18.0.1:1")
	r.handle(Event{Op: DialFailed, Addr: six[2]})
	r.want("and on", "dial 198.18.0.2:1")
	r.handle(Event{Op: DialFailed, Addr: six[3]})
	r.tick(firstLocalPause)
	r.want("the other one a second later", "dial [2001:db8::1]:1")
}

func TestAnAddressThatOnlyShakesHandsBacksOff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stay   time.Duration
		useful bool
		want   time.Duration // pause after the third time
	}{
		{"gone at once", 0, false, 4 * firstPause},
		{"stayed for a minute", time.Minute, false, firstPause},
		{"sent a block", 0, true, firstPause},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: layoutOf(t, 16*mib, mib)})
			r.join(999) // somebody else is there
			r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
			for n := range 3 {
				id := LinkID(n + 1)
				rem := remote(1)
				r.handle(Event{Op: Joined, Link: id, Remote: rem})
				if tt.useful {
					r.say(id, wire.HaveAll)
					r.say(id, wire.Unchoke)
					r.block(id, r.takeAsks()[n])
					r.takeAsks()
				}
				r.tick(tt.stay)
				r.handle(Event{Op: Left, Link: id})
				r.forget()
				if n < 2 {
					r.tick(mostPause)
					r.want("tried again", "dial "+addr(1).String())
				}
			}
			r.tick(tt.want - 1)
			r.want("too early", "")
			r.tick(1)
			r.want("due", "dial "+addr(1).String())
		})
	}
}

// A peer that we are connected to by another way is not dialed, and its address not held against it.
func TestTheAddressOfAPeerWeHaveRests(t *testing.T) {
	incoming := func(id LinkID) *Remote {
		rem := fast(1)
		rem.ID[0] = '!' // we are larger: what we open stays
		rem.Outgoing, rem.Addr = false, netip.AddrPortFrom(addr(1).Addr(), 50_000+uint16(id))
		return rem
	}
	outgoing := func() *Remote {
		rem := fast(1)
		rem.ID[0] = '!'
		return rem
	}
	dial := "dial " + addr(1).String()

	t.Run("it says where it listens", func(t *testing.T) {
		r := newRig(t, Config{})
		r.handle(Event{Op: Joined, Link: 1, Remote: incoming(1)})
		r.says(1, wire.ExtHandshake{P: addr(1).Port()})
		r.forget()
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
		r.tick(time.Hour)
		r.want("we have it", "")
		r.handle(Event{Op: Left, Link: 1})
		r.tick(firstPause)
		if !r.has(dial) {
			t.Errorf("it is not dialed after it has left: %v", r.got)
		}
	})
	t.Run("ours replaces its", func(t *testing.T) {
		r := newRig(t, Config{})
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
		r.handle(Event{Op: Joined, Link: 1, Remote: incoming(1)})
		r.handle(Event{Op: Joined, Link: 2, Remote: outgoing()})
		r.forget()
		r.tick(time.Hour)
		r.want("we have it", "")
		r.handle(Event{Op: Joined, Link: 3, Remote: incoming(3)})
		r.want("ours stays", "3:drop already connected to this peer")
		r.handle(Event{Op: Left, Link: 2})
		r.tick(firstPause)
		r.want("free again", dial)
	})
	t.Run("its replaces ours", func(t *testing.T) {
		larger := func(rem *Remote) *Remote { rem.ID[0] = 'z'; return rem }
		r := newRig(t, Config{})
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
		r.handle(Event{Op: Joined, Link: 1, Remote: larger(outgoing())})
		r.handle(Event{Op: Joined, Link: 2, Remote: larger(incoming(2))})
		r.forget()
		r.tick(time.Hour)
		r.want("we have it", "")
		r.handle(Event{Op: Left, Link: 2})
		r.tick(firstPause)
		r.want("free again", dial)
	})
	t.Run("ours is refused", func(t *testing.T) {
		larger := func(rem *Remote) *Remote { rem.ID[0] = 'z'; return rem }
		r := newRig(t, Config{})
		r.handle(Event{Op: Joined, Link: 1, Remote: larger(incoming(1))})
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
		r.handle(Event{Op: Joined, Link: 2, Remote: larger(outgoing())})
		r.forget()
		r.tick(time.Hour)
		r.want("we have it", "")
		r.handle(Event{Op: Left, Link: 1})
		r.tick(firstPause)
		r.want("free again", dial)
	})
	t.Run("it has a second one", func(t *testing.T) { // IPv4 and IPv6, say
		r := newRig(t, Config{})
		r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1), addr(2)}, Source: SourceTracker})
		r.handle(Event{Op: Joined, Link: 1, Remote: outgoing()})
		second := outgoing()
		second.Addr = addr(2)
		r.handle(Event{Op: Joined, Link: 2, Remote: second})
		r.forget()
		r.tick(mostPause - 1)
		r.want("we have it", "")
	})
}

func TestAFullHouseIsNotHeldAgainstWhoComes(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxPeers: 1}})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
	r.join(2)
	r.handle(Event{Op: Joined, Link: 1, Remote: remote(1)})
	r.forget()
	r.handle(Event{Op: Left, Link: 2})
	r.tick(busyPause - 1)
	r.want("later", "")
	r.tick(1)
	r.want("as if for the first time", "dial "+addr(1).String())
	if n := r.c.dialing.book[addr(1)].failed; n != 0 {
		t.Errorf("it has failed %d times", n)
	}
}

// Closer peers come first, as BEP 40 has it, once somebody has told us our address; the user's own
// come before all.
func TestAddressesAreDialedByPriority(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{HalfOpen: 1, Ext: wire.ExtHandshake{P: 6881}}})
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	self := netip.MustParseAddr("203.0.113.9")
	r.says(1, wire.ExtHandshake{YourIP: netip.MustParseAddr("192.168.0.1")}) // private: not how others see us
	r.says(1, wire.ExtHandshake{YourIP: self})
	r.forget()
	r.handle(Event{Op: Found, Addrs: addrs("198.18.9.9:9"), Source: SourceStatic})
	several := addrs("198.18.2.2:2", "198.18.3.3:3", "198.18.4.4:4", "198.18.5.5:5")
	r.handle(Event{Op: Found, Addrs: several, Source: SourceTracker})
	r.want("the user's first", "dial 198.18.9.9:9")
	slices.SortFunc(several, func(a, b netip.AddrPort) int {
		us := netip.AddrPortFrom(self, 6881)
		return cmp.Compare(wire.Priority(us, b), wire.Priority(us, a))
	})
	last := addrs("198.18.9.9:9")[0]
	for _, at := range several {
		r.handle(Event{Op: DialFailed, Addr: last})
		r.want("the next in priority", "dial "+at.String())
		last = at
	}
}

func TestABannedAddressIsOutForGood(t *testing.T) {
	for _, tt := range []struct {
		name     string
		at, also string
		also2    bool // the other address is banned, too
	}{
		{"every port of its address", "198.18.0.1:1", "198.18.0.1:2", true},
		{"on loopback only its own", "127.0.0.1:1", "127.0.0.1:2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
			rem := remote(1)
			rem.Addr = netip.MustParseAddrPort(tt.at)
			r.handle(Event{Op: Found, Addrs: []netip.AddrPort{rem.Addr}, Source: SourceStatic})
			r.handle(Event{Op: Joined, Link: 1, Remote: rem})
			r.say(1, wire.HaveAll)
			r.say(1, wire.Unchoke)
			for _, b := range r.takeAsks() {
				r.block(1, b)
			}
			r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 0)})
			r.forget()
			r.handle(Event{Op: Left, Link: 1}) // the shell is late
			other := remote(2)
			other.Addr = netip.MustParseAddrPort(tt.also)
			r.handle(Event{Op: Joined, Link: 2, Remote: other})
			if got := r.has("2:drop address is banned"); got != tt.also2 {
				t.Errorf("the other address is banned: %v, want %v", got, tt.also2)
			}
			rem.Outgoing = false
			r.handle(Event{Op: Joined, Link: 3, Remote: rem})
			r.forget()
			r.tick(time.Hour)
			r.want("never dialed again", "")
		})
	}
}

// A thousand connections come in: there is place for sixty of them, and twenty for those we dial. Those
// who take one for nothing lose it to those who come later.
func TestACrowdAtTheDoor(t *testing.T) {
	r := newRig(t, Config{})
	come := func(id LinkID) {
		rem := remote(id)
		rem.Outgoing = false
		r.handle(Event{Op: Joined, Link: id, Remote: rem})
	}
	for id := LinkID(1); id <= 1000; id++ {
		come(id)
	}
	if n := len(r.c.links); n != 60 {
		t.Fatalf("%d connections, want 60", n)
	}
	for id := LinkID(1); id <= 40; id++ {
		r.say(id, wire.Interested)
	}
	r.tick(idleFor)
	for id := LinkID(1001); id <= 1100; id++ {
		come(id)
	}
	old := 0
	for _, l := range r.c.links {
		if l.id <= 80 {
			old++
			if !l.interested {
				t.Errorf("idle peer %d is still here", l.id)
			}
		}
	}
	if old != 40 || len(r.c.links) != 60 {
		t.Errorf("%d of %d are left of the first, want the 40 who want something", old, len(r.c.links))
	}
	for id := LinkID(2001); id <= 2020; id++ { // those we dial
		r.join(id)
	}
	if n := len(r.c.links); n != 80 {
		t.Errorf("%d connections, want 80", n)
	}
}

// Whoever calls, and says that it wants something to be no idle one, gets none of the places of those we dial.
func TestCallersTakeNoPlaceOfWhomWeDial(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxPeers: 8}})
	for id := LinkID(1); id <= 2; id++ {
		r.join(id) // idle, perhaps only because we and they have the same pieces
	}
	for id := LinkID(11); id <= 20; id++ {
		rem := remote(id)
		rem.Outgoing = false
		r.handle(Event{Op: Joined, Link: id, Remote: rem})
		r.say(id, wire.Interested)
		r.tick(idleFor)
	}
	if r.c.byID[1] == nil || r.c.byID[2] == nil || len(r.c.links) != 8 {
		t.Errorf("%d connections are left, of those we dialed %v and %v", len(r.c.links), r.c.byID[1] != nil, r.c.byID[2] != nil)
	}
}

func TestThreeDialsToOneAddress(t *testing.T) {
	r := newRig(t, Config{})
	var many []netip.AddrPort
	for port := range uint16(100) {
		many = append(many, netip.AddrPortFrom(addr(1).Addr(), 1000+port))
	}
	r.handle(Event{Op: Found, Addrs: many, Source: SourceTracker})
	if len(r.got) != 3 {
		t.Fatalf("%d dials to one IP at once, want 3", len(r.got))
	}
	r.forget()
	r.handle(Event{Op: DialFailed, Addr: many[1]})
	r.want("one for one", "dial "+many[3].String())
	rem := remote(1)
	rem.Addr = many[0]
	r.handle(Event{Op: Joined, Link: 1, Remote: rem})
	r.tick(mostPause - time.Second)
	r.want("a connection counts, too", "")
	r.handle(Event{Op: Left, Link: 1})
	r.want("free again, and the one that failed is due", "dial "+many[1].String())
}
