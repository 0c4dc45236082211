package core

import (
	"errors"
	"net/netip"
	"testing"
	"time"
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
		{"loopback the user named", "127.0.0.1:6881", SourceStatic, true},
		{"private", "192.168.1.1:6881", SourceTracker, true},
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
	r := newRig(t, Config{HalfOpen: 3})
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
	if len(r.got) != defaultHalfOpen {
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

func TestWeDoNotTalkToOurselves(t *testing.T) {
	r := newRig(t, Config{})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1)}, Source: SourceTracker})
	self := remote(1)
	self.ID = r.c.cfg.PeerID
	r.forget()
	r.handle(Event{Op: Joined, Link: 1, Remote: self})
	r.want("our own id", "1:drop connected to ourselves")
	r.tick(time.Hour)
	r.want("never again", "")
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
	r := newRig(t, Config{MaxPeers: 2})
	r.join(1)
	r.join(2)
	r.join(3)
	r.want("nobody has been useless for long", "3:drop no place for another peer")
	r.tick(2 * time.Minute)
	r.join(4)
	r.want("the oldest useless one goes", "1:drop made room for another peer")
}

func TestNoSourceShutsTheOthersOut(t *testing.T) {
	r := newRig(t, Config{HalfOpen: 1})
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
