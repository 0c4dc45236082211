package storage

import (
	"context"
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bittern/piece"
)

// benchRig is one file of so many bytes, with sums; its content repeats.
func benchRig(b *testing.B, total, pieceLength int64) (Config, []byte) {
	b.Helper()
	layout, err := piece.NewLayout(total, pieceLength)
	if err != nil {
		b.Fatal(err)
	}
	cfg := Config{Dir: b.TempDir(), Layout: layout, Name: "one", Files: []File{file("one", total)}}
	content := make([]byte, pieceLength)
	for i := range content {
		content[i] = byte(i>>8 ^ i | 1)
	}
	for p := range layout.Pieces() {
		sum := sha1.Sum(content[:layout.PieceSize(p)])
		cfg.Sums = append(cfg.Sums, sum[:]...)
	}
	return cfg, content
}

// A poolBuffer goes back to the channel it came from.
type poolBuffer struct {
	data []byte
	free chan *poolBuffer
}

func (b *poolBuffer) Bytes() []byte { return b.data }
func (b *poolBuffer) Release()      { b.free <- b }

// BenchmarkWrite is the way of one block: copied, hashed, written to a file, judged.
func BenchmarkWrite(b *testing.B) {
	for _, pl := range []int64{256 * kib, 4096 * kib} {
		b.Run(fmt.Sprintf("piece=%dKiB", pl/kib), func(b *testing.B) {
			const total = 256 << 20
			b.SetBytes(piece.BlockSize)
			b.ReportAllocs()
			free := make(chan *poolBuffer, 256)
			for range cap(free) {
				free <- &poolBuffer{make([]byte, piece.BlockSize), free}
			}
			var s *Store
			var cfg Config
			var content []byte
			at, end := 0, 0
			var complete chan struct{}
			finish := func() {
				if err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := os.RemoveAll(cfg.Dir); err != nil {
					b.Fatal(err)
				}
			}
			perPiece := int(pl / piece.BlockSize)
			for range b.N {
				if at == end {
					b.StopTimer()
					if s != nil {
						<-complete
						finish()
					}
					cfg, content = benchRig(b, total, pl)
					complete = make(chan struct{})
					cfg.Notify = func(e Event) {
						if e.Op == Complete {
							close(complete)
						}
					}
					var err error
					if s, err = Open(b.Context(), cfg); err != nil {
						b.Fatal(err)
					}
					at, end = 0, cfg.Layout.Pieces()*perPiece
					b.StartTimer()
				}
				// Two pieces at a time, as from two peers.
				p := at/(2*perPiece)*2 + at&1
				blk := cfg.Layout.BlockAt(p, at/2%perPiece)
				buf := <-free
				copy(buf.data, content[blk.Begin:blk.Begin+blk.Length]) // the socket's part
				s.Write(blk, buf)
				at++
			}
			if at == end {
				<-complete
			}
			b.StopTimer()
			finish()
		})
	}
}

// BenchmarkCheck hashes 1 GiB in the page cache.
func BenchmarkCheck(b *testing.B) {
	const total = 1 << 30
	for _, pl := range []int64{16 * kib, 1024 * kib} {
		cfg, content := benchRig(b, total, pl)
		writeRepeated(b, filepath.Join(cfg.Dir, "one"), content, total)
		b.Run(fmt.Sprintf("piece=%dKiB", pl/kib), func(b *testing.B) {
			b.SetBytes(total)
			for b.Loop() {
				rep, err := Check(b.Context(), cfg)
				if err != nil || !rep.Complete {
					b.Fatal(rep.PiecesOK, err)
				}
			}
		})
		if pl == 1024*kib {
			b.Run("limit", func(b *testing.B) { benchLimit(b, filepath.Join(cfg.Dir, "one"), total) })
		}
	}
}

// benchLimit is two goroutines that do nothing but ReadAt and SHA-1.
func benchLimit(b *testing.B, name string, total int64) {
	b.SetBytes(total)
	for b.Loop() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				f, err := os.Open(name)
				if err != nil {
					b.Error(err)
					return
				}
				defer f.Close()
				buf := make([]byte, 256*kib)
				h := sha1.New()
				for {
					at := (next.Add(1) - 1) * (1 << 20)
					if at >= total {
						return
					}
					h.Reset()
					for n := int64(0); n < 1<<20; n += int64(len(buf)) {
						if _, err := f.ReadAt(buf, at+n); err != nil && err != io.EOF {
							b.Error(err)
							return
						}
						h.Write(buf)
					}
				}
			})
		}
		wg.Wait()
	}
}

func writeRepeated(b *testing.B, name string, content []byte, total int64) {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for n := int64(0); n < total; n += int64(len(content)) {
		if _, err := f.Write(content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a torrent of 100,000 files in 100 folders, fresh and with every file there.
func BenchmarkOpen(b *testing.B) {
	const files, length = 100_000, 1000
	cfg := Config{Name: "T"}
	for i := range files {
		cfg.Files = append(cfg.Files, file(fmt.Sprintf("T/%02d/%05d", i%100, i), length))
	}
	layout, err := piece.NewLayout(files*length, 256*kib)
	if err != nil {
		b.Fatal(err)
	}
	cfg.Layout, cfg.Sums = layout, make([]byte, 20*layout.Pieces())
	b.Run("fresh", func(b *testing.B) {
		cfg.Dir = b.TempDir()
		b.ReportAllocs()
		for b.Loop() {
			openAndClose(b, cfg)
		}
	})
	b.Run("there", func(b *testing.B) {
		cfg.Dir = b.TempDir()
		for i, f := range cfg.Files {
			name := filepath.Join(cfg.Dir, f.Path) + partSuffix
			if i < 100 {
				if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
					b.Fatal(err)
				}
			}
			if err := os.WriteFile(name, make([]byte, length), 0o666); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			openAndClose(b, cfg)
		}
	})
}

func openAndClose(b *testing.B, cfg Config) {
	b.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
