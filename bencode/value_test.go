package bencode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func tolerant(t testing.TB, in string) Value {
	t.Helper()
	v, err := DecodeTolerant([]byte(in), Limits{})
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	return v
}

func TestKinds(t *testing.T) {
	for in, want := range map[string]Kind{"i1e": Int, "0:": String, "le": List, "de": Dict} {
		if got := tolerant(t, in).Kind(); got != want {
			t.Errorf("%q is a %v, want %v", in, got, want)
		}
	}
	names := []string{"invalid", "integer", "string", "list", "dictionary", "invalid"}
	for k, want := range names {
		if got := Kind(k).String(); got != want {
			t.Errorf("Kind(%d) is %q, want %q", k, got, want)
		}
	}
}

// A value asked for what it is not answers no, and so does the zero Value.
func TestWrongKind(t *testing.T) {
	for _, v := range []Value{{}, tolerant(t, "i1e"), tolerant(t, "1:a"), tolerant(t, "l1:ae"), tolerant(t, "d1:ai1ee")} {
		k := v.Kind()
		if _, ok := v.Int(); ok != (k == Int) {
			t.Errorf("%v: Int is %v", k, ok)
		}
		if _, ok := v.Bytes(); ok != (k == String) {
			t.Errorf("%v: Bytes is %v", k, ok)
		}
		if _, ok := v.Text(); ok != (k == String) {
			t.Errorf("%v: Text is %v", k, ok)
		}
		if n := len(slices.Collect(v.List())); (n == 1) != (k == List) {
			t.Errorf("%v: %d elements", k, n)
		}
		n := 0
		for range v.Dict() {
			n++
		}
		if (n == 1) != (k == Dict) || (v.Get("a").Kind() == Int) != (k == Dict) {
			t.Errorf("%v: %d entries, Get %v", k, n, v.Get("a").Kind())
		}
		if want := k == String || k == List || k == Dict; (v.Len() == 1) != want {
			t.Errorf("%v: Len %d", k, v.Len())
		}
		if got := v.Get("a").Get("b").Get("c"); got.Kind() != Invalid || got.Raw() != nil {
			t.Errorf("%v: a chain of lookups gave %q", k, got.Raw())
		}
	}
}

func TestIntegers(t *testing.T) {
	for in, want := range map[string]int64{
		"i0e": 0, "i-0e": 0, "i007e": 7, "i-007e": -7, "i9223372036854775807e": 1<<63 - 1, "i-9223372036854775808e": -1 << 63,
	} {
		if got, ok := tolerant(t, in).Int(); !ok || got != want {
			t.Errorf("%q is %d, %v", in, got, ok)
		}
	}
}

func TestText(t *testing.T) {
	in := []byte("5:he\x00\xffo")
	v, err := Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := v.Text()
	b, _ := v.Bytes()
	if text != "he\x00\xffo" || string(b) != text || v.Len() != 5 || cap(b) != 5 {
		t.Fatalf("got %q and %q (cap %d)", text, b, cap(b))
	}
	in[2] = 'x'
	if b[0] != 'x' || text[0] != 'h' {
		t.Error("Bytes must alias the input and Text must not")
	}
}

func TestWalk(t *testing.T) {
	v := tolerant(t, "d1:ali1eli2ei3ee3:abce1:bd1:ci4e1:d0:e1:ei-5ee")
	var got []string
	for key, v := range v.Dict() {
		got = append(got, fmt.Sprintf("%s=%s", key, v.Raw()))
	}
	if want := "a=li1eli2ei3ee3:abce b=d1:ci4e1:d0:e e=i-5e"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = nil
	for v := range v.Get("a").List() {
		got = append(got, string(v.Raw()))
	}
	if want := "i1e li2ei3ee 3:abc"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range v.Dict() {
		break // neither iterator may call a yield that said no
	}
	for range v.Get("a").List() {
		break
	}
	if n, _ := v.Get("b").Get("c").Int(); n != 4 {
		t.Errorf("b.c is %d", n)
	}
}

