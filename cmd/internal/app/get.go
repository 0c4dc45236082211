package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
)

// Get downloads one torrent. It prints the path of the file or folder once, when it is complete.
func Get(ctx context.Context, s Streams, o GetOptions) error {
	started := time.Now()
	d, log, closeLog, err := begin(s, o.Shown)
	if err != nil {
		return err
	}
	defer closeLog()
	if !o.List {
		o.warnOfHandles(log)
		d.Emit(ui.Start{Source: withoutSecrets(o.Source)})
	}
	if !o.List && !o.MetadataOnly {
		if err := folderPossible(orHere(o.Dir)); err != nil {
			return err
		}
	}
	k, err := find(ctx, s, d, log, o.Network, o.Source, search{dir: orHere(o.Dir), web: true, maxTime: o.MaxTime}, started)
	if err != nil {
		return err
	}
	defer k.leave()
	if o.SaveTorrent != "" {
		if err := k.save(o.SaveTorrent); err != nil {
			return err
		}
		if o.MetadataOnly {
			d.Emit(metadataOf(k.t))
			return d.tellPath(o.JSON, ui.Complete{Path: o.SaveTorrent, Seconds: seconds(started)})
		}
	}
	t := k.t
	if o.Output != "" {
		if t, err = t.WithRoot(o.Output); err != nil {
			return &Error{Class: ClassUsage, What: "--output", Err: err}
		}
	}
	k.t = t
	wanted, err := choose(k, o.Select, o.Exclude)
	if err != nil {
		return err
	}
	if o.List {
		return list(d, t, wanted, o.JSON)
	}
	d.Emit(metadataOf(t))
	x, err := newTransfer(k, o.Network, log, started)
	if err != nil {
		return err
	}
	g := &getting{transfer: x, k: k, o: o, d: d, path: filepath.Join(o.Dir, filepath.FromSlash(t.Root))}
	return g.shown(ctx, wanted)
}

// folderPossible makes sure that no file stands where the content is to go, before peers are looked for. Whether the folder
// can be made or written to is found out when there is something to write.
func folderPossible(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
		return &Error{Class: ClassDisk, What: "cannot put the content into " + printable(dir), Err: errors.New("it is not a folder")}
	}
	return nil
}

// limited returns a context that ends maxTime after started, 0 meaning never, because of an error that
// says what was going on: of [ClassMaxTime] if peers were met by then, else of [ClassNoPeers].
func limited(ctx context.Context, started time.Time, maxTime time.Duration, met bool, doing string) (context.Context, context.CancelFunc) {
	if maxTime == 0 {
		return context.WithCancel(ctx)
	}
	e := &Error{Class: ClassNoPeers, What: fmt.Sprintf("not complete after %v", maxTime), Err: errors.New(doing)}
	if met {
		e.Class = ClassMaxTime
	}
	return context.WithDeadlineCause(ctx, started.Add(maxTime), e)
}

// A getting is one run of `get` after its torrent is known.
type getting struct {
	*transfer
	k    *known
	o    GetOptions
	d    *display
	path string

	once sync.Once
	told error // of telling the result
}

// shown runs the download with the display beside it.
func (g *getting) shown(ctx context.Context, wanted []bool) error {
	show, hide := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.d.Run(show, g.snapshot) })
	err := g.download(ctx, wanted)
	hide()
	wg.Wait()
	if err == nil {
		err = g.tell()
	}
	if reason := stopReason(g.outcome); reason != "" && err == nil {
		s := g.inbox.Snapshot()
		g.sayWhyEnded(g.d)
		err = resultError(g.d.Emit(ui.Seeded{Reason: reason, Seconds: seconds(g.started), Uploaded: s.Uploaded, Copies: s.Copies}))
	}
	return err
}

// download opens the target and, unless it is complete already, runs the swarm.
func (g *getting) download(ctx context.Context, wanted []bool) error {
	cfg := storageConfig(g.t, g.o.Dir)
	cfg.Overwrite = g.o.Overwrite
	for i := range wanted {
		cfg.Files[i].Wanted = wanted[i]
	}
	if err := g.open(ctx, cfg, g.o.MaxTime); err != nil {
		return err
	}
	if g.k.magnet != nil && !g.store.Complete() {
		saveMetadata(g.log, orHere(g.o.Dir), g.hash, g.t.Info)
	}
	if g.store.Complete() && g.o.SeedUntil == (SeedUntil{}) {
		return closeStore(ctx, g.store)
	}
	if err := g.listen(); err != nil {
		return g.abandon(ctx, err)
	}
	p := plan{
		wanted: piecesOf(g.t, wanted), sequential: g.o.Sequential,
		maxTime: g.o.MaxTime, stall: g.o.StallTimeout, seed: g.o.SeedUntil, superSeed: g.o.SuperSeed,
	}
	done := make(chan struct{})
	p.completed = func() { close(done) }
	telling, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { // whoever waits for the path need not wait for the seeding
		select {
		case <-done:
			g.tellOnce()
		case <-telling.Done():
		}
	})
	err := g.run(ctx, p)
	stop()
	wg.Wait()
	return err
}

