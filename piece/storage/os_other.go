//go:build !linux && !darwin

package storage

// Where holes cannot be told from data, everything counts as data.
const (
	seekData = -1
	seekHole = -1
)
