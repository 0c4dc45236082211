package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
	"bittern/piece"
)

// sums returns block sums of a version of a piece: block n differs in versions where bad holds n.
func sums(blocks int, bad ...int) [][20]byte {
	out := make([][20]byte, blocks)
	for n := range out {
		out[n][0] = byte(n)
	}
	for _, n := range bad {
		out[n][1] = 0xff
	}
	return out
}

func TestTheOnlySenderOfABadPieceIsBanned(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.want("caught", "1:drop peer sent corrupt data in piece 0")
	r.handle(Event{Op: Joined, Link: 2, Remote: remote(1)})
	r.want("and it stays out", "2:drop address is banned")
	if n := r.c.Snapshot(r.now).Liars; n != 1 {
		t.Errorf("%d liars counted, want 1", n)
	}
}

// What is banned is an address, with all that is connected from it.
func TestALiarsOtherConnectionsGoToo(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	asks := r.takeAsks()
	other := remote(2)
	other.Addr = netip.AddrPortFrom(addr(1).Addr(), 7)
	r.handle(Event{Op: Joined, Link: 2, Remote: other})
	r.join(3)
	for _, b := range asks {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.want("both go", "1:drop peer sent corrupt data in piece 0, 2:drop address is banned")
	if r.c.byID[3] == nil {
		t.Error("a peer of another address was dropped")
	}
}

func TestOfTwoSendersTheLiarIsFound(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.seed(2)
	blocks := r.all(0)
	// Endgame: both are asked for all of it, so the test chooses who answers.
	r.block(1, blocks[0])
	r.block(1, blocks[1])
	r.tick(0)
	r.block(2, blocks[2])
	r.block(2, blocks[3])
	r.takeAsks()
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 3)})
	for _, w := range r.got {
		if w == "1:drop peer sent corrupt data in piece 0" || w == "2:drop peer sent corrupt data in piece 0" {
			t.Fatalf("somebody was convicted without proof: %v", r.got)
		}
	}
	again := map[piece.Block]bool{}
	for _, b := range r.takeAsks() {
		again[b] = true
	}
	if len(again) != 4 {
		t.Fatalf("%d blocks asked for again, want 4", len(again))
	}
	for _, b := range blocks {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if !r.has("2:drop peer sent corrupt data in piece 0") {
		t.Errorf("the liar got away: %v", r.got)
	}
	if r.c.byID[1] == nil {
		t.Error("the honest peer was dropped")
	}
}

// Liars only: the download never completes and asks for less than three times the bytes.
func TestOnlyCorruptDataEnds(t *testing.T) {
	l := layoutOf(t, 4*mib, 64*kib)
	r := newRig(t, Config{Layout: l, Stall: time.Minute})
	const liars = 4
	for id := LinkID(1); id <= liars; id++ {
		r.seed(id)
	}
	for range 1000 {
		if len(r.c.links) == 0 {
			break
		}
		r.lie()
		r.tick(time.Millisecond)
	}
	if n := len(r.c.links); n > 0 {
		t.Errorf("%d liars are still there", n)
	}
	if s := r.c.Snapshot(r.now); s.Received >= 3*s.Total || s.Left != s.Total {
		t.Errorf("%d bytes received for %d, %d left; want under three times, all left", s.Received, s.Total, s.Left)
	}
	r.forget()
	r.tick(time.Minute)
	r.want("nothing came for a minute", "done stalled")
}

// lie lets each peer answer one request, and every piece that is whole fail; each block is bad in a way of
// its sender's.
func (r *rig) lie() {
	for _, l := range slices.Clone(r.c.links) {
		if l.asked.live == 0 || r.c.byID[l.id] != l {
			continue
		}
		b := l.asked.asks[l.asked.head].block
		r.got = nil
		r.block(l.id, b)
		if r.has("write") {
			if r.count == nil {
				r.count = map[uint32]int{}
			}
			r.count[b.Piece]++
		}
		if i := int(b.Piece); r.count[b.Piece] == r.c.cfg.Layout.Blocks(i) {
			r.count[b.Piece] = 0
			r.handle(Event{Op: Verified, Piece: i, Sums: sums(r.c.cfg.Layout.Blocks(i), 0, 1, 2, 3)})
		}
	}
}

