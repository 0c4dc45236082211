package wire

import (
	"bytes"
	"errors"
	"testing"
)

func TestHandshake(t *testing.T) {
	h := Handshake{Reserved: OurReserved(), InfoHash: [20]byte{1, 2, 3}, PeerID: [20]byte{19: 9}}
	raw := AppendHandshake(nil, h)
	if len(raw) != 68 || raw[0] != 19 || string(raw[1:20]) != "BitTorrent protocol" {
		t.Fatalf("handshake is %q", raw)
	}
	if got, err := ParseHandshake(raw); err != nil || got != h {
		t.Errorf("ParseHandshake = %+v, %v; want %+v", got, err, h)
	}
	bad := bytes.Clone(raw)
	bad[19] = 'x'
	for name, in := range map[string][]byte{
		"nothing": nil, "short": raw[:67], "long": append(bytes.Clone(raw), 0), "another protocol": bad,
		"http": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "length 20": append([]byte{20}, raw[1:]...),
	} {
		if _, err := ParseHandshake(in); !errors.Is(err, ErrHandshake) || errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, want ErrHandshake only", name, err)
		}
	}
}

func TestReserved(t *testing.T) {
	for _, tt := range []struct {
		name           string
		r              Reserved
		ext, fast, dht bool
	}{
		{"none", Reserved{}, false, false, false},
		{"ours", OurReserved(), true, true, false},
		{"ours with a DHT node", OurReserved().WithDHT(), true, true, true},
		{"DHT only", Reserved{7: 1}, false, false, true},
		{"all bits of others", Reserved{0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0xff, 0xfa}, false, false, false},
	} {
		if tt.r.Ext() != tt.ext || tt.r.Fast() != tt.fast || tt.r.DHT() != tt.dht {
			t.Errorf("%s: ext %v, fast %v, dht %v", tt.name, tt.r.Ext(), tt.r.Fast(), tt.r.DHT())
		}
	}
}

// FuzzHandshake: what is read as a handshake is written as the same bytes.
func FuzzHandshake(f *testing.F) {
	f.Add(AppendHandshake(nil, Handshake{Reserved: OurReserved()}))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ParseHandshake(in)
		if err != nil {
			if CheckGreeting(in) == nil && len(in) == HandshakeLen {
				t.Errorf("good handshake refused: %v", err)
			}
			return
		}
		if out := AppendHandshake(nil, h); !bytes.Equal(out, in) {
			t.Errorf("%q became %q", in, out)
		}
	})
}
