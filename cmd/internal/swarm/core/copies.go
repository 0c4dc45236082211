package core

import (
	"net/netip"
	"time"
)

// copyState counts the other complete copies of the torrent: the peers that have told us, in this run, that they have every
// piece, when they joined or by the last piece they got. Each counts once and goes on counting when it leaves: two seeds part
// as soon as they know each other.
//
// A peer is known again by its peer id or by where it listens, for some clients (libtorrent 2) take another id for each
// connection. One that has not said where it listens (BEP 10) may be any that is known at its address, loopback excepted.
//
// It is what peers say of themselves at first hand, and no more can be had: nobody can see into their disks. What
// trackers and other peers say of third parties (BEP 3 "complete", BEP 11 flags) does not count. A tracker counts
// us, each address of one client, and those that vanished half an hour ago; whoever runs it could send all seeds home
// with a number, while a count that is too low only keeps a seed at work for longer. A peer whose data proved false no longer
// counts, and of one subscriber no more do than may be connected from one address, loopback excepted.
type copyState struct {
	owners        map[[20]byte]netip.AddrPort // where each listens, by peer id; port 0: it has not said; look-up only
	places        map[netip.AddrPort][20]byte // the same the other way round, of loopback but for port 0; look-up only
	perSubscriber map[netip.Addr]int          // of owners; look-up only
}

// subscriberOf is what one subscriber has of addresses: one of IPv4, but of public IPv6 at least the 2^64 of a network, each of which its
// host may take.
func subscriberOf(ip netip.Addr) netip.Addr {
	if ip.Is4() || ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() {
		return ip
	}
	return netip.PrefixFrom(ip, 64).Masked().Addr()
}

// MaxCopies is how many other copies are remembered, and so the most that [Seeding] can wait for.
const MaxCopies = 10_000

func (s *copyState) init() {
	s.owners = make(map[[20]byte]netip.AddrPort)
	s.places = make(map[netip.AddrPort][20]byte)
	s.perSubscriber = make(map[netip.Addr]int)
}

// count returns how many copies are known.
func (s *copyState) count() int { return len(s.owners) }

// placeOf is the subscriber of a peer with the port at which it listens, 0 if it has not said: many hosts have several
// addresses of their network of IPv6.
func placeOf(l *contact) netip.AddrPort {
	return netip.AddrPortFrom(subscriberOf(l.remote.Addr.Addr()), l.listensAt().Port())
}

// add counts the copy of a peer that has everything.
func (s *copyState) add(l *contact) {
	at := placeOf(l)
	of, loopback := at.Addr(), at.Addr().IsLoopback()
	if _, known := s.owners[l.remote.ID]; known || len(s.owners) == MaxCopies {
		return
	}
	if _, known := s.places[at]; known {
		return
	}
	if !loopback {
		silent := netip.AddrPortFrom(of, 0)
		if id, known := s.places[silent]; known { // this may be the one, and now we know its place
			delete(s.places, silent)
			s.owners[id], s.places[at] = at, id
			return
		}
		if s.perSubscriber[of] == maxPerIP || at == silent && s.perSubscriber[of] > 0 {
			return
		}
	}
	s.owners[l.remote.ID] = at
	if !loopback || at.Port() != 0 {
		s.places[at] = l.remote.ID
	}
	s.perSubscriber[of]++
}

// remove takes back the copy of a peer that has lied, or has lost a piece.
func (s *copyState) remove(l *contact) {
	id := l.remote.ID
	if _, known := s.owners[id]; !known {
		if id, known = s.places[placeOf(l)]; !known {
			return
		}
	}
	at := s.owners[id]
	delete(s.owners, id)
	delete(s.places, at)
	of := at.Addr()
	if s.perSubscriber[of]--; s.perSubscriber[of] == 0 {
		delete(s.perSubscriber, of)
	}
}

// lookAfter is how soon a peer that has hung up is dialed to see what it has by now.
const lookAfter = 2 * time.Second

// lookAgain has a peer dialed that called us, was served and has hung up, if copies are waited for. Clients close their
// connections to seeds as soon as they are complete themselves, often before they have said so. Where we dialed, back-off sees to it.
func (c *Core) lookAgain(l *link) {
	at := l.listensAt()
	if c.cfg.Seed.Copies == 0 || !c.leaving.complete || l.seed || l.remote.Outgoing || !l.useful || !at.IsValid() {
		return
	}
	c.found([]netip.AddrPort{at}, SourcePEX) // that is how far its own word for it is trusted
	if a := c.dialing.book[at]; a != nil && a.state == idle {
		a.due, c.dialing.stale = c.now.Add(lookAfter), true
	}
}
