//go:build unix

package dht

import (
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe in the place of the cache holds nobody up.
func TestCacheIsPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "nodes")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readCache(pipe); got != nil || err == nil {
		t.Errorf("read %v, %v", got, err)
	}
}
