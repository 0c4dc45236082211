package storage

import (
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
)

// A faultFS is a file system with things going wrong in it.
type faultFS struct {
	FS
	mu sync.Mutex
	// fault, when set, is asked before each operation; an error becomes the operation's. Of a
	// write that fails, half the bytes are written.
	fault func(op, name string) error
	limit int // files that may be open at a time; 0 means any
	open  int
	most  int // files that were open at a time
	ops   map[string]int
}

func (f *faultFS) ask(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ops == nil {
		f.ops = map[string]int{}
	}
	f.ops[op]++
	if f.fault == nil {
		return nil
	}
	if err := f.fault(op, name); err != nil {
		return pathErr(op, name, err)
	}
	return nil
}

// set replaces the fault.
func (f *faultFS) set(fault func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *faultFS) setLimit(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

// count returns how often an operation was asked for.
func (f *faultFS) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops[op]
}

func (f *faultFS) mostOpen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

// failOn returns a fault of one operation on names that hold part.
func failOn(op, part string, err error) func(string, string) error {
	return func(o, name string) error {
		if o == op && strings.Contains(name, part) {
			return err
		}
		return nil
	}
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (Handle, error) {
	if err := f.ask("open", name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit > 0 && f.open >= f.limit {
		return nil, pathErr("open", name, syscall.EMFILE)
	}
	h, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.open++
	f.most = max(f.most, f.open)
	return &faultHandle{h, f, name}, nil
}

func (f *faultFS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.ask("lstat", name); err != nil {
		return nil, err
	}
	return f.FS.Lstat(name)
}

func (f *faultFS) Folder(dir string) (Folder, error) {
	in, err := f.FS.Folder(dir)
	if err != nil {
		return nil, err
	}
	return faultFolder{in, f, dir}, nil
}

type faultFolder struct {
	Folder
	fs  *faultFS
	dir string
}

func (f faultFolder) Lstat(name string) (fs.FileInfo, error) {
	if err := f.fs.ask("lstat", path.Join(f.dir, name)); err != nil {
		return nil, err
	}
	return f.Folder.Lstat(name)
}

func (f *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.ask("mkdir", name); err != nil {
		return err
	}
	return f.FS.Mkdir(name, perm)
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.ask("rename", from); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.ask("remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

type faultHandle struct {
	Handle
	fs   *faultFS
	name string
}

func (h *faultHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.fs.ask("read", h.name); err != nil {
		return 0, err
	}
	return h.Handle.ReadAt(p, off)
}

func (h *faultHandle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.fs.ask("write", h.name); err != nil {
		n, _ := h.Handle.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return h.Handle.WriteAt(p, off)
}

func (h *faultHandle) Sync() error {
	if err := h.fs.ask("sync", h.name); err != nil {
		return err
	}
	return h.Handle.Sync()
}

func (h *faultHandle) Close() error {
	h.fs.mu.Lock()
	h.fs.open--
	h.fs.mu.Unlock()
	if err := h.fs.ask("close", h.name); err != nil {
		_ = h.Handle.Close() // it is closed all the same
		return err
	}
	return h.Handle.Close()
}
