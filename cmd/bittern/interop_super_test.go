//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInteropSuperSeed: real clients that are shown a piece at a time (BEP 16) get everything, most of it from each other.
func TestInteropSuperSeed(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, tt := range []struct {
		name    string
		clients []client
		args    []string
		most    float64 // copies sent
	}{
		{"aria2c", []client{aria2, aria2, aria2}, []string{"--super-seed"}, 1.3},
		{"libtorrent", []client{libtorrent, libtorrent, libtorrent}, []string{"--super-seed"}, 1.3},
		// Those that come when a copy is nearly out are served by a seed like any other.
		{"both, by itself", []client{libtorrent, aria2, libtorrent, aria2}, nil, 1.8},
	} {
		t.Run("to "+tt.name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			s := newSuperSource(t, append(tt.args, "--max-upload", "2M", "--until-copies", "3", "--json", "--log", log)...)
			var leechers []*share
			var dirs []string
			for _, c := range tt.clients {
				dirs = append(dirs, t.TempDir())
				leechers = append(leechers, c.share(t, newHost(), s.torrent, dirs[len(dirs)-1]))
			}
			for i, l := range leechers {
				l.completes(t, 40*time.Second)
				s.x.isIn(t, dirs[i])
			}
			s.seed.exits(t, 0, 20*time.Second)
			copies := float64(s.seed.uploaded(t)) / float64(len(s.x.data))
			t.Logf("%.2f copies sent to %d clients", copies, len(leechers))
			if copies > tt.most {
				t.Errorf("%.2f copies sent", copies)
			}
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "super-seeding begins") {
				t.Error("the log does not say that super-seeding begins")
			}
		})
	}
}

// newSuperSource is a seed of enough pieces for each to be shown to somebody.
func newSuperSource(t *testing.T, args ...string) *soleSource {
	t.Helper()
	return newSourceOf(t, newFixture("super", 8*mib, 64*kib), args...)
}

// uploaded returns what the last event of a seed says was sent, in bytes.
func (p *process) uploaded(t *testing.T) int64 {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	var last struct{ Uploaded int64 }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	return last.Uploaded
}

// TestInteropSuperSeeded: the command gets everything from libtorrent as a super-seed, with others and alone.
func TestInteropSuperSeeded(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, n := range []int{1, 3} {
		t.Run(strings.Repeat("bittern ", n), func(t *testing.T) {
			t.Parallel()
			x := newFixture("super", 256*kib, 64*kib) // it shows who passes nothing on two pieces every two seconds
			at, url := httpTracker.open(t)
			torrent, from := x.torrent(t, url), t.TempDir()
			startOpentracker(t, at, x.hash)
			x.lay(t, from)
			seed := libtorrentSuper.share(t, newHost(), torrent, from)
			seed.completes(t, 20*time.Second)
			var gets []*process
			var dirs []string
			for range n {
				dirs = append(dirs, t.TempDir())
				gets = append(gets, run(t, "get", torrent, "-d", dirs[len(dirs)-1], "--interface", newHost(), "--peer", seed.job.at.String()))
			}
			for i, get := range gets {
				get.exits(t, 0, 40*time.Second)
				x.isIn(t, dirs[i])
			}
		})
	}
}

// libtorrentSuper is libtorrent as a super-seed.
var libtorrentSuper = client{"libtorrent", "python3", func(t *testing.T, j job) command {
	cmd := libtorrent.launch(t, j)
	cmd.env = append(cmd.env, "SUPER=true")
	return cmd
}, libtorrent.complete}
