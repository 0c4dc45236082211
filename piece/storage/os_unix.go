//go:build unix

package storage

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a lock that ends with the open file, and so with the process. A file system
// without locks, as some network ones are, has to do without.
func lockFile(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := raw.Control(func(fd uintptr) {
		locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
	}); err != nil {
		return err
	}
	switch {
	case errors.Is(locked, syscall.EWOULDBLOCK):
		return errLocked
	case errors.Is(locked, syscall.ENOLCK), errors.Is(locked, errors.ErrUnsupported):
		return nil
	}
	return locked
}

// isNoMoreData reports that a search for data reached the end of the file.
func isNoMoreData(err error) bool { return errors.Is(err, syscall.ENXIO) }

// isTooManyOpen reports that the process or the system has no file descriptor left.
func isTooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
