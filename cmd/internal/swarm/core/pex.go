package core

import (
	"net/netip"
	"slices"
	"time"
	"unique"

	"bittern/peer/wire"
)

// Peer exchange (BEP 11): we tell peers whom we are connected to and who has gone, and try whom they
// name. It is on if our extension handshake names an id for it, which that of a private torrent must
// not (BEP 27).
const (
	// pexEvery is the least time between two messages to one peer: "Clients must batch updates to send
	// no more than 1 PEX message per minute".
	pexEvery = time.Minute

	// pexSettle is how long after the start the first message waits: "during torrent startup a client
	// may wait until it has established enough connections". Later newcomers are told at once.
	pexSettle = 10 * time.Second
)

// pexState is the peer exchange with one contact.
type pexState struct {
	told  []endpoint // whom it thinks we are connected to, at most MaxPeers
	seen  int        // the count of the roster's changes that told is up to
	due   time.Time  // no message to it before
	spent time.Time  // up to when it has used up the messages that it may send
}

// An endpoint is where a peer listens. Each peer is told of all others, so there are as many as the square of their number: an
// endpoint takes a fourth of the room of its address.
type endpoint = unique.Handle[netip.AddrPort]

// gossip tells the peers who has joined and who has left, each as often as it may be told.
func (r *roster) gossip() {
	if r.peering.Ext.M.UtPex == 0 || r.now.Before(r.start.Add(pexSettle)) {
		return
	}
	for _, l := range r.contacts {
		if l.ext.M.UtPex != 0 && l.pex.seen != r.changes && !r.now.Before(l.pex.due) {
			r.gossipTo(l)
		}
	}
}

// gossipTo sends a peer the difference between whom it was told of and who is here. What is too much for
// one message is left for the next.
func (r *roster) gossipTo(l *contact) {
	news := r.reachable(l)
	var p wire.Pex
	kept, upToDate := l.pex.told[:0], true
	for _, at := range l.pex.told {
		_, here := news[at]
		delete(news, at) // no news
		if !here && len(p.Dropped) < wire.MaxPex {
			p.Dropped = append(p.Dropped, at.Value())
			continue
		}
		kept = append(kept, at)
		upToDate = upToDate && here
	}
	kept = slices.Grow(kept, len(news))
	for _, o := range r.contacts {
		if len(news) == 0 || len(p.Added) == wire.MaxPex || len(kept) >= r.peering.MaxPeers {
			break
		}
		at := unique.Make(o.listensAt())
		if flags, isNew := news[at]; isNew {
			p.Added, p.Flags = append(p.Added, at.Value()), append(p.Flags, flags)
			kept = append(kept, at)
			delete(news, at)
		}
	}
	l.pex.told = kept
	if upToDate && len(news) == 0 {
		l.pex.seen = r.changes
	}
	if len(p.Added)+len(p.Dropped) > 0 {
		l.pex.due = r.now.Add(pexEvery)
		r.send(l, wire.Message{ID: wire.Extended, ExtID: l.ext.M.UtPex, Payload: wire.AppendPex(nil, p)})
	}
}

// reachable returns the endpoints, with what is known of them, of those connected whom a peer may be
// told of: not itself, and nobody whom only we can reach. The map is valid until the next call.
func (r *roster) reachable(l *contact) map[endpoint]byte {
	from := scopeOf(l.remote.Addr.Addr())
	clear(r.news)
	for _, o := range r.contacts {
		at := o.listensAt()
		if o == l || !at.IsValid() || at == l.listensAt() || scopeOf(at.Addr()) < from {
			continue
		}
		var flags byte
		if o.seed || o.ext.UploadOnly {
			flags |= wire.PexSeed
		}
		if o.remote.Outgoing {
			flags |= wire.PexReachable
		}
		r.news[unique.Make(at)] = flags
	}
	return r.news
}

// listensAt returns where others can connect to a contact: where we did, or where it says that it
// listens (BEP 10). Zero means that nobody knows.
func (l *contact) listensAt() netip.AddrPort {
	switch {
	case l.remote.Outgoing:
		return l.remote.Addr
	case l.ext.P != 0:
		return netip.AddrPortFrom(l.remote.Addr.Addr(), l.ext.P)
	}
	return netip.AddrPort{}
}

// gossiped takes a peer's message. Messages that come more often than they may are not looked at; one in
// advance is let pass, for the first of two may have been late. Of one IP only one address is taken,
// but on loopback: "Duplicate IP addresses (e.g. with different ports) should be ignored". Whoever seeds
// needs no seeds. Who has gone, in the peer's eyes, may be here in ours: that is ignored. The error, if it
// is none, is reason to drop the peer.
func (r *roster) gossiped(l *contact, payload []byte, seeding bool) error {
	if l.pex.spent.After(r.now.Add(pexEvery)) {
		return nil
	}
	p, err := wire.ParsePex(payload)
	if err != nil {
		return err
	}
	if l.pex.spent.Before(r.now) {
		l.pex.spent = r.now
	}
	l.pex.spent = l.pex.spent.Add(pexEvery)

	from := scopeOf(l.remote.Addr.Addr())
	taken := p.Added[:0]
	for i, at := range p.Added {
		ip := at.Addr()
		named := slices.ContainsFunc(taken, func(o netip.AddrPort) bool { return o.Addr() == ip })
		if scopeOf(ip) < from || named && !ip.IsLoopback() || seeding && p.Flags[i]&wire.PexSeed != 0 {
			continue
		}
		taken = append(taken, at)
	}
	r.found(taken, SourcePEX)
	return nil
}

// A scope says how far away an address still means the same host.
type scope uint8

const (
	onMachine scope = iota // loopback
	onLink                 // link-local
	onSite                 // private, shared by a carrier's customers, or for tests and documentation
	inWorld
)

// onSites are the ranges of that scope which Go does not count as private (RFC 6598, 2544, 5737, 3849).
var onSites = [...]netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("2001:db8::/32"),
}

// scopeOf returns the scope of an address that is not mapped. A peer is believed, and told, nothing of
// a narrower scope than its own address: seen from where it is, another host has that address, perhaps
// one that we would be turned on.
func scopeOf(ip netip.Addr) scope {
	switch {
	case ip.IsLoopback():
		return onMachine
	case ip.IsLinkLocalUnicast():
		return onLink
	case ip.IsPrivate():
		return onSite
	}
	for _, p := range onSites {
		if p.Contains(ip) {
			return onSite
		}
	}
	return inWorld
}
