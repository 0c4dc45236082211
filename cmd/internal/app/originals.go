package app

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"strings"

	"bittern/piece/metainfo"
	"bittern/piece/storage"
)

// readConfig is [storageConfig] for content that is only read. Files that [metainfo.File] calls
// otherwise than the torrent are looked for under both names: get writes to the one, while what a
// torrent was made of, or another program downloaded, stands under the other.
func readConfig(t *metainfo.Torrent, dir string) storage.Config {
	dir = cmp.Or(dir, ".")
	cfg := storageConfig(t, dir)
	var all []choice
	var in *shelf
	for i, original := range t.Originals() {
		if in == nil {
			root, err := os.OpenRoot(dir)
			if err != nil {
				return cfg // storage says what is wrong with it
			}
			defer root.Close() // read only: nothing to lose
			in = &shelf{root: root, folders: make(map[string]map[string]fs.FileMode)}
		}
		f := t.Files[i]
		all = append(all, choice{file: i, length: f.Length, ours: in.look(f.Path), theirs: in.look(original)})
	}
	if settle(all, cfg.Files) {
		cfg.Name, _, _ = strings.Cut(all[0].theirs.path, "/")
	}
	return cfg
}

// A choice is a file that may stand under two names.
type choice struct {
	file         int // index into the torrent's files
	length       int64
	ours, theirs candidate
}

// A candidate is a path and the regular file that stands there.
type candidate struct {
	path  string
	there bool
	size  int64
}

// settle enters into files where each choice is read from, and reports whether most stands under
// the names of the torrent.
//
// A path of ours may be another file's original and the other way round ("a (2)" beside "A" and
// "a"), so files are not looked at one by one: the set of names under which more is found comes
// first, and the other fills its gaps with what has no name in it. So no two files share a path.
func settle(all []choice, files []storage.File) (theirs bool) {
	var right, there int // how many more stand under their names than under ours
	for _, c := range all {
		right += count(c.theirs.fits(c.length)) - count(c.ours.fits(c.length))
		there += count(c.theirs.there) - count(c.ours.there)
	}
	theirs = cmp.Or(right, there) > 0
	owned := make(map[string]bool, len(all))
	for _, c := range all {
		first, _ := c.ordered(theirs)
		owned[first.path] = true
	}
	for _, c := range all {
		first, second := c.ordered(theirs)
		second.there = second.there && !owned[second.path]
		use := first
		// What has the wrong size is still better than nothing.
		if second.fits(c.length) && !first.fits(c.length) || second.there && !first.there {
			use = second
		}
		files[c.file].Path = use.path
	}
	return theirs
}

// ordered returns the candidate to look at first, and the other.
func (c choice) ordered(theirs bool) (first, second candidate) {
	if theirs {
		return c.theirs, c.ours
	}
	return c.ours, c.theirs
}

func (c candidate) fits(length int64) bool { return c.there && c.size == length }

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// A shelf is a folder in which files are looked for by the very names that its listings give: on a
// file system that tells "a" not from "A" a file is found under one of them only. Nothing is found
// behind a symbolic link, nor outside the folder. What cannot be listed counts as absent.
type shelf struct {
	root    *os.Root
	folders map[string]map[string]fs.FileMode // types of what is in a folder
}

// look returns the regular file at a slash separated path.
func (s *shelf) look(name string) candidate {
	c := candidate{path: name}
	if mode, ok := s.list(path.Dir(name))[path.Base(name)]; !ok || !mode.IsRegular() {
		return c
	}
	info, err := s.root.Lstat(name)
	if err == nil && info.Mode().IsRegular() {
		c.there, c.size = true, info.Size()
	}
	return c
}

// list returns what is in a folder, nothing if there is no such folder.
func (s *shelf) list(dir string) map[string]fs.FileMode {
	if in, ok := s.folders[dir]; ok {
		return in
	}
	var in map[string]fs.FileMode
	if dir == "." || s.list(path.Dir(dir))[path.Base(dir)].IsDir() {
		in = s.read(dir)
	}
	s.folders[dir] = in
	return in
}

func (s *shelf) read(dir string) map[string]fs.FileMode {
	f, err := s.root.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()             // read only: nothing to lose
	entries, _ := f.ReadDir(-1) // what was read until an error is there
	in := make(map[string]fs.FileMode, len(entries))
	for _, e := range entries {
		in[e.Name()] = e.Type()
	}
	return in
}
