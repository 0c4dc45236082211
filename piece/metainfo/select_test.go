package metainfo

import (
	"errors"
	"fmt"
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
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}
