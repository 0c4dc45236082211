package wire

import (
	"bytes"
	"errors"
	"testing"
)

func TestDontHave(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint32
		err  error
	}{
		{"\x00\x00\x00\x07", 7, nil},
		{"\xff\xff\xff\xff", 1<<32 - 1, nil},
		{"", 0, ErrDontHave},
		{"\x00\x00\x07", 0, ErrDontHave},
		{"\x00\x00\x00\x00\x07", 0, ErrDontHave},
	} {
		if got, err := ParseDontHave([]byte(tt.in)); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: %d, %v; want %d, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
	if !errors.Is(ErrDontHave, ErrProtocol) {
		t.Error("ErrDontHave is no protocol error")
	}
}

// FuzzDontHave: what is taken is what would be sent.
func FuzzDontHave(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		i, err := ParseDontHave(in)
		if err != nil {
			return
		}
		if out := AppendDontHave(nil, i); !bytes.Equal(out, in) {
			t.Errorf("%x became %x", in, out)
		}
	})
}
