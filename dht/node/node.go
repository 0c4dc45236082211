// Package node is a DHT node as a value: it is told the time and what packets came, and says what packets to send
// and what it found (BEP 5, over IPv4 and IPv6 as BEP 32 has them, each with a table and searches of its own).
//
// It searches, announces, keeps its tables fresh, learns its own address from what others see and names itself
// after it (BEP 42), and, unless it is read-only (BEP 43), answers queries and stores announces: with tokens, within
// limits on what it keeps, sends and takes from one address.
//
// The package is pure, so the simulator in its tests drives the code that is shipped.
package node

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bittern/dht/krpc"
	"bittern/dht/lookup"
	"bittern/dht/table"
	"bittern/peer/rate"
)

// Limits of a node.
const (
	// dead is when a query that was not answered counts as failed. Searches go on long before ([lookup.Options.Slow]).
	dead = 5 * time.Second

	maxCalls      = 256      // queries out at once
	queriesPerSec = 40       // packets that we send on our own account, a second
	queryBurst    = 80       // packets
	answersPerSec = 8000     // bytes of answers a second; libtorrent's default
	answerBurst   = 16 << 10 // bytes
	maxRemembered = 400      // nodes of the last run, of one family
	maxFound      = 2000     // peers that a search reports of one family
	maxRouters    = 200      // of one family
)

// Options configure a node.
type Options struct {
	IPv4, IPv6 bool           // which of the two networks it takes part in
	ReadOnly   bool           // it answers no queries (BEP 43); see [Node.SetReadOnly]
	Wide       bool           // its tables have wide first buckets; see package table
	Search     lookup.Options // the zero value stands for [lookup.Shipped]
	Version    [4]byte        // sent as "v": two letters of the client and its version
	Random     *rand.Rand     // of its ids, tokens and transactions: to be unpredictable, it must be seeded so
}

// A Packet is to be sent.
type Packet struct {
	To   netip.AddrPort
	Data []byte // the receiver's to keep
}

// A SearchID names a search of a node.
type SearchID uint32

// Peers were found by a search; each is reported once.
type Peers struct {
	Search SearchID
	Addrs  []netip.AddrPort
}

// An Ended search has asked all it wanted to.
type Ended struct {
	Search    SearchID
	Answered  int // nodes that answered it
	Announced int // nodes that took the announce
}

// Effects are what the node wants done, in order.
type Effects struct {
	Packets []Packet
	Peers   []Peers
	Ended   []Ended
}

// A Node is one DHT node. It is not safe for concurrent use.
type Node struct {
	opt      Options
	families []*family
	calls    []*call // out, the oldest first
	searches []*search
	lastID   SearchID
	queries  rate.Bucket // packets
	answers  rate.Bucket // bytes
	floods   floods
	tokens   tokens
	store    store
	eff      Effects
	sample   sample
}

// A family is the node's part in one of the two networks.
type family struct {
	v6         bool
	table      *table.Table
	remembered []krpc.Contact   // from an earlier run: not known to live
	routers    []netip.AddrPort // nodes without a known id
	votes      votes
	upkeep     time.Time // when the table is next looked after
	booted     time.Time // when the routers were last asked because the table was empty
}

// A call is a query that is out.
type call struct {
	t      uint16
	to     netip.AddrPort
	id     krpc.ID // whom we expect there, if known
	known  bool
	sent   time.Time
	search *search // nil for a ping
	method krpc.Method
}

// New returns a node with empty tables.
func New(opt Options) *Node {
	if opt.Search == (lookup.Options{}) {
		opt.Search = lookup.Shipped
	}
	n := &Node{
		opt:     opt,
		queries: rate.NewBucket(queriesPerSec, queryBurst),
		answers: rate.NewBucket(answersPerSec, answerBurst),
		tokens:  newTokens(opt.Random),
		store:   newStore(),
	}
	for _, v6 := range []bool{false, true} {
		if v6 && opt.IPv6 || !v6 && opt.IPv4 {
			n.families = append(n.families, &family{v6: v6, table: table.New(krpc.RandomID(opt.Random), opt.Wide, opt.Random)})
		}
	}
	return n
}

// familyOf returns the family of an address, nil if the node takes no part in it.
func (n *Node) familyOf(a netip.Addr) *family {
	for _, f := range n.families {
		if f.v6 != a.Is4() {
			return f
		}
	}
	return nil
}

