package piece

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// peer returns a random peer of the model, or nil.
func (m *model) peer() *modelPeer {
	if len(m.peers) == 0 {
		return nil
	}
	return m.peers[m.draw(len(m.peers))]
}

func (m *model) join() *modelPeer {
	n := len(m.pieces)
	q := &modelPeer{p: m.s.Join(), has: make([]bool, n)}
	m.peers = append(m.peers, q)
	switch m.draw(4) {
	case 0, 1:
		m.s.HaveAll(q.p)
		for i := range q.has {
			q.has[i] = true
		}
	case 2:
		m.haveSet(q)
	}
	return q
}

// haveSet gives q about two pieces of three, besides what it has.
func (m *model) haveSet(q *modelPeer) {
	set := NewBitfield(len(m.pieces))
	for i := range m.pieces {
		if m.draw(3) > 0 {
			set.Set(i)
			q.has[i] = true
		}
	}
	m.s.HaveSet(q.p, set)
}

func (m *model) leave(q *modelPeer) {
	for i := range m.pieces {
		m.returned(q, i, -1)
	}
	m.peers = slices.DeleteFunc(m.peers, func(o *modelPeer) bool { return o == q })
	m.s.Leave(q.p)
}

// asked returns a random block that was asked of q.
func (m *model) asked(q *modelPeer) (Block, bool) {
	var all []Block
	for i := range m.pieces {
		for k, b := range m.pieces[i].blocks {
			if slices.Contains(b.askers, q) {
				all = append(all, m.s.layout.BlockAt(i, k))
			}
		}
	}
	if len(all) == 0 {
		return Block{}, false
	}
	return all[m.draw(len(all))], true
}

// verdict says of piece i whether it was good.
func (m *model) verdict(i int, good bool) {
	p := &m.pieces[i]
	if good {
		m.s.Verified(i)
		if !p.have {
			p.have, p.suspect = true, false
			p.reset()
		}
		return
	}
	m.s.Failed(i)
	p.have, p.suspect = false, true
	p.reset()
}

// step does one random thing.
func (m *model) step() {
	op := m.draw(64)
	if len(m.peers) == 0 || op == 0 && len(m.peers) < 8 {
		m.join()
		return
	}
	q, i := m.peer(), m.draw(len(m.pieces))
	switch {
	case op < 20:
		m.next(q, 1+m.draw(40), q.p.slot%2 == 1)
	case op < 44:
		if b, ok := m.asked(q); ok {
			m.receive(q, b)
		}
	case op < 52:
		for k := range m.pieces {
			if p := &m.pieces[k]; !p.have && p.hashing() {
				m.verdict(k, m.draw(4) > 0)
				return
			}
		}
	case op < 53:
		m.s.Have(q.p, i)
		q.has[i] = true
	case op < 54:
		m.haveSet(q)
	case op < 56:
		if b, ok := m.asked(q); ok {
			m.s.Return(q.p, b)
			m.returned(q, int(b.Piece), m.s.layout.Number(b))
		}
	default:
		m.rare(op, q, i)
	}
}

// rare does one of the things that happen less often.
func (m *model) rare(op int, q *modelPeer, i int) {
	switch op {
	case 56:
		m.s.ReturnAll(q.p)
		for k := range m.pieces {
			m.returned(q, k, -1)
		}
	case 57:
		m.leave(q)
	case 58:
		m.s.Lost(q.p, i)
		if q.has[i] {
			m.returned(q, i, -1)
			q.has[i] = false
		}
	case 59:
		if m.draw(2) == 0 {
			m.fast(q, i)
		} else {
			m.doubt(q, i)
		}
	case 60:
		m.pieces[i].wanted = !m.pieces[i].wanted
		m.s.SetWanted(i, m.pieces[i].wanted)
	case 61:
		m.verdict(i, m.draw(2) == 0)
	case 62:
		m.receive(q, m.s.layout.BlockAt(i, m.draw(len(m.pieces[i].blocks))))
	case 63:
		m.seq = !m.seq
		m.s.SetSequential(m.seq)
		m.next(q, 1+m.draw(40), m.draw(2) == 0)
	}
}

