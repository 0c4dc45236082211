// Package krpc is the codec of the DHT's messages: bencoded dictionaries in single UDP packets (BEP 5
// "KRPC Protocol"), over IPv4 and IPv6 (BEP 32), with scrapes (BEP 33), read-only nodes (BEP 43) and samples
// (BEP 51). It also says what names a node: ids, their distance, and which id a node at an address may
// have (BEP 42).
//
// A packet is taken as programs in the field write it: keys in any order, unknown ones ignored. What
// cannot be used (addresses without a port, lists cut short) is left out, and nothing is allocated by a
// number that a packet claims.
//
// The package is pure. What [Parse] returns aliases the packet, but for lists of addresses.
package krpc

import (
	"fmt"
	"net/netip"

	"bittern/bencode"
	"bittern/peer/compact"
)

const (
	// K is how many nodes an answer names (BEP 5).
	K = 8

	// MaxPacket bounds the packets that we send, in bytes: BEP 32, "must not send UDP datagrams with a payload
	// larger than 1024 octets".
	MaxPacket = 1024

	// MaxReceived bounds the packets that are read; a longer one is no message of this protocol.
	MaxReceived = 4096
)

// Limits of what is taken from one packet.
const (
	maxNodes   = 4 * K // of one list
	maxValues  = 200
	maxToken   = 128 // bytes; one that we could not send back in a packet of ours is of no use
	maxT       = 64
	maxSamples = MaxReceived / 20
)

// A Method is what a query asks for.
type Method string

// The queries that we know. Parse lets others through, which are answered with an error.
const (
	Ping             Method = "ping"
	FindNode         Method = "find_node"
	GetPeers         Method = "get_peers"
	AnnouncePeer     Method = "announce_peer"
	SampleInfohashes Method = "sample_infohashes" // BEP 51
)

// A Kind is one of the three kinds of messages.
type Kind byte

// The kinds, as key "y" has them.
const (
	IsQuery Kind = 'q'
	IsReply Kind = 'r'
	IsError Kind = 'e'
)

// Codes of errors (BEP 5 "Errors").
const (
	GenericError  = 201
	ServerError   = 202
	ProtocolError = 203
	MethodUnknown = 204
)

// A Message is one packet. Of Query, Reply and Error the one that Kind names counts.
type Message struct {
	T        []byte // transaction id: chosen by who asks, sent back by who answers; 1 to 64 bytes
	Kind     Kind
	V        []byte         // client and version, usually four bytes; may be nil
	ReadOnly bool           // the sender answers no queries (BEP 43); queries only
	IP       netip.AddrPort // the receiver's address as the sender sees it (BEP 42); answers only, may be the zero value

	Query Query
	Reply Reply
	Error Error
}

// Want says which lists of nodes a query asks for (BEP 32). The zero value asks for that of the family
// the query came by.
type Want struct{ N4, N6 bool }

// A Query asks. Which fields count depends on the method.
type Query struct {
	Method Method
	ID     ID // of the sender

	Target ID   // find_node and sample_infohashes: target; get_peers and announce_peer: info_hash
	Want   Want // find_node, get_peers, sample_infohashes

	NoSeed, Scrape bool // get_peers (BEP 33)

	Token       []byte // announce_peer: from the receiver's own reply to get_peers
	Port        uint16 // announce_peer: where the peer listens, unless ImpliedPort
	ImpliedPort bool   // announce_peer: it listens at the port the packet came from
	Seed        bool   // announce_peer (BEP 33)
}

// A Reply answers a query; a field that is not there is nil.
type Reply struct {
	ID     ID // of the sender
	Nodes  []Contact
	Nodes6 []Contact
	Values []netip.AddrPort // peers
	Token  []byte

	Seeds, Peers *Bloom // BEP 33

	Samples  []byte // BEP 51: info-hashes, 20 bytes each; not nil if the sender knows that BEP
	Num      int64  // info-hashes it stores; 0 or more
	Interval int64  // seconds, 0 to 21600
}

// An Error says that a query cannot be answered.
type Error struct {
	Code int64
	Text string // by a stranger: any bytes, at most 100
}

// Error makes an Error an error.
func (e *Error) Error() string { return fmt.Sprintf("krpc: error %d: %s", e.Code, e.Text) }

// limits of the bencoding of a packet: nothing in the protocol is deeper than 3.
var limits = bencode.Limits{Depth: 10, Tokens: 1000, Size: MaxReceived}

