package metainfo

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
	"slices"

	"bittern/bencode"
	"bittern/piece"
)

// halves checks that the two halves of a hybrid describe the same content (BEP 52: "they
// must validate that the content (file names, order, piece alignment) is identical") and that
// the piece layers belong to the roots. A client of version 1 could do without; but who
// downloads through one half what the other says is something else has been deceived.
type halves struct {
	*parser
	pieceLength int64
	layers      bencode.Value
	known       map[[32]byte][]byte // piece layers by root
	first       []listed            // real files and links of the version 1 half, in order
}

// listed is a file as the version 1 half has it.
type listed struct {
	path   bencode.Value // a list, or a string: the only part
	length int64
	offset int64
}

func (h *halves) check(in inner) error {
	if h.pieceLength < piece.BlockSize || bits.OnesCount64(uint64(h.pieceLength)) != 1 {
		return invalid("v2: the piece length is not a power of two from 16 KiB up")
	}
	if in.tree.Kind() != bencode.Dict {
		return invalid("v2: no file tree")
	}
	h.list(in)
	h.known = make(map[[32]byte][]byte)
	for root, layer := range h.layers.Dict() {
		if b, ok := layer.Bytes(); ok && len(root) == 32 {
			h.known[[32]byte(root)] = b
		}
	}
	if h.layers.Kind() == bencode.Invalid && !h.bare {
		h.warn("the piece layers are missing, so the v2 half is of no use; the v1 half is used")
	}
	if err := h.folder(in.tree, nil); err != nil {
		return err
	}
	if len(h.first) > 0 {
		return invalid("v2: the file tree has fewer files than the v1 list")
	}
	return nil
}

// list notes the files of the version 1 half, padding left out.
func (h *halves) list(in inner) {
	if !h.Folder {
		h.first = []listed{{path: in.name, length: h.Layout.Total()}}
		return
	}
	h.first = make([]listed, 0, len(h.Files))
	offset := int64(0)
	var e entry
	for v := range in.files.List() {
		e.read(v)
		n, _ := e.length.Int()
		if !attrs(e.attr).pad {
			h.first = append(h.first, listed{e.path, n, offset})
		}
		offset += n
	}
}

// folder walks a dictionary of the file tree; path leads to it. Bencoding's own limit on
// depth bounds the recursion.
func (h *halves) folder(dir bencode.Value, path [][]byte) error {
	for name, v := range dir.Dict() {
		if v.Kind() != bencode.Dict {
			return invalid("v2: an entry of the file tree is not a dictionary")
		}
		if len(name) == 0 {
			return invalid("v2: a file of the file tree stands where a folder does")
		}
		below := append(path, name)
		var err error
		// The empty key sorts first; where it stands later the tree is refused one level below.
		if !bytes.HasPrefix(v.Raw(), []byte("d0:")) {
			err = h.folder(v, below)
		} else if v.Len() > 1 {
			err = invalid("v2: a file of the file tree has siblings inside it")
		} else {
			err = h.file(v.Get(""), below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file checks a leaf of the file tree against the next file of the version 1 half.
func (h *halves) file(v bencode.Value, path [][]byte) error {
	length, ok := v.Get("length").Int()
	if link := attrs(v.Get("attr")).link; (!ok && !link) || length < 0 {
		return invalid("v2: a file of the file tree has no length")
	}
	if len(h.first) == 0 {
		return invalid("v2: the file tree has more files than the v1 list")
	}
	first := h.first[0]
	h.first = h.first[1:]
	shown := quote(string(bytes.Join(path, []byte("/"))))
	switch {
	case !samePath(first.path, path):
		return invalid("v2: %s is not the file that stands there in the v1 list", shown)
	case first.length != length:
		return invalid("v2: %s has %d bytes, %d in the v1 list", shown, length, first.length)
	case length > 0 && first.offset%h.pieceLength != 0:
		return invalid("v2: %s does not begin with a piece in the v1 half", shown)
	case length == 0:
		return nil
	}
	root, _ := v.Get("pieces root").Bytes()
	if len(root) != sha256.Size {
		return invalid("v2: %s has no pieces root of 32 bytes", shown)
	}
	if length <= h.pieceLength || h.layers.Kind() == bencode.Invalid {
		return nil
	}
	layer, ok := h.known[[32]byte(root)]
	pieces := (length-1)/h.pieceLength + 1
	if !ok || int64(len(layer)) != pieces*sha256.Size || layerRoot(layer, h.pieceLength) != [32]byte(root) {
		return invalid("v2: the piece layer of %s does not belong to its root", shown)
	}
	return nil
}

// samePath reports whether v, a list of strings or one string, is path.
func samePath(v bencode.Value, path [][]byte) bool {
	if b, ok := v.Bytes(); ok {
		return len(path) == 1 && bytes.Equal(b, path[0])
	}
	for part := range v.List() {
		b, ok := part.Bytes()
		if !ok || len(path) == 0 || !bytes.Equal(b, path[0]) {
			return false
		}
		path = path[1:]
	}
	return len(path) == 0
}

// layerRoot returns the root of the hash tree above a piece layer: hashes missing to a power
// of two are those of a piece whose blocks all have the hash zero (BEP 52: "The remaining
// leaf hashes beyond the end of the file […] are set to zero").
func layerRoot(layer []byte, pieceLength int64) [32]byte {
	var pad [32]byte
	for n := pieceLength / piece.BlockSize; n > 1; n /= 2 {
		pad = pair(pad[:], pad[:])
	}
	row := slices.Clone(layer)
	for len(row) > sha256.Size {
		if len(row)/sha256.Size%2 == 1 {
			row = append(row, pad[:]...)
		}
		for i := 0; i < len(row); i += 2 * sha256.Size {
			up := pair(row[i:i+sha256.Size], row[i+sha256.Size:i+2*sha256.Size])
			copy(row[i/2:], up[:])
		}
		row, pad = row[:len(row)/2], pair(pad[:], pad[:])
	}
	return [32]byte(row)
}

// pair returns the hash above two hashes.
func pair(a, b []byte) [32]byte {
	var both [2 * sha256.Size]byte
	copy(both[:], a)
	copy(both[sha256.Size:], b)
	return sha256.Sum256(both[:])
}
