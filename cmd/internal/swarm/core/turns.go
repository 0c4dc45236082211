package core

import (
	"net/netip"
	"time"

	"bittern/piece"
)

// turnState decides in which order the requests of all peers are served. They come in turns of a piece: a piece that
// is sent to one peer after the other is there, and passed on, long before the last of as many that are sent side by side.
//
// Who has nothing yet comes first, for it can upload nothing before it has a piece; each subscriber has that once of us, whatever its
// peers say and however often they come.
// While we download, a turn then goes to the peer that we owe most, as a tit-for-tat of bytes. Peers that have given
// nothing lately get what is left over, or a small share of what the others get if nothing is; strangers get only an
// advance in a turn, and those that owe us more than that only a part of that share. Among them, and among all once we are
// complete, everybody gets as many bytes.
//
// So much is in the hands of the writers that the line stays busy, and no more: what waits there is out of
// reach of a choke and a cancel, and everything we say waits behind it.
type turnState struct {
	of     *link // whose turn it is
	length int   // of a turn, in bytes
	gifts  int   // bytes that peers which have given nothing lately may have now, whoever else waits; below zero, what is to be saved first
	trade  bool  // somebody who wants something of us gives us something, as of the last tick
	share  int64 // of the peer that was last chosen for its share

	started map[netip.Addr]*int64 // bytes handed out to peers of a subscriber that had nothing
}

const (
	// allTurns is how long the turns of all who wait take together, at most: the longest that any of them waits.
	allTurns = 4 * time.Second

	// giftShare is the share of those who have given nothing lately, in percent of what the others get: newcomers are to
	// find something to trade soon. What one gets of it that owes us counts oweCost times, which leaves free riders little.
	giftShare = 25
	oweCost   = 10

	// advance is what a peer that has something to trade gets of us before it must give something back. (Four times as
	// much lets those who never give have a tenth of everything in the first twenty seconds of a swarm of a hundred.)
	advance = 64 << 10

	// mostStart is the most that the peers of a subscriber get of us before all others because they have nothing: a piece, if it is no
	// larger. So many subscribers are remembered, which are a few hundred kilobytes; then it is forgotten who was where.
	mostStart   = 1 << 20
	mostStarted = 4096

	// In the hands of all writers is what goes out in lineTime, while nobody knows how much that is firstLine, in those of one
	// what it took lately in twice that, so that the one whose turn it is comes to have the line for itself. A peer that
	// takes nothing for long is stuck, see [Core.stuckAfter]: the line is not kept for it.
	lineTime                        = 100 * time.Millisecond
	firstLine, leastLine            = 64 << 10, 2 * piece.BlockSize
	leastWriter, mostWriter         = 64 << 10, 512 << 10
	leastStuckAfter, mostStuckAfter = 250 * time.Millisecond, 2 * time.Second
)

// An upload is what one peer gets of us: its part in the turns.
type upload struct {
	start    *int64    // bytes handed out to peers of its subscriber that had nothing; all of them share it
	left     int       // bytes of its turn; it has none if that is not above 0
	gift     bool      // the turn is one of a peer that has given nothing lately
	inFlight int       // bytes being read or in the writer's hands
	moved    time.Time // when it last took some of these, or got the first
	speed    float64   // bytes/s at which it takes them
	share    int64     // bytes it has been given, counted from what the others had when it last began to ask for something, or had paid
}

// window is how many bytes to have read or in the writer's hands.
func (u *upload) window() int {
	return int(min(max(leastWriter, u.speed*2*lineTime.Seconds()), mostWriter))
}

// took notes that n of the bytes in flight have gone out.
func (u *upload) took(now time.Time, n int) {
	if d := now.Sub(u.moved).Seconds(); d > 0 {
		u.speed += (float64(n)/d - u.speed) / 4
	}
	u.inFlight -= n
	u.moved = now
}

// room reports whether a block of so many bytes may be handed out.
func (u *upload) room(size int) bool { return u.inFlight == 0 || u.inFlight+size <= u.window() }

// serveInTurn hands requests to the disk, and so to the writers, as long as the line and the limit take more.
func (c *Core) serveInTurn() {
	t := &c.turns
	for c.serving.asking > 0 && c.limits.up.Open(c.now) && c.lineHasRoom() {
		if l := t.of; l == nil || l.upload.left <= 0 || !c.canServe(l) {
			if t.of = c.nextTurn(); t.of == nil {
				return
			}
		}
		c.serve(t.of)
	}
}

