package metainfo

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bittern/bencode"
)

// hybrid writes a hybrid torrent of files of random lengths, after the text of BEP 52: leaf
// hashes of 16 KiB blocks, zero hashes to a power of two, the layer at the piece length.
func hybrid(rng *rand.Rand, pieceLength int) (in []byte, lengths []int) {
	tree, layers, files, stream := dict{}, dict{}, []any{}, 0
	n := 1 + rng.IntN(6)
	for i := range n {
		length := rng.IntN(5*pieceLength) * rng.IntN(2)
		if i == 0 {
			length++
		}
		leaf := dict{"length": length}
		if length > 0 {
			root, layer := merkle(rng, length, pieceLength)
			leaf["pieces root"] = root
			if length > pieceLength {
				layers[root] = layer
			}
		}
		name := fmt.Sprintf("file %d", i)
		tree[name] = dict{"": leaf}
		if gap := -stream & (pieceLength - 1); length > 0 && gap > 0 {
			files, stream = append(files, dict{"attr": "p", "length": gap, "path": []string{".pad", fmt.Sprint(gap)}}), stream+gap
		}
		files, stream = append(files, file(int64(length), name)), stream+length
		lengths = append(lengths, length)
	}
	pieces := (stream-1)/pieceLength + 1
	return bencode.Append(nil, dict{"piece layers": layers, "info": dict{"name": "root", "meta version": 2, "piece length": pieceLength,
		"file tree": tree, "files": files, "pieces": strings.Repeat("x", 20*pieces)}}), lengths
}

// merkle returns the root and the piece layer of a file with random block hashes.
func merkle(rng *rand.Rand, length, pieceLength int) (root, layer string) {
	blocks, perPiece := (length-1)>>14+1, pieceLength>>14
	width := 1
	for width < blocks {
		width *= 2
	}
	row := make([]string, width)
	for i := range row {
		row[i] = strings.Repeat("\x00", 32)
		if i < blocks {
			h := sha256.Sum256(fmt.Appendf(nil, "%d", rng.Uint64()))
			row[i] = string(h[:])
		}
	}
	for covers := 1; ; covers *= 2 {
		if covers == perPiece {
			layer = strings.Join(row[:(blocks-1)/perPiece+1], "")
		}
		if len(row) == 1 {
			return row[0], layer
		}
		var up []string
		for pair := range slices.Chunk(row, 2) {
			h := sha256.Sum256([]byte(pair[0] + pair[1]))
			up = append(up, string(h[:]))
		}
		row = up
	}
}

// Hybrids as the BEP describes them are taken; with a byte of a layer changed they are not.
func TestHybridProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		in, lengths := hybrid(rng, 1<<(14+rng.IntN(4)))
		tor := parseOK(t, in)
		var got []int
		for _, f := range tor.Files {
			if f.Pad {
				continue
			}
			got = append(got, int(f.Length))
			if f.Length > 0 && f.Offset%tor.Layout.PieceLength() != 0 {
				t.Errorf("%q begins at %d", f.Path, f.Offset)
			}
		}
		if tor.Version != "hybrid" || tor.InfoHashV2 != sha256.Sum256(tor.Info) || !slices.Equal(got, lengths) || len(tor.Warnings) > 0 {
			t.Errorf("version %s, lengths %v, want %v; warnings %q", tor.Version, got, lengths, tor.Warnings)
		}
		if strings.Contains(string(in), "12:piece layersdee") {
			continue // no file has a layer
		}
		layer := strings.Index(string(in), "12:piece layersd32:") + len("12:piece layersd32:") + 32
		layer += strings.IndexByte(string(in[layer:]), ':') + 1
		in[layer+rng.IntN(32)] ^= 1
		refused(t, in, "piece layer")
	}
}

// Links and empty files stand in both halves, and take no bytes.
func TestHybridLinks(t *testing.T) {
	leaf := func(d dict) dict { return dict{"": d} }
	root := strings.Repeat("r", 32)
	in := func(link dict) []byte {
		return bencode.Append(nil, dict{"piece layers": dict{}, "info": dict{
			"name": "root", "meta version": 2, "piece length": 16384, "pieces": strings.Repeat("x", 20),
			"files":     []any{file(5, "a"), dict{"attr": "l", "path": []string{"b"}, "symlink path": []string{"a"}}, file(0, "c")},
			"file tree": dict{"a": leaf(dict{"length": 5, "pieces root": root}), "b": leaf(link), "c": leaf(dict{"length": 0})},
		}})
	}
	for _, link := range []dict{{"attr": "l", "symlink path": []string{"a"}}, {"attr": "l", "length": 0}} {
		if tor := parseOK(t, in(link)); !slices.Equal(paths(tor), []string{"root/a", "root/c"}) {
			t.Errorf("got %q", paths(tor))
		}
	}
	refused(t, in(dict{"attr": "l", "length": 3}), "has 3 bytes")
	refused(t, in(dict{}), "no length")
}

func TestSamePath(t *testing.T) {
	for _, tt := range []struct {
		v    any
		path string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a/a", false}, {[]any{"a"}, "a", true}, {[]any{"a", "b"}, "a/b", true},
		{[]any{"a"}, "a/b", false}, {[]any{"a", "b"}, "a", false}, {[]any{"a", 1}, "a/b", false}, {[]any{}, "a", false}, {1, "a", false},
	} {
		v, err := bencode.Decode(bencode.Append(nil, tt.v))
		if err != nil {
			t.Fatal(err)
		}
		var path [][]byte
		for part := range strings.SplitSeq(tt.path, "/") {
			path = append(path, []byte(part))
		}
		if got := samePath(v, path); got != tt.want {
			t.Errorf("samePath(%v, %s) = %v", tt.v, tt.path, got)
		}
	}
}
