package choke

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func source() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// peer writes a candidate shortly: i interested, s snubbed, n new, u unchoked, g gave us something, o owes, m masked.
func peer(id uint64, rate float64, flags string) Candidate {
	c := Candidate{ID: id, Rate: rate, Claim: 1}
	for _, f := range flags {
		switch f {
		case 'i':
			c.Interested = true
		case 's':
			c.Snubbed = true
		case 'n':
			c.New = true
		case 'u':
			c.Unchoked = true
		case 'g':
			c.Given = true
		case 'o':
			c.Owes = true
		case 'm':
			c.Masked = true
		}
	}
	return c
}

func TestRound(t *testing.T) {
	for _, tt := range []struct {
		name       string
		cs         []Candidate
		slots      int
		optimistic uint64
		rotate     bool
		want       []uint64
		wantOpt    uint64
	}{
		{"nobody", nil, 4, 0, true, nil, 0},
		{"no slots", []Candidate{peer(1, 9, "i")}, 0, 0, true, nil, 0},
		{"fewer than slots", []Candidate{peer(1, 9, "i"), peer(2, 0, "i")}, 4, 0, true, []uint64{1, 2}, 0},
		{"the best and one more", []Candidate{peer(1, 1, "i"), peer(2, 3, "i"), peer(3, 2, "i")}, 3, 0, false, []uint64{1, 2, 3}, 1},
		{"one slot is optimistic", []Candidate{peer(1, 9, "i")}, 1, 0, false, []uint64{1}, 1},
		{"the optimistic one stays", []Candidate{peer(1, 9, "i"), peer(2, 1, "i"), peer(3, 1, "i"), peer(4, 1, "i")}, 2, 4, false, []uint64{1, 4}, 4},
		{"rotated away", []Candidate{peer(1, 9, "i"), peer(2, 1, "i"), peer(4, 1, "i")}, 2, 4, true, []uint64{1, 2}, 2},
		{"rotated with nobody else", []Candidate{peer(1, 9, "i"), peer(4, 1, "i")}, 2, 4, true, []uint64{1, 4}, 4},
		{"the optimistic one earned a slot", []Candidate{peer(1, 1, "i"), peer(4, 9, "i")}, 2, 4, false, []uint64{1, 4}, 1},
		{"the optimistic one lost interest", []Candidate{peer(1, 9, "i"), peer(2, 0, "i"), peer(4, 0, "")}, 2, 4, false, []uint64{1, 2}, 2},
		{"the optimistic one has left", []Candidate{peer(1, 9, "i"), peer(2, 0, "i")}, 2, 77, false, []uint64{1, 2}, 2},
		{"snubbed: optimistic at most", []Candidate{peer(1, 9, "is"), peer(2, 0, "i"), peer(3, 0, "i")}, 3, 1, false, []uint64{1, 2, 3}, 1},
		{"of equals the unchoked stays", []Candidate{peer(1, 5, "i"), peer(2, 5, "iu"), peer(3, 0, "i")}, 2, 3, false, []uint64{2, 3}, 3},
		{"of equals one that owes nothing", []Candidate{peer(1, 0, "iuo"), peer(2, 0, "iuo"), peer(3, 0, "i"), peer(4, 0, "i")}, 3, 0, false, []uint64{1, 3, 4}, 1},
		{"of equals the lower id", []Candidate{peer(2, 5, "i"), peer(1, 5, "i"), peer(3, 0, "i")}, 2, 3, false, []uint64{1, 3}, 3},
		{"better but not interested", []Candidate{peer(1, 9, ""), peer(2, 5, "i"), peer(3, 1, "i"), peer(4, 4, "")}, 2, 3, false, []uint64{1, 2, 3}, 3},
		{"not interested, slots left", []Candidate{peer(1, 9, ""), peer(2, 5, "i")}, 4, 0, false, []uint64{2}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.cs)
			got := Round(tt.cs, tt.slots, tt.optimistic, tt.rotate, source())
			if !slices.Equal(got.Unchoke, tt.want) || got.Optimistic != tt.wantOpt {
				t.Errorf("got %v, optimistic %d; want %v, %d", got.Unchoke, got.Optimistic, tt.want, tt.wantOpt)
			}
			if !slices.Equal(tt.cs, before) {
				t.Error("the candidates were changed")
			}
		})
	}
}

