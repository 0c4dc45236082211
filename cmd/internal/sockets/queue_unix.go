//go:build linux || darwin

package sockets

import "golang.org/x/sys/unix"

// limitUnsent has the kernel take no more once so many bytes of a socket have not been sent.
func limitUnsent(fd uintptr, bytes int) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
}
