package storage

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"bittern/piece"
)

// mixed is a torrent with everything in it: nested folders, empty and tiny files, files that
// share pieces, padding.
func mixed() []File {
	return []File{
		file("T/a.bin", 300*kib+7), file("T/empty", 0), file("T/x/one", 1), file("T/x/two", 2),
		file("T/x/y/größe.bin", 100*kib), pad(12*kib + 500), file("T/b.bin", 700*kib), file("T/z", 5),
		file("T/x/last", 0),
	}
}

func TestDownload(t *testing.T) {
	for _, tt := range []struct {
		name        string
		pieceLength int64
		files       []File
	}{
		{"one byte", 16 * kib, []File{file("one", 1)}},
		{"one small piece", 16 * kib, []File{file("one", 16*kib)}},
		{"one file", 64 * kib, []File{file("one.iso", 1000*kib+123)}},
		{"pieces larger than a slab", 1024 * kib, []File{file("one.iso", 3000*kib+1)}},
		{"many files", 64 * kib, mixed()},
		{"many files in one piece", 2048 * kib, mixed()},
		{"odd piece length", 50_000, mixed()},
		{"nothing but empty files", 16 * kib, []File{file("T/a", 0), file("T/b/c", 0), file("T/d", 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, kind string) {
				r := newRig(t, kind, tt.pieceLength, tt.files...)
				s := r.open(nil)
				if s.Complete() || !s.Have().Empty() {
					t.Fatal("a fresh store has something")
				}
				r.complete(s)
				if !s.Complete() || !s.Have().Full() {
					t.Error("complete, but Complete or Have does not say so")
				}
				r.close(s)
				var want []string
				for i, f := range tt.files {
					if !f.Pad {
						want = append(want, f.Path)
						r.wantContent(i)
					}
				}
				r.wantNames(want...)
				if got := r.evs.count(FileDone); got != len(want) {
					t.Errorf("%d events FileDone, want %d", got, len(want))
				}
			})
		})
	}
}

// TestAnyOrder gives blocks in random order to a store with little memory: the content is
// right, and what had to be read back is counted.
func TestAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		seeds := uint64(6)
		if testing.Short() {
			seeds = 3
		}
		for seed := range seeds {
			r := newRig(t, kind, 900*kib, file("T/a", 2000*kib+5), pad(3*kib), file("T/b", 1500*kib), file("T/c", 9))
			s := r.open(func(c *Config) { c.Window = 1; c.Shards = 1 + int(seed%3) })
			var blocks [][2]int
			for p := range r.cfg.Layout.Pieces() {
				for n := range r.cfg.Layout.Blocks(p) {
					blocks = append(blocks, [2]int{p, n}, [2]int{p, n}) // each twice, as in endgame
				}
			}
			rng := rand.New(rand.NewPCG(seed, 0))
			rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
			for _, b := range blocks {
				r.block(s, b[0], b[1], nil)
			}
			r.evs.want(t, Complete, nil)
			r.close(s)
			r.wantContent(0, 2, 3)
			if s.Stats().ReadBack == 0 {
				t.Error("nothing was read back: the window was not put under pressure")
			}
			if n := r.evs.count(Verified); n != r.cfg.Layout.Pieces() {
				t.Errorf("%d pieces verified, want each of %d once", n, r.cfg.Layout.Pieces())
			}
			slabs := len(s.slabs.free)
			for _, h := range s.shards {
				slabs += len(h.window.used)
			}
			if most := 2 * len(s.shards); slabs > most {
				t.Errorf("%d slabs, want at most %d", slabs, most)
			}
		}
	})
}

// TestInOrder: pieces that come in order, several at a time, are never read back.
func TestInOrder(t *testing.T) {
	r := newRig(t, "memory", 512*kib, file("one", 16*512*kib))
	s := r.open(func(c *Config) { c.Window = 16 * slabSize; c.Shards = 2 })
	for n := range r.cfg.Layout.Blocks(0) {
		for p := range r.cfg.Layout.Pieces() {
			r.block(s, p, n, nil)
		}
	}
	r.evs.want(t, Complete, nil)
	r.close(s)
	if st := s.Stats(); st.ReadBack != 0 || st.Written != 16*512*kib {
		t.Errorf("read back %d bytes and wrote %d, want 0 and every byte once", st.ReadBack, st.Written)
	}
}