func closeStore(ctx context.Context, s *storage.Store) error {
	if err := s.Close(ctx); err != nil {
		return storageError(err)
	}
	return nil
}

// tell says that all is there, unless that has been said.
func (g *getting) tell() error {
	g.tellOnce()
	return g.told
}

func (g *getting) tellOnce() {
	g.once.Do(func() {
		forgetMetadata(g.log, orHere(g.o.Dir), g.hash) // an earlier run may have been given the magnet link
		e := ui.Complete{Path: g.path, Seconds: seconds(g.started)}
		if g.running.Load() {
			s := g.inbox.Snapshot()
			e.Downloaded, e.Uploaded, e.Wasted = s.Received, s.Uploaded, s.Wasted
		}
		g.told = g.d.tellPath(g.o.JSON, e)
	})
}

// tellPath tells the result: the event as JSON, or its path alone.
func (d *display) tellPath(asJSON bool, e ui.Complete) error {
	if asJSON {
		return resultError(d.Emit(e))
	}
	path := e.Path
	if strings.HasPrefix(path, "-") { // the next command would take it for an option
		path = "." + string(filepath.Separator) + path
	}
	return d.result([]byte(path + "\n"))
}

// orHere is dir, or the current folder if none is given.
func orHere(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// save writes the .torrent, whole or not at all: as it was read, or made of the metadata and what the magnet link
// says.
func (k *known) save(path string) error {
	file := k.file
	if file == nil {
		file = k.t.AppendTorrent(nil)
	}
	if err := writeWhole(path, file); err != nil {
		return failed(ClassDisk, err, "cannot write %s", printable(path))
	}
	return nil
}

// choose returns which files are wanted, nil for all. A magnet link's own choice holds unless the user makes one.
func choose(k *known, sel, exclude string) ([]bool, error) {
	t := k.t
	if sel == "" && exclude == "" {
		if k.magnet == nil {
			return nil, nil
		}
		wanted, err := k.magnet.Selected(t)
		if err != nil {
			return nil, &Error{Class: ClassBadInput, Err: errors.New(strings.TrimPrefix(err.Error(), "metainfo: ")), Hint: "--select chooses instead"}
		}
		return wanted, nil
	}
	wanted := make([]bool, len(t.Files))
	for i := range wanted {
		wanted[i] = true
	}
	for _, l := range []struct {
		flag, list string
		keep       bool
	}{{"--select", sel, true}, {"--exclude", exclude, false}} {
		if l.list == "" {
			continue
		}
		named, err := metainfo.Select(t.Files, l.list)
		if err != nil {
			// The package's own prefix tells a user nothing.
			reason := errors.New(strings.TrimPrefix(err.Error(), "metainfo: "))
			return nil, &Error{Class: ClassUsage, What: l.flag, Err: reason, Hint: "--list shows the files"}
		}
		for i := range wanted {
			wanted[i] = wanted[i] && named[i] == l.keep
		}
	}
	for i, w := range wanted {
		if w && !t.Files[i].Pad {
			return wanted, nil
		}
	}
	return nil, &Error{Class: ClassUsage, What: "nothing is left to download", Err: errors.New("--exclude leaves out all that --select names"), Hint: "--list shows the files"}
}

// A listedFile is one file of `get -l --json`.
type listedFile struct {
	Path     string `json:"path"`
	Length   int64  `json:"length"`
	Selected bool   `json:"selected"`
}

// list prints the files.
func list(d *display, t *metainfo.Torrent, wanted []bool, asJSON bool) error {
	files := []listedFile{}
	for i, f := range t.Files {
		if !f.Pad {
			files = append(files, listedFile{f.Path, f.Length, wanted == nil || wanted[i]})
		}
	}
	if asJSON {
		return d.result(ui.JSON(files))
	}
	return d.print(func(w io.Writer) {
		for i, f := range files {
			mark := " "
			if f.Selected {
				mark = "*"
			}
			fmt.Fprintf(w, "%s %*d  %10s  %s\n", mark, len(fmt.Sprint(len(files))), i+1, ui.Size(f.Length), metainfo.Printable(f.Path))
		}
	})
}

func metadataOf(t *metainfo.Torrent) ui.Metadata {
	n := 0
	for _, f := range t.Files {
		if !f.Pad {
			n++
		}
	}
	return ui.Metadata{
		Name: t.Name, Infohash: fmt.Sprintf("%x", t.InfoHash), Size: t.Size(), Files: n, Pieces: t.Layout.Pieces(),
	}
}
