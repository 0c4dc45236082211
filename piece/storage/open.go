package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"bittern/piece"
)

// Open finds out what of the torrent is on disk and returns a store that goes on from there.
// Pieces that a resume record does not vouch for are hashed, on all cores, until ctx ends.
//
// It checks everything before it changes anything: a *[ConflictError] or *[LockedError] leaves
// all as it was. Other errors wrap that of package os and name the path. No event comes before
// Open has returned.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := newStore(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	s.start()
	return s, nil
}

// newStore opens the target folder and takes the lock.
func newStore(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.FS == nil {
		if cfg.FS, err = openRoot(cfg.Dir, !cfg.ReadOnly); err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
	}
	s := &Store{cfg: cfg, vol: newVolume(cfg.Layout, cfg.Files)}
	s.tab = newTable(&s.cfg, cfg.FS)
	s.have = piece.NewBitfield(cfg.Layout.Pieces())
	s.aside = piece.NewBitfield(cfg.Layout.Pieces())
	if cfg.ReadOnly {
		return s, nil
	}
	if _, err := newSurvey(s.tab).hidden(); err != nil {
		return nil, errors.Join(err, s.shut())
	}
	lock, err := cfg.FS.Lock(cfg.lockName())
	switch {
	case errors.Is(err, errLocked):
		return nil, errors.Join(&LockedError{cfg.path(cfg.Name)}, s.shut())
	case err != nil:
		return nil, errors.Join(cfg.pathError("lock", cfg.lockName(), err), s.shut())
	}
	s.lock = lock
	return s, nil
}

// recover brings the store to the state that the disk is in, then the disk to the one that the
// configuration asks for.
func (s *Store) recover(ctx context.Context) error {
	v := newSurvey(s.tab)
	side := false
	if !s.cfg.ReadOnly {
		var err error
		if side, err = v.hidden(); err != nil {
			return err
		}
	}
	found, err := v.scan()
	if err != nil {
		return err
	}
	for i, f := range found { // what a killed run wrote may not have been synced
		s.tab.files[i] = fileState{home: f.home, dirty: f.home == atPart, unsure: f.home == atFinal, mtime: f.mtime}
	}
	if side {
		s.tab.files[s.tab.side].home = atSide
	}
	r := &recovery{Store: s, found: found, moves: make(map[int]view)}
	if !s.cfg.ReadOnly {
		r.trust(s.loadRecord())
	}
	if err := r.hash(ctx, side); err != nil {
		return err
	}
	if s.cfg.ReadOnly {
		s.complete = r.allThere()
		return nil
	}
	if err := r.settleConflicts(); err != nil {
		return err
	}
	return r.apply()
}

// A recovery is the work of Open.
type recovery struct {
	*Store
	found []finding
	moves map[int]view // pieces of which bytes were found in the side file, and how
}

// trust enters what a record vouches for: pieces all of whose files are as they were.
func (r *recovery) trust(rec *record) {
	if rec == nil {
		return
	}
	same := make([]bool, len(r.found))
	for k, i := range rec.index {
		same[i] = r.found[i].stamp == rec.stamps[k]
		if t := &r.tab.files[i]; same[i] {
			t.dirty, t.unsure = false, false
		}
	}
	for p := range rec.have.All() {
		ok := true
		for c := r.vol.cut(p, 0, r.cfg.Layout.PieceSize(p)); c.next() && ok; {
			ok = c.pad() || same[c.file]
		}
		if ok {
			r.have.Set(p)
		}
	}
}

// A view is one way to read a shared piece: which files' bytes are taken from the side file.
// Those of a file not selected are there if they were fetched before; those of a selected one
// that is not complete, if it was not selected then.
type view struct {
	unwanted, unfinished bool // all files of the kind
	mask                 uint // the files at these bits, the first one of the piece at bit 0
}

// views returns the views to try, in this order, when there is a side file. After several
// changes of the selection any mixture may be the right one: all are tried where they are few.
func views() []view {
	vs := []view{{}, {unwanted: true}, {unwanted: true, unfinished: true}}
	for m := uint(1); m < 1<<maxMixed; m++ {
		vs = append(vs, view{mask: m})
	}
	return vs
}

// maxMixed is how many files a piece may have for every mixture to be tried.
const maxMixed = 3

