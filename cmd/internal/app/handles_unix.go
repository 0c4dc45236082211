//go:build unix

package app

import (
	"math"
	"syscall"
)

// handleLimit returns how many files and sockets this process may have open, 0 if nobody says.
// Go has raised the soft limit to the hard one by now.
func handleLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(uint64(l.Cur), math.MaxInt32))
}
