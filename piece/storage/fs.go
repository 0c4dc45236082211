package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// FS is the part of a file system that a store needs. Names are slash separated and relative
// to the target folder. Errors are those of package os. All methods may be called concurrently.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (Handle, error)
	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error // replaces to
	Remove(name string) error
	// Lock makes name, or takes it as it is, and locks it until Close, which removes it, or the
	// end of the process. It returns errLocked when somebody else holds the lock.
	Lock(name string) (io.Closer, error)
	// Folder opens a folder, to look at many files in it.
	Folder(dir string) (Folder, error)
	Close() error
}

// A Folder is an open folder. Names are those of files in it.
type Folder interface {
	Lstat(name string) (fs.FileInfo, error)
	Close() error
}

// A Handle is an open file. All methods may be called concurrently.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	// Extent says where the run that begins at off, inside the file, ends, and whether it is
	// data or a hole. A file system that cannot tell says it is all data.
	Extent(off int64) (end int64, data bool)
}

var errLocked = errors.New("locked by another process")

// A rootFS is the file system under an os.Root, which refuses every path that would leave it.
type rootFS struct{ *os.Root }

// openRoot opens the target folder, and makes it first when create is set.
func openRoot(dir string, create bool) (FS, error) {
	if create {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return rootFS{root}, nil
}

func (r rootFS) OpenFile(name string, flag int, perm fs.FileMode) (Handle, error) {
	f, err := r.Root.OpenFile(name, flag|largeFile, perm)
	if err != nil {
		return nil, err
	}
	return rootFile{f}, nil
}

func (r rootFS) Folder(dir string) (Folder, error) { return r.OpenRoot(dir) }

func (r rootFS) Lock(name string) (io.Closer, error) {
	for {
		f, err := r.Root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		if err := lockFile(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Whoever held the lock before us may have removed the file between our open and our
		// lock; then the lock is on a file nobody else will find.
		same, err := r.same(f, name)
		if same {
			return &rootLock{root: r.Root, file: f, name: name}, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// same reports whether name still leads to f.
func (r rootFS) same(f *os.File, name string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := r.Root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, now), err
}

type rootLock struct {
	root *os.Root
	file *os.File
	name string
}

// Close removes the file while the lock is held, so that nobody's fresh lock is removed.
func (l *rootLock) Close() error { return errors.Join(l.root.Remove(l.name), l.file.Close()) }

type rootFile struct{ *os.File }

// Size asks for the end of the file by seeking: unlike Stat this allocates nothing, and no
// other method depends on the file's position.
func (f rootFile) Size() (int64, error) { return f.Seek(0, io.SeekEnd) }

func (f rootFile) Extent(off int64) (end int64, data bool) {
	size, err := f.Size()
	if err != nil || seekData < 0 {
		return max(size, off+1), true
	}
	start, err := f.Seek(off, seekData)
	switch {
	case isNoMoreData(err):
		return size, false
	case err != nil: // not supported here
		return size, true
	case start > off:
		return start, false
	}
	if end, err = f.Seek(off, seekHole); err != nil || end <= off {
		return size, true
	}
	return end, true
}
