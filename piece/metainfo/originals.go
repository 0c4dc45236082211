package metainfo

import (
	"bytes"
	"iter"
	"strings"
	"unicode/utf8"
)

// maxHeld is how long a part of a path can be on the file systems we know, bytes.
const maxHeld = 255

// An original is the path of a file as the torrent spells it. They stand in a table of their
// own because few files have one: a field would make every [File] larger.
type original struct {
	file int // index into Files
	path string
}

// Originals yields the index of each file that has another Path than the torrent gives it,
// and the path as the torrent gives it, below DIR like [File.Path]. Other programs write to
// that path, and content that a torrent was made of stands there; we read it and never write.
//
// Like a Path it leads nowhere else: it has no part that is empty, "." or "..", or that holds
// a slash or NUL, or whatever else separates on this system. But it may hold control
// characters and bytes that are no UTF-8: print it through [Printable]. A path that this
// system cannot hold is left out, and so is one that another file has.
func (t *Torrent) Originals() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for _, o := range t.originals {
			if !yield(o.file, o.path) {
				return
			}
		}
	}
}

// holds reports whether the system can hold a file or folder called part, spelled like this.
func (r rules) holds(part []byte) bool {
	switch {
	case len(part) == 0, len(part) > maxHeld, string(part) == ".", string(part) == "..",
		bytes.IndexByte(part, '/') >= 0, bytes.IndexByte(part, 0) >= 0:
		return false
	case !r.windows:
		return true
	}
	forbidden := func(c rune) bool { return c < ' ' || strings.ContainsRune(reserved, c) }
	name := string(part)
	return utf8.ValidString(name) && !strings.ContainsFunc(name, forbidden) && windowsName(name) == name
}

// A spelling follows the torrent's own words on the way to a file. Its zero value has a root
// that cannot be held, so that no path below it can.
type spelling struct {
	rules
	root  []byte // as the torrent gives it
	above []byte // scratch: the folders of the current file, from the root on
	text  string // above as a string, once one was needed
	held  bool   // every part of above can be held
	paths arena
}

// start begins a path at the root.
func (s *spelling) start() {
	s.held = s.holds(s.root)
	if s.above, s.text = s.above[:0], ""; s.held {
		s.above = append(s.above, s.root...)
	}
}

// enter goes on into the folder name.
func (s *spelling) enter(name []byte) {
	if s.held = s.held && s.holds(name); s.held {
		s.above = append(append(s.above, '/'), name...)
	}
}

// file returns the path of the file name in the folders entered, or "" if that is path, or
// cannot be held.
func (s *spelling) file(path string, name []byte) string {
	n := len(s.above)
	switch {
	case !s.held, n+1+len(name) > maxPath, !s.holds(name),
		len(path) == n+1+len(name) && path[:n] == string(s.above) && path[n+1:] == string(name):
		return ""
	case s.text == "":
		s.text = string(s.above)
	}
	return s.paths.join(s.text, name)
}

// settle takes the originals over, but for those that another file has: one that came first,
// or one that is found under that path only. No two files share one.
func (t *Torrent) settle(all []original) {
	if len(all) == 0 {
		return
	}
	first := make(map[string]int, len(all)) // index into all, or -1
	for i := len(all) - 1; i >= 0; i-- {
		first[all[i].path] = i
	}
	// has notes that a file is found under path only. Who loses that path has its own only.
	has := func(path string) {
		for i, ok := first[path]; ok && i >= 0; i, ok = first[path] {
			first[path] = -1
			path = t.Files[all[i].file].Path
		}
	}
	next := 0 // index into all
	for i := range t.Files {
		if next < len(all) && all[next].file == i {
			if next++; first[all[next-1].path] == next-1 {
				continue
			}
		}
		has(t.Files[i].Path)
	}
	for i, o := range all {
		if first[o.path] == i {
			t.originals = append(t.originals, o)
		}
	}
}
