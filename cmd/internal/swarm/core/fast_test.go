package core

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// fastHash is the info-hash of BEP 6's example.
var fastHash = [20]byte([]byte("\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"))

// fastSet are the pieces that fastPeer is allowed of 1,313; the first nine stand in the BEP.
var fastSet = []uint32{1059, 431, 808, 1217, 287, 376, 1188, 353, 508}

// fastPeer joins a peer that speaks the fast extension and has nothing, from an address of the BEP's example network.
func (r *rig) fastPeer(id LinkID, host string) {
	rem := remote(id)
	rem.Fast, rem.Ext, rem.Addr = true, true, netip.MustParseAddrPort(host+":6881")
	r.handle(Event{Op: Joined, Link: id, Remote: rem})
	r.msg(id, wire.Message{ID: wire.HaveNone})
}

// grantRig is a rig that seeds the torrent of BEP 6's example, has a place for nobody, and knows two peers that have
// pieces, too.
func grantRig(t *testing.T) *rig { return grantRigOf(t, Peering{}) }

func grantRigOf(t *testing.T, p Peering) *rig {
	l := layoutOf(t, 1313*2*piece.BlockSize, 2*piece.BlockSize)
	r := newRig(t, Config{Peering: p, Layout: l, Have: full(l), InfoHash: fastHash, Slots: -1, Seed: Seeding{Forever: true}})
	r.tick(0)
	for id := LinkID(90); id < 92; id++ {
		r.join(id)
		others := full(l)
		others.Clear(0)
		r.msg(id, wire.Message{ID: wire.Bitfield, Payload: others.Bytes()})
	}
	r.forget()
	return r
}

// granted returns the pieces that a link was allowed in a second, which it must have waited for a place.
func (r *rig) granted(id LinkID) (pieces []uint32) {
	for r.now = r.now.Add(tickEvery); ; {
		for _, e := range r.c.Handle(r.now, Event{Op: Tick}) {
			if e.Op == Send && e.Link == id && e.Msg.ID == wire.AllowedFast {
				pieces = append(pieces, e.Msg.Index)
			}
		}
		if r.c.Next().After(r.now) {
			return pieces
		}
	}
}

func TestANewcomerIsAllowedItsPieces(t *testing.T) {
	r := grantRig(t)
	r.fastPeer(1, "80.4.4.200")
	r.granted(1) // it wants nothing yet
	r.forget()
	r.say(1, wire.Interested)
	got := r.granted(1)
	if len(got) != fastPieces || !slices.Equal(got[:len(fastSet)], fastSet) {
		t.Fatalf("allowed %v, want ten that begin with %v", got, fastSet)
	}
	if again := r.granted(1); len(again) > 0 {
		t.Errorf("allowed again: %v", again)
	}
	r.msg(1, request(fastSet[0], 0))
	r.want("served though choked", "1:read")
	r.msg(1, request(5, 0))
	r.want("another piece is not", "1:reject request")
	r.handle(Event{Op: Sent, Link: 1, N: piece.BlockSize})
	for n := range uint32(40) {
		r.msg(1, request(got[n/2%10], n%2))
		r.handle(Event{Op: Sent, Link: 1, N: piece.BlockSize})
	}
	reads := 0
	for _, w := range r.got {
		if w == "1:read" {
			reads++
		}
	}
	if want := 2*fastPieces - 1; reads != want {
		t.Errorf("%d blocks more were read, want %d: no byte twice", reads, want)
	}
}

// TestWhoUploadsNothingOffersNothing: to be allowed a piece, or told of one, and then refused it is worse than nothing.
func TestWhoUploadsNothingOffersNothing(t *testing.T) {
	r := grantRigOf(t, Peering{MaxUpload: NoUpload})
	r.fastPeer(1, "80.4.4.200")
	r.say(1, wire.Interested)
	r.forget()
	if got := r.granted(1); len(got) > 0 {
		t.Errorf("allowed %v", got)
	}
	r.msg(1, request(fastSet[0], 0))
	r.tick(time.Minute)
	r.want("nothing is allowed, suggested or served", "1:reject request")
}

func TestWhoIsAllowedNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig)
	}{
		{"who has enough", func(r *rig) {
			r.fastPeer(1, "80.4.4.200")
			for i := range uint32(fastPieces) {
				r.msg(1, wire.Message{ID: wire.Have, Index: i})
			}
		}},
		{"who does not understand it", func(r *rig) { r.join(1) }},
		{"who is at an address of version 6", func(r *rig) { r.fastPeer(1, "[2001:db8::1]") }},
		{"the second of one address", func(r *rig) {
			r.fastPeer(2, "80.4.4.200")
			r.say(2, wire.Interested)
			if len(r.granted(2)) == 0 {
				r.t.Error("the first was allowed nothing")
			}
			r.handle(Event{Op: Left, Link: 2})
			r.fastPeer(1, "80.4.4.200")
		}},
		{"whoever comes when most are newcomers", func(r *rig) {
			r.fastPeer(1, "80.4.4.200")
			for id := LinkID(2); id < 4; id++ {
				r.fastPeer(id, addr(int(id)).Addr().String())
			}
		}},
		{"whoever asks for what we alone have", func(r *rig) {
			r.handle(Event{Op: Left, Link: 90})
			r.fastPeer(1, "80.4.4.200")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := grantRig(t)
			tt.do(r)
			r.say(1, wire.Interested)
			if got := r.granted(1); len(got) > 0 {
				t.Errorf("allowed %v", got)
			}
		})
	}
}

// BEP 6: on a choke the requests for allowed pieces stay.
func TestAChokeKeepsWhatIsAllowed(t *testing.T) {
	r := grantRig(t)
	r.fastPeer(1, "80.4.4.200")
	r.say(1, wire.Interested)
	r.granted(1)
	r.c.setChoke(r.c.byID[1], false, "")
	for n := range uint32(6) { // the writer is full
		r.msg(1, request(n, 0))
	}
	r.msg(1, request(7, 0))
	r.msg(1, request(fastSet[0], 0))
	r.forget()
	r.c.begin(r.now)
	r.c.setChoke(r.c.byID[1], true, "")
	for _, e := range r.c.out {
		r.got = append(r.got, word(e))
	}
	r.want("all others are refused", "1:choke, 3x 1:reject request")
	r.handle(Event{Op: Sent, Link: 1, N: 2 * piece.BlockSize})
	r.want("the other is served", "1:read")
	for i := range uint32(fastPieces) {
		r.msg(1, wire.Message{ID: wire.Have, Index: i})
	}
	r.msg(1, request(fastSet[1], 0))
	r.want("it has enough by now", "1:reject request")
}

// A fastSource is a rig whose link 1 speaks the fast extension, has everything and chokes us.
func fastSource(t *testing.T, cfg Config) *rig {
	cfg.Ext.M.DontHave = ourDontHave
	r := newRig(t, cfg)
	r.fastPeer(1, "80.4.4.200")
	r.say(1, wire.HaveAll)
	r.want("it has what we want", "1:have none, 1:extended, 1:interested")
	return r
}