// TestSharedPiece: a large piece that many slow peers share comes out of order by three
// megabytes, and is all on one shard. The window is there for that.
func TestSharedPiece(t *testing.T) {
	r := newRig(t, "memory", 8192*kib, file("one", 2*8192*kib))
	s := r.open(func(c *Config) { c.Shards = 2 })
	rng := rand.New(rand.NewPCG(6, 6))
	for p := range 2 {
		due := make([]int, r.cfg.Layout.Blocks(p))
		order := make([]int, len(due))
		for n := range due {
			due[n], order[n] = n+rng.IntN(200), n
		}
		slices.SortFunc(order, func(a, b int) int { return due[a] - due[b] })
		for _, n := range order {
			r.block(s, p, n, nil)
		}
	}
	r.evs.want(t, Complete, nil)
	r.close(s)
	if n := s.Stats().ReadBack; n != 0 {
		t.Errorf("%d bytes read back", n)
	}
}

func blockSums(data []byte) (sums [][20]byte) {
	for len(data) > 0 {
		k := min(len(data), piece.BlockSize)
		sums = append(sums, sha1.Sum(data[:k]))
		data = data[k:]
	}
	return sums
}

func TestBadPiece(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 400*kib, file("T/a", 500*kib), file("T/b", 300*kib+1))
		s := r.open(nil)
		for round := range 2 { // it may fail again
			bad := bytes.Clone(r.piece(1))
			bad[20*kib+round]++
			for n := range r.cfg.Layout.Blocks(1) {
				r.block(s, 1, n, func(b []byte) { copy(b, bad[n*piece.BlockSize:]) })
			}
			ev := r.evs.want(t, Failed, nil)
			if ev.Piece != 1 || fmt.Sprint(ev.Sums) != fmt.Sprint(blockSums(bad)) {
				t.Errorf("round %d: piece %d failed with sums that are not those of its blocks", round, ev.Piece)
			}
			if s.Have().Has(1) {
				t.Fatal("a bad piece counts as verified")
			}
		}
		r.give(s, 1)
		if ev := r.evs.want(t, Verified, nil); fmt.Sprint(ev.Sums) != fmt.Sprint(blockSums(r.piece(1))) {
			t.Error("the good piece after a bad one comes without the sums of its blocks")
		}
		r.give(s, 0)
		if ev := r.evs.want(t, Verified, nil); ev.Sums != nil {
			t.Error("a piece that never failed comes with sums")
		}
		r.complete(s)
		r.close(s)
		r.wantContent(0, 1)
	})
}

// TestForget: blocks that were written bad, forgotten and written again leave no trace, wherever they were
// meanwhile: in memory or on disk, hashed or not.
func TestForget(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		for seed := range uint64(8) {
			r := newRig(t, kind, 600*kib, file("T/a", 700*kib+5), file("T/b", 1100*kib))
			s := r.open(func(c *Config) { c.Window = 1 + int(seed%2)*(8<<20) })
			rng := rand.New(rand.NewPCG(seed, 7))
			for p := range r.cfg.Layout.Pieces() {
				r.giveWithLies(s, p, rng)
			}
			r.evs.want(t, Complete, nil)
			r.close(s)
			r.wantContent(0, 1)
			if n := r.evs.count(Failed); n > 0 {
				t.Errorf("seed %d: %d pieces failed", seed, n)
			}
		}
	})
}

// giveWithLies gives a store a piece, with bad blocks among the good ones that it is told to forget before all are there.
func (r *rig) giveWithLies(s *Store, p int, rng *rand.Rand) {
	blocks := r.cfg.Layout.Blocks(p)
	order := rng.Perm(blocks)
	if rng.IntN(2) == 0 {
		slices.Sort(order)
	}
	var lies, missing []int
	for k, n := range order {
		last := k == blocks-1 // nothing of the piece can be forgotten once all has come
		if !last && rng.IntN(4) == 0 {
			r.block(s, p, n, func(b []byte) { b[0]++ })
			lies = append(lies, n)
		} else {
			r.block(s, p, n, nil)
		}
		if k == blocks-2 || !last && rng.IntN(6) == 0 {
			for _, n := range lies {
				s.Forget(r.cfg.Layout.BlockAt(p, n))
			}
			lies, missing = nil, append(missing, lies...)
		}
		if k == blocks-2 || !last && rng.IntN(6) == 0 {
			for _, n := range missing {
				r.block(s, p, n, nil)
			}
			missing = nil
		}
	}
}

