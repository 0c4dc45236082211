package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
)

// CreateOptions are what `create` can be told.
type CreateOptions struct {
	Path      string // the file or folder
	Output    string // the .torrent to write, "-" for stdout; "" means the content's name and .torrent
	Overwrite bool   // replace Output if it stands

	Name        string   // of the file or root folder in the torrent; "" means as on disk
	Trackers    []string // announce URLs, each a tier of its own (BEP 12)
	WebSeeds    []string // url-list (BEP 19)
	PieceLength int64    // bytes; 0 means what suits the size
	Private     bool     // BEP 27
	Comment     string
	Source      string
	NoDate      bool // leave the creation date out
	Shown
}

// Create makes a .torrent of a file or folder, writes it whole or not at all and prints its
// info-hash. Files come in the order of their paths, and none is skipped: what cannot be read is an
// error of [ClassDisk], what is neither a file nor a folder (symbolic links too, because a torrent
// would have to lie about them) one of [ClassBadInput].
func Create(ctx context.Context, s Streams, o CreateOptions) error {
	d, log, closeLog, err := begin(s, o.withoutEvents())
	if err != nil {
		return err
	}
	defer closeLog()
	c, err := gather(o)
	if err != nil {
		return err
	}
	o.Output = c.output(o)
	if o.Output == "-" && o.JSON {
		return &Error{Class: ClassUsage, What: "--output - and --json both want stdout"}
	}
	if err := mayWrite(o); err != nil { // not only after hashing for an hour
		return err
	}
	data, err := c.build(ctx, d, log)
	if err != nil {
		return err
	}
	return publish(d, o, data)
}

// publish writes the torrent and prints what it is.
func publish(d *display, o CreateOptions, data []byte) error {
	t, err := metainfo.Parse(data)
	if err != nil {
		panic("app: created a torrent that is none: " + err.Error())
	}
	if o.Output == "-" {
		return d.result(data)
	}
	if err := mayWrite(o); err != nil {
		return err
	}
	if err := writeWhole(o.Output, data); err != nil {
		return failed(ClassDisk, err, "cannot write %s", printable(o.Output))
	}
	if o.JSON {
		return d.result(ui.JSON(creation{
			Path: o.Output, Infohash: hex.EncodeToString(t.InfoHash[:]), InfohashV2: hashV2(t), Magnet: t.Magnet(),
			Pieces: t.Layout.Pieces(), PieceLength: t.Layout.PieceLength(), Size: t.Size(),
		}))
	}
	return d.result(fmt.Appendf(nil, "%x\n", t.InfoHash))
}

// A creation is the object that `create --json` prints; scripts depend on its keys.
type creation struct {
	Path        string `json:"path"`
	Infohash    string `json:"infohash"`
	InfohashV2  string `json:"infohash_v2,omitempty"`
	Magnet      string `json:"magnet"`
	Pieces      int    `json:"pieces"`
	PieceLength int64  `json:"piece_length"`
	Size        int64  `json:"size"` // bytes of the real files
}

// content is what a torrent is made of.
type content struct {
	spec  metainfo.Spec
	dir   string         // the folder that holds the file or root folder
	files []storage.File // as on disk below dir, in the order of spec.Files
	stamp []time.Time    // when each was changed last
}

// gather looks at what Path names, without reading any file.
func gather(o CreateOptions) (*content, error) {
	abs, err := filepath.Abs(o.Path) // "." has a name too
	if err != nil {
		return nil, failed(ClassDisk, err, "cannot tell where %s is", printable(o.Path))
	}
	// The user may name a link; what it leads to has its own name on disk.
	where, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, unreadable(o.Path, err)
	}
	c := &content{dir: filepath.Dir(where), spec: metainfo.Spec{
		Name: o.Name, PieceLength: o.PieceLength, WebSeeds: o.WebSeeds, Private: o.Private,
		Comment: o.Comment, Source: o.Source,
	}}
	if c.spec.Name == "" {
		c.spec.Name = filepath.Base(abs)
	}
	if where == c.dir {
		return nil, &Error{Class: ClassUsage, What: "cannot make a torrent of the whole file system"}
	}
	for _, url := range o.Trackers {
		c.spec.Trackers = append(c.spec.Trackers, []string{url})
	}
	if !o.NoDate {
		c.spec.CreationDate = time.Now().Unix()
	}
	if err := filepath.WalkDir(where, c.visit(where, c.outputPath(o))); err != nil {
		return nil, err
	}
	if len(c.files) == 0 {
		return nil, &Error{Class: ClassBadInput, What: printable(o.Path) + " holds no file"}
	}
	return c, nil
}

