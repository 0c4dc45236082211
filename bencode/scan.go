package bencode

import (
	"bytes"
	"math"
)

// Reasons that more than one place gives.
const (
	cutShort = "unexpected end of input"
	tooMany  = "too many elements"
)

// A scanner checks a document. Its methods take the offset where something should begin and
// return the offset behind it; or, with a reason, the offset of the byte at fault. The reason
// is a constant string and not an error so that nothing is allocated on the way up.
type scanner struct {
	in        []byte
	depth     int // containers that may still be opened inside one another
	tokens    int // values and keys that may still come
	canonical bool
}

// value checks the value at i. It recurses once a container: Limits bounds that, so that a
// million brackets cannot exhaust the stack (which is fatal in Go and cannot be recovered).
func (s *scanner) value(i int) (end int, reason string) {
	if i >= len(s.in) {
		return i, cutShort
	}
	if s.tokens--; s.tokens < 0 {
		return i, tooMany
	}
	switch c := s.in[i]; {
	case c >= '0' && c <= '9':
		_, end, reason = text(s.in, i)
		return end, reason
	case c == 'i':
		return s.integer(i + 1)
	case c != 'l' && c != 'd':
		return i, "not the start of a value"
	case s.depth == 0:
		return i, "nested too deeply"
	case c == 'l':
		return s.list(i + 1)
	}
	return s.dict(i + 1)
}

// list checks the elements at i up to and with the 'e'.
func (s *scanner) list(i int) (end int, reason string) {
	s.depth--
	for i < len(s.in) && s.in[i] != 'e' {
		if i, reason = s.value(i); reason != "" {
			return i, reason
		}
	}
	s.depth++
	if i >= len(s.in) {
		return i, cutShort
	}
	return i + 1, ""
}

// dict checks the keys and values at i up to and with the 'e'.
func (s *scanner) dict(i int) (end int, reason string) {
	s.depth--
	var last []byte // nil before the first key
	for i < len(s.in) && s.in[i] != 'e' {
		if s.tokens--; s.tokens < 0 {
			return i, tooMany
		}
		from, behind, reason := text(s.in, i)
		if reason != "" {
			return behind, reason
		}
		if s.canonical {
			key := s.in[from:behind]
			if last != nil && bytes.Compare(last, key) >= 0 {
				return i, "keys not sorted, or one twice"
			}
			last = key
		}
		if i, reason = s.value(behind); reason != "" {
			return i, reason
		}
	}
	s.depth++
	if i >= len(s.in) {
		return i, cutShort
	}
	return i + 1, ""
}

// text checks the string at i and says where its bytes begin and end. The length is compared
// with what is left at every digit, so no number of digits overflows it.
func text(in []byte, i int) (from, end int, reason string) {
	start, n := i, int64(0)
	for ; i < len(in) && in[i] >= '0' && in[i] <= '9'; i++ {
		if i > start && n == 0 {
			return 0, start, "length with a leading zero"
		}
		if n = n*10 + int64(in[i]-'0'); n > int64(len(in)-i) {
			return 0, start, "string longer than the input"
		}
	}
	switch {
	case i >= len(in):
		return 0, i, cutShort
	case i == start:
		return 0, i, "a key must be a string"
	case in[i] != ':':
		return 0, i, "length without a colon"
	case n > int64(len(in)-i-1):
		return 0, start, "string longer than the input"
	}
	return i + 1, i + 1 + int(n), ""
}

// integer checks the digits at i up to and with the 'e'.
func (s *scanner) integer(i int) (end int, reason string) {
	_, end, reason = number(s.in, i)
	if reason != "" || !s.canonical {
		return end, reason
	}
	digits := s.in[i : end-1]
	switch {
	case digits[0] == '-' && digits[1] == '0':
		return i, "integer with a leading zero, or -0"
	case digits[0] == '0' && len(digits) > 1:
		return i, "integer with a leading zero"
	}
	return end, ""
}

// number reads the integer whose sign or first digit is at i, up to and with the 'e'.
func number(in []byte, i int) (n int64, end int, reason string) {
	start, most := i, uint64(math.MaxInt64)
	if i < len(in) && in[i] == '-' {
		i, most = i+1, most+1
	}
	first, u := i, uint64(0)
	for ; i < len(in) && in[i] >= '0' && in[i] <= '9'; i++ {
		d := uint64(in[i] - '0')
		if u > (most-d)/10 {
			return 0, start, "integer out of range"
		}
		u = u*10 + d
	}
	switch {
	case i >= len(in):
		return 0, i, cutShort
	case i == first, in[i] != 'e':
		return 0, i, "not an integer"
	case most > math.MaxInt64:
		return -int64(u), i + 1, "" // -int64(1<<63) is the least int64
	}
	return int64(u), i + 1, ""
}

// skip returns the offset behind the value at i of input that was checked. It keeps no stack:
// in checked input, counting what is open is enough.
func skip(in []byte, i int) int {
	for open := 0; ; {
		switch in[i] {
		case 'e':
			i, open = i+1, open-1
		case 'l', 'd':
			i, open = i+1, open+1
		case 'i':
			i += bytes.IndexByte(in[i:], 'e') + 1
		default:
			_, i = span(in, i)
		}
		if open == 0 {
			return i
		}
	}
}

// span is text for input that was checked.
func span(in []byte, i int) (from, end int) {
	n := 0
	for ; in[i] != ':'; i++ {
		n = n*10 + int(in[i]-'0')
	}
	return i + 1, i + 1 + n
}
