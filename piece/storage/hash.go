package storage

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"bittern/piece"
)

const (
	// readSize is the most that is read at once while hashing: large enough that system calls
	// do not count, small enough that the data is still in the cache when it is hashed.
	readSize = 256 << 10
	// claimSize is about how many bytes of small pieces a worker takes at once.
	claimSize = 1 << 20
)

// zeros stands in for padding and holes. Nobody writes to it.
var zeros [64 << 10]byte

// A hasher hashes pieces on several cores, without holding more than [readSize] bytes each.
// Holes are not read, and a piece that is nothing but holes and padding is not even hashed.
type hasher struct {
	vol     *volume
	tab     *table // opens the files; its own handles are not used, so that read-ahead works
	workers int
	// locate says where the bytes of a file that belong to piece p are read.
	locate func(file, p int) home

	zeroOnce sync.Once
	zeroSum  [20]byte // of a full piece of zeros
}

// errMissing means that bytes of a piece are not on disk: a file is absent or too short.
var errMissing = errors.New("not on disk")

// run hashes the pieces in todo. It calls each once for every one of them, in no order but
// never concurrently; missing says that a file of the piece is absent or too short. Any other
// trouble, and the end of ctx, ends the run with an error; a panic with a *[PanicError].
func (h *hasher) run(ctx context.Context, todo piece.Bitfield, each func(p int, sum [20]byte, missing bool)) error {
	if todo.Empty() {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	claim := max(1, int(claimSize/h.vol.layout.PieceLength()))
	var next atomic.Int64
	var mu sync.Mutex // serialises each
	tell := func(p int, sum [20]byte, missing bool) {
		mu.Lock()
		defer mu.Unlock() // or a panic in each would stop the other workers for ever
		each(p, sum, missing)
	}
	var wg sync.WaitGroup
	for range min(h.workers, (todo.Count()+claim-1)/claim) {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					cancel(&PanicError{v, debug.Stack()})
				}
			}()
			w := &hashWorker{hasher: h, buf: make([]byte, readSize), sha: sha1.New(), file: -1}
			defer w.close()
			for {
				lo := (int(next.Add(1)) - 1) * claim
				if lo >= todo.Len() {
					return
				}
				w.limit = h.vol.layout.Offset(min(lo+claim, todo.Len()) - 1)
				w.limit += h.vol.layout.PieceSize(min(lo+claim, todo.Len()) - 1)
				for p := lo; p < min(lo+claim, todo.Len()); p++ {
					if !todo.Has(p) {
						continue
					}
					sum, err := w.piece(ctx, p)
					if err != nil && !errors.Is(err, errMissing) {
						cancel(err)
						return
					}
					tell(p, sum, err != nil)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// A hashWorker is one goroutine of a run. It keeps one file open: the current one.
type hashWorker struct {
	*hasher
	sha   hash.Hash
	limit int64 // end of the claimed pieces in the stream: nothing is read beyond it

	file int // whose handle it is; -1 for none
	home home
	h    Handle
	size int64

	from, to int64 // the run of data or hole in the file that was found last
	data     bool

	buf []byte
	off int64 // of buf[:n] in the file
	n   int
}

func (w *hashWorker) close() {
	if w.h != nil {
		_ = w.h.Close() // it was only read
	}
	w.h, w.file = nil, -1
}

// piece returns the SHA-1 of a piece.
func (w *hashWorker) piece(ctx context.Context, p int) (sum [20]byte, err error) {
	size := w.vol.layout.PieceSize(p)
	hollow, err := w.hollow(p, size)
	if err != nil {
		return sum, err
	}
	if hollow && size == w.vol.layout.PieceLength() {
		w.zeroOnce.Do(func() {
			h := sha1.New()
			writeZeros(h, size)
			h.Sum(w.zeroSum[:0])
		})
		return w.zeroSum, nil
	}
	w.sha.Reset()
	for c := w.vol.cut(p, 0, size); c.next(); {
		if err := w.add(ctx, p, &c); err != nil {
			return sum, err
		}
	}
	w.sha.Sum(sum[:0])
	return sum, nil
}

// hollow reports whether all of a piece is holes and padding. It fails when a file of it is
// absent, before anything is read in vain. Files are opened for this only if there is one: a
// piece of many small files is not worth opening each twice.
func (w *hashWorker) hollow(p int, size int64) (bool, error) {
	hollow := true
	for c := w.vol.cut(p, 0, size); c.next(); {
		switch {
		case c.pad():
			continue
		case w.locate(c.file, p) == nowhere:
			return false, errMissing
		case !w.vol.inside(p, c.file):
			hollow = false
			continue
		}
		off, err := w.seek(p, &c)
		if err != nil {
			return false, err
		}
		data, end := w.extent(off)
		hollow = !data && end >= off+c.n
	}
	return hollow, nil
}

// seek opens the file of c, and returns where the part begins in it.
func (w *hashWorker) seek(p int, c *cut) (off int64, err error) {
	where := w.locate(c.file, p)
	if where == nowhere {
		return 0, errMissing
	}
	if w.file != c.file || w.home != where {
		w.close()
		hd, err := w.tab.openRead(c.file, where)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, errMissing
		}
		if err != nil {
			return 0, err
		}
		w.h, w.file, w.home = hd, c.file, where
		w.from, w.to, w.n = 0, 0, 0
		if w.size, err = hd.Size(); err != nil {
			return 0, err
		}
	}
	off = c.off
	if where == atSide {
		slot, ok := w.vol.slot(p)
		if !ok {
			return 0, errMissing
		}
		off = slot + w.vol.start[c.file] + c.off - w.vol.layout.Offset(p)
	}
	if off+c.n > w.size {
		return 0, errMissing
	}
	if where == atSide {
		if data, _ := w.extent(off); !data { // there zeros are written, so this never was
			return 0, errMissing
		}
	}
	return off, nil
}

// extent returns whether there is data or a hole at off, and where that ends.
func (w *hashWorker) extent(off int64) (data bool, end int64) {
	if w.size <= readSize {
		return true, w.size // reading a small file takes no longer than looking for its holes
	}
	if off < w.from || off >= w.to {
		w.from = off
		w.to, w.data = w.h.Extent(off)
	}
	return w.data, w.to
}

// add hashes one part of a piece.
func (w *hashWorker) add(ctx context.Context, p int, c *cut) error {
	if c.pad() {
		writeZeros(w.sha, c.n)
		return context.Cause(ctx)
	}
	off, err := w.seek(p, c)
	if err != nil {
		return err
	}
	ahead := w.limit - w.vol.layout.Offset(p) - c.at // claimed bytes from here on, other files' too
	if w.home == atSide {
		ahead = c.n
	}
	for left := c.n; left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		data, end := w.extent(off)
		n := min(left, end-off)
		if !data {
			writeZeros(w.sha, n)
		} else if n, err = w.read(off, n, min(ahead, end-off)); err != nil {
			return err
		}
		off, left, ahead = off+n, left-n, ahead-n
	}
	return nil
}

// read hashes up to n bytes at off and returns how many. It reads ahead, up to most bytes, for
// the pieces that come next, because pieces may be small.
func (w *hashWorker) read(off, n, most int64) (int64, error) {
	if off < w.off || off >= w.off+int64(w.n) {
		got, err := w.h.ReadAt(w.buf[:min(most, readSize)], off)
		if got == 0 {
			if err == io.EOF {
				return 0, errMissing // it was cut off since we asked for its size
			}
			return 0, w.tab.cfg.pathError("read", w.tab.name(w.file, w.home), err)
		}
		w.off, w.n = off, got
	}
	in := w.buf[off-w.off : w.n]
	in = in[:min(int64(len(in)), n)]
	w.sha.Write(in)
	return int64(len(in)), nil
}

func writeZeros(h hash.Hash, n int64) {
	for n > 0 {
		k := min(n, int64(len(zeros)))
		h.Write(zeros[:k])
		n -= k
	}
}

// HashPieces hashes every piece of the stream that files below dir form, on that many
// goroutines (0 means one a core). It calls each once for every piece, in no order but never
// concurrently. A file that is absent, unreadable or shorter than stated is an error.
func HashPieces(ctx context.Context, dir string, files []File, layout piece.Layout, workers int, each func(i int, sum [20]byte)) error {
	fsys, err := openRoot(dir, false)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	cfg := &Config{Dir: dir, Files: files, Layout: layout}
	h := &hasher{vol: newVolume(layout, files), tab: newTable(cfg, fsys), workers: workers}
	if workers <= 0 {
		h.workers = runtime.GOMAXPROCS(0)
	}
	h.locate = func(int, int) home { return atFinal }
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = h.run(ctx, fullSet(layout.Pieces()), func(p int, sum [20]byte, missing bool) {
		if missing {
			cancel(fmt.Errorf("storage: piece %d: a file is gone or shorter than it was", p))
			return
		}
		each(p, sum)
	})
	return errors.Join(err, fsys.Close())
}

// fullSet returns the set of all n pieces.
func fullSet(n int) piece.Bitfield {
	b := piece.NewBitfield(n)
	for i := range n {
		b.Set(i)
	}
	return b
}