var errJunk = fmt.Errorf("krpc: not a message of the DHT")

// Parse reads a packet. If the error is an [*Error], the packet is a query with a transaction id that lacks what
// its method needs; the error may then be sent back. Any other error means that it cannot be answered.
func Parse(packet []byte) (Message, error) {
	d, err := bencode.DecodeTolerant(packet, limits)
	if err != nil {
		return Message{}, fmt.Errorf("krpc: %w", err)
	}
	var m Message
	y, _ := d.Get("y").Bytes()
	m.T, _ = d.Get("t").Bytes()
	if len(y) != 1 || len(m.T) == 0 || len(m.T) > maxT {
		return Message{}, errJunk
	}
	m.Kind = Kind(y[0])
	m.V, _ = d.Get("v").Bytes()
	m.ReadOnly = isOne(d.Get("ro"))
	m.IP = parseAddr(d.Get("ip"))
	switch m.Kind {
	case IsQuery:
		if fault := m.Query.parse(d); fault != nil {
			return m, fault
		}
	case IsReply:
		if !m.Reply.parse(d.Get("r")) {
			return Message{}, errJunk
		}
	case IsError:
		m.Error.parse(d.Get("e"))
	default:
		return Message{}, errJunk
	}
	return m, nil
}

func (q *Query) parse(d bencode.Value) *Error {
	method, ok := d.Get("q").Text()
	if !ok {
		return &Error{ProtocolError, "no method"}
	}
	a := d.Get("a")
	q.Method = Method(method)
	if !parseID(&q.ID, a.Get("id")) {
		return &Error{ProtocolError, "id must be 20 bytes"}
	}
	for v := range a.Get("want").List() {
		name, _ := v.Bytes()
		q.Want.N4 = q.Want.N4 || string(name) == "n4"
		q.Want.N6 = q.Want.N6 || string(name) == "n6"
	}
	switch q.Method {
	case FindNode, SampleInfohashes:
		if !parseID(&q.Target, a.Get("target")) {
			return &Error{ProtocolError, "target must be 20 bytes"}
		}
	case GetPeers, AnnouncePeer:
		if !parseID(&q.Target, a.Get("info_hash")) {
			return &Error{ProtocolError, "info_hash must be 20 bytes"}
		}
		q.NoSeed, q.Scrape, q.Seed = isOne(a.Get("noseed")), isOne(a.Get("scrape")), isOne(a.Get("seed"))
	}
	if q.Method != AnnouncePeer {
		return nil
	}
	q.Token, _ = a.Get("token").Bytes()
	implied, _ := a.Get("implied_port").Int()
	q.ImpliedPort = implied != 0
	port, _ := a.Get("port").Int()
	if !q.ImpliedPort && (port <= 0 || port > 0xFFFF) {
		return &Error{ProtocolError, "port must be 1 to 65535"}
	}
	if !q.ImpliedPort {
		q.Port = uint16(port)
	}
	return nil
}

func (r *Reply) parse(d bencode.Value) bool {
	if !parseID(&r.ID, d.Get("id")) {
		return false
	}
	if nodes, ok := d.Get("nodes").Bytes(); ok {
		r.Nodes = parseNodes(nodes, compact.Size4, compact.Parse4)
	}
	if nodes, ok := d.Get("nodes6").Bytes(); ok {
		r.Nodes6 = parseNodes(nodes, compact.Size6, compact.Parse6)
	}
	for v := range d.Get("values").List() {
		if a := parseAddr(v); compact.Usable(a) {
			r.Values = append(r.Values, a)
		}
		if len(r.Values) == maxValues {
			break
		}
	}
	if token, ok := d.Get("token").Bytes(); ok && len(token) > 0 && len(token) <= maxToken {
		r.Token = token
	}
	r.Seeds, r.Peers = parseBloom(d.Get("BFsd")), parseBloom(d.Get("BFpe"))
	if samples, ok := d.Get("samples").Bytes(); ok {
		r.Samples = samples[:min(len(samples), 20*maxSamples)/20*20]
		num, _ := d.Get("num").Int()
		interval, _ := d.Get("interval").Int()
		r.Num, r.Interval = max(num, 0), min(max(interval, 0), 21600)
	}
	return true
}

func (e *Error) parse(v bencode.Value) {
	for v := range v.List() {
		if n, ok := v.Int(); ok && e.Code == 0 {
			e.Code = n
		}
		if s, ok := v.Bytes(); ok && e.Text == "" {
			e.Text = string(s[:min(len(s), 100)])
		}
	}
}

