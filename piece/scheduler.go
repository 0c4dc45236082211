package piece

import (
	"math/rand/v2"
	"slices"
)

// A Scheduler decides which blocks to ask of which peer. It is a value of one download: same
// seed and same calls, same answers. Not safe for concurrent use.
//
// A wanted piece is untouched (nothing of it asked or stored), open, or verified. Each block of
// an open piece is free, in flight to one to three peers, or stored. A piece whose blocks are
// all stored waits for Verified or Failed; nothing of it is asked meanwhile.
//
// The policy. A started piece is finished before another is opened, so that few are open. Of
// the untouched ones the rarest comes first, ties broken at random;
// until four pieces are verified a random one, because the rarest are slow to get and we need
// something to trade. A fast peer owns a whole piece, so that its blocks arrive in the order in
// which they are hashed and written. Slow peers share one open piece. A fast peer for which
// nothing is untouched takes over what is free of a slow peer's piece; any peer then helps the
// owner of another one, from its far end. In endgame, when all that is wanted is asked or
// stored, a peer that has almost nothing left to answer is asked for blocks that were asked of
// others.
//
// Sequential, the lowest untouched piece comes first instead of the rarest, and a fast peer takes it over
// from a slow one at once. But where many do so, all ask the seed for the same pieces and have nothing
// to trade. So while fewer peers have everything than not, these few are mostly asked for what
// nobody else has yet: of the next pieces a random one, so that the seed sends others another. The
// rest comes by trade, in order, but for a share of pieces that one peer alone can trade. Where nobody
// trades, as among seeds, all comes in order.
//
// A peer that chokes us is asked only for what it allows all the same.
//
// A piece that failed is suspect: it is fetched before all others and from one peer at a time, so that
// whoever sends it badly stands alone. Only where that would hold up the end of the
// download, because its owner is slow, others join.
type Scheduler struct {
	layout     Layout
	rng        *rand.Rand
	sequential bool

	have    Bitfield // verified
	wanted  Bitfield
	suspect Bitfield
	failed  []int // the suspect ones, in the order in which they failed first
	lacking int   // wanted pieces not verified
	left    int64 // their bytes

	peers  []*Peer // by slot; 0 is never used, nil is vacant
	joined int     // peers
	base   int     // of them, those that have every piece and are not counted in rarity
	rarity rarity

	opens []*open // by slot, those that are closed for later use
	spare []int32 // slots of the closed ones
	loose []*open // those that have free blocks and are wanted
	free  int     // free blocks of wanted open pieces
	asked int     // blocks in flight of wanted open pieces, each counted once

	epoch  uint64  // grows when a peer that found nothing to do may find something
	others []*Peer // what Received returned last
}

// randomFirst is how many pieces are verified before rarity counts. It is for who comes to an old swarm; in a flash
// crowd of 30 or 100, where all are equally rare at first, it changes nothing (package sim).
const randomFirst = 4

// NewScheduler returns the scheduler of a download of which every piece is wanted and missing.
// It is the only user of rng from then on.
func NewScheduler(l Layout, rng *rand.Rand) *Scheduler {
	n := l.Pieces()
	s := &Scheduler{
		layout: l, rng: rng,
		have: NewBitfield(n), wanted: NewBitfield(n), suspect: NewBitfield(n),
		lacking: n, left: l.Total(),
		peers:  make([]*Peer, 1),
		rarity: newRarity(n),
		epoch:  1,
	}
	s.wanted.setAll()
	return s
}

// SetSequential chooses between the lowest untouched piece first and the rarest.
func (s *Scheduler) SetSequential(on bool) { s.sequential = on }

// SetWanted says whether piece i is to be downloaded. Blocks of it that are in flight may still
// be given to Received; no more are asked while it is not wanted.
func (s *Scheduler) SetWanted(i int, want bool) {
	switch s.layout.check(i); {
	case s.wanted.Has(i) == want:
		return
	case want:
		s.wanted.Set(i)
		s.lack(i, 1)
	default:
		s.lack(i, -1)
		s.wanted.Clear(i)
	}
	if o := s.opened(i); o != nil {
		s.uncount(o)
		o.wanted = want && !o.held
		s.count(o)
	} else {
		s.place(i)
	}
	s.epoch++
}

// SetHave says that piece i was verified before the start. It is Verified under another name.
func (s *Scheduler) SetHave(i int) { s.Verified(i) }

