package piece

// This file is about bytes in doubt: pieces that failed, and peers of which one has sent a bad block and
// nobody knows yet which. Who that is, is for the caller to find out; here is what it needs for it.

// Forget says that block b, which is stored, is not to be trusted: it is missing again, and will be asked
// for again. It reports whether that is so. A piece of which all is stored is left as it is, because its
// verdict is on the way, and so is a block that is not stored.
func (s *Scheduler) Forget(b Block) bool {
	s.checkBlock(b)
	o, n := s.opened(int(b.Piece)), s.layout.Number(b)
	if o == nil || o.hashing() || o.blocks[n][0] != stored {
		return false
	}
	s.uncount(o)
	o.blocks[n] = block{}
	o.stored--
	o.free++
	o.released(n)
	s.count(o)
	s.settle(o)
	s.epoch++
	return true
}

// Hold says whether the open piece i is to wait: while it does nothing of it is asked for. What is in
// flight may still be given to Received. The hold ends with the next verdict, or when nothing of the piece is
// asked or stored any more. Of a piece that is not open there is nothing to hold.
func (s *Scheduler) Hold(i int, on bool) {
	s.layout.check(i)
	o := s.opened(i)
	if o == nil || o.held == on {
		return
	}
	s.uncount(o)
	o.held = on
	o.wanted = s.wanted.Has(i) && !on
	s.count(o)
	s.epoch++
}

// Restrict says that p is asked for nothing but piece i or, if i is negative, for whatever comes first again.
func (s *Scheduler) Restrict(p *Peer, i int) {
	if p.slot != 0 && p.only != i+1 {
		p.only = max(i+1, 0)
		s.epoch++
	}
}

// Relieve leaves the pieces that have failed and that p owns to others. What it was asked of them stays asked.
func (s *Scheduler) Relieve(p *Peer) {
	for k := len(p.works) - 1; k >= 0; k-- { // backwards: entries go on the way
		if o := p.works[k].open; o.suspect && o.owner == p {
			s.disown(p, o)
		}
	}
}

// mostFailed is how many suspect pieces are looked through. Beyond that they are like others: so many liars, or a
// broken torrent, must not make each choice slow.
const mostFailed = 32

// failedFirst returns the untouched piece that p may be asked for and that has been suspect for longest. It comes before
// all others: until it is good, peers are under suspicion.
func (s *Scheduler) failedFirst(p *Peer) (int, bool) {
	for _, i := range s.failed[:min(len(s.failed), mostFailed)] {
		if s.rarity.place[i] >= 0 && p.offers(i) {
			return i, true
		}
	}
	return 0, false
}
