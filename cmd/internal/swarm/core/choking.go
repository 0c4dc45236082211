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
	next       time.Time // of the next round
	rotateAt   time.Time // when the optimistic unchoke moves on
	optimistic uint64
	candidates []choke.Candidate // reused
}

// newFor is how long a peer counts as a newcomer, who has had no chance to earn anything yet.
const newFor = time.Minute

func (s *chokeState) init(now time.Time) {
	s.next = now.Add(choke.Every)
	s.rotateAt = now.Add(choke.RotateEvery)
}

// soon asks for a round right after this event.
func (s *chokeState) soon(now time.Time) { s.next = now }

// interested takes the news whether the peer wants something of us.
func (c *Core) interested(l *link, is bool) {
	if l.interested == is {
		return
	}
	l.interested = is
	switch {
	case is && l.amChoking && c.unchokedCount() < c.cfg.Slots:
		c.choking.soon(c.now)
	case !is && !l.amChoking:
		c.choking.soon(c.now) // somebody else may have its place
	}
}

func (c *Core) unchokedCount() (n int) {
	for _, l := range c.links {
		if !l.amChoking && l.interested {
			n++
		}
	}
	return n
}

// rechokeIfDue runs a round when its time has come, and says what has changed.
func (c *Core) rechokeIfDue() {
	s := &c.choking
	if c.now.Before(s.next) {
		return
	}
	s.next = c.now.Add(choke.Every)
	rotate := !c.now.Before(s.rotateAt)
	if rotate {
		s.rotateAt = c.now.Add(choke.RotateEvery)
	}
	cs := c.chokeCandidates()
	var d choke.Decision
	if c.leaving.complete {
		d = choke.SeedRound(cs, c.cfg.Slots)
	} else {
		d = choke.Round(cs, c.cfg.Slots, s.optimistic, rotate, c.cfg.Rand)
	}
	s.optimistic = d.Optimistic
	for _, l := range c.links {
		_, unchoke := slices.BinarySearch(d.Unchoke, uint64(l.id))
		c.setChoke(l, !unchoke)
	}
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
		c.send(l, wire.Message{ID: wire.Unchoke})
		return
	}
	c.send(l, wire.Message{ID: wire.Choke})
	c.dismiss(l)
}
