package core

import (
	"errors"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

func TestNothingIsDueAfterTheEnd(t *testing.T) {
	r := newRig(t, Config{MaxTime: time.Minute})
	r.join(1)
	r.forget()
	r.tick(time.Minute)
	r.want("the end", "done out of time")
	if next := r.c.Next(); !next.IsZero() {
		t.Errorf("next at %v", next)
	}
	r.join(2)
	r.want("nobody comes in", "2:drop the swarm has ended")
	r.block(1, piece.Block{Length: piece.BlockSize})
	r.want("nothing is taken", "release")
	r.handle(Event{Op: Tick})
	r.handle(Event{Op: Stored})
	r.handle(Event{Op: Found, Addrs: addrs("198.18.0.1:1"), Source: SourceStatic})
	r.want("nothing is done", "")
}

// When all is verified the storage has the last word, however long it takes.
func TestTheStorageMayTakeItsTime(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib), Stall: time.Minute, MaxTime: 2 * time.Minute})
	r.seed(1)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true})
	r.handle(Event{Op: Verified, Piece: 0, OK: true}) // twice is once
	r.forget()
	r.tick(time.Hour)
	r.want("no limit counts any more", "")
	r.handle(Event{Op: Stored})
	r.want("the end", "done complete")
}

func TestSeedingEndsWhicheverComesFirst(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Ratio: 2, Time: time.Hour, Forever: true}})
	r.tick(0)
	r.want("it begins", "completed")
	r.join(1)
	r.handle(Event{Op: Sent, Link: 1, N: mib})
	r.tick(time.Hour - time.Second)
	if r.c.leaving.ended {
		t.Fatal("ended too early")
	}
	r.tick(time.Second)
	if !r.has("done seed time over") {
		t.Error("did not end")
	}
}

func TestUnwantedPiecesAreLeftAlone(t *testing.T) {
	l := layoutOf(t, 4*64*kib, 64*kib)
	want := piece.NewBitfield(4)
	want.Set(2)
	r := newRig(t, Config{Layout: l, Wanted: &want, Seed: Seeding{Forever: true}})
	if s := r.c.Snapshot(r.now); s.Total != 64*kib || s.Left != 64*kib {
		t.Errorf("%d of %d left, want one piece", s.Left, s.Total)
	}
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: []byte{0b1101_0000}})
	r.want("it has nothing we want", "1:have none, 1:extended")
	r.msg(1, wire.Message{ID: wire.Have, Index: 2})
	r.want("now it has", "1:interested")
	r.say(1, wire.Unchoke)
	for _, b := range r.takeAsks() {
		if b.Piece != 2 {
			t.Errorf("piece %d is asked for", b.Piece)
		}
		r.block(1, b)
	}
	r.handle(Event{Op: Joined, Link: 2, Remote: fast(2)})
	r.forget()
	r.handle(Event{Op: Verified, Piece: 2, OK: true})
	r.want("interest is over", "1:have, 1:not interested, 2:have")
	r.handle(Event{Op: Stored})
	r.want("complete, as far as we want it", "completed, 2:extended, 1:extended, 1:drop both ends are seeds")
}

func TestEachMisdeedIsAProtocolViolation(t *testing.T) {
	if !errors.Is(misdeed("does %s", "wrong"), wire.ErrProtocol) {
		t.Error("it is not")
	}
}
