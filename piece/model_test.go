package piece

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A model is a scheduler's state kept the naive way, beside the real one: flat, searched
// whenever something is asked, with no notion of how the real one finds its answers.
type model struct {
	t      testing.TB
	s      *Scheduler
	draw   func(n int) int // a number from 0 to n-1
	seq    bool
	pieces []modelPiece
	peers  []*modelPeer
}

type modelPiece struct {
	wanted, have, suspect bool
	held                  bool
	owner                 *modelPeer
	blocks                []modelBlock
}

type modelBlock struct {
	stored bool
	askers []*modelPeer
}

type modelPeer struct {
	p       *Peer
	fast    bool
	stalled bool
	has     []bool
	choking bool
	allowed []int
	only    int // piece, counted from 1
}

// quick reports whether q is fast, and sends something.
func (q *modelPeer) quick() bool { return q.fast && !q.stalled }

func newModel(t testing.TB, l Layout, draw func(int) int) *model {
	m := &model{t: t, s: NewScheduler(l, rand.New(rand.NewPCG(5, uint64(draw(1000))))), draw: draw}
	for i := range l.Pieces() {
		m.pieces = append(m.pieces, modelPiece{wanted: true, blocks: make([]modelBlock, l.Blocks(i))})
	}
	return m
}

// open reports whether a block of the piece is asked or stored.
func (p *modelPiece) open() bool {
	return slices.ContainsFunc(p.blocks, func(b modelBlock) bool { return b.stored || len(b.askers) > 0 })
}

func (p *modelPiece) hashing() bool {
	return !slices.ContainsFunc(p.blocks, func(b modelBlock) bool { return !b.stored })
}

// soleQuick reports whether block n is in flight to one peer alone, which is quick.
func (p *modelPiece) soleQuick(n int) bool {
	b := &p.blocks[n]
	return !b.stored && len(b.askers) == 1 && b.askers[0].quick()
}

func (p *modelPiece) lacks() bool     { return p.wanted && !p.have }
func (p *modelPiece) untouched() bool { return p.lacks() && !p.open() }

func (p *modelPiece) reset() {
	p.owner, p.held = nil, false
	clear(p.blocks)
}

// settle forgets the owner of a piece that has nothing more to own.
func (p *modelPiece) settle() {
	if !p.open() || p.hashing() {
		p.owner = nil
	}
	p.held = p.held && p.open()
}

// may reports whether q can be asked for piece i at all.
func (m *model) may(q *modelPeer, i int) bool {
	p := &m.pieces[i]
	return q.has[i] && p.lacks() && !p.held && (!q.choking || slices.Contains(q.allowed, i)) && (q.only == 0 || q.only == i+1)
}

func (m *model) availability(i int) (n int) {
	for _, q := range m.peers {
		if q.has[i] {
			n++
		}
	}
	return n
}

// endgame is its definition, word for word.
func (m *model) endgame() bool {
	asked := false
	for i := range m.pieces {
		p := &m.pieces[i]
		if !p.lacks() || p.held {
			continue
		}
		for _, b := range p.blocks {
			if !b.stored && len(b.askers) == 0 {
				return false
			}
			asked = asked || len(b.askers) > 0
		}
	}
	return asked
}

// bounded reports whether so many blocks are asked of several peers that what a fast one was asked for must wait.
func (m *model) bounded() bool {
	asked, twice := 0, 0
	for i := range m.pieces {
		p := &m.pieces[i]
		if !p.lacks() || p.held {
			continue
		}
		for _, b := range p.blocks {
			if !b.stored && len(b.askers) > 0 {
				asked++
			}
			if !b.stored && len(b.askers) > 1 {
				twice++
			}
		}
	}
	return twice >= max(endgameBatch, asked/endgamePart)
}

// next calls Next and judges each block it gives by the policy, as stated.
func (m *model) next(q *modelPeer, n int, fast bool) []Block {
	q.fast = fast
	before := q.p.asked
	out := m.s.Next(q.p, n, fast, nil)
	if len(out) > n {
		m.t.Fatalf("%d blocks for %d", len(out), n)
	}
	copies := 0 // of what a fast peer alone was asked for
	for k, b := range out {
		m.judge(q, b)
		if p := &m.pieces[b.Piece]; p.soleQuick(m.s.layout.Number(b)) {
			if copies++; m.bounded() && (before > 0 || copies > endgameIdle) {
				m.t.Errorf("%v asked twice, as too many are already", b)
			}
		}
		if m.t.Failed() {
			m.t.Fatalf("block %d of %v, asked of peer %d (fast %t)", k, out, q.p.slot, fast)
		}
		blk := &m.pieces[b.Piece].blocks[m.s.layout.Number(b)]
		blk.askers = append(blk.askers, q)
	}
	if len(out) == 0 && before == 0 {
		m.idle(q)
	}
	return out
}

