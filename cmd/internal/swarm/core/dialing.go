package core

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"bittern/peer/compact"
	"bittern/peer/rate"
	"bittern/peer/wire"
)

// dialState is the one list of addresses we could connect to, with what became of each. It is
// bounded; an address is tried again after a pause that doubles.
type dialState struct {
	book     map[netip.AddrPort]*address // look-up only
	order    []*address                  // in order of discovery: what is ranged over
	underWay int
	flying   [2]int      // of those under way, by family
	since    time.Time   // when the first address was found; zero if none was
	most     int         // so many here or under way because we dialed them are enough; 0 means as many as there are places
	held     bool        // there are so many, and only those are dialed that the user named
	pace     rate.Bucket // dials; see wantsPeers
	barred   int         // of order, those that are banned
	next     time.Time   // when an idle address is due and there is room for it; zero: none
	stale    bool        // next is to be worked out again

	perIP map[netip.Addr]int // addresses dialed or linked; look-up only

	// retry is when dials may go on after one has failed on this side, by family (IPv4, IPv6). Until one has come to anything
	// else, there is one at a time.
	retry [2]time.Time

	bannedIPs   map[netip.Addr]bool
	bannedPeers map[[20]byte]bool // of loopback, where one address is many peers

	misbehaved map[netip.Addr]time.Time // until when a subscriber's calls are refused; maxKnown at most, look-up only

	self         netip.Addr   // our own address as others see it, for priorities (BEP 40)
	selves       []netip.Addr // all addresses that peers have seen us at, maxSelves at most
	sourcesKnown bool         // the sources have said something about themselves
	sourcesLeft  bool         // and some still hope
}

// An address is a place where a peer may listen.
type address struct {
	at     netip.AddrPort
	source Source
	state  addressState
	due    time.Time // not before; of one that is dialed, since when
	failed int       // times in a row
	local  int       // times in a row that it was our side's fault
}

type addressState uint8

const (
	idle    addressState = iota
	dialing              // a Dial effect is under way
	linked               // connected
	banned               // never again: a liar, or ourselves
)

const (
	maxKnown  = 2000 // addresses kept
	leastPace = 10   // dials a second
	maxSelves = 8    // addresses of our own: two families, as seen from this machine, its network and the world

	// A peer that refuses is tried again after a minute, doubling up to half an hour; one the user
	// named, and any at first while nobody is connected, after five seconds, for it may just be starting.
	firstPause, mostPause             = time.Minute, 30 * time.Minute
	firstStaticPause, mostStaticPause = 5 * time.Second, time.Minute

	// After a failure on this side (no network, no file handle) the address is tried again after a
	// second, doubling up to a minute, and no other of its family sooner than after that second, so
	// that a missing network costs little and its return is seen within a minute.
	firstLocalPause, mostLocalPause = time.Second, time.Minute

	// shutOutFor is how long nobody may call again from where a peer broke the rules: one that was dropped for a flood
	// is not to go on with it at once.
	shutOutFor = time.Minute

	// busyPause is for a peer that we, not it, refused.
	busyPause = time.Minute

	// hopelessAfter is how often an address must have failed in a row before it is no hope.
	hopelessAfter = 3
)

func (s *dialState) init(halfOpen int) {
	pace := int64(max(leastPace, halfOpen))
	s.pace = rate.NewBucket(pace, 2*pace)
	s.book = make(map[netip.AddrPort]*address)
	s.perIP = make(map[netip.Addr]int)
	s.bannedIPs = make(map[netip.Addr]bool)
	s.bannedPeers = make(map[[20]byte]bool)
	s.misbehaved = make(map[netip.Addr]time.Time)
}

// found adds addresses that a source gave.
func (r *roster) found(addrs []netip.AddrPort, src Source) {
	for _, at := range addrs {
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if !dialable(at, src) || r.dialing.bannedIPs[at.Addr()] || r.isOurs(at) && src != SourceStatic {
			continue
		}
		if a := r.dialing.book[at]; a != nil {
			a.source = min(a.source, src)
			continue
		}
		r.dialing.add(&address{at: at, source: src, due: r.now}, r.peering.Rand)
	}
	for _, l := range r.contacts {
		r.dialing.listens(l) // somebody may have named a peer that has connected to us
	}
}

