package metainfo

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math"
	"strings"
	"testing"

	"bittern/bencode"
)

// Every torrent here is refused, with a reason that tells a person what is wrong.
func TestRefused(t *testing.T) {
	with := func(key string, v any) []byte { return single(func(_, info dict) { info[key] = v }) }
	without := func(key string) []byte { return single(func(_, info dict) { delete(info, key) }) }
	sized := func(length, pieceLength int64, sums int) []byte {
		return single(func(_, info dict) {
			info["length"], info["piece length"], info["pieces"] = length, pieceLength, make([]byte, sums)
		})
	}
	for _, tt := range []struct {
		name   string
		in     []byte
		reason string
	}{
		{"nothing", nil, "not a torrent but empty"},
		{"web page", []byte("<html>"), "perhaps a web page"},
		{"gzip", []byte("\x1f\x8b\x08\x00"), "compressed with gzip"},
		{"random", []byte("\x8f\x00\x12"), "not a torrent: bencode: byte 0"},
		{"not a dictionary", []byte("le"), "no info dictionary"},
		{"no info", []byte("d8:announce3:abce"), "no info dictionary"},
		{"info of another kind", []byte("d4:infoi1ee"), "no info dictionary"},
		{"trailing bytes", append(single(nil), "junk"...), "data after the value"},
		{"a million lists", bytes.Repeat([]byte("l"), 1e6), "nested too deeply"},
		{"a million lists in a key", []byte("d4:info" + strings.Repeat("l", 1e6)), "nested too deeply"},
		{"string prefix of 2 GiB", []byte("d4:info2147483648:"), "longer than the input"},
		{"string prefix of 40 digits", []byte("d4:info" + strings.Repeat("9", 40) + ":"), "longer than the input"},
		{"string prefix that wraps", []byte("d4:info4294967300:abcde"), "longer than the input"},
		{"negative string prefix", []byte("d4:info-1:e"), "not the start of a value"},
		{"larger than the limit", make([]byte, MaxSize+1), "larger than 64 MiB"},

		{"no name", without("name"), "no name"},
		{"name that is a number", with("name", 1), "no name"},
		{"empty name", with("name", ""), "unsafe name: a part of the path is empty"},
		{"parent as name", with("name", ".."), `unsafe name: a part of the path is ".."`},
		{"absolute name", with("name", "/etc/passwd"), "unsafe name: a part of the path holds a slash"},
		{"name that climbs", with("name", "../../x"), "holds a slash"},
		{"name with NUL", with("name", "a\x00b"), "NUL"},
		{"unsafe name.utf-8", with("name.utf-8", "../x"), "holds a slash"},

		{"no piece length", without("piece length"), "piece length"},
		{"piece length 0", with("piece length", 0), "piece length"},
		{"negative piece length", with("piece length", -16), "piece length"},
		{"piece length 2^31", with("piece length", int64(1)<<31), "piece length"},
		{"piece length 2^62", with("piece length", int64(1)<<62), "piece length"},
		{"piece length of another kind", with("piece length", "16"), "piece length"},

		{"no pieces", without("pieces"), "20 bytes each"},
		{"empty pieces", with("pieces", ""), "20 bytes each"},
		{"pieces of another kind", with("pieces", []any{}), "20 bytes each"},
		{"not a multiple of 20", with("pieces", strings.Repeat("x", 59)), "20 bytes each"},
		{"too few pieces", with("pieces", strings.Repeat("x", 40)), "3 pieces of 16 bytes, but there are 2 sums"},
		{"too many pieces", with("pieces", strings.Repeat("x", 80)), "but there are 4 sums"},
		{"more pieces than the limit", sized(2097153, 1, 20*2097153), "bad size"},

		{"neither length nor files", without("length"), "neither length nor files"},
		{"both length and files", with("files", []any{file(40, "a")}), "both length and files"},
		{"negative length", with("length", -1), "the length is not"},
		{"length of another kind", with("length", "40"), "the length is not"},
		{"length 0", sized(0, 16, 20), "all its files are empty"},
		{"greatest length", sized(math.MaxInt64, 1<<30, 20), "bad size"},
		{"single file that is padding", with("attr", "p"), "padding or a symbolic link"},
		{"single file that is a link", with("attr", "l"), "padding or a symbolic link"},

		{"files of another kind", single(func(_, i dict) { delete(i, "length"); i["files"] = "x" }), "files is not a list"},
		{"no files", folderOf(), "no file in it"},
		{"file that is no dictionary", folderOf("x"), "file 1: the length"},
		{"file without length", folderOf(dict{"path": []string{"a"}}), "file 1: the length"},
		{"file of negative length", folderOf(file(9, "a"), file(-1, "b")), "file 2: the length"},
		{"lengths that cancel out", folderOf(file(1<<40, "a"), file(-(1<<40)+9, "b")), "file 2: the length"},
		{"lengths that add up to 2^63", folderOf(file(math.MaxInt64, "a"), file(1, "b")), "more than 2^63"},
		{"lengths that wrap to 10", folderOf(file(math.MaxInt64, "a"), file(math.MaxInt64, "b"), file(12, "c")), "more than 2^63"},
		{"only empty files", folderOf(file(0, "a"), file(0, "b")), "all its files are empty"},
		{"only padding", folderOf(dict{"length": 9, "attr": "p"}), "no file in it"},
		{"only a link", folderOf(dict{"attr": "l", "path": []string{"a"}, "symlink path": []string{"b"}}), "no file in it"},
		{"link with content", folderOf(dict{"length": 9, "attr": "l", "path": []string{"a"}}), "symbolic link with content"},

		{"no path", folderOf(dict{"length": 9}), "file 1: no path"},
		{"empty path", folderOf(file(9)), "file 1: no path"},
		{"path of another kind", folderOf(dict{"length": 9, "path": "a/b"}), "file 1: no path"},
		{"part of another kind", folderOf(dict{"length": 9, "path": []any{"a", 1}}), "not a string"},
		{"empty part", folderOf(file(9, "a", "", "b")), "a part of the path is empty"},
		{"empty file name", folderOf(file(9, "a", "")), "a part of the path is empty"},
		{"path that climbs", folderOf(file(9, "..", "x")), `is ".."`},
		{"path that climbs further in", folderOf(file(9, "a", "..", "..", "x")), `is ".."`},
		{"file named parent", folderOf(file(9, "..")), `is ".."`},
		{"part with a slash", folderOf(file(9, "a/../../b")), "holds a slash"},
		{"absolute part", folderOf(file(9, "/etc", "passwd")), "holds a slash"},
		{"part with NUL", folderOf(file(9, "a\x00")), "NUL"},
		{"unsafe path.utf-8", folderOf(dict{"length": 9, "path": []string{"a"}, "path.utf-8": []string{"..", "a"}}), `is ".."`},
		{"101 parts", folderOf(file(9, slicesRepeat("d", 101)...)), "more than 100 parts"},
		{"400 parts", folderOf(file(9, slicesRepeat("d", 400)...)), "more than 100 parts"},
		{"path above PATH_MAX", folderOf(file(9, slicesRepeat(strings.Repeat("d", 240), 17)...)), "longer than 3840 bytes"},
		{"folders above PATH_MAX", folderOf(file(9, append(slicesRepeat(strings.Repeat("d", 240), 17), "f")...)), "longer than 3840 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.in, tt.reason) })
	}
}

func slicesRepeat(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// A meta version that is not known is said before anything else that is wrong (BEP 52).
func TestMetaVersionFirst(t *testing.T) {
	for _, version := range []any{0, 1, 3, -2, int64(1) << 40} {
		refused(t, single(func(_, info dict) {
			info["meta version"], info["name"], info["piece length"] = version, "..", -1
			delete(info, "length")
		}), fmt.Sprintf("meta version %d, which is not known", version))
	}
	refused(t, single(func(_, info dict) { info["meta version"] = "2" }), "meta version is not an integer")
}

// What must be accepted although it is not canonical or not usual.
func TestAccepted(t *testing.T) {
	t.Run("newline", func(t *testing.T) { parseOK(t, append(single(nil), '\n')) })
	t.Run("large piece length", func(t *testing.T) {
		tor := parseOK(t, single(func(_, i dict) { i["piece length"], i["pieces"] = 512<<20, make([]byte, 20) }))
		if tor.Layout.PieceLength() != 512<<20 {
			t.Error("another piece length")
		}
	})
	t.Run("odd piece length", func(t *testing.T) {
		parseOK(t, single(func(_, i dict) { i["piece length"], i["pieces"] = 13, make([]byte, 80) }))
	})
	t.Run("v2 keys without a meta version", func(t *testing.T) {
		if tor := parseOK(t, single(func(_, i dict) { i["file tree"] = dict{} })); tor.Version != "1" {
			t.Error(tor.Version)
		}
	})
	t.Run("hundred parts", func(t *testing.T) { parseOK(t, folderOf(file(9, slicesRepeat("d", 100)...))) })
	t.Run("hints", func(t *testing.T) {
		parseOK(t, single(func(_, i dict) { i["md5sum"], i["sha1"], i["x_cross_seed"] = 1, "short", []any{dict{}} }))
	})
}

// The info-hash is over the bytes as they stand: unsorted, with keys nobody knows.
func TestInfoHashOverRawBytes(t *testing.T) {
	info := "d6:pieces20:aaaaaaaaaaaaaaaaaaaa7:unknownli1ee6:lengthi9e4:name1:a12:piece lengthi016ee"
	in := []byte("d4:info" + info + "8:announce7:nothinge")
	tor := parseOK(t, in)
	if tor.InfoHash != sha1.Sum([]byte(info)) || string(tor.Info) != info {
		t.Errorf("hash %x over %q", tor.InfoHash, tor.Info)
	}
	if &tor.Info[0] != &in[len("d4:info")] || &tor.Pieces[0] != &in[bytes.Index(in, []byte("aaaa"))] {
		t.Error("Info and Pieces were copied")
	}
}

// Of a key that stands twice, the first counts.
func TestDuplicateKeys(t *testing.T) {
	in := "d4:infod6:lengthi9e6:lengthi-1e4:name1:a4:name2:..12:piece lengthi16e6:pieces20:aaaaaaaaaaaaaaaaaaaae4:infoi1ee"
	tor := parseOK(t, []byte(in))
	if tor.Name != "a" || tor.Size() != 9 {
		t.Errorf("name %q of %d bytes", tor.Name, tor.Size())
	}
}

// Keys outside info, of any kind and content, never spoil a torrent.
func TestJunkOutsideInfo(t *testing.T) {
	junk := []any{0, -1, "", "x", "\x00\r\n", []any{}, []any{1, "", []any{}, dict{}}, dict{}, dict{"": 1}, strings.Repeat("u", 1<<20),
		[]any{[]any{1, dict{}, []any{"http://a/"}}}, []any{[]any{"h"}, []any{"h", "p"}, []any{1, 2}, []any{"h", 1, 2}}}
	keys := []string{"announce", "announce-list", "url-list", "httpseeds", "nodes", "comment", "comment.utf-8",
		"created by", "creation date", "encoding", "piece layers", "publisher", "azureus_properties", "rss"}
	for _, key := range keys {
		for _, v := range junk {
			tor := parseOK(t, single(func(top, _ dict) { top[key] = v }))
			if len(tor.Trackers)+len(tor.WebSeeds)+len(tor.HTTPSeeds)+len(tor.Nodes) > 0 {
				t.Errorf("%s = %.50v gave %+v", key, v, rest(tor))
			}
		}
	}
	for _, key := range []string{"private", "source", "attr", "md5sum"} {
		for _, v := range junk {
			parseOK(t, single(func(_, info dict) { info[key] = v }))
		}
	}
}

func TestText(t *testing.T) {
	tor := parseOK(t, single(func(top, info dict) {
		top["comment"], top["comment.utf-8"] = "\xe9", "é"
		top["created by"], top["creation date"] = strings.Repeat("x", 1<<20), -5
		info["private"], info["source"], info["name.utf-8"] = 1, "S", "é.bin"
	}))
	if tor.Comment != "é" || len(tor.CreatedBy) != maxText || tor.CreationDate != 0 || !tor.Private || tor.Source != "S" || tor.Root != "é.bin" {
		t.Errorf("got %+v", tor)
	}
}

// A file is found under its UTF-8 path where it has one.
func TestPathUTF8(t *testing.T) {
	tor := parseOK(t, folderOf(
		dict{"length": 1, "path": []string{"\x93\xfa"}, "path.utf-8": []string{"日"}},
		dict{"length": 1, "path": []string{"b"}, "path.utf-8": "not a list"}))
	if got := fmt.Sprint(paths(tor)); got != "[root/日 root/b]" {
		t.Error(got)
	}
}

// Padding has no path, not even a bad one, and moves what follows.
func TestPadding(t *testing.T) {
	tor := parseOK(t, folderOf(file(9, "a"), dict{"length": 7, "attr": "xp", "path": []string{"..", "..", "x"}},
		dict{"length": 3, "attr": "p"}, dict{"length": 5, "attr": "h", "path": []string{"b"}}))
	want := []File{{Path: "root/a", Length: 9}, {Length: 7, Offset: 9, Pad: true}, {Length: 3, Offset: 16, Pad: true},
		{Path: "root/b", Length: 5, Offset: 19}}
	if fmt.Sprint(tor.Files) != fmt.Sprint(want) || tor.Size() != 14 {
		t.Errorf("got %+v of %d bytes", tor.Files, tor.Size())
	}
}

// Links are left out, with a warning, whatever they point to, and take no name.
func TestLinks(t *testing.T) {
	tor := parseOK(t, folderOf(
		dict{"attr": "l", "path": []string{"b"}, "symlink path": []string{"..", "..", "etc"}, "length": 0},
		dict{"attr": "l", "path": []string{"..", "\x1b[2J"}, "symlink path": 1},
		file(9, "b")))
	if got := fmt.Sprint(paths(tor)); got != "[root/b]" || len(tor.Warnings) != 2 {
		t.Errorf("%v, %q", got, tor.Warnings)
	}
}

// Warnings stay few however much there is to warn of.
func TestWarningsAreBounded(t *testing.T) {
	var files []any
	for i := range 5000 {
		files = append(files, file(1, fmt.Sprintf("\x1b%d", i)))
	}
	tor := parseOK(t, folderOf(files...))
	if n := len(tor.Warnings); n != maxWarnings+1 || tor.Warnings[n-1] != "4980 more warnings" {
		t.Errorf("%d warnings, the last %q", n, tor.Warnings[n-1])
	}
}

// FuzzParse: whatever is accepted keeps the promises of Torrent and File, the same each time,
// and its info-hash is that of bytes that stand in the input.
func FuzzParse(f *testing.F) {
	addTorrents(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		tor, err := Parse(in)
		if err != nil {
			return
		}
		checkLaws(t, tor)
		again, err := Parse(bytes.Clone(in))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(tor) {
			t.Errorf("not the same the second time: %v", err)
		}
		at := bytes.Index(in, tor.Info)
		if at < 0 || sha1.Sum(in[at:at+len(tor.Info)]) != tor.InfoHash {
			t.Error("the info-hash is not over bytes of the input")
		}
		if v, err := bencode.DecodeTolerant(tor.Info, bencode.Limits{}); err != nil || v.Kind() != bencode.Dict {
			t.Errorf("Info is no dictionary: %v", err)
		}
		checkWrapping(t, tor)
	})
}