// Whatever the candidates: no more interested peers than slots are unchoked, each once, no
// slot stays free while somebody wants it, and the order of the candidates does not matter.
func TestRoundProperties(t *testing.T) {
	rng := source()
	for range 3000 {
		cs := make([]Candidate, rng.IntN(12))
		for i := range cs {
			cs[i] = Candidate{ID: uint64(i + 1), Rate: float64(rng.IntN(4)), Interested: rng.IntN(3) > 0,
				Snubbed: rng.IntN(5) == 0, New: rng.IntN(3) == 0, Unchoked: rng.IntN(2) == 0,
				Since: time.Duration(rng.IntN(4)) * 30 * time.Second}
		}
		slots, opt, rotate := rng.IntN(6), uint64(rng.IntN(13)), rng.IntN(2) == 0
		round, seed := Round(cs, slots, opt, rotate, source()), SeedRound(cs, slots)
		check(t, cs, slots, round, func(c Candidate) bool { return !c.Snubbed })
		check(t, cs, slots, seed, func(c Candidate) bool { return true })
		rng.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
		if again := Round(cs, slots, opt, rotate, source()); !slices.Equal(again.Unchoke, round.Unchoke) {
			t.Fatalf("%v became %v when the candidates were shuffled", round, again)
		}
		if again := SeedRound(cs, slots); !slices.Equal(again.Unchoke, seed.Unchoke) {
			t.Fatalf("%v became %v when the candidates were shuffled", seed, again)
		}
	}
}

func check(t *testing.T, cs []Candidate, slots int, d Decision, deserves func(Candidate) bool) {
	t.Helper()
	if !slices.IsSorted(d.Unchoke) || len(slices.Compact(slices.Clone(d.Unchoke))) != len(d.Unchoke) {
		t.Fatalf("not ascending, or somebody twice: %v", d.Unchoke)
	}
	used, want := 0, 0
	for _, c := range cs {
		_, in := slices.BinarySearch(d.Unchoke, c.ID)
		switch {
		case c.Interested && in:
			used++
		case c.Interested && deserves(c):
			want++
		}
		if in && c.ID == d.Optimistic && !c.Interested {
			t.Fatalf("the optimistic unchoke %d is not interested", c.ID)
		}
	}
	// One slot is the optimistic's, which with all others served may stay free.
	if used > slots || want > 0 && used < slots {
		t.Fatalf("%d of %d slots used, %d wait: %v of %+v", used, slots, want, d, cs)
	}
}

// New connections are three times as likely to be the next optimistic unchoke (BEP 3).
func TestOptimisticIsFair(t *testing.T) {
	rng := source()
	cs := []Candidate{peer(1, 9, "i"), peer(2, 0, "i"), peer(3, 0, "in"), peer(4, 0, "i")}
	count := map[uint64]int{}
	const rounds = 10_000
	for range rounds {
		count[Round(cs, 2, 0, true, rng).Optimistic]++
	}
	for id, share := range map[uint64]float64{2: 0.2, 3: 0.6, 4: 0.2} {
		if got := float64(count[id]) / rounds; got < share-0.03 || got > share+0.03 {
			t.Errorf("peer %d was chosen in %.3f of the rounds, want %.1f", id, got, share)
		}
	}
}