// hash checks every piece that may be there. What lies in one file is read from it; a shared
// piece is tried in each view that makes a difference until one is good.
func (r *recovery) hash(ctx context.Context, side bool) error {
	todo := r.candidates(side)
	tries := views()
	if !side {
		tries = tries[:1]
	}
	var done, total int64
	for p := range todo.All() {
		total += r.cfg.Layout.PieceSize(p)
	}
	for n, v := range tries {
		if n > 0 {
			todo = r.retryable(todo)
		}
		h := &hasher{vol: r.vol, tab: r.tab, workers: runtime.GOMAXPROCS(0)}
		h.locate = func(file, p int) home { return r.locate(v, file, p) }
		err := h.run(ctx, todo, func(p int, sum [20]byte, missing bool) {
			if n == 0 {
				done += r.cfg.Layout.PieceSize(p)
				r.cfg.progress(done, total)
			}
			if !missing && sum == [20]byte(r.cfg.Sums[20*p:]) {
				r.enter(p, v)
			}
		})
		if err != nil {
			return err
		}
	}
	r.stats.checked.Store(done)
	return nil
}

// locate says where a view takes the bytes of a file that belong to piece p from.
func (r *recovery) locate(v view, file, p int) home {
	at := r.found[file].home
	wanted := r.cfg.Files[file].Wanted
	switch {
	case r.cfg.ReadOnly || wanted && at == atFinal:
		return at
	case v.mask != 0:
		c := r.vol.cut(p, 0, 1)
		if c.next(); v.mask>>(file-c.file)&1 != 0 {
			return atSide
		}
	case wanted && v.unfinished, !wanted && v.unwanted:
		return atSide
	case at == nowhere && r.tab.files[r.tab.side].home == atSide:
		return atSide
	}
	return at
}

// enter enters a piece that is good in a view.
func (r *recovery) enter(p int, v view) {
	r.have.Set(p)
	if r.cfg.ReadOnly {
		return
	}
	for c := r.vol.cut(p, 0, r.cfg.Layout.PieceSize(p)); c.next(); {
		if c.pad() || r.locate(v, c.file, p) != atSide {
			continue
		}
		r.moves[p] = v
		if !r.cfg.Files[c.file].Wanted {
			r.aside.Set(p)
		}
	}
}

// candidates returns the pieces that are not trusted and not certainly absent. Nothing is
// looked at for a file that is not there, so that a fresh torrent costs nothing.
func (r *recovery) candidates(side bool) piece.Bitfield {
	todo := piece.NewBitfield(r.have.Len())
	add := func(p int) {
		if !r.have.Has(p) {
			todo.Set(p)
		}
	}
	for i := range r.cfg.Files {
		f := &r.cfg.Files[i]
		if f.Length == 0 || !f.Pad && r.found[i].home == nowhere {
			continue
		}
		lo, hi := r.vol.pieces(i)
		if !f.Pad { // what lies beyond its end on disk is certainly absent
			hi = min(hi, int((r.vol.start[i]+r.found[i].size-1)/r.cfg.Layout.PieceLength()))
		}
		for p := lo; p <= hi; p++ {
			if !f.Pad || r.vol.inside(p, i) {
				add(p)
			}
		}
	}
	if side {
		for _, p := range r.vol.shared {
			add(int(p))
		}
	}
	return todo
}

// retryable returns the shared pieces among those that were tried in vain.
func (r *recovery) retryable(tried piece.Bitfield) piece.Bitfield {
	todo := piece.NewBitfield(tried.Len())
	for _, p := range r.vol.shared {
		if tried.Has(int(p)) && !r.have.Has(int(p)) {
			todo.Set(int(p))
		}
	}
	return todo
}

// allThere reports whether every wanted file is there and good.
func (r *recovery) allThere() bool {
	for i, f := range r.cfg.Files {
		if !f.Wanted || f.Pad {
			continue
		}
		if r.found[i].home != atFinal || r.found[i].size != f.Length || r.lacks(i) > 0 {
			return false
		}
	}
	return true
}

// lacks returns how many pieces of a file are not verified.
func (r *recovery) lacks(file int) (n int32) {
	if r.cfg.Files[file].Length == 0 {
		return 0
	}
	lo, hi := r.vol.pieces(file)
	if r.have.Empty() {
		return int32(hi - lo + 1)
	}
	for p := lo; p <= hi; p++ {
		if !r.have.Has(p) {
			n++
		}
	}
	return n
}

