package metainfo

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"bittern/bencode"
)

func sums(t testing.TB, s Spec) []byte {
	t.Helper()
	l, err := s.Layout()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat([]byte("0123456789abcdefghij"), l.Pieces())
}

func build(t testing.TB, s Spec) []byte {
	t.Helper()
	out, err := s.Build(sums(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bencode.Decode(out); err != nil {
		t.Fatalf("not canonical: %v", err)
	}
	return out
}

// Nothing is added that nobody asked for.
func TestBuildBare(t *testing.T) {
	got := build(t, Spec{Name: "a", Files: []File{{Path: "a", Length: 5}}, PieceLength: 16384})
	want := "d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:0123456789abcdefghijee"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestBuildWhole(t *testing.T) {
	got := build(t, Spec{
		Name: "d", PieceLength: 16, Private: true, Source: "S", Comment: "c", CreatedBy: "by", CreationDate: 7,
		Files:    []File{{Path: "d/x", Length: 5}, {Length: 11, Pad: true}, {Path: "d/e/y"}},
		Trackers: [][]string{{"http://a/"}, {"udp://b:1", "http://c/"}}, WebSeeds: []string{"http://w/", "http://v/"},
	})
	want := "d8:announce9:http://a/13:announce-listll9:http://a/el9:udp://b:19:http://c/ee7:comment1:c10:created by2:by" +
		"13:creation datei7e4:infod5:filesld6:lengthi5e4:pathl1:xeed4:attr1:p6:lengthi11e4:pathl4:.pad2:11eed6:lengthi0e4:pathl1:e1:yeee" +
		"4:name1:d12:piece lengthi16e6:pieces20:0123456789abcdefghij7:privatei1e6:source1:Se8:url-listl9:http://w/9:http://v/ee"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	one := build(t, Spec{Name: "a", Files: []File{{Path: "a", Length: 5}}, PieceLength: 16,
		Trackers: [][]string{{"http://a/"}}, WebSeeds: []string{"http://w/"}})
	if !bytes.HasPrefix(one, []byte("d8:announce9:http://a/4:info")) || !bytes.HasSuffix(one, []byte("e8:url-list9:http://w/e")) {
		t.Errorf("one tracker and web seed: %q", one)
	}
}

// Parse(Build(spec)) is what spec says, for random specs.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	for range 1000 {
		s := Spec{
			Name: pick("a", "Größe", "日本語.d", "x y"), PieceLength: int64(1) << rng.IntN(12),
			Private: rng.IntN(2) == 0, Source: pick("", "S"), Comment: pick("", "c\n"), CreatedBy: pick("", "me"), CreationDate: rng.Int64N(3),
		}
		offset := int64(0)
		for i := range rng.IntN(8) {
			f := File{Path: s.Name + pick("/", "/d/", "/d/é/") + fmt.Sprint(i), Length: rng.Int64N(5000), Offset: offset}
			if i > 0 && rng.IntN(4) == 0 {
				f.Path, f.Pad = "", true
			}
			s.Files, offset = append(s.Files, f), offset+f.Length
		}
		if offset == 0 {
			s.Files = []File{{Path: s.Name, Length: 1 + rng.Int64N(1000)}}
		}
		for i := range rng.IntN(4) {
			tier := []string{fmt.Sprintf("http://%d/", i)}
			if rng.IntN(2) == 0 {
				tier = append(tier, fmt.Sprintf("udp://%d:1", i))
			}
			s.Trackers = append(s.Trackers, tier)
			s.WebSeeds = append(s.WebSeeds, fmt.Sprintf("https://%d/", i))
		}
		all := sums(t, s)
		tor := parseOK(t, build(t, s))
		again := Spec{Name: tor.Name, Files: tor.Files, PieceLength: tor.Layout.PieceLength(), Trackers: tor.Trackers,
			WebSeeds: tor.WebSeeds, Private: tor.Private, Source: tor.Source, Comment: tor.Comment,
			CreatedBy: tor.CreatedBy, CreationDate: tor.CreationDate}
		if !reflect.DeepEqual(again, s) || !bytes.Equal(tor.Pieces, all) {
			t.Fatalf("got  %+v\nwant %+v", again, s)
		}
		if !bytes.Equal(build(t, again), build(t, s)) || len(tor.Warnings) > 0 || len(s.Warnings()) > 0 {
			t.Fatalf("warnings %q and %q", tor.Warnings, s.Warnings())
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	good := Spec{Name: "d", Files: []File{{Path: "d/a", Length: 5}}, PieceLength: 16}
	for _, tt := range []struct {
		name   string
		edit   func(*Spec)
		reason string
	}{
		{"no name", func(s *Spec) { s.Name = "" }, "not the name"},
		{"parent as name", func(s *Spec) { s.Name = ".." }, "not the name"},
		{"name with a slash", func(s *Spec) { s.Name = "d/e" }, "not the name"},
		{"nothing", func(s *Spec) { s.Files = nil }, "nothing in it"},
		{"nothing but empty files", func(s *Spec) { s.Files[0].Length = 0 }, "nothing in it"},
		{"nothing but padding", func(s *Spec) { s.Files[0].Pad = true }, "nothing in it"},
		{"negative length", func(s *Spec) { s.Files[0].Length = -5 }, "size cannot be"},
		{"lengths above 2^63", func(s *Spec) { s.Files = append(s.Files, File{Path: "d/b", Length: 1<<63 - 1}) }, "size cannot be"},
		{"no piece length", func(s *Spec) { s.PieceLength = 0 }, "piece length 0"},
		{"too many pieces", func(s *Spec) { s.PieceLength, s.Files[0].Length = 1, 1<<22 }, "4194304 pieces"},
		{"path elsewhere", func(s *Spec) { s.Files[0].Path = "e/a" }, "not a path below"},
		{"path that climbs", func(s *Spec) { s.Files[0].Path = "d/../a" }, "path is"},
		{"empty part", func(s *Spec) { s.Files[0].Path = "d//a" }, "empty"},
		{"only the folder", func(s *Spec) { s.Files[0].Path = "d/" }, "empty"},
		{"two files, one without folder", func(s *Spec) { s.Files = append(s.Files, File{Path: "d"}) }, "not a path below"},
		{"too deep", func(s *Spec) { s.Files[0].Path = "d" + strings.Repeat("/a", 101) }, "too long"},
		{"too long", func(s *Spec) { s.Files[0].Path = "d" + strings.Repeat("/"+strings.Repeat("a", 250), 16) }, "too long"},
		{"tracker of another scheme", func(s *Spec) { s.Trackers = [][]string{{"ftp://a/"}} }, "not the URL of a tracker"},
		{"tracker with a blank", func(s *Spec) { s.Trackers = [][]string{{"http://a/ b"}} }, "not the URL of a tracker"},
		{"UDP tracker without port", func(s *Spec) { s.Trackers = [][]string{{"udp://a"}} }, "not the URL of a tracker"},
		{"empty tier", func(s *Spec) { s.Trackers = [][]string{{}} }, "tier without trackers"},
		{"web seed of another scheme", func(s *Spec) { s.WebSeeds = []string{"udp://a:1"} }, "not an http"},
		{"too many trackers", func(s *Spec) { s.Trackers = slices.Repeat([][]string{{"http://a/"}}, 257) }, "too many"},
		{"too many web seeds", func(s *Spec) { s.WebSeeds = slices.Repeat([]string{"http://a/"}, 101) }, "too many"},
		{"endless comment", func(s *Spec) { s.Comment = strings.Repeat("c", 1<<17) }, "64 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := good
			s.Files = slices.Clone(good.Files)
			tt.edit(&s)
			var all []byte
			if l, err := s.Layout(); err == nil {
				all = make([]byte, 20*l.Pieces())
			}
			_, err := s.Build(all)
			if !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want a UsageError with %q", err, tt.reason)
			}
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("the wrong number of sums did not panic")
		}
	}()
	good.Build(nil)
}

func TestPieceLengthFor(t *testing.T) {
	const kib, mib, gib = int64(1) << 10, int64(1) << 20, int64(1) << 30
	for _, tt := range []struct{ total, want int64 }{
		{0, 16 * kib}, {1, 16 * kib}, {mib, 16 * kib}, {2500 * 16 * kib, 16 * kib}, {2500*16*kib + 1, 32 * kib},
		{gib, 512 * kib}, {4 * gib, 2 * mib}, {30 * gib, 16 * mib}, {1 << 50, 16 * mib}, {1<<63 - 1, 16 * mib},
	} {
		if got := PieceLengthFor(tt.total); got != tt.want {
			t.Errorf("%d bytes: %d, want %d", tt.total, got, tt.want)
		}
	}
	for total := 20 * mib; total < 38*gib; total += total / 7 {
		n := PieceLengthFor(total)
		if pieces := layout(t, total, n).Pieces(); pieces < 1000 || pieces > 2500 {
			t.Errorf("%d bytes: %d pieces", total, pieces)
		}
	}
}

// What other systems cannot hold is said before the torrent goes out.
func TestSpecWarnings(t *testing.T) {
	s := Spec{Name: "d:", PieceLength: 16, Files: []File{{Path: "d:/ok.txt", Length: 1}, {Path: "d:/con", Length: 1},
		{Path: "d:/OK.TXT", Length: 1}, {Path: "d:/plain", Length: 1}, {Path: "d:/a\x1b:", Length: 1}, {Length: 12, Pad: true}}}
	got := strings.Join(s.Warnings(), "\n")
	want := `the name "d:" will be "d_" when it is downloaded on Windows
"d:/con" will be "d:/_con" when it is downloaded on Windows
"d:/OK.TXT" will be "d:/OK (2).TXT" when it is downloaded
"d:/a\x1b:" will be "d:/a_:" when it is downloaded, "d:/a__" on Windows`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, quiet := range []Spec{{Name: ".."}, {Name: "a", Files: []File{{Path: "a", Length: 1}}}, {Name: "a", Files: []File{{Path: "a/../b"}}}} {
		if w := quiet.Warnings(); len(w) > 0 {
			t.Errorf("%+v: %q", quiet, w)
		}
	}
}
