package storage

import (
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"
)

// A memDisk is a disk in memory. Its files outlive the memFS of one run.
type memDisk struct {
	mu    sync.Mutex
	nodes map[string]*memNode // by path; a folder has nil data
	locks map[string]bool
	now   int64 // time of the next change
}

type memNode struct {
	name string
	dir  bool
	disk *memDisk
	data []byte
	time int64
}

func newMemDisk() *memDisk {
	return &memDisk{nodes: map[string]*memNode{".": {name: ".", dir: true}}, locks: map[string]bool{}}
}

// A memFS is a disk in memory as one run sees it.
type memFS struct{ *memDisk }

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (m memFS) OpenFile(name string, flag int, _ fs.FileMode) (Handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	switch {
	case n != nil && flag&os.O_EXCL != 0:
		return nil, pathErr("open", name, fs.ErrExist)
	case n != nil && n.dir:
		return nil, pathErr("open", name, syscall.EISDIR)
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathErr("open", name, fs.ErrNotExist)
	case n == nil:
		if up := m.nodes[path.Dir(name)]; up == nil || !up.dir {
			return nil, pathErr("open", name, fs.ErrNotExist)
		}
		n = &memNode{name: name, disk: m.memDisk}
		m.nodes[name] = n
		n.change()
	}
	return &memHandle{memNode: n, write: flag&os.O_RDWR != 0}, nil
}

func (m memFS) Lstat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[name]
	if n == nil {
		return nil, pathErr("lstat", name, fs.ErrNotExist)
	}
	return n.info(), nil
}

func (m memFS) Mkdir(name string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[name] != nil {
		return pathErr("mkdir", name, fs.ErrExist)
	}
	if up := m.nodes[path.Dir(name)]; up == nil || !up.dir {
		return pathErr("mkdir", name, fs.ErrNotExist)
	}
	m.nodes[name] = &memNode{name: name, dir: true, disk: m.memDisk}
	return nil
}

func (m memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[from]
	if n == nil {
		return pathErr("rename", from, fs.ErrNotExist)
	}
	delete(m.nodes, from)
	n.name = to
	m.nodes[to] = n
	return nil
}

func (m memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[name] == nil {
		return pathErr("remove", name, fs.ErrNotExist)
	}
	delete(m.nodes, name)
	return nil
}

func (m memFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, errLocked
	}
	m.locks[name] = true
	m.nodes[name] = &memNode{name: name, disk: m.memDisk}
	return memLock{m, name}, nil
}

func (m memFS) Folder(dir string) (Folder, error) {
	if info, err := m.Lstat(dir); err != nil || !info.IsDir() {
		return nil, pathErr("open", dir, fs.ErrNotExist)
	}
	return memFolder{m, dir}, nil
}

func (m memFS) Close() error { return nil }

type memFolder struct {
	memFS
	dir string
}

func (f memFolder) Lstat(name string) (fs.FileInfo, error) {
	return f.memFS.Lstat(path.Join(f.dir, name))
}

type memLock struct {
	memFS
	name string
}

func (l memLock) Close() error {
	err := l.Remove(l.name) // while the lock is held, as on disk
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.locks, l.name)
	return err
}

// change gives the node a new time of change. The caller holds the disk's lock.
func (n *memNode) change() {
	n.disk.now++
	n.time = n.disk.now
}

func (n *memNode) info() fs.FileInfo {
	return memInfo{path.Base(n.name), int64(len(n.data)), n.dir, time.Unix(0, n.time)}
}

type memInfo struct {
	name string
	size int64
	dir  bool
	time time.Time
}

func (i memInfo) Name() string { return i.name }
func (i memInfo) Size() int64  { return i.size }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}
func (i memInfo) ModTime() time.Time { return i.time }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

type memHandle struct {
	*memNode
	write  bool
	closed bool
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.closed {
		return 0, pathErr("read", h.name, fs.ErrClosed)
	}
	if off >= int64(len(h.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.closed || !h.write {
		return 0, pathErr("write", h.name, fs.ErrClosed)
	}
	if end := int(off) + len(p); end > len(h.data) {
		h.data = append(h.data, make([]byte, end-len(h.data))...)
	}
	h.change()
	return copy(h.data[off:], p), nil
}

func (h *memHandle) Truncate(size int64) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if size > int64(len(h.data)) {
		h.data = append(h.data, make([]byte, int(size)-len(h.data))...)
	}
	h.data = h.data[:size]
	h.change()
	return nil
}

func (h *memHandle) Size() (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return int64(len(h.data)), nil
}

func (h *memHandle) Stat() (fs.FileInfo, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return h.info(), nil
}

// Extent finds holes in steps of 4 KiB, as a disk would.
func (h *memHandle) Extent(off int64) (end int64, data bool) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	const page = 4096
	first := true
	for at := off; at < int64(len(h.data)); at = (at/page + 1) * page {
		used := false
		for _, b := range h.data[at/page*page : min(int64(len(h.data)), (at/page+1)*page)] {
			used = used || b != 0
		}
		if first {
			data, first = used, false
		} else if used != data {
			return at, data
		}
	}
	return int64(len(h.data)), data
}

func (h *memHandle) Sync() error { return nil }

func (h *memHandle) Close() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.closed {
		return pathErr("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	return nil
}
