package storage

import (
	"slices"
	"sort"

	"bittern/piece"
)

// A volume maps the torrent's byte stream to its files. It never changes.
type volume struct {
	layout piece.Layout
	files  []File
	start  []int64 // offset of each file in the stream, and the total
	shared []int32 // pieces that touch two files or more, padding and empty files not counted
}

func newVolume(layout piece.Layout, files []File) *volume {
	v := &volume{layout: layout, files: files, start: make([]int64, len(files)+1)}
	last := -1 // piece in which the previous file ends
	for i, f := range files {
		v.start[i+1] = v.start[i] + f.Length
		if f.Pad || f.Length == 0 {
			continue
		}
		lo, hi := v.pieces(i)
		if lo == last && (len(v.shared) == 0 || v.shared[len(v.shared)-1] != int32(lo)) {
			v.shared = append(v.shared, int32(lo))
		}
		last = hi
	}
	return v
}

// pieces returns the first and the last piece that a file, which must not be empty, touches.
func (v *volume) pieces(file int) (lo, hi int) {
	n := v.layout.PieceLength()
	return int(v.start[file] / n), int((v.start[file+1] - 1) / n)
}

// inside reports whether all of a piece lies in one file.
func (v *volume) inside(p, file int) bool {
	at := v.layout.Offset(p)
	return v.start[file] <= at && at+v.layout.PieceSize(p) <= v.start[file+1]
}

// slot returns the place of a shared piece in the side file, which has room for every shared
// piece whatever is selected, so that its layout outlives a change of the selection.
func (v *volume) slot(p int) (int64, bool) {
	i, ok := slices.BinarySearch(v.shared, int32(p))
	return int64(i) * v.layout.PieceLength(), ok
}

// A cut walks over the files that a range of a piece touches:
//
//	for c := v.cut(p, begin, n); c.next(); { … c.file, c.off, c.n, c.at … }
//
// It is a value and not an iterator because it runs once a slab and must not allocate.
type cut struct {
	v        *volume
	pos, end int64 // what is left, in the stream
	from     int64 // where the range began
	file     int
	off, n   int64 // the part of the range that lies in file: offset there and length, in bytes
	at       int64 // where that part begins in the range
}

func (v *volume) cut(p int, begin, n int64) cut {
	pos := v.layout.Offset(p) + begin
	// The first file that ends behind pos: an empty one never does so before its successor.
	file := sort.Search(len(v.files), func(i int) bool { return v.start[i+1] > pos })
	return cut{v: v, pos: pos, end: pos + n, from: pos, file: file - 1}
}

func (c *cut) next() bool {
	if c.pos >= c.end {
		return false
	}
	c.file++
	for c.v.files[c.file].Length == 0 {
		c.file++
	}
	c.off = c.pos - c.v.start[c.file]
	c.at = c.pos - c.from
	c.n = min(c.end, c.v.start[c.file+1]) - c.pos
	c.pos += c.n
	return true
}

// pad reports whether the current part is padding.
func (c *cut) pad() bool { return c.v.files[c.file].Pad }
