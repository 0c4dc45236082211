// Package compact packs lists of peer addresses as trackers, the DHT and peer exchange send them:
// 6 bytes for an IPv4 address and port, 18 bytes for IPv6, both in network byte order (BEP 5, 7, 11, 23).
//
// The package is pure. It judges no address but by [Usable], which callers apply where an address
// comes from a stranger.
package compact

import (
	"encoding/binary"
	"net/netip"
)

// Sizes of one entry in bytes.
const (
	Size4 = 4 + 2  // IPv4 (BEP 23)
	Size6 = 16 + 2 // IPv6 (BEP 7)
)

// Append4 appends the IPv4 addresses among addrs, six bytes each, and leaves the others out.
// IPv4 addresses mapped into IPv6 count as IPv4.
func Append4(dst []byte, addrs ...netip.AddrPort) []byte {
	for _, a := range addrs {
		if ip := a.Addr().Unmap(); ip.Is4() {
			raw := ip.As4()
			dst = binary.BigEndian.AppendUint16(append(dst, raw[:]...), a.Port())
		}
	}
	return dst
}

// Append6 appends the IPv6 addresses among addrs, 18 bytes each, and leaves the others out. Zones are not sent.
func Append6(dst []byte, addrs ...netip.AddrPort) []byte {
	for _, a := range addrs {
		if ip := a.Addr().Unmap(); ip.Is6() {
			raw := ip.As16()
			dst = binary.BigEndian.AppendUint16(append(dst, raw[:]...), a.Port())
		}
	}
	return dst
}

// Parse4 returns the whole six-byte entries of in, in order; a shorter rest is left out.
func Parse4(in []byte) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(in)/Size4)
	for ; len(in) >= Size4; in = in[Size4:] {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte(in)), binary.BigEndian.Uint16(in[4:])))
	}
	return out
}

// Parse6 returns the whole 18-byte entries of in, in order; a shorter rest is left out. A mapped IPv4
// address comes back as plain IPv4, so that one host has one form everywhere.
func Parse6(in []byte) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(in)/Size6)
	for ; len(in) >= Size6; in = in[Size6:] {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom16([16]byte(in)).Unmap(), binary.BigEndian.Uint16(in[16:])))
	}
	return out
}

// Usable reports whether a could be the address of one peer: it has a port, and the address is neither
// unspecified, multicast nor the IPv4 broadcast. Whether private and loopback addresses make sense is the caller's to know.
func Usable(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	return ip.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !(ip.Is4() && ip.As4()[0] == 0)
}
