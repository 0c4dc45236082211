package piece

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A crowd is a scheduler with many peers, each of which has window blocks in flight and answers
// them in order.
type crowd struct {
	s       *Scheduler
	peers   []*Peer
	queues  [][]Block
	window  int
	stored  []int32 // by piece: blocks
	arrived int     // blocks
	// What the calls took in sum, and how many there were, Received being counted in arrived.
	next, received, verified time.Duration
	nexts, pieces            int
}

// newCrowd makes a crowd of which every fourth peer has every piece, half have a random half,
// and the others one piece in a hundred.
func newCrowd(tb testing.TB, pieces, blocks, peers, window int) *crowd {
	l := layout(tb, int64(pieces)*int64(blocks)*BlockSize, int64(blocks)*BlockSize)
	rng := rand.New(rand.NewPCG(1, 2))
	c := &crowd{s: NewScheduler(l, rng), window: window, stored: make([]int32, pieces)}
	for k := range peers {
		p := c.s.Join()
		switch k % 4 {
		case 0:
			c.s.HaveAll(p)
		case 1, 2:
			c.have(p, rng, 2)
		case 3:
			c.have(p, rng, 100)
		}
		c.peers = append(c.peers, p)
		c.queues = append(c.queues, make([]Block, 0, window))
	}
	return c
}

func (c *crowd) have(p *Peer, rng *rand.Rand, oneIn int) {
	for i := range c.stored {
		if rng.IntN(oneIn) == 0 {
			c.s.Have(p, i)
		}
	}
}

// turn fills the window of peer k and lets it answer half of it.
func (c *crowd) turn(k int) {
	p, q := c.peers[k], c.queues[k]
	start := time.Now()
	q = c.s.Next(p, c.window-len(q), k%8 != 7, q)
	asked := time.Now()
	c.next += asked.Sub(start)
	c.nexts++
	n := (len(q) + 1) / 2
	for _, b := range q[:n] {
		c.arrived++
		if fresh, _ := c.s.Received(p, b); fresh {
			c.stored[b.Piece]++
		}
	}
	answered := time.Now()
	c.received += answered.Sub(asked)
	for _, b := range q[:n] {
		if i := int(b.Piece); int(c.stored[i]) == c.s.layout.Blocks(i) && !c.s.have.Has(i) {
			c.s.Verified(i)
			c.pieces++
		}
	}
	c.verified += time.Since(answered)
	c.queues[k] = append(q[:0], q[n:]...)
}

// again makes all that is verified missing again, outside what is measured.
func (c *crowd) again() {
	for k, p := range c.peers {
		c.s.ReturnAll(p)
		c.queues[k] = c.queues[k][:0]
	}
	for i := range c.stored {
		c.s.Failed(i)
		c.s.suspect.Clear(i)
		c.stored[i] = 0
	}
	c.s.failed = c.s.failed[:0]
}

// BenchmarkBlock is the cost of one block, asked and received, verdict of its piece included.
func BenchmarkBlock(b *testing.B) {
	for _, tt := range []struct{ pieces, blocks, peers, window int }{
		{1024, 64, 8, 64},
		{10_000, 16, 200, 32},
		{10_000, 1, 200, 32},
		{10_000, 64, 200, 250},
		{262_144, 16, 200, 32},
		{262_144, 1, 200, 250},
	} {
		b.Run(fmt.Sprintf("pieces=%d/blocks=%d/peers=%d/window=%d", tt.pieces, tt.blocks, tt.peers, tt.window), func(b *testing.B) {
			c := newCrowd(b, tt.pieces, tt.blocks, tt.peers, tt.window)
			for range 40 * tt.peers { // until the records of open pieces are there
				c.turn(c.s.rng.IntN(tt.peers))
			}
			c.again()
			c.arrived, c.nexts, c.pieces, c.next, c.received, c.verified = 0, 0, 0, 0, 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for k := 0; c.arrived < b.N; k++ {
				if c.s.Complete() {
					b.StopTimer()
					c.again()
					b.StartTimer()
				}
				c.turn(k % tt.peers)
			}
			b.ReportMetric(float64(c.next)/float64(c.nexts), "ns/Next")
			b.ReportMetric(float64(c.next)/float64(c.arrived), "ns/asked")
			b.ReportMetric(float64(c.received)/float64(c.arrived), "ns/Received")
			b.ReportMetric(float64(c.verified)/float64(max(c.pieces, 1)), "ns/Verified")
		})
	}
}

// BenchmarkNextAndReceived: one block a call, to a peer with everything and one with a hundredth.
func BenchmarkNextAndReceived(b *testing.B) {
	for _, k := range []int{0, 1, 3} {
		b.Run(fmt.Sprintf("peer=%s", [...]string{"all", "half", "", "few"}[k]), func(b *testing.B) {
			c := newCrowd(b, 10_000, 16, 200, 32)
			p, dst := c.peers[k], make([]Block, 0, 1)
			b.ReportAllocs()
			for b.Loop() {
				if dst = c.s.Next(p, 1, true, dst[:0]); len(dst) == 0 {
					b.StopTimer()
					c.again()
					b.StartTimer()
					continue
				}
				c.s.Received(p, dst[0])
				if i := int(dst[0].Piece); c.s.opened(i).hashing() {
					c.s.Verified(i)
				}
			}
		})
	}
}

// BenchmarkNothing is the cost of asking a peer that has nothing to give at present.
func BenchmarkNothing(b *testing.B) {
	for _, pieces := range []int{10_000, 262_144} {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			c := newCrowd(b, pieces, 16, 200, 32)
			p := c.s.Join()
			c.s.Have(p, pieces/2)
			c.s.Next(p, 16, true, nil)
			b.ReportAllocs()
			for b.Loop() {
				c.s.epoch++ // the worst case: it may have something again
				if len(c.s.Next(p, 1, true, nil)) > 0 {
					b.Fatal("it had something")
				}
			}
		})
	}
}

// BenchmarkHave is the cost of one have message and its loss.
func BenchmarkHave(b *testing.B) {
	c := newCrowd(b, 10_000, 16, 200, 32)
	p := c.s.Join()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.s.Have(p, i%10_000)
		c.s.Lost(p, i%10_000)
	}
}

// BenchmarkJoinLeave is the cost of a peer's coming, with half of the pieces, and going.
func BenchmarkJoinLeave(b *testing.B) {
	for _, pieces := range []int{10_000, 262_144} {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			c := newCrowd(b, pieces, 16, 200, 32)
			set := c.peers[1].have.Clone()
			b.ReportAllocs()
			for b.Loop() {
				p := c.s.Join()
				c.s.HaveSet(p, set)
				c.s.Leave(p)
			}
		})
	}
}

// TestSteadyStateAllocatesNothing holds the benchmarks' promise.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	c := newCrowd(t, 2000, 16, 50, 32)
	k := 0
	turn := func() {
		if c.s.Complete() {
			c.again()
		}
		c.turn(k % len(c.peers))
		k++
	}
	for range 10_000 {
		turn()
	}
	if n := testing.AllocsPerRun(2000, turn); n > 0 {
		t.Errorf("%v allocations a turn", n)
	}
}
