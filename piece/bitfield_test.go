package piece

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestParseBitfield(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  string
		n    int
		want []int // nil: refused
	}{
		{"no pieces", "", 0, []int{}},
		{"byte for no pieces", "\x00", 0, nil},
		{"first", "\x80", 1, []int{0}},
		{"empty", "\x00", 8, []int{}},
		{"full byte", "\xff", 8, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"second byte", "\x01\x80", 9, []int{7, 8}},
		{"spare bit next to the last piece", "\x00\x40", 9, nil},
		{"lowest spare bit", "\x00\x01", 9, nil},
		{"short", "\xff", 9, nil},
		{"long", "\xff\x80\x00", 9, nil},
		{"absent", "", 1, nil},
		{"word boundary", "\x00\x00\x00\x00\x00\x00\x00\x01\x80", 65, []int{63, 64}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := []byte(tt.raw)
			b, err := ParseBitfield(raw, tt.n)
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("error: %v", err)
			}
			if err != nil {
				return
			}
			if got := slices.Collect(b.All()); !slices.Equal(got, tt.want) || b.Count() != len(tt.want) {
				t.Errorf("got %v (count %d), want %v", got, b.Count(), tt.want)
			}
			if !bytes.Equal(b.Bytes(), raw) {
				t.Errorf("bytes %x, want %x", b.Bytes(), raw)
			}
			clear(raw)
			if b.Count() > 0 && !b.Has(tt.want[0]) {
				t.Error("the set aliases its input")
			}
		})
	}
}

// TestBitfieldModel runs random changes beside a slice of booleans.
func TestBitfieldModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 7, 8, 9, 63, 64, 65, 200} {
		b, model := NewBitfield(n), make([]bool, n)
		for range 2000 {
			i, set := rng.IntN(n), rng.IntN(2) == 0
			changed := b.Set
			if !set {
				changed = b.Clear
			}
			if got := changed(i); got != (model[i] != set) {
				t.Fatalf("%d pieces: change of %d to %t reported %t", n, i, set, got)
			}
			model[i] = set
		}
		var want []int
		for i, has := range model {
			if b.Has(i) != has {
				t.Errorf("%d pieces: Has(%d) = %t", n, i, !has)
			}
			if has {
				want = append(want, i)
			}
		}
		if got := slices.Collect(b.All()); !slices.Equal(got, want) || b.Count() != len(want) || b.Len() != n {
			t.Errorf("%d pieces: got %v (count %d), want %v", n, got, b.Count(), want)
		}
	}
}

func TestBitfieldFull(t *testing.T) {
	for _, n := range []int{0, 1, 8, 13, 64, 100} {
		b := NewBitfield(n)
		if !b.Empty() || b.Full() != (n == 0) {
			t.Errorf("%d pieces: new set: empty %t, full %t", n, b.Empty(), b.Full())
		}
		b.setAll()
		one := NewBitfield(n)
		for i := range n {
			one.Set(i)
		}
		if !b.Full() || !one.Full() || !bytes.Equal(b.Bytes(), one.Bytes()) {
			t.Errorf("%d pieces: all at once %x, one by one %x", n, b.Bytes(), one.Bytes())
		}
		if _, err := ParseBitfield(b.Bytes(), n); err != nil {
			t.Errorf("%d pieces: full set is refused: %v", n, err)
		}
		mustPanic(t, "an index behind the last", func() { b.Has(n) })
		mustPanic(t, "a negative index", func() { b.Set(-1) })
	}
}

func TestBitfieldCloneAndStop(t *testing.T) {
	b := NewBitfield(70)
	b.setAll()
	c := b.Clone()
	c.Clear(69)
	if !b.Has(69) || b.Count() != 70 || c.Count() != 69 {
		t.Errorf("clone shares: %d and %d pieces", b.Count(), c.Count())
	}
	var seen int
	for i := range b.All() {
		if seen = i; i == 66 {
			break
		}
	}
	if seen != 66 {
		t.Errorf("iteration stopped at %d, want 66", seen)
	}
}

// FuzzParseBitfield: what is accepted is given back byte for byte, and counts what it holds.
func FuzzParseBitfield(f *testing.F) {
	f.Add([]byte{0xff, 0x80}, 9)
	f.Add([]byte{0x01}, 7)
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		if n < 0 || n > MaxPieces {
			return
		}
		b, err := ParseBitfield(raw, n)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Bytes(), raw) {
			t.Errorf("%x for %d pieces came back as %x", raw, n, b.Bytes())
		}
		count := 0
		for i := range b.All() {
			if count++; !b.Has(i) {
				t.Errorf("All gives %d, which Has denies", i)
			}
		}
		if count != b.Count() {
			t.Errorf("count %d, want %d", b.Count(), count)
		}
	})
}