// Of a key that stands twice the first value counts, in Get, Dict and Len alike.
func TestFirstDuplicateWins(t *testing.T) {
	for in, want := range map[string]string{
		"d1:ai1e1:ai2ee":                         "a=1",
		"d1:bi1e1:ai2e1:bi3e1:ai4e1:ci5ee":       "b=1 a=2 c=5",
		"d1:ai1e1:ci2e1:bi3e1:ci4e1:ci5ee":       "a=1 c=2 b=3",
		"d0:i1e0:i2e1:ai3ee":                     "=1 a=3",
		"d1:ci1e1:bi2e1:ai3ee":                   "c=1 b=2 a=3",
		"d1:ai1e1:bi2e1:ci3e1:ai4e1:bi5e1:di6ee": "a=1 b=2 c=3 d=6",
	} {
		v := tolerant(t, in)
		var got []string
		for key, e := range v.Dict() {
			n, _ := e.Int()
			got = append(got, fmt.Sprintf("%s=%d", key, n))
			if m, _ := v.Get(string(key)).Int(); m != n {
				t.Errorf("%q: Get(%q) is %d, Dict says %d", in, key, m, n)
			}
		}
		if strings.Join(got, " ") != want || v.Len() != len(got) {
			t.Errorf("%q: got %q (Len %d), want %q", in, got, v.Len(), want)
		}
	}
}

// Dict against a map, on random dictionaries with few distinct keys.
func TestDuplicatesProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		first, in, order := map[string]int{}, []byte("d"), []string{}
		for i := range rng.IntN(12) {
			key := strings.Repeat(string(rune('a'+rng.IntN(3))), rng.IntN(3))
			if _, ok := first[key]; !ok {
				first[key], order = i, append(order, key)
			}
			in = AppendInt(AppendString(in, key), int64(i))
		}
		v := tolerant(t, string(in)+"e")
		var got []string
		for key, e := range v.Dict() {
			if n, _ := e.Int(); int(n) != first[string(key)] {
				t.Fatalf("%q: %q is %d, want %d", v.Raw(), key, n, first[string(key)])
			}
			got = append(got, string(key))
		}
		if !slices.Equal(got, order) {
			t.Fatalf("%q: keys %q, want %q", v.Raw(), got, order)
		}
	}
}

// Many keys in the worst order, half of them twice, take time and memory in proportion.
func TestDisorderIsCheap(t *testing.T) {
	in := []byte("d")
	const keys = 200_000
	for i := keys; i > 0; i-- {
		in = append(AppendString(in, fmt.Sprint(i/2)), "0:"...)
	}
	v := tolerant(t, string(append(in, 'e')))
	start := time.Now()
	if n := v.Len(); n != keys/2+1 {
		t.Errorf("%d distinct keys, want %d", n, keys/2+1)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.Len()
		}
	}).AllocedBytesPerOp()
	if limit := int64(8 * len(in)); allocated > limit {
		t.Errorf("took %d bytes for %d of input", allocated, len(in))
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{0, "i0e"}, {int8(-1), "i-1e"}, {int16(2), "i2e"}, {int32(-3), "i-3e"}, {int64(-1 << 63), "i-9223372036854775808e"},
		{uint(4), "i4e"}, {uint8(5), "i5e"}, {uint16(6), "i6e"}, {uint32(7), "i7e"}, {uint64(1<<63 - 1), "i9223372036854775807e"},
		{"", "0:"}, {"spam", "4:spam"}, {[]byte{0, 255}, "2:\x00\xff"},
		{[]any{}, "le"}, {[]any{1, "a", []any{}}, "li1e1:alee"}, {[]string{"b", "a"}, "l1:b1:ae"},
		{[][]string{{"a"}, nil}, "ll1:aelee"}, {[]Value{tolerant(t, "i1e"), tolerant(t, "le")}, "li1elee"},
		{map[string]any{}, "de"},
		{map[string]any{"b": 1, "a": "x", "": 0, "ab": []any{2}}, "d0:i0e1:a1:x2:abli2ee1:bi1ee"},
		{tolerant(t, "d1:bi1e1:ai2ee"), "d1:bi1e1:ai2ee"},
	} {
		if got := string(Append([]byte("x"), tt.v)); got != "x"+tt.want {
			t.Errorf("Append(%v) = %q, want %q", tt.v, got, tt.want)
		}
	}
}

// What no input can cause panics, rather than write something that is not bencoding.
func TestAppendPanics(t *testing.T) {
	for _, v := range []any{nil, 1.5, true, Value{}, uint64(1 << 63), []any{struct{}{}}, map[string]int{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Append(%T) did not panic", v)
				}
			}()
			Append(nil, v)
		}()
	}
}

func TestAppendHelpers(t *testing.T) {
	type name string
	got := AppendInt(AppendString(AppendString(nil, name("ab")), []byte("c")), -5)
	if !bytes.Equal(got, []byte("2:ab1:ci-5e")) {
		t.Errorf("got %q", got)
	}
}
