package core

import (
	"slices"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A superRig is a rig that has everything, in pieces of 256 KiB, and what it tells each peer to have.
type superRig struct {
	*rig
	shown map[LinkID][]uint32 // by have messages, in order
	reads map[LinkID]int      // blocks
}

func newSuperRig(t *testing.T, when SuperSeeding, pieces int) *superRig {
	t.Helper()
	return newSuperRigOf(t, when, layoutOf(t, int64(pieces)*256*kib, 256*kib))
}

func newSuperRigOf(t *testing.T, when SuperSeeding, l piece.Layout) *superRig {
	t.Helper()
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
	r.c.cfg.SuperSeed = when // newRig takes auto for never
	s := &superRig{rig: r, shown: map[LinkID][]uint32{}, reads: map[LinkID]int{}}
	r.see = func(e Effect) {
		switch {
		case e.Op == Send && e.Msg.ID == wire.Have:
			s.shown[e.Link] = append(s.shown[e.Link], e.Msg.Index)
		case e.Op == ReadBlock:
			s.reads[e.Link]++
		}
	}
	r.tick(0)
	r.forget()
	return s
}

// comes joins a leecher of the fast extension that wants something as soon as it can have it.
func (s *superRig) comes(id LinkID) {
	rem := remote(id)
	rem.Fast = true
	s.handle(Event{Op: Joined, Link: id, Remote: rem})
	s.say(id, wire.HaveNone)
	s.say(id, wire.Interested)
}

// takes has a peer ask for all of a piece and get it, in less than half a second. It does not say so.
func (s *superRig) takes(id LinkID, i uint32) {
	s.t.Helper()
	before := s.reads[id]
	for _, b := range s.all(int(i)) {
		s.msg(id, wire.Message{ID: wire.Request, Index: b.Piece, Begin: b.Begin, Length: b.Length})
		s.handle(Event{Op: Sent, Link: id, N: int(b.Length)})
		s.tick(time.Second / 40)
	}
	if n := s.reads[id] - before; n != len(s.all(int(i))) {
		s.t.Fatalf("%d blocks of piece %d were read for %d", n, i, id)
	}
}

func (s *superRig) gets(id LinkID, i uint32) { s.msg(id, wire.Message{ID: wire.Have, Index: i}) }

// sees checks how many pieces a peer has been told of.
func (s *superRig) sees(why string, id LinkID, want int) {
	s.t.Helper()
	if n := len(s.shown[id]); n != want {
		s.t.Errorf("%s: %d has been shown %v, want %d pieces", why, id, s.shown[id], want)
	}
}

// joinedBy is a super-seed with a first lone peer, 1, and some more, of whom each has been shown its first pieces.
func joinedBy(t *testing.T, when SuperSeeding, pieces int, ids ...LinkID) *superRig {
	s := newSuperRig(t, when, pieces)
	for _, id := range ids {
		s.comes(id)
	}
	return s
}

func TestSuperSeedingBeginsWithTheSecondLeecher(t *testing.T) {
	s := newSuperRig(t, SuperAuto, 16)
	s.comes(1)
	s.want("the first sees an ordinary seed", "1:have all, 3x 1:suggest piece, 1:unchoke")
	s.comes(2)
	s.want("the second a piece at a time", "2:have none, 2x 2:have, 2:unchoke")
	s.comes(3)
	s.want("so does the third", "3:have none, 2x 3:have, 1:choke, 3:unchoke")
	s.comes(4)
	s.want("four pieces wait: enough for the line", "4:have none, 4:unchoke")
	all := slices.Concat(s.shown[2], s.shown[3])
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 4 {
		t.Errorf("%d different pieces are shown, want 4", n)
	}
	s.msg(2, request(s.shown[3][0], 0))
	s.want("what was shown to another", "2:reject request")
}

// What the first peer was sent before super-seeding began, and says only then, is not from elsewhere.
func TestWhatTheFirstWasSentIsNotForeign(t *testing.T) {
	s := newSuperRig(t, SuperAuto, 16)
	s.comes(1)
	for i := range uint32(4) {
		s.takes(1, i)
	}
	s.comes(2)
	s.comes(3)
	for i := range uint32(4) {
		s.gets(1, i)
	}
	s.tick(tickEvery)
	if !s.c.super.on {
		t.Error("super-seeding has ended")
	}
	free := func() (is []uint32) { // shown to nobody yet
		for i := 4; i < 16; i++ {
			if !s.c.super.ours.Has(i) {
				is = append(is, uint32(i))
			}
		}
		return is
	}
	s.gets(2, free()[0])
	s.gets(3, free()[0])
	s.tick(tickEvery)
	if s.c.super.on {
		t.Error("somebody else sends pieces, and super-seeding goes on")
	}
}

// Leechers that cannot reach one another pass nothing on: they are better served alike.
func TestWhereNobodyPassesOn(t *testing.T) {
	s := joinedBy(t, SuperAuto, 64, 1, 2, 3)
	began := s.now
	for s.c.super.on && s.now.Sub(began) < time.Minute {
		for _, id := range []LinkID{2, 3} {
			for _, i := range s.shown[id] {
				if !s.c.pick.sched.Has(s.c.byID[id].sched, int(i)) {
					s.takes(id, i)
					s.gets(id, i)
				}
			}
		}
		s.tick(time.Second)
	}
	if d := s.now.Sub(began); d < givenUpAfter*keptFor || d > givenUpAfter*keptFor+10*time.Second {
		t.Errorf("super-seeding ended after %v", d)
	}
}

// Who sees everything is not choked and unchoked at every whim of the others.
func TestTheFirstDoesNotFlap(t *testing.T) {
	s := joinedBy(t, SuperAuto, 64, 1, 2, 3)
	s.tick(2 * time.Second)
	flips := 0
	see := s.see
	s.see = func(e Effect) {
		see(e)
		if e.Op == Send && e.Link == 1 && (e.Msg.ID == wire.Choke || e.Msg.ID == wire.Unchoke) {
			flips++
		}
	}
	for range 40 { // in two seconds
		s.say(3, wire.NotInterested)
		s.tick(25 * time.Millisecond)
		s.say(3, wire.Interested)
		s.tick(25 * time.Millisecond)
	}
	if flips == 0 || flips > 6 {
		t.Errorf("the first was choked or unchoked %d times in two seconds", flips)
	}
}

func TestWhereSuperSeedingDoesNotBegin(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*superRig)
	}{
		{"while another copy is known", func(s *superRig) { s.rig.comes(9, nth(9, "")) }},
		{"where more than one see everything", func(s *superRig) {
			s.c.cfg.SuperSeed = SuperNever
			s.comes(7)
			s.comes(8)
			s.c.cfg.SuperSeed = SuperAuto
		}},
		{"where it must not", func(s *superRig) { s.c.cfg.SuperSeed = SuperNever }},
		{"where nothing is uploaded", func(s *superRig) { s.c.cfg.Slots = -1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSuperRig(t, SuperAuto, 16)
			tt.do(s)
			s.comes(1)
			s.comes(2)
			s.comes(3)
			if s.c.super.on || !slices.Contains(s.got, "3:have all") {
				t.Errorf("it began: %v", s.got)
			}
		})
	}
	t.Run("with very many pieces", func(t *testing.T) {
		l := layoutOf(t, (mostMasked+1)*16*kib, 16*kib)
		r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
		r.c.cfg.SuperSeed = SuperAuto
		r.join(1)
		r.join(2)
		if r.c.super.on {
			t.Error("it began")
		}
	})
}

