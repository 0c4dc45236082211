//go:build !linux && !darwin

package sockets

// limitUnsent does nothing: there is no such bound here.
func limitUnsent(uintptr, int) error { return nil }
