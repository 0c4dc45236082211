//go:build linux

package main_test

import (
	"strings"
	"testing"
	"time"
)

// TestFewHandles: where few files may be open there are fewer peers than are wanted, which is said once; the soft limit is raised as far
// as the system lets us.
func TestFewHandles(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 256*kib, 64*kib)
	dir := t.TempDir()
	x.lay(t, dir)
	torrent := x.torrent(t)
	for _, tt := range []struct {
		name, ulimit string
		args         []string
		warnings     int
	}{
		{"few", "-n 100", nil, 1},
		{"few that may be more", "-S -n 100", nil, 0},
		{"enough", "-n 1024", nil, 0},
		{"many peers", "-n 1024", []string{"--max-peers", "5000"}, 1},
		{"a tracker too", "-n 1024", []string{"--max-peers", "600", "--serve-tracker", "127.0.0.1:0"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := limited(t, tt.ulimit, append([]string{"seed", torrent, "-d", dir, "--interface", "127.0.0.1", "--seed-time", "1s"}, tt.args...)...)
			p.exits(t, 0, 10*time.Second)
			if n := strings.Count(p.err.String(), "fewer peers"); n != tt.warnings {
				t.Errorf("%d warnings, want %d: %s", n, tt.warnings, p.err.String())
			}
		})
	}
}
