package wire

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var fullExt = ExtHandshake{
	M:            ExtIDs{UtMetadata: 1, UtPex: 2, DontHave: 7, UploadOnly: 3},
	MetadataSize: 31235, Reqq: 500, V: "µTorrent 1.2", P: 6881,
	YourIP: netip.MustParseAddr("1.2.3.4"), IPv4: netip.MustParseAddr("5.6.7.8"),
	IPv6: netip.MustParseAddr("2001:db8::1"), UploadOnly: true,
}

const fullExtRaw = "d4:ipv44:\x05\x06\x07\x084:ipv616:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
	"1:md11:lt_donthavei7e11:upload_onlyi3e11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei31235e" +
	"1:pi6881e4:reqqi500e11:upload_onlyi1e1:v13:\xc2\xb5Torrent 1.26:yourip4:\x01\x02\x03\x04e"

func TestExtHandshake(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    ExtHandshake
		raw  string
	}{
		{"empty", ExtHandshake{}, "d1:mdee"},
		{"full", fullExt, fullExtRaw},
	} {
		if got := AppendExtHandshake(nil, tt.h); string(got) != tt.raw {
			t.Errorf("%s: appended %q, want %q", tt.name, got, tt.raw)
		}
		var got ExtHandshake
		if err := got.Update([]byte(tt.raw)); err != nil || got != tt.h {
			t.Errorf("%s: Update gave %+v, %v; want %+v", tt.name, got, err, tt.h)
		}
	}
}

func TestExtHandshakeUpdate(t *testing.T) {
	with := func(change func(*ExtHandshake)) ExtHandshake {
		h := fullExt
		change(&h)
		return h
	}
	deep := strings.Repeat("l", 50_000) + strings.Repeat("e", 50_000)
	for _, tt := range []struct {
		name string
		raw  string
		want ExtHandshake
		err  error
	}{
		{"nothing changes nothing", "de", fullExt, nil},
		{"only changes", "d1:md6:ut_pexi9eee", with(func(h *ExtHandshake) { h.M.UtPex = 9 }), nil},
		{"taken back", "d1:md11:ut_metadatai0eee", with(func(h *ExtHandshake) { h.M.UtMetadata = 0 }), nil},
		{"no longer upload only", "d11:upload_onlyi0ee", with(func(h *ExtHandshake) { h.UploadOnly = false }), nil},
		{"ids out of range", "d1:md11:ut_metadatai256e6:ut_pexi-1eee", fullExt, nil},
		{"ids of a wrong type", "d1:md11:ut_metadata1:16:ut_pexleee", fullExt, nil},
		{"m of a wrong type", "d1:mi1ee", fullExt, nil},
		{"wrong types everywhere", "d4:ipv4i1e4:ipv6le1:mle13:metadata_size1:x1:ple4:reqqde11:upload_only1:x1:vi1e6:youripi0ee", fullExt, nil},
		{"metadata_size negative", "d13:metadata_sizei-1ee", fullExt, nil},
		{"reqq 0", "d4:reqqi0ee", fullExt, nil},
		{"reqq huge", "d4:reqqi9223372036854775807ee", with(func(h *ExtHandshake) { h.Reqq = 1 << 20 }), nil},
		{"port out of range", "d1:pi65536ee", fullExt, nil},
		{"address of a wrong size", "d4:ipv416:................6:yourip5:.....e", fullExt, nil},
		{"yourip of 16 bytes", "d6:yourip16:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02e",
			with(func(h *ExtHandshake) { h.YourIP = netip.MustParseAddr("2001:db8::2") }), nil},
		{"long name", "d1:v200:" + strings.Repeat("x", 200) + "e", with(func(h *ExtHandshake) { h.V = strings.Repeat("x", 100) }), nil},
		{"keys unsorted and twice", "d4:reqqi7e1:pi1e4:reqqi8ee", with(func(h *ExtHandshake) { h.Reqq, h.P = 7, 1 }), nil},
		{"empty", "", fullExt, ErrExtHandshake},
		{"a list", "le", fullExt, ErrExtHandshake},
		{"cut off", "d1:md", fullExt, ErrExtHandshake},
		{"deep", "d1:x" + deep + "e", fullExt, ErrExtHandshake},
		{"many elements", "d1:xl" + strings.Repeat("le", 20_000) + "ee", fullExt, ErrExtHandshake},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := fullExt
			if err := h.Update([]byte(tt.raw)); !errors.Is(err, tt.err) {
				t.Errorf("Update = %v, want %v", err, tt.err)
			}
			if h != tt.want {
				t.Errorf("got %+v, want %+v", h, tt.want)
			}
		})
	}
	if !errors.Is(ErrExtHandshake, ErrProtocol) {
		t.Error("ErrExtHandshake is no protocol error")
	}
}

func TestOutstanding(t *testing.T) {
	if got := (ExtHandshake{}).Outstanding(); got != 250 {
		t.Errorf("without reqq: %d, want 250", got)
	}
	if got := (ExtHandshake{Reqq: 3}).Outstanding(); got != 3 {
		t.Errorf("with reqq 3: %d", got)
	}
}

// FuzzExtHandshake: whatever was taken over is valid to be sent, and reads back the same.
func FuzzExtHandshake(f *testing.F) {
	f.Add([]byte(fullExtRaw))
	f.Add([]byte("d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var h, again ExtHandshake
		if h.Update(in) != nil {
			return
		}
		out := AppendExtHandshake(nil, h)
		if err := again.Update(out); err != nil || again != h {
			t.Errorf("%q gave %+v, then %+v, %v", in, h, again, err)
		}
	})
}