func TestForcedSuperSeedingBeginsWithTheFirst(t *testing.T) {
	s := newSuperRig(t, SuperAlways, 4)
	s.rig.comes(9, nth(9, ""))
	s.forget()
	s.comes(1)
	s.want("though there is another copy", "1:have none, 2x 1:have, 1:unchoke")
	for len(s.shown[1]) > 0 && s.reads[1] < 4*16 {
		s.takes(1, s.shown[1][s.reads[1]/16])
	}
	s.sees("it gets everything, though it passes nothing on", 1, 4)
	if !s.c.super.on {
		t.Error("it ended")
	}
}

// A super-seed does not say that it wants nothing (BEP 21): libtorrent hangs up on who neither has nor wants anything.
func TestASuperSeedDoesNotSayThatItWantsNothing(t *testing.T) {
	for _, tt := range []struct {
		when SuperSeeding
		want bool
	}{{SuperAlways, false}, {SuperNever, true}} {
		s := newSuperRig(t, tt.when, 4)
		rem := remote(1)
		rem.Ext = true
		var h wire.ExtHandshake
		see := s.see
		s.see = func(e Effect) {
			see(e)
			if e.Op == Send && e.Msg.ID == wire.Extended {
				if err := h.Update(e.Msg.Payload); err != nil {
					t.Error(err)
				}
			}
		}
		s.handle(Event{Op: Joined, Link: 1, Remote: rem})
		if h.UploadOnly != tt.want {
			t.Errorf("when %d: upload_only is %t", tt.when, h.UploadOnly)
		}
	}
}

