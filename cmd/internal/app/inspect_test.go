package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
)

// made returns the bytes of a torrent of a folder with the given files, and the folder's parent.
func made(t *testing.T, files map[string]string) (torrent []byte, dir string) {
	t.Helper()
	root := tree(t, files)
	var out, errs bytes.Buffer
	if err := Create(t.Context(), Streams{Out: &out, Err: &errs}, CreateOptions{Path: root, Output: "-", NoDate: true}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), filepath.Dir(root)
}

func TestVerifyStatuses(t *testing.T) {
	block := strings.Repeat("0123456789abcdef", 1<<10) // a piece of the least size
	files := map[string]string{"a": block, "b": block, "c": block, "d": block, "e": block, "f": ""}
	torrent, dir := made(t, files)
	at := func(name string) string { return filepath.Join(dir, "root", name) }
	err := errors.Join(
		os.Remove(at("b")),
		os.WriteFile(at("c"), []byte(strings.ToUpper(block)), 0o666),
		os.Truncate(at("d"), 5),
		os.WriteFile(at("e"), []byte(block+"more"), 0o666),
	)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	o := VerifyOptions{Source: "-", Dir: dir, Shown: Shown{JSON: true}}
	err = Verify(t.Context(), Streams{In: bytes.NewReader(torrent), Out: &out, Err: &errs}, o)
	if ClassOf(err) != ClassCorrupt || !strings.Contains(err.Error(), "of 6 files 1 missing, 1 corrupt, 1 short, 1 long") {
		t.Errorf("%v of class %v", err, ClassOf(err))
	}
	var got reportDescription
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"root/a": "ok", "root/b": "missing", "root/c": "corrupt", "root/d": "short", "root/e": "long", "root/f": "ok",
	}
	have := make(map[string]string)
	for _, f := range got.Files {
		have[f.Path] = f.Status
	}
	if !reflect.DeepEqual(have, want) || got.Complete || got.Pieces != 5 {
		t.Errorf("got %+v, want %v", got, want)
	}
}

func TestVerifyWritesNothing(t *testing.T) {
	torrent, dir := made(t, map[string]string{"a": "x", "sub/b": "y"})
	if err := os.RemoveAll(filepath.Join(dir, "root", "sub")); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	err := Verify(t.Context(), Streams{In: bytes.NewReader(torrent), Out: &out, Err: &errs}, VerifyOptions{Source: "-", Dir: dir})
	if ClassOf(err) != ClassCorrupt {
		t.Errorf("%v", err)
	}
	var left []string
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		path, err = filepath.Rel(dir, path)
		left = append(left, filepath.ToSlash(path))
		return err
	})
	if err != nil || !reflect.DeepEqual(left, []string{".", "root", "root/a"}) {
		t.Errorf("%v, %v below the folder", left, err)
	}
}

// TestDescribe: the object that scripts read, with what is absent left out.
func TestDescribe(t *testing.T) {
	torrent, _ := made(t, map[string]string{"a": "xy", "b": ""})
	tor, err := metainfo.Parse(torrent)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(ui.JSON(describe(tor)), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"infohash_v2", "trackers", "web_seeds", "nodes", "comment", "created_by", "creation_date", "source"} {
		if _, there := got[key]; there {
			t.Errorf("%s is there: %v", key, got[key])
		}
	}
	delete(got, "infohash")
	delete(got, "magnet")
	want := map[string]any{
		"name": "root", "version": "1", "size": 2.0, "piece_length": 16384.0, "pieces": 1.0, "private": false,
		"files": []any{map[string]any{"path": "root/a", "length": 2.0}, map[string]any{"path": "root/b", "length": 0.0}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestInfoIsPrintable: no text of a torrent brings a control character to the terminal.
func TestInfoIsPrintable(t *testing.T) {
	const evil = "\x1b]0;x\x07\u202e\r\n"
	tor := &metainfo.Torrent{
		Name: evil, Comment: evil, CreatedBy: evil, Source: evil, Private: true, CreationDate: 1 << 40,
		Trackers: [][]string{{"http://a/" + evil}, {"udp://b" + evil, "udp://c"}}, WebSeeds: []string{evil},
		HTTPSeeds: []string{evil}, Nodes: []string{evil}, Files: []metainfo.File{{Path: evil, Length: 3}, {Pad: true}},
	}
	var out strings.Builder
	writeInfo(&out, tor)
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x202e }); i >= 0 {
		t.Errorf("%q at byte %d of %q", out.String()[i], i, out.String())
	}
	for _, want := range []string{"tier 2:", "Web seeds:", "HTTP seeds:", "DHT nodes:", "Private:", "\n1        3 B  "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestResultErrors: a reader that went away is no error, anything else is one of the disk.
func TestResultErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Class
	}{
		{syscall.EPIPE, ClassOther},
		{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, ClassOther},
		{syscall.ENOSPC, ClassDisk},
	} {
		d := &display{ui.New(ui.Config{Out: failingWriter{tt.err}, Err: io.Discard})}
		for _, err := range []error{d.result([]byte("x")), d.print(func(w io.Writer) { io.WriteString(w, "x") })} {
			if (err != nil) != (tt.want == ClassDisk) || ClassOf(err) != tt.want {
				t.Errorf("%v became %v", tt.err, err)
			}
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestHashingSnapshot: the rate is the average, the time left follows from it.
func TestHashingSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hashing{state: "hashing", start: time.Now()}
		h.total.Store(100 << 20)
		if got, want := h.snapshot(), (ui.Snapshot{State: "hashing", Total: 100 << 20, Peers: -1}); got != want {
			t.Errorf("at the start %+v, want %+v", got, want)
		}
		time.Sleep(2 * time.Second)
		h.done.Store(20 << 20)
		want := ui.Snapshot{
			State: "hashing", Done: 20 << 20, Total: 100 << 20, DownRate: 10 << 20, ETA: 8 * time.Second, Peers: -1,
		}
		if got := h.snapshot(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestEmitFailure(t *testing.T) {
	var out bytes.Buffer
	EmitFailure(&out, 7, &Error{Class: ClassConflict, What: "x is in the way"})
	var got struct {
		Event, Time, Reason, Message string
		Code                         int
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Event != "error" || got.Code != 7 || got.Reason != "conflict" || got.Message != "x is in the way" || got.Time == "" {
		t.Errorf("%+v", got)
	}
}

func TestParseProgress(t *testing.T) {
	for name, want := range map[string]ui.Mode{"auto": ui.Auto, "bar": ui.Bar, "lines": ui.Lines, "none": ui.None} {
		if got, err := ParseProgress(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ParseProgress("Bar"); err == nil {
		t.Error("Bar accepted")
	}
}

// TestLogFile: everything goes there, whatever is shown, behind what stands there.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for range 2 {
		var errs bytes.Buffer
		_, log, done, err := begin(Streams{Out: &errs, Err: &errs}, Shown{Log: path, Quiet: 2})
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("detail")
		done()
		if errs.Len() > 0 {
			t.Errorf("quiet, yet %q", errs.String())
		}
	}
	if data, err := os.ReadFile(path); err != nil || bytes.Count(data, []byte("msg=detail")) != 2 {
		t.Errorf("%q, %v", data, err)
	}
	_, _, _, err := begin(Streams{}, Shown{Log: filepath.Join(path, "x")})
	if ClassOf(err) != ClassDisk {
		t.Errorf("%v, want an error of the disk", err)
	}
}
