// Package storage keeps the bytes of one torrent: verified on disk, or not at all.
//
// A [Store] takes blocks in any order, hashes and writes them, and says of each piece whether
// it is good; it reads verified pieces back for upload, and it continues after any end of a
// former run. [Check] compares what stands on disk with a torrent and changes nothing.
//
// # On disk
//
// All access goes through one [os.Root], the target folder. A file under its final name is
// complete and verified, and is never written to. Until then it is NAME.part in its final
// folder, renamed when all pieces that touch it are good. Files are made at the first write to
// them, empty ones at the end. Padding files (BEP 47) never exist: their bytes are zero.
//
// Two hidden files may stand beside the content, and a lock file while a run lasts. The side
// file, .NAME.bittern-side, holds what must not go into a file: the bytes of unselected files
// that share a piece with a selected one, and such bytes of a file that stood complete before
// its neighbours did; they are compared with it once the piece is good. The resume record,
// .NAME.bittern-resume, exists only between two runs: see record.go.
//
// # Goroutines
//
// A few shards (piece number modulo their count) each own the open pieces that fall to them;
// two readers serve uploads and never wait behind a hash. Two mutexes, in the file table and
// around the set of verified pieces, guard leaves: neither is held while the other is taken.
package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"

	"bittern/piece"
)

// A Buffer carries a block into the store, which releases it exactly once.
type Buffer interface {
	Bytes() []byte
	Release()
}

// A File is one file of the torrent, in the order of its byte stream.
type File struct {
	Path   string // under [Config.Dir], slash separated, already safe, root folder included
	Length int64  // bytes
	Pad    bool   // padding (BEP 47): zeros that are never on disk
	Wanted bool   // selected by the user
}

// A Config says what to store and where. Layout, Files and Sums must agree.
type Config struct {
	Dir      string       // target folder, made when it is missing
	Files    []File       // kept, not copied: the caller leaves it alone
	Layout   piece.Layout // of the stream the files form
	Sums     []byte       // SHA-1 of each piece, 20 bytes each (BEP 3); kept, not copied
	InfoHash [20]byte     // ties the resume record to its torrent
	Name     string       // of the content's file or root folder under Dir

	Overwrite bool // adopt files in the way instead of reporting a conflict
	ReadOnly  bool // only read final files: no lock, no record, no write

	Shards    int // goroutines that hash and write; 0 means one a core, at most 4
	OpenFiles int // handles kept open; 0 means 32
	Window    int // bytes of blocks that wait in memory, all shards together; 0 means 8 MiB

	// Progress, when set, is told how many bytes are done, of how many that Open or Check has
	// to look at. It is never called concurrently.
	Progress func(done, total int64)
	// Notify receives the events of a Store, from several goroutines at once. It may block,
	// as long as whoever it waits for does not wait for Close without going on to receive.
	Notify func(Event)
	// FS replaces the disk under Dir; nil means an os.Root. The store closes it.
	FS FS
}

// withDefaults returns the configuration with every zero decided, or says what does not agree.
func (c Config) withDefaults() (Config, error) {
	var total int64
	for _, f := range c.Files {
		total += f.Length
	}
	switch {
	case total != c.Layout.Total():
		return c, fmt.Errorf("storage: files of %d bytes, layout of %d", total, c.Layout.Total())
	case len(c.Sums) != 20*c.Layout.Pieces():
		return c, fmt.Errorf("storage: %d bytes of sums for %d pieces", len(c.Sums), c.Layout.Pieces())
	}
	c.Shards = cmp.Or(c.Shards, min(4, runtime.GOMAXPROCS(0)))
	c.OpenFiles = cmp.Or(c.OpenFiles, 32)
	c.Window = cmp.Or(c.Window, 8<<20)
	if c.Notify == nil {
		c.Notify = func(Event) {}
	}
	return c, nil
}

// An Op tells the events of a Store apart.
type Op uint8

const (
	Verified Op = iota + 1 // Piece is good and written; Sums is set when it had failed before
	Failed                 // Piece is bad: all of its blocks are missing again; Sums is set
	ReadDone               // Read is answered; Err says why its buffer holds nothing
	FileDone               // Files[File] stands complete under its final name
	Complete               // every wanted file does, empty ones too; comes once
	Fault                  // Err ended the store: nothing is written from now on; comes once
)

// An Event is what a Store tells through [Config.Notify].
type Event struct {
	Op    Op
	Piece int
	Sums  [][20]byte // SHA-1 of each block of Piece, to tell who sent the bad one
	Read  ReadJob
	File  int
	Err   error
}

// A ReadJob asks for a range of one verified piece.
type ReadJob struct {
	Piece  int
	Begin  int    // bytes from the start of the piece
	Length int    // bytes
	Buf    Buffer // the range goes to the front of it; it comes back with the event, not released
	Tag    uint64 // for the caller
}

// Stats counts bytes since Open.
type Stats struct {
	Written  int64 // to files and the side file
	ReadBack int64 // read again because they came too early to be hashed and left the window
	Checked  int64 // hashed by Open
}

// A ConflictError says that something in the way is not this torrent's. Nothing was changed,
// unless it comes in a Fault: then it is a file whose bytes could only be judged by what was
// downloaded meanwhile.
type ConflictError struct {
	Path, Reason string
	Adoptable    bool // it is a file, which [Config.Overwrite] would adopt
}

func (e *ConflictError) Error() string { return "storage: " + e.Path + " is in the way: " + e.Reason }

// A LockedError says that another process works on the same target.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return "storage: " + e.Path + ": another process is working on the same content"
}

// A ChangedError says that somebody else changed a file while the store was at work.
type ChangedError struct{ Path, Reason string }

func (e *ChangedError) Error() string {
	return "storage: " + e.Path + " was changed by somebody else: " + e.Reason
}

// A PanicError carries a panic of one of the store's goroutines: a bug in bittern.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("storage: panic: %v", e.Value) }

// progress tells Progress.
func (c *Config) progress(done, total int64) {
	if c.Progress != nil {
		c.Progress(done, total)
	}
}

// pathError says what failed on which file, by the path a user would type, once.
func (c *Config) pathError(op, name string, err error) error {
	for {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
			continue
		}
		break
	}
	return fmt.Errorf("storage: %w", &fs.PathError{Op: op, Path: c.path(name), Err: err})
}

// path is name as a user would type it.
func (c *Config) path(name string) string { return filepath.Join(c.Dir, filepath.FromSlash(name)) }
