package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestContinue stops a run in different ways, and says what the next one must know and hash.
func TestContinue(t *testing.T) {
	const recordFile = ".T.bittern-resume"
	for _, tt := range []struct {
		name   string
		kill   bool
		after  func(r *rig) // between the runs
		lost   []int        // pieces that the next run must lack, of 0 to 4
		hashes bool         // whether it must hash
	}{
		{name: "closed"},
		{name: "killed", kill: true, hashes: true},
		{name: "record corrupt", hashes: true, after: func(r *rig) { r.poke(recordFile, 40) }},
		{name: "record cut", hashes: true, after: func(r *rig) { r.truncate(recordFile, 30) }},
		{name: "record empty", hashes: true, after: func(r *rig) { r.truncate(recordFile, 0) }},
		{name: "record of a newer version", hashes: true, after: func(r *rig) {
			data := r.read(recordFile)
			data[7]++
			r.put(recordFile, data)
		}},
		{name: "record of another torrent", hashes: true, after: func(r *rig) { r.cfg.InfoHash[0]++ }},
		{name: "file edited", hashes: true, lost: []int{0}, after: func(r *rig) { r.poke("T/a.part", 5) }},
		{name: "file edited after a kill", kill: true, hashes: true, lost: []int{1}, after: func(r *rig) { r.poke("T/a.part", 70*kib) }},
		{name: "file cut", hashes: true, lost: []int{4}, after: func(r *rig) { r.truncate("T/a.part", 310*kib) }},
		{name: "file removed", hashes: true, lost: []int{0, 1, 2, 3, 4}, after: func(r *rig) {
			if err := r.raw().Remove("T/a.part"); err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib, file("T/a", 64*10*kib), file("T/b", 100*kib))
				s := r.open(nil)
				r.giveAndWait(s, 0, 1, 2, 3, 4)
				r.block(s, 7, 0, nil) // a piece that stays open
				if tt.kill {
					r.kill(s)
				} else {
					r.close(s)
				}
				if got := slices.Contains(r.names(), recordFile); got == tt.kill {
					t.Errorf("record there: %v", got)
				}
				if tt.after != nil {
					tt.after(r)
				}
				s = r.open(nil)
				have := s.Have()
				for p := range 5 {
					if lost := slices.Contains(tt.lost, p); have.Has(p) == lost {
						t.Errorf("piece %d: have %v, want %v", p, have.Has(p), !lost)
					}
				}
				if have.Count() != 5-len(tt.lost) {
					t.Errorf("%d pieces, want %d", have.Count(), 5-len(tt.lost))
				}
				if got := s.Stats().Checked; tt.hashes != (got > 5*64*kib-1) && tt.lost == nil {
					t.Errorf("hashed %d bytes", got)
				}
				r.complete(s)
				r.close(s)
				r.wantContent(0, 1)
				r.wantNames("T/a", "T/b")
			})
		})
	}
}

// TestOnlyStrangersAreHashed: what a clean record vouches for is not hashed, the rest is.
func TestTrustedIsNotRead(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 640*kib), file("T/b", 640*kib))
		s := r.open(nil)
		r.giveAndWait(s, 0, 1, 2, 10, 11)
		r.close(s)
		r.poke("T/b.part", 0)
		s = r.open(nil)
		have := s.Have()
		if !have.Has(0) || !have.Has(2) || have.Has(10) || !have.Has(11) {
			t.Errorf("have %v", slices.Collect(have.All()))
		}
		r.close(s)
	})
}

// TestRecordGoesFirst: a run that changes anything removes the record before it does.
func TestRecordGoesFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
		s := r.open(nil)
		r.giveAndWait(s, 0)
		r.close(s)
		s = r.open(nil)
		if !slices.Contains(r.names(), ".T.bittern-resume") {
			t.Error("the record is gone before anything was written")
		}
		r.fs.set(func(op, name string) error {
			if _, err := r.fs.FS.Lstat(".T.bittern-resume"); op == "write" && err == nil {
				return syscall.EINVAL
			}
			return nil
		})
		r.giveAndWait(s, 1)
		r.fs.set(nil)
		r.close(s)
	})
}

