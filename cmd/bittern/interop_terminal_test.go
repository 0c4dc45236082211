//go:build linux

package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A terminal is a window of tmux with a command in it.
type terminal struct {
	socket string
}

// newTerminal starts argv in a window of that size.
func newTerminal(t *testing.T, columns int, argv ...string) *terminal {
	t.Helper()
	w := &terminal{filepath.Join(t.TempDir(), "tmux")}
	w.tmux(t, append([]string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", "20",
		";", "set-option", "remain-on-exit", "on", ";", "respawn-window", "-k"}, quoted(argv))...)
	t.Cleanup(func() { exec.Command("tmux", "-S", w.socket, "kill-server").Run() }) // it may be gone
	return w
}

// quoted is a command line for the shell that tmux runs.
func quoted(argv []string) string {
	var parts []string
	for _, a := range argv {
		parts = append(parts, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
	}
	return strings.Join(parts, " ")
}

func (w *terminal) tmux(t *testing.T, args ...string) string {
	t.Helper()
	return succeeds(t, append([]string{"tmux", "-S", w.socket}, args...)...)
}

// rows is what the window shows, blank rows left out.
func (w *terminal) rows(t *testing.T) []string {
	t.Helper()
	var rows []string
	for row := range strings.SplitSeq(w.tmux(t, "capture-pane", "-p"), "\n") {
		if strings.TrimSpace(row) != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

var percent = regexp.MustCompile(`\b(\d{1,3}) ?%`)

// clean waits until the window shows a bar at a percentage, and fails unless it then is one row of
// the window's width and there is no trace of another.
func (w *terminal) clean(t *testing.T, columns, at int) {
	t.Helper()
	var rows []string
	want := fmt.Sprint(at)
	await(t, 10*time.Second, "a bar at "+want+" %", func() bool {
		rows = w.rows(t)
		for _, row := range rows {
			if m := percent.FindStringSubmatch(row); m != nil && m[1] == want {
				return true
			}
		}
		return false
	})
	bars := 0
	for _, row := range rows {
		if percent.MatchString(row) {
			bars++
		}
		if n := utf8.RuneCountInString(row); n > columns {
			t.Errorf("a row of %d columns", n)
		}
	}
	if bars != 1 || len(rows) != 1 {
		t.Errorf("%d rows of a bar in\n%s", bars, strings.Join(rows, "\n"))
	}
}

// TestInteropTerminal: on a terminal the bar is one clean row at 80 and at 40 columns and after a
// resize either way, and leaves the result and no ruins.
func TestInteropTerminal(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, tt := range []struct{ first, then int }{{80, 40}, {40, 80}} {
		t.Run(fmt.Sprintf("%d then %d columns", tt.first, tt.then), func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 25*mib, 256*kib)
			p := newPeer(t, x, newHost(), script{quota: x.blocks() / 4})
			dir := t.TempDir()
			w := newTerminal(t, tt.first, bittern(t), "get", x.torrent(t), "-d", dir, "--peer", p.addr.String())
			w.clean(t, tt.first, 25)
			w.tmux(t, "resize-window", "-x", fmt.Sprint(tt.then), "-y", "20")
			p.allow(x.blocks() / 4)
			w.clean(t, tt.then, 50)
			p.allow(x.blocks() / 4)
			w.clean(t, tt.then, 75)
			p.release()
			await(t, 20*time.Second, "the end", func() bool { return strings.Contains(w.tmux(t, "capture-pane", "-p"), "Pane is dead") })
			x.isAloneIn(t, dir)
			all := strings.Join(w.rows(t), "")
			if !strings.Contains(all, filepath.Base(dir)+"/payload") {
				t.Errorf("the path is not there: %q", all)
			}
		})
	}
}
