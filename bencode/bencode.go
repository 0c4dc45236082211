// Package bencode reads and writes the encoding of BEP 3 over byte slices.
//
// A document is checked once, whole, by one of the Decode functions; what they return is a
// [Value], a span of the caller's bytes with no tree behind it and nothing copied. Reading a
// Value walks that span again, which is cheaper than building a tree that is read once, and
// keeps the raw bytes at hand that info-hashes rest on.
//
// There are two modes. Canonical ([Decode]) takes only what an encoder that follows BEP 3 to
// the letter writes: keys sorted and unique, no leading zeros, no "-0", nothing behind the
// value. Of each value it takes exactly one spelling, so decoding and encoding again is the
// identity. Tolerant ([DecodeTolerant], [DecodePrefix]) takes what programs in the field
// write as well: keys in any order, keys twice (the first wins, everywhere), integers with
// leading zeros or as "-0", and one newline behind the value.
//
// Both refuse integers outside int64 and are bounded in depth, size and number of elements by
// [Limits]. A length is compared with what is left of the input before it is used, and
// neither mode allocates: memory use does not depend on the input.
//
// The package is pure: no I/O, goroutine, lock or clock. Values may be read concurrently as
// long as nobody writes to the bytes they alias.
package bencode

import "fmt"

// A Kind says what a [Value] is.
type Kind uint8

// The kinds of BEP 3, and Invalid for the zero [Value].
const (
	Invalid Kind = iota
	Int
	String
	List
	Dict
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	switch k {
	case Int:
		return "integer"
	case String:
		return "string"
	case List:
		return "list"
	case Dict:
		return "dictionary"
	}
	return "invalid"
}

// Defaults and ceilings of [Limits].
const (
	DefaultDepth  = 100       // containers inside one another
	DefaultTokens = 3_000_000 // values and keys
	DefaultSize   = 64 << 20  // bytes
	maxDepth      = 1000      // bounds the recursion whatever a caller asks for
)

// Limits bound what a document may be. The zero value is usable.
type Limits struct {
	Depth  int // containers inside one another; 0 means [DefaultDepth], more than 1000 means 1000
	Tokens int // values and dictionary keys in all; 0 means [DefaultTokens]
	Size   int // bytes of the value; 0 means [DefaultSize]
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = DefaultDepth
	}
	if l.Tokens <= 0 {
		l.Tokens = DefaultTokens
	}
	if l.Size <= 0 {
		l.Size = DefaultSize
	}
	l.Depth = min(l.Depth, maxDepth)
	return l
}

// A SyntaxError reports input that is not bencoding, or not within the limits.
type SyntaxError struct {
	Offset int64  // of the byte that cannot stand there
	Reason string // lower case, no full stop, never a part of the input
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("bencode: byte %d: %s", e.Offset, e.Reason)
}

// Decode checks that in is one canonical value within the default limits and returns it.
// The value aliases in. The error is a *[SyntaxError].
func Decode(in []byte) (Value, error) {
	v, rest, err := decode(in, Limits{}, true)
	if err != nil {
		return Value{}, err
	}
	if len(rest) > 0 {
		return Value{}, trailing(in, rest)
	}
	return v, nil
}

// DecodeTolerant checks that in is one value, with at most one newline (LF or CR LF) behind
// it, and returns the value. It aliases in. The error is a *[SyntaxError].
func DecodeTolerant(in []byte, lim Limits) (Value, error) {
	v, rest, err := decode(in, lim, false)
	if err != nil {
		return Value{}, err
	}
	if s := string(rest); len(rest) <= 2 && (s == "" || s == "\n" || s == "\r\n") {
		return v, nil
	}
	return Value{}, trailing(in, rest)
}

// DecodePrefix checks that in begins with a value and returns that and the bytes behind it;
// both alias in. Metadata messages (BEP 9) carry data behind a dictionary. The error is a
// *[SyntaxError].
func DecodePrefix(in []byte, lim Limits) (v Value, rest []byte, err error) {
	return decode(in, lim, false)
}

func trailing(in, rest []byte) error {
	return &SyntaxError{Offset: int64(len(in) - len(rest)), Reason: "data after the value"}
}

func decode(in []byte, lim Limits, canonical bool) (Value, []byte, error) {
	lim = lim.withDefaults()
	s := scanner{in: in, depth: lim.Depth, tokens: lim.Tokens, canonical: canonical}
	end, reason := s.value(0)
	if reason != "" {
		return Value{}, nil, &SyntaxError{Offset: int64(end), Reason: reason}
	}
	if end > lim.Size {
		return Value{}, nil, &SyntaxError{Offset: int64(lim.Size), Reason: "value too large"}
	}
	return Value{raw: in[:end:end]}, in[end:], nil
}
