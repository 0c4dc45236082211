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
// It begins by itself where no other copy is known and a second leecher joins. The first keeps the sight of an
// ordinary seed, which cannot be taken back, but is served only while fewer than two others want something; so it does not
// begin where there are more who see everything. It ends when all pieces are out, another copy is met, pieces turn up
// that we have shown to nobody, as those of a second super-seed do, or nobody takes or passes on what is shown; then everybody is told
// of the rest. When all leave, then or meanwhile, it begins anew with the next. Where the user asked for it,
// it begins with the first peer and does not end.
//
// That others have what we have not sent is their word, which a seed cannot check. So super-seeding may end for a lie, which costs
// those who are there about a fifth of their speed, and not more: an ordinary seed suggests to each peer something else (BEP 6).
//
// Everybody who is shown something is unchoked: what is shown, and not the choke, decides what we send. So much is shown as
// keeps the line busy.
type superState struct {
	on       bool
	spent    bool    // it ended by itself: it does not begin again among those who are there
	order    []int32 // all pieces, in a random order; those before next have been shown or are had by somebody
	next     int
	again    []int          // shown in vain: nobody had them when whom they were shown to left, or gave up on them
	parted   []shownPiece   // sent to peers that have left since: they may pass them on out of our sight
	out      piece.Bitfield // pieces that somebody has got of others than us; none is taken out
	ours     piece.Bitfield // pieces that we have shown or sent to somebody, or that somebody had from the start
	foreign  int            // how many others have turned up
	backlog  int64          // bytes shown that wait to be asked for and sent, but of doubtful pieces
	servedAt time.Time      // when a block was last handed out, or nobody wanted any
	passedAt time.Time      // when a piece was last passed on, or nobody wanted any
	shows    int            // how often somebody was chosen to be shown something
}

// A showing is what one peer sees of a super-seed.
type showing struct {
	all    piece.Bitfield // every piece ever shown to it
	open   []shownPiece   // of them, those that it was not sent yet
	kept   []shownPiece   // those that it was sent and that nobody else has: it is to pass them on
	latest time.Time      // when it was last shown one
	passed bool           // it has passed on one, at least
	pause  time.Time      // it is shown nothing before: there was nothing for it
	deaf   bool           // it did not ask for what it was shown last
}

// A shownPiece is a piece that one peer was shown.
type shownPiece struct {
	piece int
	left  int64     // bytes not sent yet
	shown time.Time // when it was shown
	since time.Time // when it was shown, or one of those that its peer was shown last got on; of a kept one, when it was sent
	again bool      // kept for so long that somebody else was shown it, too
	doubt bool      // it does not count in the backlog: shown to a deaf peer, and not asked for, or the line waits for it
}

const (
	// A peer is shown so many pieces ahead of being sent them, more if it is fast, up to as many as these bytes are; and none
	// while it keeps so many.
	mostShown, mostKept = 2, 2
	mostShownBytes      = 512 << 10

	// What is shown and not sent is worth leastBacklog pieces, or what we send in backlogTime if that is more.
	leastBacklog = 4
	backlogTime  = time.Second

	// A piece that is kept to oneself for keptFor, or for keptTurns times as long as we take to send one, but no longer
	// than mostKeptFor, is shown to somebody else. (What we can send is not known well after a long silence.) One that is
	// shown and not asked for makes way after as long, or begunTurns times as long if some of it was asked for.
	// forgivenAfter times as long, and having kept one does not count any more: perhaps it was passed on to somebody
	// we do not know.
	keptFor       = 10 * time.Second
	mostKeptFor   = 5 * time.Minute
	keptTurns     = 4
	begunTurns    = 3
	forgivenAfter = 6

	// If nothing is asked for in givenUpAfter times as long, though somebody wants something, super-seeding ends; and if nothing is
	// passed on: they may not be able to reach one another.
	givenUpAfter = 3

	// A peer that has not said what it has after untoldAfter has nothing, and says nothing because it sees that nor have we
	// (BEP 3: "Downloaders which don't have anything yet may skip the 'bitfield' message").
	untoldAfter = 2 * time.Second

	// A piece that a peer has been shown for slowAfter, and does not have, while nobody asks for more than he takes, is
	// held up by the peer: it does not ask, or is slow. Others are shown something as if it were not there.
	slowAfter = 2 * time.Second

	// A peer that has passed nothing on, and keeps a piece for lateAfter, is likely to be one that uploads nothing.
	// While more than one in lateShare of those we know are such, those that have shown that they pass on come first but for
	// each triedEvery-th piece: what goes to others may be lost.
	lateAfter  = 2500 * time.Millisecond
	lateShare  = 10
	triedEvery = 30

	// So many pieces must turn up that are not from us before we believe in another copy.
	enoughForeign = 2

	// mostCompared is how many pieces are compared for the rarest once all are out.
	mostCompared = 1024

	// A torrent of more pieces is not super-seeded by itself. To each peer a message for each piece goes out at the end,
	// and what waits for a peer is bounded.
	mostMasked = 1 << 14
)

