package storage

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"
	"time"
)

// A home says where the bytes of a file are.
type home uint8

const (
	nowhere home = iota // not on disk
	atPart              // in NAME.part
	atFinal             // under the final name
	atSide              // in the side file
)

// partSuffix marks a file that is not complete yet.
const partSuffix = ".part"

// A fileState is what the table knows of one file of the torrent. It is small because there
// may be 200,000 of them.
type fileState struct {
	home    home
	dirty   bool  // written to since it was last known to be synced, maybe by a run that was killed
	unsure  bool  // complete before Open, but nobody knows whether it was synced
	replace bool  // a file stands at the final name that the finished one may replace
	end     int64 // bytes it must have at least, because we wrote or saw them
	mtime   int64 // time of change in ns since 1970, unless somebody else changes it; 0 once we wrote to it
}

// A table maps the files of a torrent, and the side file as one more behind them, to what is on
// disk. It keeps few files open, the most recently used ones. It serves all shards and readers.
type table struct {
	cfg  *Config
	fs   FS
	side int // index of the side file

	making sync.Mutex // held while a file is made, so that it is made once; taken before mu

	mu      sync.Mutex // guards what follows
	files   []fileState
	open    map[int]*entry
	lost    error // the first one of closing a file that was written to: some of it is not on disk
	limit   int   // entries to keep; shrinks when the system refuses more
	clock   int64
	folders map[string]bool // folders known to exist
}

// An entry is an open file. It may be closed only while nobody uses it.
type entry struct {
	Handle
	file   int
	uses   int
	last   int64     // clock at the last use
	looked time.Time // when its name was last seen to lead to it
}

// lookEvery is how often a file that is written to is looked for under its name: writing on to one that
// somebody removed or replaced would fetch what is lost all the same.
const lookEvery = time.Second

func newTable(cfg *Config, fsys FS) *table {
	return &table{
		cfg: cfg, fs: fsys, side: len(cfg.Files), files: make([]fileState, len(cfg.Files)+1),
		open: make(map[int]*entry), limit: cfg.OpenFiles, folders: map[string]bool{".": true},
	}
}

// name returns where a file is, or would be made, while its home is h.
func (t *table) name(file int, h home) string {
	switch {
	case file == t.side || h == atSide:
		return t.cfg.sideName()
	case h == atFinal:
		return t.cfg.Files[file].Path
	}
	return t.cfg.Files[file].Path + partSuffix
}

// home returns where a file's bytes are.
func (t *table) home(file int) home {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files[file].home
}

// acquire returns an open file for the caller to use and release. A file that does not exist
// is made when create is set; one that we know to exist never is: that it is gone is an error.
func (t *table) acquire(file int, create bool) (*entry, error) {
	for {
		t.mu.Lock()
		if e := t.open[file]; e != nil {
			t.use(e)
			t.mu.Unlock()
			return e, nil
		}
		t.shrink(t.limit - 1)
		h := t.files[file].home
		t.mu.Unlock()
		if h == nowhere && create {
			if err := t.make(file); err != nil {
				return nil, err
			}
			continue
		}
		if h == nowhere {
			return nil, t.cfg.pathError("open", t.name(file, atFinal), fs.ErrNotExist)
		}
		e, moved, err := t.openExisting(file, h)
		if err != nil || !moved {
			return e, err
		}
	}
}

