package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"testing"
)

var messages = []struct {
	name string
	m    Message
	hex  string // the whole message; of a piece the head
}{
	{"keep-alive", Message{ID: KeepAlive}, "00000000"},
	{"choke", Message{ID: Choke}, "0000000100"},
	{"unchoke", Message{ID: Unchoke}, "0000000101"},
	{"interested", Message{ID: Interested}, "0000000102"},
	{"not interested", Message{ID: NotInterested}, "0000000103"},
	{"have", Message{ID: Have, Index: 0x01020304}, "000000050401020304"},
	{"bitfield", Message{ID: Bitfield, Payload: []byte{0xff, 0x80}}, "0000000305ff80"},
	{"request", Message{ID: Request, Index: 1, Begin: 2, Length: 0x4000}, "0000000d06000000010000000200004000"},
	{"piece", Message{ID: Piece, Index: 1, Begin: 0x8000, Length: 0x4000}, "00004009070000000100008000"},
	{"cancel", Message{ID: Cancel, Index: 1, Begin: 2, Length: 3}, "0000000d08000000010000000200000003"},
	{"port", Message{ID: Port, Index: 6881}, "00000003091ae1"},
	{"suggest", Message{ID: Suggest, Index: 7}, "000000050d00000007"},
	{"have all", Message{ID: HaveAll}, "000000010e"},
	{"have none", Message{ID: HaveNone}, "000000010f"},
	{"reject", Message{ID: Reject, Index: 1, Begin: 2, Length: 3}, "0000000d10000000010000000200000003"},
	{"allowed fast", Message{ID: AllowedFast, Index: 7}, "000000051100000007"},
	{"extended", Message{ID: Extended, ExtID: 3, Payload: []byte("d1:xe")}, "00000007140364313a7865"},
}

func TestAppend(t *testing.T) {
	for _, tt := range messages {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte("before")
			got := Append(before, tt.m)
			size := len(got) - len(before)
			if tt.m.ID == Piece {
				size += int(tt.m.Length)
			}
			if tt.m.Len() != size {
				t.Errorf("Len is %d, want %d", tt.m.Len(), size)
			}
			if want := "before" + unhex(t, tt.hex); string(got) != want {
				t.Errorf("got %x, want %x", got, want)
			}
		})
	}
}

func TestAppendPanicsOnUnknown(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("appending message 10 did not panic")
		}
	}()
	Append(nil, Message{ID: 10})
}

func TestParse(t *testing.T) {
	for _, tt := range messages {
		if tt.m.ID == KeepAlive {
			continue // has no body to parse
		}
		t.Run(tt.name, func(t *testing.T) {
			raw := []byte(unhex(t, tt.hex))
			if tt.m.ID == Piece {
				raw = append(raw, make([]byte, tt.m.Length)...)
			}
			if n := binary.BigEndian.Uint32(raw); int(n) != len(raw)-PrefixLen {
				t.Fatalf("prefix says %d, message has %d bytes", n, len(raw)-PrefixLen)
			}
			got, err := Parse(ID(raw[4]), raw[HeadLen:])
			if err != nil || !reflect.DeepEqual(got, tt.m) {
				t.Errorf("Parse = %+v, %v; want %+v", got, err, tt.m)
			}
		})
	}
}

// FuzzParse: what passes Check and Parse becomes the same bytes again, whatever they were.
func FuzzParse(f *testing.F) {
	for _, tt := range messages {
		raw, _ := hex.DecodeString(tt.hex)
		if len(raw) >= HeadLen {
			f.Add(raw, uint16(9), true, true)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, pieces uint16, fast, ext bool) {
		if len(raw) < HeadLen {
			return
		}
		lim := Limits{Pieces: int(pieces), Fast: fast, Ext: ext}
		id, body := ID(raw[4]), raw[HeadLen:]
		if lim.Check(id, uint32(len(body))+1) != nil || !lim.Knows(id) {
			return
		}
		m, err := Parse(id, body)
		if err != nil {
			t.Fatalf("Check allows %v of %d bytes, Parse says %v", id, len(body), err)
		}
		out := Append(nil, m)
		if id == Piece {
			out = append(out, body[8:]...)
		}
		if !bytes.Equal(out[PrefixLen:], raw[PrefixLen:]) {
			t.Errorf("%x became %x", raw, out)
		}
		if n := binary.BigEndian.Uint32(out); int(n) != len(out)-PrefixLen {
			t.Errorf("prefix says %d, message has %d bytes", n, len(out)-PrefixLen)
		}
	})
}

func TestHotMessagesDoNotAllocate(t *testing.T) {
	lim := Limits{Pieces: 100, Fast: true}
	dst := make([]byte, 0, 64)
	request := Append(nil, Message{ID: Request, Index: 1, Begin: 2, Length: 3})
	head := AppendPiece(nil, 1, 2, MaxBlock)
	have := Append(nil, Message{ID: Have, Index: 9})
	if n := testing.AllocsPerRun(100, func() {
		for _, raw := range [][]byte{request, head, have} {
			id := ID(raw[4])
			if err := lim.Check(id, binary.BigEndian.Uint32(raw)); err != nil {
				t.Fatal(err)
			}
			m, err := Parse(id, raw[HeadLen:])
			if err != nil {
				t.Fatal(err)
			}
			dst = Append(dst[:0], m)
		}
	}); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	lim := Limits{Pieces: 100}
	raw := Append(nil, Message{ID: Request, Index: 1, Begin: 2, Length: 3})
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := lim.Check(ID(raw[4]), binary.BigEndian.Uint32(raw)); err != nil {
			b.Fatal(err)
		}
		m, err := Parse(ID(raw[4]), raw[HeadLen:])
		if err != nil {
			b.Fatal(err)
		}
		dst = Append(dst[:0], m)
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
