package app

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
)

// InfoOptions are what `info` can be told.
type InfoOptions struct {
	Source string // path, "-", http(s) URL of a .torrent, magnet link or info-hash
	Network
	Shown
}

// Info shows what a torrent is. Of a magnet link it asks peers only, never the web.
func Info(ctx context.Context, s Streams, o InfoOptions) error {
	d, log, closeLog, err := begin(s, o.withoutEvents())
	if err != nil {
		return err
	}
	defer closeLog()
	k, err := find(ctx, s, d, log, o.Network, o.Source, search{}, time.Now())
	if err != nil {
		return err
	}
	k.leave()
	t := k.t
	if o.JSON {
		return d.result(ui.JSON(describe(t)))
	}
	return d.print(func(w io.Writer) { writeInfo(w, t) })
}

// load reads and checks the torrent of a command and warns of what was changed in it. policy holds for
// fetching it.
func load(ctx context.Context, s Streams, log *slog.Logger, policy sockets.Policy, source string) (*known, error) {
	data, err := readSource(ctx, policy, source, s.In)
	if err != nil {
		return nil, err
	}
	log.Debug("read the torrent", "bytes", len(data))
	t, err := metainfo.Parse(data)
	if err != nil {
		return nil, badTorrent(source, err)
	}
	for _, w := range t.Warnings {
		log.Warn(w)
	}
	return &known{t: t, file: data}, nil
}

// badTorrent says why what source gave is refused.
func badTorrent(source string, err error) error {
	name := withoutSecrets(source)
	if kindOf(source) == stdinSource {
		name = "the torrent on stdin"
	}
	// The package's own prefix tells a user nothing.
	reason := errors.New(strings.TrimPrefix(err.Error(), "metainfo: "))
	return &Error{Class: ClassBadInput, What: "cannot use " + name, Err: reason}
}

// A description is the object that `info --json` prints; scripts depend on its keys.
type description struct {
	Name         string            `json:"name"`
	Infohash     string            `json:"infohash"`
	InfohashV2   string            `json:"infohash_v2,omitempty"`
	Version      string            `json:"version"`
	Size         int64             `json:"size"` // bytes of the real files, padding left out
	PieceLength  int64             `json:"piece_length"`
	Pieces       int               `json:"pieces"`
	Private      bool              `json:"private"`
	Files        []fileDescription `json:"files"`
	Trackers     [][]string        `json:"trackers,omitempty"`
	WebSeeds     []string          `json:"web_seeds,omitempty"`
	HTTPSeeds    []string          `json:"http_seeds,omitempty"`
	Nodes        []string          `json:"nodes,omitempty"`
	Source       string            `json:"source,omitempty"`
	Comment      string            `json:"comment,omitempty"`
	CreatedBy    string            `json:"created_by,omitempty"`
	CreationDate int64             `json:"creation_date,omitempty"` // seconds since 1970
	Magnet       string            `json:"magnet"`
}

// A fileDescription is one file in `info --json`.
type fileDescription struct {
	Path   string `json:"path"` // where get puts it below DIR
	Length int64  `json:"length"`
}

func describe(t *metainfo.Torrent) description {
	d := description{
		Name: t.Name, Infohash: hex.EncodeToString(t.InfoHash[:]), InfohashV2: hashV2(t), Version: t.Version,
		Size: t.Size(), PieceLength: t.Layout.PieceLength(), Pieces: t.Layout.Pieces(), Private: t.Private,
		Files:    make([]fileDescription, 0, len(t.Files)),
		Trackers: t.Trackers, WebSeeds: t.WebSeeds, HTTPSeeds: t.HTTPSeeds, Nodes: t.Nodes,
		Source: t.Source, Comment: t.Comment, CreatedBy: t.CreatedBy, CreationDate: t.CreationDate,
		Magnet: t.Magnet(),
	}
	for _, f := range t.Files {
		if !f.Pad {
			d.Files = append(d.Files, fileDescription{f.Path, f.Length})
		}
	}
	return d
}

// hashV2 is the version 2 info-hash in hexadecimal, "" where there is none.
func hashV2(t *metainfo.Torrent) string {
	if t.InfoHashV2 == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(t.InfoHashV2[:])
}

