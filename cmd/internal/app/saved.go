package app

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"bittern/cmd/internal/swarm/core"
)

// While a magnet link is being downloaded, its metadata lies beside the content, so that the next run need not
// look for it again. It is the bare info dictionary: its name says which, and its hash whether it is right.

// tempSuffix is what the name of the file ends with while it is being written.
const tempSuffix = ".tmp"

func metadataName(hash [20]byte) string { return fmt.Sprintf(".%x.bittern-metadata", hash) }

// savedMetadata returns what an earlier run has left in dir, or nil. dir may be "" for nowhere.
func savedMetadata(log *slog.Logger, dir string, hash [20]byte) []byte {
	if dir == "" {
		return nil
	}
	info, err := readMetadata(dir, metadataName(hash))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		log.Warn("cannot read the metadata that an earlier run has kept: fetching it again", "error", err)
		return nil
	case sha1.Sum(info) != hash:
		log.Warn("the metadata that an earlier run has kept is damaged: fetching it again", "file", metadataName(hash))
		return nil
	}
	log.Debug("metadata of an earlier run", "bytes", len(info))
	return info
}

func readMetadata(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() // nothing was written through it
	if st, err := root.Lstat(name); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing to lose
	return io.ReadAll(io.LimitReader(f, core.MaxMetadata+1))
}

// saveMetadata keeps the metadata for another run. It is a courtesy: without it that run looks for it again.
func saveMetadata(log *slog.Logger, dir string, hash [20]byte, info []byte) {
	if err := writeMetadata(dir, metadataName(hash), info); err != nil {
		log.Warn("cannot keep the metadata for another run", "error", err)
	}
}

func writeMetadata(dir, name string, info []byte) error {
	if kept, err := readMetadata(dir, name); err == nil && bytes.Equal(kept, info) {
		return nil // it is where this came from
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // the file has been closed before, with its errors
	// A run that is killed in between leaves a file that its name does not fit, which is replaced.
	temp := name + tempSuffix
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.WriteFile(temp, info, 0o666); err != nil {
		return errors.Join(err, ignoreMissing(root.Remove(temp)))
	}
	return root.Rename(temp, name)
}

// forgetMetadata removes what saveMetadata has kept, in this run or another.
func forgetMetadata(log *slog.Logger, dir string, hash [20]byte) {
	if err := removeMetadata(dir, metadataName(hash)); err != nil {
		log.Warn("cannot remove the metadata that was kept", "error", err)
	}
}

func removeMetadata(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	defer root.Close() // nothing was written through it
	for _, name := range []string{name, name + tempSuffix} {
		if _, err := root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue // to remove it anyway is an error where nothing can be written
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
