//go:build unix

package storage

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a lock that ends with the open file, and so with the process.
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
	if errors.Is(locked, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return locked
}

// isNoMoreData reports that a search for data reached the end of the file.
func isNoMoreData(err error) bool { return errors.Is(err, syscall.ENXIO) }

// isTooManyOpen reports that the process or the system has no file descriptor left.
func isTooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
