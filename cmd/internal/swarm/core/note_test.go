package core

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// TestNotesChangeNothing: whether anybody listens or not, the core does the same.
func TestNotesChangeNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	kinds := map[string]bool{}
	for range 30 {
		in := make([]byte, 4000)
		for i := range in {
			in[i] = byte(rng.Uint32())
		}
		silent, talking := newStorm(t, in), newStorm(t, in)
		talking.c.peering.Explain = true
		for _, s := range []*storm{silent, talking} {
			s.did = []string{}
			s.run()
		}
		if !slices.Equal(silent.did, talking.did) {
			t.Fatal("with notes the core does something else")
		}
		if len(silent.notes) > 0 {
			t.Fatalf("nobody listens to %q", silent.notes)
		}
		for _, n := range talking.notes {
			kinds[n] = true
		}
	}
	for _, what := range []string{
		"ask: random first", "ask: rarest first", "ask: suggested", "ask: allowed fast", "ask: endgame", "ask: failed before", "ask: nobody's",
		"interested: it has what we want", "not interested: it has nothing that we want",
		"it chokes us: ", "it unchokes us: ", "it rejects: ", "snub: it has sent nothing for too long",
		"done with a peer: ", "choking round: ", "unchoke: the round's choice", "choke: the round's choice", "unchoke: a slot is free",
		"super-seeding begins: no other copy is known", "show a piece: ",
		"turn: it has nothing yet", "turn: it has had least of those that give us nothing",
		"refuse a request: it is choked", "cancel: another was quicker",
		"good piece: ", "suggest a piece: nobody else has it",
		"dial: a local tracker", "dial: a peer",
		"bad piece: of one peer alone", "bad piece: of several peers, of which this is one",
		"hold a piece: a suspect had a part in it", "found a liar: its block differs from the good one",
	} {
		if !kinds[what] {
			t.Errorf("nothing was said of %q", what)
		}
	}
	if t.Failed() {
		t.Logf("said: %v", kinds)
	}
}

// TestSilenceIsFree: where nobody listens a note allocates nothing.
func TestSilenceIsFree(t *testing.T) {
	r := newRig(t, Config{})
	if n := testing.AllocsPerRun(100, func() { r.c.explain(Note{What: "ask", Why: "it is a test", Link: 1}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNotesOfChokesAndLimits: what a storm does not come to by chance.
func TestNotesOfChokesAndLimits(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	have := piece.NewBitfield(l.Pieces())
	have.Set(3)
	r := newRig(t, Config{Layout: l, Have: have, Slots: 2, Peering: Peering{MaxDownload: 64 * kib, Explain: true}})
	kinds := map[string]bool{}
	tell := func(ev Event) {
		for _, e := range r.c.Handle(r.now, ev) {
			if e.Op == Explain {
				kinds[e.Note.What+": "+e.Note.Why] = true
			}
		}
	}
	for id := range LinkID(6) {
		r.quiet(1 + id)
		tell(Event{Op: Message, Link: 1 + id, Msg: wire.Message{ID: wire.Interested}})
		tell(Event{Op: Message, Link: 1 + id, Msg: wire.Message{ID: wire.Unchoke}})
	}
	for range 500 {
		r.now = r.now.Add(200 * time.Millisecond)
		tell(Event{Op: Tick})
	}
	for _, what := range []string{
		"unchoke: a slot is free", "unchoke: the line is idle", "unchoke: optimistically", "limit on downloading: blocks wait for it",
		"limit on downloading: it holds nothing back any more",
	} {
		if !kinds[what] {
			t.Errorf("nothing was said of %q", what)
		}
	}
	if t.Failed() {
		t.Logf("said: %v", kinds)
	}
}
