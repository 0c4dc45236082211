//go:build unix

package sockets

import (
	"errors"
	"syscall"
)

// noFamily reports whether err says that this machine does not have an address family at all.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EPROTONOSUPPORT)
}
