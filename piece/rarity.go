package piece

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// A rarity keeps the untouched pieces (wanted, missing, no block asked or stored) sorted by
// how many peers have them, so that the rarest is found without a search and a change of one
// piece's availability is one swap.
//
// order holds buckets of equal availability, the most available first, so that the rarest
// stand at the end: removing one of those crosses few boundaries. Order within a bucket means
// nothing; ties are broken by looking at a random element, never by a shuffle.
//
// Peers that have every piece are not counted here: they change no comparison.
type rarity struct {
	avail []uint16 // by piece: peers that have it and not everything
	order []uint32 // untouched pieces; bucket a is order[first[a]:end(a)]
	first []int32  // by availability; the last entries may be of empty buckets
	// place says where each piece is: its position in order, or elsewhere, or for an open
	// piece what slotPlace gives.
	place []int32
	in    Bitfield // the pieces in order, to intersect with a peer's
	low   int      // no word of in below this one has a bit
}

// elsewhere is the place of a piece that is neither untouched nor open: verified or unwanted.
const elsewhere = -1

// slotPlace is the place of an open piece whose record stands in a slot, and placeSlot its inverse.
func slotPlace(slot int32) int32  { return -2 - slot }
func placeSlot(place int32) int32 { return -2 - place }

func newRarity(n int) rarity {
	r := rarity{
		avail: make([]uint16, n),
		order: make([]uint32, n),
		first: []int32{0},
		place: make([]int32, n),
		in:    NewBitfield(n),
	}
	for i := range n {
		r.order[i], r.place[i] = uint32(i), int32(i)
	}
	r.in.setAll()
	return r
}

// end returns where bucket a ends in order.
func (r *rarity) end(a int) int32 {
	if a == 0 {
		return int32(len(r.order))
	}
	return r.first[a-1]
}

// put stores piece i at position at of order.
func (r *rarity) put(at int32, i uint32) {
	r.order[at], r.place[i] = i, at
}

// insert makes piece i, which stands elsewhere, untouched.
func (r *rarity) insert(i int) {
	hole := int32(len(r.order))
	r.order = append(r.order, 0) // never beyond the capacity newRarity gave it
	for a := range int(r.avail[i]) {
		// Bucket a moves right by one: its first element goes to its far end.
		if r.first[a] != hole {
			r.put(hole, r.order[r.first[a]])
		}
		hole = r.first[a]
		r.first[a]++
	}
	r.put(hole, uint32(i))
	r.in.Set(i)
	r.low = min(r.low, i/64)
}

// remove takes the untouched piece i out; its place is then elsewhere.
func (r *rarity) remove(i int) {
	hole := r.place[i]
	for a := int(r.avail[i]); a >= 0; a-- {
		last := r.end(a) - 1
		if last != hole {
			r.put(hole, r.order[last])
		}
		hole = last
		if a > 0 {
			r.first[a-1]--
		}
	}
	r.order = r.order[:hole]
	r.place[i] = elsewhere
	r.in.Clear(i)
}

// up says that one more peer has piece i.
func (r *rarity) up(i int) {
	a := int(r.avail[i])
	r.avail[i]++
	if a+1 == len(r.first) {
		r.first = append(r.first, 0)
	}
	if at := r.place[i]; at >= 0 {
		other := r.order[r.first[a]]
		r.put(at, other)
		r.put(r.first[a], uint32(i))
		r.first[a]++
	}
}

// down says that one peer less has piece i.
func (r *rarity) down(i int) {
	a := int(r.avail[i])
	r.avail[i]--
	if at := r.place[i]; at >= 0 {
		r.first[a-1]--
		other := r.order[r.first[a-1]]
		r.put(at, other)
		r.put(r.first[a-1], uint32(i))
	}
}

// allUp says that one more peer has every piece: no piece changes its rank.
func (r *rarity) allUp() {
	for i := range r.avail {
		r.avail[i]++
	}
	r.first = slices.Insert(r.first, 0, int32(len(r.order)))
}

// allDown says that one peer less has every piece, one of those counted here.
func (r *rarity) allDown() {
	for i := range r.avail {
		r.avail[i]--
	}
	r.first = slices.Delete(r.first, 0, 1)
}

// sample is how many pieces of a peer are compared at most when the rarest it has is not among
// the rarest of all.
const sample = 256