// Who keeps what it was sent is shown nothing more, as long as there are others; who passes it on is.
func TestWhoPassesOnIsShownMore(t *testing.T) {
	s := joinedBy(t, SuperAuto, 32, 1, 2, 3, 4, 5, 6, 7)
	two := slices.Clone(s.shown[2])
	for _, id := range []LinkID{2, 3} {
		for _, i := range slices.Clone(s.shown[id]) {
			s.takes(id, i)
		}
		s.sees("it keeps both", id, 2)
	}
	for id := LinkID(4); id <= 7; id++ {
		s.sees("who had to wait is next", id, 1)
	}
	s.gets(4, two[0])
	s.gets(4, two[1])
	s.takes(4, s.shown[4][0])
	s.sees("it passed both on", 2, 3)
	s.takes(5, s.shown[5][0])
	s.sees("it passed nothing on", 3, 2)
}

// A piece that is kept for too long is shown to somebody else, and does not count as passed on when that one passes it on.
func TestWhatIsKeptIsShownToAnother(t *testing.T) {
	s := joinedBy(t, SuperAuto, 6, 1, 2, 3)
	two, three := slices.Clone(s.shown[2]), slices.Clone(s.shown[3])
	for _, i := range two {
		s.takes(2, i)
	}
	for _, i := range three { // so that it is not taken for deaf
		s.msg(3, request(i, 15))
		s.handle(Event{Op: Sent, Link: 3, N: piece.BlockSize})
	}
	s.tick(2 * s.c.keptTime())
	for n := 0; n < len(s.shown[3]); n++ {
		i := s.shown[3][n]
		s.takes(3, i)
		if !slices.Contains(two, i) {
			s.gets(2, i) // 3 passes on
		}
	}
	if !slices.ContainsFunc(s.shown[3], func(i uint32) bool { return slices.Contains(two, i) }) {
		t.Fatalf("2 keeps %v; 3 was shown %v", two, s.shown[3])
	}
	for _, i := range two {
		s.gets(3, i)
	}
	for _, i := range two {
		kept := s.c.byID[2].showing.kept
		if k := indexOf(kept, int(i)); k < 0 || !kept[k].again {
			t.Errorf("2 was rewarded for piece %d, which 3 has of us and not of it", i)
		}
	}
	s.tick(2 * forgivenAfter * s.c.keptTime())
	if l := s.c.byID[2]; l.showing != nil && len(l.showing.kept) > 0 {
		t.Error("it is never forgiven")
	}
}

