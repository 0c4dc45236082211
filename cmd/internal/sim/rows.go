package sim

import (
	"fmt"
	"time"
)

// A Row is a swarm that bittern is judged by, with what is measured in it.
type Row struct {
	Kind     string
	Leechers int
	Text     string // what the swarm is, where it differs from the flash crowd
	Scenario func(n int, seed uint64) Scenario
	Without  func(n int, seed uint64) Scenario // the swarm to compare with; nil if there is none
	Figures  []Figure
	// Diversity says that how evenly the pieces are spread, from beginning to end, is of interest.
	Diversity bool
}

// String returns the name of the row: its kind and how many leechers it has.
func (r *Row) String() string { return fmt.Sprintf("%s-%d", r.Kind, r.Leechers) }

// A Figure is something that is measured in a play.
type Figure struct {
	Name string
	Of   func(*Play) float64
	Unit Unit
	// Demand says on which side of Want every play must be.
	Demand Demand
	Want   float64
}

// A Unit is how a figure is shown.
type Unit uint8

// The units of figures.
const (
	Plain   Unit = iota // 1.08
	Share               // as per cent
	Seconds             // as such
	KiBs                // bytes/s, as KiB/s
	Count               // without decimals
)

// A Demand is which side of the wanted value is the right one.
type Demand uint8

// The demands.
const (
	NoDemand Demand = iota
	AtLeast
	AtMost
)

func (d Demand) String() string { return [...]string{"", "at least", "at most"}[d] }

// Holds reports whether a value is on the right side of what is wanted.
func (f *Figure) Holds(value float64) bool {
	switch f.Demand {
	case AtLeast:
		return value >= f.Want
	case AtMost:
		return value <= f.Want
	}
	return true
}

