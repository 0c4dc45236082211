package core

import (
	"slices"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
)

// chokeState decides whom we serve: a round of package choke every ten seconds, and at once when
// a place is free and somebody wants it.
type chokeState struct {
	next, last time.Time // of the next round, of the last one
	fill       bool      // a place may be free: give it away at the end of this event
	rotateAt   time.Time // when the optimistic unchoke moves on
	optimistic uint64
	candidates []choke.Candidate // reused
}

// newFor is how long a peer counts as a newcomer, who has had no chance to earn anything yet.
const newFor = time.Minute

func (s *chokeState) init(now time.Time) {
	s.last, s.next = now, now.Add(choke.Every)
	s.rotateAt = now.Add(choke.RotateEvery)
}

// interested takes the news whether the peer wants something of us.
func (c *Core) interested(l *link, is bool) {
	if l.interested == is {
		return
	}
	l.interested = is
	s := &c.choking
	switch {
	case is == l.amChoking:
		s.fill = true // it wants a place, or has just given one up
	case is && c.unchokedCount() > c.cfg.Slots:
		// BEP 3: peers who give more but are not interested "get unchoked and if they become
		// interested the worst uploader gets choked". Not at every whim of theirs, though.
		s.next = earlier(s.next, s.last.Add(time.Second))
	}
}

// unchokedCount returns how many places are taken.
func (c *Core) unchokedCount() (n int) {
	for _, l := range c.links {
		if !l.amChoking && l.interested {
			n++
		}
	}
	return n
}

// rechokeIfDue runs a round when its time has come, or else fills the places that have become free.
func (c *Core) rechokeIfDue() {
	s := &c.choking
	switch {
	case !c.now.Before(s.next):
		c.rechoke()
	case s.fill:
		c.fillPlaces()
	}
	s.fill = false
}

// rechoke runs a round and says what has changed.
func (c *Core) rechoke() {
	s := &c.choking
	s.last, s.next = c.now, c.now.Add(choke.Every)
	rotate := !c.now.Before(s.rotateAt)
	if rotate {
		s.rotateAt = c.now.Add(choke.RotateEvery)
	}
	d := c.decide(rotate)
	for _, l := range c.links {
		_, unchoke := slices.BinarySearch(d.Unchoke, uint64(l.id))
		c.setChoke(l, !unchoke)
	}
}

// fillPlaces unchokes those whom a round would choose, as far as places are free. It chokes nobody:
// who loses a place is decided every ten seconds only, to avoid fibrillation (BEP 3).
func (c *Core) fillPlaces() {
	free := c.cfg.Slots - c.unchokedCount()
	if free <= 0 || !slices.ContainsFunc(c.links, waits) {
		return
	}
	d := c.decide(false)
	for _, l := range c.links {
		if free > 0 && waits(l) && slices.Contains(d.Unchoke, uint64(l.id)) {
			c.setChoke(l, false)
			free--
		}
	}
}

// waits reports whether a link wants a place and has none.
func waits(l *link) bool { return l.interested && l.amChoking }

// decide asks package choke who is to be unchoked.
func (c *Core) decide(rotate bool) (d choke.Decision) {
	cs := c.chokeCandidates()
	if c.leaving.complete {
		d = choke.SeedRound(cs, c.cfg.Slots)
	} else {
		d = choke.Round(cs, c.cfg.Slots, c.choking.optimistic, rotate, c.cfg.Rand)
	}
	c.choking.optimistic = d.Optimistic
	return d
}

func (c *Core) chokeCandidates() []choke.Candidate {
	cs := c.choking.candidates[:0]
	for _, l := range c.links {
		r := l.down.Rate(c.now)
		if c.leaving.complete {
			r = l.up.Rate(c.now)
		}
		cs = append(cs, choke.Candidate{
			ID: uint64(l.id), Rate: r, Interested: l.interested, Snubbed: l.snubbed,
			New: c.now.Sub(l.joined) < newFor, Unchoked: !l.amChoking, Since: c.now.Sub(l.chokedSince),
		})
	}
	c.choking.candidates = cs
	return cs
}

// setChoke chokes or unchokes a peer, if that is a change.
func (c *Core) setChoke(l *link, choking bool) {
	if l.amChoking == choking {
		return
	}
	l.amChoking, l.chokedSince = choking, c.now
	if !choking {
		l.refused = 0
		c.suggest(l, firstHints)
		c.send(&l.contact, wire.Message{ID: wire.Unchoke})
		return
	}
	c.send(&l.contact, wire.Message{ID: wire.Choke})
	c.dismiss(l)
}