// settleConflicts decides about the files that stand under their final names. One with a bad
// piece that is its own is not this torrent's. One with a bad piece that it shares may be: the
// piece is fetched to the side and compared. With Overwrite both become NAME.part.
func (r *recovery) settleConflicts() error {
	for i, f := range r.cfg.Files {
		if r.found[i].home != atFinal || !f.Wanted || f.Length == 0 {
			continue
		}
		bad, own := false, false
		lo, hi := r.vol.pieces(i)
		for p := lo; p <= hi && !own; p++ {
			if !r.have.Has(p) {
				bad = true
				_, shared := r.vol.slot(p)
				own = !shared
			}
		}
		switch {
		case r.cfg.Overwrite:
			r.found[i].adopt = r.found[i].adopt || bad
		case own:
			return &ConflictError{r.cfg.path(f.Path), "its content differs", true}
		}
	}
	return nil
}

// apply makes the disk what the findings ask for. From here on the disk changes.
func (r *recovery) apply() error {
	for i, f := range r.found {
		t := &r.tab.files[i]
		t.replace = f.replace
		if f.home != nowhere && r.cfg.Files[i].Wanted {
			t.end = min(f.size, r.cfg.Files[i].Length)
		}
		if !f.adopt {
			continue
		}
		if err := r.adopt(i); err != nil {
			return err
		}
	}
	for _, p := range r.vol.shared {
		if v, ok := r.moves[int(p)]; ok {
			if err := r.migrate(int(p), v); err != nil {
				return err
			}
		}
	}
	return r.count()
}

// adopt makes a file that stands under its final name one that is not complete.
func (r *recovery) adopt(i int) error {
	if err := r.change(); err != nil {
		return err
	}
	from, to := r.tab.name(i, atFinal), r.tab.name(i, atPart)
	if err := r.tab.retry(func() error { return r.tab.fs.Rename(from, to) }); err != nil {
		return r.cfg.pathError("rename", from, err)
	}
	t := &r.tab.files[i]
	t.home, t.dirty, t.unsure = atPart, true, false
	return nil
}

// migrate puts the bytes of a piece that was found with the help of the side file where they
// belong now: those of wanted files, after the selection became wider, into the files; those of
// the others into the side file, all of them, because that is noted by the piece.
func (r *recovery) migrate(p int, v view) error {
	for c := r.vol.cut(p, 0, r.cfg.Layout.PieceSize(p)); c.next(); {
		fromSide := r.locate(v, c.file, p) == atSide
		wanted := r.cfg.Files[c.file].Wanted
		var err error
		switch {
		case c.pad():
		case wanted && fromSide:
			err = r.transfer(r.tab.side, r.sideOffset(p, &c), c.file, c.off, c.n)
		case !wanted && !fromSide && r.aside.Has(p):
			err = r.transfer(c.file, c.off, r.tab.side, r.sideOffset(p, &c), c.n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// transfer copies n bytes from one file of the table to another.
func (r *recovery) transfer(from int, at int64, to int, off, n int64) error {
	if err := r.change(); err != nil {
		return err
	}
	buf := make([]byte, min(n, slabSize))
	for ; n > 0; n -= int64(len(buf)) {
		buf = buf[:min(n, slabSize)]
		if err := r.tab.readAt(from, buf, at); err != nil {
			return err
		}
		if err := r.tab.writeAt(to, buf, off); err != nil {
			return err
		}
		at, off = at+int64(len(buf)), off+int64(len(buf))
	}
	return nil
}

// count works out what is left to do, and finishes what is not: a run may have been killed
// between its last piece and the new name.
func (r *recovery) count() error {
	r.left = make([]int32, len(r.cfg.Files))
	for i := range r.cfg.Files {
		f := &r.cfg.Files[i]
		if !f.Wanted || f.Pad || f.Length == 0 {
			continue
		}
		if r.left[i] = r.lacks(i); r.left[i] > 0 {
			r.unfinished++
			continue
		}
		if r.tab.home(i) != atFinal {
			if err := r.change(); err != nil {
				return err
			}
			if err := r.tab.finish(i); err != nil {
				return err
			}
		}
	}
	if r.unfinished > 0 {
		return nil
	}
	return r.finishAll(func(Event) {}) // nobody may be there to receive yet
}