func TestWhatAPeerAllowsIsAskedOfIt(t *testing.T) {
	r := fastSource(t, Config{})
	r.msg(1, wire.Message{ID: wire.AllowedFast, Index: 3})
	r.msg(1, wire.Message{ID: wire.AllowedFast, Index: 3})
	r.want("though it chokes", "4x 1:request")
	asks := r.takeAsks()
	if !slices.Equal(asks, r.all(3)) {
		t.Errorf("asked for %v", asks)
	}
	r.block(1, asks[0])
	r.want("taken", "write")
	for _, b := range asks[1:3] {
		r.msg(1, wire.Message{ID: wire.Reject, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	}
	r.block(1, asks[3])
	r.tick(time.Minute)
	if got := r.takeAsks(); len(got) > 0 {
		t.Errorf("asked again for what it has refused: %v", got)
	}
	r.say(1, wire.Unchoke)
	if got := len(r.takeAsks()); got < firstWindow {
		t.Errorf("%d requests after the unchoke", got)
	}
}

func TestFewBlocksAreAskedOfAPeerThatChokes(t *testing.T) {
	r := fastSource(t, Config{Layout: layoutOf(t, 16*mib, mib)})
	for i := range uint32(16) {
		r.msg(1, wire.Message{ID: wire.AllowedFast, Index: i})
	}
	if got := len(r.takeAsks()); got != fastWindow {
		t.Errorf("%d requests, want %d", got, fastWindow)
	}
	r.tick(snubAfter + time.Second)
	if got := r.takeAsks(); len(got) > 0 {
		t.Errorf("asked again of one that does not keep its promise: %v", got)
	}
}

// Each peer that a seed serves is told of other pieces, as long as there are some that nobody has.
func TestASeedSuggestsEverybodySomethingElse(t *testing.T) {
	l := layoutOf(t, 16*64*kib, 64*kib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
	r.tick(0)
	seen := piece.NewBitfield(l.Pieces())
	told := func(why string, ev Event, want int) {
		for _, e := range r.c.Handle(r.now, ev) {
			if e.Op == Send && e.Msg.ID == wire.Suggest {
				want--
				if !seen.Set(int(e.Msg.Index)) {
					t.Errorf("%s: piece %d is suggested again", why, e.Msg.Index)
				}
			}
		}
		if want != 0 {
			t.Errorf("%s: %d suggestions too few", why, want)
		}
	}
	for id := LinkID(1); id <= 2; id++ {
		r.handle(Event{Op: Joined, Link: id, Remote: fast(id)})
		told("served from now on", Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.HaveNone}}, firstHints)
		r.say(id, wire.Interested)
		told("begins a piece", Event{Op: Message, Link: id, Msg: request(uint32(id), 0)}, 1)
		told("goes on", Event{Op: Message, Link: id, Msg: request(uint32(id), 1)}, 0)
	}
	r.fastPeer(3, "198.18.0.3")
	for i := range uint32(l.Pieces() - 1) {
		r.msg(3, wire.Message{ID: wire.Have, Index: i})
	}
	seen = piece.NewBitfield(l.Pieces())
	told("one is left that nobody has",
		Event{Op: Message, Link: 1, Msg: request(9, 0)}, 1)
	if !seen.Has(l.Pieces() - 1) {
		t.Error("what others have is suggested")
	}
	r.msg(2, wire.Message{ID: wire.Have, Index: uint32(l.Pieces() - 1)})
	told("all is out", Event{Op: Message, Link: 1, Msg: request(10, 0)}, 0)
}

func TestASuggestionIsFollowed(t *testing.T) {
	r := fastSource(t, Config{Layout: layoutOf(t, 256*mib, 256*kib)})
	r.msg(1, wire.Message{ID: wire.Suggest, Index: 700})
	r.say(1, wire.Unchoke)
	if b := r.takeAsks()[0]; b.Piece != 700 {
		t.Errorf("piece %d was asked for first, piece 700 suggested", b.Piece)
	}
}

func TestFastMessagesOfWhatDoesNotExist(t *testing.T) {
	for _, tt := range []struct {
		m    wire.Message
		want string
	}{
		{wire.Message{ID: wire.AllowedFast, Index: 16}, "1:drop peer allows a piece 16 that does not exist"},
		{wire.Message{ID: wire.Suggest, Index: 1<<32 - 1}, "1:drop peer suggests a piece 4294967295 that does not exist"},
		{wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: []byte{0, 0, 0, 16}}, "1:drop peer has no more a piece 16 that does not exist"},
		{wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: []byte{0}}, "1:drop " + wire.ErrDontHave.Error()},
	} {
		r := fastSource(t, Config{})
		r.msg(1, tt.m)
		r.want(tt.m.ID.String(), tt.want)
	}
}

func TestFloodsOfFastMessagesAreCheap(t *testing.T) {
	r := fastSource(t, Config{Layout: layoutOf(t, 256*mib, 16*kib)})
	allocs := testing.AllocsPerRun(1, func() {
		for i := range uint32(mostPatience/4 - 20) { // this runs twice
			r.c.Handle(r.now, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Suggest, Index: i}})
			r.c.Handle(r.now, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.AllowedFast, Index: i}})
		}
	})
	if allocs > 100 {
		t.Errorf("half as many hints as we bear cost %v allocations", allocs)
	}
	if n := r.c.byID[1].asked.live; n < fastWindow*3/4 || n > fastWindow {
		t.Errorf("%d requests outstanding, want about %d", n, fastWindow)
	}
}

func (r *rig) dontHave(id LinkID, i uint32) {
	r.msg(id, wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: wire.AppendDontHave(nil, i)})
}

