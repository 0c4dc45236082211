package wire

import (
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
	"slices"
)

// AllowedFastSet returns the k pieces, or all when there are fewer, that the peer at ip may ask
// for while it is choked, by the canonical algorithm of BEP 6, and so the same ones that every
// other peer allows it. The BEP has "no provisions for IPv6": nil for such an address.
func AllowedFastSet(ip netip.Addr, hash [20]byte, pieces, k int) []uint32 {
	ip = ip.Unmap()
	if !ip.Is4() || pieces <= 0 {
		return nil
	}
	k = min(k, pieces)
	set := make([]uint32, 0, k)
	net := ip.As4()
	net[3] = 0 // "Use of three bytes is heuristic and historical."
	x := sha1.Sum(append(net[:], hash[:]...))
	for {
		for i := 0; i < len(x); i += 4 {
			if len(set) == k {
				return set
			}
			if n := binary.BigEndian.Uint32(x[i:]) % uint32(pieces); !slices.Contains(set, n) {
				set = append(set, n)
			}
		}
		x = sha1.Sum(x[:])
	}
}