// fast lets q choke or not, allow or refuse, or suggest piece i, or stall.
func (m *model) fast(q *modelPeer, i int) {
	switch m.draw(5) {
	case 0:
		q.choking = !q.choking
		m.s.SetChoking(q.p, q.choking)
	case 1:
		m.s.Allow(q.p, i)
		if !slices.Contains(q.allowed, i) {
			q.allowed = append(q.allowed, i)
		}
	case 2:
		m.s.Disallow(q.p, i)
		q.allowed = slices.DeleteFunc(q.allowed, func(k int) bool { return k == i })
	case 3:
		m.s.Suggest(q.p, i)
	case 4:
		q.stalled = !q.stalled
		m.s.SetStalled(q.p, q.stalled)
	}
}

// doubt does what only a caller does that looks for a liar.
func (m *model) doubt(q *modelPeer, i int) {
	p := &m.pieces[i]
	switch m.draw(4) {
	case 0:
		n := m.draw(len(p.blocks))
		want := p.open() && !p.have && !p.hashing() && p.blocks[n].stored
		if got := m.s.Forget(m.s.layout.BlockAt(i, n)); got != want {
			m.t.Fatalf("block %d of piece %d forgotten %t, want %t", n, i, got, want)
		}
		if want {
			p.blocks[n] = modelBlock{}
			p.settle()
		}
	case 1:
		on := m.draw(2) == 0
		m.s.Hold(i, on)
		p.held = on && p.open() && !p.have
	default:
		if q.only = 0; m.draw(2) == 0 {
			q.only = i + 1
		}
		m.s.Restrict(q.p, q.only-1)
		m.s.Relieve(q.p)
		for k := range m.pieces {
			if p := &m.pieces[k]; p.suspect && p.owner == q {
				p.owner = nil
			}
		}
	}
}

// finish lets every peer, and one new seed, answer all it is asked until the download is complete.
func (m *model) finish() {
	for i := range m.pieces {
		m.pieces[i].wanted = true
		m.s.SetWanted(i, true)
		m.s.Hold(i, false)
		m.pieces[i].held = false
	}
	for _, q := range m.peers {
		q.only = 0
		m.s.Restrict(q.p, -1)
	}
	seed := m.join()
	m.s.HaveAll(seed.p)
	for i := range seed.has {
		seed.has[i] = true
	}
	for round := 0; !m.s.Complete(); round++ {
		if round > 100*len(m.pieces) {
			m.t.Fatalf("no end: %s", state(m.s))
		}
		for _, q := range m.peers {
			m.next(q, 4, q.p.slot%2 == 1)
			for b, ok := m.asked(q); ok; b, ok = m.asked(q) {
				m.receive(q, b)
			}
		}
		for i := range m.pieces {
			if p := &m.pieces[i]; !p.have && p.hashing() {
				m.verdict(i, true)
			}
		}
	}
	m.compare()
	audit(m.t, m.s)
	if m.s.Left() != 0 || len(m.s.loose) > 0 || m.s.asked > 0 || m.s.Endgame() {
		m.t.Fatalf("complete with %d bytes left, %d blocks in flight", m.s.Left(), m.s.asked)
	}
}

// TestModel runs random operations beside the model, then lets the download come to its end.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 99))
			pieceLength := BlockSize * int64(1+rng.IntN(6))
			l := layout(t, 1+rng.Int64N(20*pieceLength), pieceLength)
			m := newModel(t, l, rng.IntN)
			for range 700 {
				m.step()
				m.compare()
				audit(t, m.s)
			}
			m.finish()
		})
	}
}

// FuzzScheduler: any sequence of operations keeps every invariant and can be brought to an end.
func FuzzScheduler(f *testing.F) {
	f.Add([]byte{9, 2, 0, 0, 1, 0, 5, 3, 25, 0, 0, 30, 0, 0})
	f.Add([]byte("a peer joins, asks, answers, leaves; another loses a piece, blocks return"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 4 || len(in) > 2000 {
			return
		}
		at := 0
		draw := func(n int) int {
			if at == len(in) {
				return 0 // joins, seeds and first choices: an end
			}
			at++
			return int(in[at-1]) % n
		}
		l := layout(t, int64(1+draw(12))*2*BlockSize-int64(draw(2)), int64(1+draw(4))*BlockSize)
		m := newModel(t, l, draw)
		for at < len(in) {
			m.step()
			m.compare()
			audit(t, m.s)
		}
		m.finish()
	})
}

