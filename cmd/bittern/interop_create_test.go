//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shown is what the tests read of `bittern info --json`.
type shown struct {
	InfoHash    string `json:"infohash"`
	InfoHashV2  string `json:"infohash_v2"`
	Version     string `json:"version"`
	Size        int64  `json:"size"`
	PieceLength int    `json:"piece_length"`
	Files       []struct {
		Path   string `json:"path"`
		Length int64  `json:"length"`
	} `json:"files"`
}

// info runs `bittern info --json`.
func info(t *testing.T, torrent string) shown {
	t.Helper()
	p := run(t, "info", "--json", torrent)
	p.exits(t, 0, 10*time.Second)
	var s shown
	if err := json.Unmarshal([]byte(p.out.String()), &s); err != nil {
		t.Fatalf("%v in %s", err, p.out.String())
	}
	return s
}

// TestInteropMade: torrents that others made are read as libtorrent reads them, and what they were
// made of verifies against them; one wrong byte does not.
func TestInteropMade(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, content := range []content{oneByte, withEmpty, nested, small} {
		x := content.make()
		dir := t.TempDir()
		x.lay(t, dir)
		for i, m := range []maker{mktorrent, transmissionCreate, libtorrentV1, libtorrentHybrid, bitternCreate} {
			t.Run(m.name+" of "+content.label, func(t *testing.T) {
				t.Parallel()
				piece := 32 * kib << i
				made := m.torrent(t, filepath.Join(dir, x.name), piece, noTracker)
				s := info(t, made.path)
				if want := fmt.Sprintf("%x", made.hash); s.InfoHash != want {
					t.Errorf("info-hash %s, libtorrent says %s", s.InfoHash, want)
				}
				if s.Size != int64(len(x.data)) || s.PieceLength != piece {
					t.Errorf("%d bytes in pieces of %d, want %d and %d", s.Size, s.PieceLength, len(x.data), piece)
				}
				if hybrid := m.name == libtorrentHybrid.name; hybrid != (s.Version == "hybrid") || hybrid != (s.InfoHashV2 != "") {
					t.Errorf("version %q, v2 info-hash %q", s.Version, s.InfoHashV2)
				}
				run(t, "verify", made.path, "-d", dir).exits(t, 0, 20*time.Second)

				broken := t.TempDir()
				x.lay(t, broken)
				last := filepath.Join(broken, x.name, filepath.FromSlash(x.files[len(x.files)-1].path))
				spoil(t, last, 0)
				run(t, "verify", made.path, "-d", broken).exits(t, 8, 20*time.Second)
			})
		}
	}
}

// TestInteropCreated: aria2c, transmission and libtorrent read the torrents of bittern create, at
// every piece length, and see the same info-hash.
func TestInteropCreated(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := nested.make()
	dir := t.TempDir()
	x.lay(t, dir)
	for piece := 16 * kib; piece <= 16*mib; piece *= 2 {
		t.Run(fmt.Sprintf("%d KiB", piece/kib), func(t *testing.T) {
			t.Parallel()
			made := bitternCreate.torrent(t, filepath.Join(dir, x.name), piece, noTracker)
			want := fmt.Sprintf("%x", made.hash)
			if want != info(t, made.path).InfoHash {
				t.Errorf("libtorrent sees %s", want)
			}
			if out := succeeds(t, "transmission-show", made.path); !strings.Contains(out, "Hash: "+want) {
				t.Errorf("transmission-show sees no %s: %s", want, out)
			}
			if out := succeeds(t, "aria2c", "--no-conf", "-S", made.path); !strings.Contains(out, "Info Hash: "+want) {
				t.Errorf("aria2c sees no %s: %s", want, out)
			}
			if n := (len(x.data) + piece - 1) / piece; made.pieces != n {
				t.Errorf("%d pieces, want %d", made.pieces, n)
			}
		})
	}
}

// TestInteropSparse: a sparse file of 6 GiB is hashed as mktorrent hashes it, verified without
// being filled, and in little memory; its offsets do not fit 32 bits.
func TestInteropSparse(t *testing.T) {
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 2<<30 - 3, 4<<30 - 3, 6<<30 - 7} {
		if _, err := f.WriteAt([]byte("content"), at); err != nil {
			t.Fatal(err)
		}
	}
	torrent := filepath.Join(t.TempDir(), "sparse.torrent")
	create := run(t, "create", path, "-o", torrent, "-l", "4M")
	create.exits(t, 0, 120*time.Second)
	theirs := mktorrent.torrent(t, path, 4*mib, noTracker)
	if ours := info(t, torrent).InfoHash; ours != fmt.Sprintf("%x", theirs.hash) {
		t.Errorf("info-hash %s, mktorrent's is %x", ours, theirs.hash)
	}
	verify := run(t, "verify", torrent, "-d", dir)
	verify.exits(t, 0, 120*time.Second)
	if used := allocated(t, path); used > mib {
		t.Errorf("the file takes %d KiB on the disk now", used/kib)
	}
	spoil(t, path, 5<<30)
	run(t, "verify", torrent, "-d", dir).exits(t, 8, 120*time.Second)
}

// allocated is how much room a file takes, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}
