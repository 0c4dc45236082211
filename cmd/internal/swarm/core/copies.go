package core

import (
	"net/netip"
	"time"
)

// copyState counts the other complete copies of the torrent: the peers that have told us, in this run, that they have every
// piece, when they joined or by the last piece they got. Each counts once, by its peer id, and goes on counting when it
// leaves: two seeds part as soon as they know each other.
//
// It is what peers say of themselves at first hand, and no more can be had: nobody can see into their disks. What
// trackers and other peers say of third parties (BEP 3 "complete", BEP 11 flags) does not count. A tracker counts
// us, each address of one client, and those that vanished half an hour ago; whoever runs it could send all seeds home
// with a number, while a count that is too low only keeps a seed at work for longer. A peer whose data proved false no longer
// counts, and of one subscriber no more do than may be connected from one address, loopback excepted.
type copyState struct {
	owners        map[[20]byte]netip.Addr // their subscribers by peer id; look-up only
	perSubscriber map[netip.Addr]int      // of owners; look-up only
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
	s.owners = make(map[[20]byte]netip.Addr)
	s.perSubscriber = make(map[netip.Addr]int)
}

// count returns how many copies are known.
func (s *copyState) count() int { return len(s.owners) }

// add counts the copy of a peer that has everything.
func (s *copyState) add(remote *Remote) {
	at := subscriberOf(remote.Addr.Addr())
	if _, known := s.owners[remote.ID]; known || len(s.owners) == MaxCopies || s.perSubscriber[at] == maxPerIP && !at.IsLoopback() {
		return
	}
	s.owners[remote.ID] = at
	s.perSubscriber[at]++
}

// remove takes back the copy of a peer that has lied, or has lost a piece.
func (s *copyState) remove(remote *Remote) {
	at, known := s.owners[remote.ID]
	if !known {
		return
	}
	delete(s.owners, remote.ID)
	if s.perSubscriber[at]--; s.perSubscriber[at] == 0 {
		delete(s.perSubscriber, at)
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