func TestALiarIsConvictedAfterItHasLeft(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.seed(2)
	for n, b := range r.all(0) {
		r.block(LinkID(1+n/2), b)
	}
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 0)}) // by peer 1
	r.handle(Event{Op: Left, Link: 1})
	for _, b := range r.all(0) {
		r.block(2, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if r.c.byID[2] == nil {
		t.Error("the honest peer was dropped")
	}
	r.forget()
	r.handle(Event{Op: Joined, Link: 3, Remote: remote(1)})
	r.want("it does not come back", "3:drop address is banned")
}

// Who had a part in three bad pieces of which nothing proves whose fault they were is banned all the same.
func TestUnprovenPiecesAddUp(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 128*kib, 32*kib)})
	r.seed(1)
	for i := range 3 {
		other := LinkID(2 + i)
		r.seed(other)
		blocks := r.all(i)
		r.block(1, blocks[0])
		r.block(other, blocks[1])
		if r.c.byID[1] == nil {
			t.Fatalf("banned after %d unproven pieces", i)
		}
		r.handle(Event{Op: Verified, Piece: i})
	}
	if r.c.byID[1] != nil || !r.c.dialing.bannedIPs[addr(1).Addr()] {
		t.Error("not banned after three")
	}
	for i := range 3 {
		if r.c.byID[LinkID(2+i)] == nil {
			t.Errorf("peer %d is gone, which had a part in one", 2+i)
		}
	}
}

// Versions without sums prove little, and of a piece that fails for ever only some are kept.
func TestEvidenceIsBounded(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 32*kib, 32*kib)})
	blocks := r.all(0)
	for n := range LinkID(2*maxVersions + 2) {
		r.seed(2*n + 1)
		r.seed(2*n + 2)
		r.block(2*n+1, blocks[0])
		r.block(2*n+2, blocks[1])
		var s [][20]byte
		if n%2 == 0 {
			s = sums(2, 0)
		}
		r.handle(Event{Op: Verified, Piece: 0, Sums: s})
		r.handle(Event{Op: Left, Link: 2*n + 1})
		r.handle(Event{Op: Left, Link: 2*n + 2})
	}
	if n := len(r.c.blame.trial(0).versions); n != maxVersions {
		t.Errorf("%d versions kept, want %d", n, maxVersions)
	}
	r.seed(101)
	for _, b := range blocks {
		r.block(101, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(2)})
	if n := len(r.c.blame.trials) + len(r.c.blame.open) + len(r.c.blame.order); n != 0 {
		t.Errorf("%d records kept after the verdict", n)
	}
	for n := range LinkID(2*maxVersions + 2) {
		ip := addr(int(2*n + 1)).Addr()
		if got, want := r.c.dialing.bannedIPs[ip], n%2 == 0 && n < 2*maxVersions; got != want {
			t.Errorf("sender %d of the bad block: banned %v, want %v", n, got, want)
		}
		if r.c.dialing.bannedIPs[addr(int(2*n+2)).Addr()] {
			t.Errorf("sender %d of the good block is banned", n)
		}
	}
}

// sends lets a peer send blocks, whether they were asked of it or not; those were given to the scheduler before.
func (r *rig) sends(id LinkID, blocks ...piece.Block) {
	for _, b := range blocks {
		r.c.byID[id].asked.push(b, 0)
		r.block(id, b)
	}
}

// askedOf returns, and forgets, the blocks that each peer was asked for since the last time.
func (r *rig) askedOf() map[LinkID][]piece.Block {
	of := map[LinkID][]piece.Block{}
	for _, e := range r.requests {
		of[e.Link] = append(of[e.Link], piece.Block{Piece: e.Msg.Index, Begin: e.Msg.Begin, Length: e.Msg.Length})
	}
	r.requests = nil
	return of
}

// quiet joins a peer that has everything and chokes us.
func (r *rig) quiet(id LinkID) {
	r.join(id)
	r.say(id, wire.HaveAll)
}

