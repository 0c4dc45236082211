package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"bittern/piece"
)

// TestFreshOpenLooksAtNothing: below a folder that is absent no file is looked at.
func TestFreshOpenLooksAtNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		var files []File
		for i := range 2000 {
			files = append(files, file(fmt.Sprintf("T/%02d/%d", i%40, i), 10))
		}
		r := newRig(t, kind, 16*kib, files...)
		s := r.open(nil)
		if n := r.fs.count("lstat") + r.fs.count("open"); n > 8 {
			t.Errorf("%d operations on a fresh disk", n)
		}
		r.close(s)
		r.mkdir("T/07") // now one folder of 40 is there
		s = r.open(nil)
		if n := r.fs.count("lstat") + r.fs.count("open"); n > 2*2000/40+50 {
			t.Errorf("%d operations with one folder", n)
		}
		r.close(s)
	})
}

// TestHugePiece: memory does not depend on the length of a piece.
func TestHugePiece(t *testing.T) {
	const pl = 512 << 20
	layout, err := piece.NewLayout(pl+1, pl)
	if err != nil {
		t.Fatal(err)
	}
	evs := newEvents()
	s, err := Open(t.Context(), Config{
		Dir: t.TempDir(), Layout: layout, Name: "huge", Files: []File{file("huge", pl+1)},
		Sums: make([]byte, 40), Window: 1 << 20, Shards: 2, Notify: evs.add,
	})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rng := rand.New(rand.NewPCG(1, 1))
	free := make(chan *poolBuffer, 4)
	for range cap(free) {
		free <- &poolBuffer{bytes.Repeat([]byte{7}, piece.BlockSize), free}
	}
	for range 400 {
		s.Write(layout.BlockAt(0, rng.IntN(layout.Blocks(0))), <-free)
	}
	for range cap(free) {
		<-free // all are stored
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
		t.Errorf("%d bytes allocated with a window of 1 MiB", n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestConcurrent writes from several goroutines while others read what is verified.
func TestConcurrent(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 48*kib, mixed()...)
		var s *Store
		var reads, done sync.WaitGroup
		complete := make(chan struct{})
		ready := make(chan struct{})
		notify := func(e Event) {
			<-ready
			switch e.Op {
			case Verified:
				reads.Add(1)
				n := len(r.piece(e.Piece))
				r.held.Add(1)
				s.Read(ReadJob{Piece: e.Piece, Length: n, Buf: &testBuffer{make([]byte, n), &r.held}})
			case ReadDone:
				if e.Err != nil || !bytes.Equal(e.Read.Buf.Bytes(), r.piece(e.Piece)) {
					t.Errorf("piece %d reads wrong, or %v", e.Piece, e.Err)
				}
				e.Read.Buf.Release()
				reads.Done()
			case Fault, Failed:
				t.Errorf("event %+v", e)
			case Complete:
				close(complete)
			}
		}
		s = r.open(func(c *Config) { c.Notify, c.Shards, c.Window, c.OpenFiles = notify, 4, 1, 2 })
		close(ready)
		for w := range 3 { // each block comes from all of them
			done.Go(func() {
				for p := range r.cfg.Layout.Pieces() {
					p = (p*5 + w) % r.cfg.Layout.Pieces()
					for n := range r.cfg.Layout.Blocks(p) {
						r.block(s, p, n, nil)
					}
				}
			})
		}
		done.Wait()
		<-complete
		reads.Wait()
		r.close(s)
		for i, f := range r.cfg.Files {
			if !f.Pad {
				r.wantContent(i)
			}
		}
	})
}

// TestExtent: what is called a hole is zero, and the runs cover the file.
func TestExtent(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 20 {
		name := filepath.Join(t.TempDir(), "f")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		size := int64(1 + rng.IntN(2000*kib))
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for range rng.IntN(6) {
			if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 1+rng.IntN(90*kib)), rng.Int64N(size)); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h := rootFile{f}
		for off := int64(0); off < int64(len(data)); {
			end, isData := h.Extent(off)
			if end <= off || end > int64(len(data)) {
				t.Fatalf("run from %d to %d of %d bytes", off, end, len(data))
			}
			if !isData && len(bytes.Trim(data[off:end], "\x00")) > 0 {
				t.Errorf("a hole from %d to %d holds data", off, end)
			}
			off = end
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHundredThousandFiles opens fast and in little memory.
func TestHundredThousandFiles(t *testing.T) {
	const files = 100_000
	cfg := Config{Name: "T", Dir: t.TempDir()}
	for i := range files {
		cfg.Files = append(cfg.Files, file(fmt.Sprintf("T/%02d/%05d", i%100, i), 1000))
	}
	layout, err := piece.NewLayout(files*1000, 256*kib)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Layout, cfg.Sums = layout, make([]byte, 20*layout.Pieces())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	s, err := Open(t.Context(), cfg)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 12<<20 {
		t.Errorf("%d bytes allocated", n)
	}
	if took > time.Second { // a few milliseconds on a machine that is not busy
		t.Errorf("took %v", took)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