// budget returns how many pieces to look up in the order of rarity before those that p has are
// walked through instead: a peer with only common pieces would be looked up against every
// rare one. It is zero if a walk finds one sooner.
func (r *rarity) budget(p *Peer) int {
	if p.all {
		return len(r.order)
	}
	words, pieces := r.in.words(), max(p.interest, 1)
	tries := 32 + (min(words, words*sample/pieces)+min(pieces, sample))/8 // an eighth of a walk
	if len(r.order)/pieces > tries {
		return 0
	}
	return tries
}

// rarest returns an untouched piece of p, of those the least available, a random one among equals. If that takes long, it is the rarest of a random sample.
func (r *rarity) rarest(p *Peer, rng *rand.Rand) (int, bool) {
	budget := r.budget(p)
	for a := 0; a < len(r.first) && budget > 0; a++ {
		lo, hi := int(r.first[a]), int(r.end(a))
		if lo == hi || a == 0 && !p.all {
			continue // nobody but a peer with everything has what bucket 0 holds
		}
		if i, ok := r.within(p, lo, min(hi-lo, budget), hi-lo, rng); ok {
			return i, true
		}
		if budget -= hi - lo; lo == 0 && budget >= 0 {
			return 0, false // all were looked up
		}
	}
	return r.walk(p, sample, rng)
}

// random returns an untouched piece of p, whatever its availability.
func (r *rarity) random(p *Peer, rng *rand.Rand) (int, bool) {
	n := len(r.order)
	if n == 0 {
		return 0, false
	}
	budget := r.budget(p)
	if i, ok := r.within(p, 0, min(n, budget), n, rng); ok {
		return i, true
	}
	if budget >= n {
		return 0, false
	}
	return r.walk(p, 1, rng)
}

// within looks at tries of the n elements of order from lo on, from a random one on.
func (r *rarity) within(p *Peer, lo, tries, n int, rng *rand.Rand) (int, bool) {
	at := rng.IntN(n)
	for range tries {
		if i := int(r.order[lo+at]); p.has(i) {
			return i, true
		}
		if at++; at == n {
			at = 0
		}
	}
	return 0, false
}

// known returns a set whose untouched pieces are those of p, which has some piece.
func (r *rarity) known(p *Peer) Bitfield {
	if p.all {
		return r.in
	}
	return p.have
}

// walk goes through the untouched pieces of p in ascending order, from a random one on and
// round, until it has seen enough of them, and returns the rarest of those.
func (r *rarity) walk(p *Peer, enough int, rng *rand.Rand) (int, bool) {
	has, words := r.known(p), r.in.words()
	if len(r.order) == 0 {
		return 0, false
	}
	best, seen, w := -1, 0, rng.IntN(words)
	for range words {
		for m := r.in.word(w) & has.word(w); m != 0; {
			z := bits.LeadingZeros64(m)
			m &^= 1 << (63 - z)
			i := w*64 + z
			if best < 0 || r.avail[i] < r.avail[best] {
				best = i
			}
			if seen++; seen >= enough {
				return best, true
			}
		}
		if w++; w == words {
			w = 0
		}
	}
	return max(best, 0), best >= 0
}

// lowest returns the untouched piece of p with the lowest index.
func (r *rarity) lowest(p *Peer) (int, bool) {
	has, words := r.known(p), r.in.words()
	for r.low < words && r.in.word(r.low) == 0 {
		r.low++
	}
	for w := r.low; w < words; w++ {
		if m := r.in.word(w) & has.word(w); m != 0 {
			return w*64 + bits.LeadingZeros64(m), true
		}
	}
	return 0, false
}

// scarce returns one of the first n untouched pieces of p that nobody else has but those who have everything: one
// that p suggests, or else a random one, so that several who choose at once choose differently.
func (r *rarity) scarce(p *Peer, n int, rng *rand.Rand) (int, bool) {
	has, alone := r.known(p), uint16(1)
	if p.all {
		alone = 0 // it is not counted
	}
	chosen, found := 0, 0
	for w := r.low; w < r.in.words() && n > 0; w++ {
		for m := r.in.word(w) & has.word(w); m != 0 && n > 0; n-- {
			z := bits.LeadingZeros64(m)
			m &^= 1 << (63 - z)
			i := w*64 + z
			if r.avail[i] != alone {
				continue
			}
			if slices.Contains(p.hints, i) {
				return i, true
			}
			if found++; rng.IntN(found) == 0 {
				chosen = i
			}
		}
	}
	return chosen, found > 0
}
