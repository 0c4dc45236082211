package sim

import (
	"math/rand/v2"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// FlashCrowd is the usual setting: one seed, n leechers that arrive within five seconds and stay,
// uplinks of 1 MiB/s, downlinks eight times that, one-way delays of 10 to 100 ms, and 64 MiB in
// pieces of 256 KiB.
func FlashCrowd(n int, seed uint64) Scenario {
	rng := rand.New(rand.NewPCG(seed, 0xf1a5))
	s := Scenario{Seed: seed, Size: 64 << 20, PieceLength: 256 << 10}
	for i := range n + 1 {
		p := Peer{Up: 1 << 20, Down: 8 << 20, Stay: -1, Delay: 5*time.Millisecond + upTo(rng, 45*time.Millisecond)}
		if i > 0 {
			p.Arrives = upTo(rng, 5*time.Second)
		}
		s.Peers = append(s.Peers, p)
	}
	s.Peers[0].Seed = true
	return s
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
