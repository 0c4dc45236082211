package metainfo

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Only what is called otherwise has an original, and only where that can stand on disk.
func TestOriginals(t *testing.T) {
	split := func(s string) []string { return strings.Split(s, "/") }
	long := strings.Repeat("x", 251)
	for _, tt := range []struct {
		name      string
		in        []string
		originals map[int]string // below root
	}{
		{"ordinary names", []string{"a", "b/a", "Größe/日本.txt", "...", " x"}, nil},
		{"case", []string{"A", "a"}, map[int]string{1: "a"}},
		{"normal form", []string{"é", "e\u0301"}, map[int]string{1: "e\u0301"}},
		{"folders in case", []string{"A/x", "a/y", "a/z/w", "A/z/v"}, map[int]string{1: "a/y", 2: "a/z/w"}},
		{"a part", []string{"x", "x.part"}, map[int]string{1: "x.part"}},
		{"escape, newline, invalid", []string{"\x1b", "a\nb", "\xff/c", "\xff/d"}, map[int]string{0: "\x1b", 1: "a\nb", 2: "\xff/c", 3: "\xff/d"}},
		{"blank", []string{" "}, map[int]string{0: " "}},
		{"our record", []string{".root.bittern-resume"}, map[int]string{0: ".root.bittern-resume"}},
		{"longer than we write", []string{long, long + "yyyy/a"}, map[int]string{0: long, 1: long + "yyyy/a"}},
		{"longer than any name", []string{long + "yyyyy", long + "yyyyy/a"}, nil},
		{"dot", []string{".", "./\x1b", "\x1b/."}, nil},
		{"folder beside what cannot be held", []string{"./a", "\x1b/a", "./b", "\x1b/b"}, map[int]string{1: "\x1b/a", 3: "\x1b/b"}},
		{"twice", []string{"a", "a", "a"}, nil},
		{"twice and odd", []string{"\x1b", "\x1b"}, map[int]string{0: "\x1b"}},
		{"what another keeps", []string{"A", "a", "b", "a"}, map[int]string{1: "a"}},
		{"another's number", []string{"A", "a", "a (2)"}, map[int]string{1: "a", 2: "a (2)"}},
		{"file and folder", []string{"a", "a/b"}, map[int]string{1: "a/b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []any
			for _, path := range tt.in {
				files = append(files, file(1, split(path)...))
			}
			want := map[int]string{}
			for i, path := range tt.originals {
				want[i] = "root/" + path
			}
			if got := maps.Collect(parseOK(t, folderOf(files...)).Originals()); !maps.Equal(got, want) {
				t.Errorf("got  %#v\nwant %#v", got, want)
			}
		})
	}
}

// Padding and links have none, and do not move those of others.
func TestOriginalsAmongPadding(t *testing.T) {
	tor := parseOK(t, folderOf(dict{"length": 5, "attr": "p", "path": []string{"\x1b"}}, dict{"length": 0, "attr": "l", "path": []string{"\x1b"}},
		file(1, "a"), dict{"length": 5, "attr": "p"}, file(1, "A")))
	if got := maps.Collect(tor.Originals()); !maps.Equal(got, map[int]string{3: "root/A"}) {
		t.Errorf("got %#v of %q", got, paths(tor))
	}
}

// The root is part of the path, for one file and for a folder.
func TestOriginalsOfTheRoot(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, want := range map[string]string{
		"a": "", "a\x1b": "a\x1b", " ": " ", ".": "", long: long, long + "x": "", ".a.bittern-side": ".a.bittern-side",
	} {
		one := parseOK(t, single(func(_, info dict) { info["name"] = name }))
		many := parseOK(t, renamedRoot(name, "b", "B"))
		var alone, below map[int]string
		if want != "" {
			alone, below = map[int]string{0: want}, map[int]string{0: want + "/b", 1: want + "/B"}
		} else if name == "a" {
			below = map[int]string{1: "a/B"}
		}
		if got := maps.Collect(one.Originals()); !maps.Equal(got, alone) {
			t.Errorf("%q: a file has %#v", name, got)
		}
		if got := maps.Collect(many.Originals()); !maps.Equal(got, below) {
			t.Errorf("%q: files below it have %#v", name, got)
		}
	}
}

