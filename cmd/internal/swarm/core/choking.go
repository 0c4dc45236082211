package core

import (
	"math"
	"slices"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
)

// chokeState decides whom we serve: a round of package choke every ten seconds, and at once when
// a slot is free and somebody wants it. A slot is taken by a peer that asks for something; whoever was unchoked and has
// nothing to ask for at present takes none. How many there are follows what we can upload.
type chokeState struct {
	next, last time.Time // of the next round, of the last one
	fill       bool      // a slot may be free: give it away at the end of this event
	spent      bool      // the optimistic unchoke has had its advance: let it move on at the end of this event
	idleAt     time.Time // no other peer is unchoked before because the line is idle
	rotateAt   time.Time // when the optimistic unchoke moves on
	optimistic uint64
	candidates []choke.Candidate // reused
}

const (
	// takesFor is how long a peer that was unchoked, or has asked for something, takes a slot without asking for more.
	takesFor = 500 * time.Millisecond

	// While the line is idle idleExtra others are unchoked every idleEvery, the time that the last ones may need to ask for
	// something, up to mostUnchoked peers for each slot. (Twice as many at once have pieces come from too many peers, in parts.)
	idleEvery    = 100 * time.Millisecond
	idleExtra    = 2
	mostUnchoked = 6

	// bytesPerSlot is how much uploading is worth another slot, in bytes/s. Few slots make quick pieces.
	bytesPerSlot = 1 << 20

	// sated is how many pieces, and leastSated how many bytes, a seed lets a peer have before somebody else gets its slot.
	sated, leastSated = 4, 1 << 20

	// welcomeFor is how long, at least, a peer that has nothing has to get its first piece. (Kept for longer, so many share the line
	// that pieces come in parts.)
	welcomeFor = 3 * time.Second

	// forgiven is what remains of a balance after the time between two rounds.
	forgiven = 0.95
)

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
	case c.super.on: // each piece that is shown brings somebody in, and whoever sees everything may have to wait for it
		s.next = c.now
	case is == l.amChoking:
		s.fill = true // it wants a slot, or has just given one up
	case is && !c.starts(l) && c.takers() > c.slots():
		// BEP 3: peers who give more but are not interested "get unchoked and if they become
		// interested the worst uploader gets choked". Not at every whim of theirs, though.
		s.next = earlier(s.next, s.last.Add(time.Second))
	}
}

// slots is how many upload slots there are.
func (c *Core) slots() int {
	if c.cfg.Slots < 0 {
		return 0
	}
	return c.cfg.Slots + int(c.uploadCapacity()/bytesPerSlot)
}

// takers returns how many slots are taken.
func (c *Core) takers() (n int) {
	for _, l := range c.links {
		if !l.amChoking && l.interested && c.takes(l) {
			n++
		}
	}
	return n
}

// takes reports whether an unchoked peer makes use of its slot.
func (c *Core) takes(l *link) bool {
	return asks(l) || l.upload.inFlight > 0 || c.now.Sub(l.asksAt) < takesFor || c.now.Sub(l.chokedSince) < takesFor
}

// unchokedCount returns how many peers may ask for what they want.
func (c *Core) unchokedCount() (n int) {
	for _, l := range c.links {
		if !l.amChoking && l.interested {
			n++
		}
	}
	return n
}

// lineIdle reports whether those who are unchoked ask for nothing, or for what they owe us.
func (c *Core) lineIdle() bool {
	return c.serving.reading == 0 && !c.super.on && (c.serving.asking == 0 ||
		!slices.ContainsFunc(c.links, func(l *link) bool { return asks(l) && !c.owes(l) }))
}

// idlesLong reports whether the line is idle and it is time to unchoke somebody else.
func (c *Core) idlesLong() bool { return !c.now.Before(c.choking.idleAt) && c.lineIdle() }

// overdraws lets the optimistic unchoke move on if it is l's and l has had its advance.
func (c *Core) overdraws(l *link) {
	if c.choking.optimistic == uint64(l.id) && c.owes(l) {
		c.choking.spent = true
	}
}

// rechokeIfDue runs a round when its time has come, or else fills the slots that have become free.
func (c *Core) rechokeIfDue() {
	s := &c.choking
	switch {
	case !c.now.Before(s.next):
		c.rechoke()
	case s.spent:
		c.moveOptimistic()
	case s.fill || c.idlesLong():
		c.fillSlots()
	}
	s.fill, s.spent = false, false
}

