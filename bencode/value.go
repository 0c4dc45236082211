package bencode

import (
	"bytes"
	"iter"
	"slices"
)

// A Value is one value of a document that was checked: a span of the caller's bytes, valid
// while these are not changed. The zero Value has kind [Invalid]; every method answers for it
// as for a value of the wrong kind, so lookups can be chained without a check at each step.
type Value struct{ raw []byte }

// Kind says what v is.
func (v Value) Kind() Kind {
	if len(v.raw) == 0 {
		return Invalid
	}
	switch v.raw[0] {
	case 'i':
		return Int
	case 'l':
		return List
	case 'd':
		return Dict
	}
	return String
}

// Raw returns v as it stands in the input, which it aliases; nil for the zero Value.
func (v Value) Raw() []byte { return v.raw }

// Int returns the number of an integer.
func (v Value) Int() (int64, bool) {
	if v.Kind() != Int {
		return 0, false
	}
	n, _, _ := number(v.raw, 1)
	return n, true
}

// Bytes returns the bytes of a string, which alias the input.
func (v Value) Bytes() ([]byte, bool) {
	if v.Kind() != String {
		return nil, false
	}
	from, end := span(v.raw, 0)
	return v.raw[from:end:end], true
}

// Text returns a copy of the bytes of a string. They need not be UTF-8.
func (v Value) Text() (string, bool) {
	b, ok := v.Bytes()
	return string(b), ok
}

// List yields the elements of a list, and nothing for another kind.
func (v Value) List() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != List {
			return
		}
		for i := 1; v.raw[i] != 'e'; {
			end := skip(v.raw, i)
			if !yield(Value{v.raw[i:end:end]}) {
				return
			}
			i = end
		}
	}
}

// Dict yields the keys and values of a dictionary in the order of the input, and nothing for
// another kind. Of a key that stands there twice it yields the first only. Keys alias the
// input. Time is linear while keys are sorted, n log n otherwise.
func (v Value) Dict() iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) { v.entries(yield) }
}

func (v Value) entries(yield func([]byte, Value) bool) {
	if v.Kind() != Dict {
		return
	}
	var again []int // offsets of keys that stood before, ascending
	var last []byte
	sorted := true
	for i := 1; v.raw[i] != 'e'; {
		from, behind := span(v.raw, i)
		key, end := v.raw[from:behind:behind], skip(v.raw, behind)
		// While keys ascend none stands twice. The first that does not ascend has all looked at,
		// and what that finds lies here or later.
		if sorted && last != nil && bytes.Compare(last, key) >= 0 {
			sorted, again = false, v.repeated()
		}
		last = key
		if len(again) > 0 && again[0] == i {
			again = again[1:]
		} else if !yield(key, Value{v.raw[behind:end:end]}) {
			return
		}
		i = end
	}
}

// repeated returns the offsets of the keys of a dictionary that stood before, ascending.
// It sorts offsets and keeps no map: 8 bytes a key, and an entry has 4 bytes at least.
func (v Value) repeated() []int {
	var at []int
	for i := 1; v.raw[i] != 'e'; {
		at = append(at, i)
		_, behind := span(v.raw, i)
		i = skip(v.raw, behind)
	}
	key := func(i int) []byte {
		from, end := span(v.raw, i)
		return v.raw[from:end]
	}
	slices.SortFunc(at, func(a, b int) int {
		if c := bytes.Compare(key(a), key(b)); c != 0 {
			return c
		}
		return a - b
	})
	n := 0
	for k := 1; k < len(at); k++ { // at[k-1] is not overwritten yet: n is less than k
		if bytes.Equal(key(at[k-1]), key(at[k])) {
			at[n], n = at[k], n+1
		}
	}
	again := at[:n]
	slices.Sort(again)
	return again
}

// Get returns the value of key, the first if it stands there twice; the zero Value when there
// is none or v is not a dictionary.
func (v Value) Get(key string) Value {
	if v.Kind() != Dict {
		return Value{}
	}
	for i := 1; v.raw[i] != 'e'; {
		from, behind := span(v.raw, i)
		end := skip(v.raw, behind)
		if string(v.raw[from:behind]) == key {
			return Value{v.raw[behind:end:end]}
		}
		i = end
	}
	return Value{}
}

// Len returns the number of bytes of a string, of elements of a list, of distinct keys of a
// dictionary; 0 for another kind. It walks lists and dictionaries.
func (v Value) Len() int {
	n := 0
	switch v.Kind() {
	case String:
		from, end := span(v.raw, 0)
		return end - from
	case List:
		for range v.List() {
			n++
		}
	case Dict:
		for range v.Dict() {
			n++
		}
	}
	return n
}