// What a proven liar has sent of other pieces would make each of them fail in turn.
func TestNothingOfALiarIsKept(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 192*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	r.sends(1, r.all(0)...)
	r.sends(1, r.all(1)[:2]...)
	r.sends(2, r.all(1)[3])
	r.sends(1, r.all(2)...) // its verdict is on the way
	r.forget()
	before := r.c.Snapshot(r.now).Wasted
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.want("two blocks are forgotten", "2x forget, 1:drop peer sent corrupt data in piece 0")
	if n := r.c.Snapshot(r.now).Wasted - before; n != 6*16*kib {
		t.Errorf("%d bytes more are wasted, want those of six blocks", n)
	}
	r.sends(3, r.all(1)[:3]...)
	r.want("they are taken from another", "3x write")
	r.handle(Event{Op: Verified, Piece: 1, OK: true})
	r.handle(Event{Op: Verified, Piece: 2, Sums: sums(4, 0)})
	if n := len(r.c.blame.order) + len(r.c.blame.trials); n > 0 || len(r.c.links) != 2 {
		t.Errorf("%d records, %d links; want none, and the honest peers", n, len(r.c.links))
	}
}

// While it is not known which of two has lied, neither is asked for anything, and no other piece of theirs is
// completed. Somebody else fetches the bad piece, before all else and alone.
func TestSuspectsWait(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	for id := range LinkID(4) {
		r.quiet(1 + id)
	}
	piece0, piece1, piece2 := r.all(0), r.all(1), r.all(2)
	r.sends(1, piece1[:2]...)
	r.sends(3, piece1[2])
	r.sends(1, piece0[0], piece0[1])
	r.sends(2, piece0[2], piece0[3])
	r.askedOf()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 3)})
	for id := range LinkID(2) {
		r.say(1+id, wire.Unchoke)
	}
	if of := r.askedOf(); len(of) > 0 {
		t.Errorf("asked %v while two are suspects and the others choke us", of)
	}
	r.forget()
	r.sends(3, piece1[3])
	r.want("piece 1 would be complete, with blocks of a suspect", "release")
	r.sends(2, piece2[:3]...)
	r.sends(3, piece2[3])
	r.want("so would piece 2, but for a block", "3x write, release")

	r.say(3, wire.Unchoke)
	r.say(4, wire.Unchoke)
	of := r.askedOf()
	if len(of[1])+len(of[2]) > 0 || len(of[3]) < 4 || !slices.Equal(of[3][:4], piece0) {
		t.Fatalf("asked %v, want the bad piece of peer 3 and first", of)
	}
	for id, bs := range of {
		for k, b := range bs {
			if b.Piece == 1 || b.Piece == 2 || b.Piece == 0 && (id != 3 || k >= 4) {
				t.Errorf("peer %d is asked for %v", id, b)
			}
		}
	}
	for _, b := range piece0 {
		r.block(3, b)
	}
	r.askedOf()
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if !r.has("2:drop peer sent corrupt data in piece 0") || !r.has("forget") || r.has("1:drop peer sent corrupt data in piece 0") {
		t.Errorf("the verdict brings %v", r.got)
	}
	of = r.askedOf()
	if len(of[1]) == 0 {
		t.Error("the honest one is not asked again")
	}
	again := slices.Concat(of[1], of[3], of[4])
	if !slices.Contains(again, piece1[3]) || !slices.Contains(again, piece2[0]) {
		t.Errorf("what was held does not go on: %v", again)
	}
}

// A piece that waits because of a liar's blocks alone waits no more when they are forgotten, though it stays open for what
// others are asked of it.
func TestAForgottenPieceGoesOn(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 128*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	r.sends(1, r.all(0)[:2]...)
	r.sends(2, r.all(0)[2:]...)
	r.say(3, wire.Unchoke)
	r.sends(2, r.all(1)[0])
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 3)})
	for _, b := range r.all(0) {
		r.block(3, b)
	}
	r.askedOf()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if r.c.byID[2] != nil {
		t.Fatal("the liar is still there")
	}
	r.say(1, wire.Unchoke)
	if of := r.askedOf(); !slices.Contains(slices.Concat(of[1], of[3]), r.all(1)[0]) {
		t.Errorf("asked %v, and not for what the liar had sent", of)
	}
}

// A suspect that leaves and comes back is the same one, whatever it calls itself.
func TestASuspectThatComesBackWaits(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	r.sends(1, r.all(0)[:2]...)
	r.sends(2, r.all(0)[2:]...)
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 3)})
	r.handle(Event{Op: Left, Link: 2})
	rem := remote(12)
	rem.Addr = remote(2).Addr
	r.handle(Event{Op: Joined, Link: 12, Remote: rem})
	r.say(12, wire.HaveAll)
	r.tick(time.Second)
	r.askedOf()
	r.say(12, wire.Unchoke)
	if of := r.askedOf(); len(of) > 0 {
		t.Errorf("asked %v", of)
	}
}

