package app

import "testing"

func TestShareHandles(t *testing.T) {
	for _, tt := range []struct {
		name         string
		limit, peers int
		tracker      bool
		want         handleBudget
	}{
		{"no limit", 0, 80, false, handleBudget{32, 80, 256, 0}},
		{"the usual 1024", 1024, 80, false, handleBudget{32, 80, 242, 0}},
		{"many peers wanted", 1024, 5000, false, handleBudget{32, 728, 242, 0}},
		{"256", 256, 80, false, handleBudget{32, 80, 50, 0}},
		{"256 and a tracker", 256, 250, true, handleBudget{32, 102, 50, 50}},
		{"no limit and a tracker", 0, 250, true, handleBudget{32, 250, 256, 256}},
		{"40", 40, 80, false, handleBudget{6, 9, 3, 0}},
		{"next to none", 8, 80, false, handleBudget{2, 1, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := shareHandles(tt.limit, tt.peers, tt.tracker); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	for limit := 30; limit < 2000; limit++ {
		for _, tracker := range []bool{false, true} {
			if b := shareHandles(limit, 5000, tracker); b.files+b.peers+b.pending+b.tracker+ownHandles > limit {
				t.Errorf("of %d handles %+v and %d are too many", limit, b, ownHandles)
			}
		}
	}
}
