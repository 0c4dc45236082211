package core

import (
	"slices"
	"time"
)

// saidAfter is how long a peer may take to say that it has a piece whose last block we have sent.
const saidAfter = 2 * time.Second

// leaveState decides when the swarm ends.
type leaveState struct {
	complete   bool
	completeAt time.Time
	lastData   time.Time // of the last fresh block
	ended      bool
}

func (s *leaveState) init(complete bool) { s.complete = complete }

// completed follows from the last wanted file being in its place: we want nothing of anybody any more.
func (c *Core) completed() {
	if c.leaving.complete && !c.leaving.completeAt.IsZero() {
		return
	}
	c.leaving.complete, c.leaving.completeAt = true, c.now
	if !c.cfg.Seed.wanted() {
		c.end(Complete)
		return
	}
	c.emit(Effect{Op: Completed})
	for i := len(c.links) - 1; i >= 0; i-- { // backwards: seeds leave on the way
		l := c.links[i]
		c.updateInterest(l)
		if !c.pick.sched.HavePieces().Full() {
			c.introduce(l) // nothing else tells it that we are a partial seed now (BEP 21)
		}
		c.seedsPart(l)
	}
}

// end ends the swarm: nothing is decided after it.
func (c *Core) end(o Outcome) {
	if c.leaving.ended {
		return
	}
	c.leaving.ended = true
	c.emit(Effect{Op: Done, Outcome: o, Number: c.keptBack()})
}

// keptBack returns how many pieces are lost to the swarm, as far as we know it, if seeding ends now: those that no peer has or was sent.
func (c *Core) keptBack() (n int) {
	if !c.leaving.complete || !c.cfg.Seed.wanted() || c.copies.count() > 0 { // who has everything may have left
		return 0
	}
	for i := range c.cfg.Layout.Pieces() {
		sent := func(l *link) bool { return l.showing != nil && indexOf(l.showing.kept, i) >= 0 }
		if c.pick.sched.HavePieces().Has(i) && c.pick.sched.Availability(i) == 0 && indexOf(c.super.parted, i) < 0 && !slices.ContainsFunc(c.links, sent) {
			n++
		}
	}
	if !c.super.on {
		// An ordinary seed keeps no account of what it has sent, and some of it nobody may have said to have yet.
		n -= len(c.links) + int(c.up.Rate(c.now)*saidAfter.Seconds()/float64(c.cfg.Layout.PieceLength()))
		if len(c.links) == 0 || n < 0 {
			return 0
		}
	}
	return n
}

// leaveIfDue ends the swarm when one of its conditions is met.
func (c *Core) leaveIfDue() {
	s := &c.leaving
	switch {
	case s.ended:
	case s.complete && s.completeAt.IsZero(): // it was complete before it began
		c.completed()
	case s.complete:
		if o := c.seededEnough(); o != Running {
			c.end(o)
		}
	case c.pick.sched.Complete(): // the storage has the last word: Stored, or a fault
	case due(c.now, c.maxTimeAt()):
		c.end(c.outOf(OutOfTime))
	case due(c.now, c.stallAt()):
		c.end(c.outOf(Stalled))
	case c.nobodyLeft():
		c.end(NoneUsable)
	}
}

// outOf turns a passed time limit into NoPeers where nobody was ever met.
func (c *Core) outOf(o Outcome) Outcome {
	if c.met == 0 {
		return NoPeers
	}
	return o
}

// seededEnough returns which condition of seeding is met, or Running if none is.
func (c *Core) seededEnough() Outcome {
	seed := c.cfg.Seed
	switch {
	case seed.Ratio > 0 && float64(c.uploaded) >= seed.Ratio*float64(c.pick.total):
		return RatioReached
	case seed.Copies > 0 && c.copies.count() >= seed.Copies:
		return CopiesReached
	case due(c.now, c.seedTimeAt()):
		return SeedTimeOver
	case due(c.now, c.maxTimeAt()):
		return SeedOutOfTime
	}
	return Running
}

// next returns the earliest time limit ahead.
func (s *leaveState) next(c *Core) time.Time {
	switch {
	case s.ended:
		return time.Time{}
	case s.complete && s.completeAt.IsZero():
		return c.now
	case s.complete:
		return earlier(c.seedTimeAt(), c.maxTimeAt())
	case c.pick.sched.Complete():
		return time.Time{}
	}
	return earlier(c.maxTimeAt(), c.stallAt())
}

func (c *Core) seedTimeAt() time.Time {
	return after(c.leaving.completeAt, c.cfg.Seed.Time)
}

func (c *Core) maxTimeAt() time.Time { return after(c.start, c.cfg.MaxTime) }

func (c *Core) stallAt() time.Time {
	from := c.start
	if c.leaving.lastData.After(from) {
		from = c.leaving.lastData
	}
	return after(from, c.cfg.Stall)
}

// after returns when a time limit that began at a moment is over; 0 means never.
func after(begin time.Time, limit time.Duration) time.Time {
	if limit == 0 {
		return time.Time{}
	}
	return begin.Add(limit)
}

// due reports whether a time limit has passed; a zero one never does.
func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }
