package core

import (
	"slices"
	"testing"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
	"bittern/piece"
)

func TestSlotsFollowTheCapacity(t *testing.T) {
	for _, tt := range []struct {
		slots    int
		capacity float64
		want     int
	}{{4, 0, 4}, {4, bytesPerSlot - 1, 4}, {4, bytesPerSlot, 5}, {1, 10 * bytesPerSlot, 11}, {-1, 10 * bytesPerSlot, 0}} {
		r := newRig(t, Config{Slots: tt.slots})
		r.c.limits.peak = tt.capacity
		if got := r.c.slots(); got != tt.want {
			t.Errorf("%d slots and %.0f bytes/s: %d, want %d", tt.slots, tt.capacity, got, tt.want)
		}
	}
}

// chokeRig is a rig that lacks one piece, and has two slots, and n peers that want something.
func chokeRig(t *testing.T, n LinkID) *rig {
	l := layoutOf(t, 16*mib, mib)
	have := full(l)
	have.Clear(0)
	r := newRig(t, Config{Layout: l, Have: have, Slots: 2})
	for id := LinkID(1); id <= n; id++ {
		r.join(id)
		r.msg(id, wire.Message{ID: wire.Have, Index: 1}) // who has nothing is unchoked at once
		r.say(id, wire.Interested)
	}
	return r
}

// unchoked returns who may ask.
func (r *rig) unchoked() (ids []LinkID) {
	for _, l := range r.c.links {
		if !l.amChoking {
			ids = append(ids, l.id)
		}
	}
	return ids
}

// While nobody asks for anything idleExtra peers more are unchoked every idleEvery, up to mostUnchoked for each slot.
func TestAnIdleLineUnchokesOthers(t *testing.T) {
	r := chokeRig(t, 20)
	was := len(r.unchoked())
	if was > 3 {
		t.Errorf("%d are unchoked at once, with two slots", was)
	}
	for range 60 {
		r.now = r.now.Add(idleEvery / 3)
		r.handle(Event{Op: Tick})
		r.handle(Event{Op: Tick})
		n := len(r.unchoked())
		if n > was+idleExtra {
			t.Errorf("%d were unchoked at once", n-was)
		}
		was = n
	}
	if want := mostUnchoked * 2; was != want {
		t.Errorf("%d are unchoked in the end, want %d", was, want)
	}
}

// Who asks for something keeps its slot for takesFor, and others out of it.
func TestTakersTakeSlots(t *testing.T) {
	r := chokeRig(t, 10)
	first := r.unchoked()
	for range 20 {
		for _, id := range first {
			for n := range uint32(4) {
				r.msg(id, request(1, n))
			}
		}
		r.tick(100 * time.Millisecond)
	}
	if now := r.unchoked(); !slices.Equal(now, first) {
		t.Errorf("%v take the slots, %v are unchoked", first, now)
	}
	r.handle(Event{Op: Left, Link: first[0]})
	if now := r.unchoked(); len(now) != len(first) || slices.Contains(now, first[0]) {
		t.Errorf("one of %v left, and %v are unchoked", first, now)
	}
}

// A slot whose owner has ceased to take is another's, though the line is busy with what somebody takes slowly.
func TestASlotThatIsNotTakenIsFilled(t *testing.T) {
	r := chokeRig(t, 20)
	first := r.unchoked()
	slow := first[0]
	for range 5 * 4 { // no round is due
		for n := range uint32(4) {
			r.msg(slow, request(1, n))
		}
		if r.tick(250 * time.Millisecond); len(r.unchoked()) > len(first) {
			return // before the round, after takesFor
		}
		r.handle(Event{Op: Sent, Link: slow, N: piece.BlockSize})
	}
	t.Errorf("none but %v are unchoked", first)
}

