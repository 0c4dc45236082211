package metainfo

import (
	"bytes"
	"math"
	"strings"

	"bittern/bencode"
)

// entry holds the keys of one element of "files", of any kind. md5sum and sha1 are hints that
// the piece sums make needless, and are not looked at.
type entry struct{ length, path, pathUTF8, attr bencode.Value }

func (e *entry) read(v bencode.Value) {
	*e = entry{}
	for key, v := range v.Dict() {
		switch string(key) {
		case "length":
			e.length = v
		case "path":
			e.path = v
		case "path.utf-8":
			e.pathUTF8 = v
		case "attr":
			e.attr = v
		}
	}
}

// attributes are those of BEP 47 that matter here.
type attributes struct{ pad, link bool }

func attrs(v bencode.Value) attributes {
	b, _ := v.Bytes()
	return attributes{pad: bytes.IndexByte(b, 'p') >= 0, link: bytes.IndexByte(b, 'l') >= 0}
}

// files sets Files from the list of a torrent that is a folder and returns the length of the
// stream.
func (p *parser) files(list bencode.Value) (total int64, err error) {
	if list.Kind() != bencode.List {
		return 0, invalid("files is not a list")
	}
	count := min(list.Len(), 1<<18) // more are only believed when they are seen
	p.Files = make([]File, 0, count)
	names := newTree(p.rules, p.Root, p.given, count, &p.warnings)
	var originals []original
	var e entry
	number := 0
	for v := range list.List() {
		number++
		e.read(v)
		a := attrs(e.attr)
		n, ok := e.length.Int()
		// BEP 47 on links: "clients […] should not require their presence […] when parsing".
		if absent := e.length.Kind() == bencode.Invalid; !ok && !(absent && a.link) || n < 0 {
			return 0, invalid("file %d: the length is not an integer from 0 up", number)
		}
		if n > math.MaxInt64-total {
			return 0, invalid("file %d: the sizes add up to more than 2^63 bytes", number)
		}
		f := File{Length: n, Offset: total, Pad: a.pad}
		total += n
		switch {
		case a.pad:
		case a.link && n != 0:
			return 0, invalid("file %d: a symbolic link with content", number)
		case a.link:
			p.warn("a symbolic link in the torrent is not created: %s", quote(display(e)))
			p.links = append(p.links, number-1)
			continue
		default:
			var given string
			if f.Path, given, err = names.add(e.parts()); err != nil {
				return 0, invalid("file %d: %v", number, err)
			}
			if given != "" {
				originals = append(originals, original{len(p.Files), given})
			}
		}
		p.Files = append(p.Files, f)
	}
	p.settle(originals)
	return total, nil
}

// parts returns the path to use: path.utf-8 where it is a list, which many old programs
// write beside a path in the system's encoding.
func (e *entry) parts() bencode.Value {
	if e.pathUTF8.Kind() == bencode.List {
		return e.pathUTF8
	}
	return e.path
}

// display returns the path for messages.
func display(e entry) string {
	var parts []string
	for v := range e.parts().List() {
		if s, ok := v.Text(); ok && len(parts) < maxDepth {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "/")
}
