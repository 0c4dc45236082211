package sim

import (
	"slices"
	"testing"
	"time"
)

// play runs a scenario and fails unless everybody it waits for ends with the right bytes. (That
// nobody serves what it lacks or writes what it has, Run itself checks.)
func play(t *testing.T, s Scenario) Result {
	t.Helper()
	if s.Limit == 0 {
		s.Limit = time.Hour
	}
	r := Run(s)
	if !r.Complete() {
		t.Fatalf("seed %d: not everybody is complete after %v: %+v", s.Seed, r.End, r.Peers)
	}
	for n, p := range r.Peers {
		if p.Done > 0 && p.Received-p.Wasted != s.Size {
			t.Errorf("seed %d: peer %d kept %d bytes, want %d", s.Seed, n, p.Received-p.Wasted, s.Size)
		}
	}
	return r
}

// small is a flash crowd of 16 MiB.
func small(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Size = 16 * mib
	return s
}

// The network takes what its lines say: F bytes cannot come faster than the narrowest line lets
// them, and must not come much slower.
func TestLinesLimit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		up, down int64
		seeds    int
		delay    time.Duration // round trip
		rate     int64         // of the narrowest
		size     int64
	}{
		{"the uplink of one seed", mib, 8 * mib, 1, 80 * time.Millisecond, mib, 32 * mib},
		{"the uplinks of four seeds", mib, 16 * mib, 4, 80 * time.Millisecond, 4 * mib, 32 * mib},
		{"the downlink of the leecher", 2 * mib, mib, 4, 80 * time.Millisecond, mib, 32 * mib},
		{"100 Mbit/s at 100 ms", 12_500_000, 12_500_000, 1, 100 * time.Millisecond, 12_500_000, 256 * mib},
		{"100 Mbit/s at 200 ms", 12_500_000, 12_500_000, 1, 200 * time.Millisecond, 12_500_000, 256 * mib},
		{"a satellite", 2 * mib, mib, 1, 1500 * time.Millisecond, mib, 128 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Scenario{Seed: 1, Size: tt.size, PieceLength: 256 * kib}
			for range tt.seeds {
				s.Peers = append(s.Peers, Peer{Seed: true, Up: tt.up, Down: mib, Delay: tt.delay / 4})
			}
			s.Peers = append(s.Peers, Peer{Up: mib, Down: tt.down, Delay: tt.delay / 4})
			r := play(t, s)
			ideal := float64(s.Size) / float64(tt.rate)
			t.Logf("use of the line %.3f", ideal/r.Last().Seconds())
			if got := r.Last().Seconds(); got < ideal || got > 1.15*ideal {
				t.Errorf("took %.2f s, want %.2f and little more", got, ideal)
			}
		})
	}
}

func TestEventsComeInOrder(t *testing.T) {
	var a agenda
	var got []int
	for n, at := range []time.Duration{5, 3, 9, 3, 1, 5, 9, 1, 3} {
		a.push(at, doing(func() { got = append(got, n) }))
	}
	for len(a.heap) > 0 {
		a.pop().what.happen()
	}
	if want := []int{4, 7, 1, 3, 8, 0, 5, 2, 6}; !slices.Equal(got, want) {
		t.Errorf("events came as %v, want %v", got, want)
	}
}

func TestTheSameSeedGivesTheSameTrace(t *testing.T) {
	s := small(8, 7)
	s.Peers[3].Lies = 0.2
	first, again := Run(s), Run(s)
	if first.Trace != again.Trace || first.End != again.End || first.Events != again.Events {
		t.Errorf("twice the same: %x, %v and %x, %v", first.Trace, first.End, again.Trace, again.End)
	}
	s.Seed++
	if other := Run(s); other.Trace == first.Trace {
		t.Error("another seed gives the same trace")
	}
}

