// Package table is a node's routing table (BEP 5 "Routing Table"; Maymounkov and Mazieres, "Kademlia", 2002): the
// nodes that are known to answer, many that are near in the id space and few that are far, so that each
// step of a search halves the distance.
//
// Bucket i holds the nodes whose ids have i leading bits in common with our own, the last bucket those with that
// many or more; it is split when it is full. A node enters when it has answered us, with an id that its
// address allows (BEP 42), and at most two of one network share a bucket. Others wait beside the bucket, bounded, and
// take the place of nodes that stop answering.
//
// A wide table, which is what a node that searches wants, has larger buckets for the far half of the space
// and its neighbours, and of the nodes there keeps the quick ones: the first step of a search is shorter and faster
// (Jimenez et al., "Sub-second lookups on a large-scale Kademlia-based overlay", 2011, "Routing table management").
//
// The package is pure: it is told the time and what happened, and says whom to ask next.
package table

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bittern/dht/krpc"
)

const (
	// Fresh is how long a node counts as good after we heard from it, and a bucket as up to date (BEP 5).
	Fresh = 15 * time.Minute

	maxFails   = 2               // queries in a row without an answer that make a node bad: BEP 5, "try once more"
	retryAfter = 5 * time.Second // between the pings of one node
	perNetwork = 2               // nodes of one network in one bucket
	spares     = krpc.K          // nodes that wait beside a bucket
)

// widths of the first buckets of a wide table; libtorrent has the same.
var widths = [...]int{128, 64, 32, 16}

// A Table is a routing table. It is not safe for concurrent use.
type Table struct {
	self    krpc.ID
	wide    bool
	random  *rand.Rand
	buckets []bucket // at least one
}

type bucket struct {
	nodes   []node // that answered and fit
	spare   []node // that would like to be there, the latest to be heard of last
	changed time.Time
}

type node struct {
	krpc.Contact
	rtt      time.Duration // smoothed; 0 until it has answered
	answered time.Time     // its last answer to us; zero if there was none
	heard    time.Time     // its last answer or query
	pinged   time.Time     // when Probe last named it
	fails    int           // queries in a row that it left unanswered
}

func (n *node) good(now time.Time) bool {
	return n.fails == 0 && !n.answered.IsZero() && now.Sub(n.heard) < Fresh
}

func (n *node) bad() bool { return n.fails >= maxFails }

// New returns an empty table for the node named self. The table draws from random.
func New(self krpc.ID, wide bool, random *rand.Rand) *Table {
	return &Table{self: self, wide: wide, random: random, buckets: make([]bucket, 1)}
}

// Self returns the id that the table is built around.
func (t *Table) Self() krpc.ID { return t.self }

// Rename gives the node another id and sorts the nodes anew.
func (t *Table) Rename(self krpc.ID) {
	old := t.buckets
	t.self, t.buckets = self, make([]bucket, 1)
	for _, b := range old {
		for _, n := range b.nodes {
			t.insert(n)
		}
	}
}

// width returns how many nodes bucket i may hold.
func (t *Table) width(i int) int {
	if t.wide && i < len(widths) {
		return widths[i]
	}
	return krpc.K
}

func (t *Table) index(id krpc.ID) int { return min(t.self.Prefix(id), len(t.buckets)-1) }

func find(nodes []node, c krpc.Contact) *node {
	for i := range nodes {
		if nodes[i].Contact == c {
			return &nodes[i]
		}
	}
	return nil
}

// lookUp returns what is known of a contact, or nil; the pointer holds until the table changes.
func (t *Table) lookUp(c krpc.Contact) *node {
	b := &t.buckets[t.index(c.ID)]
	if n := find(b.nodes, c); n != nil {
		return n
	}
	return find(b.spare, c)
}

// Answered tells the table that a node answered a query of ours after rtt.
func (t *Table) Answered(now time.Time, c krpc.Contact, rtt time.Duration) {
	if c.ID == t.self {
		return
	}
	b := &t.buckets[t.index(c.ID)]
	if n := find(b.nodes, c); n != nil {
		n.rtt = (3*n.rtt + rtt) / 4
		n.answered, n.heard, n.fails = now, now, 0
		b.changed = now
		return
	}
	n := node{Contact: c, rtt: rtt, answered: now, heard: now}
	if i := slices.IndexFunc(b.spare, func(s node) bool { return s.Contact == c }); i >= 0 {
		b.spare = slices.Delete(b.spare, i, i+1)
	}
	t.insert(n)
}

// Asked tells the table that a node sent us a query, which proves nothing: its address may be forged.
// Nodes that are read-only (BEP 43) are not to be told.
func (t *Table) Asked(now time.Time, c krpc.Contact) {
	if c.ID == t.self {
		return
	}
	if n := t.lookUp(c); n != nil {
		n.heard = now
		return
	}
	t.wait(&t.buckets[t.index(c.ID)], node{Contact: c, heard: now})
}

