//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A terminal is a window of tmux with a command in it.
type terminal struct {
	socket string
	status string // the file that gets the exit code: tmux itself loses it at times
}

// newTerminal starts argv in a window of that size.
func newTerminal(t *testing.T, columns int, argv ...string) *terminal {
	t.Helper()
	dir := t.TempDir()
	w := &terminal{filepath.Join(dir, "tmux"), filepath.Join(dir, "status")}
	w.tmux(t, append([]string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", "20",
		";", "set-option", "remain-on-exit", "on", ";", "respawn-window", "-k"}, quoted(argv)+"; echo $? >"+w.status)...)
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

// exits waits until the command in the window has ended, and compares its exit code.
func (w *terminal) exits(t *testing.T, code int) {
	t.Helper()
	var status []byte
	await(t, 20*time.Second, "the end", func() bool {
		status, _ = os.ReadFile(w.status) // not there yet
		return len(status) > 0
	})
	if got := strings.TrimSpace(string(status)); got != strconv.Itoa(code) {
		t.Errorf("exit status %s, want %d; the window shows\n%s", got, code, strings.Join(w.rows(t), "\n"))
	}
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
			w := newTerminal(t, tt.first, bittern(t), "get", x.torrent(t), "-d", dir, "--no-dht", "--peer", p.addr.String())
			w.clean(t, tt.first, 25)
			w.tmux(t, "resize-window", "-x", fmt.Sprint(tt.then), "-y", "20")
			p.allow(x.blocks() / 4)
			w.clean(t, tt.then, 50)
			p.allow(x.blocks() / 4)
			w.clean(t, tt.then, 75)
			p.release()
			w.exits(t, 0)
			x.isAloneIn(t, dir)
			await(t, 5*time.Second, "the path in the window", func() bool {
				return strings.Contains(strings.Join(w.rows(t), ""), filepath.Base(dir)+"/payload")
			})
		})
	}
}