func TestWhoLeavesGivesPiecesBack(t *testing.T) {
	s := joinedBy(t, SuperAuto, 4, 1, 2, 3)
	gone := slices.Clone(s.shown[2])
	s.takes(2, gone[0])
	s.handle(Event{Op: Left, Link: 2})
	if s.c.super.backlog != 2*256*kib {
		t.Errorf("%d bytes wait, want two pieces of 3", s.c.super.backlog)
	}
	s.comes(4)
	for _, i := range s.shown[4] {
		if !slices.Contains(s.shown[2], i) {
			t.Errorf("the next was shown %v, want some of %v, which nobody has", s.shown[4], s.shown[2])
		}
	}
	s.sees("there is as much for it", 4, 2)
	s.handle(Event{Op: Left, Link: 4})
	s.handle(Event{Op: Joined, Link: 6, Remote: nth(4, "")})
	s.msg(6, wire.Message{ID: wire.Bitfield, Payload: bits(4, gone[0])})
	s.tick(time.Second)
	if slices.Contains(s.shown[6], gone[0]) {
		t.Errorf("who came back with piece %d was shown %v", gone[0], s.shown[6])
	}
}

// bits is a bitfield of some pieces.
func bits(n int, has ...uint32) []byte {
	b := piece.NewBitfield(n)
	for _, i := range has {
		b.Set(int(i))
	}
	return b.Bytes()
}

// When everything is out everybody hears of the rest, of each piece once, and by haves: for a bitfield it is too late.
func TestSuperSeedingEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		why  string // what it says
		do   func(*superRig)
	}{
		{"when all pieces are out", "all pieces are out", func(s *superRig) {
			for i := range 16 {
				s.c.super.ours.Set(i) // as if each had been shown to somebody
			}
			two, three := s.shown[2][0], s.shown[3][0]
			s.gets(3, two) // of each other, before they are shown these as well
			s.gets(2, three)
			for i := range uint32(16) {
				if i != two && i != three {
					s.gets(2, i)
					s.gets(3, i)
				}
			}
		}},
		{"when most of it comes at once", "all pieces are out", func(s *superRig) { // so aria2c says it
			for id := LinkID(2); id < 4; id++ {
				most := full(s.c.cfg.Layout)
				most.Clear(int(s.shown[id][0]))
				s.msg(id, wire.Message{ID: wire.Bitfield, Payload: most.Bytes()})
			}
		}},
		{"when another seed comes", "another copy is known", func(s *superRig) { s.rig.comes(9, nth(9, "")) }},
		{"when nobody takes anything", "nobody takes what is shown", func(s *superRig) { s.tick((givenUpAfter + 1) * keptFor) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := joinedBy(t, SuperAuto, 16, 1, 2, 3)
			if !s.c.super.on {
				t.Fatal("it did not begin")
			}
			var why []string
			see := s.see
			s.see = func(e Effect) {
				see(e)
				if e.Op == Explain && e.Note.What == "super-seeding ends" {
					why = append(why, e.Note.Why)
				}
			}
			s.c.peering.Explain = true
			tt.do(s)
			s.tick(time.Second)
			s.c.peering.Explain = false
			if !slices.Equal(why, []string{tt.why}) {
				t.Errorf("it says that %q, want %q", why, tt.why)
			}
			if s.c.super.on {
				t.Fatal("it did not end")
			}
			for _, id := range []LinkID{2, 3} {
				l := s.c.byID[id]
				told := slices.Clone(s.shown[id])
				slices.Sort(told)
				if len(slices.Compact(slices.Clone(told))) != len(told) {
					t.Errorf("%d was told twice: %v", id, told)
				}
				for i := range 16 {
					if !slices.Contains(told, uint32(i)) || !l.sees(i) {
						t.Errorf("%d was never told of piece %d", id, i)
					}
				}
			}
			s.comes(20)
			if !slices.Contains(s.got, "20:have all") {
				t.Errorf("it began again: %v", s.got)
			}
		})
	}
}

// However long ago we have sent something, what is shown to somebody who does not ask is soon shown to another.
func TestASilenceDoesNotKeepPiecesShown(t *testing.T) {
	r := newRig(t, Config{})
	for _, peak := range []float64{0, 1e-300, 1, 100 * mib} {
		r.c.limits.peak = peak
		if got := r.c.keptTime(); got < keptFor || got > mostKeptFor {
			t.Errorf("at %g bytes/s %v", peak, got)
		}
	}
}

