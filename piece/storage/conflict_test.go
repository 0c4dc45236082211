package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// three files: a and c have pieces of their own, b only shares.
func sharing() []File {
	return []File{file("T/a", 200*kib), file("T/b", 10*kib), file("T/c", 200*kib), file("T/e", 0)}
}

// TestConflict: what stands in the way is told by its path, and nothing is changed.
func TestConflict(t *testing.T) {
	for _, tt := range []struct {
		name     string
		disk     bool // needs a real disk
		put      func(r *rig)
		path     string // of the conflict
		adoptive bool   // Overwrite gets over it
	}{
		{"longer", false, func(r *rig) { r.put("T/a", make([]byte, 200*kib+1)) }, "T/a", true},
		{"shorter", false, func(r *rig) { r.put("T/c", []byte("mine")) }, "T/c", true},
		{"piece of its own differs", false, func(r *rig) {
			r.put("T/a", r.content(0))
			r.poke("T/a", 70*kib)
		}, "T/a", true},
		{"empty file that is not", false, func(r *rig) { r.put("T/e", []byte("x")) }, "T/e", true},
		{"folder", false, func(r *rig) { r.mkdir("T/b") }, "T/b", false},
		{"folder for the part", false, func(r *rig) { r.mkdir("T/b.part") }, "T/b.part", false},
		{"file for a folder", false, func(r *rig) { r.put("T", []byte("mine")) }, "T", false},
		{"link", true, func(r *rig) { r.mkdir("T"); r.link("../x", "T/b") }, "T/b", false},
		{"link for the part", true, func(r *rig) { r.mkdir("T"); r.link("x", "T/c.part") }, "T/c.part", false},
		{"link for a folder", true, func(r *rig) { r.mkdir("U"); r.link("U", "T") }, "T", false},
		{"link out for a folder", true, func(r *rig) { r.link("/", "T") }, "T", false},
		{"link for the side file", true, func(r *rig) { r.link("x", ".T.bittern-side") }, ".T.bittern-side", false},
		{"link for the record", true, func(r *rig) { r.link("x", ".T.bittern-resume") }, ".T.bittern-resume", false},
		{"link for the lock", true, func(r *rig) { r.link("x", ".T.bittern-lock") }, ".T.bittern-lock", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				if tt.disk && kind != "disk" {
					return
				}
				r := newRig(t, kind, 64*kib, sharing()...)
				tt.put(r)
				before := r.tree()
				_, err := r.tryOpen(nil)
				var conflict *ConflictError
				if !errors.As(err, &conflict) || conflict.Path != filepath.Join(r.dir, tt.path) || conflict.Reason == "" {
					t.Errorf("Open: %v, want a conflict at %s", err, tt.path)
				}
				if after := r.tree(); !slices.Equal(before, after) {
					t.Errorf("changed from %q to %q", before, after)
				}
				if !tt.adoptive {
					if _, err := r.tryOpen(func(c *Config) { c.Overwrite = true }); !errors.As(err, &conflict) {
						t.Errorf("Open with Overwrite: %v, want a conflict", err)
					}
					return
				}
				s := r.open(func(c *Config) { c.Overwrite = true })
				r.complete(s)
				r.close(s)
				r.wantContent(0, 1, 2, 3)
				r.wantNames("T/a", "T/b", "T/c", "T/e")
			})
		})
	}
}

func (r *rig) link(to, name string) {
	r.t.Helper()
	if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
		r.t.Fatal(err)
	}
}

// TestLinkedTarget: the target folder itself may be a symbolic link.
func TestLinkedTarget(t *testing.T) {
	r := newRig(t, "disk", 64*kib, sharing()...)
	r.link(".", "here")
	s := r.open(func(c *Config) { c.FS, c.Dir = nil, filepath.Join(r.dir, "here", "made") })
	r.complete(s)
	r.close(s)
	if _, err := os.Stat(filepath.Join(r.dir, "made", "T", "a")); err != nil {
		t.Error(err)
	}
}

// TestOverwriteKeepsGoodPieces: only what is bad is fetched.
func TestOverwriteKeepsGoodPieces(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		for i := range 3 {
			r.put(r.cfg.Files[i].Path, r.content(i))
		}
		r.poke("T/a", 1)
		s := r.open(func(c *Config) { c.Overwrite = true })
		if got := r.rest(s); !slices.Equal(got, []int{0}) {
			t.Errorf("lacks pieces %v, want only 0", got)
		}
		if !slices.Contains(r.names(), "T/a.part") || slices.Contains(r.names(), "T/a") {
			t.Errorf("files %q: the bad one is not NAME.part", r.names())
		}
		r.complete(s)
		r.close(s)
		r.wantContent(0, 1, 2)
		r.wantNames("T/a", "T/b", "T/c", "T/e")
	})
}

// TestOverwriteBesidePart: a foreign file gives way to a download that was under way.
func TestOverwriteBesidePart(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, sharing()...)
		s := r.open(nil)
		r.giveAndWait(s, 0)
		r.kill(s)
		r.put("T/a", []byte("mine"))
		s = r.open(func(c *Config) { c.Overwrite = true })
		if have := s.Have(); !have.Has(0) {
			t.Error("what was there of NAME.part is lost")
		}
		r.complete(s)
		r.close(s)
		r.wantContent(0, 1, 2)
	})
}

// TestAdopt: a file that only shares pieces is compared once they are fetched. It is never
// written to.
func TestAdopt(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		for _, same := range []bool{true, false} {
			r := newRig(t, kind, 64*kib, sharing()...)
			r.put("T/b", r.content(1))
			if !same {
				r.poke("T/b", 9)
			}
			before := r.tree()
			s := r.open(nil)
			r.fs.set(failOn("write", "T/b", errors.New("written to")))
			r.give(s, r.rest(s)...)
			if same {
				r.evs.want(t, Complete, nil)
				r.close(s)
				r.wantContent(0, 1, 2)
				r.wantNames("T/a", "T/b", "T/c", "T/e")
				continue
			}
			var conflict *ConflictError
			ev := r.evs.want(t, Fault, nil)
			if !errors.As(ev.Err, &conflict) || !strings.HasSuffix(filepath.ToSlash(conflict.Path), "T/b") {
				t.Errorf("fault %v, want a conflict at T/b", ev.Err)
			}
			r.close(s)
			after := r.tree()
			for _, line := range before {
				if !slices.Contains(after, line) {
					t.Errorf("%s was changed", line)
				}
			}
		}
	})
}

// TestAppeared: what comes to a final name during the download is not replaced.
func TestAppeared(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 100*kib))
		s := r.open(nil)
		r.put("T/a", []byte("mine"))
		r.give(s, 0, 1)
		var conflict *ConflictError
		if ev := r.evs.want(t, Fault, nil); !errors.As(ev.Err, &conflict) {
			t.Errorf("fault %v, want a conflict", ev.Err)
		}
		r.close(s)
		if got := string(r.read("T/a")); got != "mine" {
			t.Errorf("the file holds %.10q", got)
		}
	})
}
