package node

import (
	"net/netip"
	"slices"
	"time"

	"bittern/dht/krpc"
	"bittern/dht/lookup"
	"bittern/peer/compact"
)

// An Announce is what a search tells the nodes nearest to its target. The zero value announces nothing.
type Announce struct {
	Port    uint16 // where the peer takes connections over TCP
	Implied bool   // let nodes take the port that they see the packet come from in its place (BEP 5 implied_port)
	Seed    bool   // it has everything (BEP 33)
}

const (
	seeds = 2 * krpc.K // nodes that a search begins with

	// patience is how long a search that found fewer nodes than it wants waits for slow ones.
	patience = 2 * time.Second

	// begAgain is when the routers are asked once more if nobody has answered, mostBegging times in all.
	begAgain    = time.Second
	mostBegging = 3
)

type search struct {
	id       SearchID // 0 for the node's own searches, which nobody hears of
	family   *family
	look     *lookup.Search
	method   krpc.Method
	announce Announce
	routers  []netip.AddrPort // still to be asked
	begged   int              // how often all routers were asked, or are being
	sent     time.Time        // when the last query went out
	out      int              // queries that may still be answered
	found    map[netip.AddrPort]struct{}
	times    map[netip.AddrPort]time.Duration // round trips of nodes that the table is not told of yet
	ended    bool
	answered int

	announcing bool
	announced  int
}

// Search looks for the peers of a torrent in all networks that the node takes part in, and announces one of ours to the
// nodes nearest to it. What it finds comes as [Peers], its end as one [Ended].
func (n *Node) Search(now time.Time, infoHash krpc.ID, announce Announce) SearchID {
	n.lastID++
	for _, f := range n.families {
		n.begin(now, &search{id: n.lastID, family: f, method: krpc.GetPeers, announce: announce}, infoHash)
	}
	n.run(now)
	return n.lastID
}

// Stop ends a search; nothing more is heard of it. What it has found of nodes is kept.
func (n *Node) Stop(now time.Time, id SearchID) {
	for _, s := range n.searches {
		if s.id == id && !s.ended {
			s.keep(now)
			s.ended = true
		}
	}
	n.forget()
}

func (n *Node) begin(now time.Time, s *search, target krpc.ID) {
	f := s.family
	start := f.table.Start(nil, now, target, seeds)
	if len(start) < seeds {
		start = append(start, nearest(f.remembered, target, seeds)...)
	}
	opt := n.opt.Search
	opt.Exact = s.announce.Port != 0
	s.look = lookup.New(target, opt, start)
	if len(start) < seeds {
		s.beg()
		s.look.Distrust()
	}
	s.found = map[netip.AddrPort]struct{}{}
	s.times = map[netip.AddrPort]time.Duration{}
	n.searches = append(n.searches, s)
}

func nearest(nodes []krpc.Contact, target krpc.ID, n int) []krpc.Contact {
	out := slices.Clone(nodes)
	slices.SortFunc(out, target.Compare)
	return out[:min(n, len(out))]
}

// beg has the routers asked next.
func (s *search) beg() {
	s.begged++
	s.routers = slices.Clone(s.family.routers)
}

// run sends what the searches want to send, each in its turn, and ends those that are done.
func (n *Node) run(now time.Time) {
	for more := true; more; {
		more = false
		for _, s := range n.searches {
			more = n.step(now, s) || more
		}
	}
	n.forget()
}

// forget drops the searches that have ended in all families.
func (n *Node) forget() {
	running := map[SearchID]bool{}
	for _, s := range n.searches {
		running[s.id] = running[s.id] || !s.ended && s.id != 0
	}
	n.searches = slices.DeleteFunc(n.searches, func(s *search) bool { return s.ended && !running[s.id] })
}

