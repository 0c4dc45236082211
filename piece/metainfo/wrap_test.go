package metainfo

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"bittern/bencode"
)

// checkWrapping checks that a torrent written to a file and read again is the same.
func checkWrapping(t testing.TB, tor *Torrent) {
	t.Helper()
	out := tor.AppendTorrent([]byte("kept"))
	if !bytes.HasPrefix(out, []byte("kept")) {
		t.Error("what was there is gone")
	}
	again, err := Parse(out[len("kept"):])
	if err != nil {
		t.Errorf("the torrent as written is refused: %v", err)
		return
	}
	if !bytes.Equal(again.Info, tor.Info) || again.InfoHash != tor.InfoHash {
		t.Error("the info dictionary has changed")
	}
	again.Warnings = tor.Warnings // that trackers were left out, or that a hybrid's layers are
	if !reflect.DeepEqual(again, tor) {
		t.Errorf("written and read:\n%+v\nwant\n%+v", again, tor)
	}
}

func TestAppendTorrent(t *testing.T) {
	names, err := filepath.Glob("testdata/*.torrent")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d torrents, %v", len(names), err)
	}
	for _, name := range names {
		in, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if tor, err := Parse(in); err == nil {
			checkWrapping(t, tor)
		}
	}
	checkWrapping(t, parseOK(t, single(func(top, _ dict) {
		top["announce-list"] = []any{[]any{"http://a/", "udp://b:1"}, []any{"http://c/ü"}}
		top["url-list"], top["httpseeds"] = []any{"http://d/", "http://e/"}, "http://f/"
		top["nodes"] = []any{[]any{"2001:db8::1", 1}, []any{"host.example", 65535}}
		top["comment"], top["created by"], top["creation date"] = "\xff", "me", 1
	})))
}

// The metadata of a magnet link becomes a file that keeps the trackers and, byte for byte, a
// dictionary that no canonical encoder would write.
func TestFromInfo(t *testing.T) {
	info := []byte("d4:name5:a.bin6:lengthi040e12:piece lengthi16e6:pieces60:" + strings.Repeat("x", 60) + "1:a0:e")
	trackers, seeds := [][]string{{"http://a/"}, {"udp://b:1"}}, []string{"http://c/"}
	tor, err := FromInfo(info, trackers, seeds)
	if err != nil {
		t.Fatal(err)
	}
	checkLaws(t, tor)
	if tor.InfoHash != sha1.Sum(info) || &tor.Info[0] != &info[0] || len(tor.Info) != len(info) || !reflect.DeepEqual(tor.Trackers, trackers) || !reflect.DeepEqual(tor.WebSeeds, seeds) {
		t.Errorf("got %+v", tor)
	}
	checkWrapping(t, tor)
	want := "d8:announce9:http://a/13:announce-listll9:http://a/el9:udp://b:1ee4:info" + string(info) + "8:url-list9:http://c/e"
	if got := string(tor.AppendTorrent(nil)); got != want {
		t.Errorf("written %q, want %q", got, want)
	}
}

// A hybrid's piece layers are never part of the metadata, so there is nothing to warn of.
func TestFromInfoOfHybrid(t *testing.T) {
	in, err := os.ReadFile("testdata/libtorrent-hybrid.torrent")
	if err != nil {
		t.Fatal(err)
	}
	whole := parseOK(t, in)
	tor, err := FromInfo(whole.Info, nil, nil)
	if err != nil || tor.InfoHashV2 != whole.InfoHashV2 || len(tor.Warnings) != 0 {
		t.Errorf("got %+v, %v", tor, err)
	}
}

func TestFromInfoRefused(t *testing.T) {
	good := parseOK(t, single(nil)).Info
	for _, tt := range []struct{ name, info, reason string }{
		{"empty", "", "not an info dictionary"},
		{"junk", "hello", "not an info dictionary"},
		{"a list", "le", "not an info dictionary"},
		{"cut off", string(good[:len(good)-1]), "not an info dictionary"},
		{"something behind", string(good) + "\n", "not an info dictionary"}, // it would be hashed
		{"a whole torrent", string(single(nil)), "no name"},
		{"unsafe", strings.Replace(string(good), "5:a.bin", "5:../../", 1), ""},
		{"too deep for a file", string(good[:len(good)-1]) + "1:z" + strings.Repeat("l", bencode.DefaultDepth-1) + strings.Repeat("e", bencode.DefaultDepth-1) + "e", "not an info dictionary"},
		{"too large", string(make([]byte, MaxSize-wrapSize+1)), "larger than 60 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tor, err := FromInfo([]byte(tt.info), nil, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %+v, %v; want %q", tor, err, tt.reason)
			}
		})
	}
	if _, err := FromInfo([]byte("d9:file treede12:meta versioni2e4:name1:a12:piece lengthi16384ee"), nil, nil); !errors.Is(err, ErrV2Only) {
		t.Errorf("of a v2 torrent: %v", err)
	}
}

// A Torrent keeps no copy of the file's bytes but its info dictionary's place in them.
func TestInfoTakesNoMemory(t *testing.T) {
	in := manyPieces(262_144) // 5 MiB of sums
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tor, err := Parse(in)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("allocated %d KiB", n>>10)
	}
	if at := bytes.Index(in, []byte("4:info")) + len("4:info"); &tor.Info[0] != &in[at] {
		t.Error("Info is a copy")
	}
}
