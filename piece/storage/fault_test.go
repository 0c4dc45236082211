package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestFault: one event that names the path, nothing written after it, every buffer released,
// and the same command goes on once the cause is gone.
func TestFault(t *testing.T) {
	for _, tt := range []struct {
		op, on string
		err    error
	}{
		{"write", "T/b.part", syscall.ENOSPC},
		{"write", "T/a.part", syscall.EIO},
		{"write", "T/a.part", syscall.EFBIG},
		{"open", "T/b.part", syscall.EROFS},
		{"open", "T/a.part", syscall.EACCES},
		{"open", "T/b.part", syscall.ENAMETOOLONG},
		{"mkdir", "T", syscall.ENOSPC},
		{"rename", "T/b.part", syscall.EIO},
		{"lstat", "T/b.part", syscall.EIO},
	} {
		t.Run(fmt.Sprintf("%s of %s: %v", tt.op, tt.on, tt.err), func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib, file("T/a", 300*kib), file("T/b", 300*kib))
				s := r.open(func(c *Config) { c.Shards = 1 })
				if tt.op != "mkdir" {
					r.giveAndWait(s, 1)
				}
				if tt.on == "T/a.part" {
					s.tab.shrink(0)
				}
				r.fs.set(failOn(tt.op, tt.on, tt.err))
				r.give(s, r.rest(s)...)
				ev := r.evs.want(t, Fault, nil)
				var path *fs.PathError
				if !errors.Is(ev.Err, tt.err) || !errors.As(ev.Err, &path) || path.Path != filepath.Join(r.dir, filepath.FromSlash(tt.on)) {
					t.Errorf("fault %v, want %v with the path %s", ev.Err, tt.err, tt.on)
				}
				if strings.Count(ev.Err.Error(), filepath.Join(r.dir, filepath.FromSlash(tt.on))) != 1 {
					t.Errorf("%q does not name the path once", ev.Err)
				}
				good := s.Have()
				writes := r.fs.count("write")
				r.fs.set(nil)
				r.give(s, r.rest(s)...)
				r.close(s)
				if r.fs.count("write") > writes+1 { // the record
					t.Error("written to after a fault")
				}
				if n := r.evs.count(Fault); n > 1 {
					t.Errorf("%d faults", n)
				}
				s = r.open(nil)
				have := s.Have()
				for p := range good.All() {
					if !have.Has(p) {
						t.Errorf("piece %d was verified and is lost", p)
					}
				}
				r.complete(s)
				r.close(s)
				r.wantContent(0, 1)
				r.wantNames("T/a", "T/b")
			})
		})
	}
}

// TestTampered: what somebody does to a file under our hands is an error, not a success.
func TestTampered(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tamper func(r *rig)
	}{
		{"truncated", func(r *rig) { r.truncate("T/a.part", 5) }},
		{"emptied", func(r *rig) { r.truncate("T/a.part", 0) }},
		{"removed", func(r *rig) {
			if err := r.raw().Remove("T/a.part"); err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		for _, closed := range []bool{false, true} { // whether the store has the file open
			t.Run(fmt.Sprintf("%s, handle closed %v", tt.name, closed), func(t *testing.T) {
				onBoth(t, func(t *testing.T, kind string) {
					r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
					s := r.open(nil)
					r.giveAndWait(s, 0, 1, 2, 9)
					if closed {
						s.tab.shrink(0)
					}
					tt.tamper(r)
					r.give(s, r.rest(s)...)
					ev := r.evs.want(t, Fault, nil)
					var changed *ChangedError
					if !errors.As(ev.Err, &changed) && !errors.Is(ev.Err, fs.ErrNotExist) {
						t.Errorf("fault %v", ev.Err)
					}
					if !strings.Contains(filepath.ToSlash(ev.Err.Error()), "T/a.part") {
						t.Errorf("%q does not name the path", ev.Err)
					}
					_ = s.Close(t.Context()) // may complain about the same
					if slices.Contains(r.names(), "T/a") {
						t.Error("finished all the same")
					}
					if n := r.evs.count(Failed); n > 0 {
						t.Errorf("%d pieces are said to be bad, which is nobody's fault who sent them", n)
					}
					s = r.open(nil)
					r.complete(s)
					r.close(s)
					r.wantContent(0)
				})
			})
		}
	}
}

// TestGone: a file that is removed or replaced while it is open is noticed long before it is complete.
func TestGone(t *testing.T) {
	for _, replace := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced %v", replace), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, "memory", 64*kib, file("T/a", 640*kib))
				s := r.open(nil)
				r.giveAndWait(s, 0, 1)
				if err := r.raw().Remove("T/a.part"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(lookEvery) // on the bubble's clock
				if replace {
					r.put("T/a.part", make([]byte, 640*kib))
				}
				r.give(s, 2)
				ev := r.evs.want(t, Fault, nil)
				if changed, ok := errors.AsType[*ChangedError](ev.Err); !ok || !strings.HasSuffix(filepath.ToSlash(changed.Path), "T/a.part") {
					t.Errorf("fault %v", ev.Err)
				}
				_ = s.Close(t.Context()) // complains about the same
			})
		})
	}
}

