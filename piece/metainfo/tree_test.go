package metainfo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"bittern/bencode"

	"golang.org/x/text/cases"
)

// Names that some file system takes for one fold to one, others do not.
func TestFolding(t *testing.T) {
	fold := folding{caser: cases.Fold()}
	key := func(s string) string { return string(fold.append(nil, []byte(s))) }
	for _, same := range [][]string{
		{"a", "A"}, {"readme.TXT", "README.txt"}, {"é", "É", "e\u0301", "E\u0301"}, {"ß", "ss", "SS", "ẞ"}, {"σ", "ς", "Σ"},
		{"Å", "\u212b", "å", "a\u030a"}, {"ﬁ", "fi"}, {"K", "\u212a"}, {"ǆ", "Ǆ", "ǅ"}, {"\u13cf", "\uab9f"}, {"\u13f0", "\u13f8"}, {"kÅ", "\u212a\u212b"}, {"\u1e9b\u0323", "\u1e63\u0307"},
	} {
		for _, s := range same {
			if key(s) != key(same[0]) {
				t.Errorf("%+q and %+q are told apart", s, same[0])
			}
		}
	}
	distinct := []string{"a", "b", "e", "é", "è", "i", "ı", "日", "本", "①", "1", "ab", "a b", "a\u00a0b", "Ａ", ".", "_"}
	for i, s := range distinct {
		for _, other := range distinct[:i] {
			if key(s) == key(other) {
				t.Errorf("%+q and %+q are taken for one", s, other)
			}
		}
	}
	if got := string(fold.append([]byte("X"), []byte("Yé"))); got != "Xye\u0301" {
		t.Errorf("what stood before was folded too: %+q", got)
	}
}

// Folding one character after the other comes to the same as folding them together.
func TestFoldingAlone(t *testing.T) {
	fold := folding{caser: cases.Fold()}
	for r := rune(0); r < 0x20000; r++ {
		name := []byte("é" + string(r) + "Σ" + string(r) + "A")
		if got, want := string(fold.append(nil, name)), string(fold.whole(nil, name)); got != want {
			t.Fatalf("%+q became %+q, want %+q", name, got, want)
		}
	}
	for _, name := range []string{"\u0390\u0390", "\u0390\u0301", "é\u03b9\u0301"} {
		if got, want := string(fold.append(nil, []byte(name))), string(fold.whole(nil, []byte(name))); got != want {
			t.Errorf("%+q became %+q, want %+q", name, got, want)
		}
	}
	for _, mark := range []rune{'\u0301', '\u0345', '\u0f73', '\u03b9', '\u0390'} {
		if fold.alone(mark) != "" {
			t.Errorf("%+q is folded alone", mark)
		}
	}
}

// FuzzFolding: folding is idempotent, leaves no difference of case, and makes names longer by
// a small factor at most.
func FuzzFolding(f *testing.F) {
	for _, s := range []string{"", "A", "É", "e\u0301\u0323", "ΐ", "\xff", "각"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "_") // as clean leaves names
		fold := folding{caser: cases.Fold()}
		once := slices.Clone(fold.append(nil, []byte(s)))
		if twice := fold.append(nil, once); string(twice) != string(once) {
			t.Errorf("%+q became %+q and then %+q", s, once, twice)
		}
		// The iota subscript is a mark that sorts among marks, and a letter in another case.
		if other := strings.Map(unicode.SimpleFold, s); !strings.ContainsAny(s, "\u0345\u0399\u03b9\u1fbe") {
			if got := fold.append(nil, []byte(other)); string(got) != string(once) {
				t.Errorf("%+q became %+q, but %+q became %+q", s, once, other, got)
			}
		}
		if len(once) > 12*len(s) {
			t.Errorf("%d bytes became %d", len(s), len(once))
		}
	})
}

// FuzzNames: whatever paths a torrent names, each file gets one that is safe and its own, or
// all are refused; and the same again when the outcome itself is made a torrent.
func FuzzNames(f *testing.F) {
	f.Add("a\na\nA\na.part\na/b")
	f.Add("d/e\nd\nD/E/f\n\xff\n\x1b")
	f.Add(".root.bittern-side\nä\na\u0308\n..x\n.")
	f.Add(strings.Repeat("x", 300) + ".flac\n" + strings.Repeat("x", 301) + ".flac")
	f.Fuzz(func(t *testing.T, list string) {
		var files []any
		for line := range strings.SplitSeq(list, "\n") {
			files = append(files, file(1, strings.Split(line, "/")...))
		}
		tor, err := Parse(folderOf(files...))
		if err != nil {
			return
		}
		checkLaws(t, tor)
		files = nil
		for _, path := range paths(tor) {
			files = append(files, file(1, strings.Split(path, "/")[1:]...))
		}
		again := parseOK(t, folderOf(files...))
		if !slices.Equal(again.Files, tor.Files) {
			t.Errorf("%q became %q and then %q", list, paths(tor), paths(again))
		}
	})
}

