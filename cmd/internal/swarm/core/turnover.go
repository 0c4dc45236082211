package core

import "time"

// Turnover: a full house in which nothing moves learns of nobody better. So peers that have been of no use for long, neither
// to us nor we to them, give way to new ones, one at a time: the house is never short of more than the one who is
// being replaced. While there are places, or nobody new, all may stay.
const (
	// uselessAfter is how long no block must have passed either way: several times what the optimistic unchoke of
	// an honest peer takes to go round among those that wait (BEP 3: 30 s each).
	uselessAfter = 3 * time.Minute

	// chanceFor is how long a peer that we serve has to begin to take, however long it was idle before.
	chanceFor = time.Minute

	// turnEvery is the least time between two peers that give way.
	turnEvery = time.Minute
)

// turnOver judges the peers, and lets one make room if all places are taken and somebody new can be dialed.
func (c *Core) turnOver() {
	for _, l := range c.links {
		l.useless = c.isUseless(l)
	}
	if len(c.links) < c.peering.MaxPeers || !c.dialing.knowsFresh(c.now) {
		return
	}
	if o := c.useless(false); o != nil {
		c.drop(c.byID[o.id], errUseless)
	}
}

// isUseless reports whether a peer and we have been of no use to each other for long. Whom we, a seed, keep waiting is of
// use: that it was not served yet is our doing.
func (c *Core) isUseless(l *link) bool {
	since := l.joined
	if l.exchanged.After(since) {
		since = l.exchanged
	}
	switch {
	case c.now.Sub(since) < uselessAfter:
		return false
	case c.leaving.complete && l.interested && (l.amChoking || asks(l) && !c.stuck(l)):
		return false
	case !l.amChoking && c.now.Sub(l.chokedSince) < chanceFor:
		return false
	}
	return true
}

// useless returns the peer that is to give way, of only those that were opened to us if ofCalls, and notes that one
// does; nil if there is none or the last one is not long ago.
func (r *roster) useless(ofCalls bool) *contact {
	if r.now.Before(r.nextTurn) {
		return nil
	}
	var worst *contact
	for _, o := range r.contacts {
		if o.useless && !(ofCalls && o.remote.Outgoing) && (worst == nil || o.exchanged.Before(worst.exchanged)) {
			worst = o
		}
	}
	if worst != nil {
		r.nextTurn = r.now.Add(turnEvery)
	}
	return worst
}

// knowsFresh reports whether there is an address to dial now that has not failed or given way before.
func (s *dialState) knowsFresh(now time.Time) bool {
	for _, a := range s.order {
		if a.failed == 0 && s.waits(a) && due(now, s.dueAt(a)) {
			return true
		}
	}
	return false
}