// Where nobody else has the bad piece a suspect fetches it: who has sent most good blocks. If it cannot any more
// another does, from the beginning, because two of them together prove nothing.
func TestASuspectIsAskedIfNobodyElseCan(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	r.quiet(1)
	r.quiet(2)
	piece0 := r.all(0)
	r.sends(2, r.all(5)...)
	r.handle(Event{Op: Verified, Piece: 5, OK: true})
	r.sends(1, piece0[0], piece0[1])
	r.sends(2, piece0[2], piece0[3])
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.say(1, wire.Unchoke)
	r.tick(time.Second)
	if of := r.askedOf(); !slices.Equal(of[1], piece0) || len(of) != 1 {
		t.Fatalf("asked %v, want the bad piece alone, of peer 1", of)
	}
	r.say(2, wire.Unchoke)
	r.tick(time.Second)
	r.block(1, piece0[0])
	r.say(1, wire.Choke)
	r.forget()
	r.tick(time.Second)
	if !r.has("forget") {
		t.Errorf("what peer 1 has sent is kept: %v", r.got)
	}
	if of := r.askedOf(); !slices.Equal(of[2], piece0) || len(of) != 1 {
		t.Fatalf("asked %v, want the bad piece alone, of peer 2", of)
	}
	for _, b := range piece0 {
		r.block(2, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if !r.has("1:drop peer sent corrupt data in piece 0") || r.c.byID[2] == nil {
		t.Errorf("the verdict brings %v", r.got)
	}
}

// A suspect is not asked while somebody else may be about to unchoke us, and of two the one with more good blocks is.
func TestWhoFetchesABadPiece(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	piece0 := r.all(0)
	r.sends(2, r.all(5)...)
	r.handle(Event{Op: Verified, Piece: 5, OK: true})
	r.sends(1, piece0[0], piece0[1])
	r.sends(2, piece0[2], piece0[3])
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.say(1, wire.Unchoke)
	r.say(2, wire.Unchoke)
	r.tick(choke.Every - time.Second)
	if of := r.askedOf(); len(of) > 0 {
		t.Fatalf("asked %v, while peer 3 may unchoke us", of)
	}
	r.tick(2 * time.Second)
	if of := r.askedOf(); !slices.Equal(of[2], piece0) || len(of) != 1 {
		t.Fatalf("asked %v, want the bad piece alone, of peer 2", of)
	}
}

// Nobody waits for ever: a piece that cannot be had holds up its suspects for a while.
func TestATrialEnds(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	piece0 := r.all(0)
	r.sends(1, piece0[:2]...)
	r.sends(2, piece0[2:]...)
	r.sends(2, r.all(2)[:2]...)
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	if !r.c.blame.open[2].held || !r.c.byID[2].suspended {
		t.Fatal("no trial")
	}
	r.say(3, wire.Unchoke) // and then it sends nothing
	r.tick(trialTime + time.Second)
	if r.c.blame.open[2].held || r.c.byID[1].suspended || r.c.byID[2].suspended {
		t.Error("the trial lasts")
	}
	for _, b := range piece0 {
		r.block(3, b) // too late for that
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if !r.has("1:drop peer sent corrupt data in piece 0") {
		t.Errorf("the verdict brings %v", r.got)
	}
}

// While others give, suspects wait for as long as it takes: they may all have the piece of nobody but a liar.
func TestATrialLastsWhileOthersGive(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*64*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	r.tick(tradeWindow)
	piece0 := r.all(0)
	r.sends(1, piece0[:2]...)
	r.sends(2, piece0[2:]...)
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	for i := 1; i < 10; i++ {
		r.sends(3, r.all(i)...)
		r.handle(Event{Op: Verified, Piece: i, OK: true, Sums: sums(4)})
		r.tick(trialTime / 5)
		if !r.c.byID[1].suspended || !r.c.byID[2].suspended {
			t.Fatalf("the trial is over after %v", r.now.Sub(epoch)-tradeWindow)
		}
	}
	r.tick(tradeWindow + time.Second)
	if r.c.byID[1].suspended || r.c.byID[2].suspended {
		t.Error("the trial lasts while nobody gives anything")
	}
	r.sends(3, r.all(20)...)
	r.tick(time.Second)
	if r.c.byID[1].suspended {
		t.Error("a trial that is over begins anew")
	}
}

// Peers that lack the piece of a trial, and give more than its suspects gave, do not keep these from being asked for it for ever; nor does a
// suspect that is asked, and takes its time.
func TestATrialIsNotDrawnOut(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*64*kib, 64*kib)})
	r.quiet(1)
	r.quiet(2)
	r.join(3)
	r.tick(tradeWindow)
	piece0 := r.all(0)
	r.sends(1, piece0[:2]...)
	r.sends(2, piece0[2:]...)
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.askedOf()
	asked := map[LinkID]time.Duration{} // when for the bad piece
	began, k := r.now, 0
	for r.now.Sub(began) < mostTrial+2*trialTime {
		for range 8 {
			r.sends(3, r.all(1 + k/4%60)[k%4])
			k++
		}
		r.say(1, wire.Unchoke)
		r.say(2, wire.Unchoke)
		r.tick(5 * time.Second)
		for id, blocks := range r.askedOf() {
			if _, ok := asked[id]; !ok && slices.Contains(blocks, piece0[0]) {
				asked[id] = r.now.Sub(began)
			}
		}
		if l := r.c.blame.trials[0].retrier; l != nil && l.asked.live > 0 { // and gives something, so that it is not snubbed
			r.sends(l.id, r.all(40)[0])
		}
	}
	if len(asked) != 2 || min(asked[1], asked[2]) != mostTrial || max(asked[1], asked[2]) > mostTrial+trialTime+15*time.Second {
		t.Errorf("suspects are asked for the bad piece after %v, want one after %v and the other about %v later", asked, mostTrial, trialTime)
	}
}

