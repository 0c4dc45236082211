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
	sched  *piece.Scheduler
	layout piece.Layout
	links  map[*piece.Peer]*link // look-up only
	buf    []piece.Block         // reused by pump
	total  int64                 // bytes of the wanted pieces
	rate   float64               // bytes/s of all links, at the last tick
}

const (
	// snubAfter is how long a peer may owe us blocks before others are asked for them.
	snubAfter = 20 * time.Second

	// askPause keeps a peer that chokes and unchokes, or rejects what it has just allowed, from
	// making us ask for the same block more than once a second.
	askPause = time.Second

	// wholePiece is the time within which a fast peer can bring a whole piece alone.
	wholePiece = 30 * time.Second

	// maxUnasked is how many blocks nobody asked for a peer may send; late answers to requests
	// that a choke has swallowed look like them, so the first ones are only thrown away.
	maxUnasked = 64
)

func (p *pickState) init(cfg *Config) {
	rng := rand.New(rand.NewPCG(cfg.Rand.Uint64(), cfg.Rand.Uint64()))
	p.layout = cfg.Layout
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
		}
	}
}

// leave takes a link's availability away and gives back what it was asked for.
func (p *pickState) leave(l *link) {
	delete(p.links, l.sched)
	p.sched.Leave(l.sched)
}

// updateRates lets every window follow its peer's rate.
func (p *pickState) updateRates(c *Core) {
	p.rate = 0
	for _, l := range c.links {
		r := float64(l.down.Rate(c.now))
		p.rate += r
		l.window.follow(r)
	}
}

// updateInterest tells the peer when our interest in it has changed.
func (c *Core) updateInterest(l *link) {
	is := !c.leaving.complete && c.pick.sched.Interesting(l.sched)
	if is == l.amInterested {
		return
	}
	l.amInterested = is
	id := wire.NotInterested
	if is {
		id = wire.Interested
	}
	c.send(l, wire.Message{ID: id})
}

// pump asks the peer for blocks until as many are outstanding as its window says. It waits until
// a quarter of the window is free, so that requests go out, and blocks come back, in batches.
func (c *Core) pump(l *link) {
	if l.choked || !l.amInterested || c.now.Before(l.askAfter) {
		return
	}
	most := min(l.window.size, l.ext.Outstanding())
	if most-l.asked.live < max(1, most/4) {
		return
	}
	free := c.depth(l, most) - l.asked.live
	if free <= 0 {
		return
	}
	blocks := c.pick.sched.Next(l.sched, free, c.isFast(l), c.pick.buf[:0])
	c.pick.buf = blocks[:0]
	if len(blocks) == 0 {
		return
	}
	if l.asked.live == 0 {
		l.lastBlock = c.now
	}
	l.window.ask(c.now, len(blocks))
	for _, b := range blocks {
		l.asked.push(b)
		c.send(l, wire.Message{ID: wire.Request, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	}
}

// depth is how many blocks to keep outstanding at a peer: no more than n, what its window says and
// it takes, and no more than its share of what is left to get, so that all peers end together.
func (c *Core) depth(l *link, n int) int {
	if l.remote.Fast {
		n = min(n, max(1, l.ext.Outstanding()-l.asked.lost)) // it holds those until it rejects them
	}
	if mine := float64(l.down.Rate(c.now)); mine > 0 && c.pick.rate > mine && len(c.links) > 1 {
		left := float64(c.pick.sched.Left()) / piece.BlockSize
		n = min(n, leastWindow+int(left*mine/c.pick.rate))
	}
	return n
}

// isFast reports whether a peer is fast enough to be given pieces of its own. Nobody knows before
// the first blocks have come; then hope.
func (c *Core) isFast(l *link) bool {
	if l.snubbed {
		return false
	}
	if l.window.ramp {
		return true
	}
	return float64(l.down.Rate(c.now))*wholePiece.Seconds() >= float64(c.cfg.Layout.PieceLength())
}

// pumpAll asks every peer that has room, because blocks have become free.
func (c *Core) pumpAll() {
	if c.leaving.complete {
		return
	}
	for _, l := range c.links {
		c.pump(l)
	}
}

// blockIn takes a block's arrival: it is written, or thrown away.
func (c *Core) blockIn(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	n := int(b.Length)
	c.received += int64(n)
	c.down.Add(c.now, n)
	l.down.Add(c.now, n)
	was, asked := l.asked.take(b)
	if !asked {
		c.waste(n)
		if l.unasked++; l.unasked > maxUnasked || !c.cfg.Layout.IsBlock(b) {
			c.drop(l, misdeed("sends blocks nobody asked for"))
		}
		return
	}
	if was == askLive {
		l.window.answer(c.now)
	}
	l.lastBlock, l.snubbed = c.now, false
	fresh, others := c.pick.sched.Received(l.sched, b)
	if fresh {
		c.emit(Effect{Op: Write, Block: b})
		c.leaving.lastData = c.now
		c.blame.note(&c.cfg.Layout, b, l)
	} else {
		c.waste(n)
	}
	for _, o := range others {
		c.unask(c.pick.links[o], b)
	}
	c.pump(l)
}

// waste throws away the block of this event.
func (c *Core) waste(n int) {
	c.wasted += int64(n)
	c.emit(Effect{Op: Release})
}

// unask takes back a request, because another peer was quicker (endgame).
func (c *Core) unask(l *link, b piece.Block) {
	if l == nil || !l.asked.lose(b) {
		return
	}
	l.window.forgive(1)
	c.send(l, wire.Message{ID: wire.Cancel, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	c.pump(l)
}

// choked takes a choke. Without the fast extension everything outstanding is thereby refused; with
// it each request is rejected on its own (BEP 6).
func (c *Core) choked(l *link) {
	l.choked = true
	if l.asked.live > 0 {
		l.askAfter = c.now.Add(askPause)
	}
	if l.remote.Fast {
		return
	}
	n := l.asked.live
	c.pick.sched.ReturnAll(l.sched)
	l.window.forgive(n)
	l.asked.clear()
	if n > 0 {
		c.pumpAll()
	}
}

func (c *Core) unchoked(l *link) {
	l.choked = false
	c.pump(l)
}

// rejected takes the answer that a request will not be served (BEP 6).
func (c *Core) rejected(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	was, ok := l.asked.take(b)
	if !ok || was != askLive {
		return
	}
	l.window.forgive(1)
	c.pick.sched.Return(l.sched, b)
	l.askAfter = c.now.Add(askPause)
}

// checkTimeouts finds the peers that owe us blocks for too long: others may have them, and the peer
// is asked for one block only until it answers.
func (c *Core) checkTimeouts() {
	for _, l := range c.links {
		if l.asked.live == 0 || c.now.Sub(l.lastBlock) < snubAfter {
			continue
		}
		c.pick.sched.ReturnAll(l.sched)
		l.asked.loseAll()
		l.window.restart()
		l.snubbed, l.lastBlock = true, c.now
	}
	c.pumpAll()
}

// verified takes the verdict on a piece.
func (c *Core) verified(i int, ok bool, sums [][20]byte) {
	if !ok {
		c.wasted += c.cfg.Layout.PieceSize(i)
		c.pick.sched.Failed(i)
		c.blameFor(i, sums)
		c.pumpAll()
		return
	}
	c.pick.sched.Verified(i)
	c.acquit(i, sums)
	for _, l := range c.links {
		if !c.pick.sched.Has(l.sched, i) {
			c.send(l, wire.Message{ID: wire.Have, Index: uint32(i)})
		} else if l.amInterested {
			c.updateInterest(l)
		}
	}
}
