package wire

import (
	"fmt"
	"net/netip"

	"bittern/bencode"
	"bittern/peer/compact"
)

// MaxPex is how many contacts of either kind a message of ut_pex may have: "the combined amount of
// added v4/v6 contacts should not exceed 50 entries. The same applies to dropped entries" (BEP 11).
// The BEP lets the first message of a connection have more; of a stranger's word 50 are enough.
const MaxPex = 50

// ErrPex says that a message of ut_pex is no bencoded dictionary. It matches [ErrProtocol].
var ErrPex = fmt.Errorf("wire: peer exchange message is no dictionary: %w", ErrProtocol)

// Flags of a contact: what the sender of a [Pex] knows of it (BEP 11).
const (
	PexEncryption byte = 0x01 // prefers encryption
	PexSeed       byte = 0x02 // seed or upload_only
	PexUTP        byte = 0x04 // supports uTP
	PexHolepunch  byte = 0x08 // supports ut_holepunch
	PexReachable  byte = 0x10 // "outgoing connection, peer is reachable"
)

// A Pex is a message of ut_pex (BEP 11), the payload of an extended message: who joined and who
// left those that its sender is connected to, as far as it says.
type Pex struct {
	Added   []netip.AddrPort
	Flags   []byte // of Added, one each
	Dropped []netip.AddrPort
}

// AppendPex appends the payload of a message to dst. Flags must be as long as Added; invalid addresses
// are left out. Nothing is counted here: at most [MaxPex] of either kind is the caller's to keep.
func AppendPex(dst []byte, p Pex) []byte {
	var flags4, flags6 []byte
	for i, a := range p.Added {
		switch ip := a.Addr().Unmap(); {
		case ip.Is4():
			flags4 = append(flags4, p.Flags[i])
		case ip.Is6():
			flags6 = append(flags6, p.Flags[i])
		}
	}
	dst = append(dst, 'd')
	dst = appendContacts(dst, "added", compact.Append4(nil, p.Added...))
	dst = appendContacts(dst, "added.f", flags4)
	dst = appendContacts(dst, "added6", compact.Append6(nil, p.Added...))
	dst = appendContacts(dst, "added6.f", flags6)
	dst = appendContacts(dst, "dropped", compact.Append4(nil, p.Dropped...))
	dst = appendContacts(dst, "dropped6", compact.Append6(nil, p.Dropped...))
	return append(dst, 'e')
}

func appendContacts(dst []byte, key string, list []byte) []byte {
	if len(list) == 0 {
		return dst
	}
	return bencode.AppendString(bencode.AppendString(dst, key), list)
}

// ParsePex reads the payload of an extended message of our id for ut_pex: at most [MaxPex] contacts
// of either kind, of which those beyond are not even built. Fields of a wrong type are ignored like
// unknown ones, entries that are cut off too; flags that are missing are 0. The addresses are as
// the peer claims and may be of any kind. The only error is [ErrPex].
func ParsePex(payload []byte) (Pex, error) {
	d, err := bencode.DecodeTolerant(payload, bencode.Limits{Depth: 20, Tokens: 1000})
	if err != nil || d.Kind() != bencode.Dict {
		return Pex{}, ErrPex
	}
	var p Pex
	var n4 int
	p.Added, n4 = contacts(d.Get("added"), d.Get("added6"))
	if len(p.Added) > 0 {
		p.Flags = make([]byte, len(p.Added))
		f4, _ := d.Get("added.f").Bytes()
		f6, _ := d.Get("added6.f").Bytes()
		copy(p.Flags[:n4], f4)
		copy(p.Flags[n4:], f6)
	}
	p.Dropped, _ = contacts(d.Get("dropped"), d.Get("dropped6"))
	return p, nil
}

// contacts returns the first MaxPex entries of two compact lists, and how many are of the first.
func contacts(v4, v6 bencode.Value) (all []netip.AddrPort, n4 int) {
	raw4, _ := v4.Bytes()
	raw6, _ := v6.Bytes()
	all = compact.Parse4(raw4[:min(len(raw4), MaxPex*compact.Size4)])
	n4 = len(all)
	return append(all, compact.Parse6(raw6[:min(len(raw6), (MaxPex-n4)*compact.Size6)])...), n4
}
