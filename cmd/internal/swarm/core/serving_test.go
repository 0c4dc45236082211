package core

import (
	"testing"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
	"bittern/piece"
)

// full returns the bitfield of everything.
func full(l piece.Layout) piece.Bitfield {
	b := piece.NewBitfield(l.Pieces())
	for i := range l.Pieces() {
		b.Set(i)
	}
	return b
}

// seedRig is a rig that has everything and seeds for ever.
func seedRig(t *testing.T, fast bool) *rig {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
	r.tick(0)
	r.want("it begins", "completed")
	rem := remote(1)
	rem.Fast = fast
	r.handle(Event{Op: Joined, Link: 1, Remote: rem})
	if fast {
		r.want("we have all", "1:have all")
	} else {
		r.want("we have all", "1:bitfield")
	}
	return r
}

func request(i, n uint32) wire.Message {
	return wire.Message{ID: wire.Request, Index: i, Begin: n * piece.BlockSize, Length: piece.BlockSize}
}

func TestAnInterestedPeerIsServed(t *testing.T) {
	r := seedRig(t, true)
	r.msg(1, request(0, 0))
	r.want("choked, but who has nothing is welcome", "1:reject request, 3x 1:suggest piece, 1:unchoke")
	r.say(1, wire.Interested)
	r.msg(1, request(0, 0))
	r.want("served", "1:suggest piece, 1:read")
	r.msg(1, wire.Message{ID: wire.Request, Index: 16, Length: piece.BlockSize})
	r.want("no such piece", "1:drop peer asks for bytes that do not exist")
}

func TestReadsAreHeldBackUntilTheSocketTakesThem(t *testing.T) {
	r := seedRig(t, true)
	r.say(1, wire.Interested)
	r.forget()
	const window = leastWriter / piece.BlockSize
	for n := range uint32(maxQueue + window + 5) {
		r.msg(1, request(n/64, n%64))
	}
	r.want("a window is read, a queue waits, the rest is refused", "1:suggest piece, 4x 1:read, 3x 1:suggest piece, 5x 1:reject request")
	r.handle(Event{Op: Sent, Link: 1, N: 2 * piece.BlockSize})
	r.want("as much as was sent", "2x 1:read")
	last := uint32(maxQueue + window - 1)
	r.msg(1, wire.Message{ID: wire.Cancel, Index: last / 64, Begin: last % 64 * piece.BlockSize, Length: piece.BlockSize})
	r.want("what has not been read can be cancelled", "1:reject request")
	if got := r.c.Snapshot(r.now).Uploaded; got != 2*piece.BlockSize {
		t.Errorf("uploaded %d, want two blocks", got)
	}
}

func TestALeavingPeerGivesItsCreditBack(t *testing.T) {
	r := seedRig(t, true)
	r.say(1, wire.Interested)
	r.msg(1, request(0, 0))
	r.forget()
	r.handle(Event{Op: Left, Link: 1})
	if r.c.serving.reading != 0 {
		t.Errorf("%d bytes still counted", r.c.serving.reading)
	}
	r.handle(Event{Op: Sent, Link: 1, N: piece.BlockSize})
	if r.c.serving.reading != 0 {
		t.Errorf("%d bytes counted after the late report", r.c.serving.reading)
	}
}

func TestASlotThatIsGivenUpGoesToTheNext(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Slots: 1})
	r.tick(0)
	for id := LinkID(1); id <= 2; id++ {
		r.join(id)
		r.msg(id, wire.Message{ID: wire.Have, Index: 1}) // who has nothing is unchoked at once
	}
	r.forget()
	r.say(1, wire.Interested)
	r.say(2, wire.Interested)
	r.want("one slot", "1:unchoke")
	r.say(1, wire.NotInterested)
	r.want("free, and nobody is choked in between", "2:unchoke")
	r.msg(2, request(0, 0)) // a line that is idle would have a place for both
	r.say(1, wire.Interested)
	r.want("one too many wants something now", "2:read")
	r.tick(time.Second)
	r.want("a round puts it right, soon but not at once", "2:choke")
}

func TestSeedsGoRound(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Slots: 1})
	r.tick(0)
	for id := LinkID(1); id <= 2; id++ {
		r.join(id)
		r.msg(id, wire.Message{ID: wire.Have, Index: 1}) // who has nothing is unchoked at once
		r.say(id, wire.Interested)
	}
	r.msg(1, request(0, 0)) // a line that is idle would have a place for both
	r.forget()
	for range choke.Quantum / choke.Every {
		r.tick(choke.Every - time.Second)
		r.handle(Event{Op: Sent, Link: 1, N: 1}) // who takes nothing would not be kept so long
		r.tick(time.Second)
	}
	serves := func(why string, who LinkID) {
		t.Helper()
		for _, l := range r.c.links {
			if l.amChoking == (l.id == who) {
				t.Errorf("%s: %d is choked: %v", why, l.id, l.amChoking)
			}
		}
	}
	serves("its quantum is over", 2)
	r.tick(choke.Every)
	serves("who takes nothing loses its place", 1)
}