// Verified says that all of piece i is stored and its hash is right.
func (s *Scheduler) Verified(i int) {
	if s.have.Has(i) {
		return
	}
	s.lack(i, -1)
	s.have.Set(i)
	if s.suspect.Clear(i) {
		at := slices.Index(s.failed, i)
		s.failed = slices.Delete(s.failed, at, at+1)
	}
	s.settled(i)
}

// Failed says that piece i is not what its hash says: all its blocks are missing again, and the
// piece is suspect.
func (s *Scheduler) Failed(i int) {
	if s.have.Clear(i) {
		s.lack(i, 1)
	}
	if s.suspect.Set(i) {
		s.failed = append(s.failed, i)
	}
	s.settled(i)
	s.epoch++
}

// settled forgets all blocks of piece i, of which the verdict is in.
func (s *Scheduler) settled(i int) {
	if o := s.opened(i); o != nil {
		s.close(o)
	} else {
		s.place(i)
	}
}

// place puts piece i, which is not open, among the untouched ones or takes it out.
func (s *Scheduler) place(i int) {
	switch in, want := s.rarity.place[i] >= 0, s.lacks(i); {
	case in && !want:
		s.rarity.remove(i)
	case !in && want:
		s.rarity.insert(i)
	}
}

// lacks reports whether piece i is wanted and not verified.
func (s *Scheduler) lacks(i int) bool { return s.wanted.Has(i) && !s.have.Has(i) }

// lack counts piece i as lacking (d = 1) or no longer (d = -1), if it is so now.
func (s *Scheduler) lack(i, d int) {
	if !s.lacks(i) {
		return
	}
	s.lacking += d
	s.left += int64(d) * s.layout.PieceSize(i)
	for _, p := range s.peers {
		if p != nil && !p.all && p.has(i) {
			p.interest += d
		}
	}
}

// Complete reports whether every wanted piece is verified.
func (s *Scheduler) Complete() bool { return s.lacking == 0 }

// Left returns the bytes of the wanted pieces that are not verified.
func (s *Scheduler) Left() int64 { return s.left }

// HavePieces returns the verified pieces. It is for reading, and only until the next call.
func (s *Scheduler) HavePieces() Bitfield { return s.have }

// Availability returns how many peers have piece i.
func (s *Scheduler) Availability(i int) int {
	s.layout.check(i)
	return s.base + int(s.rarity.avail[i])
}

// Endgame reports whether blocks may be asked of several peers: some are in flight, and every
// other wanted block is stored or in flight, too. While there are pieces that nobody has yet it is not the end: a swarm that
// waits for its only seed would fetch twice whatever that gives out.
func (s *Scheduler) Endgame() bool {
	return s.asked > 0 && s.free == 0 && len(s.rarity.order) == 0
}

// Received says that block b arrived from p. If it is fresh the caller stores it; others are
// the peers it was asked of, too, to be sent a cancel; they are valid until the next call.
//
// A block that was not asked of p is treated alike: whether to take one is for the caller to
// decide first. It is not fresh if we have it or its piece is neither open nor wanted.
func (s *Scheduler) Received(p *Peer, b Block) (fresh bool, others []*Peer) {
	s.checkBlock(b)
	i, n := int(b.Piece), s.layout.Number(b)
	o := s.opened(i)
	if o == nil {
		if !s.lacks(i) {
			return false, nil
		}
		o = s.open(i)
		s.epoch++
	}
	if o.blocks[n][0] == stored {
		return false, nil
	}
	s.others = s.others[:0]
	askers := o.blocks[n]
	s.store(o, n)
	for _, slot := range askers {
		if slot == 0 {
			break
		}
		q := s.peers[slot]
		if q.unask(o, 1); q != p {
			s.others = append(s.others, q)
		}
	}
	switch {
	case o.hashing():
		s.own(o, nil)
	case o.suspect && o.owner == nil:
		s.epoch++ // a peer may be alone with it now
	}
	return true, s.others
}

// checkBlock panics unless b is a block of the layout.
func (s *Scheduler) checkBlock(b Block) {
	if !s.layout.IsBlock(b) {
		panic(errBlock)
	}
}

// opened returns the record of piece i, or nil if it is not open.
func (s *Scheduler) opened(i int) *open {
	if at := s.rarity.place[i]; at < elsewhere {
		return s.opens[placeSlot(at)]
	}
	return nil
}