// renamedRoot is a torrent of a folder called root.
func renamedRoot(root string, names ...string) []byte {
	var files []any
	for _, name := range names {
		files = append(files, file(1, name))
	}
	return single(func(_, info dict) {
		delete(info, "length")
		info["name"], info["files"], info["pieces"] = root, files, strings.Repeat("x", 20)
	})
}

// Under another root the rest is spelled as before.
func TestOriginalsWithRoot(t *testing.T) {
	tor := parseOK(t, renamedRoot("r\x1b", "plain", "a", "A", strings.Repeat("x", 300), "a (2)"))
	got, err := tor.WithRoot("new")
	if err != nil {
		t.Fatal(err)
	}
	checkLaws(t, got)
	if have := maps.Collect(got.Originals()); !maps.Equal(have, map[int]string{2: "new/A", 4: "new/a (2)"}) {
		t.Errorf("got %#v", have)
	}
	if have := maps.Collect(tor.Originals()); len(have) != 4 || have[0] != "r\x1b/plain" {
		t.Errorf("the torrent itself changed: %#v", have)
	}
	one, err := parseOK(t, single(func(_, info dict) { info["name"] = "\x1b" })).WithRoot("b")
	if err != nil || len(maps.Collect(one.Originals())) > 0 {
		t.Errorf("%v, %#v", err, maps.Collect(one.Originals()))
	}
	// What could not be held keeps a path that another would have now.
	cut := strings.Repeat("x", 250)
	clash := parseOK(t, renamedRoot("r\x1b", cut+strings.Repeat("y", 10), cut))
	if got, err = clash.WithRoot("new"); err != nil || len(maps.Collect(got.Originals())) > 0 {
		t.Errorf("%v, %#v beside %q", err, maps.Collect(got.Originals()), paths(got))
	}
}