// TestSlowSync: a sync that takes longer than the budget leaves no record and holds nobody up.
func TestSlowSync(t *testing.T) { synctest.Test(t, testSlowSync) }

func testSlowSync(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 640*kib))
	s := r.open(nil)
	r.giveAndWait(s, 0, 1)
	hang := make(chan struct{})
	r.fs.FS = slowSync{r.fs.FS, hang}
	start := time.Now()
	s.tab.shrink(0) // so that the file is opened anew, with a Sync that hangs
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	close(hang)
	if d := time.Since(start); d != syncBudget {
		t.Errorf("Close took %v, want %v", d, syncBudget)
	}
	r.wantNames("T/a.part")
}

type slowSync struct {
	FS
	hang chan struct{}
}

func (f slowSync) OpenFile(name string, flag int, perm fs.FileMode) (Handle, error) {
	h, err := f.FS.OpenFile(name, flag, perm)
	return slowHandle{h, f.hang}, err
}

type slowHandle struct {
	Handle
	hang chan struct{}
}

func (h slowHandle) Sync() error {
	<-h.hang
	return nil
}

// TestSyncAfterKill: what a killed run wrote was hashed from the cache and may not be on disk,
// so it is synced before a record vouches for it. What a record vouched for is not synced again.
func TestSyncAfterKill(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 640*kib), file("T/b", 64*kib), file("T/c", 64*kib))
		s := r.open(nil)
		r.giveAndWait(s, 0, 10)
		r.kill(s)
		for round, want := range []int{2, 1} { // a.part and the record, then the record alone
			s = r.open(nil)
			r.close(s)
			if n := r.fs.count("sync"); n != want {
				t.Errorf("round %d: %d syncs, want %d", round, n, want)
			}
		}
		s = r.open(nil)
		if have := s.Have(); !have.Has(0) || !have.Has(10) || s.Stats().Checked != 64*kib {
			t.Errorf("hashed %d bytes, want only the file that was complete before a kill", s.Stats().Checked)
		}
		r.close(s)
	})
}

// TestKilledBeforeRename: everything is verified, but the new name was not given.
func TestKilledBeforeRename(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 100*kib), file("T/e", 0))
		r.put("T/a.part", r.content(0))
		s := r.open(nil)
		if !s.Complete() {
			t.Error("not complete")
		}
		if n := len(r.evs.all); n != 0 {
			t.Errorf("%d events out of Open", n)
		}
		r.close(s)
		r.wantNames("T/a", "T/e")
		s = r.open(nil)
		if !s.Complete() {
			t.Error("not complete when run again")
		}
		r.close(s)
		r.wantNames("T/a", "T/e")
	})
}

func TestOpenEndsWithContext(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 1000*kib))
	r.put("T/a.part", r.content(0))
	r.fs = &faultFS{FS: r.raw()}
	cause := errors.New("enough")
	ctx := canceled{t.Context(), cause}
	cfg := r.cfg
	cfg.FS = r.fs
	if _, err := Open(ctx, cfg); err == nil {
		t.Error("Open went on after its context ended")
	}
	r.wantNames("T/a.part")
}

func TestLock(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 100*kib))
		first := r.open(nil)
		evs := r.evs
		var locked *LockedError
		if _, err := r.tryOpen(nil); !errors.As(err, &locked) || !strings.HasSuffix(locked.Path, "T") {
			t.Errorf("second Open: %v, want a LockedError", err)
		}
		ro, err := r.tryOpen(func(c *Config) { c.ReadOnly = true })
		if err != nil {
			t.Errorf("a store that only reads needs a lock: %v", err)
		} else {
			r.close(ro)
		}
		r.evs = evs
		r.complete(first)
		r.close(first)
		r.put(".T.bittern-lock", nil) // as a killed run leaves it
		r.close(r.open(nil))
		r.wantNames("T/a")
	})
}

// TestLockHammer: however runs come and go, never two hold the lock.
func TestLockHammer(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 100*kib))
		var holders, held atomic.Int32
		var wg sync.WaitGroup
		for range 6 {
			fsys := r.raw()
			wg.Go(func() {
				for range 100 {
					l, err := fsys.Lock("lock")
					if errors.Is(err, errLocked) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d hold the lock", n)
					}
					held.Add(1)
					holders.Add(-1)
					if err := l.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if held.Load() == 0 {
			t.Error("nobody ever held the lock")
		}
		r.wantNames()
	})
}

