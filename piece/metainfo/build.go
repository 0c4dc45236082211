package metainfo

import (
	"crypto/sha1"
	"math"
	"strings"

	"bittern/bencode"
	"bittern/piece"
)

// A Spec says what a new torrent is. Nothing else gets into it.
type Spec struct {
	Name string // of the file or root folder: one safe part of a path
	// Files are in the order of the stream. Their paths begin with Name and "/", as those of
	// [Torrent.Files]; a single file whose path is Name alone makes a torrent of one file
	// instead of a folder. Offset is not looked at; Pad files need no path.
	Files       []File
	PieceLength int64 // bytes

	Trackers  [][]string // tiers; the first URL is also "announce"
	WebSeeds  []string   // url-list (BEP 19)
	Private   bool       // BEP 27
	Source    string     // makes the info-hash differ between trackers; "" leaves it out
	Comment   string     // "" leaves it out
	CreatedBy string     // "" leaves it out
	// CreationDate is in seconds since 1970; 0 leaves it out.
	CreationDate int64
}

// Limits of [PieceLengthFor], bytes, and the number of pieces it aims at.
const (
	minPieceLength = 16 << 10
	maxPieceLength = 16 << 20
	aimPieces      = 2500
)

// PieceLengthFor returns the piece length in bytes for a torrent of total bytes: the power of
// two that makes 1,250 to 2,500 pieces, but 16 KiB to 16 MiB.
func PieceLengthFor(total int64) int64 {
	n := int64(minPieceLength)
	for n < maxPieceLength && total > aimPieces*n {
		n *= 2
	}
	return n
}

// Layout returns how the content is cut into pieces. The error is a *[UsageError].
func (s Spec) Layout() (piece.Layout, error) {
	total, real := int64(0), false
	for _, f := range s.Files {
		if f.Length < 0 || f.Length > math.MaxInt64-total {
			return piece.Layout{}, &UsageError{f.Path, "its size cannot be"}
		}
		total += f.Length
		real = real || !f.Pad
	}
	if total == 0 || !real {
		return piece.Layout{}, &UsageError{s.Name, "there is nothing in it to share"}
	}
	l, err := piece.NewLayout(total, s.PieceLength)
	if err != nil {
		return piece.Layout{}, &UsageError{s.Name, strings.TrimPrefix(err.Error(), "piece: ")}
	}
	return l, nil
}

// Build returns the .torrent file, canonically encoded. sums are the SHA-1 sums of the
// pieces, 20 bytes each. The error is a *[UsageError]; [Parse] takes whatever Build returns.
func (s Spec) Build(sums []byte) ([]byte, error) {
	if err := s.check(sums); err != nil {
		return nil, err
	}
	w := wrapping{
		trackers: s.Trackers, webSeeds: s.WebSeeds,
		comment: s.Comment, createdBy: s.CreatedBy, creationDate: s.CreationDate,
	}
	out := w.begin(make([]byte, 0, len(sums)+100*len(s.Files)+1024))
	if out = w.end(s.appendInfo(out, sums)); len(out) > MaxSize {
		return nil, &UsageError{s.Name, "the torrent would be too large; a larger piece length makes it smaller"}
	}
	return out, nil
}

// appendInfo appends the info dictionary.
func (s Spec) appendInfo(out, sums []byte) []byte {
	out = append(out, 'd')
	if s.single() {
		out = bencode.AppendInt(bencode.AppendString(out, "length"), s.Files[0].Length)
	} else {
		out = append(bencode.AppendString(out, "files"), 'l')
		for _, f := range s.Files {
			out = s.appendFile(out, f)
		}
		out = append(out, 'e')
	}
	out = bencode.AppendString(bencode.AppendString(out, "name"), s.Name)
	out = bencode.AppendInt(bencode.AppendString(out, "piece length"), s.PieceLength)
	out = bencode.AppendString(bencode.AppendString(out, "pieces"), sums)
	if s.Private {
		out = bencode.AppendInt(bencode.AppendString(out, "private"), 1)
	}
	return append(optional(out, "source", s.Source), 'e')
}

// appendFile appends an element of "files".
func (s Spec) appendFile(out []byte, f File) []byte {
	out = append(out, 'd')
	path := strings.TrimPrefix(f.Path, s.Name+"/")
	if f.Pad {
		out = optional(out, "attr", "p")
		// BEP 47: "The recommended path is [".pad", "N"] where N is the length".
		path = ".pad/" + string(bencode.AppendInt(nil, f.Length)[1:])
		path = path[:len(path)-1]
	}
	out = bencode.AppendInt(bencode.AppendString(out, "length"), f.Length)
	out = append(bencode.AppendString(out, "path"), 'l')
	for part := range strings.SplitSeq(path, "/") {
		out = bencode.AppendString(out, part)
	}
	return append(out, "ee"...)
}