// Failed tells the table that a node left a query of ours unanswered. It keeps its place, though it is no longer handed
// out, until another can have it: if it was our own network that failed, the table survives.
func (t *Table) Failed(c krpc.Contact) {
	b := &t.buckets[t.index(c.ID)]
	if i := slices.IndexFunc(b.spare, func(s node) bool { return s.Contact == c }); i >= 0 {
		b.spare = slices.Delete(b.spare, i, i+1)
		return
	}
	n := find(b.nodes, c)
	if n == nil {
		return
	}
	n.fails++
	if !n.bad() {
		return
	}
	for i := len(b.spare) - 1; i >= 0; i-- { // the latest to be heard of is the likeliest to live
		if s := b.spare[i]; !s.answered.IsZero() && s.ID.Fits(s.Addr.Addr()) {
			b.spare = slices.Delete(b.spare, i, i+1)
			t.insert(s)
			return
		}
	}
}

// insert finds a place for a node that has answered.
func (t *Table) insert(n node) {
	for {
		i := t.index(n.ID)
		b := &t.buckets[i]
		if !n.ID.Fits(n.Addr.Addr()) {
			t.wait(b, n)
			return
		}
		if !t.clear(b, &n) {
			return
		}
		if len(b.nodes) < t.width(i) {
			b.nodes = append(b.nodes, n)
			b.changed = later(b.changed, n.heard)
			return
		}
		if i == len(t.buckets)-1 && i < 8*len(t.self)-1 {
			t.split()
			continue
		}
		if out := b.weakest(&n, t.wide && i < len(widths)); out >= 0 {
			b.nodes[out] = n
			b.changed = later(b.changed, n.heard)
			return
		}
		t.wait(b, n)
		return
	}
}

// clear decides between n and the nodes that it cannot be beside: those with its id at another address, with its
// address (table-wide, for an address is one node), and those of its network if they fill their share. It
// removes the others if they are bad and reports whether n may enter.
func (t *Table) clear(b *bucket, n *node) bool {
	ip, local := n.Addr.Addr(), krpc.Local(n.Addr.Addr())
	for i := range t.buckets {
		t.buckets[i].nodes = slices.DeleteFunc(t.buckets[i].nodes, func(o node) bool {
			return o.Addr == n.Addr // it has answered under a new id
		})
		if local {
			continue
		}
		for _, o := range t.buckets[i].nodes {
			if o.Addr.Addr() == ip {
				return t.buckets[i].drop(func(o node) bool { return o.Addr.Addr() == ip && o.bad() })
			}
		}
	}
	network, same := krpc.Network(ip), 0
	for _, o := range b.nodes {
		if o.ID == n.ID {
			return b.drop(func(o node) bool { return o.ID == n.ID && o.bad() })
		}
		if !local && krpc.Network(o.Addr.Addr()) == network {
			same++
		}
	}
	return same < perNetwork || b.drop(func(o node) bool { return o.bad() && krpc.Network(o.Addr.Addr()) == network })
}

// drop removes the nodes that match, and reports whether there were any.
func (b *bucket) drop(match func(node) bool) bool {
	before := len(b.nodes)
	b.nodes = slices.DeleteFunc(b.nodes, match)
	return len(b.nodes) < before
}

// weakest returns the index of the node of a full bucket that n takes the place of: a bad one, else, if quick
// ones are wanted, the slowest of those that are clearly slower. It is -1 if there is none.
func (b *bucket) weakest(n *node, quick bool) int {
	out := -1
	for i := range b.nodes {
		if b.nodes[i].bad() {
			return i
		}
		if quick && n.rtt < b.nodes[i].rtt*3/4 && (out < 0 || b.nodes[i].rtt > b.nodes[out].rtt) {
			out = i
		}
	}
	return out
}

// split makes two buckets of the last, and sorts its nodes anew: one of the two may be too narrow for them.
func (t *Table) split() {
	last := len(t.buckets) - 1
	old := t.buckets[last]
	t.buckets[last] = bucket{changed: old.changed}
	t.buckets = append(t.buckets, bucket{changed: old.changed})
	for _, n := range old.nodes {
		t.insert(n)
	}
	for _, n := range old.spare {
		t.wait(&t.buckets[t.index(n.ID)], n)
	}
}

// wait puts a node beside a bucket. Where all places are taken one goes that never answered, or the one that was
// heard of longest ago; a node that never answered does not drive out one that did.
func (t *Table) wait(b *bucket, n node) {
	network := krpc.Network(n.Addr.Addr())
	if !krpc.Local(n.Addr.Addr()) && slices.ContainsFunc(b.spare, func(s node) bool { return krpc.Network(s.Addr.Addr()) == network }) {
		return // one of a network is enough here
	}
	if slices.ContainsFunc(b.spare, func(s node) bool { return s.ID == n.ID || s.Addr == n.Addr }) {
		return
	}
	if len(b.spare) >= spares {
		i := slices.IndexFunc(b.spare, func(s node) bool { return s.answered.IsZero() })
		if i < 0 && n.answered.IsZero() {
			return
		}
		b.spare = slices.Delete(b.spare, max(i, 0), max(i, 0)+1)
	}
	b.spare = append(b.spare, n)
}

