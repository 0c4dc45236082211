package metainfo

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bittern/bencode"
	"bittern/piece"

	"golang.org/x/text/cases"
)

// dict is short for what tests build torrents of.
type dict = map[string]any

// single returns a valid torrent of one file of 40 bytes in three pieces, as edit changes it.
func single(edit func(top, info dict)) []byte {
	info := dict{"name": "a.bin", "piece length": 16, "length": 40, "pieces": strings.Repeat("x", 60)}
	top := dict{"info": info}
	if edit != nil {
		edit(top, info)
	}
	return bencode.Append(nil, top)
}

// file returns an element of "files".
func file(length int64, path ...string) any { return dict{"length": length, "path": path} }

// folderOf returns a torrent named "root" of files, in one piece.
func folderOf(files ...any) []byte {
	return single(func(_, info dict) {
		delete(info, "length")
		info["name"], info["files"], info["pieces"] = "root", files, strings.Repeat("x", 20)
		info["piece length"] = 1 << 30
	})
}

// parseOK parses in and checks what holds for every torrent.
func parseOK(t testing.TB, in []byte) *Torrent {
	t.Helper()
	tor, err := Parse(in)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	checkLaws(t, tor)
	return tor
}

// checkLaws checks what callers may rely on.
func checkLaws(t testing.TB, tor *Torrent) {
	t.Helper()
	if len(tor.Pieces) != 20*tor.Layout.Pieces() || tor.Layout.Pieces() == 0 {
		t.Errorf("%d bytes of sums for %d pieces", len(tor.Pieces), tor.Layout.Pieces())
	}
	offset, taken, fold := int64(0), map[string]bool{}, folding{caser: cases.Fold()}
	for _, f := range tor.Files {
		if f.Offset != offset || f.Length < 0 || f.Length > math.MaxInt64-offset {
			t.Fatalf("%q: %d bytes at %d, want it at %d", f.Path, f.Length, f.Offset, offset)
		}
		offset += f.Length
		if f.Pad {
			if f.Path != "" {
				t.Errorf("padding has the path %q", f.Path)
			}
			continue
		}
		if tor.Folder != strings.HasPrefix(f.Path, tor.Root+"/") || !tor.Folder && f.Path != tor.Root {
			t.Errorf("%q is not where it belongs in %q", f.Path, tor.Root)
		}
		checkPath(t, f.Path)
		for _, path := range []string{f.Path, f.Path + ".part"} {
			if key := string(fold.append(nil, []byte(path))); taken[key] {
				t.Errorf("%q is there twice", path)
			} else {
				taken[key] = true
			}
		}
	}
	for path := range taken { // a file that is also a folder
		for at := range len(path) {
			if path[at] == '/' && taken[path[:at]] {
				t.Errorf("%q is a file and the folder of %q", path[:at], path)
			}
		}
	}
	if offset != tor.Layout.Total() {
		t.Errorf("files make %d bytes, the layout has %d", offset, tor.Layout.Total())
	}
	checkOriginals(t, tor)
	for _, w := range tor.Warnings {
		if Printable(w) != w || len(w) > 2000 {
			t.Errorf("warning not fit to print: %q", w)
		}
	}
}

// checkPath checks that a path is safe to create below a folder.
func checkPath(t testing.TB, path string) {
	t.Helper()
	if !fs.ValidPath(path) || strings.ContainsRune(path, 0) || len(path) > maxPath {
		t.Errorf("unsafe path %q", path)
	}
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == "." || part == ".." || strings.TrimSpace(part) == "":
			t.Errorf("unsafe part %q in %q", part, path)
		case len(part)+len(partSuffix) > 255:
			t.Errorf("part of %d bytes in %q", len(part), path)
		case ownName(part):
			t.Errorf("%q is the name of a record of ours", part)
		}
		for i, r := range part {
			if hidden(r) && !joins(r, lastRune(part[:i]), []byte(part[i+len(string(r)):])) || r == '\uFFFD' && part[i] != 0xef {
				t.Errorf("%U in the part %q", r, part)
			}
		}
	}
}

func lastRune(s string) (last rune) {
	for _, r := range s {
		last = r
	}
	return last
}

// refused checks that in is refused for the reason.
func refused(t *testing.T, in []byte, reason string) {
	t.Helper()
	tor, err := Parse(in)
	if err == nil {
		t.Fatalf("accepted: %+v", tor)
	}
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("%v does not match ErrInvalid", err)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("error %q, want one with %q", err, reason)
	}
	if Printable(err.Error()) != err.Error() {
		t.Errorf("error not fit to print: %q", err)
	}
}

// paths returns the paths of the real files.
func paths(tor *Torrent) []string {
	var all []string
	for _, f := range tor.Files {
		if !f.Pad {
			all = append(all, f.Path)
		}
	}
	return all
}

func layout(t testing.TB, total, length int64) piece.Layout {
	t.Helper()
	l, err := piece.NewLayout(total, length)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// addTorrents seeds a fuzzer with the torrents of testdata and some of our own.
func addTorrents(f *testing.F) {
	names, err := filepath.Glob("testdata/*.torrent")
	if err != nil || len(names) < 10 {
		f.Fatalf("%d torrents, %v", len(names), err)
	}
	for _, name := range names {
		in, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
	f.Add(single(nil))
	f.Add(folderOf(file(1, "a"), file(2, "A"), file(3, "a.part"), file(4, "a", "b"), file(5, "\xff\u202e"), dict{"length": 6, "attr": "p"}))
}
