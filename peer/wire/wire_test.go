package wire

import (
	"errors"
	"math"
	"testing"
)

func TestCheck(t *testing.T) {
	plain := Limits{Pieces: 9}
	fast := Limits{Pieces: 9, Fast: true}
	ext := Limits{Pieces: 9, Ext: true}
	for _, tt := range []struct {
		name   string
		lim    Limits
		id     ID
		length uint32 // bytes, id included
		ok     bool
	}{
		{"no room for the id", plain, Choke, 0, false},
		{"choke", plain, Choke, 1, true},
		{"choke with a body", plain, Choke, 2, false},
		{"unchoke", plain, Unchoke, 1, true},
		{"interested", plain, Interested, 1, true},
		{"not interested with a body", plain, NotInterested, 5, false},
		{"have", plain, Have, 5, true},
		{"have short", plain, Have, 4, false},
		{"have long", plain, Have, 6, false},
		{"bitfield", plain, Bitfield, 3, true},
		{"bitfield short", plain, Bitfield, 2, false},
		{"bitfield long", plain, Bitfield, 4, false},
		{"bitfield before metadata", Limits{}, Bitfield, 1 + MaxPieces/8, true},
		{"bitfield before metadata, empty", Limits{}, Bitfield, 1, true},
		{"bitfield before metadata, too long", Limits{}, Bitfield, 2 + MaxPieces/8, false},
		{"bitfield of more pieces than any torrent has", Limits{Pieces: math.MaxInt32}, Bitfield, 1 + 1<<28, false},
		{"request", plain, Request, 13, true},
		{"request short", plain, Request, 12, false},
		{"request long", plain, Request, 14, false},
		{"cancel", plain, Cancel, 13, true},
		{"cancel long", plain, Cancel, 17, false},
		{"piece of one byte", plain, Piece, 10, true},
		{"piece of nothing", plain, Piece, 9, false},
		{"piece of a block", plain, Piece, 9 + MaxBlock, true},
		{"piece of more than a block", plain, Piece, 10 + MaxBlock, false},
		{"piece of 4 GiB", plain, Piece, math.MaxUint32, false},
		{"port", plain, Port, 3, true},
		{"port long", plain, Port, 5, false},
		{"suggest not agreed", plain, Suggest, 5, false},
		{"have all not agreed", plain, HaveAll, 1, false},
		{"have none not agreed", plain, HaveNone, 1, false},
		{"reject not agreed", plain, Reject, 13, false},
		{"allowed fast not agreed", plain, AllowedFast, 5, false},
		{"suggest", fast, Suggest, 5, true},
		{"have all", fast, HaveAll, 1, true},
		{"have all with a body", fast, HaveAll, 2, false},
		{"have none", fast, HaveNone, 1, true},
		{"reject", fast, Reject, 13, true},
		{"reject short", fast, Reject, 5, false},
		{"allowed fast", fast, AllowedFast, 5, true},
		{"extended", ext, Extended, 2, true},
		{"extended without its id", ext, Extended, 1, false},
		{"extended at the limit", ext, Extended, 2 + MaxExtended, true},
		{"extended above", ext, Extended, 3 + MaxExtended, false},
		{"extended not agreed is unknown", plain, Extended, 1 + MaxUnknown, true},
		{"unknown", plain, 21, 49, true},
		{"unknown at the limit", plain, 255, 1 + MaxUnknown, true},
		{"unknown above", plain, 255, 2 + MaxUnknown, false},
		{"unknown of 4 GiB", plain, 99, math.MaxUint32, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.lim.Check(tt.id, tt.length)
			if (err == nil) != tt.ok {
				t.Fatalf("Check(%v, %d) = %v, want ok: %v", tt.id, tt.length, err, tt.ok)
			}
			var me *MessageError
			if err != nil && (!errors.Is(err, ErrProtocol) || !errors.As(err, &me) || me.ID != tt.id || me.Length != tt.length) {
				t.Errorf("error %#v does not say what was wrong, or is no protocol error", err)
			}
		})
	}
}

// Whatever Check lets pass of a known id is small enough to be read and is parsed without error.
func TestCheckAgreesWithParse(t *testing.T) {
	lim := Limits{Pieces: 100, Fast: true, Ext: true}
	body := make([]byte, 64)
	for id := range 256 {
		for n := range len(body) {
			ok := lim.Check(ID(id), uint32(n)+1) == nil
			_, err := Parse(ID(id), body[:n])
			switch known := lim.Knows(ID(id)); {
			case known && ok && err != nil:
				t.Errorf("Check allows %v of %d bytes, Parse says %v", ID(id), n, err)
			case !known && err == nil:
				t.Errorf("Parse reads %v, which is not known", ID(id))
			case !known && !ok:
				t.Errorf("unknown %v of %d bytes is refused", ID(id), n)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		id   ID
		want string
	}{{Choke, "choke"}, {AllowedFast, "allowed fast"}, {KeepAlive, "keep-alive"}, {10, "message 10"}, {200, "message 200"}} {
		if got := tt.id.String(); got != tt.want {
			t.Errorf("ID(%d) is named %q, want %q", uint8(tt.id), got, tt.want)
		}
	}
	err := Limits{}.Check(Have, 9)
	if want := "wire: have of 9 bytes: wrong length"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, tt := range []struct {
		length uint32
		ok     bool
	}{{1, true}, {13, true}, {MaxUnknown + 1, true}, {MaxUnknown + 2, false}, {1<<32 - 1, false}} {
		if err := CheckPrefix(tt.length); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("length %d: %v", tt.length, err)
		}
	}
}
