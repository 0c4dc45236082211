package storage

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bittern/piece"
)

func (r *rig) check() Report {
	r.t.Helper()
	cfg := r.cfg
	cfg.FS = r.raw()
	var last int64
	cfg.Progress = func(done, total int64) {
		if done <= last || total != r.cfg.Layout.Total() {
			r.t.Errorf("progress from %d to %d", last, done)
		}
		last = done
	}
	before := r.tree()
	rep, err := Check(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatalf("Check: %v", err)
	}
	if last != r.cfg.Layout.Total() {
		r.t.Errorf("progress ended at %d of %d bytes", last, r.cfg.Layout.Total())
	}
	if after := r.tree(); !slices.Equal(before, after) {
		r.t.Errorf("Check changed %q to %q", before, after)
	}
	return rep
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(r *rig)
		status string // of a, b, c and e
		ok     int    // pieces, of 7
	}{
		{"whole", func(*rig) {}, "ok ok ok ok", 7},
		{"missing", func(r *rig) { r.remove("T/c") }, "ok ok missing ok", 3},
		{"empty one missing", func(r *rig) { r.remove("T/e") }, "ok ok ok missing", 7},
		{"corrupt", func(r *rig) { r.poke("T/c", 199*kib) }, "ok ok corrupt ok", 6},
		{"corrupt where it is shared", func(r *rig) { r.poke("T/b", 1) }, "corrupt corrupt corrupt ok", 6},
		{"short", func(r *rig) { r.truncate("T/a", 100*kib) }, "short ok ok ok", 4},
		{"long", func(r *rig) { r.truncate("T/a", 201*kib) }, "long ok ok ok", 7},
		{"empty one long", func(r *rig) { r.put("T/e", []byte("x")) }, "ok ok ok long", 7},
		{"folder in its place", func(r *rig) { r.remove("T/b"); r.mkdir("T/b") }, "ok missing ok ok", 6},
		{"only the part", func(r *rig) { r.put("T/a.part", r.content(0)); r.remove("T/a") }, "missing ok ok ok", 3},
		{"all missing", func(r *rig) { r.remove("T/a"); r.remove("T/b"); r.remove("T/c"); r.remove("T/e") }, "missing missing missing missing", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib, sharing()...)
				for i := range r.cfg.Files {
					r.put(r.cfg.Files[i].Path, r.content(i))
				}
				tt.damage(r)
				rep := r.check()
				if got := strings.Trim(fmt.Sprint(rep.Files), "[]"); got != tt.status || rep.PiecesOK != tt.ok || rep.Pieces != 7 {
					t.Errorf("%s, %d of %d pieces; want %s, %d", got, rep.PiecesOK, rep.Pieces, tt.status, tt.ok)
				}
				if want := tt.name == "whole"; rep.Complete != want {
					t.Errorf("Complete = %v", rep.Complete)
				}
			})
		})
	}
}

func (r *rig) remove(name string) {
	r.t.Helper()
	if err := r.raw().Remove(name); err != nil {
		r.t.Fatal(err)
	}
}

// TestCheckSelected: the side file proves what a partial download ends with.
func TestCheckSelected(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		s := r.open(wanting(0))
		r.complete(s)
		r.close(s)
		if rep := r.check(); rep.PiecesOK != 4 || rep.Files[0] != OK || rep.Files[1] != Missing || rep.Complete {
			t.Errorf("%+v, want 4 pieces, the last one by the side file", rep)
		}
	})
}

func TestCheckLink(t *testing.T) {
	r := newRig(t, "disk", 64*kib, sharing()...)
	r.put("U", r.content(1))
	r.mkdir("T")
	r.link("../U", "T/b")
	if rep := r.check(); rep.Files[1] != Missing {
		t.Errorf("a symbolic link is %v, want missing", rep.Files[1])
	}
}

// TestReadOnly: a store that only reads has what is good, serves it, and leaves no trace.
func TestReadOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		for i := range r.cfg.Files {
			r.put(r.cfg.Files[i].Path, r.content(i))
		}
		whole := r.open(func(c *Config) { c.ReadOnly = true })
		if !whole.Complete() || !whole.Have().Full() {
			t.Error("not complete")
		}
		r.close(whole)
		r.poke("T/a", 0)
		r.truncate("T/c", 150*kib)
		before := r.tree()
		var progress int64
		s := r.open(func(c *Config) {
			c.ReadOnly = true
			c.Progress = func(done, total int64) { progress = done - total + done }
		})
		have := s.Have()
		if got := slices.Collect(have.All()); !slices.Equal(got, []int{1, 2, 3, 4}) || s.Complete() {
			t.Errorf("have %v, complete %v", got, s.Complete())
		}
		if progress == 0 || progress != s.Stats().Checked {
			t.Errorf("progress ended at %d of %d bytes", progress, s.Stats().Checked)
		}
		buf := &testBuffer{make([]byte, 64*kib), &r.held}
		s.Read(ReadJob{Piece: 3, Length: 64 * kib, Buf: buf})
		if ev := r.evs.want(t, ReadDone, nil); ev.Err != nil || string(buf.data) != string(r.piece(3)) {
			t.Errorf("wrong content, or %v", ev.Err)
		}
		r.close(s)
		if after := r.tree(); !slices.Equal(before, after) {
			t.Errorf("changed %q to %q", before, after)
		}
	})
}

