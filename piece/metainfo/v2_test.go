package metainfo

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"

	"bittern/bencode"
)

// goValue returns v as maps, slices, strings and integers, to be edited and encoded again.
func goValue(v bencode.Value) any {
	switch v.Kind() {
	case bencode.Int:
		n, _ := v.Int()
		return n
	case bencode.String:
		s, _ := v.Text()
		return s
	case bencode.List:
		list := []any{}
		for e := range v.List() {
			list = append(list, goValue(e))
		}
		return list
	}
	d := dict{}
	for key, e := range v.Dict() {
		d[string(key)] = goValue(e)
	}
	return d
}

// edited returns a torrent of testdata as edit changes it.
func edited(t *testing.T, name string, edit func(top, info dict)) []byte {
	t.Helper()
	in, err := os.ReadFile("testdata/" + name + ".torrent")
	if err != nil {
		t.Fatal(err)
	}
	v, err := bencode.Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	top := goValue(v).(dict)
	edit(top, top["info"].(dict))
	return bencode.Append(nil, top)
}

// The two halves of a hybrid have to agree, and the layers to belong to the roots.
func TestHybridMismatch(t *testing.T) {
	tree := func(info dict) dict { return info["file tree"].(dict) }
	leaf := func(info dict, path ...string) dict {
		d := tree(info)
		for _, name := range path {
			d = d[name].(dict)
		}
		return d[""].(dict)
	}
	track := []string{"disc 1", "01 Größe.flac"}
	files := func(info dict) []any { return info["files"].([]any) }
	for _, tt := range []struct {
		name   string
		edit   func(top, info dict)
		reason string
	}{
		{"no tree", func(_, i dict) { delete(i, "file tree") }, "no file tree"},
		{"tree of another kind", func(_, i dict) { i["file tree"] = []any{} }, "no file tree"},
		{"empty tree", func(_, i dict) { i["file tree"] = dict{} }, "fewer files"},
		{"tree that is a file", func(_, i dict) { tree(i)[""] = dict{"length": 1} }, "stands where a folder does"},
		{"entry of another kind", func(_, i dict) { tree(i)["one"] = 1 }, "not a dictionary"},
		{"leaf with siblings", func(_, i dict) { tree(i)["one"].(dict)["x"] = dict{} }, "siblings"},
		{"leaf of another kind", func(_, i dict) { tree(i)["one"].(dict)[""] = "x" }, "no length"},
		{"leaf without length", func(_, i dict) { delete(leaf(i, "one"), "length") }, "no length"},
		{"negative length", func(_, i dict) { leaf(i, "one")["length"] = -1 }, "no length"},
		{"another length", func(_, i dict) { leaf(i, "one")["length"] = 2 }, `"one" has 2 bytes, 1 in the v1 list`},
		{"another name", func(_, i dict) { tree(i)["onf"] = tree(i)["one"]; delete(tree(i), "one") }, `"onf" is not the file`},
		{"a folder more", func(_, i dict) { tree(i)["one"] = dict{"one": tree(i)["one"]} }, `"one/one" is not the file`},
		{"a file more", func(_, i dict) { tree(i)["two"] = dict{"": dict{"length": 0}} }, "more files"},
		{"a file less", func(_, i dict) { delete(tree(i), "one") }, "fewer files"},
		{"climbing path", func(_, i dict) { tree(i)[".."] = tree(i)["one"]; delete(tree(i), "one") }, "is not the file"},
		{"another order", func(_, i dict) { f := files(i); f[0], f[2] = f[2], f[0] }, "is not the file"},
		{"no root", func(_, i dict) { delete(leaf(i, "one"), "pieces root") }, "no pieces root"},
		{"short root", func(_, i dict) { leaf(i, "one")["pieces root"] = "x" }, "no pieces root"},
		{"another root", func(_, i dict) { leaf(i, track...)["pieces root"] = strings.Repeat("x", 32) }, "does not belong to its root"},
		{"layer too short", func(top, _ dict) {
			for root, l := range top["piece layers"].(dict) {
				top["piece layers"].(dict)[root] = l.(string)[32:]
			}
		}, "does not belong to its root"},
		{"layer changed", func(top, _ dict) {
			for root, l := range top["piece layers"].(dict) {
				top["piece layers"].(dict)[root] = "x" + l.(string)[1:]
			}
		}, "does not belong to its root"},
		{"layers empty", func(top, _ dict) { top["piece layers"] = dict{} }, "does not belong to its root"},
		{"layers of another kind", func(top, _ dict) { top["piece layers"] = "x" }, "does not belong to its root"},
		{"not aligned", func(_, i dict) {
			pad := files(i)[1].(dict)
			files(i)[6].(dict)["length"] = files(i)[6].(dict)["length"].(int64) + 1
			pad["length"] = pad["length"].(int64) - 1
		}, "does not begin with a piece"},
		{"odd piece length", func(_, i dict) { i["piece length"], i["pieces"] = 16385, strings.Repeat("x", 180) }, "power of two"},
		{"small piece length", func(_, i dict) { i["piece length"], i["pieces"] = 8192, strings.Repeat("x", 360) }, "power of two"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, edited(t, "libtorrent-hybrid", tt.edit), tt.reason) })
	}
	t.Run("single file", func(t *testing.T) {
		refused(t, edited(t, "libtorrent-hybrid-single", func(_, i dict) { i["name"] = "other" }), `"single.bin" is not the file`)
	})
}

// Without the layers, the version 1 half still works.
func TestHybridWithoutLayers(t *testing.T) {
	tor := parseOK(t, edited(t, "libtorrent-hybrid", func(top, _ dict) { delete(top, "piece layers") }))
	if len(tor.Warnings) != 1 || tor.Version != "hybrid" {
		t.Errorf("version %s, warnings %q", tor.Version, tor.Warnings)
	}
}

// What has no version 1 half is said to be so, however broken the rest is.
func TestV2OnlyBeforeAnythingElse(t *testing.T) {
	in := edited(t, "libtorrent-v2", func(_, i dict) { i["name"], i["piece length"] = "..", 0 })
	if _, err := Parse(in); !errors.Is(err, ErrV2Only) {
		t.Errorf("got %v", err)
	}
}

// layerRoot against a tree built the slow way, from blocks.
func TestLayerRoot(t *testing.T) {
	hashRow := func(row [][]byte) [][]byte {
		var up [][]byte
		for i := 0; i < len(row); i += 2 {
			h := sha256.Sum256(append(bytes.Clone(row[i]), row[i+1]...))
			up = append(up, h[:])
		}
		return up
	}
	for blocks := 1; blocks <= 37; blocks++ {
		for _, perPiece := range []int{1, 2, 4, 8} {
			width := 1 // of the leaves: a power of two, one piece at least
			for width < blocks || width < perPiece {
				width *= 2
			}
			row := make([][]byte, width)
			for i := range row {
				row[i] = make([]byte, 32) // "set to zero"
				if i < blocks {
					h := sha256.Sum256([]byte{byte(i)})
					row[i] = h[:]
				}
			}
			var layer []byte
			for n := perPiece; len(row) >= 1; n /= 2 {
				if n == 1 {
					layer = bytes.Join(row[:(blocks+perPiece-1)/perPiece], nil)
				}
				if len(row) == 1 {
					break
				}
				row = hashRow(row)
			}
			if got := layerRoot(layer, int64(perPiece)<<14); !bytes.Equal(got[:], row[0]) {
				t.Errorf("%d blocks, %d in a piece: got %x, want %x", blocks, perPiece, got, row[0])
			}
		}
	}
}
