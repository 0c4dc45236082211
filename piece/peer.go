package piece

import (
	"math/bits"
	"slices"
)

// A Peer is a peer as its [Scheduler] sees it: what it has, which pieces it owns, what it was
// asked. It is made by [Scheduler.Join] and of no use after [Scheduler.Leave].
type Peer struct {
	slot     uint16   // index in Scheduler.peers, never 0; 0 after it has left
	all      bool     // it has every piece, and have is not used
	fast     bool     // as of the last Next
	stalled  bool     // it owes blocks, and has sent nothing for a while
	choking  bool     // it is to be asked for nothing but what it allows
	only     int      // number of the one piece that it is asked for, counted from 1; 0 means any
	have     Bitfield // made with the first piece
	allowed  []int    // pieces it serves even while it chokes us
	hints    []int    // pieces it suggests, the latest last
	interest int      // unless all: wanted pieces it has that are not verified
	asked    int      // blocks in flight
	works    []work   // oldest first
	current  *open    // where it last took a block; only a hint, the record may be another piece's now
	dry      stamp    // when there was nothing to ask it for
}

// A work is an open piece that a peer owns or has blocks in flight of.
type work struct {
	open *open
	n    int // blocks in flight
}

// A stamp names a state of the scheduler in which a peer found nothing to do. Until one of its
// fields changes, nothing can have come up for that peer; see Scheduler.stamp.
type stamp struct {
	epoch   uint64
	endgame bool
}

func (p *Peer) has(i int) bool {
	return p.all || p.have.n != 0 && p.have.Has(i)
}

// find returns the index in works of o, or -1.
func (p *Peer) find(o *open) int {
	for k := range p.works { // answers come in order, so o is mostly the first
		if p.works[k].open == o {
			return k
		}
	}
	return -1
}

// inFlight returns how many blocks of o were asked of p.
func (p *Peer) inFlight(o *open) int {
	if k := p.find(o); k >= 0 {
		return p.works[k].n
	}
	return 0
}

// ask counts one more block of o in flight.
func (p *Peer) ask(o *open) {
	k := len(p.works) - 1
	if k < 0 || p.works[k].open != o { // mostly the last
		if k = p.find(o); k < 0 {
			k = len(p.works)
			p.works = append(p.works, work{open: o})
		}
	}
	p.works[k].n++
	p.asked++
}

// unask counts n blocks of o in flight less.
func (p *Peer) unask(o *open, n int) {
	k := p.find(o)
	p.works[k].n -= n
	p.asked -= n
	p.tidy(k)
}

// tidy removes entry k of works if it says nothing.
func (p *Peer) tidy(k int) {
	if k >= 0 && p.works[k].n == 0 && p.works[k].open.owner != p {
		p.works = slices.Delete(p.works, k, k+1)
	}
}

// Join adds a peer that has nothing yet. There is room for 65,534 at a time.
func (s *Scheduler) Join() *Peer {
	p := &Peer{}
	slot := 1
	for slot < len(s.peers) && s.peers[slot] != nil {
		slot++
	}
	if slot == len(s.peers) {
		s.peers = append(s.peers, nil)
	}
	if slot >= stored {
		panic("piece: too many peers")
	}
	p.slot = uint16(slot)
	s.peers[slot] = p
	s.joined++
	return p
}

// Leave removes p: what it has is no longer available from it and what it was asked is free for
// others. A second Leave does nothing.
func (s *Scheduler) Leave(p *Peer) {
	if p.slot == 0 {
		return
	}
	s.ReturnAll(p)
	s.forget(p)
	s.peers[p.slot] = nil
	s.joined--
	*p = Peer{}
}

// forget takes all that p has out of the availability.
func (s *Scheduler) forget(p *Peer) {
	switch {
	case p.all:
		s.base--
	case p.have.n != 0 && p.have.Full():
		s.rarity.allDown()
	default:
		for i := range p.have.All() {
			s.rarity.down(i)
		}
	}
	p.all, p.have, p.interest = false, Bitfield{}, 0
}

// Have says that p has piece i.
func (s *Scheduler) Have(p *Peer, i int) {
	s.layout.check(i)
	if p.slot == 0 || p.has(i) {
		return
	}
	if p.have.n == 0 {
		p.have = NewBitfield(s.layout.Pieces())
	}
	p.have.Set(i)
	s.rarity.up(i)
	if s.lacks(i) {
		p.interest++
	}
	p.dry = stamp{}
}

