// Package lookup is the search for the nodes nearest to a target: Kademlia's iterative lookup (BEP 5; Maymounkov and
// Mazieres, 2002), made quick and hard to mislead.
//
// Quick (Jimenez et al., "Sub-second lookups on a large-scale Kademlia-based overlay", 2011): several queries are in
// flight, more as the search comes nearer, each answer sends the next ones to the best nodes known by then, and a query that is not answered soon frees
// its slot, so no search waits for dead nodes. A late answer still counts.
//
// Hard to mislead: a search ends when the nearest nodes have answered whose ids their addresses allow (BEP 42); others
// are asked, but only so many. Of one network two nodes take part at most. A node that names others which
// do not answer is believed last. And nodes that name only one another do not keep a search among themselves: of those
// that end it only so many have one node to thank for being named, and where they look like a trap the search goes on along
// other paths (Baumgart and Mies, "S/Kademlia", 2007, has these disjoint from the start, which costs far more queries).
//
// The package is pure. Who runs a search sends the queries, and collects the peers that answers bring.
package lookup

import (
	"slices"
	"time"

	"bittern/dht/krpc"
)

// Options say how a search behaves.
type Options struct {
	// Flight is how many queries are in flight at once, 1 or more. A search begins with First of them, 0 for Flight, and
	// has one more with each answer: the nodes that answers name are nearer than those it began with.
	Flight, First int

	// Slow is after which time a query counts as in flight no longer. Until the first answer that time is
	// Hedge, 0 for Slow: then every search waits for something.
	Slow, Hedge time.Duration

	// Exact has a search end only when no node is known that may be nearer than those that answered, and not before it came to
	// them from two of those it began with at least. That takes some ten queries more, and is for those who announce: a
	// lookup meets some of the nodes that were told of a peer long before.
	Exact bool
}

// Shipped is how bittern searches; the README of dht has the figures.
var Shipped = Options{Flight: 3, First: 2, Slow: 250 * time.Millisecond, Hedge: 120 * time.Millisecond}

const (
	maxNodes   = 128 // known to a search; the farthest go
	maxUnfit   = krpc.K
	perNetwork = 2
	believed   = 2 // contacts that may fail, of those one node named, until the others are asked last

	// Of the K nodes that end a search, how many one node may be the first to have named, and how many may go back to one of
	// the nodes it began with if they may be a trap.
	perWitness = krpc.K / 2
	perLine    = krpc.K / 4

	// acquainted is how many of each other's names K nodes at one place give, of K*(K-1): honest ones reach it in 97 of 100
	// searches, for they are in one another's tables. Liars who name each other at random do not.
	acquainted = 22
)

type state uint8

const (
	fresh state = iota
	asked
	answered
	failed
)

type node struct {
	krpc.Contact
	state state
	sent  time.Time // when it was asked
	token []byte    // of its answer; nil if it gave none
	fits  bool
	named []krpc.Contact // by its answer
	by    *witness       // who was the first to name it; a node that we began with has one that stands for us
	sure  bool           // we began with it, or two have named it
}

func (n *node) doubtful() bool { return !n.sure && n.by.lived == 0 && n.by.died >= believed }

// A witness is a node as far as it named others, of which some lived and some died.
type witness struct {
	lived, died int
	root        *witness // the node we began with that it goes back to: by whom it was named, by whom that one was, and so on
}

// A Search is one lookup. It is not safe for concurrent use.
type Search struct {
	target  krpc.ID
	opt     Options
	wary    bool
	nodes   []*node // nearest to the target first
	unfit   int     // nodes asked that do not fit
	count   int     // queries handed out
	answers int     // that counted
}

// New returns a search for target that begins with the given nodes.
func New(target krpc.ID, opt Options, start []krpc.Contact) *Search {
	s := &Search{target: target, opt: opt}
	for _, c := range start {
		s.add(c, nil)
	}
	return s
}

// Target returns what is searched for.
func (s *Search) Target() krpc.ID { return s.target }

// Asked returns how many queries the search has handed out.
func (s *Search) Asked() int { return s.count }

// Distrust tells the search that the nodes it begins with are strangers, too. It then asks along several paths in any case.
func (s *Search) Distrust() { s.wary = true }

// Add tells the search of nodes that came from elsewhere than an answer of a node it asked.
func (s *Search) Add(nodes ...krpc.Contact) {
	for _, c := range nodes {
		s.add(c, nil)
	}
}