// On Windows more separates, and more cannot be held.
func TestOriginalsOnWindows(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "a.b": true, "Größe": true, "\x7f": true, "\u202e": true, "a b": true,
		`a\b`: false, `..\..\a`: false, "c:": false, "a:b": false, "con": false, "COM1.txt": false, "a.": false, "a ": false,
		"a\xff": false, "\x1b": false, "a?": false, "a*": false, "<": false, "...": false, ".. ": false, "": false, ".": false, "..": false,
		"a/b": false, "a\x00": false,
	} {
		if got := (rules{windows: true}).holds([]byte(name)); got != want {
			t.Errorf("%q: held %v", name, got)
		}
	}
	tor, err := parse(folderOf(file(1, `..\..\x`), file(1, "a\u202e"), file(1, `..`+"\u202e", `c:\x`)), rules{windows: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := maps.Collect(tor.Originals()); !maps.Equal(got, map[int]string{1: "root/a\u202e"}) {
		t.Errorf("got %#v", got)
	}
}

// What leads elsewhere is refused with the torrent, so that no original of it is left.
func TestOriginalsNeverEscape(t *testing.T) {
	for _, path := range [][]string{{".."}, {"..", "a"}, {"a", "..", "..", "b"}, {"/"}, {"/etc/passwd"}, {"a/../../b"}, {""}, {"", "etc"}, {"a\x00b"}, {"\x00"}} {
		refused(t, folderOf(file(1, path...)), "a part of the path")
		refused(t, folderOf(file(1, "A"), dict{"length": 1, "path": []string{"a"}, "path.utf-8": path}), "a part of the path")
	}
	for _, name := range []string{"..", "/", "/a", "a/b", "../a", "a\x00"} {
		refused(t, renamedRoot(name, "a", "A"), "unsafe name")
	}
}

// Random paths out of what is special: parse lets no original out that leads elsewhere, and
// no two files have one (checkLaws says what an original is).
func TestOriginalsProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	names := []string{"a", "A", "a (2)", "a.part", "..", ".", "...", "\x1b", "\xff", " ", "é", "e\u0301", ".root.bittern-side",
		strings.Repeat("x", 251), strings.Repeat("x", 256), "\xc0\xae\xc0\xae", "\u2024\u2024", "..\u200b", "\\", "c:", "/", "\x00"}
	accepted := 0
	for range 5000 {
		var files []any
		for range 1 + rng.IntN(6) {
			var path []string
			for range 1 + rng.IntN(3) {
				path = append(path, names[min(rng.IntN(len(names)), rng.IntN(len(names)))])
			}
			files = append(files, file(1, path...))
		}
		for _, r := range []rules{{}, {windows: true}} {
			tor, err := parse(folderOf(files...), r)
			if err != nil {
				continue
			}
			accepted++
			checkOriginals(t, tor)
			for _, path := range maps.Collect(tor.Originals()) {
				if r.windows && strings.ContainsAny(path, `\:`) {
					t.Errorf("%q leads elsewhere on Windows", path)
				}
			}
			if moved, err := tor.WithRoot("other"); err != nil {
				t.Error(err)
			} else {
				checkOriginals(t, moved)
			}
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d torrents were accepted", accepted)
	}
}

// checkOriginals checks what callers may rely on.
func checkOriginals(t testing.TB, tor *Torrent) {
	t.Helper()
	last, originals := -1, map[int]string{}
	for i, path := range tor.Originals() {
		if i <= last || tor.Files[i].Pad || path == tor.Files[i].Path {
			t.Errorf("file %d (%q) behind %d has the original %q", i, tor.Files[i].Path, last, path)
		}
		last, originals[i] = i, path
		parts := strings.Split(path, "/")
		if !filepath.IsLocal(path) || filepath.ToSlash(filepath.Clean(path)) != path || strings.ContainsRune(path, 0) || len(path) > maxPath {
			t.Errorf("the original %q is not a path below a folder", path)
		}
		if tor.Folder != (len(parts) > 1) || slices.ContainsFunc(parts, func(s string) bool { return s == "" || s == "." || s == ".." || len(s) > 255 }) {
			t.Errorf("the original %q has a part that cannot be", path)
		}
	}
	taken := map[string]bool{}
	for i, f := range tor.Files {
		path, renamed := originals[i]
		if !renamed {
			path = f.Path
		}
		if !f.Pad && taken[path] && originals[i] != "" {
			t.Errorf("two files have %q", path)
		}
		taken[path] = taken[path] || !f.Pad
	}
}

// Files called as in the torrent cost nothing more; the others their path and an entry.
func TestMemoryOfOriginals(t *testing.T) {
	odd := func(i int) []string {
		if i%100 == 0 {
			return []string{fmt.Sprintf("folder %d", i/100), fmt.Sprintf("\x1b %d", i)}
		}
		return usual(i)
	}
	if tor := parseOK(t, manyFiles(1000, usual)); tor.originals != nil {
		t.Errorf("%d originals of ordinary names", len(tor.originals))
	}
	kept := func(in []byte) (int, *Torrent) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		tor, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int(after.HeapAlloc) - int(before.HeapAlloc), tor
	}
	plainIn, oddIn := manyFiles(100_000, usual), manyFiles(100_000, odd)
	plain, a := kept(plainIn)
	some, b := kept(oddIn)
	if n := len(b.originals); n != 1000 || some-plain > 512<<10 {
		t.Errorf("%d originals among 100,000 files keep %d KiB more", n, (some-plain)>>10)
	}
	runtime.KeepAlive([]any{plainIn, oddIn, a, b})
}
