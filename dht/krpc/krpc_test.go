package krpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func id(s string) ID { return ID([]byte(s)) }

// TestExamples: the packets that BEP 5 shows are read as what they are, and written like that.
func TestExamples(t *testing.T) {
	a, m := id("abcdefghij0123456789"), id("mnopqrstuvwxyz123456")
	for _, tt := range []struct {
		packet string
		want   Message
	}{
		{"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
			Message{Kind: IsQuery, Query: Query{Method: Ping, ID: a}}},
		{"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
			Message{Kind: IsReply, Reply: Reply{ID: m}}},
		{"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
			Message{Kind: IsQuery, Query: Query{Method: FindNode, ID: a, Target: m}}},
		{"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
			Message{Kind: IsQuery, Query: Query{Method: GetPeers, ID: a, Target: m}}},
		{"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
			Message{Kind: IsReply, Reply: Reply{ID: a, Token: []byte("aoeusnth"), Values: []netip.AddrPort{
				netip.MustParseAddrPort("97.120.106.101:11893"), netip.MustParseAddrPort("105.100.104.116:28269")}}}},
		{"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
			Message{Kind: IsQuery, Query: Query{Method: AnnouncePeer, ID: a, Target: m, ImpliedPort: true, Token: []byte("aoeusnth")}}},
		{"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
			Message{Kind: IsError, Error: Error{Code: GenericError, Text: "A Generic Error Ocurred"}}},
		// BEP 43
		{"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:y1:qe",
			Message{Kind: IsQuery, ReadOnly: true, Query: Query{Method: Ping, ID: a}}},
	} {
		tt.want.T = []byte("aa")
		got, err := Parse([]byte(tt.packet))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Parse(%q)\n got %+v, %v\nwant %+v", tt.packet, got, err, tt.want)
		}
		if out := string(Append(nil, &tt.want)); out != tt.packet {
			t.Errorf("Append\n got %q\nwant %q", out, tt.packet)
		}
	}
}

// TestRefused: what cannot be answered, and what can be answered with an error.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		packet string
		code   int64 // 0 means that there is no answer
	}{
		{"", 0}, {"hello", 0}, {"i1e", 0}, {"le", 0}, {"de", 0},
		{"d1:y1:re", 0},
		{"d1:t0:1:y1:qe", 0},
		{"d1:t65:" + strings.Repeat("t", 65) + "1:y1:qe", 0},
		{"d1:t2:aa1:y1:xe", 0},
		{"d1:t2:aa1:y2:qqe", 0},
		{"d1:rd2:id19:mnopqrstuvwxyz12345e1:t2:aa1:y1:re", 0},
		{"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re trailing", 0},
		{strings.Repeat("l", 11) + strings.Repeat("e", 11), 0},
		{"d1:t2:aa1:x" + strings.Repeat("l", 10) + strings.Repeat("e", 10) + "1:y1:qe", 0},
		{"d1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ade1:q4:ping1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ad2:id20:abcdefghij01234567896:target3:abce1:q9:find_node1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe", ProtocolError},
		{"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti65536e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe", ProtocolError},
	} {
		m, err := Parse([]byte(tt.packet))
		fault, answerable := errors.AsType[*Error](err)
		switch {
		case err == nil:
			t.Errorf("Parse(%q) = %+v", tt.packet, m)
		case answerable != (tt.code != 0) || answerable && (fault.Code != tt.code || string(m.T) != "aa"):
			t.Errorf("Parse(%q): %v, T %q", tt.packet, err, m.T)
		}
	}
}

// TestUnusableLeftOut: an entry that no node or peer has is left out, what stands beside it is kept.
func TestUnusableLeftOut(t *testing.T) {
	node := func(ip string, port string) string { return "abcdefghij0123456789" + ip + port }
	nodes := node("\x01\x02\x03\x04", "\x00\x07") + node("\x00\x00\x00\x00", "\x00\x07") + node("\x01\x02\x03\x05", "\x00\x00") + node("\xe0\x00\x00\x01", "\x00\x07") + "short"
	packet := fmt.Sprintf("d1:rd2:id20:mnopqrstuvwxyz1234565:nodes%d:%s6:valuesl6:abcde\x006:ab\x00\x00\x00\x003:abc18:%se4:wanti1ee1:t1:a1:y1:re",
		len(nodes), nodes, "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x01\x1a\xe1")
	m, err := Parse([]byte(packet))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Contact{{id("abcdefghij0123456789"), netip.MustParseAddrPort("1.2.3.4:7")}}; !reflect.DeepEqual(m.Reply.Nodes, want) {
		t.Errorf("nodes %v, want %v", m.Reply.Nodes, want)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("97.98.99.100:25856"), netip.MustParseAddrPort("[2001:db8::1]:6881")}
	if !reflect.DeepEqual(m.Reply.Values, want) {
		t.Errorf("values %v, want %v", m.Reply.Values, want)
	}
}

