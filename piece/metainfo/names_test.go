package metainfo

import (
	"errors"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ name, in, unix, windows string }{
		{"plain", "Read me (1).txt", "=", "="},
		{"German", "Größe.flac", "=", "="},
		{"Japanese", "日本語.txt", "=", "="},
		{"decomposed stays so", "e\u0301.txt", "=", "="},
		{"Arabic", "مرحبا", "=", "="},
		{"ideographic blank", "a\u3000b", "=", "="},
		{"hidden file", ".bashrc", "=", "="},
		{"leading blank", " a", "=", "="},
		{"three dots", "...", "=", "___"},
		{"dot", ".", "_", "_"},
		{"blank", " ", "_", "_"},
		{"blanks", " \u00a0 ", "_", "_"},
		{"newline", "a\nb", "a_b", "a_b"},
		{"escape sequence", "\x1b[2Jx", "_[2Jx", "_[2Jx"},
		{"DEL", "a\x7f", "a_", "a_"},
		{"C1", "a\u009bb", "a_b", "a_b"},
		{"bidi override", "gpj\u202eexe.x", "gpj_exe.x", "gpj_exe.x"},
		{"bidi isolate", "a\u2066b", "a_b", "a_b"},
		{"zero-width space", "a\u200bb", "a_b", "a_b"},
		{"byte order mark", "\ufeffa", "_a", "_a"},
		{"zero-width joiner in ASCII", "set\u200dup", "set_up", "set_up"},
		{"joiner at the end", "é\u200d", "é_", "é_"},
		{"two joiners", "é\u200d\u200dé", "é__é", "é__é"},
		{"emoji family", "👨\u200d👩\u200d👧.mp4", "=", "="},
		{"Persian", "می\u200cخواهم", "=", "="},
		{"line separator", "a\u2028b", "a_b", "a_b"},
		{"invalid UTF-8", "a\xffb\xc3", "a_b_", "a_b_"},
		{"overlong slash", "a\xc0\xafb", "a__b", "a__b"},
		{"overlong dots", "\xc0\xae\xc0\xae", "____", "____"},
		{"surrogate", "\xed\xa0\x80", "___", "___"},
		{"replacement character", "a\uFFFDb", "=", "="},
		{"dots with something hidden", ".\u200b.", "._.", "._."[:2] + "_"},
		{"backslash", `..\..\x`, "=", ".._.._x"},
		{"drive letter", "C:", "=", "C_"},
		{"stream", "a.txt:s", "=", "a.txt_s"},
		{"pattern characters", `<>"|?*`, "=", "______"},
		{"trailing dot", "a.", "=", "a_"},
		{"trailing blank", "a. ", "=", "a__"},
		{"device", "con", "=", "_con"},
		{"device with extension", "Nul.tar.gz", "=", "_Nul.tar.gz"},
		{"port", "COM1", "=", "_COM1"},
		{"no port", "COM0", "=", "="},
		{"begins like a device", "console", "=", "="},
		{"our record", ".x.bittern-resume", "_x.bittern-resume", "_x.bittern-resume"},
		{"our side file", ".X.BITTERN-SIDE", "_X.BITTERN-SIDE", "_X.BITTERN-SIDE"},
		{"too long", long, long[:250], long[:250]},
		{"too long with extension", long + ".flac", long[:245] + ".flac", long[:245] + ".flac"},
		{"too long extension", "a." + long, "a." + long[:248], "a." + long[:248]},
		{"too long and cut behind a joiner", strings.Repeat("日", 82) + "\u200d日日", strings.Repeat("日", 82), strings.Repeat("日", 82)},
		{"too long in characters of three bytes", strings.Repeat("日", 100) + ".txt",
			strings.Repeat("日", 82) + ".txt", strings.Repeat("日", 82) + ".txt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []rules{{}, {windows: true}} {
				want := tt.unix
				if r.windows {
					want = tt.windows
				}
				if want == "=" {
					want = tt.in
				}
				got, err := r.clean([]byte("before/"), []byte(tt.in), maxPart)
				if err != nil || string(got) != "before/"+want {
					t.Errorf("windows %v: %q became %q, %v; want %q", r.windows, tt.in, got, err, want)
				}
			}
		})
	}
}

