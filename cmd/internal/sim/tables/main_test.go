package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		rows []string // nil means that the flags are refused
	}{
		{"-run ^crowd", []string{"crowd-10", "crowd-100", "crowd-1000"}},
		{"-run -(10|12)$", []string{"crowd-10", "slow-lines-10", "office-12"}},
		{"-run ^crowd -n 7", []string{"crowd-7"}},
		{"-run crowd-100$ -n 7", []string{"crowd-7"}},
		{"-run ^nothing$", []string{}},
		{"-replay -2", nil},
		{"-o /there/is/no/such", nil},
		{"-run (", nil},
		{"-seeds 0", nil},
		{"-n -1", nil},
		{"crowd-10", nil},
	} {
		o, err := parse(strings.Fields(tt.args))
		if err != nil {
			if tt.rows != nil {
				t.Errorf("%s: %v", tt.args, err)
			}
			continue
		}
		var names []string
		for _, row := range o.rows() {
			names = append(names, row.String())
		}
		if got, want := strings.Join(names, " "), strings.Join(tt.rows, " "); tt.rows == nil || got != want {
			t.Errorf("%s: rows %q, want %q", tt.args, got, want)
		}
	}
}

// run plays with flags and returns what is printed.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	o, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = play(o, &out)
	return out.String(), err
}

func TestTables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	out, err := run(t, "-run", "crowd", "-n", "2", "-seeds", "2", "-commit", "abc1234", "-o", file)
	if err != nil && !strings.Contains(err.Error(), "-replay") {
		t.Errorf("a failure that does not say how to see it again: %v", err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != out {
		t.Error("what is written is not what is printed")
	}
	for _, want := range []string{"commit abc1234, by\n\n    go run ./cmd/internal/sim/tables -n='2' -run='crowd' -seeds='2'\n", "## crowd-2\n", "| efficiency | at least 0.85 | 0.", "| 90 % |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestAReplayShowsEveryDecision(t *testing.T) {
	out, err := run(t, "-run", "crowd", "-n", "2", "-replay", "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"peer 0 sends block ", " says request block ", " stores block ", " says have ", " says unchoke to peer ", " has everything",
		"crowd-2 with seed 1: trace ", "\nefficiency: 0.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what was printed", want)
		}
	}
	again, err := run(t, "-run", "crowd", "-n", "2", "-replay", "1")
	if err != nil || again != out {
		t.Errorf("another time it is something else (%v)", err)
	}
}

func TestNoSuchRow(t *testing.T) {
	if _, err := run(t, "-run", "^nothing$"); err == nil {
		t.Error("no error")
	}
}
