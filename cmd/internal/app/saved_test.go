package app

import (
	"bytes"
	"crypto/sha1"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestSavedMetadata: what one run keeps the next one finds, unless it is damaged or no file; and forgetting leaves nothing.
func TestSavedMetadata(t *testing.T) {
	info := []byte("d6:lengthi1e4:name1:ae")
	hash := sha1.Sum(info)
	quiet := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		name string
		lay  func(path string) error // besides what was kept
		want bool
	}{
		{"as it was kept", func(string) error { return nil }, true},
		{"cut short", func(path string) error { return os.Truncate(path, 5) }, false},
		{"other bytes", func(path string) error { return os.WriteFile(path, make([]byte, len(info)), 0o666) }, false},
		{"a link", func(path string) error {
			err := os.Rename(path, path+".else")
			if err != nil {
				return err
			}
			return os.Symlink(filepath.Base(path)+".else", path)
		}, false},
		{"a folder", func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o777)
		}, false},
		{"a run was killed while writing", func(path string) error { return os.WriteFile(path+".tmp", info[:5], 0o666) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, metadataName(hash))
			saveMetadata(quiet, dir, hash, info)
			if err := tt.lay(path); err != nil {
				t.Fatal(err)
			}
			if got := savedMetadata(quiet, dir, hash); bytes.Equal(got, info) != tt.want {
				t.Errorf("found %q, want it found: %v", got, tt.want)
			}
			if tt.name != "a folder" { // whose place no file can take
				saveMetadata(quiet, dir, hash, info)
				if got := savedMetadata(quiet, dir, hash); !bytes.Equal(got, info) {
					t.Errorf("found %q after it was kept again", got)
				}
			}
			forgetMetadata(quiet, dir, hash)
			for _, path := range []string{path, path + ".tmp"} {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s is left", filepath.Base(path))
				}
			}
		})
	}
}

// TestForgetMetadataOfNoFolder: where there is nothing there is nothing to complain about.
func TestForgetMetadataOfNoFolder(t *testing.T) {
	var log bytes.Buffer
	forgetMetadata(slog.New(slog.NewTextHandler(&log, nil)), filepath.Join(t.TempDir(), "none"), [20]byte{})
	if log.Len() > 0 {
		t.Error(log.String())
	}
}