func (m *model) judge(q *modelPeer, b Block) {
	i := int(b.Piece)
	p := &m.pieces[i]
	blk := &p.blocks[m.s.layout.Number(b)]
	switch {
	case !m.s.layout.IsBlock(b):
		m.t.Errorf("%v is no block", b)
	case !m.may(q, i):
		m.t.Errorf("piece %d must not be asked of this peer", i)
	case blk.stored || slices.Contains(blk.askers, q) || len(blk.askers) >= maxAskers:
		m.t.Errorf("%v is stored, asked of it already or of %d peers", b, len(blk.askers))
	case len(blk.askers) > 0:
		if !m.endgame() {
			m.t.Errorf("%v asked twice before endgame", b)
		}
		if p.suspect && (!q.fast || p.owner != nil && p.owner.fast) {
			m.t.Errorf("suspect %v asked twice", b)
		}
		return
	case p.untouched():
		m.judgeOpening(q, i)
	case p.owner == q:
		return
	case p.owner == nil || !p.owner.fast && !q.fast:
		if p.suspect && (p.owner != nil || m.othersAsked(q, p)) {
			m.t.Errorf("suspect piece %d shared", i)
		}
	default:
		if m.hasUntouched(q, 0) && !(m.seq && q.fast && !p.owner.fast && m.hasUntouched(q, i)) {
			m.t.Errorf("piece %d has an owner, and others are untouched", i)
		}
		if p.suspect && p.owner.fast {
			m.t.Errorf("suspect piece %d taken from a fast owner", i)
		}
	}
	if p.owner == nil || q.fast && !p.owner.fast {
		p.owner = q
	}
}

// judgeOpening checks that opening piece i is right, and that it is the right one.
func (m *model) judgeOpening(q *modelPeer, i int) {
	verified := 0
	for k := range m.pieces {
		if m.pieces[k].have {
			verified++
		}
	}
	for k := range m.pieces {
		p := &m.pieces[k]
		if !m.may(q, k) || p.hashing() {
			continue
		}
		free := slices.ContainsFunc(p.blocks, func(b modelBlock) bool { return !b.stored && len(b.askers) == 0 })
		mine := p.owner == q || !p.suspect && (p.owner == nil || !p.owner.fast && !q.fast)
		switch again := m.pieces[i].suspect; {
		case p.untouched() && p.suspect && !again:
			m.t.Errorf("piece %d opened before %d, which has failed", i, k)
		case again: // before all others
		case p.open() && free && mine:
			m.t.Errorf("piece %d opened while %d is to be finished", i, k)
		case !p.untouched():
		case m.seq && k < i && !m.early(q, i):
			m.t.Errorf("piece %d opened before %d", i, k)
		case !m.seq && verified >= randomFirst && m.availability(k) < m.availability(i):
			m.t.Errorf("piece %d opened though %d is rarer", i, k)
		}
	}
}

// early reports whether piece i may be opened for q before its turn: the swarm trades, and of those who lack
// something only q has it, or nobody. (The model is too small for one that is too far ahead.)
func (m *model) early(q *modelPeer, i int) bool {
	seeds, holders := 0, 0
	for _, o := range m.peers {
		switch {
		case o.p.all:
			seeds++
		case o.has[i] && o != q:
			holders++
		}
	}
	return len(m.peers)-seeds > seeds && holders == 0
}

func (m *model) othersAsked(q *modelPeer, p *modelPiece) bool {
	for _, b := range p.blocks {
		if slices.ContainsFunc(b.askers, func(o *modelPeer) bool { return o != q }) {
			return true
		}
	}
	return false
}

// hasUntouched reports whether q could be asked for an untouched piece from number first on.
func (m *model) hasUntouched(q *modelPeer, first int) bool {
	for i := first; i < len(m.pieces); i++ {
		if m.pieces[i].untouched() && m.may(q, i) {
			return true
		}
	}
	return false
}