// The optimistic unchoke moves on when it has had its advance and gives nothing, not only every half minute.
func TestTheOptimisticUnchokeMovesOn(t *testing.T) {
	r := chokeRig(t, 4)
	for id := LinkID(1); id <= 4; id++ {
		r.msg(id, wire.Message{ID: wire.Have, Index: 0}) // it could give us something
	}
	r.join(5)
	r.say(5, wire.Interested)
	r.c.byID[5].gave.Add(r.now, mib) // somebody trades, or nobody would owe anything
	r.tick(10 * time.Second)
	for range 4 {
		was := LinkID(r.c.choking.optimistic)
		if was == 0 {
			t.Fatal("nobody is the optimistic unchoke")
		}
		r.handle(Event{Op: Sent, Link: was, N: advance + 1})
		if now := LinkID(r.c.choking.optimistic); !r.c.owes(r.c.byID[was]) || now == was {
			if slices.ContainsFunc(r.c.links, func(l *link) bool { return !r.c.owes(l) && l.amChoking }) {
				t.Errorf("%d has had its advance and stays", was)
			}
		} else if !r.c.byID[was].amChoking || r.c.byID[now].amChoking {
			t.Errorf("%d took over from %d: choked %t and %t", now, was, r.c.byID[now].amChoking, r.c.byID[was].amChoking)
		}
	}
}

// Requests of those who owe us, and are not served, keep nobody else from being unchoked.
func TestWhoOwesDoesNotKeepTheLineBusy(t *testing.T) {
	r := chokeRig(t, 6)
	r.join(7)
	r.say(7, wire.Interested)
	r.c.byID[7].gave.Add(r.now, mib) // somebody trades, or nobody would owe anything
	r.tick(time.Second)
	for _, id := range r.unchoked() {
		l := r.c.byID[id]
		if id == 7 {
			continue
		}
		l.balance = -2 * advance
		r.msg(id, request(1, 0))
		r.c.serving.queue(l, append(l.queue[:0], piece.Block{Piece: 1, Length: piece.BlockSize}))
		r.c.serving.reading -= l.upload.inFlight
		l.upload.inFlight = 0
		r.c.serving.written(l)
	}
	r.c.turns.of, r.c.turns.gifts = nil, -mib
	was := len(r.unchoked())
	r.tick(2 * time.Second)
	if now := len(r.unchoked()); now <= was {
		t.Errorf("%d are unchoked as before, and the line is idle", now)
	}
}

// An optimistic unchoke that has had its advance, but has earned a slot by now, keeps that.
func TestTheOptimisticUnchokeMayHaveEarnedItsPlace(t *testing.T) {
	r := chokeRig(t, 2)
	r.tick(choke.Every)
	was := LinkID(r.c.choking.optimistic)
	if was == 0 {
		t.Fatal("nobody is the optimistic unchoke")
	}
	r.handle(Event{Op: Left, Link: 3 - was})
	r.c.choking.spent = true
	r.handle(Event{Op: Tick})
	if r.c.byID[was].amChoking {
		t.Error("it is choked, though there are slots enough")
	}
}

// A balance fades by time, not by rounds, which a peer can have more of by changing its mind.
func TestBalancesFadeByTime(t *testing.T) {
	r := chokeRig(t, 1)
	l := r.c.byID[1]
	r.tick(choke.Every)
	l.balance = mib
	for range 10 {
		r.c.choking.next = r.now.Add(choke.Every / 10)
		r.tick(choke.Every / 10)
	}
	if got := l.balance / mib; got < forgiven-1e-6 || got > forgiven+1e-6 {
		t.Errorf("%v remains after ten quick rounds, want %v", got, forgiven)
	}
}

// Whoever was unchoked because the line was idle stays so over the rounds while it is.
func TestExtraSlotsAreKeptWhileTheLineIsIdle(t *testing.T) {
	r := chokeRig(t, 5)
	r.tick(3 * time.Second)
	r.forget()
	for range 400 {
		r.tick(choke.Every / 130)
		r.handle(Event{Op: Tick})
	}
	for id := range LinkID(5) {
		if l := r.c.byID[1+id]; l.amChoking || r.now.Sub(l.chokedSince) < 3*choke.Every {
			t.Errorf("%d was choked", l.id)
		}
	}
}

// Who says that it has nothing is unchoked before it is interested, but only so many are, and none for long that wants nothing, nor
// twice. Whoever wants something has time to begin, however many there are.
func TestWhoHasNothingIsWelcome(t *testing.T) {
	r := chokeRig(t, 0)
	joins := func(id LinkID) bool {
		r.handle(Event{Op: Joined, Link: id, Remote: fast(id)})
		r.say(id, wire.HaveNone)
		return !r.c.byID[id].amChoking
	}
	for id := LinkID(1); id <= 20; id++ {
		if got := joins(id); got != (id <= 2*mostUnchoked) {
			t.Errorf("%d is unchoked: %t", id, got)
		}
	}
	for id := LinkID(1); id <= 6; id++ {
		r.say(id, wire.Interested)
		for n := range uint32(4) {
			r.msg(id, request(1, n))
		}
	}
	r.tick(choke.Every - time.Second)
	if n := len(r.unchoked()); n != 2*mostUnchoked {
		t.Errorf("%d are unchoked after nine seconds", n)
	}
	for range 3 {
		r.tick(choke.Every)
	}
	for _, id := range r.unchoked() {
		if id > 6 && id <= 2*mostUnchoked {
			t.Errorf("%d wants nothing, and keeps its slot", id)
		}
	}
	if !joins(21) {
		t.Error("nobody else is welcome any more")
	}
}

// With our first piece, those who have none are unchoked.
func TestTheFirstPieceIsOffered(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, mib, 64*kib)})
	r.tick(0)
	r.handle(Event{Op: Joined, Link: 2, Remote: fast(2)})
	r.say(2, wire.HaveNone)
	if !r.c.byID[2].amChoking {
		t.Error("it is unchoked while we have nothing")
	}
	r.seed(1)
	for _, b := range r.all(0) {
		r.block(1, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true})
	if r.c.byID[2].amChoking {
		t.Error("it is choked though we have a piece")
	}
}

// An idle line is offered to those that lack most.
func TestAnIdleLineIsForThoseThatLackMost(t *testing.T) {
	r := chokeRig(t, 10)
	for id := LinkID(1); id <= 10; id++ {
		for i := range uint32(11 - id) {
			if i != 1 {
				r.msg(id, wire.Message{ID: wire.Have, Index: 2 + i})
			}
		}
	}
	was := r.unchoked()
	lacks := LinkID(10)
	for slices.Contains(was, lacks) {
		lacks--
	}
	r.tick(idleEvery)
	r.handle(Event{Op: Tick})
	if now := r.unchoked(); len(now) <= len(was) || !slices.Contains(now, lacks) {
		t.Errorf("%v were unchoked, and now are %v", was, now)
	}
}

// Once we are complete, a peer's wait counts by what it lacks: what we sent it it has, whether it says so or not. It does not count if
// it took nothing last time.
func TestClaim(t *testing.T) {
	r := chokeRig(t, 3)
	n := r.c.cfg.Layout.Pieces()
	for i := range uint32(n / 2) {
		if i != 1 {
			r.msg(2, wire.Message{ID: wire.Have, Index: i})
		}
	}
	one, two, three := r.c.byID[1], r.c.byID[2], r.c.byID[3]
	three.up.Add(r.now, n/2*int(r.c.cfg.Layout.PieceLength()))
	a, b, silent := r.c.claim(one), r.c.claim(two), r.c.claim(three)
	if a <= b || a > 5*b || b <= 0 || silent != b {
		t.Errorf("who lacks nearly all claims %v, who lacks half %v, and who does not say that it has half %v", a, b, silent)
	}
	r.c.setChoke(three, false, "")
	r.c.setChoke(three, true, "")
	if got := r.c.claim(three); got != 0 {
		t.Errorf("who took nothing claims %v", got)
	}
	r.c.setChoke(three, false, "")
	three.up.Add(r.now, 1)
	r.c.setChoke(three, true, "")
	if r.c.claim(three) == 0 {
		t.Error("who took something claims nothing")
	}
}

// A free slot of a seed goes to the one who has waited longest, not to the first that joined.
func TestAFreePlaceGoesByTheWait(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Slots: 1})
	r.tick(0)
	for _, id := range []LinkID{1, 2, 3} {
		r.join(id)
		r.msg(id, wire.Message{ID: wire.Have, Index: 1})
	}
	r.say(1, wire.Interested)
	r.msg(1, request(0, 0))
	for _, id := range []LinkID{2, 3} {
		r.say(id, wire.Interested)
	}
	r.c.byID[2].chokedSince = r.now
	r.c.byID[3].chokedSince = r.now.Add(-time.Minute)
	r.handle(Event{Op: Left, Link: 1})
	if r.c.byID[3].amChoking || !r.c.byID[2].amChoking {
		t.Errorf("%v got the slot", r.unchoked())
	}
}
