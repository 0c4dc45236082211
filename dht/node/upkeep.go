package node

import (
	"net/netip"
	"slices"
	"time"

	"bittern/dht/krpc"
)

const (
	upkeepEvery = time.Second // one ping or refresh of a table in this time
	bootEvery   = 30 * time.Second
)

// maintain does what is due in a table: fill it if it is empty, ping one node, refresh one bucket. A read-only node
// refreshes none: it lives by its searches, and is likely to be gone before anything is stale.
func (n *Node) maintain(now time.Time, f *family) {
	if now.Before(f.upkeep) {
		return
	}
	f.upkeep = now.Add(upkeepEvery)
	if !n.mayQuery(now) {
		return
	}
	if f.table.Len() < krpc.K && (f.booted.IsZero() || now.Sub(f.booted) >= bootEvery) && !n.searching(f) {
		f.booted = now
		n.begin(now, &search{family: f, method: krpc.FindNode}, f.table.Self())
		return
	}
	if c, ok := f.table.Probe(now); ok {
		n.query(now, &call{to: c.Addr, id: c.ID, known: true, method: krpc.Ping})
		return
	}
	if target, ok := f.table.Refresh(now); ok && !n.opt.ReadOnly && !n.searching(f) {
		n.begin(now, &search{family: f, method: krpc.FindNode}, target)
	}
}

func (n *Node) searching(f *family) bool {
	return slices.ContainsFunc(n.searches, func(s *search) bool { return s.family == f })
}

// Votes on our own address.
const (
	maxVotes  = 16
	wantVotes = 4 // that agree, from different networks
)

// votes are what nodes say that our address is (BEP 42 "Bootstrapping"): the last of each network, the oldest first.
type votes []vote

type vote struct {
	by netip.Prefix
	ip netip.Addr
}

// vote counts what a node that answered us says that our address is. When enough agree, and more than half of all, and
// our id does not fit that address, the node takes a new id. One node cannot bring that about.
func (n *Node) vote(f *family, by, ip netip.Addr) {
	if !ip.IsValid() || ip.Is4() == f.v6 || krpc.Local(ip) {
		return
	}
	network := krpc.Network(by)
	f.votes = slices.DeleteFunc(f.votes, func(v vote) bool { return v.by == network })
	if len(f.votes) >= maxVotes {
		f.votes = slices.Delete(f.votes, 0, 1)
	}
	f.votes = append(f.votes, vote{network, ip})
	agree := 0
	for _, v := range f.votes {
		if v.ip == ip {
			agree++
		}
	}
	if agree >= wantVotes && 2*agree > len(f.votes) && !f.table.Self().Fits(ip) {
		f.table.Rename(krpc.IDFor(ip, n.opt.Random))
	}
}
