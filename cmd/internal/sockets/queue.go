package sockets

import "net"

// unsentBytes is how much of what we write may wait in the kernel because the network does not take it yet. What is on its
// way to the peer does not count, so it costs no speed; but whatever we say next waits behind it, and the kernel
// would take megabytes.
const unsentBytes = 64 << 10

// shortQueue bounds what waits in the kernel on a connection to a peer. Where that cannot be done the connection is as good,
// only what we say comes later, so an error is of no consequence.
func shortQueue(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = limitUnsent(fd, unsentBytes) })
	}
}
