//go:build !unix

package app

// handleLimit returns 0: this system has no limit that a process could ask for.
func handleLimit() int { return 0 }