func TestALostPiece(t *testing.T) {
	r := fastSource(t, Config{Layout: layoutOf(t, 128*kib, 64*kib)})
	r.say(1, wire.Unchoke)
	r.want("both pieces", "8x 1:request")
	asks := r.takeAsks()
	r.dontHave(1, asks[0].Piece)
	r.dontHave(1, asks[0].Piece)
	r.want("it still has the other; what it was asked it will refuse by itself", "")
	if s := r.c.Snapshot(r.now); s.Seeds != 0 || s.Copies != 0 || r.c.byID[1].asked.live != 4 {
		t.Errorf("%d seeds, %d copies, %d requests outstanding; want none, none, 4", s.Seeds, s.Copies, r.c.byID[1].asked.live)
	}
	r.msg(1, wire.Message{ID: wire.Reject, Index: asks[0].Piece, Length: asks[0].Length})
	r.block(1, asks[1])
	r.want("an answer that was on its way is welcome", "write")
	r.seed(2)
	r.want("others are asked for the rest, and, in endgame, for what it owes us", "2:interested, 7x 2:request")
	r.dontHave(1, asks[7].Piece)
	r.want("it has nothing any more", "1:not interested")
	if n := r.c.byID[1].asked.live; n != 0 {
		t.Errorf("%d requests outstanding at a peer that has nothing", n)
	}
}

func TestACopyThatIsLostIsNone(t *testing.T) {
	r := fastSource(t, Config{})
	if s := r.c.Snapshot(r.now); s.Copies != 1 {
		t.Fatalf("%d copies, want the one that had nothing first", s.Copies)
	}
	for range 3 {
		r.dontHave(1, 5)
		r.msg(1, wire.Message{ID: wire.Have, Index: 5})
	}
	if s := r.c.Snapshot(r.now); s.Seeds != 1 || s.Copies != 1 {
		t.Errorf("%d seeds, %d copies, want one of each", s.Seeds, s.Copies)
	}
}

func TestAFloodOfLossesEnds(t *testing.T) {
	r := fastSource(t, Config{})
	for range 1000 {
		r.dontHave(1, 5)
	}
	for range 10 {
		r.say(1, wire.HaveAll)
		r.dontHave(1, 5)
	}
	if len(r.c.links) != 1 {
		t.Fatal("dropped too early")
	}
	const enough = mostPatience / costReneged
	for range enough {
		if len(r.c.links) > 0 {
			r.say(1, wire.HaveAll)
			r.dontHave(1, 5)
		}
	}
	if len(r.c.links) > 0 {
		t.Errorf("still connected after it had everything %d times", enough)
	}
}

// What comes before the metadata counts after it.
func TestEarlyHintsAreKept(t *testing.T) {
	p := Peering{Rand: rand.New(rand.NewPCG(1, 2)), Ext: wire.ExtHandshake{M: wire.ExtIDs{DontHave: ourDontHave}}}
	f := NewFetch(epoch, FetchConfig{Peering: p})
	rem := remote(1)
	rem.Fast, rem.Ext = true, true
	f.Handle(epoch, Event{Op: Joined, Link: 1, Remote: rem})
	say := func(m wire.Message) { f.Handle(epoch, Event{Op: Message, Link: 1, Msg: m}) }
	say(wire.Message{ID: wire.HaveAll})
	for _, i := range []uint32{2, 5} {
		say(wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: wire.AppendDontHave(nil, i)})
		say(wire.Message{ID: wire.AllowedFast, Index: i})
	}
	say(wire.Message{ID: wire.Have, Index: 5})
	for i := range uint32(1000) {
		say(wire.Message{ID: wire.Suggest, Index: i})
	}
	if n := len(f.links[0].early.hints); n != maxEarlyHints {
		t.Errorf("%d hints are kept, want %d", n, maxEarlyHints)
	}
	f.links[0].early.hints = f.links[0].early.hints[:3]
	c, effects := f.Proceed(epoch, Config{Peering: p, Layout: layoutOf(t, mib, 64*kib)})
	for _, e := range effects {
		if e.Op == Send && e.Msg.ID == wire.Request && e.Msg.Index != 5 {
			t.Errorf("piece %d is asked for", e.Msg.Index)
		}
	}
	if l := c.byID[1]; l.seed || c.pick.sched.Has(l.sched, 2) || l.asked.live != 4 {
		t.Errorf("a seed: %t, %d requests outstanding; want the four of piece 5", l.seed, l.asked.live)
	}
}

// What is kept of a peer before the metadata is there is no longer than it must be.
func TestEarlyHintsAreShort(t *testing.T) {
	p := Peering{Rand: rand.New(rand.NewPCG(1, 2)), Ext: wire.ExtHandshake{M: wire.ExtIDs{DontHave: ourDontHave}}}
	f := NewFetch(epoch, FetchConfig{Peering: p})
	f.Handle(epoch, Event{Op: Joined, Link: 1, Remote: remote(1)})
	f.Handle(epoch, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: make([]byte, wire.MaxExtended)}})
	if len(f.links) != 0 {
		t.Error("it stays")
	}
}
