package core

import (
	"math/rand/v2"
	"slices"
	"testing"
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