// TestTheRestIsToldBitByBit: what is said to all about a large torrent at its end does not come all at once.
func TestTheRestIsToldBitByBit(t *testing.T) {
	s := newSuperRig(t, SuperAuto, mostMasked)
	for id := range LinkID(5) {
		s.comes(1 + id)
	}
	s.rig.comes(9, nth(9, ""))
	told := func() (n int) {
		for _, shown := range s.shown {
			n += len(shown)
		}
		return n
	}
	before := told()
	if before > mostTold+10 || s.c.late.tellAt.IsZero() {
		t.Errorf("%d pieces at once", before)
	}
	s.c.Handle(s.now, Event{Op: Tick})
	if n := told(); n > before {
		t.Errorf("%d more without a pause", n-before)
	}
	s.tick(time.Second)
	if n := told(); n != 4*mostMasked || !s.c.late.tellAt.IsZero() {
		t.Errorf("told of %d pieces in all, want %d", n, 4*mostMasked)
	}
}

// A peer that has nothing may say nothing of it (BEP 3), and waits for us to have something.
func TestWhoSaysNothingIsShownSomething(t *testing.T) {
	for _, when := range []SuperSeeding{SuperAuto, SuperAlways} {
		s := newSuperRig(t, when, 8)
		if when == SuperAuto {
			s.comes(1)
		}
		s.forget()
		s.join(2)
		s.want("there is no message that says so", "")
		s.tick(untoldAfter + tickEvery)
		s.sees("it has waited", 2, 2)
		s.say(2, wire.Interested)
		s.takes(2, s.shown[2][0])
	}
}

// Clients that do not tell a peer of what it has itself never say that they have what they were shown.
func TestWhoNeverSaysThatItHasAPiece(t *testing.T) {
	s := joinedBy(t, SuperAuto, 8, 1, 2, 3)
	next := map[LinkID]int{}
	for range 40 {
		for _, id := range []LinkID{2, 3} {
			if s.c.super.on && next[id] < len(s.shown[id]) {
				i := s.shown[id][next[id]]
				s.takes(id, i)
				next[id]++
				if o := 5 - id; !s.c.byID[o].sees(int(i)) {
					s.gets(o, i) // the other got it, of this one; that we have it, it does not know
				}
			}
		}
		s.tick(time.Second)
	}
	if s.c.super.on {
		t.Error("it did not end")
	}
	if n := s.reads[2] + s.reads[3]; n > 12*16 {
		t.Errorf("%d blocks were sent for 8 pieces of 16", n)
	}
}

// Who does not ask for what it is shown, or stops in the middle, does not keep the others waiting for ever.
func TestWhoDoesNotAskMakesWay(t *testing.T) {
	s := joinedBy(t, SuperAlways, 64, 1, 2)
	s.comes(3)
	s.sees("all that is shown waits for 1 and 2", 3, 0)
	s.msg(1, request(s.shown[1][0], 0))
	s.handle(Event{Op: Sent, Link: 1, N: piece.BlockSize})
	s.takes(3, s.shown[3][0])
	s.tick(begunTurns*keptFor + 2*time.Second)
	for range 8 {
		for _, i := range s.shown[3][s.reads[3]/16:] {
			s.takes(3, i)
			s.gets(1, i)
		}
		s.tick(2 * time.Second)
	}
	if s.reads[3] < 8*16 {
		t.Errorf("3 got %d blocks, and was shown %v", s.reads[3], s.shown[3])
	}
	if n := len(s.shown[1]); n > 6 {
		t.Errorf("1, which takes nothing, was shown %d pieces", n)
	}
	deaf := s.shown[2][0]
	s.takes(2, deaf)
	if s.c.byID[2].showing.deaf {
		t.Error("who asks again is not trusted again")
	}
}