func TestSeedRound(t *testing.T) {
	since := func(c Candidate, d time.Duration) Candidate { c.Since = d; return c }
	sated := func(c Candidate) Candidate { c.Sated = true; return c }
	claims := func(c Candidate, n float64) Candidate { c.Claim = n; return c }
	for _, tt := range []struct {
		name  string
		cs    []Candidate
		slots int
		want  []uint64
	}{
		{"nobody", nil, 4, nil},
		{"no slots", []Candidate{peer(1, 9, "i")}, 0, nil},
		{"all fit", []Candidate{peer(1, 9, "i"), peer(2, 0, "iu"), peer(3, 5, "")}, 2, []uint64{1, 2}},
		{"a quantum is kept", []Candidate{since(peer(1, 1, "iu"), Quantum-1), since(peer(2, 0, "i"), time.Hour)}, 1, []uint64{1}},
		{"a quantum is kept by who has just begun", []Candidate{since(peer(1, 0, "iu"), Every-1), since(peer(2, 0, "i"), time.Hour)}, 1, []uint64{1}},
		{"who takes nothing loses the rest of it", []Candidate{since(peer(1, 0, "iu"), Every), since(peer(2, 0, "i"), time.Second)}, 1, []uint64{2}},
		{"who takes nothing stays if nobody waits", []Candidate{since(peer(1, 0, "iu"), Every)}, 1, []uint64{1}},
		{"a quantum is over", []Candidate{since(peer(1, 9, "iu"), Quantum), since(peer(2, 0, "i"), time.Second)}, 1, []uint64{2}},
		{"a quantum is kept until it is sated", []Candidate{sated(since(peer(1, 9, "iu"), Every)), since(peer(2, 0, "i"), time.Second)}, 1, []uint64{2}},
		{"sated or not, it has a round", []Candidate{sated(since(peer(1, 9, "iu"), Every-1)), since(peer(2, 0, "i"), time.Hour)}, 1, []uint64{1}},
		{"a wait counts by the claim", []Candidate{claims(since(peer(1, 0, "i"), 3), 0.2), since(peer(2, 0, "i"), 1), since(peer(3, 0, "i"), 2)}, 2, []uint64{2, 3}},
		{"who gave something first", []Candidate{since(peer(1, 0, "i"), time.Hour), peer(2, 0, "ig"), peer(3, 0, "ig")}, 1, []uint64{2}},
		{"but for one slot", []Candidate{since(peer(1, 0, "i"), time.Hour), peer(2, 0, "ig"), peer(3, 0, "ig"), peer(4, 0, "ig")}, 3, []uint64{1, 2, 3}},
		{"longest wait first", []Candidate{since(peer(1, 0, "i"), 1), since(peer(2, 0, "i"), 3), since(peer(3, 0, "i"), 2)}, 2, []uint64{2, 3}},
		{"quantum over, fastest first", []Candidate{since(peer(1, 1, "iu"), time.Hour), since(peer(2, 9, "iu"), time.Hour), since(peer(3, 0, "i"), 1)}, 2, []uint64{2, 3}},
		{"equals by id", []Candidate{peer(3, 0, "i"), peer(1, 0, "i"), peer(2, 0, "i")}, 2, []uint64{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SeedRound(tt.cs, tt.slots); !slices.Equal(got.Unchoke, tt.want) || got.Optimistic != 0 {
				t.Errorf("got %+v, want %v", got, tt.want)
			}
		})
	}
}

// Over half an hour every peer gets its share of a seed, however unequal their speeds.
func TestSeedRoundIsFair(t *testing.T) {
	const peers, slots, rounds = 10, 4, 180
	cs := make([]Candidate, peers)
	for i := range cs {
		cs[i] = peer(uint64(i+1), float64(1+i*i), "i")
	}
	served := make([]int, peers)
	for range rounds {
		d := SeedRound(cs, slots)
		for i := range cs {
			_, in := slices.BinarySearch(d.Unchoke, cs[i].ID)
			if in != cs[i].Unchoked {
				cs[i].Unchoked, cs[i].Since = in, 0
			}
			if in {
				served[i]++
			}
			cs[i].Since += Every
		}
	}
	for i, n := range served {
		if share := rounds * slots / peers; n < share*3/4 || n > share*5/4 {
			t.Errorf("peer %d was served in %d rounds, its share is %d", i+1, n, share)
		}
	}
}

