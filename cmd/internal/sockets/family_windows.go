package sockets

import (
	"errors"
	"syscall"
)

// Windows' own numbers (Winsock); package syscall has invented ones under the POSIX names.
const (
	wsaProtoNoSupport = syscall.Errno(10043)
	wsaAFNoSupport    = syscall.Errno(10047)
	wsaAddrNotAvail   = syscall.Errno(10049)
)

// noFamily reports whether err says that this machine does not have an address family at all.
func noFamily(err error) bool {
	return errors.Is(err, wsaAFNoSupport) || errors.Is(err, wsaAddrNotAvail) || errors.Is(err, wsaProtoNoSupport)
}