// On Windows, too, each file has a name of its own.
func TestCollisionsOnWindows(t *testing.T) {
	in := folderOf(file(1, "con"), file(1, "_con"), file(1, "a:b"), file(1, "a?b"), file(1, "x."), file(1, "x "), file(1, `d\e`, "f"), file(1, "d_e"))
	tor, err := parse(in, rules{windows: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"root/_con", "root/_con (2)", "root/a_b", "root/a_b (2)", "root/x_", "root/x_ (2)", "root/d_e/f", "root/d_e (2)"}
	if got := paths(tor); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	checkLaws(t, tor)
}

func TestShorten(t *testing.T) {
	x := strings.Repeat("x", 100)
	for _, tt := range []struct{ name, number, want string }{
		{"a.txt", "", "a.txt"},
		{"a.txt", " (2)", "a (2).txt"},
		{"a", " (2)", "a (2)"},
		{".hidden", " (2)", ".hidden (2)"},
		{"a.tar.gz", " (3)", "a.tar (3).gz"},
		{"a.", " (2)", "a (2)."},
		{x, "", x[:64]},
		{x, " (2)", x[:60] + " (2)"},
		{x + ".flac", "", x[:59] + ".flac"},
		{x + ".flac", " (500)", x[:53] + " (500).flac"},
		{"a." + x, "", "a." + x[:62]},
		{strings.Repeat("é", 40), "", strings.Repeat("é", 32)},
		{"a" + strings.Repeat("é", 40), "", "a" + strings.Repeat("é", 31)},
		{strings.Repeat("日", 40) + ".a", " (2)", strings.Repeat("日", 19) + " (2).a"},
	} {
		if got := shorten(tt.name, tt.number, 64); got != tt.want {
			t.Errorf("shorten(%q, %q) = %q, want %q", tt.name, tt.number, got, tt.want)
		}
	}
}

// Strings of an arena stay what they were while more are added.
func TestArena(t *testing.T) {
	var a arena
	var kept, want []string
	for i := range 5000 {
		above, name := fmt.Sprint("folder ", i), strings.Repeat("x", i%700)
		kept, want = append(kept, a.join(above, []byte(name))), append(want, above+"/"+name)
	}
	if !slices.Equal(kept, want) {
		t.Error("a string changed")
	}
}

// A path is split into the folders, as they stand in the input, and the name.
func TestSplit(t *testing.T) {
	tree := newTree(rules{}, "root", nil, 0, &warnings{})
	for in, want := range map[string]string{
		"l1:ae":          "|a",
		"l1:a2:bb3:ccce": "1:a2:bb|ccc",
		"l0:0:e":         "0:|",
		"le":             "no path",
		"i1e":            "no path",
		"li1e1:ae":       "not a string",
		"l1:al1:bee":     "not a string",
	} {
		v, err := bencode.Decode([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		dirs, name, err := tree.split(v)
		got := string(dirs) + "|" + string(name)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// A folder is looked up again only when it changes, and found again whatever came between.
func TestFoldersAreFoundAgain(t *testing.T) {
	tor := parseOK(t, folderOf(file(1, "a", "b", "1"), file(1, "a", "b", "2"), file(1, "a", "3"), file(1, "4"), file(1, "a", "b", "5"),
		file(1, "b", "a", "6"), file(1, "A", "B", "7")))
	want := []string{"a/b/1", "a/b/2", "a/3", "4", "a/b/5", "b/a/6", "a/b/7"}
	for i, path := range paths(tor) {
		if path != "root/"+want[i] {
			t.Errorf("got %q, want %q", path, "root/"+want[i])
		}
	}
	if len(tor.Warnings) != 2 || !strings.Contains(tor.Warnings[0], `"A" in the torrent goes to "root/a"`) {
		t.Errorf("warnings %q", tor.Warnings)
	}
}

func TestWarnings(t *testing.T) {
	var w warnings
	if got := w.lines(); got != nil {
		t.Errorf("nothing to warn of, but %q", got)
	}
	for i := range maxWarnings {
		w.warn("warning %d", i)
	}
	if got := w.lines(); len(got) != maxWarnings || got[0] != "warning 0" {
		t.Errorf("got %q", got)
	}
	w.warn("one more")
	if got := w.lines(); len(got) != maxWarnings+1 || got[maxWarnings] != "1 more warnings" {
		t.Errorf("got %q", got)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"a":                       `"a"`,
		"\x1b":                    `"\x1b"`,
		strings.Repeat("x", 100):  `"` + strings.Repeat("x", 100) + `"`,
		strings.Repeat("x", 101):  `"` + strings.Repeat("x", 100) + `…"`,
		strings.Repeat("日", 1000): `"` + strings.Repeat("日", 33) + `…"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%.20q) = %s, want %s", in, got, want)
		}
	}
}
