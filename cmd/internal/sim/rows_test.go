package sim

import (
	"runtime"
	"slices"
	"testing"
)

// The small versions of the swarms that bittern is judged by.
func TestSmallSwarms(t *testing.T) {
	kinds := Kinds
	if plays == 1 {
		kinds = kinds[:1] // each play is one goroutine: the race detector learns nothing of the others
	}
	for _, kind := range kinds {
		for _, n := range kind.Small {
			row := kind.Row(n)
			t.Run(row.String(), func(t *testing.T) {
				o := row.Measure([]uint64{0, 1, 2}[:plays], runtime.GOMAXPROCS(0))
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

// Of the seeds the worst counts, and a failure says which it is.
func TestFailuresNameTheWorstSeed(t *testing.T) {
	row := Row{Kind: "test", Leechers: 3, Figures: []Figure{
		{Name: "much", Demand: AtLeast, Want: 5},
		{Name: "little", Demand: AtMost, Want: 5},
		{Name: "fine", Demand: AtMost, Want: 9, Unit: Count},
		{Name: "whatever"},
	}}
	values := []float64{6, 2, 8}
	o := &Outcome{Row: &row, Seeds: []uint64{10, 11, 12}, Values: [][]float64{values, values, values, values}}
	const see = "; to see it: go run ./cmd/internal/sim/tables -run '^test-3$' -n 3 -replay "
	want := []string{
		"test-3: much: 2.00 with seed 11, want at least 5.00" + see + "11",
		"test-3: little: 8.00 with seed 12, want at most 5.00" + see + "12",
	}
	if got := o.Failures(); !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

// A panic says with which seed.
func TestAPanicNamesItsSeed(t *testing.T) {
	row := Row{Kind: "test", Leechers: 3, Scenario: func(int, uint64) Scenario { panic("wrong") }}
	o := &Outcome{Row: &row, Seeds: []uint64{7}}
	defer func() {
		if v, want := recover(), "test-3 with seed 7: wrong; to see it: "+o.again(7); v != want {
			t.Errorf("panic %q, want %q", v, want)
		}
	}()
	o.play(0)
}
