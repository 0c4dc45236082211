package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func equalMetadata(a, b Metadata) bool {
	return a.Type == b.Type && a.Piece == b.Piece && a.TotalSize == b.TotalSize && bytes.Equal(a.Data, b.Data)
}

// The examples of BEP 9; that of data has its total_size right and not as the BEP misspells it.
var metadataExamples = []struct {
	name string
	m    Metadata
	raw  string
}{
	{"request", Metadata{Type: MetadataRequest}, "d8:msg_typei0e5:piecei0ee"},
	{"data", Metadata{Type: MetadataData, TotalSize: 3425, Data: []byte("xxxxxxxx")}, "d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx"},
	{"reject", Metadata{Type: MetadataReject, Piece: 7}, "d8:msg_typei2e5:piecei7ee"},
}

func TestMetadata(t *testing.T) {
	for _, tt := range metadataExamples {
		if got := AppendMetadata([]byte("x"), tt.m); string(got) != "x"+tt.raw {
			t.Errorf("%s: appended %q, want %q", tt.name, got, "x"+tt.raw)
		}
		if got, err := ParseMetadata([]byte(tt.raw)); err != nil || !equalMetadata(got, tt.m) {
			t.Errorf("%s: parsed %+v, %v; want %+v", tt.name, got, err, tt.m)
		}
	}
}

func TestParseMetadata(t *testing.T) {
	full := strings.Repeat("x", MetadataPiece)
	deep := strings.Repeat("l", 50_000) + strings.Repeat("e", 50_000)
	for _, tt := range []struct {
		name string
		raw  string
		want Metadata
		err  error
	}{
		{"a full piece", "d8:msg_typei1e5:piecei2e10:total_sizei99999ee" + full,
			Metadata{Type: MetadataData, Piece: 2, TotalSize: 99999, Data: []byte(full)}, nil},
		{"keys unsorted", "d5:piecei3e8:msg_typei2ee", Metadata{Type: MetadataReject, Piece: 3}, nil},
		{"keys that we do not know", "d8:msg_typei0e5:piecei1e1:xl1:yee", Metadata{Type: MetadataRequest, Piece: 1}, nil},
		{"bytes behind a request", "d8:msg_typei0e5:piecei1eejunk", Metadata{Type: MetadataRequest, Piece: 1}, nil},
		{"no total_size", "d8:msg_typei1e5:piecei0eex", Metadata{Type: MetadataData, Data: []byte("x")}, nil},
		{"total_size negative", "d8:msg_typei1e5:piecei0e10:total_sizei-1eex", Metadata{Type: MetadataData, Data: []byte("x")}, nil},
		{"total_size as large as can be", "d8:msg_typei1e5:piecei0e10:total_sizei9223372036854775807eex",
			Metadata{Type: MetadataData, TotalSize: 1<<63 - 1, Data: []byte("x")}, nil},
		{"type unknown", "d8:msg_typei3ee", Metadata{Type: MetadataUnknown}, nil},
		{"type that wraps round to one we know", "d8:msg_typei257e5:piecei0ee", Metadata{Type: MetadataUnknown}, nil},
		{"type negative", "d8:msg_typei-1ee", Metadata{Type: MetadataUnknown}, nil},

		{"empty", "", Metadata{}, ErrMetadata},
		{"a list", "le", Metadata{}, ErrMetadata},
		{"cut off", "d8:msg_typei0e", Metadata{}, ErrMetadata},
		{"no type", "d5:piecei0ee", Metadata{}, ErrMetadata},
		{"type of a wrong type", "d8:msg_type1:05:piecei0ee", Metadata{}, ErrMetadata},
		{"no piece", "d8:msg_typei0ee", Metadata{}, ErrMetadata},
		{"piece negative", "d8:msg_typei0e5:piecei-1ee", Metadata{}, ErrMetadata},
		{"piece of 2^31", "d8:msg_typei0e5:piecei2147483648ee", Metadata{}, ErrMetadata},
		{"no data", "d8:msg_typei1e5:piecei0e10:total_sizei5ee", Metadata{}, ErrMetadata},
		{"more than a piece", "d8:msg_typei1e5:piecei0e10:total_sizei99999ee" + full + "x", Metadata{}, ErrMetadata},
		{"deep", "d8:msg_typei0e5:piecei0e1:x" + deep + "e", Metadata{}, ErrMetadata},
		{"many elements", "d8:msg_typei0e5:piecei0e1:xl" + strings.Repeat("le", 2000) + "ee", Metadata{}, ErrMetadata},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMetadata([]byte(tt.raw))
			if !errors.Is(err, tt.err) || !equalMetadata(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
	if !errors.Is(ErrMetadata, ErrProtocol) {
		t.Error("ErrMetadata is no protocol error")
	}
}

func TestParseMetadataCopiesNothing(t *testing.T) {
	in := []byte("d8:msg_typei1e5:piecei2147483647e10:total_sizei9223372036854775807eexxxx")
	if n := testing.AllocsPerRun(10, func() { ParseMetadata(in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMetadata: what is accepted keeps to its bounds, is valid to be sent and reads back the same.
func FuzzMetadata(f *testing.F) {
	for _, e := range metadataExamples {
		f.Add([]byte(e.raw))
	}
	f.Add([]byte("d8:msg_typei-7ee"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ParseMetadata(in)
		if err != nil || m.Type == MetadataUnknown {
			return
		}
		if m.Piece < 0 || m.TotalSize < 0 || len(m.Data) > min(len(in), MetadataPiece) || (m.Type == MetadataData) != (len(m.Data) > 0) {
			t.Errorf("%q gave %+v", in, m)
		}
		if again, err := ParseMetadata(AppendMetadata(nil, m)); err != nil || !equalMetadata(again, m) {
			t.Errorf("%q gave %+v, then %+v, %v", in, m, again, err)
		}
	})
}
