package bencode

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	oracle "github.com/jackpal/bencode-go"
)

var seeds = []string{
	"i0e", "i-0e", "i03e", "i-9223372036854775808e", "4:spam", "0:", "le", "de", "l4:spami-7elee",
	"d3:cow3:moo4:spam4:eggse", "d1:bi1e1:ai2e1:bi3ee", "d0:0:e", "i1e\n", "lllleeee", "9223372036854775807:",
}

func addSeeds(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	files, err := filepath.Glob("testdata/*.ben")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		in, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
}

// tree is v as Go values, in the types of the oracle.
func tree(v Value) any {
	switch v.Kind() {
	case Int:
		n, _ := v.Int()
		return n
	case String:
		s, _ := v.Text()
		return s
	case List:
		list := []any{}
		for e := range v.List() {
			list = append(list, tree(e))
		}
		return list
	}
	dict := map[string]any{}
	for key, e := range v.Dict() {
		dict[string(key)] = tree(e)
	}
	return dict
}

// same compares our tree with the oracle's, which has several integer types.
func same(ours, theirs any) bool {
	switch a := ours.(type) {
	case int64:
		switch b := theirs.(type) {
		case int64:
			return a == b
		case uint64:
			return a >= 0 && uint64(a) == b
		}
		return false
	case string:
		b, ok := theirs.(string)
		return ok && a == b
	case []any:
		b, ok := theirs.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := theirs.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			if !same(a[key], b[key]) {
				return false
			}
		}
		return true
	}
	return false
}

// FuzzDecode: what Decode accepts has one spelling (info-hashes rest on it): taken apart and
// put together again it is the same bytes. And an independent decoder reads the same value.
func FuzzDecode(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := Decode(in)
		if err != nil {
			return
		}
		ours := tree(v)
		if out := Append(nil, ours); !bytes.Equal(out, in) {
			t.Errorf("%q became %q", in, out)
		}
		theirs, err := oracle.Decode(bytes.NewReader(in))
		if err != nil || !same(ours, theirs) {
			t.Errorf("%q: ours %v, oracle's %v (%v)", in, ours, theirs, err)
		}
		if w, err := DecodeTolerant(in, Limits{}); err != nil || !bytes.Equal(w.Raw(), in) {
			t.Errorf("%q: canonical, but tolerant says %v", in, err)
		}
	})
}

// FuzzTolerant: what is accepted can be walked whole; encoded again canonically it is a
// canonical document of the same meaning; the raw span and the rest are the input; and
// neither checking nor walking takes more than a small multiple of the input.
func FuzzTolerant(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, rest, err := DecodePrefix(in, Limits{})
		walk(v)
		runtime.ReadMemStats(&after)
		// The constant is for what else runs in a fuzzing process.
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(16*len(in)+256<<10) {
			t.Errorf("%d bytes for %d of input", n, len(in))
		}
		if err != nil {
			return
		}
		if !bytes.Equal(append(bytes.Clone(v.Raw()), rest...), in) {
			t.Errorf("%q came apart as %q and %q", in, v.Raw(), rest)
		}
		again, err := Decode(Append(nil, tree(v)))
		if err != nil || !same(tree(v), tree(again)) {
			t.Errorf("%q encoded canonically is not canonical, or another value: %v", in, err)
		}
		if w, err := DecodeTolerant(in, Limits{}); err == nil && !bytes.Equal(w.Raw(), v.Raw()) {
			t.Errorf("%q: prefix %q, whole %q", in, v.Raw(), w.Raw())
		}
	})
}

// walk visits every value of v and returns how many there are.
func walk(v Value) int {
	n := 1
	for e := range v.List() {
		n += walk(e)
	}
	for _, e := range v.Dict() {
		n += walk(e)
	}
	return n
}
