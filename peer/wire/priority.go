package wire

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Priority returns the canonical priority of a connection between two peers (BEP 40), the same at
// both ends: of two connections the one with the higher priority stays. Each address must be
// the one that the other end sees. IPv4 addresses mapped into IPv6 count as IPv4.
func Priority(a, b netip.AddrPort) uint32 {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	var raw [32]byte
	if x == y {
		// "If the IP addresses are the same, the port numbers [...] should be used instead".
		p, q := a.Port(), b.Port()
		binary.BigEndian.PutUint16(raw[:], min(p, q))
		binary.BigEndian.PutUint16(raw[2:], max(p, q))
		return crc32.Checksum(raw[:4], castagnoli)
	}
	m, n := x.AsSlice(), y.AsSlice()
	whole := wholeBytes(m, n)
	mask(m, whole)
	mask(n, whole)
	if bytes.Compare(m, n) > 0 {
		m, n = n, m
	}
	return crc32.Checksum(append(append(raw[:0], m...), n...), castagnoli)
}

// wholeBytes returns how many leading bytes of the addresses are used in full; of the others the
// BEP uses every second bit. For IPv4 it is "FF.FF.55.55 unless the IP addresses are in the same
// /16. In that case [...] FF.FF.FF.55. If [...] in the same /24, the entire address", for IPv6
// likewise from "FFFF:FFFF:FFFF:5555:..." and the same /48 on: one byte more than they share.
func wholeBytes(m, n []byte) int {
	least := 6
	if len(m) == 4 && len(n) == 4 {
		least = 2
	}
	same := 0
	for same < min(len(m), len(n)) && m[same] == n[same] {
		same++
	}
	if same < least {
		return least
	}
	return same + 1
}

func mask(ip []byte, whole int) {
	for i := min(whole, len(ip)); i < len(ip); i++ {
		ip[i] &= 0x55
	}
}