func TestSeedingEnds(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	for _, tt := range []struct {
		name string
		seed Seeding
		do   func(*rig)
		want Outcome
	}{
		{"by ratio", Seeding{Ratio: 1.5}, func(r *rig) {
			r.join(1)
			r.handle(Event{Op: Sent, Link: 1, N: mib + mib/2})
		}, RatioReached},
		{"by time", Seeding{Time: time.Minute}, func(r *rig) { r.tick(time.Minute) }, SeedTimeOver},
		{"by time of the command", Seeding{Forever: true}, func(r *rig) { r.tick(time.Hour) }, SeedOutOfTime},
		{"at once", Seeding{}, func(r *rig) { r.tick(0) }, Complete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: l, Have: full(l), Seed: tt.seed, MaxTime: time.Hour})
			tt.do(r)
			if !r.has("done "+tt.want.String()) || !tt.want.Succeeded() {
				t.Errorf("did not end: %v", r.got)
			}
		})
	}
}

func TestTimeLimits(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		met  bool
		want string
	}{
		{"nobody, stall", Config{Stall: time.Minute}, false, "done no peers"},
		{"nobody, max time", Config{MaxTime: time.Minute}, false, "done no peers"},
		{"silent, stall", Config{Stall: time.Minute}, true, "done stalled"},
		{"silent, max time", Config{MaxTime: time.Minute}, true, "done out of time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.cfg)
			if tt.met {
				r.join(1)
			}
			r.tick(time.Minute - 1)
			r.want("not yet", "")
			r.tick(1)
			r.want("now", tt.want)
		})
	}
}

func TestAByteOfContentPutsTheStallOff(t *testing.T) {
	r := newRig(t, Config{Stall: time.Minute})
	r.seed(1)
	b := r.takeAsks()[0]
	r.tick(15 * time.Second)
	r.block(1, b)
	r.forget()
	r.tick(time.Minute - 1)
	if r.has("done stalled") {
		t.Fatal("gave up too early")
	}
	r.tick(1)
	if !r.has("done stalled") {
		t.Fatal("did not give up")
	}
}

func TestWrongSayingsAreDropped(t *testing.T) {
	for _, tt := range []struct {
		name string
		msgs []wire.Message
	}{
		{"short bitfield", []wire.Message{{ID: wire.Bitfield, Payload: []byte{0xff}}}},
		{"spare bits", []wire.Message{{ID: wire.Bitfield, Payload: []byte{0, 0, 1}}}},
		{"nothing, twice", []wire.Message{{ID: wire.HaveNone}, {ID: wire.HaveNone}}},
		{"nothing, late", []wire.Message{{ID: wire.Interested}, {ID: wire.HaveNone}}},
		{"late and short bitfield", []wire.Message{{ID: wire.Interested}, {ID: wire.Bitfield, Payload: []byte{0}}}},
		{"have out of range", []wire.Message{{ID: wire.Have, Index: 16}}},
		{"have far out of range", []wire.Message{{ID: wire.Have, Index: 1<<32 - 1}}},
		{"junk for an extension handshake", []wire.Message{{ID: wire.Extended, Payload: []byte("x")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.join(1)
			for _, m := range tt.msgs {
				r.msg(1, m)
			}
			if len(r.c.links) != 0 {
				t.Errorf("still connected after %v", r.got)
			}
		})
	}
}

// TestALaterHaveAllIsTheRest: aria2c sends it when it has many pieces to tell of, and they complete it.
func TestALaterHaveAllIsTheRest(t *testing.T) {
	r := newRig(t, Config{})
	r.join(1)
	r.msg(1, wire.Message{ID: wire.HaveNone})
	r.say(1, wire.Choke) // any message, so that the set is late
	r.say(1, wire.HaveAll)
	r.say(1, wire.HaveAll)
	r.want("no offence", "1:interested")
	if !r.c.byID[1].seed || r.c.seeds != 1 || r.c.copies.count() != 1 {
		t.Errorf("a seed: %t; %d seeds, %d copies", r.c.byID[1].seed, r.c.seeds, r.c.copies.count())
	}
}

func TestALaterBitfieldAddsToTheFirst(t *testing.T) { // aria2c sends one in place of many haves
	r := newRig(t, Config{})
	r.join(1)
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: []byte{0x80, 0}})
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: []byte{0x40, 0}})
	r.want("no offence", "1:interested")
	if n := r.c.pick.sched.PeerCount(r.c.byID[1].sched); n != 2 {
		t.Errorf("it has %d pieces, want 2", n)
	}
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: []byte{0xff, 0xff}})
	if s := r.c.Snapshot(r.now); s.Seeds != 1 || s.Copies != 1 {
		t.Errorf("%d seeds, %d copies; want the one that became complete", s.Seeds, s.Copies)
	}
}