// dialable reports whether an address can be a peer's: loopback only where the user, or a tracker, a DHT, a neighbour
// or a peer on this machine, names it.
func dialable(at netip.AddrPort, src Source) bool {
	return compact.Usable(at) && (!at.Addr().IsLoopback() || src.nearby())
}

// isOurs reports whether we listen at an address, as far as peers have told us. If they have not, or have
// lied, we meet ourselves once, which our peer id tells.
func (r *roster) isOurs(at netip.AddrPort) bool {
	return at.Port() == r.peering.Ext.P && slices.Contains(r.dialing.selves, at.Addr())
}

// seenAs notes an address of ours in the eyes of a peer. It is believed within its own scope only.
func (s *dialState) seenAs(ip netip.Addr, l *contact) {
	if !ip.IsValid() || len(s.selves) >= maxSelves || slices.Contains(s.selves, ip) {
		return
	}
	if scopeOf(ip) == scopeOf(l.remote.Addr.Addr()) {
		s.selves = append(s.selves, ip)
	}
}

// add keeps an address, in the place of another if the list is full: of one that has failed or, so
// that no source can shut the others out by filling the list, of any one that waits and is from no more
// trusted a source.
func (s *dialState) add(a *address, rng *rand.Rand) {
	if len(s.order) == 0 {
		s.since = a.due
	}
	if len(s.order) < maxKnown {
		s.order = append(s.order, a)
	} else if i := s.replaceable(a.source, rng); i >= 0 {
		delete(s.book, s.order[i].at)
		s.order[i] = a
	} else {
		return
	}
	s.book[a.at] = a
	s.stale = true
}

// replaceable returns the index of the waiting address that has failed most often or, if none has failed,
// of any one that waits and is from such a source or a less trusted one; or -1.
func (s *dialState) replaceable(src Source, rng *rand.Rand) int {
	if i := s.worst(); i >= 0 {
		return i
	}
	from := rng.IntN(len(s.order))
	for n := range s.order {
		i := (from + n) % len(s.order)
		if a := s.order[i]; a.state == idle && a.source >= max(src, SourceLocalTracker) {
			return i
		}
	}
	return -1
}

// worst returns the index of an idle address that has failed most often, or -1 if none has.
func (s *dialState) worst() int {
	worst := -1
	for i, a := range s.order {
		if a.state == idle && a.failed > 0 && a.source != SourceStatic && (worst < 0 || a.failed > s.order[worst].failed) {
			worst = i
		}
	}
	return worst
}

// dialMore connects to the addresses that are due while there is room for more peers.
func (r *roster) dialMore() {
	s := &r.dialing
	for r.wantsPeers() && due(r.now, s.next) {
		a := s.best(r)
		if a == nil {
			return
		}
		s.set(a, dialing)
		a.due = r.now
		s.pace.Take(r.now, 1)
		r.explain(Note{What: "dial", Why: a.source.String(), Addr: a.at, Peers: len(r.contacts), Times: a.failed})
		r.emit(Effect{Op: Dial, Addr: a.at})
	}
}

// wantsPeers reports whether to connect to more peers. In the long run no more dials begin in a second than may be under way
// at once, or leastPace: when a network is lost all peers are, and all their addresses come due together.
func (r *roster) wantsPeers() bool {
	s := &r.dialing
	if held := s.most > 0 && s.underWay+r.dialed() >= s.most; held != s.held {
		s.held, s.stale = held, true
		why := "there are places for all"
		if held {
			why = "a new swarm: they are to find places too"
		}
		r.explain(Note{What: "bound on dials", Why: why, Peers: s.most})
	}
	if s.underWay >= r.peering.HalfOpen || len(r.contacts)+s.underWay >= r.peering.MaxPeers {
		s.next, s.stale = time.Time{}, true
		return false
	}
	if at := s.pace.Ready(r.now); at.After(r.now) {
		s.next, s.stale = at, true
		return false
	}
	if s.stale {
		s.refresh()
	}
	if s.held && s.next.IsZero() {
		s.next = r.now.Add(tickEvery) // by then the bound may be another
	}
	return true
}