func TestSuperSeedRound(t *testing.T) {
	since := func(d time.Duration, c Candidate) Candidate { c.Since = d; return c }
	for _, tt := range []struct {
		name string
		cs   []Candidate
		want []uint64
	}{
		{"nobody", nil, nil},
		{"whoever wants something of what it is shown", []Candidate{peer(1, 0, "im"), peer(2, 0, "m"), peer(3, 9, "im"), peer(4, 0, "im"), peer(5, 0, "im")}, []uint64{1, 3, 4, 5}},
		{"one that sees everything, alone", []Candidate{since(calm, peer(1, 0, "i"))}, []uint64{1}},
		{"one that was just choked", []Candidate{since(calm-1, peer(1, 0, "i")), since(0, peer(2, 0, "im"))}, []uint64{2}},
		{"one that was just unchoked", []Candidate{since(0, peer(1, 0, "iu"))}, []uint64{1}},
		{"beside one other", []Candidate{since(calm, peer(1, 0, "i")), peer(2, 0, "im")}, []uint64{1, 2}},
		{"beside two others", []Candidate{peer(1, 9, "iu"), peer(2, 0, "im"), peer(3, 0, "im")}, []uint64{2, 3}},
		{"beside two of whom one wants nothing", []Candidate{since(calm, peer(1, 0, "i")), peer(2, 0, "m"), peer(3, 0, "im")}, []uint64{1, 3}},
		{"two of many that see everything", []Candidate{since(calm, peer(1, 0, "i")), peer(2, 0, "iu"), peer(3, 0, "iu")}, []uint64{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := SuperSeedRound(tt.cs); !slices.Equal(got.Unchoke, tt.want) || got.Optimistic != 0 {
				t.Errorf("unchoke %v, optimistic %d; want %v", got.Unchoke, got.Optimistic, tt.want)
			}
		})
	}
}

// The optimistic unchoke is somebody who owes us nothing or, if all do, who owes least: a slot is not worth more by being
// asked for without end.
func TestTheOptimisticUnchokeOwesLeast(t *testing.T) {
	owing := func(id uint64, balance float64, flags string) Candidate {
		c := peer(id, 0, "io"+flags)
		c.Balance = balance
		return c
	}
	for _, tt := range []struct {
		name   string
		cs     []Candidate
		last   uint64
		rotate bool
		want   uint64
	}{
		{"nobody", nil, 0, false, 0},
		{"who owes nothing", []Candidate{owing(1, -1, "n"), peer(2, 0, "i"), owing(3, -1, "n")}, 0, false, 2},
		{"who owes nothing, not the last one", []Candidate{owing(1, -1, ""), peer(2, 0, "i")}, 1, false, 2},
		{"all owe", []Candidate{owing(1, -30, ""), owing(2, -10, ""), owing(3, -20, "n")}, 0, false, 2},
		{"all owe, and the last one more", []Candidate{owing(1, -30, ""), owing(2, -10, "")}, 1, false, 2},
		{"all owe the same", []Candidate{owing(3, -9, ""), owing(2, -9, "")}, 0, false, 2},
		{"the last one owes least though it rotates", []Candidate{owing(1, -3, ""), owing(2, -10, "")}, 1, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.cs)
			if got := Round(tt.cs, 1, tt.last, tt.rotate, source()); got.Optimistic != tt.want {
				t.Errorf("optimistic %d, want %d", got.Optimistic, tt.want)
			}
			if !slices.Equal(tt.cs, before) {
				t.Error("the candidates have changed")
			}
		})
	}
}
