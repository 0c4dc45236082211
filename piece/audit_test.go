package piece

import (
	"slices"
	"testing"
)

// audit recomputes from first principles all that the scheduler keeps up to date.
func audit(t testing.TB, s *Scheduler) {
	t.Helper()
	auditPieces(t, s)
	auditRarity(t, s)
	auditOpen(t, s)
	auditPeers(t, s)
	if t.Failed() {
		t.FailNow()
	}
}

func auditPieces(t testing.TB, s *Scheduler) {
	t.Helper()
	var lacking int
	var left int64
	for i := range s.layout.Pieces() {
		lacks := s.wanted.Has(i) && !s.have.Has(i)
		if lacks {
			lacking++
			left += s.layout.PieceSize(i)
		}
		if untouched := s.rarity.place[i] >= 0; untouched != (lacks && s.opened(i) == nil) || untouched != s.rarity.in.Has(i) {
			t.Errorf("piece %d: untouched is %t (in the set: %t)", i, untouched, s.rarity.in.Has(i))
		}
		if s.have.Has(i) && (s.opened(i) != nil || s.suspect.Has(i)) {
			t.Errorf("piece %d is verified and yet open or suspect", i)
		}
	}
	for i := range s.layout.Pieces() {
		if s.suspect.Has(i) != slices.Contains(s.failed, i) {
			t.Errorf("piece %d: suspect is %t, but those that failed are %v", i, s.suspect.Has(i), s.failed)
		}
	}
	if lacking != s.lacking || left != s.Left() || s.Complete() != (lacking == 0) {
		t.Errorf("lacking %d, left %d, complete %t, want %d, %d", s.lacking, s.Left(), s.Complete(), lacking, left)
	}
}

func auditRarity(t testing.TB, s *Scheduler) {
	t.Helper()
	r := &s.rarity
	for i, got := range r.avail {
		want, all := 0, 0
		for _, p := range s.peers {
			switch {
			case p == nil:
			case p.all:
				all++
			case p.has(i):
				want++
			}
		}
		if int(got) != want || s.base != all || s.Availability(i) != want+all {
			t.Errorf("piece %d: availability %d and %d, want %d and %d", i, got, s.base, want, all)
		}
	}
	for at, i := range r.order {
		if r.place[i] != int32(at) {
			t.Errorf("piece %d stands at %d, place says %d", i, at, r.place[i])
		}
		a := int(r.avail[i])
		if a >= len(r.first) || int32(at) < r.first[a] || int32(at) >= r.end(a) {
			t.Errorf("piece %d of availability %d stands at %d, outside its bucket %v", i, a, at, r.first)
		}
	}
	for w := range r.low {
		if r.in.word(w) != 0 {
			t.Errorf("word %d has pieces below the lowest %d", w, r.low)
		}
	}
}

func auditOpen(t testing.TB, s *Scheduler) {
	t.Helper()
	var free, asked, loose int
	for slot, o := range s.opens {
		if int(o.slot) != slot {
			t.Errorf("record %d says it is %d", slot, o.slot)
		}
		if slices.Contains(s.spare, o.slot) {
			if len(o.blocks) > 0 || o.loose >= 0 || o.owner != nil || o.asked != [4]int{} {
				t.Errorf("closed record %+v", o)
			}
			continue
		}
		var want open
		for k, b := range o.blocks {
			switch n := b.askers(); {
			case b[0] == stored:
				want.stored++
			case n == 0:
				want.free++
				if k < o.head || k >= o.tail {
					t.Errorf("piece %d: free block %d is outside [%d, %d)", o.piece, k, o.head, o.tail)
				}
			default:
				want.asked[n]++
				want.asked[0]++
			}
		}
		if want.free != o.free || want.stored != o.stored || want.asked != o.asked || o.free == len(o.blocks) {
			t.Errorf("piece %d: free %d, stored %d, asked %v, want %d, %d, %v", o.piece, o.free, o.stored, o.asked, want.free, want.stored, want.asked)
		}
		if s.opened(o.piece) != o || o.wanted != (s.wanted.Has(o.piece) && !o.held) || o.suspect != s.suspect.Has(o.piece) {
			t.Errorf("piece %d: record %+v", o.piece, o)
		}
		if isLoose := o.wanted && o.free > 0; isLoose != (o.loose >= 0) || isLoose && s.loose[o.loose] != o {
			t.Errorf("piece %d: loose is %d", o.piece, o.loose)
		} else if isLoose {
			loose++
		}
		if o.hashing() && o.owner != nil {
			t.Errorf("piece %d awaits its hash and has an owner", o.piece)
		}
		if o.wanted {
			free, asked = free+o.free, asked+o.asked[0]
		}
	}
	if free != s.free || asked != s.asked || loose != len(s.loose) {
		t.Errorf("free %d, asked %d, loose %d, want %d, %d, %d", s.free, s.asked, len(s.loose), free, asked, loose)
	}
}

func auditPeers(t testing.TB, s *Scheduler) {
	t.Helper()
	for slot, p := range s.peers {
		if p == nil {
			continue
		}
		var interest, asked int
		for i := range s.layout.Pieces() {
			if p.has(i) && s.lacks(i) {
				interest++
			}
		}
		if int(p.slot) != slot || s.Interesting(p) != (interest > 0) || !p.all && p.interest != interest {
			t.Errorf("peer %d in slot %d: interesting %t (%d), want %d pieces", p.slot, slot, s.Interesting(p), p.interest, interest)
		}
		for _, o := range s.opens {
			n := 0
			for k := range o.blocks {
				b := &o.blocks[k]
				if slices.Index(b[:], p.slot) != -1 {
					n++
				}
			}
			asked += n
			if k := p.find(o); (k >= 0) != (n > 0 || o.owner == p) || k >= 0 && p.works[k].n != n {
				t.Errorf("peer %d: %d blocks of piece %d in flight, works %+v", slot, n, o.piece, p.works)
			}
		}
		if asked != p.asked {
			t.Errorf("peer %d: %d blocks in flight, want %d", slot, p.asked, asked)
		}
	}
}