func TestRecordIdentity(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 1000} {
		rec := &record{infoHash: [20]byte{9}, have: fullSet(n), index: []int{0, 3}, stamps: []stamp{{atPart, 5, 6}, {atFinal, 1 << 40, -7}}}
		rec.have.Clear(n / 2)
		out := rec.append(nil)
		got, err := parseRecord(out, rec.infoHash, n, 4)
		if err != nil {
			t.Fatalf("%d pieces: %v", n, err)
		}
		if !bytes.Equal(got.append(nil), out) {
			t.Errorf("%d pieces: encoded again it differs", n)
		}
		for _, wrong := range []struct {
			name   string
			hash   [20]byte
			pieces int
			files  int
		}{
			{"info-hash", [20]byte{8}, n, 4}, {"pieces", rec.infoHash, n + 1, 4}, {"files", rec.infoHash, n, 3},
		} {
			if _, err := parseRecord(out, wrong.hash, wrong.pieces, wrong.files); err == nil {
				t.Errorf("accepted with other %s", wrong.name)
			}
		}
		for i := range out {
			bad := bytes.Clone(out)
			bad[i] ^= 1
			if _, err := parseRecord(bad, rec.infoHash, n, 4); err == nil {
				t.Errorf("accepted with byte %d changed", i)
			}
			if _, err := parseRecord(out[:i], rec.infoHash, n, 4); err == nil {
				t.Errorf("accepted when cut to %d bytes", i)
			}
		}
	}
}

// FuzzRecord: what is accepted is exactly what is written. The sum is set right, or no input
// would ever get past it.
func FuzzRecord(f *testing.F) {
	rec := &record{have: fullSet(20), index: []int{0, 1}, stamps: []stamp{{atPart, 1, 2}, {atFinal, 3, 4}}}
	out := rec.append(nil)
	f.Add(out[:len(out)-20])
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := withSum(body)
		rec, err := parseRecord(in, [20]byte{}, 20, 5)
		if err != nil {
			return
		}
		if out := rec.append(nil); !bytes.Equal(out, in) {
			t.Errorf("%x became %x", in, out)
		}
	})
}

func TestHiddenNames(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"T", ".T.bittern-resume"},
		{"a/b", ".b.bittern-resume"},
		{strings.Repeat("x", 300), "." + strings.Repeat("x", 251-1-15-9) + "~01020000.bittern-resume"},
		{strings.Repeat("ö", 200), "." + strings.Repeat("ö", (251-1-15-9)/2) + "~01020000.bittern-resume"},
	} {
		c := Config{Name: tt.name, InfoHash: [20]byte{1, 2}}
		if got := c.recordName(); got != tt.want || len(got) > 251 {
			t.Errorf("record of %.20q: %q (%d bytes), want %q", tt.name, got, len(got), tt.want)
		}
	}
}

// TestRecordLeavesOutChanged: a record does not vouch for a file that somebody else changed while
// the store was open, whether it was complete or not when it was opened, or became so.
func TestRecordLeavesOutChanged(t *testing.T) {
	for _, tt := range []struct {
		name  string
		piece int
	}{{"T/before", 0}, {"T/during", 2}, {"T/half.part", 4}} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, 64*kib,
					file("T/before", 128*kib), file("T/during", 128*kib), file("T/half", 128*kib), file("T/rest", 128*kib))
				s := r.open(nil)
				r.giveAndWait(s, 0, 1, 4)
				r.close(s)
				s = r.open(nil)
				r.giveAndWait(s, 2, 3, 6)
				r.evs.want(t, FileDone, nil)
				r.poke(tt.name, 5)
				r.touch(tt.name)
				r.close(s)
				s = r.open(func(c *Config) { c.Overwrite = true }) // or it is in the way
				want := []int{0, 1, 2, 3, 4, 6}
				for _, p := range want {
					if got := s.Have().Has(p); got != (p != tt.piece) {
						t.Errorf("piece %d trusted: %v", p, got)
					}
				}
				r.close(s)
			})
		})
	}
}
