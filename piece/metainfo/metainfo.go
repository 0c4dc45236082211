// Package metainfo turns .torrent files and magnet links into validated values and makes new ones.
//
// A [Torrent] that [Parse] returns can be trusted as far as its own words go: lengths add up,
// the number of sums fits, and every [File] has a path that is safe to create below a folder
// (see [File]). What cannot be used is refused with the reason; what does no harm (a tracker
// with an unknown scheme, a comment that is a list) is left out. Text that comes from the
// torrent remains untrusted: print it through [Printable].
//
// A [Magnet] names a torrent and where it may be had; [ParseMagnet] trusts it no further.
//
// Version 1 (BEP 3) is read whole, with BEP 5, 12, 17, 19, 27 and 47. Of a hybrid (BEP 52)
// the version 1 half is used and the other checked against it; a torrent that has the version
// 2 half only is refused with [ErrV2Only]. The info-hashes are taken over the bytes as they
// stand in the file, never over an encoding of our own.
//
// The package is pure: no I/O, goroutine, lock or clock.
package metainfo

import (
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"

	"bittern/bencode"
	"bittern/piece"
)

// Limits of what is accepted.
const (
	MaxSize       = 64 << 20 // of a .torrent file, bytes; files of 40 MB are in use
	MaxTrackers   = 256      // kept, over all tiers; what follows is left out
	MaxWebSeeds   = 100      // kept of url-list and of httpseeds each
	MaxNodes      = 100      // kept of nodes
	maxURL        = 4096     // bytes
	maxHost       = 253      // bytes of a host name: the longest there is (RFC 1035)
	maxText       = 64 << 10 // of a comment and the like, bytes; what follows is cut off
	maxDepth      = 100      // parts of a path
	maxPath       = 3840     // bytes of a path; PATH_MAX is 4,096 on Linux and a folder comes before it
	maxDuplicates = 500      // entries that would have one name
	maxFolders    = 1 << 18  // in all; far more fit into MaxSize than into memory
	maxFolderText = 64 << 20 // of the paths of all folders, bytes: each holds those above it once more
	maxWarnings   = 20
)

var (
	// ErrInvalid matches, by errors.Is, every reason why a torrent is refused but ErrV2Only.
	ErrInvalid = errors.New("invalid torrent")
	// ErrV2Only reports a torrent without a version 1 half (BEP 52).
	ErrV2Only = errors.New("metainfo: this torrent is for BitTorrent v2 only, which is not supported yet; a v1 or hybrid torrent of it would work")
)

// An InvalidError says why a torrent is refused.
type InvalidError struct {
	Reason string // lower case, no full stop; quotes the torrent only as [Printable] text
	Err    error  // the cause where there is one, or nil
}

func (e *InvalidError) Error() string {
	if e.Err != nil {
		return "metainfo: " + e.Reason + ": " + e.Err.Error()
	}
	return "metainfo: " + e.Reason
}

// Unwrap returns [ErrInvalid] and the cause.
func (e *InvalidError) Unwrap() []error {
	if e.Err != nil {
		return []error{ErrInvalid, e.Err}
	}
	return []error{ErrInvalid}
}

func invalid(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}

// A UsageError reports a bad value that the user gave, not the torrent.
type UsageError struct {
	Value  string // what was given
	Reason string // lower case, no full stop
}

func (e *UsageError) Error() string { return quote(e.Value) + ": " + e.Reason }

// A Torrent is what a .torrent file describes. Its slices must not be changed.
type Torrent struct {
	Name       string // as the torrent gives it: untrusted, for display only
	Root       string // the file or folder below DIR that everything goes to: Name made safe
	Folder     bool   // Root is a folder of files, not a file
	InfoHash   [20]byte
	InfoHashV2 [32]byte // of a hybrid, else zero
	Version    string   // "1" or "hybrid"

	Layout piece.Layout
	Pieces []byte // SHA-1 sums, 20 bytes a piece; aliases the input of Parse
	Files  []File // in the order of the stream, padding included; at least one is not
	// Info is the raw info dictionary, which InfoHash is over: the metadata that peers ask for (BEP 9),
	// to be sent from here. It aliases the input of Parse, as Pieces does, and so takes no memory of its own.
	Info []byte

	originals []original // of the files that have another path in the torrent, in their order
	links     []int      // numbers, from 0 in the torrent's list, of the symbolic links left out of Files

	Private      bool // peers come from the trackers only (BEP 27)
	Source       string
	Comment      string
	CreatedBy    string
	CreationDate int64 // seconds since 1970; 0 if not given

	Trackers  [][]string // tiers of http, https and udp URLs (BEP 12), at most MaxTrackers
	WebSeeds  []string   // http and https URLs of url-list (BEP 19)
	HTTPSeeds []string   // http and https URLs of httpseeds (BEP 17)
	Nodes     []string   // DHT nodes as host:port (BEP 5)

	// Warnings say what was changed or left out, for the user; at most a few dozen lines,
	// fit to print.
	Warnings []string
}

