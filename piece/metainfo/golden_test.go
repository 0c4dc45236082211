package metainfo

import (
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const (
	local  = "http://127.0.0.1:6969/announce"
	flac   = "album/disc 1/01 Größe.flac"
	kanji  = "album/disc2/日本語.txt"
	noHash = "0000000000000000000000000000000000000000000000000000000000000000"
)

// Torrents that other programs made of the same files. The hashes are those that libtorrent
// 2.0.8 reads from them.
func TestGolden(t *testing.T) {
	plain := []File{{Path: flac, Length: 70000}, {Path: kanji, Length: 33000, Offset: 70000},
		{Path: "album/empty", Offset: 103000}, {Path: "album/one", Length: 1, Offset: 103000}}
	other := []File{{Path: "album/one", Length: 1}, {Path: flac, Length: 70000, Offset: 1},
		{Path: "album/empty", Offset: 70001}, {Path: kanji, Length: 33000, Offset: 70001}}
	padded := []File{{Path: flac, Length: 70000}, {Length: 11920, Offset: 70000, Pad: true},
		{Path: kanji, Length: 33000, Offset: 81920}, {Length: 16152, Offset: 114920, Pad: true},
		{Path: "album/empty", Offset: 131072}, {Path: "album/one", Length: 1, Offset: 131072},
		{Length: 16383, Offset: 131073, Pad: true}}
	one := []File{{Path: "single.bin", Length: 100000}}
	tiers := [][]string{{local}, {"udp://127.0.0.1:6969/announce"}}
	for _, tt := range []struct {
		file, v1, v2 string
		files        []File
		size, pieces int64
		length       int64
		want         Torrent // of the other fields
	}{
		{"mktorrent-folder", "d1630ad3ae48d99b250192255ee4dde5ed74fcdf", noHash, plain, 103001, 4, 32768, Torrent{
			Trackers: [][]string{{local}, {"udp://127.0.0.1:6969"}}, WebSeeds: []string{"http://127.0.0.1/files/"},
			Comment: "a comment", CreatedBy: "mktorrent 1.1", CreationDate: 1795345803, Private: true, Source: "SRC"}},
		{"mktorrent-single", "ead8aa90db0c85763c050b5e7c1a58bae4e80f43", noHash, one, 100000, 4, 32768, Torrent{
			Trackers: [][]string{{local}}, CreatedBy: "mktorrent 1.1"}},
		{"transmission-folder", "0f25c4ba3029d61c3ec89ec130facf99eb9f8057", noHash,
			[]File{plain[0], plain[1], plain[3]}, 103001, 4, 32768, Torrent{
				Trackers: [][]string{{local}, {"http://127.0.0.1:6970/announce"}}, Comment: "hello",
				CreatedBy: "Transmission/3.00 (bb6b5a062e)", CreationDate: 1795345788}},
		{"transmission-single", "4097cc9f88633ca26df5cff92116f3ca6fe32ca2", noHash, one, 100000, 7, 16384, Torrent{
			Trackers: [][]string{{local}}, CreatedBy: "Transmission/3.00 (bb6b5a062e)", CreationDate: 1795345803, Private: true}},
		{"libtorrent-v1", "df30bdafe2ec3f04a25bb55380b61b4c0a233960", noHash, other, 103001, 7, 16384, Torrent{}},
		{"libtorrent-v1-link", "7886e6cd2792334409d7848fc576a8c689cae5ef", noHash, other, 103001, 7, 16384, Torrent{}},
		{"libtorrent-hybrid", "bab76a8564fd8e2b17c3fe093fd61bf1fa6fd647",
			"357bdde6d362ae7b274715e52349dceab8a06944e6d77d4046064e928e735d4c", padded, 103001, 9, 16384, Torrent{}},
		{"libtorrent-hybrid-link", "49f7794459767c98b3887669a7f2d6163e501faa",
			"f369bb6c9b01f095cd224ca47ece8ccce8392d4f6ef514f03481bb54acb5ebef", padded, 103001, 9, 16384, Torrent{}},
		{"libtorrent-hybrid-single", "cc59bbf60a2cf6f6c154ea8624e7de52a11ee204",
			"2ef4743e1d60445090634966df13f9469a10e487d71bc3f3f6431042aeb11581", one, 100000, 7, 16384, Torrent{}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			in, err := os.ReadFile("testdata/" + tt.file + ".torrent")
			if err != nil {
				t.Fatal(err)
			}
			got := parseOK(t, in)
			if h := hex.EncodeToString(got.InfoHash[:]); h != tt.v1 {
				t.Errorf("info-hash %s, want %s", h, tt.v1)
			}
			if h := hex.EncodeToString(got.InfoHashV2[:]); h != tt.v2 || (got.Version == "hybrid") != (h != noHash) {
				t.Errorf("version %s with v2 info-hash %s, want %s", got.Version, h, tt.v2)
			}
			if !slices.Equal(got.Files, tt.files) || got.Folder != (len(tt.files) > 1) {
				t.Errorf("files %+v\nwant  %+v", got.Files, tt.files)
			}
			if got.Size() != tt.size || int64(got.Layout.Pieces()) != tt.pieces || got.Layout.PieceLength() != tt.length {
				t.Errorf("%d bytes in %d pieces of %d", got.Size(), got.Layout.Pieces(), got.Layout.PieceLength())
			}
			if strings.HasPrefix(tt.file, "libtorrent") {
				tt.want = Torrent{Trackers: tiers, WebSeeds: []string{"http://127.0.0.1/"}, Nodes: []string{"127.0.0.1:6881"},
					Comment: "c", CreatedBy: "lt", CreationDate: 1795345822}
			}
			if strings.HasSuffix(tt.file, "-link") != (len(got.Warnings) == 1) {
				t.Errorf("warnings %q", got.Warnings)
			}
			if rest := rest(got); !reflect.DeepEqual(rest, tt.want) {
				t.Errorf("got  %+v\nwant %+v", rest, tt.want)
			}
		})
	}
}

