package sim

import (
	"runtime"
	"slices"
	"testing"
)

// The small versions of the swarms that bittern is judged by.
func TestSmallSwarms(t *testing.T) {
	for _, kind := range Kinds {
		for _, n := range kind.Small {
			row := kind.Row(n)
			t.Run(row.String(), func(t *testing.T) {
				o := row.Measure([]uint64{0, 1, 2}, runtime.GOMAXPROCS(0))
				for n, f := range row.Figures {
					worst, seed := o.Worst(n)
					t.Logf("%s: %s in the mean, at worst %s, with seed %d", f.Name, f.Format(o.Mean(n)), f.Format(worst), seed)
				}
				for _, failure := range o.Failures() {
					t.Error(failure)
				}
			})
		}
	}
}

// A shortfall is of a figure that exists, and falls short: nobody is let off by a slip of the pen.
func TestShortfallsFallShort(t *testing.T) {
	found := make(map[shortfall]bool)
	for _, kind := range Kinds {
		for _, n := range append(slices.Clone(kind.All), kind.Small...) {
			row := kind.Row(n)
			for i := range row.Figures {
				f := &row.Figures[i]
				switch limit, wanted := row.Limit(f); {
				case wanted:
				case f.Demand == NoDemand:
					t.Errorf("%v: nothing is demanded of %q", &row, f.Name)
				case f.Holds(limit, f.Want):
					t.Errorf("%v: %s: %s is no shortfall, %s is demanded", &row, f.Name, f.Format(limit), f.Format(f.Want))
				default:
					found[shortfall{row.String(), f.Name}] = true
				}
			}
		}
	}
	for s := range shortfalls {
		if !found[s] {
			t.Errorf("%v is no figure of any row", s)
		}
	}
}
