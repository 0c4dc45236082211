package piece

import "slices"

const (
	// maxAllowed bounds the pieces that a peer may allow us while it chokes us: more than any client
	// allows (BEP 6: "We currently set k to 10").
	maxAllowed = 32
	// maxHints bounds the suggestions of a peer that are remembered: the last ones count.
	maxHints = 8
)

// SetChoking says whether p chokes us. While it does it is asked for nothing but what it allows; what it was
// asked before stays with it, for Return and ReturnAll to take back. A new peer does not.
func (s *Scheduler) SetChoking(p *Peer, on bool) {
	p.choking = on
	p.dry = stamp{}
}

// SetStalled notes whether p, though it owes blocks, has sent nothing for a while. In the endgame others are asked for them
// as if p were slow.
func (s *Scheduler) SetStalled(p *Peer, on bool) {
	if on && !p.stalled {
		s.epoch++
	}
	p.stalled = on
}

// Allow says that p serves piece i even while it chokes us, should it have it (BEP 6, allowed fast). Of very many
// such pieces the first count.
func (s *Scheduler) Allow(p *Peer, i int) {
	s.layout.check(i)
	if p.slot == 0 || len(p.allowed) == maxAllowed || slices.Contains(p.allowed, i) {
		return
	}
	p.allowed = append(p.allowed, i)
	p.dry = stamp{}
}

// Disallow takes an Allow back: p has refused to serve piece i.
func (s *Scheduler) Disallow(p *Peer, i int) {
	p.allowed = slices.DeleteFunc(p.allowed, func(k int) bool { return k == i })
}

// DisallowAll takes every Allow back.
func (s *Scheduler) DisallowAll(p *Peer) { p.allowed = nil }

// Shut reports whether p is to be asked for nothing, whatever becomes free: it chokes us and allows no piece.
func (s *Scheduler) Shut(p *Peer) bool { return p.choking && len(p.allowed) == 0 }

// Suggest says that p would like to be asked for piece i (BEP 6). It decides between pieces that are equally rare;
// of many suggestions the last count.
func (s *Scheduler) Suggest(p *Peer, i int) {
	s.layout.check(i)
	if p.slot == 0 || slices.Contains(p.hints, i) {
		return
	}
	if len(p.hints) == maxHints {
		p.hints = slices.Delete(p.hints, 0, 1)
	}
	p.hints = append(p.hints, i)
}

// offers reports whether p would serve piece i now, and may be asked for it.
func (p *Peer) offers(i int) bool {
	return p.has(i) && (p.only == 0 || p.only == i+1) && (!p.choking || slices.Contains(p.allowed, i))
}

// allowedUntouched returns the untouched piece to open for p, which chokes us, by the same preference as among all.
func (s *Scheduler) allowedUntouched(p *Peer) (best int, ok bool) {
	for _, i := range p.allowed {
		if s.rarity.place[i] < 0 || !p.has(i) {
			continue
		}
		better := !ok || s.rarity.avail[i] < s.rarity.avail[best]
		if s.sequential {
			better = !ok || i < best
		}
		if better {
			best, ok = i, true
		}
	}
	return best, ok
}

// suggested returns the untouched piece that p has suggested last, of those that are no less rare than i, or else i.
func (s *Scheduler) suggested(p *Peer, i int) int {
	for _, k := range slices.Backward(p.hints) {
		if s.rarity.place[k] >= 0 && p.has(k) && s.rarity.avail[k] <= s.rarity.avail[i] {
			return k
		}
	}
	return i
}