func (s *Search) add(c krpc.Contact, by *witness) {
	ip := c.Addr.Addr()
	network, local, same := krpc.Network(ip), krpc.Local(ip), 0
	for _, n := range s.nodes {
		switch {
		case n.Contact == c:
			n.sure = n.sure || n.by != by // a second witness
			return
		case n.Addr == c.Addr, !local && n.Addr.Addr() == ip:
			return // one address is one node
		case !local && n.state != failed && krpc.Network(n.Addr.Addr()) == network:
			same++
		}
	}
	if same >= perNetwork {
		return
	}
	at, _ := slices.BinarySearchFunc(s.nodes, c, func(n *node, c krpc.Contact) int { return s.target.Compare(n.Contact, c) })
	if at == maxNodes {
		return
	}
	n := &node{Contact: c, fits: c.ID.Fits(ip), by: by, sure: by == nil}
	if by == nil {
		n.by = &witness{}
		n.by.root = n.by
	}
	s.nodes = slices.Insert(s.nodes, at, n)
	if len(s.nodes) > maxNodes {
		s.forget()
	}
}

// forget drops the farthest node that is of no more use.
func (s *Search) forget() {
	for i := len(s.nodes) - 1; i >= 0; i-- {
		if st := s.nodes[i].state; st == fresh || st == failed {
			s.nodes = slices.Delete(s.nodes, i, i+1)
			return
		}
	}
	s.nodes = s.nodes[:len(s.nodes)-1]
}

// inFlight reports whether n holds a slot.
func (s *Search) inFlight(n *node, now time.Time) bool {
	return n.state == asked && now.Sub(n.sent) < s.slow()
}

// Next names the node to ask now, and counts it as asked. It is to be called until there is none, after each event and
// at [Search.Wake].
func (s *Search) Next(now time.Time) (krpc.Contact, bool) {
	flying := 0
	for _, n := range s.nodes {
		if s.inFlight(n, now) {
			flying++
		}
	}
	if flying >= s.slots() {
		return krpc.Contact{}, false
	}
	n, _ := s.next(now, false)
	if n == nil && flying == 0 {
		n, _ = s.next(now, true)
	}
	if n == nil {
		return krpc.Contact{}, false
	}
	n.state, n.sent = asked, now
	if !n.fits {
		s.unfit++
	}
	s.count++
	return n.Contact, true
}

// slots returns how many queries may be in flight.
func (s *Search) slots() int {
	if s.opt.First == 0 {
		return s.opt.Flight
	}
	return min(s.opt.First+s.answers, s.opt.Flight)
}

// slow returns after which time a query is in flight no longer.
func (s *Search) slow() time.Duration {
	if s.answers == 0 && s.opt.Hedge > 0 {
		return s.opt.Hedge
	}
	return s.opt.Slow
}

// next returns the node that is worth a query, if any, and whether queries are out that the search waits for. Doubtful
// nodes are worth it only if asked for.
func (s *Search) next(now time.Time, doubtful bool) (n *node, waits bool) {
	n, waits, full := s.nearest(now, doubtful, perWitness, krpc.K)
	if n == nil && !waits && s.opt.Exact {
		n, waits, _ = s.nearest(now, doubtful, perWitness, krpc.K/2)
	}
	if n == nil && !waits && (s.wary || s.trapped()) {
		n, waits, _ = s.nearest(now, doubtful, perWitness, perLine)
	}
	if n == nil && !waits && (s.opt.Exact || !full) {
		n, waits, _ = s.nearest(now, doubtful, krpc.K, krpc.K)
	}
	return n, waits
}

// nearest returns the nearest node that would be among the K nearest of those that answer, where only so many count that
// one node was the first to name, or that go back to one that the search began with. If there is none it tells whether
// answers are awaited, and whether there are K.
func (s *Search) nearest(now time.Time, doubtful bool, perWitness, perLine int) (n *node, waits, full bool) {
	near := make([]*node, 0, krpc.K) // that fit and have answered or soon may
	for _, n := range s.nodes {
		if len(near) == krpc.K {
			return nil, waits, true
		}
		named, line := 0, 0
		for _, o := range near {
			if o.by == n.by {
				named++
			}
			if o.by.root == n.by.root {
				line++
			}
		}
		counts, flies := named < perWitness && line < perLine, s.inFlight(n, now)
		switch {
		case flies, n.state == answered:
			waits = waits || flies
			if n.fits && counts {
				near = append(near, n)
			}
		case n.state != fresh, !counts, n.doubtful() && !doubtful, !n.fits && s.unfit >= maxUnfit:
		default:
			return n, false, false
		}
	}
	return nil, waits, len(near) == krpc.K
}