// TestFits: the test vectors of BEP 42, and its exempt ranges.
func TestFits(t *testing.T) {
	for _, tt := range []struct {
		ip, id string
		want   bool
	}{
		{"124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401", true},
		{"21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256", true},
		{"65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616", true},
		{"84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41", true},
		{"43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a", true},
		{"::ffff:43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a", true},
		{"43.213.53.83", "1b0321dd1bb1fe518101ceef99462b947a01ff41", false},
		{"2001:470::1", "1b0321dd1bb1fe518101ceef99462b947a01ff41", false},
		{"10.1.2.3", "0000000000000000000000000000000000000000", true},
		{"172.16.0.1", "0000000000000000000000000000000000000000", true},
		{"192.168.0.1", "0000000000000000000000000000000000000000", true},
		{"169.254.0.1", "0000000000000000000000000000000000000000", true},
		{"127.0.0.1", "0000000000000000000000000000000000000000", true},
		{"::1", "0000000000000000000000000000000000000000", true},
		{"198.19.0.1", "0000000000000000000000000000000000000000", true},
	} {
		b, err := hex.DecodeString(tt.id)
		if err != nil {
			t.Fatal(err)
		}
		if got := ID(b).Fits(netip.MustParseAddr(tt.ip)); got != tt.want {
			t.Errorf("%s at %s: %v", tt.id, tt.ip, got)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		for _, ip := range []netip.Addr{
			netip.AddrFrom4([4]byte{byte(1 + random.IntN(200)), 1, byte(random.Uint32()), byte(random.Uint32())}),
			netip.AddrFrom16([16]byte{0x20, 0x01, 6: byte(random.Uint32()), 15: byte(random.Uint32())}),
		} {
			if id := IDFor(ip, random); !id.Fits(ip) {
				t.Fatalf("%v made for %v does not fit", id, ip)
			}
		}
	}
}

// TestDistance: Closer and Prefix agree with each other and with RandomNear.
func TestDistance(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		target, n := RandomID(random), random.IntN(160)
		near := RandomNear(target, n, random)
		if got := target.Prefix(near); got != n {
			t.Fatalf("RandomNear(%v, %d) has %d bits in common", target, n, got)
		}
		other := RandomID(random)
		if p := target.Prefix(other); p != n && target.Closer(near, other) != (n > p) {
			t.Fatalf("Closer disagrees with prefixes %d and %d", n, p)
		}
		if target.Closer(near, near) {
			t.Fatal("an id is closer than itself")
		}
	}
	if got := id("abcdefghij0123456789").Prefix(id("abcdefghij0123456789")); got != 160 {
		t.Errorf("an id has %d bits in common with itself", got)
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"1.2.3.4": "1.2.3.0/24", "::ffff:1.2.3.4": "1.2.3.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%lo": "fe80::/64",
	} {
		if got := Network(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("Network(%s) = %v, want %s", in, got, want)
		}
	}
}

// TestBloom: the test vector of BEP 33.
func TestBloom(t *testing.T) {
	const want = "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE" +
		"FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B" +
		"7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F" +
		"D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3" +
		"FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5" +
		"BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57" +
		"62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6" +
		"FD8F72EF"
	var v4, v6 Bloom
	if v4.Size() != 0 {
		t.Errorf("the empty set has %v members", v4.Size())
	}
	for i := range 256 {
		v4.Add(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for i := range 0x3E8 {
		v6.Add(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0D, 0xB8, 14: byte(i >> 8), 15: byte(i)}))
	}
	v4.Union(&v6)
	if got := strings.ToUpper(hex.EncodeToString(v4[:])); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := v4.Size(); math.Abs(got-1224.9308) > 0.0001 {
		t.Errorf("1256 members are estimated as %.4f, want 1224.9308", got)
	}
}

// FuzzParse: whatever is read can be written, is read back as the same, and is of bounded size.
func FuzzParse(f *testing.F) {
	f.Add([]byte("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe"))
	f.Add([]byte("d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234566:noseedi1e6:scrapei1ee1:q9:get_peers2:roi1e1:t2:aa1:v4:BT001:y1:qe"))
	f.Add([]byte("d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e4:seedi1e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"))
	f.Add([]byte("d2:ip6:abcdef1:rd2:id20:abcdefghij01234567895:nodes26:abcdefghij0123456789axje.u5:token8:aoeusnth6:valuesl6:axje.u18:idhtnmidhtnmidhtnmee1:t2:aa1:y1:re"))
	f.Add([]byte("d1:rd2:id20:abcdefghij01234567898:intervali7e3:numi1e7:samples20:abcdefghij0123456789e1:t2:aa1:y1:re"))
	f.Add([]byte("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := Parse(packet)
		if err != nil {
			return
		}
		if n := len(m.Reply.Nodes) + len(m.Reply.Nodes6); n > 2*maxNodes || len(m.Reply.Values) > maxValues {
			t.Fatalf("%d nodes and %d values of %d bytes", n, len(m.Reply.Values), len(packet))
		}
		out := Append(nil, &m)
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%q is written as %q, which is not read: %v", packet, out, err)
		}
		if twice := Append(nil, &again); !bytes.Equal(twice, out) {
			t.Fatalf("%q is written as %q, and that as %q", packet, out, twice)
		}
	})
}