// step sends one query of a search and reports whether it did.
func (n *Node) step(now time.Time, s *search) bool {
	if s.ended || !n.mayQuery(now) {
		return false
	}
	if s.announcing {
		if s.out == 0 {
			n.end(s)
		}
		return false
	}
	// The routers know nodes everywhere, and are asked for the target itself, so that no time goes into joining first.
	if len(s.routers) > 0 {
		c := &call{to: s.routers[0], search: s, method: s.method}
		s.routers = s.routers[1:]
		n.ask(now, c)
		return true
	}
	if c, ok := s.look.Next(now); ok {
		n.ask(now, &call{to: c.Addr, id: c.ID, known: true, search: s, method: s.method})
		return true
	}
	if !s.look.Done(now) {
		return false
	}
	again := s.begged > 0 && s.begged < mostBegging && s.answered == 0 && !now.Before(s.sent.Add(begAgain)) // packets get lost
	if (s.answered < krpc.K && s.begged == 0 || again) && len(s.family.routers) > 0 {
		s.beg()
		return true
	}
	if s.answered == 0 && n.mayLearn(s) {
		return false
	}
	if s.answered >= krpc.K || s.out == 0 || !now.Before(s.sent.Add(patience)) {
		n.finish(now, s)
		return true
	}
	return false
}

// mayLearn reports whether a search with nobody to ask may yet hear of nodes: from those that its part in the other
// family has asked (BEP 32 "Bootstrapping").
func (n *Node) mayLearn(s *search) bool {
	return s.id != 0 && slices.ContainsFunc(n.searches, func(o *search) bool { return o.id == s.id && o.family != s.family && o.out > 0 })
}

func (n *Node) ask(now time.Time, c *call) {
	q := krpc.Query{Method: c.method, Target: c.search.look.Target()}
	for _, f := range n.families {
		if f != c.search.family && f.table.Len() == 0 {
			q.Want = krpc.Want{N4: true, N6: true} // BEP 32 "Bootstrapping"
		}
	}
	c.search.out++
	c.search.sent = now
	n.send(now, c, q)
}

// heard takes the reply to a query of a search.
func (n *Node) heard(now time.Time, c *call, who krpc.Contact, r *krpc.Reply) {
	s := c.search
	s.out--
	if s.ended {
		return
	}
	if c.method == krpc.AnnouncePeer {
		s.announced++
		return
	}
	s.answered++
	named := believable(s.family, who.Addr.Addr(), nodesOf(s.family, r))
	if c.known {
		s.look.Answered(krpc.Contact{ID: who.ID, Addr: who.Addr}, slices.Clone(r.Token), named)
	} else {
		s.look.Add(named...)
	}
	var news []netip.AddrPort
	for _, a := range r.Values {
		_, old := s.found[a]
		foreign := krpc.Local(a.Addr()) && !krpc.Local(who.Addr.Addr())
		if !old && !foreign && compact.Usable(a) && len(s.found) < maxFound {
			s.found[a] = struct{}{}
			news = append(news, a)
		}
	}
	if len(news) > 0 && s.id != 0 {
		n.eff.Peers = append(n.eff.Peers, Peers{Search: s.id, Addrs: news})
	}
}

// keep takes nodes that the search found into the table.
func (s *search) keep(now time.Time) {
	for _, c := range s.look.Proven() {
		if rtt, ok := s.times[c.Addr]; ok {
			s.family.table.Answered(now, c, rtt)
		}
	}
	clear(s.times)
}

// finish keeps nodes and announces to the nearest, if that is wanted.
func (n *Node) finish(now time.Time, s *search) {
	s.announcing = true
	s.keep(now)
	if s.announce.Port != 0 && s.method == krpc.GetPeers {
		for _, to := range s.look.Closest() {
			if to.Token == nil {
				continue
			}
			s.out++
			n.send(now, &call{to: to.Addr, id: to.ID, known: true, search: s, method: krpc.AnnouncePeer}, krpc.Query{
				Method: krpc.AnnouncePeer, Target: s.look.Target(), Token: to.Token,
				Port: s.announce.Port, ImpliedPort: s.announce.Implied, Seed: s.announce.Seed,
			})
		}
	}
	if s.out == 0 || s.announce.Port == 0 {
		n.end(s)
	}
}

// end tells of the end of a search, once for both families.
func (n *Node) end(s *search) {
	s.ended = true
	if s.id == 0 {
		return
	}
	e := Ended{Search: s.id}
	for _, o := range n.searches {
		if o.id != s.id {
			continue
		}
		if !o.ended {
			return
		}
		e.Answered += o.answered
		e.Announced += o.announced
	}
	n.eff.Ended = append(n.eff.Ended, e)
}