// single reports whether the torrent is one file and not a folder.
func (s Spec) single() bool { return len(s.Files) == 1 && s.Files[0].Path == s.Name }

// check refuses what Parse would refuse or leave out.
func (s Spec) check(sums []byte) error {
	l, err := s.Layout()
	if err != nil {
		return err
	}
	if len(sums) != l.Pieces()*sha1.Size {
		panic("metainfo: Build with the wrong number of sums")
	}
	if err := s.checkPaths(); err != nil {
		return err
	}
	n := 0
	for _, tier := range s.Trackers {
		if len(tier) == 0 {
			return &UsageError{"", "a tier without trackers"}
		}
		for _, u := range tier {
			if clean, ok := usableURL(u, []string{"http", "https", "udp"}); !ok || clean != u {
				return &UsageError{u, "not the URL of a tracker (http, https, or udp with a port)"}
			}
			n++
		}
	}
	for _, u := range s.WebSeeds {
		if clean, ok := usableURL(u, []string{"http", "https"}); !ok || clean != u {
			return &UsageError{u, "not an http or https URL"}
		}
	}
	if n > MaxTrackers || len(s.WebSeeds) > MaxWebSeeds {
		return &UsageError{s.Name, "too many trackers or web seeds"}
	}
	if len(s.Comment) > maxText || len(s.Source) > maxText || len(s.CreatedBy) > maxText {
		return &UsageError{s.Name, "a comment or source of more than 64 KiB"}
	}
	return nil
}

// checkPaths refuses names that no reader would take.
func (s Spec) checkPaths() error {
	if _, err := (rules{}).root([]byte(s.Name)); err != nil {
		return &UsageError{s.Name, "not the name of one file or folder"}
	}
	if s.single() {
		return nil
	}
	var part []byte
	for _, f := range s.Files {
		if f.Pad {
			continue
		}
		below, ok := strings.CutPrefix(f.Path, s.Name+"/")
		if !ok || strings.Count(below, "/") >= maxDepth || len(f.Path) > maxPath {
			return &UsageError{f.Path, "not a path below the folder, or too long"}
		}
		for name := range strings.SplitSeq(below, "/") {
			var err error
			if part, err = (rules{}).clean(part[:0], []byte(name), maxPart); err != nil {
				return &UsageError{f.Path, err.Error()}
			}
		}
	}
	return nil
}

// Warnings says which names Parse will change, so that what is downloaded is called otherwise:
// names with hidden characters or too long ones, those that differ in case or normal form
// only, and on Windows those that it cannot hold.
func (s Spec) Warnings() []string {
	var w warnings
	here, err := newForecast(s, rules{})
	if err != nil {
		return nil // Build refuses it
	}
	there, err := newForecast(s, rules{windows: true})
	if err != nil {
		return nil
	}
	w.renamed("the name "+quote(s.Name), s.Name, here.root, there.root)
	if s.single() {
		return w.lines()
	}
	for _, f := range s.Files {
		if f.Pad {
			continue
		}
		below := strings.TrimPrefix(f.Path, s.Name+"/")
		v, err := bencode.Decode(bencode.Append(nil, strings.Split(below, "/")))
		if err != nil {
			return w.lines() // too large for any torrent
		}
		a, aerr := here.path(s.Name, v)
		b, berr := there.path(s.Name, v)
		if aerr != nil || berr != nil {
			return w.lines() // Build refuses it
		}
		w.renamed(quote(f.Path), f.Path, a, b)
	}
	return w.lines()
}

// A forecast tells what a reader will call the files of a new torrent.
type forecast struct {
	*tree
	root string
}

func newForecast(s Spec, r rules) (forecast, error) {
	root, err := r.root([]byte(s.Name))
	return forecast{newTree(r, root, nil, len(s.Files), &warnings{}), root}, err // its warnings are worded for the reader
}

// path returns what the reader will call the file whose parts are the elements of v. Its root
// is name where the reader calls that otherwise, because that has been said once for all files.
func (f forecast) path(name string, v bencode.Value) (string, error) {
	path, _, err := f.add(v)
	return name + strings.TrimPrefix(path, f.root), err
}

// renamed warns that what is called name in the torrent will be here elsewhere, and there on
// Windows.
func (w *warnings) renamed(shown, name, here, there string) {
	switch {
	case name != here && here != there:
		w.warn("%s will be %s when it is downloaded, %s on Windows", shown, quote(here), quote(there))
	case name != here:
		w.warn("%s will be %s when it is downloaded", shown, quote(here))
	case name != there:
		w.warn("%s will be %s when it is downloaded on Windows", shown, quote(there))
	}
}
