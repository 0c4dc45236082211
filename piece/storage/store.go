package storage

import (
	"bytes"
	"context"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"bittern/piece"
)

// readers is how many goroutines answer uploads.
const readers = 2

// syncBudget bounds what Close spends to make the data durable. When it is over, the next run
// hashes what is on disk instead: the user waits there, not at Ctrl-C.
const syncBudget = time.Second

// A Store keeps one torrent. Its methods may be called concurrently, but nothing after Close.
type Store struct {
	cfg    Config
	vol    *volume
	tab    *table
	lock   io.Closer // nil when ReadOnly
	shards []*shard
	slabs  slabPool
	reads  *queue[ReadJob]
	shardc sync.WaitGroup
	readc  sync.WaitGroup

	touch    sync.Once // drops the resume record before the first change
	touchErr error

	faulted atomic.Bool
	stats   struct{ written, readBack, checked atomic.Int64 }

	mu         sync.Mutex // guards what follows
	have       piece.Bitfield
	aside      piece.Bitfield // verified pieces whose bytes of unwanted files are in the side file
	left       []int32        // pieces that a wanted file still lacks
	unfinished int            // wanted files, empty ones apart, that are not complete
	complete   bool
}

// Have returns a copy of the set of verified pieces.
func (s *Store) Have() piece.Bitfield {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have.Clone()
}

// Complete reports whether every wanted file stands under its final name. The event of that
// name comes only when this changes after Open.
func (s *Store) Complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// Stats returns what has been done since Open.
func (s *Store) Stats() Stats {
	return Stats{Written: s.stats.written.Load(), ReadBack: s.stats.readBack.Load(), Checked: s.stats.checked.Load()}
}

// Write stores the block b, found in front of buf, which passes to the store. It never blocks.
// The verdict on the piece comes as an event once all of its blocks are there and written. A
// block that is there already is dropped. b must be a block of the layout, of a piece that touches
// a wanted file.
func (s *Store) Write(b piece.Block, buf Buffer) {
	if s.cfg.ReadOnly || !s.cfg.Layout.IsBlock(b) {
		panic("storage: Write of something else than a block, or to a store that only reads")
	}
	if s.broken() || !s.shards[int(b.Piece)%len(s.shards)].jobs.put(writeJob{b, buf}) {
		buf.Release()
	}
}

// Forget makes the block b, which was written, missing again: another version of it is to come. It never blocks. If the
// verdict on its piece has come or is on its way, nothing happens.
func (s *Store) Forget(b piece.Block) {
	if s.cfg.ReadOnly || !s.cfg.Layout.IsBlock(b) {
		panic("storage: Forget of something else than a block, or in a store that only reads")
	}
	s.shards[int(b.Piece)%len(s.shards)].jobs.put(writeJob{block: b}) // a closed store has nothing to forget
}

// Read answers r by an event ReadDone. It never blocks. The piece must be verified.
func (s *Store) Read(r ReadJob) { s.reads.put(r) }

// start starts the goroutines.
func (s *Store) start() {
	s.reads = newQueue[ReadJob]()
	for range readers {
		s.readc.Go(s.answer)
	}
	if s.cfg.ReadOnly {
		return
	}
	slabs := s.cfg.Window / slabSize
	reserve := max(2, slabs/2/s.cfg.Shards)
	s.slabs.spare = max(0, slabs-reserve*s.cfg.Shards)
	for range s.cfg.Shards {
		h := newShard(s, &s.slabs, reserve)
		s.shards = append(s.shards, h)
		s.shardc.Go(h.run)
	}
}

// answer serves reads until the queue is closed and empty.
func (s *Store) answer() {
	for {
		r, ok := s.reads.take()
		if !ok {
			return
		}
		err := s.read(r)
		s.cfg.Notify(Event{Op: ReadDone, Piece: r.Piece, Read: r, Err: err})
		if err != nil {
			s.fail(err)
		}
	}
}

func (s *Store) read(r ReadJob) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return s.readVerified(r.Piece, int64(r.Begin), r.Buf.Bytes()[:r.Length])
}

