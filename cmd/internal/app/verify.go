package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
)

// VerifyOptions are what `verify` can be told.
type VerifyOptions struct {
	Source string // path, "-", http(s) URL of a .torrent, magnet link or info-hash
	Dir    string // where the content is; "" means the current folder
	Network
	Shown
}

// Verify checks every byte on disk against the torrent and writes nothing. Content that is not all
// there and right is an error of [ClassCorrupt].
func Verify(ctx context.Context, s Streams, o VerifyOptions) error {
	d, log, closeLog, err := begin(s, o.withoutEvents())
	if err != nil {
		return err
	}
	defer closeLog()
	k, err := find(ctx, s, d, log, o.Network, o.Source, search{dir: orHere(o.Dir), web: true}, time.Now())
	if err != nil {
		return err
	}
	k.leave()
	t := k.t
	rep, err := check(ctx, d, t, o.Dir)
	if err != nil {
		return err
	}
	if o.JSON {
		err = d.result(ui.JSON(describeReport(t, rep)))
	} else {
		err = d.print(func(w io.Writer) { writeReport(w, t, rep) })
	}
	if err == nil && !rep.Complete {
		err = incomplete(t, rep)
	}
	return err
}

// check compares what is below dir with t, while d shows how far it is.
func check(ctx context.Context, d *display, t *metainfo.Torrent, dir string) (storage.Report, error) {
	if dir == "" {
		dir = "."
	}
	if err := folderAt(dir); err != nil {
		return storage.Report{}, err
	}
	work := hashing{state: "verifying"}
	work.total.Store(t.Layout.Total())
	var rep storage.Report
	err := work.shown(ctx, d, func() (err error) {
		cfg := readConfig(t, dir)
		cfg.Progress = func(done, total int64) {
			work.done.Store(done)
			work.total.Store(total)
		}
		rep, err = storage.Check(ctx, cfg)
		return err
	})
	return rep, diskError(ctx, err, "cannot verify "+printable(t.Name))
}

// folderAt makes sure that there is a folder to look for content in.
func folderAt(dir string) error {
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return &Error{Class: ClassCorrupt, What: "there is no folder " + printable(dir), Hint: "--dir says where the content is"}
	}
	return nil
}

// storageConfig is what storage must know of a torrent whose every file is wanted.
func storageConfig(t *metainfo.Torrent, dir string) storage.Config {
	files := make([]storage.File, len(t.Files))
	for i, f := range t.Files {
		files[i] = storage.File{Path: f.Path, Length: f.Length, Pad: f.Pad, Wanted: !f.Pad}
	}
	return storage.Config{
		Dir: dir, Files: files, Layout: t.Layout, Sums: t.Pieces, InfoHash: t.InfoHash, Name: t.Root,
	}
}

// diskError gives an error of the storage its class. What ended ctx comes through as it is.
func diskError(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if bug, ok := errors.AsType[*storage.PanicError](err); ok {
		return &BugError{Value: bug.Value, Stack: bug.Stack}
	}
	return &Error{Class: ClassDisk, What: what, Err: errors.New(strings.TrimPrefix(err.Error(), "storage: "))}
}

// A reportDescription is the object that `verify --json` prints; scripts depend on its keys.
type reportDescription struct {
	Infohash string            `json:"infohash"`
	Complete bool              `json:"complete"`
	PiecesOK int               `json:"pieces_ok"`
	Pieces   int               `json:"pieces"`
	Files    []fileStatusEntry `json:"files"`
}

// A fileStatusEntry is one file in `verify --json`.
type fileStatusEntry struct {
	Path   string `json:"path"` // below DIR
	Length int64  `json:"length"`
	Status string `json:"status"` // ok, missing, corrupt, short or long
}

func describeReport(t *metainfo.Torrent, rep storage.Report) reportDescription {
	d := reportDescription{
		Infohash: hex.EncodeToString(t.InfoHash[:]), Complete: rep.Complete,
		PiecesOK: rep.PiecesOK, Pieces: rep.Pieces, Files: make([]fileStatusEntry, 0, len(t.Files)),
	}
	for i, f := range t.Files {
		if !f.Pad {
			d.Files = append(d.Files, fileStatusEntry{f.Path, f.Length, rep.Files[i].String()})
		}
	}
	return d
}

// writeReport shows a person what is wrong, file by file, and then how it stands in all.
func writeReport(w io.Writer, t *metainfo.Torrent, rep storage.Report) {
	for i, f := range t.Files {
		if !f.Pad && rep.Files[i] != storage.OK {
			fmt.Fprintf(w, "%-7s  %9s  %s\n", rep.Files[i], ui.Size(f.Length), printable(f.Path))
		}
	}
	verdict := "not complete"
	if rep.Complete {
		verdict = "complete"
	}
	fmt.Fprintf(w, "%s: %s, %d of %d pieces are good\n", printable(t.Root), verdict, rep.PiecesOK, rep.Pieces)
}

// incomplete counts what is wrong in one line.
func incomplete(t *metainfo.Torrent, rep storage.Report) error {
	counts := make(map[storage.Status]int)
	real := 0
	for i, f := range t.Files {
		if !f.Pad {
			real++
			counts[rep.Files[i]]++
		}
	}
	var parts []string
	for _, st := range []storage.Status{storage.Missing, storage.Corrupt, storage.Short, storage.Long} {
		if n := counts[st]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, st))
		}
	}
	hint := "bittern get fetches what is missing"
	if counts[storage.Corrupt]+counts[storage.Short]+counts[storage.Long] > 0 {
		hint = "bittern get --overwrite fetches what is wrong" // without it such files are in the way
	}
	return &Error{
		Class: ClassCorrupt,
		What:  printable(t.Root) + " is not complete",
		Err:   fmt.Errorf("of %s %s", plural(real, "file"), strings.Join(parts, ", ")),
		Hint:  hint,
	}
}
