package piece

import "slices"

const (
	// endgameShare: a peer takes part in endgame once at most this part of the blocks asked
	// of it in one call are still in flight to it. Before, what it would send twice would
	// only delay what it alone was asked for.
	endgameShare = 8
	// endgameBatch is how many blocks that are in flight to others one peer is asked for at once, at least; above, a
	// quarter of all that are in flight. So one that stands still is caught up with in a few round trips. But what a fast peer
	// alone was asked for, a second one is asked for only while fewer blocks than that are in flight to several: a quarter from each of a
	// hundred peers would fill our line with what comes anyway. A peer that owes us nothing is asked for endgameIdle all
	// the same, or it would wait for slow ones that were asked for all the copies.
	endgameBatch, endgamePart, endgameIdle = 16, 4, 4

	// Sequential, while fewer peers have everything than not: where p alone of those who lack
	// something has any of its next earlyAhead pieces, or p has everything and none of the others has them, one
	// of these is asked for: of the complete every time but one in earlyTurns, of the others one time in
	// four. With twelve such leechers and a seed this takes 1.1 times as long as by rarity, and strictly in
	// order seven times as long (package sim). With fewer ahead, or more in order, two
	// leechers more often ask the seed for the same piece; with more ahead, what is next comes late; without
	// the share of the others the last pieces spread slowly.
	earlyAhead, earlyTurns = 64, 16
)

// A claim is what a peer may take of an open piece with free blocks, the best first.
type claim uint8

const (
	owns   claim = iota // go on with its own
	adopts              // nobody's, or a slow peer's that it shares
	takes               // a slow peer's that becomes its own; only if nothing (sequential: earlier) is untouched
	helps               // another owner's; only if nothing is untouched
	nothing
)

// Next appends to dst up to n blocks to ask of p now, in the order to ask them, and counts them
// in flight to p until Received, Return, ReturnAll or Leave. It returns fewer when p has no more to
// be asked for at present. fast says whether p is among those quick enough to own pieces.
//
// No block is given twice for one peer while it is in flight. Nothing is allocated unless
// more pieces are open, or dst needs more room, than ever before.
func (s *Scheduler) Next(p *Peer, n int, fast bool, dst []Block) []Block {
	if p.slot == 0 || n <= 0 {
		return dst
	}
	if p.fast != fast {
		p.fast = fast
		s.epoch++ // what it owns is open to others, or no longer
	}
	if !s.Interesting(p) || s.Shut(p) || p.dry == s.stamp() {
		return dst
	}
	inFlight, room := p.asked, n
	for room > 0 {
		o, c := s.choose(p)
		if o == nil {
			break
		}
		if o.free < len(o.blocks) {
			o.reason = claimReasons[c]
		}
		if c < helps {
			dst, room = s.take(p, o, room, dst)
			continue
		}
		// Leave the owner half; it asks from the other end.
		got := min(room, (o.free+1)/2)
		return s.takeBack(p, o, got, dst)
	}
	if room > 0 && s.Endgame() {
		if inFlight > n/endgameShare {
			return dst
		}
		var more bool
		if dst, more = s.duplicate(p, room, dst); more {
			return dst
		}
	}
	if room > 0 {
		p.dry = s.stamp()
	}
	return dst
}

// stamp returns the state in which a peer that finds nothing now need not look again. Between
// two equal stamps pieces were only opened, asked, stored and verified, all of which take
// away; what gives (a block or piece free again, an owner grown slow) begins a new epoch, and what
// concerns one peer alone clears its stamp.
func (s *Scheduler) stamp() stamp { return stamp{s.epoch, s.Endgame()} }

// take asks p for up to n free blocks of o from the front, p owning o unless it shares it. It
// returns how many of n are left.
func (s *Scheduler) take(p *Peer, o *open, n int, dst []Block) ([]Block, int) {
	if o.owner == nil || o.owner != p && p.fast {
		s.own(o, p)
	}
	p.current = o
	for ; n > 0 && o.free > 0; n-- {
		k := o.front()
		s.ask(p, o, k)
		dst = append(dst, s.layout.BlockAt(o.piece, k))
	}
	return dst, n
}

// takeBack asks p for n free blocks of o from the back, o keeping its owner.
func (s *Scheduler) takeBack(p *Peer, o *open, n int, dst []Block) []Block {
	for range n {
		k := o.back()
		s.ask(p, o, k)
		dst = append(dst, s.layout.BlockAt(o.piece, k))
	}
	return dst
}

// choose returns the open piece to take blocks of next, opening one if that is best, and by what
// claim. It returns nil if p has no free block to offer.
func (s *Scheduler) choose(p *Peer) (*open, claim) {
	if i, ok := s.failedFirst(p); ok {
		return s.openFor(i, Again), owns
	}
	if o := p.current; o != nil && o.loose >= 0 && !s.sequential {
		if c := s.claim(p, o); c <= adopts {
			return o, c
		}
	}
	var best *open
	bestClaim := nothing
	for _, o := range s.loose {
		c := s.claim(p, o)
		if c < bestClaim || c == bestClaim && c < nothing && s.before(o, best, c) {
			best, bestClaim = o, c
		}
	}
	if bestClaim <= adopts {
		return best, bestClaim
	}
	i, why := s.pick(p)
	if why == 0 || s.sequential && bestClaim == takes && best.piece < i {
		return best, bestClaim // in sequence, a slow peer must not hold what comes next
	}
	return s.openFor(i, why), owns
}