// rest returns the fields that a torrent has for people and sources of peers.
func rest(t *Torrent) Torrent {
	return Torrent{Trackers: t.Trackers, WebSeeds: t.WebSeeds, HTTPSeeds: t.HTTPSeeds, Nodes: t.Nodes, Comment: t.Comment,
		CreatedBy: t.CreatedBy, CreationDate: t.CreationDate, Private: t.Private, Source: t.Source}
}

func TestV2Only(t *testing.T) {
	in, err := os.ReadFile("testdata/libtorrent-v2.torrent")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse(in)
	if !errors.Is(err, ErrV2Only) || errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "v2 only") {
		t.Errorf("got %v, want ErrV2Only", err)
	}
}

// A .torrent cut anywhere is refused.
func TestTruncated(t *testing.T) {
	in, err := os.ReadFile("testdata/libtorrent-hybrid.torrent")
	if err != nil {
		t.Fatal(err)
	}
	for n := range in {
		refused(t, in[:n], "not a torrent")
	}
}

// What others wrote canonically, with the keys that we write, we write byte for byte.
func TestRebuild(t *testing.T) {
	for _, name := range []string{"mktorrent-folder", "mktorrent-single", "libtorrent-v1"} {
		in, err := os.ReadFile("testdata/" + name + ".torrent")
		if err != nil {
			t.Fatal(err)
		}
		tor := parseOK(t, in)
		s := Spec{Name: tor.Name, Files: tor.Files, PieceLength: tor.Layout.PieceLength(), Private: tor.Private, Source: tor.Source}
		out, err := s.Build(tor.Pieces)
		if err != nil {
			t.Fatal(err)
		}
		if again := parseOK(t, out); again.InfoHash != tor.InfoHash {
			t.Errorf("%s: info %q became %q", name, tor.Info, again.Info)
		}
	}
}
