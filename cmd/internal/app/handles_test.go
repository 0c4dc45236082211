package app

import "testing"

func TestShareHandles(t *testing.T) {
	for _, tt := range []struct {
		name         string
		limit, peers int
		want         handleBudget
	}{
		{"no limit", 0, 80, handleBudget{32, 80, 256}},
		{"the usual 1024", 1024, 80, handleBudget{32, 80, 242}},
		{"many peers wanted", 1024, 5000, handleBudget{32, 728, 242}},
		{"256", 256, 80, handleBudget{32, 80, 50}},
		{"40", 40, 80, handleBudget{6, 9, 3}},
		{"next to none", 8, 80, handleBudget{2, 1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := shareHandles(tt.limit, tt.peers); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	for limit := 30; limit < 2000; limit++ {
		if b := shareHandles(limit, 80); b.files+b.peers+b.pending+ownHandles > limit {
			t.Errorf("of %d handles %+v and %d are too many", limit, b, ownHandles)
		}
	}
}