// HaveSet says that p has the pieces of b, which must have the layout's length, besides those
// it has already. The scheduler keeps no part of b.
func (s *Scheduler) HaveSet(p *Peer, b Bitfield) {
	if b.Len() != s.layout.Pieces() {
		panic("piece: bitfield of another layout")
	}
	switch {
	case b.Full():
		s.HaveAll(p)
		return
	case p.slot == 0 || p.all:
		return
	case p.have.n > 0:
		// What it says again costs a look at 64 pieces at once: it may say so as often as it likes.
		for w := range b.words() {
			for m := b.word(w) &^ p.have.word(w); m != 0; {
				z := bits.LeadingZeros64(m)
				m &^= 1 << (63 - z)
				s.Have(p, w*64+z)
			}
		}
		return
	}
	p.have = b.Clone()
	for i := range b.All() {
		s.rarity.up(i)
	}
	for w := range b.words() {
		p.interest += bits.OnesCount64(b.word(w) & s.wanted.word(w) &^ s.have.word(w))
	}
	p.dry = stamp{}
}

// HaveAll says that p has every piece. It touches none of them.
func (s *Scheduler) HaveAll(p *Peer) {
	if p.slot == 0 || p.all {
		return
	}
	s.forget(p)
	p.all = true
	s.base++
	p.dry = stamp{}
}

// Lost says that p no longer has piece i (BEP 54). What it was asked of the piece is free for
// others.
func (s *Scheduler) Lost(p *Peer, i int) {
	s.layout.check(i)
	if p.slot == 0 || !p.has(i) {
		return
	}
	if o := s.opened(i); o != nil {
		s.withdraw(p, o)
	}
	if p.all { // happens once a peer: from here on it is counted piece by piece
		p.have = NewBitfield(s.layout.Pieces())
		p.have.setAll()
		p.all, p.interest = false, s.lacking
		s.base--
		s.rarity.allUp()
	}
	p.have.Clear(i)
	s.rarity.down(i)
	if s.lacks(i) {
		p.interest--
	}
	s.epoch++
}

// Has reports whether p has piece i.
func (s *Scheduler) Has(p *Peer, i int) bool {
	s.layout.check(i)
	return p.has(i)
}

// PeerCount returns the number of pieces p has.
func (s *Scheduler) PeerCount(p *Peer) int {
	if p.all {
		return s.layout.Pieces()
	}
	return p.have.Count()
}

// Interesting reports whether p has a wanted piece that is not verified here, which is what an
// interested message states (BEP 3).
func (s *Scheduler) Interesting(p *Peer) bool {
	if p.all {
		return s.lacking > 0
	}
	return p.interest > 0
}

// Return says that the request of b to p is gone: choked, rejected, timed out. The block is
// free for others. Nothing happens if the block was stored meanwhile or never asked of p.
func (s *Scheduler) Return(p *Peer, b Block) {
	s.checkBlock(b)
	o := s.opened(int(b.Piece))
	if o == nil || p.slot == 0 {
		return
	}
	n := s.layout.Number(b)
	if !o.blocks[n].asks(p.slot) {
		return
	}
	s.unask(p, o, n)
	p.unask(o, 1)
	s.disown(p, o)
	s.settle(o)
}

// ReturnAll says that all requests to p are gone, as a choke without the fast extension means.
func (s *Scheduler) ReturnAll(p *Peer) {
	for len(p.works) > 0 {
		s.withdraw(p, p.works[len(p.works)-1].open)
	}
}

// withdraw ends all that p has to do with o.
func (s *Scheduler) withdraw(p *Peer, o *open) {
	k := p.find(o)
	if k < 0 {
		return
	}
	left := p.works[k].n
	for n := 0; left > 0; n++ {
		if o.blocks[n].asks(p.slot) {
			s.unask(p, o, n)
			left--
		}
	}
	p.unask(o, p.works[k].n)
	s.disown(p, o)
	s.settle(o)
}

// disown leaves o to others if p owns it. They may find something to do now.
func (s *Scheduler) disown(p *Peer, o *open) {
	if o.owner == p {
		s.own(o, nil)
	}
	s.epoch++
}