// moveOptimistic chokes the optimistic unchoke, unless it has earned a slot by now, and finds another, if anybody owes us less.
func (c *Core) moveOptimistic() {
	old := c.choking.optimistic
	d := c.decide(c.slots(), false)
	if d.Optimistic == old {
		return
	}
	for _, l := range c.links {
		switch uint64(l.id) {
		case old:
			_, earned := slices.BinarySearch(d.Unchoke, old)
			c.setChoke(l, !earned, "it has had its advance")
		case d.Optimistic:
			c.setChoke(l, false, optimistically)
		}
	}
}

// rechoke runs a round and says what has changed.
func (c *Core) rechoke() {
	s := &c.choking
	remains := math.Pow(forgiven, c.now.Sub(s.last).Seconds()/choke.Every.Seconds()) // a peer's whims make more rounds
	s.last, s.next = c.now, c.now.Add(choke.Every)
	rotate := !c.now.Before(s.rotateAt)
	if rotate {
		s.rotateAt = c.now.Add(choke.RotateEvery)
	}
	for _, l := range c.links {
		l.balance *= remains
	}
	slots := c.slots()
	if c.lineIdle() { // whoever has an extra slot keeps it
		slots = max(slots, c.unchokedCount())
	}
	d := c.decide(slots, rotate)
	c.explain(Note{What: "choking round", Slots: slots, Rate: c.uploadCapacity()})
	choice := "the round's choice"
	if c.super.on {
		choice = superChoice
	}
	for _, l := range c.links {
		_, unchoke := slices.BinarySearch(d.Unchoke, uint64(l.id))
		why := choice
		if unchoke && d.Optimistic == uint64(l.id) {
			why = optimistically
		}
		if !unchoke && c.starts(l) && !c.super.on && c.now.Sub(l.chokedSince) < welcomeFor {
			continue // it had no time to begin
		}
		c.setChoke(l, !unchoke, why)
	}
}

// fillSlots unchokes those whom a round would choose, as far as slots are free. It chokes nobody:
// who loses a slot is decided every ten seconds only, to avoid fibrillation (BEP 3), but by a super-seed, where a choke
// takes nothing from anybody.
func (c *Core) fillSlots() {
	c.welcome()
	if !slices.ContainsFunc(c.links, waits) {
		c.choking.idleAt = c.now.Add(idleEvery) // an idle line is not to be looked at with every block that comes in
		return
	}
	slots, unchoked := c.slots(), c.unchokedCount()
	extra := mostUnchoked*slots - unchoked
	free, why := min(slots-c.takers(), extra), "a slot is free"
	switch {
	case c.super.on:
		free, why = len(c.links), superChoice
	case free <= 0:
		if c.idlesLong() {
			c.fillLine(extra)
		}
		return
	}
	c.choking.idleAt = c.now.Add(idleEvery)
	d := c.fillFrom(unchoked, free)
	for _, l := range c.links {
		if free > 0 && waits(l) && !c.owes(l) && slices.Contains(d.Unchoke, uint64(l.id)) {
			c.setChoke(l, false, why)
			free--
		}
	}
}

// fillFrom decides who gets the slots that are free. A seed asks only about those who wait: whoever has a slot keeps it until the
// next round.
func (c *Core) fillFrom(unchoked, free int) choke.Decision {
	if !c.leaving.complete || c.super.on {
		return c.decide(unchoked+free, false)
	}
	return choke.SeedRound(slices.DeleteFunc(c.chokeCandidates(), func(o choke.Candidate) bool { return o.Unchoked }), free)
}

// fillLine unchokes a few more, but no more than most, because the line is idle: those that lack most, who are the likeliest to
// ask for something.
func (c *Core) fillLine(most int) {
	c.choking.idleAt = c.now.Add(idleEvery)
	for range min(most, idleExtra) {
		var next *link
		for _, l := range c.links {
			if waits(l) && !c.owes(l) && (next == nil || c.lacks(l) > c.lacks(next)) {
				next = l
			}
		}
		if next == nil {
			return
		}
		c.setChoke(next, false, "the line is idle")
	}
}

