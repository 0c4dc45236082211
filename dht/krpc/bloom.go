package krpc

import (
	"crypto/sha1"
	"math"
	"math/bits"
	"net/netip"

	"bittern/bencode"
)

// A Bloom is the filter of BEP 33: a set of addresses, from which its size can be estimated and that can be united
// with others. The zero value is the empty set.
type Bloom [256]byte

// Add puts an address into the set.
func (b *Bloom) Add(ip netip.Addr) {
	h := sha1.Sum(ip.Unmap().AsSlice())
	for _, i := range [2]int{int(h[0]) | int(h[1])<<8, int(h[2]) | int(h[3])<<8} {
		i %= 8 * len(b)
		b[i/8] |= 1 << (i % 8)
	}
}

// Union adds what other holds.
func (b *Bloom) Union(other *Bloom) {
	for i := range b {
		b[i] |= other[i]
	}
}

// Size estimates the number of addresses in the set, by the equation of BEP 33 ("Calculating the
// estimate"). Above some 6,000 it is worthless.
func (b *Bloom) Size() float64 {
	const m = 8 * float64(len(b))
	zeros := 0
	for _, x := range b {
		zeros += 8 - bits.OnesCount8(x)
	}
	if zeros == 8*len(b) {
		return 0
	}
	return math.Log(float64(max(zeros, 1))/m) / (2 * math.Log(1-1/m))
}

func parseBloom(v bencode.Value) *Bloom {
	b, _ := v.Bytes()
	if len(b) != len(Bloom{}) {
		return nil
	}
	return (*Bloom)(b)
}