// before reports whether a comes before b, both of which a peer may take by claim c: what is
// nearest to its end is finished first, but help goes to what has most left.
func (s *Scheduler) before(a, b *open, c claim) bool {
	switch {
	case a.suspect != b.suspect:
		return a.suspect
	case s.sequential:
		return a.piece < b.piece
	case c <= adopts:
		return a.free < b.free
	}
	return a.free > b.free
}

// claim returns by what right p takes blocks of o, which has some free and is wanted.
func (s *Scheduler) claim(p *Peer, o *open) claim {
	if !p.offers(o.piece) {
		return nothing
	}
	switch q := o.owner; {
	case q == p:
		return owns
	case q == nil:
		if o.suspect && (o.asked[0] > p.inFlight(o) || o.asked[1] < o.asked[0]) {
			return nothing // others were asked, too: one peer at a time
		}
		return adopts
	case q.fast:
		if o.suspect {
			return nothing
		}
		return helps
	case p.fast:
		return takes
	case o.suspect:
		return nothing
	}
	return adopts
}

// pick returns the untouched piece to open for p, and why that one; the reason is 0 if there is none.
func (s *Scheduler) pick(p *Peer) (int, Reason) {
	switch {
	case p.only != 0:
		i := p.only - 1
		return i, found(Again, s.rarity.place[i] >= 0 && p.offers(i))
	case p.choking:
		i, ok := s.allowedUntouched(p)
		return i, found(Allowed, ok)
	case s.sequential:
		if i, ok := s.early(p); ok {
			return i, Early
		}
		i, ok := s.rarity.lowest(p)
		return i, found(InOrder, ok)
	}
	choose, why := s.rarity.rarest, Rarest
	if s.have.Count() < randomFirst {
		choose, why = s.rarity.random, Random
	}
	i, ok := choose(p, s.rng)
	if k := s.suggested(p, i); k != i {
		i, why = k, Suggested
	}
	return i, found(why, ok)
}

// early returns an untouched piece to open for p before its turn, so that we have something to trade.
func (s *Scheduler) early(p *Peer) (int, bool) {
	if s.joined-s.base <= s.base {
		return 0, false
	}
	turn := s.rng.IntN(earlyTurns)
	if p.all && turn == 0 || !p.all && turn >= earlyTurns/4 {
		return 0, false
	}
	return s.rarity.scarce(p, earlyAhead, s.rng)
}

// duplicate asks p for a batch of blocks that are in flight to others, up to n: first those asked of one
// slow peer alone, then those of one peer, then of two that are slow or stalled. It reports whether there may be more, for
// later. A third copy of what a fast peer sends is rarely the first to come, and often sent in vain.
func (s *Scheduler) duplicate(p *Peer, n int, dst []Block) (_ []Block, more bool) {
	batch := max(endgameBatch, s.asked/endgamePart)
	n = min(n, batch)
	least := 0
	if p.asked == 0 {
		least = endgameIdle
	}
	for _, pass := range [...]struct {
		askers int
		slow   bool
	}{{1, true}, {1, false}, {2, true}} {
		room := n
		if !pass.slow {
			room = min(n, max(least, batch-s.twice()))
		}
		rest := room
		for _, o := range s.opens {
			if rest == 0 {
				break
			}
			if o.wanted && o.asked[pass.askers] > 0 && s.mayRepeat(p, o) {
				dst, rest = s.repeat(p, o, pass.askers, pass.slow, rest, dst)
			}
		}
		more = more || rest == 0
		if n -= room - rest; n == 0 {
			break
		}
	}
	return dst, more
}

// twice returns how many blocks are in flight to several peers, whoever these are.
func (s *Scheduler) twice() (n int) {
	for _, o := range s.opens {
		if o.wanted {
			n += o.asked[0] - o.asked[1]
		}
	}
	return n
}

// mayRepeat reports whether p may be asked for blocks of o that are in flight to others.
func (s *Scheduler) mayRepeat(p *Peer, o *open) bool {
	if o.suspect && (!p.fast || o.owner != nil && o.owner.fast) {
		return false
	}
	return o.asked[0] > p.inFlight(o) && p.offers(o.piece)
}

// repeat asks p for up to n blocks of o that have the given number of askers, none of them p,
// and slow ones only if slow is set. It begins at the back, which the others come to last.
func (s *Scheduler) repeat(p *Peer, o *open, askers int, slow bool, n int, dst []Block) ([]Block, int) {
	for k := len(o.blocks) - 1; k >= 0 && n > 0 && o.asked[askers] > 0; k-- {
		b := &o.blocks[k]
		if b[0] == 0 || b[0] == stored || b.askers() != askers || b.asks(p.slot) {
			continue
		}
		if slow && s.askedOfFast(b) {
			continue
		}
		s.ask(p, o, k)
		o.reason = Endgame
		dst = append(dst, s.layout.BlockAt(o.piece, k))
		n--
	}
	return dst, n
}

// askedOfFast reports whether a block is in flight to a fast peer that does send something.
func (s *Scheduler) askedOfFast(b *block) bool {
	return slices.ContainsFunc(b[:b.askers()], func(slot uint16) bool { return s.peers[slot].fast && !s.peers[slot].stalled })
}
