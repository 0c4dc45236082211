package piece

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
)

// A Bitfield is a set of piece indices, stored as it travels: BEP 3: "The high bit in the
// first byte corresponds to piece index 0. Bits which are not needed at the end are set to
// zero." Copies share their bits but not their count, so only one copy may be changed; see
// [Bitfield.Clone]. The zero Bitfield has room for no piece.
type Bitfield struct {
	raw   []byte // padded with zeros to a multiple of 8, for word
	n     int    // pieces there is room for
	count int    // pieces in the set
}

// NewBitfield returns an empty set with room for n pieces.
func NewBitfield(n int) Bitfield {
	return Bitfield{raw: make([]byte, (n+63)/64*8), n: n}
}

// ParseBitfield returns the set that the payload of a bitfield message states about n pieces.
// It copies raw. A payload of the wrong length, or with a spare bit set, is an error: BEP 3
// leaves such a peer no excuse.
func ParseBitfield(raw []byte, n int) (Bitfield, error) {
	if want := (n + 7) / 8; len(raw) != want {
		return Bitfield{}, fmt.Errorf("piece: bitfield of %d bytes, want %d for %d pieces", len(raw), want, n)
	}
	if spare := len(raw)*8 - n; spare > 0 && raw[len(raw)-1]&(1<<spare-1) != 0 {
		return Bitfield{}, fmt.Errorf("piece: bitfield with bits set behind its %d pieces", n)
	}
	b := NewBitfield(n)
	copy(b.raw, raw)
	for w := range b.words() {
		b.count += bits.OnesCount64(b.word(w))
	}
	return b, nil
}

// Len returns the number of pieces there is room for.
func (b Bitfield) Len() int { return b.n }

// Count returns the number of pieces in the set.
func (b Bitfield) Count() int { return b.count }

// Full reports whether every piece is in the set.
func (b Bitfield) Full() bool { return b.count == b.n }

// Empty reports whether no piece is in the set.
func (b Bitfield) Empty() bool { return b.count == 0 }

// Has reports whether piece i is in the set.
func (b Bitfield) Has(i int) bool {
	b.check(i)
	return b.raw[i>>3]&(0x80>>(i&7)) != 0
}

// Set adds piece i and reports whether that changed the set.
func (b *Bitfield) Set(i int) bool {
	if b.Has(i) {
		return false
	}
	b.raw[i>>3] |= 0x80 >> (i & 7)
	b.count++
	return true
}

// Clear removes piece i and reports whether that changed the set.
func (b *Bitfield) Clear(i int) bool {
	if !b.Has(i) {
		return false
	}
	b.raw[i>>3] &^= 0x80 >> (i & 7)
	b.count--
	return true
}

// Bytes returns the payload of a bitfield message. It aliases the set.
func (b Bitfield) Bytes() []byte {
	n := (b.n + 7) / 8
	return b.raw[:n:n]
}

// Clone returns a copy that shares nothing with b.
func (b Bitfield) Clone() Bitfield {
	c := NewBitfield(b.n)
	copy(c.raw, b.raw)
	c.count = b.count
	return c
}

// All returns the indices in the set in ascending order.
func (b Bitfield) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for w := range b.words() {
			for m := b.word(w); m != 0; {
				z := bits.LeadingZeros64(m)
				if !yield(w*64 + z) {
					return
				}
				m &^= 1 << (63 - z)
			}
		}
	}
}

// setAll adds every piece.
func (b *Bitfield) setAll() {
	for i := range b.n / 8 {
		b.raw[i] = 0xff
	}
	if spare := -b.n & 7; spare != 0 {
		b.raw[b.n/8] = 0xff << spare
	}
	b.count = b.n
}

// words returns the number of 64-bit words of the set.
func (b Bitfield) words() int { return len(b.raw) / 8 }

// word returns pieces 64*w to 64*w+63, the first in the highest bit.
func (b Bitfield) word(w int) uint64 { return binary.BigEndian.Uint64(b.raw[w*8:]) }

func (b Bitfield) check(i int) {
	if uint(i) >= uint(b.n) {
		panic(errPiece)
	}
}