// A File is a range of the torrent's stream of bytes.
type File struct {
	// Path is where the file goes below DIR: [Torrent.Root] and the parts below that, with
	// "/". Each part is valid UTF-8 without control, bidi or zero-width characters, not
	// "." or "..", and at most 250 bytes long, so that ".part" can be added. No two
	// paths are the same on any file system, nor the same as another with ".part". It
	// is the same for the same torrent every time. Padding has no path.
	Path   string
	Length int64 // bytes
	Offset int64 // of its first byte in the stream
	Pad    bool  // zeros that only fill up a piece: never written (BEP 47)
}

// Size returns the length in bytes of the real files, padding left out.
func (t *Torrent) Size() int64 {
	n := int64(0)
	for i := range t.Files {
		if !t.Files[i].Pad {
			n += t.Files[i].Length
		}
	}
	return n
}

// Parse reads a .torrent file. The Torrent aliases in, which must not be changed afterwards.
// The error is ErrV2Only or matches ErrInvalid.
func Parse(in []byte) (*Torrent, error) { return parse(in, systemRules()) }

// systemRules are those of the system we run on: what names a file system cannot hold.
func systemRules() rules { return rules{windows: runtime.GOOS == "windows"} }

// A parser fills in a Torrent.
type parser struct {
	*Torrent
	rules
	warnings
	given []byte // the name as the torrent gives it, whole
	bare  bool   // there is no file around the info dictionary
}

func parse(in []byte, r rules) (*Torrent, error) {
	if len(in) > MaxSize {
		return nil, invalid("larger than %d MiB", MaxSize>>20)
	}
	doc, err := bencode.DecodeTolerant(in, bencode.Limits{})
	if err != nil {
		return nil, &InvalidError{Reason: "not a torrent" + guess(in), Err: err}
	}
	var top outer
	top.read(doc)
	if top.info.Kind() != bencode.Dict {
		return nil, invalid("not a torrent: no info dictionary")
	}
	p := parser{Torrent: &Torrent{Info: top.info.Raw()}, rules: r}
	if err := p.info(top.info, top.layers); err != nil {
		return nil, err
	}
	p.outer(top)
	p.Warnings = p.lines()
	return p.Torrent, nil
}

// guess says what something that is no bencoding may be, for the error message.
func guess(in []byte) string {
	switch {
	case len(in) == 0:
		return " but empty"
	case in[0] == '<':
		return " but perhaps a web page"
	case len(in) > 1 && in[0] == 0x1f && in[1] == 0x8b:
		return " but compressed with gzip"
	}
	return ""
}

// outer holds the keys outside the info dictionary, of any kind.
type outer struct {
	info, layers, announce, list, webSeeds, httpSeeds, nodes bencode.Value
	comment, commentUTF8, createdBy, createdByUTF8, created  bencode.Value
}

// read fills in o with one walk over the document.
func (o *outer) read(doc bencode.Value) {
	for key, v := range doc.Dict() {
		switch string(key) {
		case "info":
			o.info = v
		case "piece layers":
			o.layers = v
		case "announce":
			o.announce = v
		case "announce-list":
			o.list = v
		case "url-list":
			o.webSeeds = v
		case "httpseeds":
			o.httpSeeds = v
		case "nodes":
			o.nodes = v
		case "comment":
			o.comment = v
		case "comment.utf-8":
			o.commentUTF8 = v
		case "created by":
			o.createdBy = v
		case "created by.utf-8":
			o.createdByUTF8 = v
		case "creation date":
			o.created = v
		}
	}
}

// outer takes over what can be used of the keys outside the info dictionary. None of them
// can spoil a torrent.
func (p *parser) outer(o outer) {
	p.Trackers = p.trackers(o.announce, o.list)
	p.WebSeeds = urls(o.webSeeds, MaxWebSeeds)
	p.HTTPSeeds = urls(o.httpSeeds, MaxWebSeeds)
	p.Nodes = nodes(o.nodes)
	p.Comment = text(o.commentUTF8, o.comment)
	p.CreatedBy = text(o.createdByUTF8, o.createdBy)
	if n, ok := o.created.Int(); ok && n > 0 {
		p.CreationDate = n
	}
}

// text returns the first of vs that is a string, cut to maxText.
func text(vs ...bencode.Value) string {
	for _, v := range vs {
		if b, ok := v.Bytes(); ok {
			return string(b[:min(len(b), maxText)])
		}
	}
	return ""
}

// hash sets the info-hashes.
func (p *parser) hash(hybrid bool) {
	p.InfoHash, p.Version = sha1.Sum(p.Info), "1"
	if hybrid {
		p.InfoHashV2, p.Version = sha256.Sum256(p.Info), "hybrid"
	}
}

// warnings collects lines for the user and counts what is too much to say.
type warnings struct {
	said []string
	more int
}

func (w *warnings) warn(format string, args ...any) {
	if len(w.said) >= maxWarnings {
		w.more++
		return
	}
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *warnings) lines() []string {
	if w.more > 0 {
		return append(w.said, fmt.Sprintf("%d more warnings", w.more))
	}
	return w.said
}
