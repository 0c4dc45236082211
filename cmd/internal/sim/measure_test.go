package sim

import (
	"math"
	"testing"
	"time"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestTheFluidBound(t *testing.T) {
	for _, tt := range []struct {
		name            string
		seed, up, down  int64 // MiB/s
		leechers, bound int   // bound in s, of 60 MiB
	}{
		{"the seed's uplink", 1, 10, 10, 3, 60},
		{"a downlink", 10, 10, 2, 3, 30},
		{"all uplinks", 2, 1, 10, 8, 48}, // 8 * 60 / (2 + 8)
	} {
		s := Scenario{Size: 60 * mib, Peers: []Peer{{Seed: true, Up: tt.seed * mib, Down: mib}}}
		for range tt.leechers {
			s.Peers = append(s.Peers, Peer{Up: tt.up * mib, Down: tt.down * mib})
		}
		if got, want := s.Bound(), time.Duration(tt.bound)*time.Second; got != want {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
	}
}

// A played is a result made by hand: a seed and three leechers, of which the last lies.
func played() Result {
	return Result{
		Scenario: Scenario{
			Size: 100, PieceLength: 10,
			Peers: []Peer{{Seed: true, Up: 10, Down: 1}, {Up: 10, Down: 10}, {Up: 10, Down: 10}, {Up: 20, Down: 10, Lies: 0.1}},
		},
		Peers: []PeerResult{
			{Sent: 150, Out: 9 * time.Second, OutSent: 120},
			{
				Arrived: 2 * time.Second, Nearly: 20 * time.Second, Done: 22 * time.Second, Received: 110, Wasted: 10, Early: 100,
				From: []int64{60, 0, 20, 30}, Failed: 1, FailedBy: []int{0, 0, 0, 1}, Convicts: []int{3},
			},
			{
				Nearly: 30 * time.Second, Done: 40 * time.Second, Received: 130, Wasted: 30, Early: 55,
				From: []int64{60, 20, 0, 50}, Failed: 3, FailedBy: []int{0, 0, 0, 2}, Convicts: []int{1, 3},
			},
			{From: []int64{30, 10, 10, 0}, Received: 50, Early: 22},
		},
		FirstDone: 22 * time.Second, End: 40 * time.Second,
	}
}

func TestMeasures(t *testing.T) {
	r := played()
	honest := func(p Peer) bool { return p.Lies == 0 }
	liar := func(p Peer) bool { return p.Lies > 0 }
	out, all := r.SeedCopies()
	for _, tt := range []struct {
		what      string
		got, want float64
	}{
		{"efficiency", r.Efficiency(), 10. / 40}, // 100 bytes at 10 bytes/s
		{"copies until one is out", out, 1.2},
		{"copies in all", all, 1.5},
		{"waste", r.Waste(everybody), 40. / 290},
		{"tail", r.Tail(), (2./20 + 10./40) / 2},
		{"rate of the honest", r.Rate(honest), (100./20 + 100./40) / 2},
		{"rate of the liar", r.Rate(liar), 50. / 40},
		{"early rate of the honest", r.EarlyRate(honest), (100./20 + 55./22) / 2},
		{"early rate of the liar", r.EarlyRate(liar), 1},
		{"median", r.Median().Seconds(), 40},
	} {
		if !near(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want)
		}
	}
	if got, want := r.Lies(), (Lies{Served: 2, Again: 1, Failed: 4, Honest: 1}); got != want {
		t.Errorf("lies: %+v, want %+v", got, want)
	}
	r.Peers[1].Done = 0
	if r.Complete() || r.Efficiency() != 0 {
		t.Error("it counts as complete though a peer is not")
	}
}

// Use is measured between 5 and 95 % of the bytes, wherever between two samples that is.
func TestMeasuresOverTime(t *testing.T) {
	var r Result
	r.Samples = []Sample{
		{},
		{At: time.Second, Kept: 0, Used: 100, Could: 1000, CouldAll: 2000}, // nothing has come yet
		{At: 2 * time.Second, Kept: 100, Used: 600, Could: 2000, CouldAll: 4000},
		{At: 3 * time.Second, Kept: 900, Used: 1400, Could: 3000, CouldAll: 6000},
		{At: 4 * time.Second, Kept: 1000, Used: 1500, Could: 5000, CouldAll: 9000},
	}
	// At 50 bytes it is 1.5 s, at 950 3.5 s.
	if got, want := r.LeecherUse(), (1450.-350)/(4000-1500); !near(got, want) {
		t.Errorf("use %v, want %v", got, want)
	}
	if got, want := r.Yield(2*time.Second), 900./5000; !near(got, want) {
		t.Errorf("yield %v, want %v", got, want)
	}
}

func TestInterestIsAShareOfTime(t *testing.T) {
	var s sampler
	s.part(&end{together: briefly - 1}) // too short to say anything
	for n := range 11 {
		s.part(&end{together: 10 * briefly, wanted: n * briefly})
	}
	if got, want := s.interest(), (Percentiles{0.2, 0.5, 0.8}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// What is sampled of a play adds up.
func TestSamplesOfAPlay(t *testing.T) {
	s := small(5, 3)
	r := Run(s)
	last := r.Samples[len(r.Samples)-1]
	if last.Kept != 5*s.Size || last.Lost != 0 || last.Least != 6 || last.Copies != 6 {
		t.Errorf("at the end: %+v", last)
	}
	capacity := 0.0
	for n, p := range r.Peers {
		capacity += (r.End - p.Arrived).Seconds() * float64(s.Peers[n].Up)
		if p.MostLinks != 5 {
			t.Errorf("peer %d had %d connections", n, p.MostLinks)
		}
	}
	if math.Abs(last.CouldAll-capacity) > 1 {
		t.Errorf("%.0f bytes could have been carried, want %.0f", last.CouldAll, capacity)
	}
	if seed := r.Peers[0]; seed.OutSent < s.Size || seed.OutSent > seed.Sent || seed.OutBusy < 0.9 || seed.OutBusy > 1 {
		t.Errorf("the seed: %+v", seed)
	}
	for n := 1; n < len(r.Samples); n++ {
		a, b := r.Samples[n-1], r.Samples[n]
		if b.Kept < a.Kept || b.Used < a.Used || b.Used-a.Used > 1.02*(b.Could-a.Could)+cost*5 {
			t.Errorf("from %+v to %+v", a, b)
		}
	}
}

// Churn is what it says: about n at a time, who stay for a third of 64 s in the mean.
func TestChurn(t *testing.T) {
	const n = 400
	s := Churn(n, 1)
	var stay, person float64
	for _, p := range s.Peers[1:] {
		stay += (p.Leaves - p.Arrives).Seconds()
		if from := max(p.Arrives, churnSettles); p.Leaves > from {
			person += (min(p.Leaves, s.Limit) - from).Seconds()
		}
	}
	if mean := stay / float64(len(s.Peers)-1); mean < 20 || mean > 22.7 {
		t.Errorf("stays of %.1f s in the mean, want 21.3", mean)
	}
	if mean := person / churnPlays.Seconds(); mean < 0.9*n || mean > 1.1*n {
		t.Errorf("%.0f leechers in the mean, want %d", mean, n)
	}
}