// writeInfo shows a torrent to a person. Errors of w are the caller's to see.
func writeInfo(w io.Writer, t *metainfo.Torrent) {
	field := func(name, format string, args ...any) {
		if name != "" {
			name += ":"
		}
		fmt.Fprintf(w, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	optional := func(name, text string) {
		if text != "" {
			field(name, "%s", printable(text))
		}
	}
	list := func(name string, texts []string) {
		for _, text := range texts {
			field(name, "%s", printable(text))
			name = ""
		}
	}
	field("Name", "%s", printable(t.Name))
	field("Info-hash", "%x", t.InfoHash)
	optional("Info-hash v2", hashV2(t))
	field("Size", "%s (%d bytes)", ui.Size(t.Size()), t.Size())
	field("Pieces", "%d of %s", t.Layout.Pieces(), ui.Size(t.Layout.PieceLength()))
	if t.Private {
		field("Private", "yes: peers come from its trackers only")
	}
	if t.CreationDate != 0 {
		field("Created", "%s", time.Unix(t.CreationDate, 0).UTC().Format("2006-01-02 15:04:05 MST"))
	}
	optional("Created by", t.CreatedBy)
	optional("Comment", t.Comment)
	optional("Source", t.Source)
	for i, tier := range t.Trackers {
		name := "Trackers"
		if i > 0 {
			name = fmt.Sprintf("  tier %d", i+1)
		}
		list(name, tier)
	}
	list("Web seeds", t.WebSeeds)
	list("HTTP seeds", t.HTTPSeeds)
	list("DHT nodes", t.Nodes)
	field("Magnet", "%s", printable(t.Magnet()))
	fmt.Fprintf(w, "\nFiles:\n")
	writeFiles(w, t)
}

// writeFiles lists the real files with the numbers that --select takes.
func writeFiles(w io.Writer, t *metainfo.Torrent) {
	digits := len(fmt.Sprint(len(t.Files)))
	number := 0
	for _, f := range t.Files {
		if !f.Pad {
			number++
			fmt.Fprintf(w, "%*d  %9s  %s\n", digits, number, ui.Size(f.Length), printable(f.Path))
		}
	}
}

// printable makes text of a torrent or the network fit for a terminal.
func printable(s string) string { return metainfo.Printable(s) }

// A display is the ui of one command, through which its result goes too.
type display struct{ *ui.Display }

// A resultWriter writes parts of a result; the Write of a display is for its log.
type resultWriter struct{ d *ui.Display }

func (w resultWriter) Write(p []byte) (int, error) {
	if err := w.d.Result(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// withoutEvents is for a command whose --json is one object at its end.
func (o Shown) withoutEvents() Shown {
	o.JSON = false
	return o
}

// begin sets up what a command shows and logs. The returned function closes the log file.
func begin(s Streams, o Shown) (*display, *slog.Logger, func(), error) {
	d := &display{ui.New(ui.Config{Out: s.Out, Err: s.Err, Mode: o.Mode, JSON: o.JSON, Quiet: o.Quiet})}
	if o.Log == "" {
		return d, d.Logger(o.Verbose, nil), func() {}, nil
	}
	f, err := os.OpenFile(o.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, nil, nil, failed(ClassDisk, err, "cannot write the log %s", printable(o.Log))
	}
	log := d.Logger(o.Verbose, f)
	log.Debug("begin", "process", os.Getpid(), "command", os.Args) // several may write to one file, one after the other
	// A disk that fills up with logs ends nothing, so neither does its last error.
	return d, log, func() { _ = f.Close() }, nil
}

// seconds is how long it is since a time, to the millisecond.
func seconds(since time.Time) float64 { return time.Since(since).Round(time.Millisecond).Seconds() }

// print writes a result through a buffer.
func (d *display) print(write func(io.Writer)) error {
	b := bufio.NewWriterSize(resultWriter{d.Display}, 64<<10)
	write(b)
	return resultError(b.Flush())
}

// result writes a result.
func (d *display) result(line []byte) error {
	return resultError(d.Result(line))
}

// resultError lets a reader go away who has seen enough, as `head` does.
func resultError(err error) error {
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return failed(ClassDisk, err, "cannot write to stdout")
}
