//go:build unix

package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestUlimit runs with as few file descriptors as `ulimit -n 40` leaves, most of them taken.
func TestUlimit(t *testing.T) {
	var files []File
	for i := range 200 {
		files = append(files, file(fmt.Sprintf("T/%d/x/%d", i%9, i), int64(3000+i)))
	}
	r := newRig(t, "disk", 64*kib, files...)
	s := r.open(func(c *Config) { c.OpenFiles, c.Shards = 64, 2 })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 40
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	taken := takeAllBut(t, 6) // as sockets would
	r.complete(s)
	r.close(s)
	for _, f := range taken {
		f.Close()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		r.wantContent(i)
	}
}

// takeAllBut opens files until only so many more can be.
func takeAllBut(t *testing.T, n int) (taken []*os.File) {
	t.Helper()
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
	for range min(n, len(taken)) {
		taken[len(taken)-1].Close()
		taken = taken[:len(taken)-1]
	}
	return taken
}

// TestFifo: opening a named pipe would hang; it is in the way instead.
func TestFifo(t *testing.T) {
	for _, name := range []string{"T/a", "T/a.part", ".T.bittern-side", ".T.bittern-resume", ".T.bittern-lock"} {
		r := newRig(t, "disk", 64*kib, file("T/a", 100*kib))
		r.mkdir("T")
		if err := syscall.Mkfifo(filepath.Join(r.dir, name), 0o666); err != nil {
			t.Fatal(err)
		}
		var conflict *ConflictError
		if _, err := r.tryOpen(nil); !errors.As(err, &conflict) {
			t.Errorf("%s: Open: %v, want a conflict", name, err)
		}
		if rep := r.check(); rep.Files[0] != Missing {
			t.Errorf("%s: checked as %v", name, rep.Files[0])
		}
	}
}

// TestFolderWithoutPermission: what cannot be looked at is an error, not an absent file. Root
// may look at everything, so the disk is told to refuse.
func TestFolderWithoutPermission(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 100*kib))
		r.put("T/a.part", r.content(0))
		for _, op := range []string{"lstat", "open"} {
			deny := &faultFS{FS: r.raw(), fault: failOn(op, "T/a.part", syscall.EACCES)}
			_, err := r.tryOpen(func(c *Config) { c.FS = deny })
			if !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s: Open: %v", op, err)
			}
		}
		r.wantNames("T/a.part")
	})
}