// lineHasRoom reports whether more should be in the writers' hands.
func (c *Core) lineHasRoom() bool {
	reading := c.serving.reading
	if reading+piece.BlockSize > readCredit {
		return false
	}
	line := c.lineLength()
	if reading < line {
		return true
	}
	after := c.stuckAfter()
	for _, l := range c.serving.writing {
		if l.upload.stuck(c.now, after) {
			reading -= l.upload.inFlight
		}
	}
	return reading < line
}

// lineLength is how many bytes should be in the writers' hands.
func (c *Core) lineLength() int {
	least := leastLine
	if c.uploadCapacity() == 0 {
		least = firstLine
	}
	return max(least, int(c.lineRate()*lineTime.Seconds()))
}

// lineRate is how fast the line is as far as we know, in bytes/s; 0 if we do not. The user's limit is no measure of it, but
// before there is another.
func (c *Core) lineRate() float64 {
	rate := c.limits.peak
	if rate == 0 {
		rate = c.uploadCapacity()
	}
	return max(rate, c.up.Rate(c.now))
}

// stuck reports whether a peer takes nothing of what is in flight to it.
func (c *Core) stuck(l *link) bool { return l.upload.stuck(c.now, c.stuckAfter()) }

func (u *upload) stuck(now time.Time, after time.Duration) bool {
	return u.inFlight > 0 && now.Sub(u.moved) >= after
}

// stuckAfter is how long a peer may take nothing: twice as long as all that is in flight takes to go out, for on a slow line
// it only waits until the others have been sent theirs. Were it called stuck for that, more and more would be handed out,
// and everything that we say, requests above all, would wait behind seconds of blocks.
func (c *Core) stuckAfter() time.Duration {
	rate := c.lineRate()
	if rate == 0 {
		return mostStuckAfter
	}
	goesOut := time.Duration(float64(c.serving.reading) / rate * float64(time.Second))
	return min(max(leastStuckAfter, 2*goesOut), mostStuckAfter)
}

// canServe reports whether a link asks for something, and takes it. One that is stuck gets no more once half of what there is
// for all is taken, or a few of them would come to hold everything.
func (c *Core) canServe(l *link) bool {
	if c.serving.reading >= readCredit/2 && c.stuck(l) {
		return false
	}
	return asks(l) && l.upload.room(int(l.queue[0].Length))
}

// turnLength is how many bytes each of those who wait has in its turn.
func (c *Core) turnLength() int {
	n := c.cfg.Layout.PieceLength()
	if capacity := c.uploadCapacity(); capacity > 0 {
		n = min(n, int64(capacity*allTurns.Seconds())/int64(max(1, c.serving.asking)))
	}
	return int(max(n, piece.BlockSize))
}

// begins notes that a peer who waited for nothing begins to wait. What it has left unused is lost, but for a turn; so much
// it has at once, for it may be somebody who asks for a few blocks at a time.
func (c *Core) begins(l *link) {
	t, u := &c.turns, &l.upload
	u.share = max(u.share, t.share-int64(t.length))
	if u.left = min(u.left, t.length); c.now.Sub(l.asksAt) > allTurns {
		u.left = 0 // that turn is long over
	}
}

// resumes lets an interrupted turn go on at once if more can be handed out to the peer now, and it has had less than the one whose turn
// it is.
func (c *Core) resumes(l *link) {
	if o := c.turns.of; o != nil && l.upload.left > 0 && l.upload.share < o.upload.share && c.canServe(l) {
		c.turns.of = l
	}
}