// dialed returns how many peers are here because we dialed them.
func (r *roster) dialed() (n int) {
	for _, o := range r.contacts {
		if o.remote.Outgoing {
			n++
		}
	}
	return n
}

// refresh finds out when the next idle address is due.
func (s *dialState) refresh() {
	s.next, s.stale = time.Time{}, false
	for _, a := range s.order {
		if s.waits(a) {
			s.next = earlier(s.next, s.dueAt(a))
		}
	}
}

// waits reports whether an address is to be dialed some time: more than three of one IP never are at a
// time, so that a source of lies cannot turn us on somebody. Where this side has failed, one dial shows whether it still does.
func (s *dialState) waits(a *address) bool {
	if s.held && a.source != SourceStatic {
		return false
	}
	ip, f := a.at.Addr(), family(a.at)
	return a.state == idle && (s.perIP[ip] < maxPerIP || ip.IsLoopback()) && (s.retry[f].IsZero() || s.flying[f] == 0)
}

// dueAt returns when an idle address may be dialed.
func (s *dialState) dueAt(a *address) time.Time {
	if at := s.retry[family(a.at)]; at.After(a.due) {
		return at
	}
	return a.due
}

func family(at netip.AddrPort) int {
	if at.Addr().Is4() {
		return 0
	}
	return 1
}

// best returns the idle address that is due and comes first: the user's own, then by the canonical
// priority of BEP 40 once we know our address. It leaves in next when another one is due.
func (s *dialState) best(r *roster) *address {
	var best *address
	var bestPriority uint32
	s.next = time.Time{}
	for _, a := range s.order {
		if !s.waits(a) {
			continue
		}
		if at := s.dueAt(a); !due(r.now, at) {
			s.next = earlier(s.next, at)
			continue
		}
		p := s.priority(r, a)
		if best == nil || p > bestPriority {
			if best != nil {
				s.next = r.now
			}
			best, bestPriority = a, p
		} else {
			s.next = r.now
		}
	}
	return best
}

// priority ranks an address; the largest is dialed first.
func (s *dialState) priority(r *roster, a *address) uint32 {
	if a.source == SourceStatic {
		return 1<<32 - 1
	}
	if !s.self.IsValid() || s.self.Is4() != a.at.Addr().Is4() {
		return 0
	}
	return wire.Priority(netip.AddrPortFrom(s.self, r.peering.Ext.P), a.at) >> 1
}

// joined notes that a connection to or from an address stands.
func (s *dialState) joined(r *roster, l *contact) {
	a := s.book[l.remote.Addr]
	if a == nil || !l.remote.Outgoing {
		return
	}
	a.local, s.retry[family(a.at)] = 0, time.Time{} // there is a network
	s.settle(a, linked)
	if l.at != nil && l.at != a { // the same peer at another address
		s.settle(l.at, idle)
		l.at.due = r.now.Add(mostPause)
	}
	l.at = a
}

// listens notes the port that a peer who connected to us says it listens on (BEP 10), so that we do
// not dial the same peer.
func (s *dialState) listens(l *contact) {
	if l.at != nil || l.remote.Outgoing || l.ext.P == 0 {
		return
	}
	a := s.book[netip.AddrPortFrom(l.remote.Addr.Addr(), l.ext.P)]
	if a != nil && a.state == idle {
		s.settle(a, linked)
		l.at = a
	}
}

// settle gives an address a new state, unless it is banned.
func (s *dialState) settle(a *address, to addressState) {
	if a.state != banned {
		s.set(a, to)
	}
	s.stale = true // look again: there may be room now
}

// set changes the state of an address.
func (s *dialState) set(a *address, to addressState) {
	ip, f := a.at.Addr(), family(a.at)
	if a.state == dialing {
		s.underWay--
		s.flying[f]--
	}
	if to == dialing {
		s.underWay++
		s.flying[f]++
	}
	if a.state.busy() {
		if s.perIP[ip]--; s.perIP[ip] == 0 {
			delete(s.perIP, ip)
		}
	}
	if to.busy() {
		s.perIP[ip]++
	}
	if to == banned {
		s.barred++
	}
	a.state = to
}

