package metainfo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSelect(t *testing.T) {
	files := []File{
		{Path: "album/01 one.flac"}, {Pad: true}, {Path: "album/02 two.flac"}, {Path: "album/scans/front.JPG"},
		{Path: "album/scans/back.jpg"}, {Path: "album/a,b.txt"}, {Path: "album/1984"}, {Path: "album/[x].nfo"}, {Pad: true},
	}
	names := strings.Fields("one pad two front back comma 1984 x pad2")
	for list, want := range map[string]string{
		"1":                         "one",
		"2":                         "two",
		"1,3":                       "one front",
		"1-3":                       "one two front",
		"3-3,1":                     "one front",
		" 1 , 2 ":                   "one two",
		"7":                         "x",
		"6-4294967295":              "1984 x",
		"1-99999999999999999999999": "one two front back comma 1984 x",
		"*.flac":                    "one two",
		"*.jpg":                     "back",
		"*.JPG,*.flac":              "one two front",
		"scans/*":                   "front back",
		"album/scans/*":             "front back",
		"album/*":                   "one two comma 1984 x",
		"album/**":                  "one two front back comma 1984 x",
		"**/*.jpg":                  "back",
		"0[1-9]*":                   "one two",
		"*.{jpg,JPG}":               "front back",
		`a\,b.txt`:                  "comma",
		"a?b.txt":                   "comma",
		"[1]984":                    "1984",
		`\[x\].nfo`:                 "x",
		"[[]x].nfo":                 "x",
		"front.JPG":                 "front",
		"nothing,5":                 "comma",
	} {
		got, err := Select(files, list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		var chosen []string
		for i, yes := range got {
			if yes {
				chosen = append(chosen, names[i])
			}
		}
		if strings.Join(chosen, " ") != want {
			t.Errorf("%q chose %q, want %q", list, chosen, want)
		}
	}
	for _, list := range []string{"", ",", "1,,2", "1,", "0", "0-3", "3-1", "[", "{a", "[a", "a[b,1"} {
		if _, err := Select(files, list); !errors.As(err, new(*UsageError)) {
			t.Errorf("%q: %v, want a UsageError", list, err)
		}
	}
	for _, list := range []string{"8", "100-200", "99999999999999999999", "nothing", "front.jpg", "SCANS/*", "one.flac", "a-b", "-1", "5-", "*.x,9"} {
		if _, err := Select(files, list); !errors.Is(err, ErrNoMatch) || errors.As(err, new(*UsageError)) {
			t.Errorf("%q: %v, want ErrNoMatch", list, err)
		}
	}
	if _, err := Select(files, "\x1b[0m]x"); err == nil || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("%v is not fit to print", err)
	}
}

func TestSelectSingle(t *testing.T) {
	for _, list := range []string{"1", "*", "a.bin", "1-9", "**"} {
		if got, err := Select([]File{{Path: "a.bin"}}, list); err != nil || !got[0] {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
}

func TestSelectMany(t *testing.T) {
	files := make([]File, 100_000)
	for i := range files {
		files[i].Path = fmt.Sprintf("root/folder %d/file %d.flac", i/100, i)
	}
	start := time.Now()
	got, err := Select(files, "1,**/*99.flac,4000000000-4294967295,*.mp3")
	n := 0
	for _, yes := range got {
		if yes {
			n++
		}
	}
	if err != nil || n != 1001 {
		t.Errorf("%d chosen, %v", n, err)
	}
	if d := time.Since(start); d > slack*5*time.Second {
		t.Errorf("took %v", d)
	}
}

// FuzzSelect: a list chooses files that are there and no padding, or says why not; a list
// twice over chooses the same; and what it costs does not depend on the numbers in it.
func FuzzSelect(f *testing.F) {
	for _, s := range []string{"1", "1,2-4,*.a", "0", "{a,b}", "[a-", `\`, "**/x", "1-18446744073709551616", ",", "a**b*"} {
		f.Add(s)
	}
	files := []File{{Path: "r/a.a"}, {Pad: true}, {Path: "r/d/b"}, {Path: "r/d/x"}, {Path: "r/1-2"}}
	f.Fuzz(func(t *testing.T, list string) {
		if len(list) > 1000 {
			return
		}
		chosen, err := Select(files, list)
		if (chosen == nil) == (err == nil) || err != nil && !errors.Is(err, ErrNoMatch) && !errors.As(err, new(*UsageError)) {
			t.Fatalf("%q: %v, %v", list, chosen, err)
		}
		if err != nil {
			if Printable(err.Error()) != err.Error() {
				t.Errorf("%q: %q is not fit to print", list, err)
			}
			return
		}
		if len(chosen) != len(files) || !slices.Contains(chosen, true) || chosen[1] {
			t.Errorf("%q chose %v", list, chosen)
		}
		if again, err := Select(files, list+","+list); err == nil && !slices.Equal(again, chosen) {
			t.Errorf("%q twice chose %v, once %v", list, again, chosen)
		}
	})
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string]string{
		"a":            "a",
		"a,b":          "a|b",
		"a,,b,":        "a||b|",
		"{a,b},c":      "{a,b}|c",
		"{a,{b,c}},d":  "{a,{b,c}}|d",
		"[a,b],c":      "[a,b]|c",
		"[{],a},b":     "[{]|a}|b",
		`a\,b,c`:       `a\,b|c`,
		`a\`:           `a\`,
		"}a,b":         "}a|b",
		"1,3-5,*.flac": "1|3-5|*.flac",
	} {
		if got := strings.Join(split(in), "|"); got != want {
			t.Errorf("split(%q) = %q, want %q", in, got, want)
		}
	}
}