// trapped reports whether the nodes nearest to the target may be there to keep the search from others: they hardly know
// one another.
func (s *Search) trapped() bool {
	final, sum := s.final(), 0
	for _, n := range final {
		sum += n.knows(final)
	}
	return len(final) == krpc.K && sum < acquainted
}

// final returns the nodes that fit and answered and are nearest to the target, up to K.
func (s *Search) final() []*node {
	out := make([]*node, 0, krpc.K)
	for _, n := range s.nodes {
		if n.state == answered && n.fits && len(out) < krpc.K {
			out = append(out, n)
		}
	}
	return out
}

// knows returns how many of others the answer of n named.
func (n *node) knows(others []*node) int {
	count := 0
	for _, o := range others {
		if o != n && slices.Contains(n.named, o.Contact) {
			count++
		}
	}
	return count
}

// Answered tells the search that a node it asked has answered: with a token or nil, and the nodes it named. Answers of
// others are ignored. Both are kept and must not be changed.
func (s *Search) Answered(c krpc.Contact, token []byte, named []krpc.Contact) {
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.Addr == c.Addr })
	if i < 0 || s.nodes[i].state == fresh || s.nodes[i].state == answered {
		return
	}
	n := s.nodes[i]
	if n.ID != c.ID {
		// Who named it had the id wrong, or it is another node by now: it counts as what it says it is.
		s.nodes = slices.Delete(s.nodes, i, i+1)
		s.add(c, nil)
		if i = slices.IndexFunc(s.nodes, func(n *node) bool { return n.Contact == c }); i < 0 {
			return
		}
		s.nodes[i].by, s.nodes[i].sure, n = n.by, n.sure, s.nodes[i]
	}
	n.state, n.token, n.named = answered, token, named
	s.answers++
	n.by.lived++
	by := &witness{root: n.by.root}
	for _, c := range named {
		s.add(c, by)
	}
}

// Failed tells the search that a node it asked will not answer, or that its answer was of no use.
func (s *Search) Failed(c krpc.Contact) {
	for _, n := range s.nodes {
		if n.Addr == c.Addr && n.state == asked {
			n.state = failed
			if !n.sure {
				n.by.died++
			}
			return
		}
	}
}

// Wake returns when the next slot is given up for slow; the zero time if none is in flight.
func (s *Search) Wake(now time.Time) time.Time {
	var wake time.Time
	for _, n := range s.nodes {
		if s.inFlight(n, now) {
			if at := n.sent.Add(s.slow()); wake.IsZero() || at.Before(wake) {
				wake = at
			}
		}
	}
	return wake
}

// Done reports whether there is nothing left to ask or to wait for: the nearest nodes have answered, or no more are
// known. Slow nodes are not waited for.
func (s *Search) Done(now time.Time) bool {
	n, waits := s.next(now, true)
	return n == nil && !waits
}

// Proven returns those of the nodes nearest to the target that show that they know the others: their answers name at least half
// of them. Liars who name only one another do not show it where a search got past them. Where fewer than [krpc.K] answered,
// which is a network that still grows, all are returned.
func (s *Search) Proven() []krpc.Contact {
	final := s.final()
	var out []krpc.Contact
	for _, n := range final {
		if len(final) < krpc.K || 2*n.knows(final) >= len(final)-1 {
			out = append(out, n.Contact)
		}
	}
	return out
}

// A Found is a node that answered.
type Found struct {
	krpc.Contact
	Token []byte // nil if it gave none, and takes no announce
}

// Closest returns the nodes that answered and are nearest to the target, up to [krpc.K], nearest first. Those whose id
// fits their address come before the others (BEP 42).
func (s *Search) Closest() []Found {
	out := make([]Found, 0, krpc.K)
	for _, fits := range []bool{true, false} {
		for _, n := range s.nodes {
			if n.state == answered && n.fits == fits && len(out) < krpc.K {
				out = append(out, Found{n.Contact, n.token})
			}
		}
	}
	return out
}
