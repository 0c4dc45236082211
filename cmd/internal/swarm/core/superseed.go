package core

import (
	"slices"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A SuperSeeding says when to super-seed (BEP 16).
type SuperSeeding uint8

// When to super-seed.
const (
	SuperAuto   SuperSeeding = iota // while we are the only seed known and there are two leechers
	SuperAlways                     // whenever we have everything
	SuperNever
)

// superState is super-seeding (BEP 16): the only seed of a swarm shows each peer a piece at a time, one that nobody
// has, and another only when "it has seen the piece it had sent previously present on at least one other
// client". So it hardly sends a piece twice before all are out, and peers that pass on get most.
//
// It begins by itself where we are the only seed known and a second leecher joins. The first keeps the sight of an
// ordinary seed, which cannot be taken back, but is served only while fewer than two others want something. It ends when
// all pieces are out or another seed is met; then everybody is shown the rest. Where the user asked for it, it begins with
// the first peer and does not end.
//
// Everybody who is shown something is unchoked: what is shown, and not the choke, decides what we send. So much is shown as
// keeps the line busy.
type superState struct {
	on      bool
	spent   bool    // all pieces were out once: it does not begin again
	order   []int32 // all pieces, in a random order; those before next have been shown or are had by somebody
	next    int
	again   []int          // shown to somebody who has left before anybody had them
	out     piece.Bitfield // pieces that a peer has, or was sent by us and keeps
	backlog int64          // bytes shown that wait to be asked for and sent
	shows   int            // how often somebody was chosen to be shown something
}

// A showing is what one peer sees of a super-seed.
type showing struct {
	all    map[int]struct{} // every piece ever shown to it; look-up only
	open   []shownPiece     // of them, those that it was not sent yet
	kept   []shownPiece     // those that it was sent and that nobody else has: it is to pass them on
	latest time.Time        // when it was last shown one
	passed bool             // it has passed on one, at least
}

// A shownPiece is a piece that one peer was shown.
type shownPiece struct {
	piece int
	left  int64     // bytes not sent yet
	since time.Time // when it was shown; of a kept one, when it was sent
	again bool      // kept for so long that somebody else was shown it, too
}

const (
	// A peer is shown so many pieces ahead of being sent them, and none while it keeps so many.
	mostShown, mostKept = 2, 2

	// What is shown and not sent is worth leastBacklog pieces, or what we send in backlogTime if that is more.
	leastBacklog = 4
	backlogTime  = time.Second

	// A piece that is kept to oneself for keptFor, or for keptTurns times as long as we take to send one, is shown to
	// somebody else. One that is shown and not asked for makes way after as long.
	keptFor   = 10 * time.Second
	keptTurns = 4

	// A peer that has passed nothing on, and keeps a piece for lateAfter, is likely to be one that uploads nothing.
	// While more than one in lateShare of those we know are such, only each triedEvery-th piece goes to a peer that has
	// not shown yet that it passes on: each of these may be lost.
	lateAfter  = 2500 * time.Millisecond
	lateShare  = 10
	triedEvery = 30

	// mostCompared is how many pieces are compared for the rarest once all are out.
	mostCompared = 1024
)

// superSeeds reports whether a peer that joins now is to see a super-seed.
func (c *Core) superSeeds() bool {
	switch {
	case c.cfg.Slots < 0 || c.cfg.SuperSeed == SuperNever || !c.pick.sched.HavePieces().Full():
		return false
	case c.super.on || c.cfg.SuperSeed == SuperAlways:
		return true
	}
	return c.seeds == 0 && len(c.links) >= 2 && !c.super.spent
}

// mask hides what we have from a peer that joins.
func (c *Core) mask(l *link) {
	s := &c.super
	if !s.on {
		n := c.cfg.Layout.Pieces()
		*s = superState{on: true, order: make([]int32, n), out: piece.NewBitfield(n)}
		for i := range s.order {
			s.order[i] = int32(i)
		}
		c.explain(Note{What: "super-seeding begins", Why: c.superReason(), Peers: len(c.links)})
		c.cfg.Rand.Shuffle(n, func(i, j int) { s.order[i], s.order[j] = s.order[j], s.order[i] })
	}
	l.showing = &showing{all: make(map[int]struct{})}
	if l.remote.Fast {
		c.send(&l.contact, wire.Message{ID: wire.HaveNone})
	}
}

// superReason is why super-seeding begins.
func (c *Core) superReason() string {
	if c.cfg.SuperSeed == SuperAlways {
		return "it was asked for"
	}
	return "no other seed is known"
}

// sees reports whether a peer has been told that we have a piece.
func (l *link) sees(i int) bool {
	if l.showing == nil {
		return true
	}
	_, ok := l.showing.all[i]
	return ok
}

// show shows pieces while too little is shown.
func (c *Core) show() {
	s := &c.super
	if !s.on {
		return
	}
	if c.cfg.SuperSeed != SuperAlways && (c.seeds > 0 || s.out.Full()) {
		why := "another seed is there"
		if c.seeds == 0 {
			why = "all pieces are out"
		}
		c.unmask(why)
		return
	}
	enough := max(leastBacklog*c.cfg.Layout.PieceLength(), int64(c.up.Rate(c.now)*backlogTime.Seconds()))
	for s.backlog < enough {
		l := c.nextShown(enough)
		if l == nil {
			return
		}
		l.showing.latest = c.now
		if i, ok := s.choose(c, l); ok {
			c.showPiece(l, i)
		} else {
			l.showing.open = append(l.showing.open, shownPiece{piece: -1, since: c.now}) // nothing for it, for a while
		}
	}
}

// nextShown returns who is to be shown a piece: of those that pass on what they get, who was shown fewest and has waited
// longest. If that is nobody and the line will soon have nothing to send, it is who keeps the fewest.
func (c *Core) nextShown(enough int64) (best *link) {
	idle := c.super.backlog < enough/2
	c.super.shows++
	careful := c.manyLate() && c.super.shows%triedEvery != 0
	for _, l := range c.links {
		w := l.showing
		if w == nil || !l.gotHave || len(w.open) >= mostShown || len(w.kept) >= mostKept && !idle {
			continue
		}
		if best == nil || careful && w.passed && !best.showing.passed ||
			(!careful || w.passed == best.showing.passed) && w.before(best.showing) {
			best = l
		}
	}
	return best
}

// manyLate reports whether many peers keep to themselves what they are shown.
func (c *Core) manyLate() bool {
	proven, late := 0, 0
	for _, l := range c.links {
		switch w := l.showing; {
		case w == nil:
		case w.passed:
			proven++
		case len(w.kept) > 0 && c.now.Sub(w.kept[0].since) > lateAfter:
			late++
		}
	}
	return late*lateShare > proven+late
}

// before reports whether a peer is to be shown something before another.
func (w *showing) before(o *showing) bool {
	if a, b := max(len(w.kept), mostKept-1), max(len(o.kept), mostKept-1); a != b {
		return a < b
	}
	if len(w.open) != len(o.open) {
		return len(w.open) < len(o.open)
	}
	return w.latest.Before(o.latest)
}

// showPiece shows a piece to a peer.
func (c *Core) showPiece(l *link, i int) {
	size := c.cfg.Layout.PieceSize(i)
	c.explain(Note{What: "show a piece", Link: l.id, Piece: i + 1, Peers: c.pick.sched.Availability(i), Rate: c.up.Rate(c.now)})
	c.super.backlog += size
	l.showing.all[i] = struct{}{}
	l.showing.open = append(l.showing.open, shownPiece{piece: i, left: size, since: c.now})
	c.tellHave(l, i)
}

// choose returns a piece to show to a peer: one that nobody has, or else the rarest.
func (s *superState) choose(c *Core, l *link) (int, bool) {
	for k, i := range s.again {
		if c.canShow(l, i) && c.pick.sched.Availability(i) == 0 {
			s.again = slices.Delete(s.again, k, k+1)
			return i, true
		}
	}
	if i, ok := c.takeKept(l); ok {
		return i, true
	}
	for k := s.next; k < len(s.order); k++ {
		i := int(s.order[k])
		had := c.pick.sched.Availability(i) > 0
		if !had && !c.canShow(l, i) {
			continue
		}
		s.order[k], s.order[s.next] = s.order[s.next], s.order[k]
		s.next++
		if !had {
			return i, true
		}
	}
	return s.rarest(c, l)
}

// rarest returns the rarest of some pieces that can be shown to a peer.
func (s *superState) rarest(c *Core, l *link) (best int, ok bool) {
	n := len(s.order)
	from, fewest := c.cfg.Rand.IntN(n), 0
	for k := range min(n, mostCompared) {
		i := (from + k) % n
		if a := c.pick.sched.Availability(i); c.canShow(l, i) && (!ok || a < fewest) {
			best, fewest, ok = i, a, true
		}
	}
	return best, ok
}

func (c *Core) canShow(l *link, i int) bool { return !c.pick.sched.Has(l.sched, i) && !l.sees(i) }

// keptTime is how long a piece may be kept.
func (c *Core) keptTime() time.Duration {
	if r := c.uploadCapacity(); r > 0 {
		return max(keptFor, time.Duration(keptTurns*float64(c.cfg.Layout.PieceLength())/r*float64(time.Second)))
	}
	return keptFor
}

// takeKept returns a piece that another peer has kept for too long. That one still owes it.
func (c *Core) takeKept(l *link) (int, bool) {
	long := c.keptTime()
	for _, o := range c.links {
		if o == l || o.showing == nil {
			continue
		}
		for k := range o.showing.kept {
			if p := &o.showing.kept[k]; !p.again && c.now.Sub(p.since) > long && c.canShow(l, p.piece) {
				p.again = true
				c.explain(Note{What: "show a piece to another, too", Why: "it keeps it to itself", Link: o.id, Piece: p.piece + 1})
				return p.piece, true
			}
		}
	}
	return 0, false
}

// shownServed notes that a block of a piece has been handed out to a peer.
func (c *Core) shownServed(l *link, b piece.Block) {
	if l.showing == nil {
		return
	}
	for k := range l.showing.open {
		p := &l.showing.open[k]
		if p.piece != int(b.Piece) {
			continue
		}
		n := min(int64(b.Length), p.left)
		p.left -= n
		c.super.backlog -= n
		if p.left == 0 {
			c.shownSent(l, k)
		}
		return
	}
}

// shownSent follows from a peer having been sent a piece, or having got it elsewhere.
func (c *Core) shownSent(l *link, k int) {
	p := l.showing.open[k]
	c.super.backlog -= p.left
	l.showing.open = slices.Delete(l.showing.open, k, k+1)
	others := c.pick.sched.Availability(p.piece)
	if c.pick.sched.Has(l.sched, p.piece) {
		others--
	}
	if others > 0 {
		c.super.out.Set(p.piece)
		return
	}
	l.showing.kept = append(l.showing.kept, shownPiece{piece: p.piece, since: c.now})
}

// shownPassed follows from a peer having a piece: whoever was to pass it on has done so.
func (c *Core) shownPassed(l *link, i int) {
	if !c.super.on {
		return
	}
	if l.showing != nil {
		if k := indexOf(l.showing.open, i); k >= 0 {
			c.shownSent(l, k)
		}
	}
	if c.pick.sched.Availability(i) > 1 || !l.sees(i) {
		c.super.out.Set(i)
	}
	for _, o := range c.links {
		if o == l || o.showing == nil {
			continue
		}
		if k := indexOf(o.showing.kept, i); k >= 0 && !o.showing.kept[k].again {
			o.showing.kept = slices.Delete(o.showing.kept, k, k+1)
			o.showing.passed = true
		}
	}
}

func indexOf(pieces []shownPiece, i int) int {
	return slices.IndexFunc(pieces, func(p shownPiece) bool { return p.piece == i })
}

// expireShown gives up on peers that do not ask for what they are shown, and forgives those that passed nothing on: they
// have waited long enough.
func (c *Core) expireShown() {
	if !c.super.on {
		return
	}
	long := c.keptTime()
	for _, l := range c.links {
		if l.showing == nil {
			continue
		}
		l.showing.open = slices.DeleteFunc(l.showing.open, func(p shownPiece) bool {
			if p.piece >= 0 && (c.now.Sub(p.since) <= long || p.left < c.cfg.Layout.PieceSize(p.piece)) {
				return false
			}
			if p.piece >= 0 {
				c.explain(Note{What: "take a shown piece back", Why: "it does not ask for it", Link: l.id, Piece: p.piece + 1})
			}
			c.super.backlog -= p.left
			c.showAgain(p)
			return true
		})
	}
}

// showAgain notes that a piece must be shown to somebody else, unless somebody has it.
func (c *Core) showAgain(p shownPiece) {
	if p.piece >= 0 && c.pick.sched.Availability(p.piece) == 0 {
		c.super.again = append(c.super.again, p.piece)
	}
}

// shownLeft takes back what was shown to a peer that has left.
func (c *Core) shownLeft(l *link) {
	if l.showing == nil {
		return
	}
	for _, p := range l.showing.open {
		c.super.backlog -= p.left
		c.showAgain(p)
	}
	for _, p := range l.showing.kept {
		c.showAgain(p)
	}
	l.showing = nil
}

// unmask ends super-seeding, for the reason given: everybody is told of the rest.
func (c *Core) unmask(why string) {
	c.explain(Note{What: "super-seeding ends", Why: why, Peers: len(c.links)})
	c.super = superState{spent: true}
	for _, l := range c.links {
		if l.showing == nil {
			continue
		}
		for i := range c.cfg.Layout.Pieces() {
			if !l.sees(i) && !c.pick.sched.Has(l.sched, i) {
				c.tellHave(l, i)
			}
		}
		l.showing = nil
	}
	c.choking.next = c.now
}