func TestCleanRefuses(t *testing.T) {
	for in, want := range map[string]error{"": errEmpty, "..": errParent, "/": errSlash, "a/b": errSlash, "../a": errSlash, "a\x00": errSlash} {
		if _, err := (rules{}).clean(nil, []byte(in), maxPart); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

// Clean names are a fixed point, short enough, and never lead anywhere.
func TestCleanProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	alphabet := []string{".", "..", "a", " ", "\x1b", "\u202e", "é", "日", "\xff", "\u200d", "\u200b", "con", ":", `\`, ".bittern-", "\ufeff", "👨"}
	for range 20000 {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			b.WriteString(strings.Repeat(alphabet[rng.IntN(len(alphabet))], 1+rng.IntN(3)*rng.IntN(60)))
		}
		for _, r := range []rules{{}, {windows: true}} {
			most := 64 + rng.IntN(maxPart-63)
			once, err := r.clean(nil, []byte(b.String()), most)
			if err != nil {
				if b.String() != ".." {
					t.Fatalf("%q: %v", b.String(), err)
				}
				continue
			}
			if len(once) > most || !utf8.Valid(once) {
				t.Fatalf("%q became %q", b.String(), once)
			}
			checkPath(t, string(once))
			if twice, err := r.clean(nil, once, most); err != nil || string(twice) != string(once) && !r.windows {
				t.Fatalf("%q became %q and then %q, %v", b.String(), once, twice, err)
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"Größe 日本語 👨‍👩 ok":      "Größe 日本語 👨\\u200d👩 ok",
		"\x1b]0;title\x07":      `\x1b]0;title\x07`,
		"a\r\n\tb":              `a\r\n\tb`,
		"\x9b31m":               `\x9b31m`,
		"\u009b31m":             `\x9b31m`,
		"\x7f":                  `\x7f`,
		"x\u202ey\u2066z":       `x\u202ey\u2066z`,
		"\ufeff":                `\ufeff`,
		"\xff\xc0\xaf":          `\xff\xc0\xaf`,
		"\uFFFD":                "\uFFFD",
		"\U000e0041":            `\U000e0041`,
		"nul\x00":               `nul\x00`,
		`back\slash "quote" %s`: `back\slash "quote" %s`,
	} {
		got := Printable(in)
		if got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
		if Printable(got) != got {
			t.Errorf("Printable(%q) is not printable", in)
		}
	}
	if s := "plain"; testing.AllocsPerRun(10, func() { Printable(s) }) != 0 {
		t.Error("what is printable already was copied")
	}
}

// FuzzPrintable: nothing that a terminal acts on is left.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "a\x1b[0m", "\u202e", "\xe2\x80", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, hidden) || Printable(got) != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}

// Where names meet, each file gets a path of its own, always the same.
func TestCollisions(t *testing.T) {
	split := func(s string) []string { return strings.Split(s, "/") }
	for _, tt := range []struct {
		name      string
		in, paths []string
	}{
		{"nothing", []string{"a", "b/a", "c/a"}, []string{"a", "b/a", "c/a"}},
		{"twice", []string{"a.txt", "a.txt", "a.txt"}, []string{"a.txt", "a (2).txt", "a (3).txt"}},
		{"number taken", []string{"a", "a (2)", "a"}, []string{"a", "a (2)", "a (3)"}},
		{"number taken later", []string{"a", "a", "a (2)"}, []string{"a", "a (2)", "a (2) (2)"}},
		{"in a folder", []string{"d/a", "d/a", "a"}, []string{"d/a", "d/a (2)", "a"}},
		{"case", []string{"README", "Readme", "readme"}, []string{"README", "Readme (2)", "readme (3)"}},
		{"case beyond ASCII", []string{"Ä", "ä"}, []string{"Ä", "ä (2)"}},
		{"sharp s", []string{"straße", "STRASSE"}, []string{"straße", "STRASSE (2)"}},
		{"normal form", []string{"é", "e\u0301"}, []string{"é", "e\u0301 (2)"}},
		{"case and normal form", []string{"É.x", "e\u0301.x"}, []string{"É.x", "e\u0301 (2).x"}},
		{"made the same", []string{"a\x01", "a\x02", "a_"}, []string{"a_", "a_ (2)", "a_ (3)"}},
		{"invalid bytes", []string{"\xe4", "\xf6"}, []string{"_", "_ (2)"}},
		{"file and folder", []string{"a", "a/b", "a/c"}, []string{"a", "a (2)/b", "a (2)/c"}},
		{"folder and file", []string{"a/b", "a", "a/c"}, []string{"a/b", "a (2)", "a/c"}},
		{"folders in case", []string{"A/x", "a/y", "a/x"}, []string{"A/x", "A/y", "A/x (2)"}},
		{"folder further in", []string{"d/a", "d/A/b", "D/a/c"}, []string{"d/a", "d/A (2)/b", "d/A (2)/c"}},
		{"part behind", []string{"a", "a.part"}, []string{"a", "a (2).part"}},
		{"part before", []string{"a.part", "a"}, []string{"a.part", "a (2)"}},
		{"part in case", []string{"a", "A.PART"}, []string{"a", "A (2).PART"}},
		{"part of a part", []string{"a", "a.part.part", "a.part"}, []string{"a", "a.part.part", "a (2).part"}},
		{"part of another folder", []string{"a", "d/a.part"}, []string{"a", "d/a.part"}},
		{"folder like a part", []string{"a", "a.part/x"}, []string{"a", "a (2).part/x"}},
		{"folder like a part before", []string{"a.part/x", "a", "a"}, []string{"a.part/x", "a (2)", "a (3)"}},
		{"part of a folder", []string{"a/x", "a.part"}, []string{"a/x", "a.part"}},
		{"records", []string{".root.bittern-resume", "_root.bittern-resume"},
			[]string{"_root.bittern-resume", "_root (2).bittern-resume"}},
		{"shortened to one", []string{strings.Repeat("x", 300) + "1.a", strings.Repeat("x", 300) + "2.a"},
			[]string{strings.Repeat("x", 248) + ".a", strings.Repeat("x", 244) + " (2).a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []any
			changed := 0
			for i, path := range tt.in {
				files = append(files, file(1, split(path)...))
				if tt.paths[i] != path {
					changed++
				}
			}
			tor := parseOK(t, folderOf(files...))
			got := paths(tor)
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], "root/")
			}
			if !slices.Equal(got, tt.paths) {
				t.Errorf("got  %q\nwant %q", got, tt.paths)
			}
			if (len(tor.Warnings) > 0) != (changed > 0) {
				t.Errorf("%d names changed, warnings %q", changed, tor.Warnings)
			}
		})
	}
}

// Random names out of few, so that they meet in every way: checkLaws looks at the outcome.
func TestCollisionsProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	names := []string{"a", "A", "a.part", "A.Part", "a (2)", "a.part.part", "a (2).part", "é", "e\u0301", "É", "\xff", "_", "ß", "ss"}
	for range 3000 {
		var files []any
		for range 1 + rng.IntN(12) {
			var path []string
			for range 1 + rng.IntN(3) {
				path = append(path, names[rng.IntN(len(names))])
			}
			files = append(files, file(1, path...))
		}
		in := folderOf(files...)
		first, second := parseOK(t, in), parseOK(t, in)
		if !slices.Equal(first.Files, second.Files) {
			t.Fatalf("%q and %q", paths(first), paths(second))
		}
	}
}

func TestWithRoot(t *testing.T) {
	tor := parseOK(t, folderOf(file(1, "a"), dict{"length": 5, "attr": "p"}, file(2, "root", "b")))
	got, err := tor.WithRoot("über")
	if err != nil || !slices.Equal(paths(got), []string{"über/a", path.Join("über", "root", "b")}) || got.Root != "über" || got.Name != "root" {
		t.Errorf("got %q in %q, %v", paths(got), got.Root, err)
	}
	checkLaws(t, got)
	if !slices.Equal(paths(tor), []string{"root/a", path.Join("root", "root", "b")}) || tor.Root != "root" {
		t.Error("the torrent itself changed")
	}
	one, err := parseOK(t, single(nil)).WithRoot("b")
	if err != nil || !slices.Equal(paths(one), []string{"b"}) {
		t.Errorf("got %v, %v", one, err)
	}
	for _, bad := range []string{"", ".", "..", "/", "a/b", "../a", "a\x00", "\x1b", " ", ".x.bittern-resume", strings.Repeat("x", 231)} {
		if _, err := tor.WithRoot(bad); !errors.As(err, new(*UsageError)) {
			t.Errorf("%q: %v, want a UsageError", bad, err)
		}
	}
}

// The names of the root's records fit, too.
func TestRoot(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", ".x.bittern-side": "_x.bittern-side", ".": "_", "  ": "_", "a\x1b": "a_",
		strings.Repeat("x", 300) + ".iso": strings.Repeat("x", 226) + ".iso",
	} {
		tor := parseOK(t, single(func(_, info dict) { info["name"] = in }))
		if tor.Root != want || tor.Name != in || tor.Files[0].Path != want || (len(tor.Warnings) > 0) != (in != want) {
			t.Errorf("%.20q: root %q, name %q, warnings %q", in, tor.Root, tor.Name, tor.Warnings)
		}
		if n := len(".") + len(tor.Root) + len(".bittern-resume"); n > 250 {
			t.Errorf("the record's name has %d bytes", n)
		}
	}
}