// nextTurn returns the link whose turn is next, or nil if none can be served. A turn that was interrupted, because the
// writer took no more or the peer asked for no more, goes on before another begins.
func (c *Core) nextTurn() *link {
	t := &c.turns
	t.length = c.turnLength()
	var interrupted, first, trader, other *link
	for _, l := range c.links {
		switch {
		case !c.canServe(l):
		case l.upload.left > 0:
			interrupted = lessServed(interrupted, l)
		case c.starts(l):
			first = lessServed(first, l)
		case c.trades(l):
			if trader == nil || l.balance > trader.balance {
				trader = l
			}
		case !c.owes(l) || t.gifts >= t.length:
			other = lessServed(other, l)
		}
	}
	next, gift, why := trader, false, "we owe it most"
	switch {
	case interrupted != nil:
		return interrupted
	case first != nil:
		next, gift, why = first, true, "it has nothing yet"
	case other != nil && (trader == nil || t.gifts >= t.length):
		next, gift, why = other, true, "it has had least of those that give us nothing"
	case trader == nil:
		return nil
	}
	if gift {
		t.share = max(t.share, next.upload.share)
	} else {
		next.upload.share = max(next.upload.share, t.share) // nor does it save anything up while it pays
	}
	next.upload.gift, next.upload.left = gift, c.turnOf(next)
	c.explain(Note{What: "turn", Why: why, Link: next.id, Blocks: next.upload.left / piece.BlockSize})
	return next
}

// lessServed returns the one of two links, of which the first may be nil, that has had less.
func lessServed(a, b *link) *link {
	if a == nil || b.upload.share < a.upload.share {
		return b
	}
	return a
}

// turnOf is how many bytes a link has in its turn. Where peers trade, a stranger that has something is to show first that it does.
func (c *Core) turnOf(l *link) int {
	if c.turns.trade && l.gave.Total() == 0 && !c.starts(l) {
		return min(c.turns.length, advance)
	}
	return c.turns.length
}

// starts reports whether a peer has no piece, and nobody of its subscriber has had as much as one of us in this way.
func (c *Core) starts(l *link) bool {
	return c.pick.sched.PeerCount(l.sched) == 0 && *l.upload.start < min(c.cfg.Layout.PieceLength(), mostStart)
}

// startOf returns what was handed out to peers of a subscriber that had nothing. On loopback every peer is one of its own.
func (t *turnState) startOf(ip netip.Addr) *int64 {
	at := subscriberOf(ip)
	if n := t.started[at]; n != nil {
		return n
	}
	n := new(int64)
	if ip.IsLoopback() {
		return n
	}
	if t.started == nil || len(t.started) == mostStarted {
		t.started = make(map[netip.Addr]*int64)
	}
	t.started[at] = n
	return n
}

// trades reports whether a peer gives us something for what it gets. Nobody does once we are complete.
func (c *Core) trades(l *link) bool { return !c.leaving.complete && l.gave.Rate(c.now) > 0 }

// owes reports whether a peer has had its advance and gives nothing, although it could or although others do. Where
// nobody trades with us it is no fault to have nothing that we want: a seed gives, but leaves the line to others.
func (c *Core) owes(l *link) bool {
	if c.leaving.complete || !c.turns.trade || l.suspended || l.balance > -advance || c.starts(l) {
		return false
	}
	return l.amInterested && (l.choked || l.snubbed) || l.gave.Total() == 0
}

// serve has the next block read that a link asks for.
func (c *Core) serve(l *link) {
	t, b := &c.turns, l.queue[0]
	c.serving.queue(l, l.queue[:copy(l.queue, l.queue[1:])])
	size := int(b.Length)
	l.upload.left -= size
	if l.upload.gift { // what it paid for is not held against it
		l.upload.share += int64(size)
	}
	switch {
	case c.starts(l):
		*l.upload.start += int64(size)
	case l.upload.gift && c.owes(l):
		t.gifts -= oweCost * size
	case l.upload.gift:
		t.gifts = max(min(t.gifts, 0), t.gifts-size) // nobody else may have waited
	default:
		t.gifts = min(t.gifts+size*giftShare/100, t.length)
	}
	if l.upload.inFlight == 0 {
		l.upload.moved = c.now
	}
	c.serving.handOut(l, size)
	c.limits.up.Charge(c.now, onWire(b))
	c.emit(Effect{Op: ReadBlock, Link: l.id, Block: b})
	c.shownServed(l, b)
}

// nextServe returns when to look again whether the line has room: when somebody who holds it is stuck.
func (c *Core) nextServe() (next time.Time) {
	if c.serving.asking == 0 {
		return next
	}
	after := c.stuckAfter()
	for _, l := range c.serving.writing {
		if at := l.upload.moved.Add(after); at.After(c.now) {
			next = earlier(next, at)
		}
	}
	return next
}
