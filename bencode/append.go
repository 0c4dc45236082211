package bencode

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// AppendInt appends the integer n to dst.
func AppendInt(dst []byte, n int64) []byte {
	dst = append(dst, 'i')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, 'e')
}

// AppendString appends the string s to dst.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, ':')
	return append(dst, s...)
}

// Append appends the canonical encoding of v to dst: integers from any Go integer type,
// strings from string and []byte, lists from []any, []string, [][]string and []Value,
// dictionaries from map[string]any with their keys sorted, and a [Value] as its raw bytes.
//
// It panics on any other type, on an integer above the greatest int64 and on the zero Value:
// the caller chose these, no input did.
func Append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case Value:
		if v.Kind() == Invalid {
			panic("bencode: Append of the zero Value")
		}
		return append(dst, v.raw...)
	case string:
		return AppendString(dst, v)
	case []byte:
		return AppendString(dst, v)
	case []any:
		return appendList(dst, v)
	case []string:
		return appendList(dst, v)
	case [][]string:
		return appendList(dst, v)
	case []Value:
		return appendList(dst, v)
	case map[string]any:
		dst = append(dst, 'd')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			dst = Append(AppendString(dst, key), v[key])
		}
		return append(dst, 'e')
	}
	return AppendInt(dst, integer(v))
}

func appendList[T any](dst []byte, list []T) []byte {
	dst = append(dst, 'l')
	for _, v := range list {
		dst = Append(dst, v)
	}
	return append(dst, 'e')
}

// integer returns v as an int64, or panics.
func integer(v any) int64 {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case int64:
		return v
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint:
		return signed(uint64(v))
	case uint64:
		return signed(v)
	}
	panic(fmt.Sprintf("bencode: Append of a %T", v))
}

func signed(n uint64) int64 {
	if n > math.MaxInt64 {
		panic("bencode: Append of an integer that int64 cannot hold")
	}
	return int64(n)
}