// A ratio counts bytes, and may end a super-seed too early. It says of how many pieces, unless another has them all.
// Who gets a piece slowly, a block at a time, keeps the sight of the next meanwhile.
func TestTheNextPieceWaitsForASlowOne(t *testing.T) {
	s := joinedBy(t, SuperAlways, 16, 1, 2)
	first, next := s.shown[2][0], s.shown[2][1]
	for n := range uint32(16) {
		s.msg(2, request(first, n))
		s.handle(Event{Op: Sent, Link: 2, N: piece.BlockSize})
		s.tick(4 * time.Second)
	}
	if w := s.c.byID[2].showing; indexOf(w.open, int(next)) < 0 {
		t.Errorf("after %v it is shown %v, want %d among them", s.now.Sub(epoch), w.open, next)
	}
}

// Who asks again and again for what it has already, so that it always waits for us, does not keep what it is shown from the
// others.
func TestWhoAsksForSomethingElseMakesWay(t *testing.T) {
	s := newSuperRig(t, SuperAlways, 40)
	for id := LinkID(1); id <= 2; id++ {
		s.comes(id)
		s.takes(id, s.shown[id][0])
		s.gets(id, s.shown[id][0])
	}
	s.comes(3)
	for range 400 {
		for id := LinkID(1); id <= 2; id++ {
			for n := range uint32(16) {
				s.msg(id, request(s.shown[id][0], n))
			}
			s.handle(Event{Op: Sent, Link: id, N: piece.BlockSize})
		}
		if n := len(s.shown[3]); n > 0 {
			s.gets(3, s.shown[3][n-1])
			s.gets(1, s.shown[3][n-1]) // it is passed on
		}
		s.tick(time.Second / 2)
	}
	if n := len(s.shown[3]); n < 20 {
		t.Errorf("who takes and passes on was shown %d pieces of 40 in 200 s", n)
	}
}

func TestASuperSeedThatStopsEarlySaysSo(t *testing.T) {
	for _, tt := range []struct {
		when SuperSeeding
		copy bool // another is known
		want int
	}{{SuperAuto, false, 3}, {SuperAlways, false, 3}, {SuperAlways, true, 0}} {
		s := newSuperRig(t, tt.when, 4)
		s.c.cfg.Seed.Ratio = 0.75
		kept := -1
		see := s.see
		s.see = func(e Effect) {
			if see(e); e.Op == Done {
				kept = e.Number
			}
		}
		for id := LinkID(1); id <= 3; id++ {
			s.comes(id)
		}
		if tt.copy {
			s.rig.comes(9, nth(9, ""))
		}
		sent := s.shown[2][0]
		for range 2 {
			s.takes(2, sent) // the second time for nothing
		}
		s.handle(Event{Op: Sent, Link: 2, N: 256 * kib})
		if !s.has("done ratio reached") || kept != tt.want {
			t.Errorf("%+v: of %d pieces: %v", tt, kept, s.got)
		}
	}
}

// So does an ordinary seed, if it is more than what may just have been sent.
func TestASeedThatStopsEarlySaysSo(t *testing.T) {
	for _, tt := range []struct {
		name string
		has  int // pieces that the leecher says to have
		copy bool
		want int
	}{{"most are missing", 2, false, 61}, {"all but the last", 63, false, 0}, {"another copy is known", 2, true, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSuperRig(t, SuperNever, 64)
			s.c.cfg.Seed = Seeding{Time: time.Minute}
			kept := -1
			s.see = func(e Effect) {
				if e.Op == Done {
					kept = e.Number
				}
			}
			s.comes(1)
			if tt.copy {
				s.rig.comes(9, nth(9, ""))
			}
			for i := range uint32(tt.has) {
				s.gets(1, i)
			}
			s.tick(2 * time.Minute)
			if kept != tt.want {
				t.Errorf("it says that %d pieces are missing, want %d", kept, tt.want)
			}
		})
	}
}

// A seed that is left alone is an ordinary one again for the first who comes.
func TestSuperSeedingBeginsAnew(t *testing.T) {
	s := joinedBy(t, SuperAuto, 8, 1, 2, 3)
	for id := range LinkID(3) {
		s.handle(Event{Op: Left, Link: 1 + id})
	}
	s.forget()
	s.comes(4)
	s.want("alone", "4:have all, 3x 4:suggest piece, 4:unchoke")
	s.comes(5)
	s.want("with another", "5:have none, 2x 5:have, 5:unchoke")
}