// welcome unchokes those who have nothing yet, before they know what we have and want it, each once: each is the sooner one
// more who uploads.
func (c *Core) welcome() {
	if c.super.on || c.pick.sched.HavePieces().Empty() {
		return
	}
	most := mostUnchoked * c.slots()
	for _, l := range c.links {
		if !l.amChoking {
			most--
		}
	}
	for _, l := range c.links {
		if most > 0 && l.amChoking && l.gotHave && !l.welcome && c.starts(l) {
			l.welcome = true
			c.setChoke(l, false, "it has nothing yet")
			most--
		}
	}
}

// waits reports whether a link wants a slot and has none.
func waits(l *link) bool { return l.interested && l.amChoking }

// decide asks package choke who is to be unchoked.
func (c *Core) decide(slots int, rotate bool) (d choke.Decision) {
	cs := c.chokeCandidates()
	switch {
	case c.super.on:
		d = choke.SuperSeedRound(cs)
	case c.leaving.complete:
		d = choke.SeedRound(cs, slots)
	default:
		d = choke.Round(cs, slots, c.choking.optimistic, rotate, c.cfg.Rand)
	}
	c.choking.optimistic = d.Optimistic
	return d
}

// worth is the rate by which a peer is chosen, in bytes/s: what it gives us or, once we are complete, what it takes.
func (c *Core) worth(l *link) float64 {
	if c.leaving.complete {
		return l.up.Rate(c.now)
	}
	return l.gave.Rate(c.now)
}

func (c *Core) chokeCandidates() []choke.Candidate {
	cs := c.choking.candidates[:0]
	for _, l := range c.links {
		cs = append(cs, choke.Candidate{
			ID: uint64(l.id), Rate: c.worth(l), Interested: l.interested, Snubbed: l.snubbed, Owes: c.owes(l), Balance: l.balance,
			New: c.now.Sub(l.joined) < newFor, Unchoked: !l.amChoking, Since: c.now.Sub(l.chokedSince),
			Masked: l.showing != nil, Given: c.gaveUs(l), Claim: c.claim(l), Sated: c.isSated(l),
		})
	}
	c.choking.candidates = cs
	return cs
}

// claim is how much the time counts that a peer waits for a slot with a seed: up to five times as much if it lacks more, for a
// swarm is done when its last is; and not at all if it has made no use of its last slot.
func (c *Core) claim(l *link) float64 {
	if l.idled {
		return 0
	}
	return 0.25 + c.lacks(l)
}

// lacks is the part of the torrent that a peer lacks, as far as we know. What it got of us it has, whether it says so or not.
func (c *Core) lacks(l *link) float64 {
	got := l.up.Total() / c.cfg.Layout.PieceLength()
	has := max(got, int64(c.pick.sched.PeerCount(l.sched)))
	return max(0, 1-float64(has)/float64(c.cfg.Layout.Pieces()))
}

// isSated reports whether a peer has had enough for one slot of ours.
func (c *Core) isSated(l *link) bool {
	return l.up.Total()-l.upBefore >= max(sated*c.cfg.Layout.PieceLength(), leastSated)
}

// gaveUs reports whether a peer has given us something, and not only a block to be preferred for it.
func (c *Core) gaveUs(l *link) bool { return l.gave.Total() >= c.cfg.Layout.PieceLength() }

// Why some are unchoked, or choked.
const (
	optimistically = "optimistically"
	superChoice    = "a super-seed serves whom it shows something, and others if those are few"
)

// setChoke chokes or unchokes a peer, if that is a change.
func (c *Core) setChoke(l *link, choking bool, why string) {
	if l.amChoking == choking {
		return
	}
	l.amChoking, l.chokedSince = choking, c.now
	l.idled = choking && l.up.Total() == l.upBefore
	id := wire.Unchoke
	if choking {
		id = wire.Choke
	}
	l.upBefore = l.up.Total()
	c.explain(Note{What: id.String(), Why: why, Link: l.id, Blocks: len(l.queue), Rate: c.worth(l)})
	if !choking {
		c.suggest(l, firstHints)
		c.send(&l.contact, wire.Message{ID: wire.Unchoke})
		return
	}
	c.send(&l.contact, wire.Message{ID: wire.Choke})
	l.upload.left = 0
	c.dismiss(l)
}