// idle checks that a peer with nothing in flight that was given nothing can get nothing.
func (m *model) idle(q *modelPeer) {
	endgame := m.endgame()
	for i := range m.pieces {
		p := &m.pieces[i]
		if !m.may(q, i) {
			continue
		}
		if p.suspect && (p.owner != nil && p.owner != q || m.othersAsked(q, p)) {
			continue
		}
		for k, b := range p.blocks {
			fast := slices.ContainsFunc(b.askers, (*modelPeer).quick)
			if !b.stored && (len(b.askers) == 0 || endgame && (len(b.askers) == 1 || len(b.askers) < maxAskers && !fast) && !p.suspect) {
				m.t.Fatalf("peer %d got nothing, but block %d of piece %d has %d askers (endgame %t)", q.p.slot, k, i, len(b.askers), endgame)
			}
		}
	}
}

func (m *model) receive(q *modelPeer, b Block) {
	p := &m.pieces[b.Piece]
	blk := &p.blocks[m.s.layout.Number(b)]
	wantFresh := !p.have && !blk.stored && (p.open() || p.wanted)
	fresh, others := m.s.Received(q.p, b)
	if fresh != wantFresh {
		m.t.Fatalf("%v fresh %t, want %t", b, fresh, wantFresh)
	}
	if !fresh {
		return
	}
	var want []*Peer
	for _, o := range blk.askers {
		if o != q {
			want = append(want, o.p)
		}
	}
	if !slices.Equal(others, want) {
		m.t.Fatalf("%v was asked of %d others, want %d", b, len(others), len(want))
	}
	*blk = modelBlock{stored: true}
	p.settle()
}

// returned takes back what q was asked of piece i: all, or only block n.
func (m *model) returned(q *modelPeer, i, n int) {
	p := &m.pieces[i]
	touched := p.owner == q && n < 0
	for k := range p.blocks {
		b := &p.blocks[k]
		if at := slices.Index(b.askers, q); at >= 0 && (n < 0 || n == k) {
			b.askers = slices.Delete(b.askers, at, at+1)
			touched = true
		}
	}
	if touched && p.owner == q {
		p.owner = nil
	}
	p.settle()
}

// compare checks the whole state of the scheduler against the model's.
func (m *model) compare() {
	for i := range m.pieces {
		p, o := &m.pieces[i], m.s.opened(i)
		if (o != nil) != (p.open() && !p.have) || m.s.have.Has(i) != p.have || m.s.Availability(i) != m.availability(i) {
			m.t.Fatalf("piece %d: open %t, verified %t, availability %d", i, o != nil, m.s.have.Has(i), m.s.Availability(i))
		}
		if o == nil {
			continue
		}
		if o.held != p.held {
			m.t.Fatalf("piece %d: held %t", i, o.held)
		}
		if (o.owner == nil) != (p.owner == nil) || o.owner != nil && o.owner != p.owner.p {
			m.t.Fatalf("piece %d: owner %p, want %+v", i, o.owner, p.owner)
		}
		for k, b := range p.blocks {
			got := &o.blocks[k]
			same := (got[0] == stored) == b.stored
			if same && !b.stored {
				same = got.askers() == len(b.askers)
				for _, q := range b.askers {
					same = same && got.asks(q.p.slot)
				}
			}
			if !same {
				m.t.Fatalf("piece %d block %d: state %v, want %+v", i, k, *got, b)
			}
		}
	}
	if m.s.Endgame() != m.endgame() {
		m.t.Fatalf("endgame %t", m.s.Endgame())
	}
	for _, q := range m.peers {
		interesting := false
		for i := range q.has {
			interesting = interesting || q.has[i] && m.pieces[i].lacks()
			if m.s.Has(q.p, i) != q.has[i] {
				m.t.Fatalf("peer %d: has %d: %t", q.p.slot, i, !q.has[i])
			}
		}
		if m.s.Interesting(q.p) != interesting {
			m.t.Fatalf("peer %d: interesting %t", q.p.slot, !interesting)
		}
		// A peer that is not looked at again because nothing was found has nothing to find.
		if q.p.dry == m.s.stamp() {
			q.p.dry = stamp{}
			if got := m.s.Next(q.p, 1<<16, q.p.fast, nil); len(got) > 0 {
				m.t.Fatalf("peer %d was passed over for %v", q.p.slot, got)
			}
		}
	}
}
