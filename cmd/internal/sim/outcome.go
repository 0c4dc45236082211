package sim

import (
	"fmt"
	"slices"
	"sync"
)

// An Outcome is what came of a row that was played with several seeds.
type Outcome struct {
	Row       *Row
	Seeds     []uint64
	Values    [][]float64 // by figure, then by seed
	Diversity [][]Sample  // by seed: [Play.Diversity]
}

// Measure plays a row with each of the seeds, so many at once.
func (r *Row) Measure(seeds []uint64, atOnce int) *Outcome {
	o := &Outcome{Row: r, Seeds: seeds, Diversity: make([][]Sample, len(seeds))}
	for range r.Figures {
		o.Values = append(o.Values, make([]float64, len(seeds)))
	}
	next := make(chan int)
	var plays sync.WaitGroup
	for range atOnce {
		plays.Go(func() {
			for i := range next {
				o.play(i)
			}
		})
	}
	for i := range seeds {
		next <- i
	}
	close(next)
	plays.Wait()
	return o
}

// play plays with one of the seeds. A panic, which is a bug of a core or of the model, says which.
func (o *Outcome) play(i int) {
	defer func() {
		if v := recover(); v != nil {
			panic(fmt.Sprintf("%v with seed %d: %v; to see it: %s", o.Row, o.Seeds[i], v, o.again(o.Seeds[i])))
		}
	}()
	p := o.Row.Play(o.Seeds[i])
	for f := range o.Row.Figures {
		o.Values[f][i] = o.Row.Figures[f].Of(p)
	}
	o.Diversity[i] = p.Diversity()
}

// again is the command that plays a row with a seed again and shows every decision.
func (o *Outcome) again(seed uint64) string {
	return fmt.Sprintf("go run ./cmd/internal/sim/tables -run '^%s$' -n %d -replay %d", o.Row, o.Row.Leechers, seed)
}

// Mean returns the mean of a figure over the seeds.
func (o *Outcome) Mean(figure int) (mean float64) {
	for _, v := range o.Values[figure] {
		mean += v / float64(len(o.Seeds))
	}
	return mean
}

// Worst returns the value of a figure that is the farthest from what is demanded, and its seed.
func (o *Outcome) Worst(figure int) (value float64, seed uint64) {
	values := o.Values[figure]
	worst := slices.Max(values)
	if o.Row.Figures[figure].Demand == AtLeast {
		worst = slices.Min(values)
	}
	return worst, o.Seeds[slices.Index(values, worst)]
}

// Failures says of each figure that does not hold what it is, with which seed, and how to see that play.
func (o *Outcome) Failures() (failures []string) {
	for n := range o.Row.Figures {
		f := &o.Row.Figures[n]
		if worst, seed := o.Worst(n); !f.Holds(worst) {
			failures = append(failures, fmt.Sprintf("%s: %s: %s with seed %d, want %s %s; to see it: %s",
				o.Row, f.Name, f.Format(worst), seed, f.Demand, f.Format(f.Want), o.again(seed)))
		}
	}
	return failures
}