// superSeeds reports whether a peer that joins now, and is a link already, is to see a super-seed.
func (c *Core) superSeeds() bool {
	switch {
	case c.cfg.Slots < 0 || c.cfg.SuperSeed == SuperNever || !c.pick.sched.HavePieces().Full():
		return false
	case c.super.on || c.cfg.SuperSeed == SuperAlways:
		return true
	}
	return len(c.links) == 2 && c.copies.count() == 0 && !c.super.spent && c.cfg.Layout.Pieces() <= mostMasked
}

// mask hides what we have from a peer that joins.
func (c *Core) mask(l *link) {
	if !c.super.on {
		c.super.begin(c)
		c.explain(Note{What: "super-seeding begins", Why: c.superReason(), Peers: len(c.links)})
	}
	l.showing = &showing{all: piece.NewBitfield(c.cfg.Layout.Pieces())}
	if l.remote.Fast {
		c.send(&l.contact, wire.Message{ID: wire.HaveNone})
	}
}

func (s *superState) begin(c *Core) {
	n := c.cfg.Layout.Pieces()
	*s = superState{on: true, order: make([]int32, n), out: piece.NewBitfield(n), ours: piece.NewBitfield(n), servedAt: c.now, passedAt: c.now}
	for i := range s.order {
		s.order[i] = int32(i)
		if c.pick.sched.Availability(i) > 0 {
			s.ours.Set(i)
		}
		if c.pick.sched.Availability(i) > 1 {
			s.out.Set(i)
		}
	}
	c.cfg.Rand.Shuffle(n, func(i, j int) { s.order[i], s.order[j] = s.order[j], s.order[i] })
}

// superReason is why super-seeding begins.
func (c *Core) superReason() string {
	if c.cfg.SuperSeed == SuperAlways {
		return "it was asked for"
	}
	return "no other copy is known"
}

// sees reports whether a peer has been told that we have a piece.
func (l *link) sees(i int) bool {
	return l.showing == nil || l.showing.all.Has(i)
}

// show shows pieces while too little is shown.
func (c *Core) show() {
	s := &c.super
	if !s.on {
		return
	}
	if why := c.superEnds(); why != "" {
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
			l.showing.pause = c.now.Add(tickEvery)
		}
	}
}

// superEnds returns why super-seeding ends, or "" if it goes on.
func (c *Core) superEnds() string {
	switch {
	case c.cfg.SuperSeed == SuperAlways:
		return ""
	case c.copies.count() > 0:
		return "another copy is known"
	case c.super.foreign >= enoughForeign:
		return "pieces turn up that are not from here"
	case c.super.out.Full():
		return "all pieces are out"
	case c.now.Sub(c.super.servedAt) > givenUpAfter*c.keptTime():
		return "nobody takes what is shown"
	case c.now.Sub(c.super.passedAt) > givenUpAfter*c.keptTime():
		return "nobody passes on what is shown"
	}
	return ""
}

// nextShown returns who is to be shown a piece: of those that pass on what they get, who was shown fewest and has waited
// longest. If that is nobody and the line will soon have nothing to send, it is who keeps the fewest.
func (c *Core) nextShown(enough int64) (best *link) {
	idle := c.super.backlog < enough/2
	careful := c.manyLate() && (c.super.shows+1)%triedEvery != 0
	for _, l := range c.links {
		w := l.showing
		if w == nil || !l.gotHave && c.now.Sub(l.joined) < untoldAfter || c.now.Before(w.pause) ||
			len(w.open) >= c.mostOpen(l) || w.deaf && len(w.open) > 0 || len(w.kept) >= mostKept && !idle {
			continue
		}
		if best == nil || w.before(best.showing, careful) {
			best = l
		}
	}
	if best != nil {
		c.super.shows++
	}
	return best
}