// known returns how many addresses we could try.
func (s *dialState) known() int { return len(s.order) - s.barred }

func (s addressState) busy() bool { return s == dialing || s == linked }

// refused notes that a connection which shook hands was not let in, which is not its fault. If it is
// a second one to a peer that we have, the address is that peer's.
func (s *dialState) refused(r *roster, remote *Remote, err error, twin *contact) {
	a := s.book[remote.Addr]
	if a == nil || !remote.Outgoing {
		return
	}
	if errors.Is(err, errSelf) {
		s.settle(a, banned)
		return
	}
	if twin != nil && twin.at == nil && twin.remote.Addr.Addr() == remote.Addr.Addr() {
		twin.at = a
		s.settle(a, linked)
		return
	}
	s.settle(a, idle)
	a.due = r.now.Add(busyPause)
	if twin != nil { // the same peer at another address, or somebody with its id
		a.due = r.now.Add(mostPause)
	}
}

// left notes that a link is gone. The peer may have only restarted, so an address that was of use
// is tried again as after one failure; one that only shakes hands has failed.
func (s *dialState) left(r *roster, l *contact, err error) {
	s.stale = true
	a := l.at
	if a == nil {
		return
	}
	l.at = nil
	s.settle(a, idle)
	if l.useful || r.now.Sub(l.joined) >= time.Minute {
		a.failed = 0
	}
	s.pause(r, a)
	if errors.Is(err, errBothSeeds) || errors.Is(err, errUseless) {
		a.due = r.now.Add(mostPause) // it will hardly lose what it has, or find what we want
	}
}

// dialFailed notes that a dial or its handshake failed, for a reason of this side if local.
func (r *roster) dialFailed(at netip.AddrPort, local bool) {
	s := &r.dialing
	a := s.book[at]
	if a == nil || a.state != dialing {
		return
	}
	s.settle(a, idle)
	if local {
		a.due = r.now.Add(min(firstLocalPause<<min(a.local, 10), mostLocalPause))
		a.local++
		s.retry[family(at)] = r.now.Add(firstLocalPause)
		return
	}
	a.local, s.retry[family(at)] = 0, time.Time{}
	s.pause(r, a)
}

// pause puts off the next try at an address.
func (s *dialState) pause(r *roster, a *address) {
	first, most := firstPause, mostPause
	if a.source == SourceStatic {
		first, most = firstStaticPause, mostStaticPause
	}
	if a.failed == 0 && len(r.contacts) == 0 {
		first = firstStaticPause // it may be all we have
	}
	a.due = r.now.Add(min(first<<min(a.failed, 10), most))
	a.failed++
}

// ban makes sure that nothing is ever had of a liar again: its address is banned or, on loopback,
// where many peers share one, its place and its peer id.
func (s *dialState) ban(l *contact) {
	at := l.remote.Addr
	if at.Addr().IsLoopback() {
		s.bannedPeers[l.remote.ID] = true
	} else {
		s.bannedIPs[at.Addr()] = true
	}
	for _, a := range s.order {
		if a == l.at || a.at == at || s.bannedIPs[a.at.Addr()] {
			s.settle(a, banned)
		}
	}
}

// shutOut refuses calls from an address for a while, but on loopback, where one address is many peers.
func (s *dialState) shutOut(ip netip.Addr, now time.Time) {
	if ip.IsLoopback() {
		return
	}
	if len(s.misbehaved) >= maxKnown {
		maps.DeleteFunc(s.misbehaved, func(_ netip.Addr, until time.Time) bool { return !now.Before(until) })
	}
	if len(s.misbehaved) < maxKnown {
		s.misbehaved[subscriberOf(ip)] = now.Add(shutOutFor)
	}
}

func (s *dialState) banned(remote *Remote) bool {
	return s.bannedIPs[remote.Addr.Addr()] || s.bannedPeers[remote.ID]
}

// hopeless reports whether every address has failed so often that there is no point in waiting.
func (s *dialState) hopeless() bool {
	for _, a := range s.order {
		if a.state != banned && a.failed < hopelessAfter {
			return false
		}
	}
	return true
}

func itoa(i int) string { return strconv.Itoa(i) }
