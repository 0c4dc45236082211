package metainfo

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"bittern/bencode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// A tree gives every file of a folder a path that no other has, on file systems that tell
// case and normal form apart and on those that do not. It lives while a torrent is parsed.
//
// Names are compared folded (case and normal form). A file whose name is taken gets a number:
// "a.txt", "a (2).txt". Folders whose names are the same when folded are one folder, spelled
// as at first. A file also takes its name with ".part", which it has until it is complete.
//
// Paths are remembered as hashes, 20 bytes an entry, because 100,000 files are not rare and
// memory is. Two paths of one hash would only number a file without need.
type tree struct {
	rules
	*warnings
	taken    map[hash]slot
	folders  map[hash]int32 // by parent and the name asked for, folded: index into list
	list     []folder       // the root first
	text     int            // of the paths in list, bytes
	suffixed bool           // some name ends in ".part", so that looking for clashes with it is needed
	paths    arena
	given    spelling // at the folder of the file before

	last   []byte // the encoded folders of the file before
	lastIn int32  // and what they are
	part   []byte // scratch: a clean name
	folded []byte // scratch: parent's hash and the folded name
	fold   folding
}

// A hash identifies a path in the tree: that of the parent and the folded name, hashed.
type hash [16]byte

// A slot is a name that is taken.
type slot struct {
	next uint16 // the number to try next for another of the name; 0 means 2
	file bool
}

type folder struct {
	id    hash
	path  string
	asked string // the name as first asked for, clean; the path may end in a numbered one
}

// newTree returns a tree for about files files below the folder root, which the torrent spells
// given.
func newTree(r rules, root string, given []byte, files int, w *warnings) *tree {
	t := &tree{
		rules: r, warnings: w,
		taken: make(map[hash]slot, files), folders: make(map[hash]int32),
		list: []folder{{path: root, asked: root}},
		fold: folding{caser: cases.Fold()}, given: spelling{rules: r, root: given},
	}
	t.given.start()
	return t
}

// add returns the path for the file whose parts are the elements of v, and how the torrent
// spells it where that is something else that the system can hold.
func (t *tree) add(v bencode.Value) (path, given string, err error) {
	dirs, name, err := t.split(v)
	if err != nil {
		return "", "", err
	}
	in, err := t.enter(dirs)
	if err != nil {
		return "", "", err
	}
	t.part, err = t.clean(t.part[:0], name, maxPart)
	if err != nil {
		return "", "", err
	}
	id := t.hash(in, t.part)
	if !t.free(id, true) {
		if t.part, id, err = t.number(in, id, t.part, true); err != nil {
			return "", "", err
		}
	}
	t.occupy(id, true)
	if path, err = t.join(in, t.part); err != nil {
		return "", "", err
	}
	if string(t.part) != string(name) {
		t.warn("%s in the torrent goes to %s", quote(string(name)), quote(path))
	}
	return path, t.given.file(path, name), nil
}

// split returns the encoded folders of a path, as a span of the input, and the name.
func (t *tree) split(v bencode.Value) (dirs, name []byte, err error) {
	raw, parts, end := v.Raw(), 0, 1
	for part := range v.List() {
		b, ok := part.Bytes()
		if !ok {
			return nil, nil, fmt.Errorf("a part of the path is not a string")
		}
		if parts++; parts > maxDepth {
			return nil, nil, fmt.Errorf("the path has more than %d parts", maxDepth)
		}
		dirs, name = raw[1:end], b
		end += len(part.Raw())
	}
	if parts == 0 {
		return nil, nil, fmt.Errorf("no path")
	}
	return dirs, name, nil
}

// enter returns the folder that the encoded strings dirs lead to, made where it is new. The
// files of one folder mostly follow one another, so the last answer is kept.
func (t *tree) enter(dirs []byte) (int32, error) {
	if bytes.Equal(dirs, t.last) {
		return t.lastIn, nil
	}
	in := int32(0)
	t.given.start()
	for rest := dirs; len(rest) > 0; {
		v, behind, err := bencode.DecodePrefix(rest, bencode.Limits{})
		if err != nil {
			return 0, err
		}
		name, _ := v.Bytes()
		if in, err = t.folder(in, name); err != nil {
			return 0, err
		}
		t.given.enter(name)
		rest = behind
	}
	t.last, t.lastIn = dirs, in
	return in, nil
}

// folder returns the folder raw in the folder parent, made if it is new.
func (t *tree) folder(parent int32, raw []byte) (int32, error) {
	var err error
	if t.part, err = t.clean(t.part[:0], raw, maxPart); err != nil {
		return 0, err
	}
	asked := t.hash(parent, t.part)
	if i, ok := t.folders[asked]; ok {
		if t.list[i].asked != string(t.part) {
			t.warn("the folder %s in the torrent goes to %s", quote(string(raw)), quote(t.list[i].path))
		}
		return i, nil
	}
	f := folder{id: asked, asked: string(t.part)}
	if !t.free(f.id, false) {
		if t.part, f.id, err = t.number(parent, f.id, t.part, false); err != nil {
			return 0, err
		}
	}
	t.occupy(f.id, false)
	if f.path, err = t.join(parent, t.part); err != nil {
		return 0, err
	}
	if t.text += len(f.path); t.text > maxFolderText || len(t.list) > maxFolders {
		return 0, fmt.Errorf("there are too many folders")
	}
	if string(t.part) != string(raw) {
		t.warn("the folder %s in the torrent goes to %s", quote(string(raw)), quote(f.path))
	}
	i := int32(len(t.list))
	t.list, t.folders[asked] = append(t.list, f), i
	return i, nil
}