func TestTheSeedMayLeave(t *testing.T) {
	for _, tt := range []struct {
		copies   float64
		complete bool // by then every piece is out
	}{{1.1, false}, {2.5, true}} {
		for seed := range uint64(plays) {
			s := small(12, seed)
			s.Limit = 5 * time.Minute
			s.Peers[0].Copies = tt.copies
			r := Run(s)
			for n, p := range r.Peers[1:] {
				// Nobody is left behind: what one has, all have.
				if p.Left != r.Peers[1].Left || tt.complete && p.Left > 0 {
					t.Errorf("seed %d, %v copies: peer %d lacks %d bytes, peer 1 %d", seed, tt.copies, n+1, p.Left, r.Peers[1].Left)
				}
			}
		}
	}
}

// Leechers who leave as soon as they are complete, or a little later, take nothing with them that the
// others need.
func TestLeechersMayLeaveWhenComplete(t *testing.T) {
	for _, stay := range []time.Duration{0, 10 * time.Second} {
		s := small(10, 5)
		for n := range s.Peers {
			s.Peers[n].Stay = stay
			s.Peers[n].Arrives *= 4 // over 20 s: the first are done before the last have begun
		}
		r := play(t, s)
		for n, p := range r.Peers {
			if p.Done > 0 && p.Done+stay < r.End && p.Links != 0 {
				t.Errorf("peer %d is still there at %v, complete since %v", n, r.End, p.Done)
			}
		}
	}
}

func TestLiarsAreFoundAndNobodyElse(t *testing.T) {
	for seed := range uint64(plays) {
		s := small(18, seed)
		liars := []int{4, 11}
		for _, n := range liars {
			s.Peers[n].Lies = 0.2
		}
		r := play(t, s)
		for n, p := range r.Peers {
			for _, who := range p.Convicts {
				if !slices.Contains(liars, who) {
					t.Errorf("seed %d: peer %d took honest peer %d for a liar", seed, n, who)
				}
			}
		}
		for _, liar := range liars {
			caught := func(p PeerResult) bool { return slices.Contains(p.Convicts, liar) }
			if r.Peers[liar].Sent > 0 && !slices.ContainsFunc(r.Peers, caught) {
				t.Errorf("seed %d: liar %d was never caught", seed, liar)
			}
		}
	}
}

// with returns how long the last takes with and without the habits that change gives.
func with(t *testing.T, s Scenario, change func(*Scenario)) (without, with time.Duration) {
	plain := play(t, s)
	s.Peers = slices.Clone(s.Peers)
	change(&s)
	changed := play(t, s)
	return plain.Last(), changed.Last()
}

func TestAMutePeerHoldsNobodyUp(t *testing.T) {
	for seed := range uint64(plays) {
		without, with := with(t, small(8, seed), func(s *Scenario) {
			mute := s.Peers[0]
			mute.Mute = true
			s.Peers = append(s.Peers, mute)
		})
		if with > without+without/2 {
			t.Errorf("seed %d: %v with a peer that promises and does not send, %v without", seed, with, without)
		}
	}
}

func TestASlowPeerNeverHoldsTheLastPiece(t *testing.T) {
	for seed := range uint64(plays) {
		s := FlashCrowd(1, seed)
		s.Peers[1].Down = 16 * mib
		for range 3 {
			s.Peers = append(s.Peers, s.Peers[0])
		}
		without, with := with(t, s, func(s *Scenario) {
			slow := s.Peers[0]
			slow.Up = 10 * kib
			s.Peers = append(s.Peers, slow)
		})
		t.Logf("seed %d: %v with a slow peer, %v without", seed, with, without)
		if with > without+without/20 {
			t.Errorf("seed %d: %v with a slow peer, %v without", seed, with, without)
		}
	}
}

// Those who want the pieces in order still have something to trade: strictly in order it would take seven times as long.
func TestASequentialCrowdTrades(t *testing.T) {
	var byRarity, inOrder time.Duration
	for seed := range uint64(plays) {
		without, with := with(t, FlashCrowd(12, seed), func(s *Scenario) {
			for n := range s.Peers {
				s.Peers[n].Sequential = true
			}
		})
		byRarity, inOrder = byRarity+without, inOrder+with
	}
	t.Logf("in order %.2f times as long", inOrder.Seconds()/byRarity.Seconds())
	if inOrder > byRarity*115/100 {
		t.Errorf("in all %v in order, %v by rarity, want at most 1.15 times as long", inOrder, byRarity)
	}
}