// TestReplaced: a file of the right size that somebody put in place of the one we write to is not
// taken for it, neither when it is finished nor by a record.
func TestReplaced(t *testing.T) {
	for _, finish := range []bool{false, true} {
		t.Run(fmt.Sprintf("finished %v", finish), func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
				s := r.open(nil)
				r.giveAndWait(s, 0, 1, 2)
				r.put("other", make([]byte, 640*kib))
				if err := r.raw().Rename("other", "T/a.part"); err != nil {
					t.Fatal(err)
				}
				r.touch("T/a.part")
				if finish {
					r.give(s, r.rest(s)...)
					var changed *ChangedError
					if ev := r.evs.want(t, Fault, nil); !errors.As(ev.Err, &changed) {
						t.Errorf("fault %v", ev.Err)
					}
				}
				r.close(s)
				s = r.open(nil)
				if n := s.Have().Count(); n != 0 {
					t.Errorf("%d pieces of a foreign file are trusted", n)
				}
				r.complete(s)
				r.close(s)
				r.wantContent(0)
			})
		})
	}
}

// TestTamperedAfterFinish: a file that was finished before the others and is not all there any more
// when they are keeps the store from being complete.
func TestTamperedAfterFinish(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tamper func(r *rig)
	}{
		{"shorter", func(r *rig) { r.truncate("T/a", 5) }},
		{"longer", func(r *rig) { r.truncate("T/a", 200*kib) }},
		{"removed", func(r *rig) {
			if err := r.raw().Remove("T/a"); err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		for _, before := range []bool{false, true} { // whether it was there when the store was opened
			t.Run(fmt.Sprintf("%s, there before %v", tt.name, before), func(t *testing.T) {
				onBoth(t, func(t *testing.T, kind string) {
					r := newRig(t, kind, 64*kib, file("T/a", 128*kib), file("T/e", 0), file("T/b", 128*kib))
					if before {
						r.put("T/a", r.content(0))
					}
					s := r.open(nil)
					if !before {
						r.giveAndWait(s, 0, 1)
						r.evs.want(t, FileDone, nil)
					}
					tt.tamper(r)
					r.give(s, 2, 3)
					ev := r.evs.want(t, Fault, nil)
					var changed *ChangedError
					if !errors.As(ev.Err, &changed) && !errors.Is(ev.Err, fs.ErrNotExist) {
						t.Errorf("fault %v", ev.Err)
					}
					if !strings.Contains(filepath.ToSlash(ev.Err.Error()), "T/a") {
						t.Errorf("%q does not name the path", ev.Err)
					}
					_ = s.Close(t.Context()) // may complain about the same
					if s.Complete() || r.evs.count(Complete) != 0 {
						t.Error("complete all the same")
					}
					s = r.open(func(c *Config) { c.Overwrite = true }) // or what is left is in the way
					r.complete(s)
					r.close(s)
					r.wantContent(0, 1, 2)
				})
			})
		}
	}
}

// TestCloseFault: what a file system says only when a file is closed, and once, ends the store
// though the file was closed for want of handles, and no record vouches for it.
func TestCloseFault(t *testing.T) {
	for _, stop := range []bool{false, true} { // whether the store is closed before it writes again
		t.Run(fmt.Sprintf("stopped %v", stop), func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib, file("T/a", 640*kib), file("T/b", 64*kib))
				s := r.open(nil)
				r.giveAndWait(s, 0, 1)
				r.fs.set(failOn("close", "T/a.part", syscall.EDQUOT))
				s.tab.mu.Lock()
				s.tab.shrink(0)
				s.tab.mu.Unlock()
				r.fs.set(nil)
				if stop {
					if err := s.Close(t.Context()); !errors.Is(err, syscall.EDQUOT) {
						t.Errorf("Close: %v", err)
					}
				} else {
					r.give(s, r.rest(s)...)
					if ev := r.evs.want(t, Fault, nil); !errors.Is(ev.Err, syscall.EDQUOT) || !strings.Contains(filepath.ToSlash(ev.Err.Error()), "T/a.part") {
						t.Errorf("fault %v", ev.Err)
					}
					_ = s.Close(t.Context()) // complains about the same
				}
				if s.Complete() || slices.Contains(r.names(), ".T.bittern-resume") {
					t.Errorf("complete %v, or a record among %q", s.Complete(), r.names())
				}
				s = r.open(nil)
				r.complete(s)
				r.close(s)
				r.wantContent(0, 1)
			})
		})
	}
}

