package wire

import (
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestPriority(t *testing.T) {
	crc := func(raw ...byte) uint32 { return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) }
	for _, tt := range []struct {
		name, a, b string
		want       uint32
	}{
		{"the BEP's first example", "123.213.32.10:1", "98.76.54.32:2", 0xec2d7224},
		{"the BEP's second example", "123.213.32.10:1", "123.213.32.234:2", 0x99568189},
		{"same /16", "10.1.2.255:1", "10.1.3.255:1", crc(10, 1, 2, 0x55, 10, 1, 3, 0x55)},
		{"same address, ports decide", "10.0.0.1:513", "10.0.0.1:258", crc(1, 2, 2, 1)},
		{"mapped is IPv4", "[::ffff:123.213.32.10]:1", "98.76.54.32:2", 0xec2d7224},
		{"IPv6", "[2001:db8:ffff:ffff::ff]:1", "[2001:db9::1]:1", crc(
			0x20, 1, 0x0d, 0xb8, 0xff, 0xff, 0x55, 0x55, 0, 0, 0, 0, 0, 0, 0, 0x55,
			0x20, 1, 0x0d, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)},
		{"IPv6, same /48", "[2001:db8:1:ffff::]:1", "[2001:db8:1:ee00::ff]:1", crc(
			0x20, 1, 0x0d, 0xb8, 0, 1, 0xee, 0, 0, 0, 0, 0, 0, 0, 0, 0x55,
			0x20, 1, 0x0d, 0xb8, 0, 1, 0xff, 0x55, 0, 0, 0, 0, 0, 0, 0, 0)},
		{"IPv6, same /56", "[2001:db8:1:ffff:ff00::]:1", "[2001:db8:1:ff00::]:1", crc(
			0x20, 1, 0x0d, 0xb8, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0,
			0x20, 1, 0x0d, 0xb8, 0, 1, 0xff, 0xff, 0x55, 0, 0, 0, 0, 0, 0, 0)},
	} {
		a, b := netip.MustParseAddrPort(tt.a), netip.MustParseAddrPort(tt.b)
		if got := Priority(a, b); got != tt.want {
			t.Errorf("%s: got %08x, want %08x", tt.name, got, tt.want)
		}
		if Priority(a, b) != Priority(b, a) {
			t.Errorf("%s: the two ends disagree", tt.name)
		}
	}
}

// Both ends agree whatever the addresses, families mixed included.
func TestPriorityIsSymmetric(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() netip.AddrPort {
		var raw [16]byte
		for i := range raw {
			raw[i] = byte(rng.UintN(3)) // few values: long common prefixes
		}
		ip := netip.AddrFrom16(raw)
		if rng.UintN(2) == 0 {
			ip = netip.AddrFrom4([4]byte(raw[:4]))
		}
		return netip.AddrPortFrom(ip, uint16(rng.UintN(4)))
	}
	for range 10_000 {
		if a, b := random(), random(); Priority(a, b) != Priority(b, a) {
			t.Fatalf("the ends %v and %v disagree", a, b)
		}
	}
}

func TestAllowedFastSet(t *testing.T) {
	var hash [20]byte
	for i := range hash {
		hash[i] = 0xaa
	}
	ip := netip.MustParseAddr("80.4.4.200")
	for _, tt := range []struct {
		name      string
		ip        netip.Addr
		pieces, k int
		want      []uint32
	}{
		{"the BEP's 7", ip, 1313, 7, []uint32{1059, 431, 808, 1217, 287, 376, 1188}},
		{"the BEP's 9", ip, 1313, 9, []uint32{1059, 431, 808, 1217, 287, 376, 1188, 353, 508}},
		{"same /24", netip.MustParseAddr("80.4.4.1"), 1313, 2, []uint32{1059, 431}},
		{"mapped", netip.MustParseAddr("::ffff:80.4.4.200"), 1313, 1, []uint32{1059}},
		{"none", ip, 1313, 0, []uint32{}},
		{"IPv6", netip.MustParseAddr("2001:db8::1"), 1313, 7, nil},
		{"no pieces", ip, 0, 7, nil},
	} {
		if got := AllowedFastSet(tt.ip, hash, tt.pieces, tt.k); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	all := AllowedFastSet(ip, hash, 4, 10)
	slices.Sort(all)
	if !slices.Equal(all, []uint32{0, 1, 2, 3}) {
		t.Errorf("ten of four pieces are %v", all)
	}
}
