package wire

import (
	"fmt"
	"net/netip"

	"bittern/bencode"
)

// DefaultReqq is how many requests a peer that names no reqq lets us have outstanding: BEP 10,
// "The default in in libtorrent is 250".
const DefaultReqq = 250

// maxName bounds the client name that is kept of a peer, in bytes.
const maxName = 100

// ErrExtHandshake says that an extension handshake is no bencoded dictionary. It matches [ErrProtocol].
var ErrExtHandshake = fmt.Errorf("wire: extension handshake is no dictionary: %w", ErrProtocol)

// ExtIDs are the ids by which an end wants to receive the extended messages that we know; 0 means
// that it does not.
type ExtIDs struct {
	UtMetadata uint8 // BEP 9
	UtPex      uint8 // BEP 11
	DontHave   uint8 // BEP 54
	UploadOnly uint8 // BEP 21, as a message whenever it changes
}

// An ExtHandshake is the extension handshake (BEP 10). The zero value of a field means that it is
// left out, or was not given.
type ExtHandshake struct {
	M            ExtIDs
	MetadataSize int64      // bytes of the info dictionary (BEP 9); never negative, else as the peer claims
	Reqq         int        // requests the sender lets its peer have outstanding; 1 or more
	V            string     // client name and version; from a peer at most 100 bytes of any content
	P            uint16     // TCP port the sender listens on
	YourIP       netip.Addr // the receiver's address as the sender sees it: a hint, not to be trusted
	IPv4, IPv6   netip.Addr // where else the sender can be reached
	UploadOnly   bool       // the sender wants to download nothing (BEP 21)
}

// Outstanding returns how many requests may be outstanding at the sender of h.
func (h ExtHandshake) Outstanding() int {
	if h.Reqq > 0 {
		return h.Reqq
	}
	return DefaultReqq
}

// AppendExtHandshake appends the payload of an extended message of id 0 to dst.
func AppendExtHandshake(dst []byte, h ExtHandshake) []byte {
	m := map[string]any{}
	for _, e := range h.M.table() {
		if *e.id != 0 {
			m[e.name] = int64(*e.id)
		}
	}
	d := map[string]any{"m": m}
	putInt(d, "metadata_size", h.MetadataSize)
	putInt(d, "reqq", int64(h.Reqq))
	putInt(d, "p", int64(h.P))
	putAddr(d, "yourip", h.YourIP)
	putAddr(d, "ipv4", h.IPv4)
	putAddr(d, "ipv6", h.IPv6)
	if h.V != "" {
		d["v"] = h.V
	}
	if h.UploadOnly {
		d["upload_only"] = int64(1)
	}
	return bencode.Append(dst, d)
}

func putInt(d map[string]any, key string, n int64) {
	if n != 0 {
		d[key] = n
	}
}

func putAddr(d map[string]any, key string, a netip.Addr) {
	if a.IsValid() {
		d[key] = a.Unmap().AsSlice()
	}
}

// Update takes over what an extension handshake says, which may come again at any time, with
// the changes only: "the m dictionary is additive", an id of 0 takes an extension back. Fields of a
// wrong type or out of range are ignored like unknown ones. The only error is [ErrExtHandshake];
// h is unchanged then.
func (h *ExtHandshake) Update(payload []byte) error {
	d, err := bencode.DecodeTolerant(payload, bencode.Limits{Depth: 20, Tokens: 10_000})
	if err != nil || d.Kind() != bencode.Dict {
		return ErrExtHandshake
	}
	m := d.Get("m")
	for _, e := range h.M.table() {
		if id, ok := m.Get(e.name).Int(); ok && id >= 0 && id <= 0xFF {
			*e.id = uint8(id)
		}
	}
	if n, ok := d.Get("metadata_size").Int(); ok && n > 0 {
		h.MetadataSize = n
	}
	if n, ok := d.Get("reqq").Int(); ok && n > 0 {
		h.Reqq = int(min(n, 1<<20))
	}
	if n, ok := d.Get("p").Int(); ok && n > 0 && n <= 0xFFFF {
		h.P = uint16(n)
	}
	if n, ok := d.Get("upload_only").Int(); ok {
		h.UploadOnly = n != 0
	}
	if v, ok := d.Get("v").Bytes(); ok {
		h.V = string(v[:min(len(v), maxName)])
	}
	updateAddr(&h.YourIP, d.Get("yourip"), 4, 16)
	updateAddr(&h.IPv4, d.Get("ipv4"), 4, 4)
	updateAddr(&h.IPv6, d.Get("ipv6"), 16, 16)
	return nil
}

// updateAddr takes an address of one of two sizes in bytes.
func updateAddr(a *netip.Addr, v bencode.Value, size, orSize int) {
	raw, _ := v.Bytes()
	if len(raw) != size && len(raw) != orSize {
		return
	}
	if ip, ok := netip.AddrFromSlice(raw); ok {
		*a = ip.Unmap()
	}
}

type extName struct {
	name string
	id   *uint8
}

// table is the one place that spells the names of extensions.
func (e *ExtIDs) table() [4]extName {
	return [4]extName{
		{"ut_metadata", &e.UtMetadata},
		{"ut_pex", &e.UtPex},
		{"lt_donthave", &e.DontHave},
		{"upload_only", &e.UploadOnly},
	}
}
