package metainfo

import (
	"crypto/sha1"
	"slices"

	"bittern/bencode"
	"bittern/piece"
)

// inner holds the keys of the info dictionary, of any kind.
type inner struct {
	name, nameUTF8, pieceLength, pieces, length, files, attr bencode.Value
	private, source, meta, tree                              bencode.Value
}

// read fills in n with one walk over the dictionary.
func (n *inner) read(info bencode.Value) {
	for key, v := range info.Dict() {
		switch string(key) {
		case "name":
			n.name = v
		case "name.utf-8":
			n.nameUTF8 = v
		case "piece length":
			n.pieceLength = v
		case "pieces":
			n.pieces = v
		case "length":
			n.length = v
		case "files":
			n.files = v
		case "attr":
			n.attr = v
		case "private":
			n.private = v
		case "source":
			n.source = v
		case "meta version":
			n.meta = v
		case "file tree":
			n.tree = v
		}
	}
}

// info checks the info dictionary and takes it over. layers is the "piece layers" of BEP 52.
func (p *parser) info(info, layers bencode.Value) error {
	var in inner
	in.read(info)
	hybrid, err := version(in)
	if err != nil {
		return err
	}
	if err := p.name(in); err != nil {
		return err
	}
	length, ok := in.pieceLength.Int()
	if !ok || length < 1 || length > piece.MaxPieceLength {
		return invalid("the piece length is not an integer from 1 to %d", piece.MaxPieceLength)
	}
	total, err := p.content(in)
	if err != nil {
		return err
	}
	if err := p.pieces(in.pieces, total, length); err != nil {
		return err
	}
	if hybrid {
		half := halves{pieceLength: length, layers: layers, parser: p}
		if err := half.check(in); err != nil {
			return err
		}
	}
	private, _ := in.private.Int()
	p.Private = private != 0 // BEP 27 says 1; any other number hardly means no
	p.Source = text(in.source)
	p.hash(hybrid)
	return nil
}

// version decides which halves the torrent has. BEP 52: "Implementations must check this
// field first and indicate that a torrent is of a newer version than they can handle before
// performing other validations".
func version(in inner) (hybrid bool, err error) {
	if in.meta.Kind() == bencode.Invalid {
		return false, nil
	}
	n, ok := in.meta.Int()
	if !ok {
		return false, invalid("the meta version is not an integer")
	}
	if n != 2 {
		return false, invalid("this torrent is of meta version %d, which is not known", n)
	}
	if in.pieces.Kind() == bencode.Invalid && in.files.Kind() == bencode.Invalid && in.length.Kind() == bencode.Invalid {
		return false, ErrV2Only
	}
	return true, nil
}

// name sets Name and Root.
func (p *parser) name(in inner) error {
	name, ok := in.nameUTF8.Bytes()
	if !ok {
		if name, ok = in.name.Bytes(); !ok {
			return invalid("no name")
		}
	}
	root, err := p.root(name)
	if err != nil {
		return invalid("unsafe name: %v", err)
	}
	p.Name, p.Root, p.given = string(name[:min(len(name), maxText)]), root, name
	if p.Name != p.Root {
		p.warn("the name %s is not usable as it is: using %s", quote(p.Name), quote(p.Root))
	}
	return nil
}

// content sets Files and returns the length of the stream.
func (p *parser) content(in inner) (total int64, err error) {
	single, many := in.length.Kind() != bencode.Invalid, in.files.Kind() != bencode.Invalid
	switch {
	case single && many:
		return 0, invalid("both length and files are given")
	case many:
		p.Folder = true
		total, err = p.files(in.files)
		if err != nil {
			return 0, err
		}
	case single:
		if total, err = p.single(in); err != nil {
			return 0, err
		}
	default:
		return 0, invalid("neither length nor files is given")
	}
	switch {
	case !slices.ContainsFunc(p.Files, func(f File) bool { return !f.Pad }):
		return 0, invalid("there is no file in it")
	case total == 0:
		return 0, invalid("all its files are empty")
	}
	return total, nil
}

// single sets Files of a torrent that is one file.
func (p *parser) single(in inner) (total int64, err error) {
	n, ok := in.length.Int()
	if !ok || n < 0 {
		return 0, invalid("the length is not an integer from 0 up")
	}
	if a := attrs(in.attr); a.pad || a.link {
		return 0, invalid("its only file is padding or a symbolic link")
	}
	p.Files = []File{{Path: p.Root, Length: n}}
	if string(p.given) != p.Root && p.holds(p.given) {
		p.originals = []original{{path: string(p.given)}}
	}
	return n, nil
}

// pieces sets Layout and Pieces.
func (p *parser) pieces(v bencode.Value, total, length int64) error {
	sums, ok := v.Bytes()
	if !ok || len(sums) == 0 || len(sums)%sha1.Size != 0 {
		return invalid("pieces is not a string of SHA-1 sums, 20 bytes each")
	}
	layout, err := piece.NewLayout(total, length)
	if err != nil {
		return &InvalidError{Reason: "bad size", Err: err}
	}
	if got := len(sums) / sha1.Size; got != layout.Pieces() {
		return invalid("%d bytes make %d pieces of %d bytes, but there are %d sums", total, layout.Pieces(), length, got)
	}
	p.Layout, p.Pieces = layout, sums
	return nil
}