// fail ends the store: nothing is written from now on. Only the first fault is told.
func (s *Store) fail(err error) {
	if s.faulted.Swap(true) {
		return
	}
	s.cfg.Notify(Event{Op: Fault, Err: err})
}

func (s *Store) broken() bool { return s.faulted.Load() }

func (s *Store) verified(p int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have.Has(p)
}

// blank sets what belongs to padding in a block to zero: whatever a peer sent there, it is
// zero on disk and for the hash (BEP 47).
func (s *Store) blank(b piece.Block, data []byte) {
	for c := s.vol.cut(int(b.Piece), int64(b.Begin), int64(b.Length)); c.next(); {
		if c.pad() {
			clear(data[c.at : c.at+c.n])
		}
	}
}

// aim returns where the fetched bytes of a part of piece p go: the file, or the side file when
// the file is not selected or stands under its final name.
func (s *Store) aim(p int, c *cut) (file int, off int64) {
	if s.cfg.Files[c.file].Wanted && s.tab.home(c.file) != atFinal {
		return c.file, c.off
	}
	return s.tab.side, s.sideOffset(p, c)
}

func (s *Store) sideOffset(p int, c *cut) int64 {
	slot, ok := s.vol.slot(p)
	if !ok {
		panic("storage: piece of one file written to the side")
	}
	return slot + s.vol.start[c.file] + c.off - s.cfg.Layout.Offset(p)
}

// writeFetched writes a range of a piece that is not verified.
func (s *Store) writeFetched(p int, begin int64, data []byte) error {
	if err := s.change(); err != nil {
		return err
	}
	for c := s.vol.cut(p, begin, int64(len(data))); c.next(); {
		if c.pad() {
			continue
		}
		file, off := s.aim(p, &c)
		if err := s.tab.writeAt(file, data[c.at:c.at+c.n], off); err != nil {
			return err
		}
		s.stats.written.Add(c.n)
	}
	return nil
}

// readFetched reads what writeFetched wrote.
func (s *Store) readFetched(p int, begin int64, data []byte) error {
	for c := s.vol.cut(p, begin, int64(len(data))); c.next(); {
		part := data[c.at : c.at+c.n]
		if c.pad() {
			clear(part)
			continue
		}
		file, off := s.aim(p, &c)
		if err := s.tab.readAt(file, part, off); err != nil {
			return err
		}
	}
	return nil
}

// readVerified reads a range of a verified piece.
func (s *Store) readVerified(p int, begin int64, data []byte) error {
	s.mu.Lock()
	aside := s.aside.Has(p)
	s.mu.Unlock()
	for c := s.vol.cut(p, begin, int64(len(data))); c.next(); {
		part := data[c.at : c.at+c.n]
		if c.pad() {
			clear(part)
			continue
		}
		file, off := c.file, c.off
		if aside && !s.cfg.Files[c.file].Wanted {
			file, off = s.tab.side, s.sideOffset(p, &c)
		}
		if err := s.tab.readAt(file, part, off); err != nil {
			return err
		}
	}
	return nil
}

// change makes sure that the resume record is gone before anything it speaks of changes.
func (s *Store) change() error {
	s.touch.Do(func() { s.touchErr = s.removeRecord() })
	return s.touchErr
}

// accept enters a good piece and finishes the files it was the last one of.
func (s *Store) accept(p int, sums [][20]byte) error {
	if err := s.compare(p); err != nil {
		return err
	}
	s.mu.Lock()
	s.have.Set(p)
	var last []int // files; mostly none
	for c := s.vol.cut(p, 0, s.cfg.Layout.PieceSize(p)); c.next(); {
		f := &s.cfg.Files[c.file]
		switch {
		case f.Pad:
		case !f.Wanted:
			s.aside.Set(p)
		default:
			if s.left[c.file]--; s.left[c.file] == 0 {
				last = append(last, c.file)
			}
		}
	}
	s.mu.Unlock()
	s.cfg.Notify(Event{Op: Verified, Piece: p, Sums: sums})
	for _, file := range last {
		if err := s.finish(file); err != nil {
			return err
		}
	}
	return nil
}

