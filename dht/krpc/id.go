package krpc

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// An ID names a node, or is a target that nodes are close to: an info-hash, in the same space (BEP 5).
type ID [20]byte

// String returns the id as 40 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Closer reports whether a is nearer to id than b is, by Kademlia's metric: the exclusive or, as a number.
func (id ID) Closer(a, b ID) bool {
	for i, t := range id {
		if x, y := a[i]^t, b[i]^t; x != y {
			return x < y
		}
	}
	return false
}

// Prefix returns how many leading bits id and other have in common, 0 to 160.
func (id ID) Prefix(other ID) int {
	for i := range id {
		if x := id[i] ^ other[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(id)
}

// RandomID returns an id of the space, each as likely as any other.
func RandomID(random *rand.Rand) ID {
	var id ID
	binary.BigEndian.PutUint64(id[0:], random.Uint64())
	binary.BigEndian.PutUint64(id[8:], random.Uint64())
	binary.BigEndian.PutUint32(id[16:], random.Uint32())
	return id
}

// RandomNear returns an id whose first prefix bits are those of id, whose next one is not, and whose
// others are random: one that lies in the bucket of that number of a node named id.
func RandomNear(id ID, prefix int, random *rand.Rand) ID {
	out := RandomID(random)
	for bit := range min(prefix+1, 8*len(id)) {
		mask := byte(0x80) >> (bit % 8)
		same := id[bit/8] & mask
		if bit == prefix {
			same ^= mask
		}
		out[bit/8] = out[bit/8]&^mask | same
	}
	return out
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// prefixOf returns the 21 bits, in the upper end of the number, that BEP 42 ("Node ID restriction") asks of the id
// of a node at ip; r is the last byte of the id.
func prefixOf(ip netip.Addr, r byte) uint32 {
	mask := []byte{0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff}
	in := ip.AsSlice()
	if ip.Is4() {
		mask = []byte{0x03, 0x0f, 0x3f, 0xff}
	}
	in = in[:len(mask)] // of an IPv6 address the upper half counts
	for i, m := range mask {
		in[i] &= m
	}
	in[0] |= r & 7 << 5
	return crc32.Checksum(in, castagnoli) &^ (1<<11 - 1)
}

// IDFor returns an id that a node at ip may have (BEP 42); it is otherwise random.
func IDFor(ip netip.Addr, random *rand.Rand) ID {
	id := RandomID(random)
	want := prefixOf(ip.Unmap(), id[19])
	have := binary.BigEndian.Uint32(id[:])
	binary.BigEndian.PutUint32(id[:], want|have&(1<<11-1))
	return id
}

// Fits reports whether a node at ip may have this id by BEP 42, which makes an id hard to choose. Where
// addresses are not given out by a registry every id fits; see [Local].
func (id ID) Fits(ip netip.Addr) bool {
	ip = ip.Unmap()
	if Local(ip) {
		return true
	}
	have := binary.BigEndian.Uint32(id[:]) &^ (1<<11 - 1)
	return have == prefixOf(ip, id[19])
}

// benchmarks is the range for tests between networks (RFC 2544); no node of the public DHT lives there.
var benchmarks = netip.MustParsePrefix("198.18.0.0/15")

// Local reports whether addresses of this kind are free for anyone to take: loopback, link-local,
// private networks, and the range for tests. BEP 42 exempts them ("Enforcement"), and so do the rules
// that keep one network from filling a table.
func Local(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || benchmarks.Contains(ip)
}

// Network returns the network that an address counts for where nodes of one network are limited: the /24 of an
// IPv4 address, the /64 of an IPv6 one.
func Network(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	length := 64
	if ip.Is4() {
		length = 24
	}
	p, err := ip.WithZone("").Prefix(length)
	if err != nil {
		return netip.Prefix{} // no address
	}
	return p
}

// A Contact is where a node can be asked, and under which name.
type Contact struct {
	ID   ID
	Addr netip.AddrPort
}

// Compare orders contacts by their distance to id, the nearer first, and those of one id by their address. With the zero
// id that is the order of their own ids.
func (id ID) Compare(a, b Contact) int {
	switch {
	case id.Closer(a.ID, b.ID):
		return -1
	case id.Closer(b.ID, a.ID):
		return 1
	}
	return a.Addr.Compare(b.Addr)
}