// What somebody made up ends super-seeding only for those who are there.
func TestALieDoesNotEndSuperSeedingForGood(t *testing.T) {
	s := joinedBy(t, SuperAuto, 8, 1, 2, 3)
	for i := range uint32(8) {
		if !slices.Contains(s.shown[2], i) && !slices.Contains(s.shown[3], i) {
			s.gets(2, i)
		}
	}
	if s.c.super.on {
		t.Fatal("it did not end")
	}
	s.handle(Event{Op: Left, Link: 2})
	s.handle(Event{Op: Left, Link: 3})
	s.comes(4)
	if s.c.super.on {
		t.Error("it began again beside one who saw it end")
	}
	s.handle(Event{Op: Left, Link: 1})
	s.handle(Event{Op: Left, Link: 4})
	s.comes(5)
	s.forget()
	s.comes(6)
	s.want("in a new swarm", "6:have none, 2x 6:have, 6:unchoke")
}

// The choke of a super-seed is not what decides: who sees everything is served beside fewer than two others.
func TestWhoSeesEverythingIsServedIfFewOthersAre(t *testing.T) {
	s := joinedBy(t, SuperAuto, 16, 1, 2)
	if s.c.byID[1].amChoking {
		t.Error("beside one other it is choked")
	}
	s.comes(3)
	if !s.c.byID[1].amChoking {
		t.Error("beside two others it is not choked")
	}
	s.say(3, wire.NotInterested)
	if s.tick(2 * tickEvery); s.c.byID[1].amChoking {
		t.Error("one of them wants nothing any more")
	}
}

// Who is slow to take what it was shown does not keep it from others, though nobody passes anything on.
func TestASlowPeerHoldsNoSuperSeedUp(t *testing.T) {
	s := newSuperRigOf(t, SuperAlways, layoutOf(t, 64*mib, 16*kib)) // of which many are shown at once
	s.comes(1)
	s.comes(2)
	for _, i := range s.shown[1] { // all of it waits for the slow one to take the first blocks
		for _, b := range s.all(int(i)) {
			s.msg(1, wire.Message{ID: wire.Request, Index: b.Piece, Begin: b.Begin, Length: b.Length})
		}
	}
	taken := 0
	for range 64 * 30 {
		if taken < len(s.shown[2]) {
			s.takes(2, s.shown[2][taken])
			taken++
		} else {
			s.tick(time.Second / 64)
		}
	}
	if taken < 64*20 {
		t.Errorf("in half a minute the fast one was shown %d pieces, and could have taken %d", taken, 64*30)
	}
}

// A piece that leaves with the peer that was sent it is not lost: others may get it out of our sight. If none does for long, it is
// shown again.
func TestAPieceMayBePassedOnOutOfSight(t *testing.T) {
	for _, found := range []bool{false, true} {
		s := joinedBy(t, SuperAuto, 64, 1, 2, 3, 4)
		i := s.shown[2][0]
		s.takes(2, i)
		s.gets(2, i)
		s.handle(Event{Op: Left, Link: 2})
		again := func() bool {
			return slices.Contains(slices.Concat(s.shown[3], s.shown[4]), i)
		}
		for range 8 {
			s.takes(3, s.shown[3][len(s.shown[3])-1])
			s.gets(4, s.shown[3][len(s.shown[3])-1])
		}
		if again() {
			t.Error("it is shown again at once")
		}
		if found {
			s.gets(4, i)
		}
		s.tick(keptFor)
		for range 8 {
			s.takes(3, s.shown[3][len(s.shown[3])-1])
			s.gets(4, s.shown[3][len(s.shown[3])-1])
			s.tick(time.Second)
		}
		if again() == found {
			t.Errorf("somebody has it %t, and it is shown again %t", found, again())
		}
	}
}
