package app

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"bittern/bencode"
	"bittern/piece/metainfo"
)

// torrentOfNames returns a torrent of a folder of files whose contents are their paths, so that no
// two are the same, but padded to equal lengths, so that their sizes tell nothing.
func torrentOfNames(t *testing.T, root string, names ...string) *metainfo.Torrent {
	t.Helper()
	var list []any
	for _, name := range names {
		list = append(list, map[string]any{"length": 40, "path": strings.Split(name, "/")})
	}
	in := bencode.Append(nil, map[string]any{"info": map[string]any{
		"name": root, "files": list, "piece length": 1 << 20, "pieces": make([]byte, 20),
	}})
	tor, err := metainfo.Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	return tor
}

// lay makes files of 40 bytes below dir: "name", "name=N" for another size, "name/" for a folder,
// "name>target" for a symbolic link.
func lay(t *testing.T, dir string, what ...string) {
	t.Helper()
	for _, w := range what {
		var err error
		at := func(name string) string { return dir + "/" + name } // as it is: nothing cleaned
		if name, target, ok := strings.Cut(w, ">"); ok {
			err = os.Symlink(target, at(name))
		} else if name, ok := strings.CutSuffix(w, "/"); ok {
			err = os.MkdirAll(at(name), 0o777)
		} else {
			name, size, other := strings.Cut(w, "=")
			data := make([]byte, 40)
			if other {
				data = data[:len(size)]
			}
			if err = os.MkdirAll(filepath.Dir(at(name)), 0o777); err == nil {
				err = os.WriteFile(at(name), data, 0o666)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadConfig: content is found under the names that the torrent gives and under ours, never two
// files in one, and never behind a link.
func TestReadConfig(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // elsewhere not all of these names can be
	}
	for _, tt := range []struct {
		name    string
		torrent []string // below r
		disk    []string // below the folder
		want    []string // below r
	}{
		{"ordinary names", []string{"a", "b/c"}, []string{"r/a"}, []string{"a", "b/c"}},
		{"nothing there", []string{"A", "a"}, nil, []string{"A", "a (2)"}},
		{"as it was made of", []string{"A", "a", "d/\x1b", "D/e"}, []string{"r/A", "r/a", "r/d/\x1b", "r/D/e"}, []string{"A", "a", "d/\x1b", "D/e"}},
		{"as we get it", []string{"A", "a", "d/\x1b", "D/e"}, []string{"r/A", "r/a (2)", "r/d/_", "r/d/e"}, []string{"A", "a (2)", "d/_", "d/e"}},
		{"a number that is a name", []string{"A", "a", "a (2)"}, []string{"r/A", "r/a", "r/a (2)"}, []string{"A", "a", "a (2)"}},
		{"a number that is a name, ours", []string{"A", "a", "a (2)"}, []string{"r/A", "r/a (2)", "r/a (2) (2)"}, []string{"A", "a (2)", "a (2) (2)"}},
		{"both there, alike", []string{"A", "a"}, []string{"r/A", "r/a", "r/a (2)"}, []string{"A", "a (2)"}},
		{"the right size wins", []string{"A", "a"}, []string{"r/A", "r/a", "r/a (2)=short"}, []string{"A", "a"}},
		{"ours has the right size", []string{"A", "a"}, []string{"r/A", "r/a=short", "r/a (2)"}, []string{"A", "a (2)"}},
		{"half of it, of the wrong size", []string{"A", "a"}, []string{"r/A", "r/a=short"}, []string{"A", "a"}},
		{"some under each", []string{"\x1b", "\n", "\xff"}, []string{"r/\x1b", "r/\xff", "r/_ (2)"}, []string{"\x1b", "_ (2)", "\xff"}},
		{"no two in one", []string{"A", "a", "a (2)", "B", "b"}, []string{"r/a (2)", "r/b"}, []string{"A", "a", "a (2)", "B", "b"}},
		{"as many under each: ours", []string{"\x1b", "_", "_ (2)"}, []string{"r/_", "r/_ (2)"}, []string{"_", "_ (2)", "_ (2) (2)"}},
		{"more under theirs, with gaps", []string{"\x1b", "_", "_ (2)", "A", "a"}, []string{"r/_", "r/_ (2)", "r/a"}, []string{"\x1b", "_", "_ (2)", "A", "a"}},
		{"incomplete neighbour", []string{"a", "a.part"}, []string{"r/a.part", "r/a (2).part"}, []string{"a", "a (2).part"}},
		{"a link in the way", []string{"A", "a"}, []string{"r/A", "r/a>A"}, []string{"A", "a (2)"}},
		{"a link out of the folder", []string{"A", "a"}, []string{"secret", "r/A", "r/a>../secret"}, []string{"A", "a (2)"}},
		{"a folder that is a link", []string{"D/x", "d/y"}, []string{"r/D/x", "other/y", "r/d>../other"}, []string{"D/x", "D/y"}},
		{"a folder that is a link to a sibling", []string{"D/x", "d/y"}, []string{"r/D/x", "r/e/y", "r/d>e"}, []string{"D/x", "D/y"}},
		{"a folder in the way", []string{"A", "a"}, []string{"r/A", "r/a/"}, []string{"A", "a (2)"}},
		{"a file where a folder was", []string{"D/x", "d/y"}, []string{"r/D/x", "r/d"}, []string{"D/x", "D/y"}},
		{"twice", []string{"a", "a"}, []string{"r/a"}, []string{"a", "a (2)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			lay(t, dir, tt.disk...)
			checkChosen(t, torrentOfNames(t, "r", tt.torrent...), dir, "r", tt.want)
		})
	}
}

func checkChosen(t *testing.T, tor *metainfo.Torrent, dir, name string, want []string) {
	t.Helper()
	cfg := readConfig(tor, dir)
	used := map[string]bool{}
	for i, f := range cfg.Files {
		if f.Path != name+"/"+want[i] {
			t.Errorf("file %d is read from %q, want %q", i, f.Path, name+"/"+want[i])
		}
		if !filepath.IsLocal(f.Path) || used[f.Path] {
			t.Errorf("%q is outside, or used twice", f.Path)
		}
		used[f.Path] = true
	}
	if cfg.Name != name {
		t.Errorf("called %q, want %q", cfg.Name, name)
	}
	for i, f := range storageConfig(tor, dir).Files {
		if f.Path != tor.Files[i].Path {
			t.Errorf("get writes to %q, not to %q", f.Path, tor.Files[i].Path)
		}
	}
}

// TestReadConfigRoot: the whole folder under its name in the torrent, which the result then has.
func TestReadConfigRoot(t *testing.T) {
	tor := torrentOfNames(t, "r\u202e", "a", "b")
	ours, theirs, neither := t.TempDir(), t.TempDir(), t.TempDir()
	lay(t, ours, "r_/a", "r_/b")
	lay(t, theirs, "r\u202e/a", "r\u202e/b")
	lay(t, neither, "elsewhere/a", "r\u202e>elsewhere")
	checkChosen(t, tor, ours, "r_", []string{"a", "b"})
	checkChosen(t, tor, theirs, "r\u202e", []string{"a", "b"})
	checkChosen(t, tor, neither, "r_", []string{"a", "b"})
	checkChosen(t, tor, filepath.Join(neither, "absent"), "r_", []string{"a", "b"})
}

// TestVerifyOddNames: what create was given verifies, and not with bytes of elsewhere.
func TestVerifyOddNames(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // elsewhere not all of these names can be
	}
	torrent, dir := made(t, map[string]string{"A": "upper", "a": "lower", "\x1b[2J": "escape", "d/é": "one", "d/e\u0301": "two", "D/x": "three", "a.part": "part"})
	verify := func() (reportDescription, error) {
		var out, errs bytes.Buffer
		err := Verify(t.Context(), Streams{In: bytes.NewReader(torrent), Out: &out, Err: &errs}, VerifyOptions{Source: "-", Dir: dir, Shown: Shown{JSON: true}})
		var got reportDescription
		if jerr := json.Unmarshal(out.Bytes(), &got); jerr != nil {
			t.Fatalf("%v in %q", jerr, out.String())
		}
		return got, err
	}
	got, err := verify()
	if err != nil || !got.Complete || len(got.Files) != 7 {
		t.Errorf("%v, %+v", err, got)
	}
	if slices.ContainsFunc(got.Files, func(f fileStatusEntry) bool { return f.Path == "root/a" }) {
		t.Errorf("scripts are told other paths than those of info: %+v", got.Files)
	}
	secret := filepath.Join(dir, "secret")
	odd := filepath.Join(dir, "root", "\x1b[2J")
	if err := os.Rename(odd, secret); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, odd); err != nil {
		t.Fatal(err)
	}
	if got, err = verify(); ClassOf(err) != ClassCorrupt || got.Complete {
		t.Errorf("read through a link: %v, %+v", err, got)
	}
}