// Nor are suspects kept waiting that gave more than the others do: one that has nothing for us but a block now and then costs them half a
// minute.
func TestATrialOfWhoGivesMostIsShort(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*64*kib, 64*kib)})
	for id := range LinkID(3) {
		r.quiet(1 + id)
	}
	r.tick(tradeWindow)
	for i := 1; i < 4; i++ {
		r.sends(2, r.all(i)...)
		r.handle(Event{Op: Verified, Piece: i, OK: true, Sums: sums(4)})
	}
	r.sends(1, r.all(0)[:2]...)
	r.sends(2, r.all(0)[2:]...)
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	for i := range 9 {
		r.sends(3, r.all(10 + i)[0])
		r.tick(trialTime / 10)
		if !r.c.byID[1].suspended {
			t.Fatalf("the trial is over after %v", r.now.Sub(epoch)-tradeWindow)
		}
	}
	r.sends(3, r.all(20)[0])
	r.tick(trialTime / 10)
	if r.c.byID[1].suspended || r.c.byID[2].suspended {
		t.Error("the trial lasts")
	}
}

// A piece that fails again is on trial again.
func TestATrialBeginsAnew(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*64*kib, 64*kib)})
	for id := range LinkID(4) {
		r.quiet(1 + id)
	}
	piece0 := r.all(0)
	fails := func(a, b LinkID) {
		r.sends(a, piece0[:2]...)
		r.sends(b, piece0[2:]...)
		r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	}
	fails(1, 2)
	r.tick(trialTime + time.Second)
	if r.c.byID[1].suspended {
		t.Fatal("the trial lasts")
	}
	fails(3, 4)
	if !r.c.byID[1].suspended || !r.c.byID[3].suspended {
		t.Error("there is no other trial")
	}
}

// However many pieces fail, what is kept of them is bounded.
func TestTrialsAreBounded(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 3*maxTrials*32*kib, 32*kib)})
	for i := range 2 * maxTrials {
		a, b := LinkID(2*i+1), LinkID(2*i+2)
		r.quiet(a)
		r.quiet(b)
		r.sends(a, r.all(i)[0])
		r.sends(b, r.all(i)[1])
		r.handle(Event{Op: Verified, Piece: i, Sums: sums(2, 1)})
		r.handle(Event{Op: Left, Link: a})
		r.handle(Event{Op: Left, Link: b})
	}
	if n := len(r.c.blame.trials); n != maxTrials {
		t.Errorf("%d trials, want %d", n, maxTrials)
	}
	if n := r.c.Snapshot(r.now).Liars; n > 0 {
		t.Errorf("%d were convicted without proof", n)
	}
}
