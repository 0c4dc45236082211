package app

import (
	"testing"

	"bittern/cmd/internal/swarm/core"
)

// TestNobody: who was never met is told from who has gone.
func TestNobody(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    core.Snapshot
		why  string
		want string
	}{
		{"never", core.Snapshot{Total: 2048}, "", "no peer found: nobody was there (name one with --peer or another tracker with --tracker)"},
		{"gone", core.Snapshot{Met: 1, Done: 1024, Total: 2048}, "no answer from x",
			"no peer is left at 1.0 KiB of 2.0 KiB: no answer from x (the same command continues; name one with --peer or another tracker with --tracker)"},
	} {
		err := nobody(tt.s, tt.why)
		if err.Error() != tt.want || err.Class != ClassNoPeers {
			t.Errorf("%s: %q of class %v, want %q", tt.name, err, err.Class, tt.want)
		}
	}
}