// Closest appends up to n good nodes to dst, those nearest to target, nearest first. These are what a
// node names to others.
func (t *Table) Closest(dst []krpc.Contact, now time.Time, target krpc.ID, n int) []krpc.Contact {
	return t.nearest(dst, target, n, func(o *node) bool { return o.good(now) })
}

// Start appends up to n nodes to dst that a search for target may begin with, nearest first. Where good ones are too
// few it names others: those that were not heard from of late, then those that failed and those that do not fit.
func (t *Table) Start(dst []krpc.Contact, now time.Time, target krpc.ID, n int) []krpc.Contact {
	had := len(dst)
	dst = t.nearest(dst, target, n, func(o *node) bool { return o.fails == 0 })
	if len(dst)-had == n {
		return dst
	}
	dst = t.nearest(dst, target, n-(len(dst)-had), func(o *node) bool { return o.fails > 0 })
	var rest []krpc.Contact
	for i := range t.buckets {
		for _, s := range t.buckets[i].spare {
			rest = append(rest, s.Contact)
		}
	}
	slices.SortFunc(rest, target.Compare)
	return append(dst, rest[:min(len(rest), n-(len(dst)-had))]...)
}

// nearest appends the n nodes nearest to target of those that will do.
func (t *Table) nearest(dst []krpc.Contact, target krpc.ID, n int, will func(*node) bool) []krpc.Contact {
	from := len(dst)
	for i := range t.buckets {
		for j := range t.buckets[i].nodes {
			o := &t.buckets[i].nodes[j]
			if !will(o) {
				continue
			}
			at, _ := slices.BinarySearchFunc(dst[from:], o.Contact, target.Compare)
			if at == n {
				continue
			}
			dst = slices.Insert(dst, from+at, o.Contact)
			dst = dst[:min(len(dst), from+n)]
		}
	}
	return dst
}

// Probe names a node that is worth a ping now: one that may deserve a place in a bucket that has room for it, one that
// failed once, or one not heard from of late while another waits for its place. It names no node twice
// within a few seconds; what comes of the ping is to be told by Answered or Failed.
func (t *Table) Probe(now time.Time) (krpc.Contact, bool) {
	for i := range t.buckets {
		b := &t.buckets[i]
		waiting := slices.ContainsFunc(b.spare, func(s node) bool { return s.ID.Fits(s.Addr.Addr()) })
		if n := oldest(b.nodes, now, func(n *node) bool {
			return n.fails == 1 || waiting && !n.bad() && now.Sub(n.heard) >= Fresh
		}); n != nil {
			return n.Contact, true
		}
		room := len(b.nodes) < t.width(i) || slices.ContainsFunc(b.nodes, func(n node) bool { return n.bad() })
		if !room {
			continue
		}
		if s := oldest(b.spare, now, func(s *node) bool { return s.ID.Fits(s.Addr.Addr()) }); s != nil {
			return s.Contact, true
		}
	}
	return krpc.Contact{}, false
}

// oldest returns the node that was not heard from for longest, of those that match and were not pinged just now, and
// marks it as pinged; nil if there is none.
func oldest(nodes []node, now time.Time, match func(*node) bool) *node {
	var out *node
	for i := range nodes {
		n := &nodes[i]
		if now.Sub(n.pinged) >= retryAfter && match(n) && (out == nil || n.heard.Before(out.heard)) {
			out = n
		}
	}
	if out != nil {
		out.pinged = now
	}
	return out
}

// Refresh names an id to search for in a bucket that has not changed for [Fresh] (BEP 5), and takes the bucket as
// refreshed. The last bucket is refreshed by a search for our own id.
func (t *Table) Refresh(now time.Time) (krpc.ID, bool) {
	for i := range t.buckets {
		b := &t.buckets[i]
		if now.Sub(b.changed) < Fresh {
			continue
		}
		b.changed = now
		if i == len(t.buckets)-1 {
			return t.self, true
		}
		return krpc.RandomNear(t.self, i, t.random), true
	}
	return krpc.ID{}, false
}

// Good appends all good nodes to dst, in no special order, and returns it.
func (t *Table) Good(dst []krpc.Contact, now time.Time) []krpc.Contact {
	for i := range t.buckets {
		for j := range t.buckets[i].nodes {
			if n := &t.buckets[i].nodes[j]; n.good(now) {
				dst = append(dst, n.Contact)
			}
		}
	}
	return dst
}

// Len returns how many nodes the table holds, bad ones included.
func (t *Table) Len() int {
	n := 0
	for i := range t.buckets {
		n += len(t.buckets[i].nodes)
	}
	return n
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Knows reports whether a node at this address, of those at hand, has answered us, so that the address is not forged.
func (t *Table) Knows(addr netip.AddrPort) bool {
	for i := range t.buckets {
		for _, nodes := range [2][]node{t.buckets[i].nodes, t.buckets[i].spare} {
			if slices.ContainsFunc(nodes, func(n node) bool { return n.Addr == addr && !n.answered.IsZero() }) {
				return true
			}
		}
	}
	return false
}