// outputPath is where the torrent goes, as a walk would meet it; "" if that is no file.
func (c *content) outputPath(o CreateOptions) string {
	if o.Output == "-" {
		return ""
	}
	path, err := filepath.Abs(c.output(o))
	if err != nil {
		return "" // then writing it will fail, and say so
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// visit adds the files of a walk from root, which comes in the order of the names in each folder. The
// torrent's own file, which may stand there from an earlier time, is left out.
func (c *content) visit(root, output string) fs.WalkDirFunc {
	base := filepath.Base(root)
	return func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return unreadable(path, err)
		}
		if entry.IsDir() || path == output && path != root {
			return nil
		}
		if !entry.Type().IsRegular() {
			return &Error{Class: ClassBadInput, What: "cannot put " + printable(path) + " into a torrent",
				Err: errors.New("it is " + kindOfFile(entry.Type()))}
		}
		info, err := entry.Info()
		if err != nil {
			return unreadable(path, err)
		}
		below := filepath.ToSlash(path[len(root):]) // "" for a file by itself, else with its "/"
		c.files = append(c.files, storage.File{Path: base + below, Length: info.Size(), Wanted: true})
		c.stamp = append(c.stamp, info.ModTime())
		c.spec.Files = append(c.spec.Files, metainfo.File{Path: c.spec.Name + below, Length: info.Size()})
		return nil
	}
}

// unreadable classes an error of looking at what the user named: a wrong name is bad input.
func unreadable(path string, err error) error {
	class := ClassDisk
	if errors.Is(err, fs.ErrNotExist) {
		class = ClassBadInput
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return failed(class, err, "cannot read %s", printable(path))
}

// kindOfFile names what is neither a file nor a folder.
func kindOfFile(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}

// build hashes the content on all cores and returns the .torrent.
func (c *content) build(ctx context.Context, d *display, log *slog.Logger) ([]byte, error) {
	var size int64
	for _, f := range c.files {
		size += f.Length
	}
	if size == 0 {
		return nil, &Error{Class: ClassBadInput, What: printable(c.spec.Name) + " holds no byte to share"}
	}
	if c.spec.PieceLength == 0 {
		c.spec.PieceLength = metainfo.PieceLengthFor(size)
	}
	layout, err := c.spec.Layout()
	if err != nil {
		return nil, badSpec(err)
	}
	sums := make([]byte, 20*layout.Pieces())
	if _, err := c.spec.Build(sums); err != nil { // what is wrong with the names is known by now
		return nil, badSpec(err)
	}
	for _, w := range c.spec.Warnings() {
		log.Warn(w)
	}
	work := hashing{state: "hashing"}
	work.total.Store(layout.Total())
	err = work.shown(ctx, d, func() error {
		return storage.HashPieces(ctx, c.dir, c.files, layout, 0, func(i int, sum [20]byte) {
			copy(sums[20*i:], sum[:])
			work.done.Add(layout.PieceSize(i))
		})
	})
	if err != nil {
		return nil, diskError(ctx, err, "cannot hash "+printable(c.spec.Name))
	}
	if err := c.unchanged(); err != nil {
		return nil, err
	}
	data, err := c.spec.Build(sums)
	if err != nil {
		return nil, badSpec(err)
	}
	return data, nil
}

// unchanged makes sure that the sums are of files as they stand: one that was written to meanwhile
// would make a torrent that nobody can complete.
func (c *content) unchanged() error {
	for i, f := range c.files {
		path := filepath.Join(c.dir, filepath.FromSlash(f.Path))
		info, err := os.Lstat(path)
		if err != nil {
			return unreadable(path, err)
		}
		if info.Size() != f.Length || !info.ModTime().Equal(c.stamp[i]) {
			return &Error{Class: ClassDisk, What: printable(path) + " was changed while it was read"}
		}
	}
	return nil
}

// badSpec classes what metainfo has against the options or the names.
func badSpec(err error) error {
	if e, ok := errors.AsType[*metainfo.UsageError](err); ok {
		return &Error{Class: ClassUsage, What: "cannot make this torrent", Err: e}
	}
	return failed(ClassOther, err, "cannot make this torrent")
}

// output is where the torrent goes.
func (c *content) output(o CreateOptions) string {
	if o.Output == "" {
		return c.spec.Name + ".torrent"
	}
	return o.Output
}

// mayWrite refuses to replace a file, unless told to, and to write where there is no folder.
func mayWrite(o CreateOptions) error {
	if o.Output == "-" {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(o.Output)); err != nil {
		return failed(ClassDisk, err, "cannot write %s", printable(o.Output))
	}
	switch info, err := os.Stat(o.Output); {
	case err != nil && !errors.Is(err, fs.ErrNotExist): // a name that is too long, for one
		return failed(ClassDisk, err, "cannot write %s", printable(o.Output))
	case err != nil || !info.Mode().IsRegular() && !info.IsDir():
		return nil // nothing there, or a device or pipe, which writing does not destroy
	case o.Overwrite:
		return nil
	}
	return &Error{Class: ClassConflict, What: printable(o.Output) + " exists already",
		Hint: "--overwrite replaces it, --output names another"}
}

// writeWhole writes a file so that it stands complete under its name or not at all. A device or pipe
// is written to as it is.
func writeWhole(path string, data []byte) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o666)
	}
	temp := filepath.Join(filepath.Dir(path), ".bittern-"+rand.Text()) // no longer than any name may be
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	return err
}
