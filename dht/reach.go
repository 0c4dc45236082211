package dht

import (
	"net/netip"
	"time"

	"bittern/dht/krpc"
)

// maxSent bounds the memory of addresses that packets went to.
const maxSent = 4096

// A reach is what a read-only node knows of whether strangers reach it: the addresses that it sent a packet to. A query
// from any other came through no hole that we made in a NAT ourselves: it shows that we are reachable. When there are too many
// the older ones are forgotten, half at a time.
type reach struct {
	young, old map[netip.AddrPort]struct{}
	proven     bool
}

func newReach() *reach { return &reach{young: make(map[netip.AddrPort]struct{})} }

// host is what a NAT tells apart: an address, whatever its port, but where there is no NAT each port is another node.
func host(at netip.AddrPort) netip.AddrPort {
	if krpc.Local(at.Addr()) {
		return at
	}
	return netip.AddrPortFrom(at.Addr(), 0)
}

func (r *reach) sent(to netip.AddrPort) {
	if len(r.young) >= maxSent/2 {
		r.old, r.young = r.young, make(map[netip.AddrPort]struct{})
	}
	r.young[host(to)] = struct{}{}
}

// received looks at a packet from an address.
func (r *reach) received(from netip.AddrPort, packet []byte) {
	if r.proven {
		return
	}
	from = host(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	_, young := r.young[from]
	_, old := r.old[from]
	if young || old {
		return
	}
	m, err := krpc.Parse(packet)
	r.proven = err == nil && m.Kind == krpc.IsQuery
}

// reached looks at a packet that came, and has a read-only node answer queries once that is due and strangers are known to
// reach it; loop only.
func (n *Node) reached(now time.Time, p packet) {
	if n.reach == nil {
		return
	}
	n.reach.received(p.from, p.data)
	if n.reach.proven && now.Sub(n.started) >= n.cfg.ReadOnly {
		n.reach = nil
		n.node.SetReadOnly(false)
		n.cfg.Log.Debug("the DHT node answers queries from now on")
	}
}