// Take returns what is to be done and forgets it.
func (n *Node) Take() Effects {
	eff := n.eff
	n.eff = Effects{}
	return eff
}

// SetReadOnly tells the node whether it is to answer queries: one that cannot be reached, or is gone in a minute, should
// not be in the tables of others (BEP 43).
func (n *Node) SetReadOnly(on bool) { n.opt.ReadOnly = on }

// Remember tells the node of nodes that lived in an earlier run.
func (n *Node) Remember(nodes []krpc.Contact) {
	for _, c := range nodes {
		if f := n.familyOf(c.Addr.Addr()); f != nil && len(f.remembered) < maxRemembered {
			f.remembered = append(f.remembered, c)
		}
	}
}

// Router tells the node of an address to begin from: a bootstrap node, or one that a torrent names.
// Searches that run ask it at once.
func (n *Node) Router(now time.Time, at netip.AddrPort) {
	f := n.familyOf(at.Addr())
	if f == nil || slices.Contains(f.routers, at) {
		return
	}
	if len(f.routers) >= maxRouters { // a name may lead to others each time it is looked up
		f.routers = slices.Delete(f.routers, 0, 1)
	}
	f.routers = append(f.routers, at)
	f.booted = time.Time{} // what was tried without it need not be waited for
	for _, s := range n.searches {
		if s.family == f && s.begged > 0 {
			s.routers = append(s.routers, at)
		}
	}
	n.run(now)
}

// Ping asks a node whether it is there, and takes it into the table if it is: a peer may tell its node's port (BEP 5 PORT).
func (n *Node) Ping(now time.Time, at netip.AddrPort) {
	if n.familyOf(at.Addr()) != nil && n.mayQuery(now) {
		n.query(now, &call{to: at, method: krpc.Ping})
	}
}

// Nodes returns how many good nodes the tables hold, of each network.
func (n *Node) Nodes(now time.Time) (ipv4, ipv6 int) {
	for _, f := range n.families {
		good := len(f.table.Good(nil, now))
		if f.v6 {
			ipv6 = good
		} else {
			ipv4 = good
		}
	}
	return ipv4, ipv6
}

// Save returns the nodes to be remembered for the next run: those that live, then those of the last run that were
// not found dead. It never names the node's own id.
func (n *Node) Save(now time.Time) []krpc.Contact {
	var out []krpc.Contact
	for _, f := range n.families {
		had := len(out)
		out = f.table.Good(out, now)
		for _, c := range f.remembered {
			if len(out)-had < maxRemembered && !slices.ContainsFunc(out[had:], func(o krpc.Contact) bool { return o.Addr == c.Addr }) {
				out = append(out, c)
			}
		}
	}
	return out
}

// Receive tells the node of a packet; it is not kept.
func (n *Node) Receive(now time.Time, from netip.AddrPort, packet []byte) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	f := n.familyOf(from.Addr())
	if f == nil || from.Port() == 0 {
		return
	}
	m, err := krpc.Parse(packet)
	switch {
	case m.Kind == krpc.IsQuery:
		n.serve(now, f, from, &m, err, len(packet))
	case err == nil:
		n.answered(now, f, from, &m)
	}
	n.run(now)
}

// answered takes an answer: only one to a query of ours, from where that went.
func (n *Node) answered(now time.Time, f *family, from netip.AddrPort, m *krpc.Message) {
	i := slices.IndexFunc(n.calls, func(c *call) bool {
		return c.to == from && len(m.T) == 2 && c.t == uint16(m.T[0])<<8|uint16(m.T[1])
	})
	if i < 0 {
		return
	}
	c := n.calls[i]
	n.calls = slices.Delete(n.calls, i, i+1)
	if m.Kind == krpc.IsError || m.Reply.ID == f.table.Self() {
		n.failed(f, c, false)
		return
	}
	who := krpc.Contact{ID: m.Reply.ID, Addr: from}
	if c.known && c.id != who.ID {
		f.table.Failed(krpc.Contact{ID: c.id, Addr: c.to})
	}
	// Liars lead searches to one another. What a search meets is in the table only once it has shown that it is of use.
	if rtt := now.Sub(c.sent); c.search == nil || !c.known || f.table.Knows(from) || slices.Contains(f.remembered, who) {
		f.table.Answered(now, who, rtt)
	} else {
		c.search.times[from] = rtt
	}
	n.vote(f, from.Addr(), m.IP.Addr())
	if c.search != nil {
		n.heard(now, c, who, &m.Reply)
	}
	for _, o := range n.families {
		if o != f && o.table.Len() < krpc.K { // a list of the other family, which we ask for only while that has no nodes
			n.learn(o, from.Addr(), nodesOf(o, &m.Reply))
		}
	}
}

