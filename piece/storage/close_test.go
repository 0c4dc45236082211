package storage

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
)

// TestCloseGivesUp: a disk that hangs does not hang Close beyond its context.
func TestCloseGivesUp(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("T/a", 640*kib))
	s := r.open(nil)
	hanging, goOn := make(chan struct{}), make(chan struct{})
	r.fs.FS = &hangingFS{FS: r.fs.FS, hanging: hanging, goOn: goOn}
	r.give(s, 0)
	<-hanging
	cause := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := s.Close(ctx); !errors.Is(err, cause) {
		t.Errorf("Close: %v, want %v", err, cause)
	}
	if !slices.Contains(r.names(), ".T.bittern-lock") {
		t.Error("the lock was given up while a shard still writes")
	}
	close(goOn)
	s.shardc.Wait()
	r.wantReleased()
}

// A hangingFS hangs while it makes a folder.
type hangingFS struct {
	FS
	hanging, goOn chan struct{}
}

func (f *hangingFS) Mkdir(name string, perm fs.FileMode) error {
	close(f.hanging)
	<-f.goOn
	return f.FS.Mkdir(name, perm)
}

// TestCloseDrains: everything given before Close is judged and written.
func TestCloseDrains(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, mixed()...)
		s := r.open(nil)
		r.give(s, r.rest(s)...)
		r.close(s) // at once
		if !s.Complete() || r.evs.count(Complete) != 1 {
			t.Error("not complete after Close")
		}
		for i, f := range r.cfg.Files {
			if !f.Pad {
				r.wantContent(i)
			}
		}
	})
}

// TestCloseAnswersReads: a read given before Close is answered.
func TestCloseAnswersReads(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 64*kib, file("T/a", 640*kib))
		s := r.open(nil)
		r.giveAndWait(s, 0)
		for tag := range uint64(30) {
			s.Read(ReadJob{Piece: 0, Length: 64 * kib, Buf: &testBuffer{make([]byte, 64*kib), &r.held}, Tag: tag})
		}
		r.close(s)
		if n := r.evs.count(ReadDone); n != 30 {
			t.Errorf("%d reads answered of 30", n)
		}
	})
}

// TestCloseKeepsNothingUnverified: what belongs to open pieces is not worth a write.
func TestCloseKeepsNothingUnverified(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 256*kib, file("T/a", 640*kib))
		s := r.open(nil)
		for n := range 10 {
			r.block(s, 0, n, nil)
		}
		r.close(s)
		if s.Stats().Written != 0 {
			t.Errorf("%d bytes written of a piece that nobody would trust", s.Stats().Written)
		}
		r.wantNames()
	})
}
