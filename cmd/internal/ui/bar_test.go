package ui

import (
	"strings"
	"testing"
	"time"
)

func TestBarLine(t *testing.T) {
	busy := Snapshot{
		State: "downloading", Done: 27 << 20, Total: 64 << 20, DownRate: 12 << 20, UpRate: 300 << 10,
		Peers: 5, Seeds: 2, ETA: 3 * time.Second,
	}
	for _, tt := range []struct {
		name  string
		s     Snapshot
		width int
		want  string
	}{
		{"80 columns", busy, 79,
			"downloading  42% [==>      ] 27/64 MiB  12 MiB/s  up 300 KiB/s  5 peers  ETA 3s"},
		{"120 columns", busy, 119,
			"downloading  42% [===============>                        ] 27/64 MiB  12 MiB/s  up 300 KiB/s  5 peers  ETA 3s"},
		{"40 columns", busy, 39, "downloading  42% [>  ] 12 MiB/s  ETA 3s"},
		{"20 columns", busy, 19, " 42% downloading"},
		{"3 columns", busy, 3, " 42"},
		{"nothing done", Snapshot{State: "checking", Total: 10, Peers: -1}, 39, "checking   0% [                ] 0/10 B"},
		{"all done", Snapshot{State: "checking", Done: 10, Total: 10, Peers: -1}, 39, "checking 100% [===============] 10/10 B"},
		{"more than all", Snapshot{State: "checking", Done: 20, Total: 10, Peers: -1}, 39, "checking 100% [===============] 20/10 B"},
		{"total unknown", Snapshot{State: "connecting", Peers: 0, Note: "no peers yet"}, 79, "connecting 0 peers  no peers yet"},
		{"seeding", Snapshot{State: "seeding", Seeding: true, Peers: 1}, 79, "seeding up 0 B/s  1 peer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := barLine(tt.s, tt.width)
			if len(got) > tt.width {
				t.Errorf("%d columns, want at most %d", len(got), tt.width)
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestBarLineFits is the law behind the table: whatever the figures, a line fits and is one line of ASCII.
func TestBarLineFits(t *testing.T) {
	for width := range 200 {
		for _, total := range []int64{0, 1, 999, 1 << 20, 1<<63 - 1} {
			for _, part := range []int64{0, 3, 2, 1} {
				s := Snapshot{
					State: "downloading", Total: total, DownRate: total, UpRate: total / 3, Peers: 80,
					ETA: time.Duration(total), Note: "naïve\x1b[2J",
				}
				if part > 0 {
					s.Done = total / part
				}
				got := barLine(s, width)
				if len(got) > width || !isASCII(got) {
					t.Fatalf("width %d, %d of %d: %q has %d columns", width, s.Done, total, got, len(got))
				}
			}
		}
	}
}

func TestPlainLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Snapshot
		want string
	}{
		{"all figures", Snapshot{State: "downloading", Done: 1 << 20, Total: 3 << 20, DownRate: 2048, UpRate: 1024,
			Peers: 2, Seeds: 1, ETA: time.Hour, Note: "slow"},
			"downloading 33% (1.0 MiB of 3.0 MiB), down 2.0 KiB/s, up 1.0 KiB/s, 2 peers (1 seed), ETA 1h00m, slow"},
		{"no network", Snapshot{State: "hashing", Done: 1, Total: 1000, Peers: -1}, "hashing 0% (1 B of 1000 B)"},
		{"seeding", Snapshot{State: "seeding", Seeding: true}, "seeding, up 0 B/s, 0 peers"},
		{"almost is not 100", Snapshot{State: "x", Done: 999, Total: 1000, Peers: -1}, "x 99% (999 B of 1000 B)"},
	} {
		if got := plainLine(tt.s); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Size(0), "0 B"}, {Size(-1), "0 B"}, {Size(1023), "1023 B"}, {Size(1536), "1.5 KiB"}, {Size(1 << 30), "1.0 GiB"},
		{Rate(64 << 20), "64 MiB/s"},
		{sizes(512, 64<<20), "512 B/64 MiB"}, {sizes(12<<20, 64<<20), "12/64 MiB"},
		{Duration(0), "0s"}, {Duration(59400 * time.Millisecond), "59s"}, {Duration(65 * time.Second), "1m05s"},
		{Duration(2*time.Hour + 3*time.Minute), "2h03m"}, {Duration(74 * time.Hour), "3d02h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if strings.Contains(Size(1<<62), "-") {
		t.Errorf("4 EiB shown as %q", Size(1<<62))
	}
}