// join returns the path of name in the folder parent.
func (t *tree) join(parent int32, name []byte) (string, error) {
	above := t.list[parent].path
	if len(above)+1+len(name) > maxPath {
		return "", fmt.Errorf("the path is longer than %d bytes", maxPath)
	}
	return t.paths.join(above, name), nil
}

// number returns name with the first number that makes it free in the folder parent, and the
// hash of its path. base is the hash of the path without a number.
func (t *tree) number(parent int32, base hash, name []byte, file bool) (numbered []byte, id hash, err error) {
	first, ok := t.taken[base]
	if !ok {
		first.file = true // only a ".part" is in the way; taken from now on, to count from
	}
	for n := max(first.next, 2); n <= maxDuplicates; n++ {
		numbered = []byte(shorten(string(name), fmt.Sprintf(" (%d)", n), maxPart))
		if id = t.hash(parent, numbered); t.free(id, file) {
			first.next = n + 1
			t.taken[base] = first
			return numbered, id, nil
		}
	}
	return nil, id, fmt.Errorf("more than %d files are named %s", maxDuplicates, quote(string(name)))
}

// free reports whether the name whose path has hash id can be used. It must be what
// [tree.hash] was last called with.
func (t *tree) free(id hash, file bool) bool {
	if _, ok := t.taken[id]; ok {
		return false
	}
	if bytes.HasSuffix(t.folded, []byte(partSuffix)) {
		if s, ok := t.taken[sum(t.folded[:len(t.folded)-len(partSuffix)])]; ok && s.file {
			return false // it is that file until it is complete
		}
	}
	if !file || !t.suffixed {
		return true
	}
	_, ok := t.taken[sum(append(t.folded, partSuffix...))]
	return !ok
}

// occupy takes the name that [tree.hash] was last called with.
func (t *tree) occupy(id hash, file bool) {
	t.taken[id] = slot{file: file}
	t.suffixed = t.suffixed || bytes.HasSuffix(t.folded, []byte(partSuffix))
}

// hash returns the hash of the path of name in the folder parent.
func (t *tree) hash(parent int32, name []byte) hash {
	t.folded = append(t.folded[:0], t.list[parent].id[:]...)
	t.folded = t.fold.append(t.folded, name)
	return sum(t.folded)
}

func sum(b []byte) (h hash) {
	full := sha1.Sum(b)
	copy(h[:], full[:])
	return h
}

// A folding brings names to the form that they are compared in.
type folding struct {
	caser        cases.Caser     // keeps state: not to be shared
	wide, folded []byte          // scratch
	known        map[rune]string // of the characters met, what alone returns
}

// append appends name to dst with no difference of case or of normal form left (canonical
// caseless matching of the Unicode standard).
func (f *folding) append(dst, name []byte) []byte {
	from := len(dst)
	for i := 0; i < len(name); {
		c := name[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(name[i:])
			alone := f.alone(r)
			if alone == "" {
				return f.whole(dst[:from], name)
			}
			dst, i = append(dst, alone...), i+n
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst, i = append(dst, c), i+1
	}
	return dst
}

// alone returns what r folds to, or "" if that depends on what stands before it: marks move among
// their neighbours, and so does a letter that becomes one, as the iota does. Names use few characters many times, and
// to fold one takes long.
func (f *folding) alone(r rune) string {
	s, ok := f.known[r]
	if !ok {
		if f.known == nil {
			f.known = make(map[rune]string)
		}
		b := utf8.AppendRune(nil, r)
		if out := f.whole(nil, b); r != utf8.RuneError && norm.NFD.Properties(b).LeadCCC() == 0 && norm.NFD.Properties(out).LeadCCC() == 0 {
			s = string(out)
		}
		f.known[r] = s
	}
	return s
}

// whole is append without a short way.
func (f *folding) whole(dst, name []byte) []byte {
	f.wide = decompose(f.wide[:0], name)
	f.wide = appendLeast(f.wide[:0], f.lower(f.wide))
	return decompose(dst, f.wide)
}

// lower returns b without case, valid until the next call.
func (f *folding) lower(b []byte) []byte {
	most := 3*len(b) + 16 // no character folds to more than three times its bytes
	f.folded = slices.Grow(f.folded[:0], most)[:most]
	f.caser.Reset()
	n, _, err := f.caser.Transform(f.folded, b, true)
	if err != nil {
		return b // cannot happen; would only leave differences that need a longer form
	}
	return f.folded[:n]
}

// appendLeast appends b with each character replaced by one that stands for all that differ
// from it by case alone. Most are that already, but x/text folds Cherokee the wrong way
// round: each of a pair to the other.
func appendLeast(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		i += n
		least := r
		for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
			least = min(least, c)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A' // as names of ASCII alone are folded
		}
		dst = utf8.AppendRune(dst, least)
	}
	return dst
}

// decompose appends b in normal form D. Most names are in it already, which costs nothing.
func decompose(dst, b []byte) []byte {
	if norm.NFD.QuickSpan(b) == len(b) {
		return append(dst, b...)
	}
	return norm.NFD.Append(dst, b...)
}
