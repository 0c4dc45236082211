// Package piece decides which blocks of a torrent to ask for next.
//
// A torrent's bytes form one stream, cut into equal pieces (the last may be short) and each
// piece into blocks of [BlockSize] bytes, the unit of a request (BEP 3). [Layout] is that
// arithmetic, [Bitfield] a set of pieces as it travels on the wire, and [Scheduler] knows
// which blocks are wanted, asked for, stored or verified, and who has them.
//
// The package is pure: no I/O, goroutine, lock or clock. Callers serialise access and pass in
// the random source. Numbers from a peer are checked once, where a message enters
// ([Layout.IsBlock], [Layout.Fits], [ParseBitfield]); elsewhere a bad index panics, because
// it is our bug and not the peer's.
package piece

import (
	"errors"
	"fmt"
)

// BlockSize is the length in bytes of every block but the last of a piece. BEP 3: "All current
// implementations use 2^14 (16 kiB), and close connections which request an amount greater
// than that."
const BlockSize = 16 << 10

const (
	// MaxPieces is the largest number of pieces a [Layout] has: as many as 2 PiB have
	// with pieces of 1 GiB, and a bitfield of 256 KiB.
	MaxPieces = 1 << 21
	// MaxPieceLength is the largest piece length in bytes. Offsets within a piece travel in
	// 32 bits (BEP 3), of which many clients keep one for a sign.
	MaxPieceLength = 1<<31 - 1
	// MaxRequest is the largest request in bytes that we serve. It is what most clients
	// accept, above the BlockSize they all ask for.
	MaxRequest = 128 << 10
)

// A Block is a range of bytes within one piece: exactly the fields of a request message (BEP 3).
type Block struct {
	Piece  uint32 // index of the piece
	Begin  uint32 // offset within the piece, bytes
	Length uint32 // bytes
}

// A Layout is the cutting of a torrent's stream of bytes into pieces and blocks. It is an
// immutable value, cheap to copy; the zero Layout has no pieces.
type Layout struct {
	total  int64 // bytes
	length int64 // of every piece but the last, bytes
	pieces int
}

// NewLayout returns the layout of total bytes cut into pieces of pieceLength bytes. It refuses
// a negative total, a pieceLength outside 1 to [MaxPieceLength] and more than [MaxPieces]
// pieces. A total of zero gives no pieces.
func NewLayout(total, pieceLength int64) (Layout, error) {
	switch {
	case total < 0:
		return Layout{}, fmt.Errorf("piece: total length %d is negative", total)
	case pieceLength < 1 || pieceLength > MaxPieceLength:
		return Layout{}, fmt.Errorf("piece: piece length %d is not between 1 and %d", pieceLength, MaxPieceLength)
	}
	n := total / pieceLength
	if total%pieceLength != 0 {
		n++
	}
	if n > MaxPieces {
		return Layout{}, fmt.Errorf("piece: %d pieces are more than %d", n, MaxPieces)
	}
	return Layout{total: total, length: pieceLength, pieces: int(n)}, nil
}

// Total returns the length of the stream in bytes.
func (l Layout) Total() int64 { return l.total }

// PieceLength returns the length in bytes of every piece but the last.
func (l Layout) PieceLength() int64 { return l.length }

// Pieces returns the number of pieces.
func (l Layout) Pieces() int { return l.pieces }

// Offset returns where piece i begins in the stream, in bytes.
func (l Layout) Offset(i int) int64 {
	l.check(i)
	return int64(i) * l.length
}

// PieceSize returns the length of piece i in bytes; only the last may be shorter than
// [Layout.PieceLength].
func (l Layout) PieceSize(i int) int64 {
	return min(l.length, l.total-l.Offset(i))
}

// Blocks returns the number of blocks of piece i.
func (l Layout) Blocks(i int) int {
	return int((l.PieceSize(i) + BlockSize - 1) / BlockSize)
}

// BlockAt returns block n of piece i; only the last of a piece may be shorter than [BlockSize].
func (l Layout) BlockAt(i, n int) Block {
	begin, size := int64(n)*BlockSize, l.PieceSize(i)
	if n < 0 || begin >= size {
		panic(errBlock)
	}
	return Block{uint32(i), uint32(begin), uint32(min(BlockSize, size-begin))}
}

// Number returns which block of its piece b is, counted from zero.
func (l Layout) Number(b Block) int { return int(b.Begin / BlockSize) }

// Fits reports whether b is a range that may be served: 1 to [MaxRequest] bytes, all in one
// piece. Its ends need not be those of a block.
func (l Layout) Fits(b Block) bool {
	if int64(b.Piece) >= int64(l.pieces) || b.Length < 1 || b.Length > MaxRequest {
		return false
	}
	return int64(b.Begin)+int64(b.Length) <= l.PieceSize(int(b.Piece))
}

// IsBlock reports whether b is exactly one block of the layout: what we ask for, and thus
// what we accept.
func (l Layout) IsBlock(b Block) bool {
	if int64(b.Piece) >= int64(l.pieces) || b.Begin%BlockSize != 0 {
		return false
	}
	rest := l.PieceSize(int(b.Piece)) - int64(b.Begin)
	return rest > 0 && int64(b.Length) == min(BlockSize, rest)
}

// errPiece and errBlock are what a bad index panics with.
var (
	errPiece = errors.New("piece: piece index out of range")
	errBlock = errors.New("piece: block out of range")
)

func (l Layout) check(i int) {
	if uint(i) >= uint(l.pieces) {
		panic(errPiece)
	}
}
