package wire

import (
	"errors"
	"fmt"
)

// HandshakeLen is the size of a handshake in bytes; [GreetingLen] of them are the same for
// everybody and worth checking before the rest is waited for.
const (
	HandshakeLen = GreetingLen + 8 + 20 + 20
	GreetingLen  = 1 + len(protocol)

	protocol = "BitTorrent protocol"
)

// ErrHandshake says that the other end does not speak BitTorrent at all. It does not match
// [ErrProtocol]: whoever answers at a stale address has done nothing to be banned for.
var ErrHandshake = errors.New("not a BitTorrent handshake")

// A Reserved is the field of a handshake whose bits name what an end can do.
type Reserved [8]byte

// What we can do: the extension protocol (BEP 10: "reserved_byte[5] & 0x10") and the fast
// extension (BEP 6: "reserved_byte[7] & 0x04").
var ours = Reserved{5: 0x10, 7: 0x04}

// OurReserved returns the bits that we set.
func OurReserved() Reserved { return ours }

// Ext reports the bit of the extension protocol (BEP 10).
func (r Reserved) Ext() bool { return r[5]&0x10 != 0 }

// Fast reports the bit of the fast extension (BEP 6).
func (r Reserved) Fast() bool { return r[7]&0x04 != 0 }

// WithDHT returns r with the bit of a peer that runs a DHT node (BEP 5).
func (r Reserved) WithDHT() Reserved {
	r[7] |= 0x01
	return r
}

// DHT reports the bit of a peer that runs a DHT node (BEP 5).
func (r Reserved) DHT() bool { return r[7]&0x01 != 0 }

// A Handshake is what both ends send first (BEP 3).
type Handshake struct {
	Reserved Reserved
	InfoHash [20]byte
	PeerID   [20]byte
}

// AppendHandshake appends the [HandshakeLen] bytes of h to dst.
func AppendHandshake(dst []byte, h Handshake) []byte {
	dst = append(dst, byte(len(protocol)))
	dst = append(dst, protocol...)
	dst = append(dst, h.Reserved[:]...)
	dst = append(dst, h.InfoHash[:]...)
	return append(dst, h.PeerID[:]...)
}

// CheckGreeting checks the first [GreetingLen] bytes of a handshake; the error matches [ErrHandshake].
func CheckGreeting(in []byte) error {
	if len(in) < GreetingLen || in[0] != byte(len(protocol)) || string(in[1:GreetingLen]) != protocol {
		return fmt.Errorf("wire: %.*q: %w", GreetingLen, in[:min(len(in), GreetingLen)], ErrHandshake)
	}
	return nil
}

// ParseHandshake reads exactly [HandshakeLen] bytes; the error matches [ErrHandshake].
func ParseHandshake(in []byte) (Handshake, error) {
	if err := CheckGreeting(in); err != nil {
		return Handshake{}, err
	}
	if len(in) != HandshakeLen {
		return Handshake{}, fmt.Errorf("wire: %d bytes: %w", len(in), ErrHandshake)
	}
	var h Handshake
	rest := in[GreetingLen:]
	copy(h.Reserved[:], rest)
	copy(h.InfoHash[:], rest[8:])
	copy(h.PeerID[:], rest[28:])
	return h, nil
}