func nodesOf(f *family, r *krpc.Reply) []krpc.Contact {
	if f.v6 {
		return r.Nodes6
	}
	return r.Nodes
}

// learn takes nodes of the other family as remembered ones.
func (n *Node) learn(f *family, from netip.Addr, nodes []krpc.Contact) {
	nodes = believable(f, from, nodes)
	for _, c := range nodes {
		if len(f.remembered) < maxRemembered && !slices.Contains(f.remembered, c) {
			f.remembered = append(f.remembered, c)
		}
	}
	for _, s := range n.searches {
		if s.family == f {
			s.look.Add(nodes...)
		}
	}
}

// believable returns the nodes that one at from may know of: none in a private network that we share, if it is
// not there itself, and not us.
func believable(f *family, from netip.Addr, nodes []krpc.Contact) []krpc.Contact {
	return slices.DeleteFunc(nodes, func(c krpc.Contact) bool {
		return c.Addr.Addr().Is4() == f.v6 || krpc.Local(c.Addr.Addr()) && !krpc.Local(from) || c.ID == f.table.Self()
	})
}

// failed takes it that a query got no answer, or one of no use. Only silence counts against the node.
func (n *Node) failed(f *family, c *call, silent bool) {
	who := krpc.Contact{ID: c.id, Addr: c.to}
	if silent && c.known {
		f.table.Failed(who)
		f.remembered = slices.DeleteFunc(f.remembered, func(r krpc.Contact) bool { return r == who })
	}
	if s := c.search; s != nil {
		s.out--
		if c.known && c.method != krpc.AnnouncePeer {
			s.look.Failed(who)
		}
	}
}

// mayQuery reports whether a query may be sent now.
func (n *Node) mayQuery(now time.Time) bool {
	return len(n.calls) < maxCalls && !n.queries.Ready(now).After(now)
}

// query sends a query, to which the caller gave all but the transaction.
func (n *Node) query(now time.Time, c *call) { n.send(now, c, krpc.Query{Method: c.method}) }

func (n *Node) send(now time.Time, c *call, q krpc.Query) {
	n.queries.Take(now, 1)
	c.sent = now
	for taken := true; taken; {
		c.t = uint16(n.opt.Random.Uint32())
		taken = slices.ContainsFunc(n.calls, func(o *call) bool { return o.t == c.t })
	}
	n.calls = append(n.calls, c)
	q.ID = n.familyOf(c.to.Addr()).table.Self()
	n.packet(c.to, &krpc.Message{Kind: krpc.IsQuery, T: []byte{byte(c.t >> 8), byte(c.t)}, ReadOnly: n.opt.ReadOnly, Query: q})
}

func (n *Node) packet(to netip.AddrPort, m *krpc.Message) int {
	m.V = n.opt.Version[:]
	data := krpc.Append(nil, m)
	n.eff.Packets = append(n.eff.Packets, Packet{To: to, Data: data})
	return len(data)
}

// Tick lets the node do what is due. It is to be called at the time that [Node.Next] names, or later.
func (n *Node) Tick(now time.Time) {
	for len(n.calls) > 0 && now.Sub(n.calls[0].sent) >= dead {
		c := n.calls[0]
		n.calls = n.calls[1:]
		n.failed(n.familyOf(c.to.Addr()), c, true)
	}
	for _, f := range n.families {
		n.maintain(now, f)
	}
	n.run(now)
}

// Next returns when Tick is next due.
func (n *Node) Next(now time.Time) time.Time {
	next := now.Add(upkeepEvery)
	for _, f := range n.families {
		next = earlier(next, f.upkeep)
	}
	if len(n.calls) > 0 {
		next = earlier(next, n.calls[0].sent.Add(dead))
	}
	for _, s := range n.searches {
		if at := s.look.Wake(now); !at.IsZero() {
			next = earlier(next, at)
		}
		for _, d := range []time.Duration{begAgain, patience} {
			if at := s.sent.Add(d); at.After(now) {
				next = earlier(next, at)
			}
		}
	}
	if len(n.searches) > 0 {
		if at := n.queries.Ready(now); at.After(now) {
			next = earlier(next, at)
		}
	}
	if next.Before(now) {
		return now
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
