//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFaultAgainWhenComplete: what is complete is checked, not fetched; nothing is touched.
func TestFaultAgainWhenComplete(t *testing.T) {
	t.Parallel()
	x := newFolder("album", 64*kib, file{"one", 300_000}, file{"deep/two", 100_000}, file{"empty", 0})
	dir := t.TempDir()
	p := newPeer(t, x, "127.0.0.1", script{})
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
	run(t, args...).exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
	before, met := states(t, dir), p.met()
	again := run(t, args...)
	again.exits(t, 0, 5*time.Second)
	if got, want := strings.TrimSpace(again.out.String()), filepath.Join(dir, "album"); got != want {
		t.Errorf("stdout says %q, want %q", got, want)
	}
	if after := states(t, dir); after != before {
		t.Errorf("was\n%snow\n%s", before, after)
	}
	if p.met() != met {
		t.Error("a peer was bothered")
	}
}

// states lists what is below dir, the files with sizes, modes and times.
func states(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprint(&b, path, " ", info.Mode())
		if !e.IsDir() { // a folder's time changes with a lock that comes and goes
			fmt.Fprint(&b, " ", info.Size(), " ", info.ModTime())
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFaultInTheWay: something foreign at a final name is exit 7, named, and left as it was.
func TestFaultInTheWay(t *testing.T) {
	x := newFolder("album", 64*kib, file{"one", 300_000}, file{"deep/two", 100_000})
	for _, tt := range []struct {
		name string
		lay  func(t *testing.T, dir, outside string)
	}{
		{"a file of another size", func(t *testing.T, dir, _ string) { write(t, "mine", dir, "album", "one") }},
		{"a file of the same size", func(t *testing.T, dir, _ string) {
			write(t, strings.Repeat("m", 300_000), dir, "album", "one")
		}},
		{"a folder where a file goes", func(t *testing.T, dir, _ string) { write(t, "mine", dir, "album", "one", "mine") }},
		{"a file where a folder goes", func(t *testing.T, dir, _ string) { write(t, "mine", dir, "album", "deep") }},
		{"a link where a file goes", func(t *testing.T, dir, outside string) {
			write(t, "mine", outside, "mine")
			symlink(t, filepath.Join(outside, "mine"), dir, "album", "one")
		}},
		{"a link to nowhere", func(t *testing.T, dir, outside string) {
			symlink(t, filepath.Join(outside, "nothing"), dir, "album", "one")
		}},
		{"a link where a folder goes", func(t *testing.T, dir, outside string) { symlink(t, outside, dir, "album", "deep") }},
		{"a link where the root folder goes", func(t *testing.T, dir, outside string) { symlink(t, outside, dir, "album") }},
		{"a link where the unfinished file goes", func(t *testing.T, dir, outside string) {
			write(t, "mine", outside, "mine")
			symlink(t, filepath.Join(outside, "mine"), dir, "album", "one.part")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, outside := t.TempDir(), t.TempDir()
			tt.lay(t, dir, outside)
			before := states(t, outside)
			was := states(t, dir)
			p := newPeer(t, x, "127.0.0.1", script{})
			get := run(t, "get", x.torrent(t), "-d", dir, "--peer", p.addr.String())
			get.exits(t, 7, 20*time.Second)
			if s := get.err.String(); !strings.Contains(s, "album") {
				t.Errorf("stderr does not name the path: %q", s)
			}
			if after := states(t, outside); after != before {
				t.Errorf("outside was\n%snow\n%s", before, after)
			}
			if after := states(t, dir); after != was {
				t.Errorf("inside was\n%snow\n%s", was, after)
			}
		})
	}
}

// write makes a file and the folders above it.
func write(t *testing.T, text string, path ...string) {
	t.Helper()
	at := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// symlink makes a symbolic link to a target and the folders above it.
func symlink(t *testing.T, target string, path ...string) {
	t.Helper()
	at := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}

// TestFaultNobody: where no peer ever completes a handshake the exit status is 4, whichever limit
// ends it; where one did and nothing came it is 5.
func TestFaultNobody(t *testing.T) {
	x := newFixture("payload", mib, 64*kib)
	mute := script{serve: func(l *link, _ block) error { <-l.done; return errLeave }}
	for _, tt := range []struct {
		name  string
		limit string
		other func(t *testing.T) []string // the flags that name the other end
		code  int
	}{
		{"no source at all", "--stall-timeout", func(*testing.T) []string { return []string{"--no-trackers"} }, 4},
		{"a tracker without peers", "--stall-timeout", func(t *testing.T) []string { return []string{"-t", newTracker(t).url} }, 4},
		{"a tracker without peers", "--max-time", func(t *testing.T) []string { return []string{"-t", newTracker(t).url} }, 4},
		{"a peer that refuses", "--stall-timeout", func(*testing.T) []string { return []string{"--peer", "127.0.0.1:1"} }, 4},
		{"a peer that says nothing", "--stall-timeout", func(t *testing.T) []string { return []string{"--peer", deaf(t)} }, 4},
		{"a peer that says nothing", "--max-time", func(t *testing.T) []string { return []string{"--peer", deaf(t)} }, 4},
		{"a silent peer", "--stall-timeout", func(t *testing.T) []string { return []string{"--peer", newPeer(t, x, "127.0.0.1", mute).addr.String()} }, 5},
		{"a silent peer", "--max-time", func(t *testing.T) []string { return []string{"--peer", newPeer(t, x, "127.0.0.1", mute).addr.String()} }, 5},
		{"a peer that has nothing", "--stall-timeout", func(t *testing.T) []string { return []string{"--peer", newWitness(t, x, "127.0.0.1").addr.String()} }, 5},
	} {
		t.Run(tt.name+", "+tt.limit, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			get := run(t, append([]string{"get", x.torrent(t), "-d", dir, tt.limit, "1s"}, tt.other(t)...)...)
			get.exits(t, tt.code, 10*time.Second)
			if s := get.err.String(); !strings.HasPrefix(lastLine(s), "bittern: ") {
				t.Errorf("the last line of stderr is %q", lastLine(s))
			}
			absent(t, dir, "payload")
		})
	}
}

// deaf is the address of somebody who takes connections and never says a word.
func deaf(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the backlog takes the calls
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// TestFaultTwoOnOneTarget: the second of two commands on one target refuses, and the first is none
// the worse for it.
func TestFaultTwoOnOneTarget(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 2*mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{quota: 8})
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
	first := run(t, args...)
	await(t, 10*time.Second, "some blocks", func() bool { return p.blocksServed() == 8 })
	second := run(t, args...)
	if code := second.wait(t, 5*time.Second); code == 0 {
		t.Error("the second says that it is complete")
	}
	if first.ended() {
		t.Fatal("the first has ended")
	}
	p.release()
	first.exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
}

// TestFaultNoEscapeCodes: off a terminal the output has no escape codes and no carriage returns.
func TestFaultNoEscapeCodes(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	get := run(t, "get", x.torrent(t), "-d", t.TempDir(), "--peer", p.addr.String())
	get.exits(t, 0, 20*time.Second)
	for _, s := range []string{get.out.String(), get.err.String()} {
		if i := bytes.IndexAny([]byte(s), "\x1b\r\b"); i >= 0 {
			t.Errorf("control character at %d of %q", i, s)
		}
	}
}
