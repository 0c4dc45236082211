package core

import (
	"math/rand/v2"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// pickState is what we know about getting blocks: the scheduler chooses them, this file decides
// how many are asked of whom and what becomes of requests that are not answered.
type pickState struct {
	sched    *piece.Scheduler
	links    map[*piece.Peer]*link // look-up only
	buf      []piece.Block         // reused by pump
	total    int64                 // bytes of the wanted pieces
	unwanted int64                 // bytes of the pieces that are neither wanted nor there
	rate     float64               // bytes/s of all links, at the last tick
	freed    bool                  // blocks have become free: others may have them at the end of this event
}

const (
	// snubAfter is how long a peer may owe us blocks before others are asked for them.
	snubAfter = 20 * time.Second

	// stalledAfter is how long a fast peer may owe us blocks until, in the endgame, a third peer is asked for them: longer than
	// those take that serve in turns.
	stalledAfter = 5 * time.Second

	// askPause keeps a peer that chokes and unchokes, or rejects what it has just allowed, from
	// making us ask for the same block more than once a second.
	askPause = time.Second

	// wholePiece is the time within which a fast peer can bring a whole piece alone.
	wholePiece = 30 * time.Second

	// lostFor is how long a request that we have given up counts as filling the peer's queue.
	lostFor = time.Minute
)

func (p *pickState) init(cfg *Config) {
	rng := rand.New(rand.NewPCG(cfg.Rand.Uint64(), cfg.Rand.Uint64()))
	p.sched = piece.NewScheduler(cfg.Layout, rng)
	p.sched.SetSequential(cfg.Sequential)
	p.links = make(map[*piece.Peer]*link)
	for i := range cfg.Layout.Pieces() {
		if cfg.Wanted != nil && !cfg.Wanted.Has(i) {
			p.sched.SetWanted(i, false)
		} else {
			p.total += cfg.Layout.PieceSize(i)
		}
		if cfg.Have.Len() > 0 && cfg.Have.Has(i) {
			p.sched.SetHave(i)
		} else if cfg.Wanted != nil && !cfg.Wanted.Has(i) {
			p.unwanted += cfg.Layout.PieceSize(i)
		}
	}
}

// join adds a link, which has nothing yet.
func (p *pickState) join(l *link) {
	l.sched = p.sched.Join()
	p.sched.SetChoking(l.sched, true)
	p.links[l.sched] = l
}

// leave takes a link's availability away and gives back what it was asked for.
func (p *pickState) leave(l *link) {
	delete(p.links, l.sched)
	p.sched.Leave(l.sched)
	l.asked.abandon()
	l.asked = askQueue{} // blame may remember the link for long
	p.freed = true
}

// updateRates lets every window follow its peer's rate. Where we had too little to ask for, or were
// choked, the rate says nothing of what the peer could send, and the window stays.
func (p *pickState) updateRates(c *Core) {
	p.rate = 0
	for _, l := range c.links {
		r := l.down.Rate(c.now)
		p.rate += r
		if !l.choked && l.asked.live >= l.window.size/2 {
			before := l.window.size
			if l.window.follow(r); l.window.size != before {
				c.explain(Note{What: "window", Why: "it follows the rate", Link: l.id, Blocks: l.window.size, Rate: r})
			}
		}
	}
}

// updateInterest tells the peer when our interest in it has changed.
func (c *Core) updateInterest(l *link) {
	is := !c.leaving.complete && c.pick.sched.Interesting(l.sched)
	if is == l.amInterested {
		return
	}
	l.amInterested = is
	id, why := wire.NotInterested, "it has nothing that we want"
	if is {
		id, why = wire.Interested, "it has what we want"
	}
	c.explain(Note{What: id.String(), Why: why, Link: l.id})
	c.send(&l.contact, wire.Message{ID: id})
}

// pump asks the peer for blocks until as many are outstanding as its window says. It waits until
// a quarter of the window is free, so that requests go out, and blocks come back, in batches. Where there is a limit,
// its turn comes at the end of this event or later.
func (c *Core) pump(l *link) {
	most := c.mostAsked(l)
	if most-l.asked.live < max(1, most/4) {
		return
	}
	if c.limits.down.Rate() > 0 {
		l.wants = true
		return
	}
	c.ask(l, c.depth(l, most)-l.asked.live)
}

// mostAsked is how many blocks the peer may owe us: what its window says and it takes, but no more than a limit lets
// come in the time that windows look ahead, for what is late comes all at once. It is 0 where it may not be asked.
func (c *Core) mostAsked(l *link) int {
	if !l.amInterested || c.now.Before(l.askAfter) || l.suspended && c.blame.retries(l) < 0 {
		return 0
	}
	most := min(l.window.size, l.ext.Outstanding()-l.asked.lost())
	if l.choked {
		most = min(most, fastWindow) // the scheduler knows what of
	}
	if limit := c.limits.down.Rate(); limit > 0 {
		most = min(most, 1+int(min(limit*l.window.ahead().Seconds()/piece.BlockSize, mostWindow)))
	}
	return most
}

// ask asks the peer for n blocks, if there are so many for it, and returns for how many it did.
func (c *Core) ask(l *link, n int) int {
	if n <= 0 {
		return 0
	}
	blocks := c.pick.sched.Next(l.sched, n, c.isFast(l), c.pick.buf[:0])
	c.pick.buf = blocks[:0]
	if len(blocks) == 0 {
		l.shut = c.pick.sched.Shut(l.sched)
		return 0
	}
	if l.asked.live == 0 {
		l.lastBlock = c.now
	}
	c.explainAsks(l, blocks)
	l.window.ask(c.now, len(blocks))
	for _, b := range blocks {
		l.asked.push(b, c.now.Sub(c.start))
		c.limits.down.Charge(c.now, onWire(b))
		c.send(&l.contact, wire.Message{ID: wire.Request, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	}
	return len(blocks)
}

// depth is how many blocks to keep outstanding at a peer: no more than n, what its window says and
// it takes, and no more than its share of what is left to get, so that all peers end together.
func (c *Core) depth(l *link, n int) int {
	if mine := l.down.Rate(c.now); mine > 0 && c.pick.rate > mine && len(c.links) > 1 {
		left := float64(c.pick.sched.Left()) / piece.BlockSize
		n = min(n, leastWindow+int(left*mine/c.pick.rate))
	}
	return n
}

// isFast reports whether a peer is fast enough to be given pieces of its own. Nobody knows before
// the first blocks have come; then hope, unless it has let us down before.
func (c *Core) isFast(l *link) bool {
	if l.snubbed || l.choked {
		return false
	}
	if l.window.ramp && !l.letDown {
		return true
	}
	return l.down.Rate(c.now)*wholePiece.Seconds() >= float64(c.cfg.Layout.PieceLength())
}

// pumpIfFreed asks every peer that has room, if blocks have become free in this event.
func (c *Core) pumpIfFreed() {
	if !c.pick.freed || c.leaving.complete {
		return
	}
	c.pick.freed = false
	limited := c.limits.down.Rate() > 0 // then everybody takes a turn
	for _, l := range c.links {
		if !l.shut || limited { // most are shut, and blocks become free with every request that is rejected
			c.pump(l)
		}
	}
}

// blockIn takes a block's arrival: it is written, or thrown away.
func (c *Core) blockIn(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	n := int(b.Length)
	c.received += int64(n)
	c.down.Add(c.now, n)
	l.down.Add(c.now, n)
	at, live, asked := l.asked.take(b)
	if !asked {
		c.waste(n)
		c.limits.unasked(c.now, m.Len())
		c.unsolicited(l, b, costUnasked)
		return
	}
	l.gave.Add(c.now, n) // what nobody asked for buys nothing
	l.balance += float64(n)
	l.patience.Give(worthBlock)
	if live {
		ramp := l.window.ramp
		if l.window.answer(c.now, c.now.Sub(c.start)-at); ramp && !l.window.ramp {
			c.explain(Note{What: "window", Why: "no more throughput", Link: l.id, Blocks: l.window.size, Rate: l.down.Rate(c.now)})
		}
	}
	l.lastBlock, l.snubbed = c.now, false
	if c.unwelcome(l, b) {
		c.leaveOut(l, b)
		c.pump(l)
		return
	}
	fresh, others := c.pick.sched.Received(l.sched, b)
	if fresh {
		c.emit(Effect{Op: Write, Block: b})
		c.leaving.lastData, l.exchanged, l.useful = c.now, c.now, true
		c.stored(l, b)
	} else {
		c.waste(n)
	}
	for _, o := range others {
		c.unask(c.pick.links[o], b)
	}
	c.pump(l)
}

// unsolicited takes note of an answer to nothing we asked. BEP 6 wants the first to end the connection, but clients
// are known that send a block and reject it, too. What we could not even have asked for is no honest peer's.
func (c *Core) unsolicited(l *link, b piece.Block, points int) {
	if !c.cfg.Layout.IsBlock(b) || !c.bears(&l.contact, points) {
		c.drop(l, misdeed("sends what nobody asked for"))
	}
}

// waste throws away the block of this event.
func (c *Core) waste(n int) {
	c.wasted += int64(n)
	c.emit(Effect{Op: Release})
}

// unask takes back a request, because another peer was quicker (endgame).
func (c *Core) unask(l *link, b piece.Block) {
	if l.asked.lose(b) {
		c.explain(Note{What: "cancel", Why: "another was quicker", Link: l.id, Piece: int(b.Piece) + 1, Blocks: 1})
		c.cancelled(l, b)
		c.pump(l)
	}
}

// cancelled follows from a request having been given up: the peer need not answer it.
func (c *Core) cancelled(l *link, b piece.Block) {
	l.lostAt = c.now
	l.window.forgive(1)
	c.send(&l.contact, wire.Message{ID: wire.Cancel, Index: b.Piece, Begin: b.Begin, Length: b.Length})
}

// choked takes a choke. Without the fast extension everything outstanding is thereby refused; with
// it each request is rejected on its own (BEP 6).
func (c *Core) choked(l *link) {
	l.choked = true
	c.pick.sched.SetChoking(l.sched, true)
	c.explain(Note{What: "it chokes us", Link: l.id, Blocks: l.asked.live, Rate: l.down.Rate(c.now)})
	if l.asked.live == 0 {
		return
	}
	l.askAfter = c.now.Add(askPause)
	if l.remote.Fast {
		return
	}
	l.window.forgive(l.asked.live)
	c.giveBack(l)
}

// giveBack gives up all requests of a link: others may have the blocks.
func (c *Core) giveBack(l *link) {
	for l.asked.live > 0 {
		l.asked.lose(l.asked.asks[l.asked.head].block)
	}
	c.pick.sched.ReturnAll(l.sched)
	c.pick.freed = true
}

func (c *Core) unchoked(l *link) {
	l.choked, l.shut = false, false
	c.pick.sched.SetChoking(l.sched, false)
	c.explain(Note{What: "it unchokes us", Link: l.id})
	c.pump(l)
}

// rejected takes the answer that a request will not be served (BEP 6).
func (c *Core) rejected(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	switch _, live, ok := l.asked.take(b); {
	case !ok:
		c.unsolicited(l, b, costWavering)
	case live:
		c.explain(Note{What: "it rejects", Link: l.id, Piece: int(b.Piece) + 1, Blocks: 1})
		if l.choked {
			c.pick.sched.Disallow(l.sched, int(b.Piece))
		}
		l.window.forgive(1)
		c.pick.sched.Return(l.sched, b)
		c.pick.freed = true
		l.askAfter = c.now.Add(askPause)
	}
}

// checkTimeouts finds what peers owe us for too long: others may have it.
func (c *Core) checkTimeouts() {
	for _, l := range c.links {
		if l.asked.lost() > 0 && c.now.Sub(l.lostAt) >= lostFor {
			l.asked.expire()
		}
		waited := time.Duration(0)
		if l.asked.live > 0 {
			waited = c.now.Sub(l.lastBlock)
		}
		c.pick.sched.SetStalled(l.sched, waited >= stalledAfter)
		if waited >= snubAfter {
			c.snub(l)
		}
		for {
			b, ok := l.asked.overdue(c.now.Sub(c.start) - snubAfter)
			if !ok {
				break
			}
			c.explain(Note{What: "ask others", Why: "it holds a block back", Link: l.id, Piece: int(b.Piece) + 1, Blocks: 1})
			l.asked.lose(b)
			c.pick.sched.Return(l.sched, b)
			c.cancelled(l, b)
		}
	}
	c.pick.freed = true
}

// snub gives up on a peer that has sent nothing for too long. It is asked for one block at a time
// until it answers.
func (c *Core) snub(l *link) {
	c.explain(Note{What: "snub", Why: "it has sent nothing for too long", Link: l.id, Blocks: l.asked.live})
	for i := l.asked.head; i < len(l.asked.asks); i++ {
		if b := l.asked.asks[i].block; b.Length > 0 {
			c.cancelled(l, b)
		}
	}
	c.giveBack(l)
	c.pick.sched.DisallowAll(l.sched)
	l.window.restart()
	l.snubbed, l.letDown, l.lastBlock = true, true, c.now
}

// verified takes the verdict on a piece.
func (c *Core) verified(i int, ok bool, sums [][20]byte) {
	if !ok {
		c.wasted += c.cfg.Layout.PieceSize(i)
		c.pick.sched.Failed(i)
		c.blameFor(i, sums)
		c.pick.freed = true
		return
	}
	c.explain(Note{What: "good piece", Piece: i + 1, Peers: c.pick.sched.Availability(i)})
	c.pick.sched.Verified(i)
	c.choking.fill = c.choking.fill || c.pick.sched.HavePieces().Count() == 1 // those who have nothing are welcome now
	c.acquit(i, sums)
	for _, l := range c.links {
		// Those who have the piece are told too: a seed spreads what is rare by it, and knows a copy when it is whole.
		c.tellHave(l, i)
		if l.amInterested && c.pick.sched.Has(l.sched, i) {
			c.updateInterest(l)
		}
	}
}
