package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/piece/metainfo"
)

// tree makes files below a new folder and returns its path.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for name, data := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(data), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// create runs Create to stdout and returns the torrent.
func create(t *testing.T, o CreateOptions) (*metainfo.Torrent, error) {
	t.Helper()
	var out, errs bytes.Buffer
	o.Output = "-"
	if err := Create(t.Context(), Streams{Out: &out, Err: &errs}, o); err != nil {
		return nil, err
	}
	tor, err := metainfo.Parse(out.Bytes())
	if err != nil {
		t.Fatalf("created what cannot be parsed: %v", err)
	}
	return tor, nil
}

func TestCreateOrder(t *testing.T) {
	root := tree(t, map[string]string{"b/x": "1", "a": "22", "b.c": "333", "C": "", "b/a/y": "4444", "ü": "5"})
	tor, err := create(t, CreateOptions{Path: root})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range tor.Files {
		got = append(got, f.Path)
	}
	want := []string{"root/C", "root/a", "root/b/a/y", "root/b/x", "root/b.c", "root/ü"}
	if !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	again, err := create(t, CreateOptions{Path: root + "/./b/.."})
	if err != nil || again.InfoHash != tor.InfoHash {
		t.Errorf("the same folder by another path: %v, hash %x, want %x", err, again.InfoHash, tor.InfoHash)
	}
}

func TestCreateAddsNothing(t *testing.T) {
	root := tree(t, map[string]string{"a": "x"})
	tor, err := create(t, CreateOptions{Path: root, NoDate: true})
	if err != nil {
		t.Fatal(err)
	}
	if tor.CreatedBy+tor.Comment+tor.Source != "" || tor.CreationDate != 0 || tor.Private || tor.Trackers != nil || tor.WebSeeds != nil {
		t.Errorf("unasked for: %+v", tor)
	}
	dated, err := create(t, CreateOptions{Path: root})
	if err != nil || dated.InfoHash != tor.InfoHash || time.Since(time.Unix(dated.CreationDate, 0)) > time.Hour {
		t.Errorf("dated: %v, %x, %d", err, dated.InfoHash, dated.CreationDate)
	}
}

func TestCreateName(t *testing.T) {
	root := tree(t, map[string]string{"a": "x"})
	tor, err := create(t, CreateOptions{Path: filepath.Join(root, "a"), Name: "other"})
	if err != nil || tor.Name != "other" || tor.Files[0].Path != "other" || tor.Folder {
		t.Errorf("file: %v, %+v", err, tor)
	}
	tor, err = create(t, CreateOptions{Path: root, Name: "other"})
	if err != nil || tor.Files[0].Path != "other/a" || !tor.Folder {
		t.Errorf("folder: %v, %+v", err, tor)
	}
	for _, bad := range []string{"..", "a/b", "a\x00b"} {
		if _, err = create(t, CreateOptions{Path: root, Name: bad}); ClassOf(err) != ClassUsage {
			t.Errorf("name %q: %v, want a usage error", bad, err)
		}
	}
}

// TestCreateSeesChanges: a file that is written to while it is read makes no torrent.
func TestCreateSeesChanges(t *testing.T) {
	root := tree(t, map[string]string{"a": "xyz", "b": "x"})
	for _, tt := range []struct {
		name   string
		change func(path string) error
	}{
		{"longer", func(p string) error { return os.WriteFile(p, []byte("longer"), 0o666) }},
		{"as long", func(p string) error { return os.Chtimes(p, time.Time{}, time.Now().Add(time.Hour)) }},
		{"gone", os.Remove},
	} {
		c, err := gather(CreateOptions{Path: root})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.unchanged(); err != nil {
			t.Errorf("untouched: %v", err)
		}
		if err := tt.change(filepath.Join(root, "a")); err != nil {
			t.Fatal(err)
		}
		if err := c.unchanged(); err == nil {
			t.Errorf("%s: not noticed", tt.name)
		}
	}
}

func TestCreateInterrupted(t *testing.T) {
	root := tree(t, map[string]string{"a": strings.Repeat("x", 1<<20)})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := SignalError{Sig: os.Interrupt}
	cancel(stop)
	to := filepath.Join(t.TempDir(), "x.torrent")
	var out bytes.Buffer
	err := Create(ctx, Streams{Out: &out, Err: &out}, CreateOptions{Path: root, Output: to})
	if !errors.Is(err, stop) {
		t.Errorf("%v, want the signal", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) || out.Len() > 0 {
		t.Errorf("left behind: %v, printed %q", err, out.String())
	}
}

func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	for _, data := range []string{"one", "and two"} {
		if err := writeWhole(path, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != data {
			t.Errorf("read %q, %v", got, err)
		}
	}
	// A folder in the way: nothing is left beside it.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(filepath.Join(dir, "d"), nil); err == nil {
		t.Error("wrote over a folder")
	}
	if err := writeWhole(filepath.Join(dir, "nosuch", "x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v: want x and d only", entries, err)
	}
}

func TestVerifyInterrupted(t *testing.T) {
	root := tree(t, map[string]string{"a": strings.Repeat("x", 1<<20)})
	var data, errs bytes.Buffer
	if err := Create(t.Context(), Streams{Out: &data, Err: &errs}, CreateOptions{Path: root, Output: "-"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := SignalError{Sig: os.Interrupt}
	cancel(stop)
	var out bytes.Buffer
	err := Verify(ctx, Streams{In: &data, Out: &out, Err: &errs}, VerifyOptions{Source: "-", Dir: filepath.Dir(root)})
	if !errors.Is(err, stop) || out.Len() > 0 {
		t.Errorf("%v, printed %q; want the signal and nothing", err, out.String())
	}
}

// TestDiskErrors: what the storage says in its own words gets a class and loses the package's name.
func TestDiskErrors(t *testing.T) {
	err := diskError(t.Context(), errors.New("storage: read x: I/O error"), "cannot verify x")
	if ClassOf(err) != ClassDisk || err.Error() != "cannot verify x: read x: I/O error" {
		t.Errorf("%v of class %v", err, ClassOf(err))
	}
	if err := diskError(t.Context(), nil, "x"); err != nil {
		t.Error(err)
	}
}

// TestCreateLongName: a torrent may have any name that the file system holds, and one that it does not
// is refused before anything is hashed.
func TestCreateLongName(t *testing.T) {
	root := tree(t, map[string]string{"a": "x"})
	dir := t.TempDir()
	to := func(letters int) error {
		o := CreateOptions{Path: root, Output: filepath.Join(dir, strings.Repeat("n", letters)+".torrent")}
		return Create(t.Context(), Streams{Out: io.Discard, Err: io.Discard}, o)
	}
	if err := to(247); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	for _, overwrite := range []bool{false, true} {
		err := mayWrite(CreateOptions{Output: filepath.Join(dir, strings.Repeat("n", 256)), Overwrite: overwrite})
		if ClassOf(err) != ClassDisk {
			t.Errorf("a name of 256 bytes, overwrite %v: %v", overwrite, err)
		}
	}
	if in, err := os.ReadDir(dir); err != nil || len(in) != 1 {
		t.Errorf("left behind: %v, %v", in, err)
	}
}
