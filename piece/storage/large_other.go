//go:build !linux

package storage

// largeFile is nothing here: all files may be large.
const largeFile = 0