// mostOpen is how many pieces a peer is shown ahead: what it took in the last second, within bounds.
func (c *Core) mostOpen(l *link) int {
	ahead := min(l.upload.speed*backlogTime.Seconds(), mostShownBytes)
	return max(mostShown, int(ahead/float64(c.cfg.Layout.PieceLength())))
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
func (w *showing) before(o *showing, careful bool) bool {
	switch {
	case w.deaf != o.deaf:
		return o.deaf
	case careful && w.passed != o.passed:
		return w.passed
	}
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
	w := l.showing
	p := shownPiece{piece: i, left: c.cfg.Layout.PieceSize(i), shown: c.now, since: c.now, doubt: w.deaf}
	c.super.backlog += p.waits()
	w.all.Set(i)
	c.super.ours.Set(i)
	w.open = append(w.open, p)
	c.explain(Note{What: "show a piece", Link: l.id, Piece: i + 1, Peers: c.pick.sched.Availability(i), Rate: c.up.Rate(c.now)})
	c.tellHave(l, i)
}

// waits is how much of a piece is in the backlog, in bytes.
func (p *shownPiece) waits() int64 {
	if p.doubt {
		return 0
	}
	return p.left
}

// choose returns a piece to show to a peer: one that nobody has, or else the rarest. None is set aside for a deaf one.
func (s *superState) choose(c *Core, l *link) (int, bool) {
	if l.showing.deaf {
		return s.rarest(c, l)
	}
	s.again = slices.DeleteFunc(s.again, func(i int) bool { return c.pick.sched.Availability(i) > 0 })
	for k, i := range s.again {
		if c.canShow(l, i) {
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
		long := keptTurns * float64(c.cfg.Layout.PieceLength()) / r // seconds
		return max(keptFor, time.Duration(min(long, mostKeptFor.Seconds())*float64(time.Second)))
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
	c.super.servedAt = c.now
	if l.showing == nil {
		if c.super.on {
			c.super.ours.Set(int(b.Piece)) // it sees everything, and need not tell us what it has
		}
		return
	}
	l.showing.deaf = false
	k := indexOf(l.showing.open, int(b.Piece))
	if k < 0 {
		return
	}
	p := &l.showing.open[k]
	c.super.backlog -= p.waits()
	p.left -= min(int64(b.Length), p.left)
	for i := range l.showing.open { // it asks for the others when it has this one, which may take it long to get
		l.showing.open[i].since = c.now
	}
	p.doubt = p.doubt && c.now.Sub(p.shown) >= slowAfter
	c.super.backlog += p.waits()
	if p.left == 0 {
		c.shownSent(l, k)
	}
}

// shownSent follows from a peer having been sent a piece, or having got it elsewhere.
func (c *Core) shownSent(l *link, k int) {
	p := l.showing.open[k]
	c.super.backlog -= p.waits()
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

// shownPassed follows from a peer having one more piece, and shownSet from its having said at once what it has: whoever was to
// pass that on has done so.
func (c *Core) shownPassed(l *link, i int) {
	if !c.super.on {
		return
	}
	if c.super.ours.Set(i) && c.pick.sched.Availability(i) == 1 && l.showing != nil {
		c.super.foreign++ // who sees everything may have been sent it before super-seeding began
	}
	c.noteOut(l, i)
	c.rewardFor(l)
}

func (c *Core) shownSet(l *link) {
	if !c.super.on {
		return
	}
	for i := range c.cfg.Layout.Pieces() {
		if c.pick.sched.Has(l.sched, i) {
			c.super.ours.Set(i)
			c.noteOut(l, i)
		}
	}
	c.rewardFor(l)
}

// noteOut notes that a peer has a piece, perhaps of others than us.
func (c *Core) noteOut(l *link, i int) {
	if !l.sees(i) {
		c.super.passedAt = c.now
	}
	if c.pick.sched.Availability(i) > 1 || !l.sees(i) {
		c.super.out.Set(i)
	}
}

// rewardFor compares what a peer has with what it was shown and others keep.
func (c *Core) rewardFor(l *link) {
	has := func(p shownPiece) bool { return c.pick.sched.Has(l.sched, p.piece) }
	if l.showing != nil {
		for k := slices.IndexFunc(l.showing.open, has); k >= 0; k = slices.IndexFunc(l.showing.open, has) {
			c.shownSent(l, k)
		}
	}
	for _, o := range c.links {
		if o == l || o.showing == nil {
			continue
		}
		w, n := o.showing, len(o.showing.kept)
		w.kept = slices.DeleteFunc(w.kept, func(p shownPiece) bool { return !p.again && has(p) })
		w.passed = w.passed || len(w.kept) < n
	}
}

func indexOf(pieces []shownPiece, i int) int {
	return slices.IndexFunc(pieces, func(p shownPiece) bool { return p.piece == i })
}

// expireShown, once a tick, gives up on peers that do not ask for what they are shown, or stop in the middle of it, and
// forgives those that passed nothing on: they have waited long enough.
func (c *Core) expireShown() {
	if !c.super.on {
		return
	}
	c.expireParted()
	if !slices.ContainsFunc(c.links, func(l *link) bool { return l.interested }) {
		c.super.servedAt, c.super.passedAt = c.now, c.now
	}
	long, idle := c.keptTime(), !slices.ContainsFunc(c.links, c.canServe)
	for _, l := range c.links {
		w := l.showing
		if w == nil {
			continue
		}
		for k := range w.open {
			if p := &w.open[k]; idle && !p.doubt && c.now.Sub(p.shown) >= slowAfter {
				c.super.backlog -= p.waits()
				p.doubt = true
			}
		}
		w.open = slices.DeleteFunc(w.open, func(p shownPiece) bool {
			grace := long
			if p.left < c.cfg.Layout.PieceSize(p.piece) {
				grace *= begunTurns // to send it to somebody else costs us what it has got
			}
			if c.now.Sub(p.since) <= grace || c.waitsForTurn(l) {
				return false
			}
			w.deaf = true
			c.explain(Note{What: "take a shown piece back", Why: "it does not ask for it", Link: l.id, Piece: p.piece + 1})
			c.super.backlog -= p.waits()
			c.showAgain(p)
			return true
		})
		w.kept = slices.DeleteFunc(w.kept, func(p shownPiece) bool {
			if c.now.Sub(p.since) <= forgivenAfter*long {
				return false
			}
			c.showAgain(p)
			return true
		})
	}
}

// expireParted, once a tick, gives up on pieces that left with those that had them.
func (c *Core) expireParted() {
	long := c.keptTime()
	c.super.parted = slices.DeleteFunc(c.super.parted, func(p shownPiece) bool {
		if c.now.Sub(p.since) <= long {
			return false
		}
		c.showAgain(p)
		return true
	})
}

// waitsForTurn reports whether a peer has asked for some of what it is shown, and it is we who keep it waiting: it asks for
// another piece when we are done with this one.
func (c *Core) waitsForTurn(l *link) bool {
	return !c.stuck(l) && slices.ContainsFunc(l.queue, func(b piece.Block) bool { return indexOf(l.showing.open, int(b.Piece)) >= 0 })
}

// showAgain notes that a piece must be shown to somebody else, unless somebody has it, or is to pass it on.
func (c *Core) showAgain(p shownPiece) {
	if !p.again && c.pick.sched.Availability(p.piece) == 0 && !slices.Contains(c.super.again, p.piece) {
		c.super.again = append(c.super.again, p.piece)
	}
}

// shownLeft takes back what was shown to a peer that has left.
func (c *Core) shownLeft(l *link) {
	if l.showing != nil {
		for _, p := range l.showing.open {
			c.super.backlog -= p.waits()
			c.showAgain(p)
		}
		c.super.parted = append(c.super.parted, l.showing.kept...)
		l.showing = nil
	}
	if len(c.links) == 0 {
		c.super = superState{} // who comes next may be a new swarm, and what the others said need not have been true
	}
}

// unmask ends super-seeding, for the reason given: everybody is to be told of the rest.
func (c *Core) unmask(why string) {
	c.explain(Note{What: "super-seeding ends", Why: why, Peers: len(c.links)})
	c.super = superState{spent: true}
	for _, l := range c.links {
		if l.showing != nil {
			l.showing.open, l.showing.kept = nil, nil
		}
	}
	c.choking.next = c.now
	c.tellLater(func(l *link) bool { return l.showing != nil })
}