// openFor opens the untouched piece i because of what r says.
func (s *Scheduler) openFor(i int, r Reason) *open {
	o := s.open(i)
	o.reason = r
	return o
}

// open makes the untouched piece i an open one that nobody owns.
func (s *Scheduler) open(i int) *open {
	s.rarity.remove(i)
	var o *open
	if k := len(s.spare) - 1; k >= 0 {
		o, s.spare = s.opens[s.spare[k]], s.spare[:k]
	} else {
		o = &open{slot: int32(len(s.opens))}
		s.opens = append(s.opens, o)
	}
	o.reset(i, s.layout.Blocks(i), s.wanted.Has(i), s.suspect.Has(i))
	s.rarity.place[i] = slotPlace(o.slot)
	s.count(o)
	return o
}

// close forgets o and all that was asked of it, and puts its piece where it belongs.
func (s *Scheduler) close(o *open) {
	s.own(o, nil)
	for n := 0; o.asked[0] > 0; n++ {
		for b := &o.blocks[n]; b[0] != 0 && b[0] != stored; {
			p := s.peers[b[0]]
			s.unask(p, o, n)
			p.unask(o, 1)
		}
	}
	s.uncount(o)
	i := o.piece
	o.reset(-1, 0, false, false)
	s.spare = append(s.spare, o.slot)
	s.rarity.place[i] = elsewhere
	s.place(i)
}

// own makes p, which may be nil, the owner of o.
func (s *Scheduler) own(o *open, p *Peer) {
	old := o.owner
	if old == p {
		return
	}
	o.owner = p
	if old != nil {
		old.tidy(old.find(o))
	}
	if p != nil && p.find(o) < 0 {
		p.works = append(p.works, work{open: o})
	}
}

// settle is called when o may have lost all its blocks: then it is untouched again.
func (s *Scheduler) settle(o *open) {
	if o.free == len(o.blocks) {
		s.close(o)
	}
}

// count adds o, if it is wanted, to the sums over open pieces, and uncount takes it out.
func (s *Scheduler) count(o *open) {
	if o.wanted {
		s.free += o.free
		s.asked += o.asked[0]
		s.list(o)
	}
}

func (s *Scheduler) uncount(o *open) {
	if o.wanted {
		s.free -= o.free
		s.asked -= o.asked[0]
		s.unlist(o)
	}
}

// list puts o among the loose ones if it belongs there.
func (s *Scheduler) list(o *open) {
	if o.wanted && o.free > 0 && o.loose < 0 {
		o.loose = int32(len(s.loose))
		s.loose = append(s.loose, o)
	}
}

// unlist takes o out of the loose ones.
func (s *Scheduler) unlist(o *open) {
	if o.loose < 0 {
		return
	}
	last := len(s.loose) - 1
	s.loose[o.loose] = s.loose[last]
	s.loose[o.loose].loose = o.loose
	s.loose[last] = nil
	s.loose, o.loose = s.loose[:last], -1
}

// ask records that block n of o, which is not stored, is asked of p.
func (s *Scheduler) ask(p *Peer, o *open, n int) {
	a := o.blocks[n].askers()
	o.blocks[n][a] = p.slot
	s.moved(o, a, a+1)
	p.ask(o)
}

// unask records that block n of o is no longer asked of p, save for what p itself counts.
func (s *Scheduler) unask(p *Peer, o *open, n int) {
	a := o.blocks[n].askers()
	o.blocks[n].drop(p.slot)
	if s.moved(o, a, a-1); a == 1 {
		o.released(n)
	}
}

// store records that block n of o is stored, save for what its askers count.
func (s *Scheduler) store(o *open, n int) {
	s.moved(o, o.blocks[n].askers(), -1)
	o.blocks[n] = block{stored}
	o.stored++
}

// moved counts one block of o that had from askers and has to askers now, or is stored if to
// is negative.
func (s *Scheduler) moved(o *open, from, to int) {
	dfree, dasked := 0, 0
	if from == 0 {
		dfree--
	} else {
		o.asked[from]--
		dasked--
	}
	if to == 0 {
		dfree++
	} else if to > 0 {
		o.asked[to]++
		dasked++
	}
	o.free += dfree
	o.asked[0] += dasked
	if !o.wanted {
		return
	}
	s.free += dfree
	s.asked += dasked
	if o.free > 0 {
		s.list(o)
	} else {
		s.unlist(o)
	}
}