// openExisting opens a file and enters it. It reports moved when the file was renamed
// meanwhile, so that its caller looks again.
func (t *table) openExisting(file int, h home) (e *entry, moved bool, err error) {
	flag := os.O_RDWR
	t.mu.Lock()
	if t.cfg.ReadOnly || h == atFinal && !t.files[file].dirty { // to sync, Windows wants to write
		flag = os.O_RDONLY
	}
	t.mu.Unlock()
	name := t.name(file, h)
	var hd Handle
	err = t.retry(func() error {
		hd, err = t.fs.OpenFile(name, flag, 0)
		return err
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.files[file].home != h:
		if hd != nil {
			err = hd.Close()
		} else {
			err = nil
		}
		return nil, true, err
	case err != nil:
		return nil, false, t.cfg.pathError("open", name, err)
	case t.open[file] != nil: // somebody else was faster
		e = t.open[file]
		t.use(e)
		return e, false, hd.Close()
	}
	return t.enter(file, hd), false, nil
}

// openRead opens a file for reading, apart from the table's own handles.
func (t *table) openRead(file int, h home) (hd Handle, err error) {
	name := t.name(file, h)
	err = t.retry(func() error {
		hd, err = t.fs.OpenFile(name, os.O_RDONLY, 0)
		return err
	})
	if err != nil {
		return nil, t.cfg.pathError("open", name, err)
	}
	return hd, nil
}

// make makes a file and the folders above it.
func (t *table) make(file int) error {
	t.making.Lock()
	defer t.making.Unlock()
	if t.home(file) != nowhere {
		return nil
	}
	name := t.name(file, atPart)
	if err := t.makeFolders(path.Dir(name)); err != nil {
		return err
	}
	var hd Handle
	err := t.retry(func() (err error) {
		hd, err = t.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err != nil {
		return t.cfg.pathError("create", name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[file].home = atPart; file == t.side {
		t.files[file].home = atSide
	}
	e := t.enter(file, hd)
	e.uses--
	return nil
}

// makeFolders makes a folder and those above it. The caller holds t.making.
func (t *table) makeFolders(dir string) error {
	if t.folders[dir] {
		return nil
	}
	if err := t.makeFolders(path.Dir(dir)); err != nil {
		return err
	}
	err := t.retry(func() error { return t.fs.Mkdir(dir, 0o777) })
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = t.lstat(dir); err == nil && !info.IsDir() {
			return &ConflictError{t.cfg.path(dir), "not a folder", false}
		}
	}
	if err != nil {
		return t.cfg.pathError("mkdir", dir, err)
	}
	t.folders[dir] = true
	return nil
}

// use marks an entry as in use. The caller holds t.mu, as for enter and shrink.
func (t *table) use(e *entry) {
	t.clock++
	e.last = t.clock
	e.uses++
}

func (t *table) enter(file int, h Handle) *entry {
	e := &entry{Handle: h, file: file, looked: time.Now()}
	t.open[file] = e
	t.use(e)
	return e
}

// shrink closes unused files, the least recently used first, until at most n are open. It
// reports how many it closed. Closing is where some file systems, network ones first of all, admit
// that a write failed, and they say it once: a sync of the file opened anew would know nothing of it.
func (t *table) shrink(n int) (closed int) {
	for len(t.open) > max(n, 0) {
		var oldest *entry
		at := int64(math.MaxInt64)
		for _, e := range t.open {
			if e.uses == 0 && e.last < at {
				oldest, at = e, e.last
			}
		}
		if oldest == nil {
			return closed
		}
		delete(t.open, oldest.file)
		if err := oldest.Close(); err != nil && t.files[oldest.file].dirty && t.lost == nil {
			t.lost = t.cfg.pathError("close", t.name(oldest.file, t.files[oldest.file].home), err)
		}
		closed++
	}
	return closed
}

// release ends the use of an entry.
func (t *table) release(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.uses--
	t.shrink(t.limit)
}

// retry runs an operation that needs file descriptors. When there are none it closes what is
// open and not in use, then waits for others to give some back, about five seconds in all.
func (t *table) retry(op func() error) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := op()
		if err == nil || !isTooManyOpen(err) || wait > 4*time.Second {
			return err
		}
		t.mu.Lock()
		t.limit = max(2, min(t.limit, len(t.open))/2)
		closed := t.shrink(0)
		t.mu.Unlock()
		if closed == 0 {
			time.Sleep(wait)
		}
	}
}

func (t *table) lstat(name string) (info fs.FileInfo, err error) {
	err = t.retry(func() error {
		info, err = t.fs.Lstat(name)
		return err
	})
	return info, err
}

// writeAt writes to a file, made first if need be. It notices when the file has become shorter
// than what was written to it.
func (t *table) writeAt(file int, data []byte, off int64) error {
	e, err := t.acquire(file, true)
	if err != nil {
		return err
	}
	defer t.release(e)
	if err := t.guard(e); err != nil {
		return err
	}
	if _, err := e.WriteAt(data, off); err != nil {
		return t.cfg.pathError("write", t.name(file, t.home(file)), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := &t.files[file]
	f.dirty, f.mtime = true, 0
	f.end = max(f.end, off+int64(len(data)))
	return nil
}

// guard checks that nothing written was lost and nobody truncated, removed or replaced an open file: writing
// on would leave a hole where verified bytes were, or be for nothing.
func (t *table) guard(e *entry) error {
	t.mu.Lock()
	end := t.files[e.file].end // before the size: others only let it grow
	h := t.files[e.file].home
	lost := t.lost
	now := time.Now()
	look := now.Sub(e.looked) >= lookEvery
	if look {
		e.looked = now
	}
	t.mu.Unlock()
	if lost != nil {
		return lost
	}
	name := t.name(e.file, h)
	size, err := e.Size()
	if err != nil {
		return t.cfg.pathError("seek", name, err)
	}
	if size < end {
		return &ChangedError{t.cfg.path(name), "it is shorter than what was written to it"}
	}
	if !look {
		return nil
	}
	switch info, err := t.lstat(name); {
	case t.home(e.file) != h: // it was given another name meanwhile
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &ChangedError{t.cfg.path(name), "it was removed"}
	case err != nil:
		return t.cfg.pathError("lstat", name, err)
	case t.replaced(e.file, info):
		return &ChangedError{t.cfg.path(name), "it is another file than was written to"}
	}
	return nil
}

// readAt fills data from a file.
func (t *table) readAt(file int, data []byte, off int64) error {
	e, err := t.acquire(file, false)
	if err != nil {
		return err
	}
	defer t.release(e)
	if n, err := e.ReadAt(data, off); n < len(data) {
		name := t.name(file, t.home(file))
		if size, serr := e.Size(); serr == nil && size < off+int64(len(data)) {
			return &ChangedError{t.cfg.path(name), "it is shorter than it was"}
		}
		return t.cfg.pathError("read", name, err)
	}
	return nil
}

// finish gives a file whose pieces are all verified its final name, after a last look at its
// size: whoever truncated or removed it behind our back shall not get a silent success.
func (t *table) finish(file int) error {
	if err := t.failure(); err != nil {
		return err
	}
	f := t.cfg.Files[file]
	h := t.home(file)
	if h == nowhere { // an empty one: only they have no piece
		if err := t.make(file); err != nil {
			return err
		}
		h = atPart
	}
	name := t.name(file, h)
	info, err := t.lstat(name)
	switch {
	case err != nil:
		return t.cfg.pathError("finish", name, err)
	case t.replaced(file, info):
		return &ChangedError{t.cfg.path(name), "it is another file than was written to"}
	case h == atFinal:
		return t.fits(name, info, f.Length)
	case info.Mode().IsRegular() && info.Size() > f.Length:
		if err := t.truncate(file, f.Length); err != nil {
			return err
		}
		if info, err = t.lstat(name); err != nil {
			return t.cfg.pathError("finish", name, err)
		}
	}
	if err := t.fits(name, info, f.Length); err != nil {
		return err
	}
	return t.rename(file, info.ModTime().UnixNano())
}

// replaced reports whether info, of what stands under a file's name, is of another file than the one
// that is open, if it is. The times must differ too, because some file systems number files anew.
func (t *table) replaced(file int, info fs.FileInfo) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.open[file]
	if e == nil {
		return false
	}
	opened, err := e.Stat()
	return err == nil && !os.SameFile(opened, info) && !opened.ModTime().Equal(info.ModTime())
}

// fits checks that what stands at name is a file of that many bytes.
func (t *table) fits(name string, info fs.FileInfo, length int64) error {
	switch {
	case !info.Mode().IsRegular():
		return &ChangedError{t.cfg.path(name), "it is no longer a file"}
	case info.Size() < length:
		return &ChangedError{t.cfg.path(name), "it is shorter than it was"}
	case info.Size() > length:
		return &ChangedError{t.cfg.path(name), "it is longer than it was"}
	}
	return nil
}

// truncate cuts what an adopted file has too much.
func (t *table) truncate(file int, size int64) error {
	e, err := t.acquire(file, false)
	if err != nil {
		return err
	}
	defer t.release(e)
	if err := e.Truncate(size); err != nil {
		return t.cfg.pathError("truncate", t.name(file, atPart), err)
	}
	return nil
}

// rename moves a finished file, changed last at mtime, to its final name. Open handles stay valid.
// The name is looked at once more, because renaming would replace what came there since Open.
func (t *table) rename(file int, mtime int64) error {
	from, to := t.name(file, atPart), t.name(file, atFinal)
	t.mu.Lock()
	replace := t.files[file].replace
	t.mu.Unlock()
	_, err := t.lstat(to)
	switch {
	case err == nil && !replace:
		return &ConflictError{t.cfg.path(to), "it appeared during the download", false}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return t.cfg.pathError("lstat", to, err)
	}
	err = t.retry(func() error { // it opens the folders on the way
		t.mu.Lock()
		defer t.mu.Unlock() // nobody shall open the old name once it is gone
		err := t.fs.Rename(from, to)
		if err == nil {
			t.files[file].home, t.files[file].mtime = atFinal, mtime
		}
		return err
	})
	if err != nil {
		return t.cfg.pathError("rename", from, err)
	}
	return nil
}

// removeSide removes the side file if there is one.
func (t *table) removeSide() error {
	t.mu.Lock()
	e := t.open[t.side]
	exists := t.files[t.side].home != nowhere
	if e != nil && e.uses == 0 {
		delete(t.open, t.side)
		_ = e.Close() // what it held is not needed any more
	}
	t.files[t.side] = fileState{}
	t.mu.Unlock()
	if !exists {
		return nil
	}
	return t.remove(t.cfg.sideName())
}

// remove removes a file that may be there.
func (t *table) remove(name string) error {
	err := t.retry(func() error { return t.fs.Remove(name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t.cfg.pathError("remove", name, err)
	}
	return nil
}

// failure returns what closing a file has told of lost writes.
func (t *table) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// sync makes what was written to a file durable.
func (t *table) sync(file int) error {
	t.mu.Lock()
	dirty, lost := t.files[file].dirty, t.lost
	t.mu.Unlock()
	if !dirty || lost != nil {
		return lost
	}
	e, err := t.acquire(file, false)
	if err != nil {
		return err
	}
	defer t.release(e)
	if err := e.Sync(); err != nil {
		return t.cfg.pathError("sync", t.name(file, t.home(file)), err)
	}
	return nil
}

// close closes every file.
func (t *table) close() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for file, e := range t.open {
		if e.uses == 0 {
			delete(t.open, file)
			err = errors.Join(err, e.Close())
		}
	}
	return err
}