// compare holds what was fetched for files that stood under their final names against them.
func (s *Store) compare(p int) error {
	for c := s.vol.cut(p, 0, s.cfg.Layout.PieceSize(p)); c.next(); {
		f := &s.cfg.Files[c.file]
		if f.Pad || !f.Wanted || s.tab.home(c.file) != atFinal {
			continue
		}
		if err := s.comparePart(p, &c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) comparePart(p int, c *cut) error {
	ours, theirs := make([]byte, min(c.n, slabSize)), make([]byte, min(c.n, slabSize))
	side := s.sideOffset(p, c)
	for at := int64(0); at < c.n; at += slabSize {
		n := min(slabSize, c.n-at)
		if err := s.tab.readAt(s.tab.side, ours[:n], side+at); err != nil {
			return err
		}
		if err := s.tab.readAt(c.file, theirs[:n], c.off+at); err != nil {
			return err
		}
		if !bytes.Equal(ours[:n], theirs[:n]) {
			return &ConflictError{s.cfg.path(s.cfg.Files[c.file].Path), "its content differs", true}
		}
	}
	return nil
}

// finish completes a file, and everything when it was the last one.
func (s *Store) finish(file int) error {
	if err := s.tab.finish(file); err != nil {
		return err
	}
	s.mu.Lock()
	s.unfinished--
	all := s.unfinished == 0
	s.mu.Unlock()
	s.cfg.Notify(Event{Op: FileDone, File: file})
	if !all {
		return nil
	}
	if err := s.standing(); err != nil {
		return err
	}
	if err := s.finishAll(s.cfg.Notify); err != nil {
		return err
	}
	s.cfg.Notify(Event{Op: Complete})
	return nil
}

// standing makes sure that the files which were finished first are still there: a long time may have
// passed since, and success speaks of all of them.
func (s *Store) standing() error {
	v := newSurvey(s.tab)
	defer v.close()
	if err := s.tab.failure(); err != nil {
		return err
	}
	for i := range s.cfg.Files {
		f := &s.cfg.Files[i]
		if !f.Wanted || f.Pad || s.tab.home(i) != atFinal {
			continue
		}
		info, err := v.lstat(f.Path)
		if err != nil {
			return s.cfg.pathError("finish", f.Path, err)
		}
		if err := s.tab.fits(f.Path, info, f.Length); err != nil {
			return err
		}
	}
	return nil
}

// finishAll makes the empty files and removes the side file if nobody needs it: neither this
// selection, which is complete, nor a later and wider one.
func (s *Store) finishAll(tell func(Event)) error {
	whole := true
	for i, f := range s.cfg.Files {
		switch {
		case f.Pad:
		case !f.Wanted:
			whole = whole && f.Length == 0
		case f.Length == 0 && s.tab.home(i) != atFinal:
			if err := s.change(); err != nil {
				return err
			}
			if err := s.tab.finish(i); err != nil {
				return err
			}
			tell(Event{Op: FileDone, File: i})
		}
	}
	s.mu.Lock()
	whole = whole || s.aside.Empty()
	s.complete = true
	s.mu.Unlock()
	if whole {
		return s.tab.removeSide()
	}
	return nil
}

// Close writes and judges what was given to the store, answers pending reads and closes every
// file. If all of it can be synced within a second, it leaves a resume record that spares the
// next run the hashing; not when everything is complete, for then nothing is left to resume.
// Events come until it returns. A fault was told by its event and is not returned again.
func (s *Store) Close(ctx context.Context) error {
	for _, h := range s.shards {
		h.jobs.close()
	}
	s.reads.close()
	drained := make(chan struct{})
	go func() {
		s.shardc.Wait()
		s.readc.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done(): // a disk that hangs; the lock stays until the process ends
		return context.Cause(ctx)
	}
	err := s.settle(ctx)
	if cerr := s.shut(); err == nil {
		err = cerr
	}
	return err
}

// shut closes the files, gives up the lock and closes the file system.
func (s *Store) shut() error {
	err := s.tab.close()
	if s.lock != nil {
		if lerr := s.lock.Close(); err == nil && lerr != nil {
			err = s.cfg.pathError("unlock", s.cfg.lockName(), lerr)
		}
	}
	if cerr := s.tab.fs.Close(); err == nil {
		err = cerr
	}
	return err
}