// What is asked of several in endgame comes twice where a cancel is too late. Of thirty, more are in endgame
// at once while the seed sends the last pieces: some seeds of this play come to 1.4 %.
func TestEndgameWastesLittle(t *testing.T) {
	office := FlashCrowd(12, 1)
	for n := range office.Peers {
		office.Peers[n].Up, office.Peers[n].Down, office.Peers[n].Delay = 2*mib, 100*mib, 100*time.Microsecond
	}
	for _, tt := range []struct {
		name string
		s    Scenario
		most float64 // %
	}{{"12 in a local network", office, 1}, {"12 leechers", FlashCrowd(12, 2), 1}, {"30 leechers", FlashCrowd(30, 3), 1.5}} {
		var received, wasted int64
		for _, p := range play(t, tt.s).Peers {
			received, wasted = received+p.Received, wasted+p.Wasted
		}
		share := 100 * float64(wasted) / float64(received)
		t.Logf("%s: %.2f %% in vain", tt.name, share)
		if share > tt.most {
			t.Errorf("%s: %.2f %% of the bytes came in vain, want %v %% at most", tt.name, share, tt.most)
		}
	}
}

// On fast lines with small pieces much is under way when the second leecher comes and super-seeding begins. Still the seed hardly sends
// a piece twice.
func TestSmallPiecesAreSentOnce(t *testing.T) {
	for seed := range uint64(plays) {
		s := small(6, seed)
		s.PieceLength = 32 << 10
		for n := range s.Peers {
			p := &s.Peers[n]
			p.Up, p.Down, p.Delay, p.Arrives = 8*mib, 100*mib, 10*time.Millisecond, time.Duration(n)*300*time.Millisecond
		}
		r := play(t, s)
		out, all := r.SeedCopies()
		t.Logf("%.3f copies until one is out, %.3f in all", out, all)
		if out > 1.1 {
			t.Errorf("seed %d: %.2f copies until one is out", seed, out)
		}
	}
}

func TestPeersMayVanish(t *testing.T) {
	for seed := range uint64(plays) {
		s := small(12, seed)
		for n := 1; n <= 4; n++ {
			s.Peers[n].Leaves, s.Peers[n].Vanishes = time.Duration(5+2*n)*time.Second, n%2 == 0
		}
		r := play(t, s)
		if r.Last() > 3*s.Bound() {
			t.Errorf("seed %d: took %v, the bound is %v", seed, r.Last(), s.Bound())
		}
	}
}

func TestFreeRidersGetLess(t *testing.T) {
	const riders, others = 4, 20
	for seed := range uint64(min(plays, 2)) {
		s := small(riders+others, seed)
		for n := range s.Peers {
			s.Peers[n].Up = 32 * kib // so that it takes many rounds of choking
		}
		s.Peers[0].Up = 96 * kib
		for n := 1; n <= riders; n++ {
			s.Peers[n].FreeRide = true
		}
		s.Limit = 8 * time.Minute // before the first is complete
		r := Run(s)
		var toRiders, toOthers float64 // mean bytes got by trade
		for n, p := range r.Peers {
			for m, got := range p.From {
				switch {
				case s.Peers[m].Seed:
				case s.Peers[n].FreeRide:
					toRiders += float64(got) / riders
				default:
					toOthers += float64(got) / others
				}
			}
		}
		if share := toRiders / toOthers; share > 0.9 {
			t.Errorf("seed %d: free riders got %.0f %% of what others did", seed, 100*share)
		}
	}
}

func TestTwoThatDialEachOtherAtOnce(t *testing.T) {
	for seed := range uint64(10) {
		s := small(1, seed)
		s.Peers[1].Arrives, s.Peers[1].Delay = 0, s.Peers[0].Delay
		s.Limit = 5 * time.Second // before the leecher is complete
		r := Run(s)
		if a, b := r.Peers[0].Links, r.Peers[1].Links; a != 1 || b != 1 {
			t.Errorf("seed %d: %d and %d connections, want one", seed, a, b)
		}
		if r.Peers[1].Received == 0 {
			t.Errorf("seed %d: nothing was sent", seed)
		}
	}
}