// A block that has not come, and a piece with a verdict, are left as they are.
func TestForgetNothing(t *testing.T) {
	r := newRig(t, "memory", 64*kib, file("one", 128*kib))
	s := r.open(nil)
	s.Forget(r.cfg.Layout.BlockAt(0, 1))
	r.giveAndWait(s, 0)
	s.Forget(r.cfg.Layout.BlockAt(0, 1))
	if !s.Have().Has(0) {
		t.Error("a verified piece was forgotten")
	}
	r.complete(s)
	r.close(s)
	r.wantContent(0)
	s.Forget(r.cfg.Layout.BlockAt(0, 1)) // nothing happens
}

// TestPadding: what a peer sends for padding does not matter; it is zero.
func TestPadding(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 16*kib, file("T/a", 10*kib), pad(22*kib), file("T/b", 5))
		s := r.open(nil)
		if have := s.Have(); !have.Has(1) {
			t.Error("a piece of nothing but padding is not there from the start")
		}
		r.block(s, 0, 0, func(b []byte) { b[12*kib] = 7 })
		r.evs.want(t, Verified, func(e Event) bool { return e.Piece == 0 })
		buf := &testBuffer{make([]byte, 16*kib), &r.held}
		s.Read(ReadJob{Piece: 0, Length: 16 * kib, Buf: buf})
		if r.evs.want(t, ReadDone, nil); !bytes.Equal(buf.data, r.piece(0)) {
			t.Error("padding is not read as zeros")
		}
		r.complete(s)
		r.close(s)
		r.wantNames("T/a", "T/b")
	})
}

func TestRead(t *testing.T) {
	onBoth(t, func(t *testing.T, kind string) {
		r := newRig(t, kind, 200*kib, mixed()...)
		s := r.open(nil)
		r.give(s, 0, 2)
		for _, p := range []int{0, 2} {
			r.evs.want(t, Verified, func(e Event) bool { return e.Piece == p })
		}
		rng := rand.New(rand.NewPCG(3, 3))
		for tag := range uint64(50) {
			p := int(2 * (tag & 1))
			begin := rng.IntN(len(r.piece(p)) - 1)
			n := 1 + rng.IntN(len(r.piece(p))-begin)
			buf := &testBuffer{make([]byte, 200*kib), &r.held}
			s.Read(ReadJob{Piece: p, Begin: begin, Length: n, Buf: buf, Tag: tag})
			ev := r.evs.want(t, ReadDone, func(e Event) bool { return e.Read.Tag == tag })
			if ev.Err != nil || !bytes.Equal(buf.data[:n], r.piece(p)[begin:begin+n]) {
				t.Fatalf("piece %d at %d, %d bytes: wrong content, or %v", p, begin, n, ev.Err)
			}
		}
		r.complete(s) // and after the files got their final names
		buf := &testBuffer{make([]byte, 200*kib), &r.held}
		s.Read(ReadJob{Piece: 0, Length: 200 * kib, Buf: buf})
		if ev := r.evs.want(t, ReadDone, nil); ev.Err != nil || !bytes.Equal(buf.data, r.piece(0)) {
			t.Errorf("reading after completion: wrong content, or %v", ev.Err)
		}
		r.close(s)
	})
}

// TestWriteAfterClose: a late block is released, not stored.
func TestWriteAfterClose(t *testing.T) {
	r := newRig(t, "memory", 16*kib, file("one", 40*kib))
	s := r.open(nil)
	r.close(s)
	r.give(s, 0)
	r.wantReleased()
	r.wantNames()
}

func TestWritePanicsOnNonBlock(t *testing.T) {
	r := newRig(t, "memory", 32*kib, file("one", 40*kib))
	s := r.open(nil)
	defer r.close(s)
	for _, b := range []piece.Block{
		{Piece: 0, Begin: 1, Length: piece.BlockSize}, {Piece: 0, Begin: 0, Length: 5}, {Piece: 2, Length: 1},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Write(%v) did not panic", b)
				}
			}()
			s.Write(b, nil)
		}()
	}
}

func TestConfigThatDoesNotAgree(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Config)
	}{
		{"file too long", func(c *Config) { c.Files[0].Length++ }},
		{"sum missing", func(c *Config) { c.Sums = c.Sums[20:] }},
	} {
		r := newRig(t, "memory", 16*kib, file("one", 40*kib))
		if _, err := r.tryOpen(tt.edit); err == nil {
			t.Errorf("%s: Open succeeded", tt.name)
		}
	}
}