// Format returns a value in the figure's unit.
func (f *Figure) Format(value float64) string {
	switch f.Unit {
	case Share:
		return fmt.Sprintf("%.1f %%", 100*value)
	case Seconds:
		return fmt.Sprintf("%.1f s", value)
	case KiBs:
		return fmt.Sprintf("%.0f KiB/s", value/kib)
	case Count:
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.2f", value)
}

// A Play is a scenario that was played, and the one to compare it with, if the row has one.
type Play struct {
	Result
	Without Result
}

// Play plays the row with a seed.
func (r *Row) Play(seed uint64) *Play {
	p := &Play{Result: Run(r.Scenario(r.Leechers, seed))}
	if r.Without != nil {
		p.Without = Run(r.Without(r.Leechers, seed))
	}
	return p
}

// Diversity returns the samples of every tenth of the time until the last peer was complete, the first and the last
// moment left out.
func (p *Play) Diversity() (tenths []Sample) {
	for tenth := 1; tenth < 10; tenth++ {
		at := p.Last() * time.Duration(tenth) / 10
		n := min(int(at/sampleEvery), len(p.Samples)-1)
		tenths = append(tenths, p.Samples[n])
	}
	return tenths
}

// A Kind makes rows of one kind.
type Kind struct {
	Row        func(n int) Row // with n leechers
	All, Small []int           // with how many to play: what is demanded, and what every run of the tests can afford
}

// Kinds are all there are.
var Kinds = []Kind{
	{crowd, []int{10, 100, 1000}, []int{10, 20}},
	{slowLines, []int{10}, []int{10}},
	{fastSeed, []int{100}, []int{20}},
	{contribution, []int{100}, []int{20}},
	{freeRiders, []int{100}, []int{20}},
	{seedLeaves, []int{100}, []int{20}},
	{liars, []int{100}, []int{20}},
	{churn, []int{100}, []int{10}},
	{office, []int{12}, []int{12}},
}

// The figures that several rows have.
var (
	complete  = Figure{Name: "complete, with the right bytes", Of: (*Play).completeShare, Unit: Share, Demand: AtLeast, Want: 1}
	lastDone  = Figure{Name: "last complete after", Of: func(p *Play) float64 { return p.Last().Seconds() }, Unit: Seconds}
	tail      = Figure{Name: "time of the last 1 %", Of: func(p *Play) float64 { return p.Tail() }, Unit: Share, Demand: AtMost, Want: 0.03}
	waste     = Figure{Name: "bytes in vain", Of: func(p *Play) float64 { return p.Waste(everybody) }, Unit: Share}
	links     = Figure{Name: "most connections of a peer", Of: (*Play).mostLinks, Unit: Count, Demand: AtMost, Want: 80}
	outCopies = Figure{Name: "copies sent by the seed until one is out", Of: func(p *Play) float64 { out, _ := p.SeedCopies(); return out }}
	allCopies = Figure{Name: "copies sent by the seed, in all", Of: func(p *Play) float64 { _, all := p.SeedCopies(); return all }}
	use       = Figure{Name: "leechers' uplinks in use", Of: func(p *Play) float64 { return p.LeecherUse() }, Unit: Share}
)

func efficiency(want float64) Figure {
	return Figure{Name: "efficiency", Of: func(p *Play) float64 { return p.Efficiency() }, Demand: AtLeast, Want: want}
}

// atLeast and atMost return f with a demand.
func (f Figure) atLeast(value float64) Figure {
	f.Demand, f.Want = AtLeast, value
	return f
}

func (f Figure) atMost(value float64) Figure {
	f.Demand, f.Want = AtMost, value
	return f
}

func crowd(n int) Row {
	want := 0.78
	switch {
	case n <= 10:
		want = 0.85
	case n <= 100:
		want = 0.82
	}
	return Row{
		Kind: "crowd", Leechers: n, Scenario: FlashCrowd, Diversity: true,
		Text: "A flash crowd: one seed, all leechers come within five seconds and stay.",
		Figures: []Figure{
			complete, lastDone, efficiency(want),
			{Name: "seed's uplink busy until a copy is out", Of: func(p *Play) float64 { return p.Peers[0].OutBusy }, Unit: Share, Demand: AtLeast, Want: 0.98},
			outCopies.atMost(1.10),
			allCopies, use, tail, waste, links,
			{Name: "interest, 20th percentile", Of: func(p *Play) float64 { return p.Interest[0] }, Unit: Share},
			{Name: "interest, median", Of: func(p *Play) float64 { return p.Interest[1] }, Unit: Share},
			{Name: "interest, 80th percentile", Of: func(p *Play) float64 { return p.Interest[2] }, Unit: Share},
		},
	}
}

func slowLines(n int) Row {
	return Row{
		Kind: "slow-lines", Leechers: n, Scenario: SlowLines,
		Text: "Uplinks of 64 KiB/s and downlinks of 512, on which a block takes a quarter of a second, and 16 MiB of content.",
		Figures: []Figure{
			complete, lastDone, efficiency(0.75),
			outCopies.atMost(1.20), allCopies, use, tail, waste,
		},
	}
}

func fastSeed(n int) Row {
	return Row{
		Kind: "fast-seed", Leechers: n, Scenario: FastSeed,
		Text: "The seed has four times the uplink of a leecher.",
		Figures: []Figure{
			complete, lastDone, efficiency(0.88), use.atLeast(0.93), allCopies, tail, waste,
		},
	}
}

func contribution(n int) Row {
	rate := func(third int64) func(*Play) float64 {
		return func(p *Play) float64 { return p.Rate(func(p Peer) bool { return p.Up == third*mib }) }
	}
	ratio := func(more, less int64) func(*Play) float64 {
		return func(p *Play) float64 { return share(rate(more)(p), rate(less)(p)) }
	}
	return Row{
		Kind: "contribution", Leechers: n, Scenario: Thirds,
		Text: "A third of the leechers has the usual uplink, a third twice and a third five times that, the seed ten times.",
		Figures: []Figure{
			complete, lastDone,
			{Name: "download rate of those with 1 MiB/s up", Of: rate(1), Unit: KiBs},
			{Name: "of those with 2 MiB/s", Of: rate(2), Unit: KiBs},
			{Name: "of those with 5 MiB/s", Of: rate(5), Unit: KiBs},
			{Name: "those with 2 MiB/s to those with 1", Of: ratio(2, 1), Demand: AtLeast, Want: 1},
			{Name: "those with 5 MiB/s to those with 2", Of: ratio(5, 2), Demand: AtLeast, Want: 1},
			waste,
		},
	}
}

func freeRiders(n int) Row {
	rides := func(p Peer) bool { return p.FreeRide }
	gives := func(p Peer) bool { return !p.FreeRide }
	return Row{
		Kind: "free-riders", Leechers: n, Scenario: FreeRiders, Without: NoFreeRiders,
		Text: "A fifth of the leechers uploads nothing; the same swarm without them is played too.",
		Figures: []Figure{
			complete,
			{Name: "their rate to the others', until the first is complete", Of: func(p *Play) float64 {
				return share(p.EarlyRate(rides), p.EarlyRate(gives))
			}, Unit: Share, Demand: AtMost, Want: 0.35},
			{Name: "median time of the others", Of: func(p *Play) float64 { return p.Median().Seconds() }, Unit: Seconds},
			{Name: "the same without them", Of: func(p *Play) float64 { return p.Without.Median().Seconds() }, Unit: Seconds},
			{Name: "with to without", Of: func(p *Play) float64 {
				return share(p.Median().Seconds(), p.Without.Median().Seconds())
			}, Demand: AtMost, Want: 1.08},
		},
	}
}

func seedLeaves(n int) Row {
	return Row{
		Kind: "seed-leaves", Leechers: n, Scenario: SeedLeaves,
		Text: "The seed goes when it has sent 1.1 copies.",
		Figures: []Figure{
			complete, lastDone,
			{Name: "pieces that nobody has at the end", Of: (*Play).lost, Unit: Count, Demand: AtMost, Want: 0},
			tail,
		},
	}
}

func liars(n int) Row {
	return Row{
		Kind: "liars", Leechers: n, Scenario: Liars,
		Text: "A tenth of the leechers corrupts a fifth of the blocks it sends.",
		Figures: []Figure{
			complete, lastDone,
			{Name: "honest peers banned", Of: func(p *Play) float64 { return float64(p.Lies().Honest) }, Unit: Count, Demand: AtMost, Want: 0},
			{Name: "second pieces that failed by one liar at one peer", Of: func(p *Play) float64 { return float64(p.Lies().Again) }, Unit: Count, Demand: AtMost, Want: 0},
			{Name: "pieces in vain for each liar that served a peer", Of: func(p *Play) float64 {
				l := p.Lies()
				return share(float64(l.Failed), float64(l.Served))
			}, Demand: AtMost, Want: 1.5},
			waste,
		},
	}
}

func churn(n int) Row {
	return Row{
		Kind: "churn", Leechers: n, Scenario: Churn,
		Text: "Leechers come and go, as Poisson processes do; they stay for a third of the time of a download, in the mean.",
		Figures: []Figure{
			{Name: "useful bytes to what uplinks could carry, after 60 s", Of: func(p *Play) float64 { return p.Yield(churnSettles) }, Unit: Share, Demand: AtLeast, Want: 0.80},
			waste,
		},
	}
}

func office(n int) Row {
	return Row{
		Kind: "office", Leechers: n, Scenario: Office,
		Text: "The setting in which real clients were measured: all start at once, 2 MiB/s up each, the seed too, no delays and no other limits.",
		Figures: []Figure{
			complete, lastDone, efficiency(0.82), allCopies, use, tail, waste,
		},
	}
}

// completeShare returns the share of the peers that the play waited for that ended with all the right bytes.
func (p *Play) completeShare() float64 {
	waited, good := 0.0, 0.0
	for n, r := range p.Peers {
		if !p.Scenario.Peers[n].waited() {
			continue
		}
		waited++
		if r.Done > 0 && r.Received-r.Wasted == p.Scenario.Size {
			good++
		}
	}
	return share(good, waited)
}

func (p *Play) mostLinks() (most float64) {
	for _, r := range p.Peers {
		most = max(most, float64(r.MostLinks))
	}
	return most
}

// lost returns how many pieces nobody had at the end.
func (p *Play) lost() float64 { return float64(p.Samples[len(p.Samples)-1].Lost) }