// TestReadFault: a reader that fails gives its buffer back, then tells the fault.
func TestReadFault(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
		s := r.open(nil)
		r.giveAndWait(s, 0, 1)
		r.truncate("T/a.part", 100)
		buf := &testBuffer{make([]byte, 64*kib), &r.held}
		s.Read(ReadJob{Piece: 1, Length: 64 * kib, Buf: buf, Tag: 77})
		ev := r.evs.want(t, ReadDone, nil)
		var changed *ChangedError
		if !errors.As(ev.Err, &changed) || ev.Read.Tag != 77 || ev.Read.Buf != buf {
			t.Errorf("answered by %+v", ev)
		}
		r.evs.want(t, Fault, nil)
		_ = s.Close(t.Context()) // complains about the same
	})
}

// TestRecordFault: a record that cannot be written is told by Close, and no half of it stays.
func TestRecordFault(t *testing.T) {
	for _, op := range []string{"open", "write", "sync", "rename"} {
		onBoth(t, func(t *testing.T, kind string) {
			r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
			s := r.open(nil)
			r.giveAndWait(s, 0, 1)
			r.fs.set(failOn(op, "bittern-resume.tmp", syscall.ENOSPC))
			if err := s.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s: Close: %v", op, err)
			}
			if slices.Contains(r.names(), ".T.bittern-resume") {
				t.Errorf("%s: a record is there", op)
			}
			s = r.open(nil)
			if n := s.Have().Count(); n != 2 {
				t.Errorf("%s: %d pieces, want 2", op, n)
			}
			r.complete(s)
			r.close(s)
			r.wantContent(0)
		})
	}
}

// TestFewHandles: with hardly any file descriptors everything still works, with few files open.
func TestFewHandles(t *testing.T) {
	for _, tt := range []struct{ config, system, want int }{
		{config: 3, system: 0, want: 8}, // 3 kept, and what 4 shards and readers use right then
		{config: 64, system: 4, want: 4},
		{config: 64, system: 2, want: 2},
	} {
		t.Run(fmt.Sprintf("configured %d, system %d", tt.config, tt.system), func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				var files []File
				for i := range 60 {
					files = append(files, file(fmt.Sprintf("T/%d/%d", i%7, i), int64(5000+i)))
				}
				r := newRig(t, kind, 32*kib, files...)
				s := r.open(func(c *Config) { c.OpenFiles, c.Shards = tt.config, 2 })
				r.fs.setLimit(tt.system)
				half := r.rest(s)
				r.giveAndWait(s, half[:len(half)/2]...)
				if r.fs.mostOpen() > tt.want {
					t.Errorf("%d files open at a time, want at most %d", r.fs.mostOpen(), tt.want)
				}
				r.close(s)
				s = r.open(nil)
				r.fs.setLimit(tt.system)
				r.complete(s)
				r.close(s)
				for i := range files {
					r.wantContent(i)
				}
			})
		})
	}
}

// TestRenameWaitsForHandles: a finished file gets its name though there is no file descriptor for
// that at first, and at the second try neither, because a peer was faster.
func TestRenameWaitsForHandles(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 128*kib))
	s := r.open(nil)
	tries := 0
	r.fs.set(func(op, _ string) error {
		if op == "rename" {
			if tries++; tries <= 3 {
				return syscall.EMFILE
			}
		}
		return nil
	})
	r.complete(s)
	r.fs.set(nil)
	r.close(s)
	r.wantContent(0)
}

// TestPanicWhileHashing: a bug met while the content is hashed comes back as an error, whether it is
// in a worker or in what is told to, and neither ends the process nor hangs it.
func TestPanicWhileHashing(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 6400*kib))
	r.put("T/a", r.content(0))
	inRead := func(op, name string) error {
		if op == "read" {
			panic("bug")
		}
		return nil
	}
	for _, tt := range []struct {
		name     string
		fault    func(op, name string) error
		progress func(done, total int64)
	}{
		{"in a worker", inRead, nil},
		{"in Progress", nil, func(int64, int64) { panic("bug") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edit := func(c *Config) {
				c.FS = &faultFS{FS: r.raw(), fault: tt.fault}
				c.Progress = tt.progress
			}
			_, err := r.tryOpen(edit)
			var bug *PanicError
			if !errors.As(err, &bug) || bug.Value != "bug" || len(bug.Stack) == 0 {
				t.Errorf("Open: %v", err)
			}
			cfg := r.cfg
			edit(&cfg)
			if _, err := Check(t.Context(), cfg); !errors.As(err, &bug) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// TestPanicIsAFault: a bug in a shard ends the store with the stack, and holds no buffer.
func TestPanicIsAFault(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 640*kib))
	s := r.open(nil)
	r.fs.set(func(op, name string) error {
		if op == "write" {
			panic("bug")
		}
		return nil
	})
	defer r.fs.set(nil)
	r.give(s, 0)
	var bug *PanicError
	ev := r.evs.want(t, Fault, nil)
	if !errors.As(ev.Err, &bug) || bug.Value != "bug" || len(bug.Stack) == 0 || !strings.Contains(bug.Error(), "bug") {
		t.Errorf("fault %v", ev.Err)
	}
	r.fs.set(nil)
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	r.wantReleased()
}