// TestCheckFolderThatFails: a folder that cannot be looked at is an error. Nobody shall be told to
// fetch what is there.
func TestCheckFolderThatFails(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/d/a", 100*kib))
		r.put("T/d/a", r.content(0))
		cfg := r.cfg
		cfg.FS = &faultFS{FS: r.raw(), fault: failOn("lstat", "T/d", syscall.EIO)}
		if rep, err := Check(t.Context(), cfg); !errors.Is(err, syscall.EIO) {
			t.Errorf("Check: %+v, %v", rep, err)
		}
		_, err := r.tryOpen(func(c *Config) {
			c.ReadOnly, c.FS = true, &faultFS{FS: r.raw(), fault: failOn("lstat", "T/d", syscall.EIO)}
		})
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("Open: %v", err)
		}
	})
}

func TestReadOnlyNeedsItsFolder(t *testing.T) {
	r := newRig(t, "disk", 64*kib, sharing()...)
	dir := filepath.Join(r.dir, "none")
	_, err := r.tryOpen(func(c *Config) { c.ReadOnly, c.FS, c.Dir = true, nil, dir })
	if !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("Open: %v", err)
	}
	r.wantNames()
}

// TestHuge: 6 GiB of holes take no time and are not read; the zeros of the last piece and of
// one in the middle count.
func TestHuge(t *testing.T) {
	const total, pl = 6<<30 + 5, 16 << 20
	layout, err := piece.NewLayout(total, pl)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: t.TempDir(), Layout: layout, Name: "huge", Files: []File{file("huge", total)}}
	zero, last := sha1.Sum(make([]byte, pl)), sha1.Sum(make([]byte, 5))
	for range layout.Pieces() - 1 {
		cfg.Sums = append(cfg.Sums, zero[:]...)
	}
	cfg.Sums = append(cfg.Sums, last[:]...)
	name := filepath.Join(cfg.Dir, "huge")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, total); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	rep, err := Check(t.Context(), cfg)
	if err != nil || !rep.Complete {
		t.Errorf("%d of %d pieces, %v", rep.PiecesOK, rep.Pieces, err)
	}
	if d := time.Since(start); seekData >= 0 && d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 3<<30); err != nil {
		t.Fatal(err)
	}
	if rep, err = Check(t.Context(), cfg); err != nil || rep.PiecesOK != rep.Pieces-1 {
		t.Errorf("with a byte changed: %d of %d pieces, %v", rep.PiecesOK, rep.Pieces, err)
	}
}

func TestHashPieces(t *testing.T) {
	for _, pl := range []int64{16 * kib, 50_000, 300 * kib, 8192 * kib} {
		for _, workers := range []int{0, 1, 5} {
			r := newRig(t, "disk", pl, mixed()...)
			for i, f := range r.cfg.Files {
				if !f.Pad {
					r.put(f.Path, r.content(i))
				}
			}
			var mu sync.Mutex
			sums := make([]byte, len(r.cfg.Sums))
			calls := 0
			err := HashPieces(t.Context(), r.dir, r.cfg.Files, r.cfg.Layout, workers, func(i int, sum [20]byte) {
				if !mu.TryLock() {
					t.Error("called concurrently")
					return
				}
				defer mu.Unlock()
				calls++
				copy(sums[20*i:], sum[:])
			})
			if err != nil || calls != r.cfg.Layout.Pieces() || string(sums) != string(r.cfg.Sums) {
				t.Errorf("pieces of %d: %d calls, %v, or wrong sums", pl, calls, err)
			}
		}
	}
}

func TestHashPiecesErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(r *rig)
	}{
		{"missing", func(r *rig) { r.remove("T/c") }},
		{"short", func(r *rig) { r.truncate("T/c", 100*kib) }},
		{"folder", func(r *rig) { r.remove("T/c"); r.mkdir("T/c") }},
		{"link out", func(r *rig) { r.remove("T/c"); r.link("/dev/zero", "T/c") }},
	} {
		r := newRig(t, "disk", 64*kib, sharing()...)
		for i := range r.cfg.Files {
			r.put(r.cfg.Files[i].Path, r.content(i))
		}
		tt.damage(r)
		if err := HashPieces(t.Context(), r.dir, r.cfg.Files, r.cfg.Layout, 2, func(int, [20]byte) {}); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if err := HashPieces(t.Context(), filepath.Join(t.TempDir(), "none"), nil, piece.Layout{}, 1, nil); err == nil {
		t.Error("no folder: no error")
	}
}

func TestHashPiecesEndsWithContext(t *testing.T) {
	r := newRig(t, "disk", 16*kib, sharing()...)
	for i := range r.cfg.Files {
		r.put(r.cfg.Files[i].Path, r.content(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := HashPieces(ctx, r.dir, r.cfg.Files, r.cfg.Layout, 2, func(int, [20]byte) {
		calls++
		cancel()
	})
	if err == nil || calls == r.cfg.Layout.Pieces() {
		t.Errorf("went on for %d pieces after the end: %v", calls, err)
	}
}