// TestSameSeedSameAnswers: the scheduler is a function of its seed and its calls.
func TestSameSeedSameAnswers(t *testing.T) {
	l := layout(t, 200*4*BlockSize, 4*BlockSize)
	run := func(seed uint64) (trace []Block) {
		s := NewScheduler(l, rand.New(rand.NewPCG(seed, 0)))
		var peers []*Peer
		for k := range 10 {
			p := s.Join()
			for i := range l.Pieces() {
				if k == 0 || (i*7+k)%3 == 0 {
					s.Have(p, i)
				}
			}
			peers = append(peers, p)
		}
		download(s, peers, 8, func(p *Peer, b Block) { trace = append(trace, b) })
		return trace
	}
	a, b, c := run(1), run(1), run(2)
	if !slices.Equal(a, b) {
		t.Error("same seed, other blocks")
	}
	if slices.Equal(a, c) {
		t.Error("other seed, same blocks")
	}
}

// download lets random peers answer a few blocks each, in order and with window blocks in
// flight, until all is verified. arrived hears of every block that comes in. Cancels are lost,
// which is the worst case.
func download(s *Scheduler, peers []*Peer, window int, arrived func(*Peer, Block)) {
	rng := rand.New(rand.NewPCG(6, 6))
	queues := make([][]Block, len(peers))
	missing := map[uint32]int{}
	for !s.Complete() {
		k := rng.IntN(len(peers))
		p, n := peers[k], 1+rng.IntN(16)
		if room := window - len(queues[k]); room > 0 {
			queues[k] = s.Next(p, room, true, queues[k])
		}
		for ; n > 0 && len(queues[k]) > 0; n-- {
			b := queues[k][0]
			queues[k] = queues[k][1:]
			arrived(p, b)
			if fresh, _ := s.Received(p, b); !fresh {
				continue
			}
			if missing[b.Piece]++; missing[b.Piece] == s.layout.Blocks(int(b.Piece)) {
				s.Verified(int(b.Piece))
			}
		}
	}
}

// TestManyFastSeeds: eight seeds that answer at random and hear no cancel send little twice, and while pieces
// are untouched each one's blocks come in order.
func TestManyFastSeeds(t *testing.T) {
	for _, window := range []int{4, 64, 250} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			l := layout(t, 1024*64*BlockSize, 64*BlockSize)
			s := NewScheduler(l, rand.New(rand.NewPCG(4, 4)))
			var peers []*Peer
			for range 8 {
				p := s.Join()
				s.HaveAll(p)
				peers = append(peers, p)
			}
			blocks, strays := 0, 0
			next := map[uint32]uint32{} // by piece: where it goes on in order
			download(s, peers, window, func(_ *Peer, b Block) {
				if blocks++; next[b.Piece] != b.Begin {
					strays++
				}
				next[b.Piece] = b.Begin + b.Length
			})
			if twice := blocks - 1024*64; twice > 8*64 {
				t.Errorf("%d blocks came twice", twice)
			}
			if strays > 1024 {
				t.Errorf("%d of %d blocks came out of order", strays, blocks)
			}
		})
	}
}

// TestSilentPeers: what was asked of peers that never answer does not hold up the end, even if
// nobody takes it back from them, as long as some peer answers.
func TestSilentPeers(t *testing.T) {
	for _, fast := range []bool{true, false} {
		t.Run(fmt.Sprintf("fast=%t", fast), func(t *testing.T) {
			l := layout(t, 40*16*BlockSize, 16*BlockSize)
			s := NewScheduler(l, rand.New(rand.NewPCG(8, 8)))
			for range 2 { // a third would be the last that a block is asked of
				p := s.Join()
				s.HaveAll(p)
				s.Next(p, 100, fast, nil)
			}
			p := s.Join()
			s.HaveAll(p)
			blocks := 0
			download(s, []*Peer{p}, 20, func(*Peer, Block) { blocks++ })
			if blocks != 40*16 {
				t.Errorf("%d blocks, want %d", blocks, 40*16)
			}
			audit(t, s)
		})
	}
}

// TestMemory: a scheduler takes a few bytes a piece, and a peer with everything none.
func TestMemory(t *testing.T) {
	const pieces = 262_144
	l := layout(t, pieces*BlockSize, BlockSize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := NewScheduler(l, rand.New(rand.NewPCG(1, 1)))
	for range 200 {
		s.HaveAll(s.Join())
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 11*pieces+200_000 {
		t.Errorf("%d bytes for %d pieces and 200 peers", got, pieces)
	}
}
