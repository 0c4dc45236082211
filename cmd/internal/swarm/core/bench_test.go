package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A bench is the shell of a core that downloads for ever: every block asked for comes, in order,
// and every piece is good.
type bench struct {
	c     *Core
	now   time.Time
	asked [][]piece.Block // by link, minus one: a queue
	first []int
	got   []int // blocks of each piece
}

func newBench(b testing.TB, peers int) *bench {
	l := layoutOf(b, 64<<30, mib)
	s := &bench{now: epoch, asked: make([][]piece.Block, peers), first: make([]int, peers), got: make([]int, l.Pieces())}
	s.c = New(s.now, Config{Layout: l, Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2))}, Seed: Seeding{Forever: true}})
	for n := range peers {
		rem := remote(LinkID(n + 1))
		rem.Fast, rem.Ext = true, true
		s.handle(Event{Op: Joined, Link: LinkID(n + 1), Remote: rem})
		h := wire.AppendExtHandshake(nil, wire.ExtHandshake{Reqq: 2000})
		s.handle(Event{Op: Message, Link: LinkID(n + 1), Msg: wire.Message{ID: wire.Extended, Payload: h}})
		s.handle(Event{Op: Message, Link: LinkID(n + 1), Msg: wire.Message{ID: wire.HaveAll}})
		s.handle(Event{Op: Message, Link: LinkID(n + 1), Msg: wire.Message{ID: wire.Unchoke}})
	}
	return s
}

func (s *bench) handle(ev Event) (wrote bool) {
	for _, e := range s.c.Handle(s.now, ev) {
		switch {
		case e.Op == Write:
			wrote = true
		case e.Op == Send && e.Msg.ID == wire.Request:
			n := e.Link - 1
			if s.first[n] > 4096 {
				s.asked[n] = s.asked[n][:copy(s.asked[n], s.asked[n][s.first[n]:])]
				s.first[n] = 0
			}
			s.asked[n] = append(s.asked[n], piece.Block{Piece: e.Msg.Index, Begin: e.Msg.Begin, Length: e.Msg.Length})
		}
	}
	return wrote
}

// step lets one block of a link come.
func (s *bench) step(n int) {
	b := s.asked[n][s.first[n]]
	s.first[n]++
	s.now = s.now.Add(16 * time.Microsecond) // 1 GB/s
	m := wire.Message{ID: wire.Piece, Index: b.Piece, Begin: b.Begin, Length: b.Length}
	if !s.handle(Event{Op: BlockIn, Link: LinkID(n + 1), Msg: m}) {
		return
	}
	if s.got[b.Piece]++; s.got[b.Piece] == mib/piece.BlockSize {
		s.handle(Event{Op: Verified, Piece: int(b.Piece), OK: true})
	}
}

func BenchmarkBlockIn(b *testing.B) {
	for _, peers := range []int{1, 8, 80} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			b.ReportAllocs()
			var s *bench
			const run = 3 << 20 // blocks of a torrent, and some to spare
			for n := 0; b.Loop(); n++ {
				if n%run == 0 {
					b.StopTimer()
					s = newBench(b, peers)
					for i := range 20_000 {
						s.step(i % peers)
					}
					b.StartTimer()
				}
				s.step(n % peers)
			}
		})
	}
}

// A block costs no allocation once everything has grown to its size.
func TestABlockAllocatesNothing(t *testing.T) {
	s := newBench(t, 4)
	n := 0
	for ; n < 40_000; n++ {
		s.step(n % 4)
	}
	per := testing.AllocsPerRun(20_000, func() {
		s.step(n % 4)
		n++
	})
	if per > 0.01 {
		t.Errorf("%.3f allocations a block, want none", per)
	}
}

func BenchmarkServe(b *testing.B) {
	l := layoutOf(b, 1<<30, mib)
	c := New(epoch, Config{Layout: l, Have: full(l), Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2))}, Seed: Seeding{Forever: true}})
	rem := remote(1)
	rem.Fast = true
	now := epoch
	c.Handle(now, Event{Op: Joined, Link: 1, Remote: rem})
	c.Handle(now, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Interested}})
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		now = now.Add(16 * time.Microsecond)
		c.Handle(now, Event{Op: Message, Link: 1, Msg: request(n/64%1024, n%64)})
		if n >= 100 {
			c.Handle(now, Event{Op: Sent, Link: 1, N: piece.BlockSize})
		}
	}
}