func isOne(v bencode.Value) bool {
	n, _ := v.Int()
	return n == 1
}

func parseID(id *ID, v bencode.Value) bool {
	b, _ := v.Bytes()
	return len(b) == len(id) && copy(id[:], b) == len(id)
}

// parseAddr reads a compact address; the zero value stands for anything else.
func parseAddr(v bencode.Value) netip.AddrPort {
	b, _ := v.Bytes()
	var as []netip.AddrPort
	switch len(b) {
	case compact.Size4:
		as = compact.Parse4(b)
	case compact.Size6:
		as = compact.Parse6(b)
	default:
		return netip.AddrPort{}
	}
	return as[0]
}

// parseNodes reads compact node infos (BEP 5 "Contact Encoding", BEP 32 "nodes6") and leaves out those with an address
// that no node has.
func parseNodes(in []byte, size int, parse func([]byte) []netip.AddrPort) []Contact {
	out := make([]Contact, 0, min(len(in)/(20+size), maxNodes))
	for len(in) >= 20+size && len(out) < maxNodes {
		c := Contact{ID: ID(in[:20]), Addr: parse(in[20 : 20+size])[0]}
		if compact.Usable(c.Addr) {
			out = append(out, c)
		}
		in = in[20+size:]
	}
	return out
}

// Append appends the packet for m to dst. Lists of nodes must hold addresses of their family only; m.T must not
// be empty.
func Append(dst []byte, m *Message) []byte {
	d := map[string]any{"t": m.T, "y": string(m.Kind)}
	if len(m.V) > 0 {
		d["v"] = m.V
	}
	if m.ReadOnly {
		d["ro"] = 1
	}
	if m.IP.IsValid() {
		d["ip"] = appendAddr(nil, m.IP)
	}
	switch m.Kind {
	case IsQuery:
		d["q"], d["a"] = string(m.Query.Method), m.Query.arguments()
	case IsReply:
		d["r"] = m.Reply.values()
	case IsError:
		d["e"] = []any{m.Error.Code, m.Error.Text}
	}
	return bencode.Append(dst, d)
}

func (q *Query) arguments() map[string]any {
	a := map[string]any{"id": q.ID[:]}
	switch q.Method {
	case FindNode, SampleInfohashes:
		a["target"] = q.Target[:]
	case GetPeers, AnnouncePeer:
		a["info_hash"] = q.Target[:]
	}
	var want []string
	if q.Want.N4 {
		want = append(want, "n4")
	}
	if q.Want.N6 {
		want = append(want, "n6")
	}
	if want != nil {
		a["want"] = want
	}
	setFlag(a, "noseed", q.NoSeed)
	setFlag(a, "scrape", q.Scrape)
	if q.Method == AnnouncePeer {
		setFlag(a, "seed", q.Seed)
		setFlag(a, "implied_port", q.ImpliedPort)
		a["port"], a["token"] = q.Port, q.Token
	}
	return a
}

func setFlag(d map[string]any, key string, on bool) {
	if on {
		d[key] = 1
	}
}

func (r *Reply) values() map[string]any {
	d := map[string]any{"id": r.ID[:]}
	if r.Nodes != nil {
		d["nodes"] = appendNodes(nil, r.Nodes)
	}
	if r.Nodes6 != nil {
		d["nodes6"] = appendNodes(nil, r.Nodes6)
	}
	if r.Values != nil {
		values := make([]any, len(r.Values))
		for i, a := range r.Values {
			values[i] = appendAddr(nil, a)
		}
		d["values"] = values
	}
	if r.Token != nil {
		d["token"] = r.Token
	}
	if r.Seeds != nil {
		d["BFsd"] = r.Seeds[:]
	}
	if r.Peers != nil {
		d["BFpe"] = r.Peers[:]
	}
	if r.Samples != nil {
		d["samples"], d["num"], d["interval"] = r.Samples, r.Num, r.Interval
	}
	return d
}

func appendAddr(dst []byte, a netip.AddrPort) []byte {
	return compact.Append6(compact.Append4(dst, a), a) // each takes its own family only
}

func appendNodes(dst []byte, nodes []Contact) []byte {
	for _, n := range nodes {
		dst = appendAddr(append(dst, n.ID[:]...), n.Addr)
	}
	return dst
}
