package sim

import (
	"math/rand/v2"
	"slices"
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
	s := Scenario{Seed: seed, Size: 64 * mib, PieceLength: 256 * kib}
	for i := range n + 1 {
		p := Peer{Up: mib, Down: 8 * mib, Stay: -1, Delay: delay(rng)}
		if i > 0 {
			p.Arrives = upTo(rng, 5*time.Second)
		}
		s.Peers = append(s.Peers, p)
	}
	s.Peers[0].Seed = true
	return s
}

// delay returns a share of a peer in the delay of its connections.
func delay(rng *rand.Rand) time.Duration { return 5*time.Millisecond + upTo(rng, 45*time.Millisecond) }

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// SlowLines is a flash crowd at a sixteenth of the usual rates, with a quarter of the content: a block takes a quarter of a
// second to go out.
func SlowLines(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Size /= 4
	for i := range s.Peers {
		s.Peers[i].Up /= 16
		s.Peers[i].Down /= 16
	}
	return s
}

// FastSeed is a flash crowd with a seed that has four times the uplink of the others.
func FastSeed(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Peers[0].Up *= 4
	return s
}

// Thirds is a flash crowd of which a third has the usual uplink, a third twice that and a third five times, with a
// seed of ten times.
func Thirds(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Peers[0].Up *= 10
	for i := 1; i <= n; i++ {
		s.Peers[i].Up *= thirds[i%3]
	}
	return s
}

var thirds = [3]int64{1, 2, 5}

// FreeRiders is a flash crowd of which a fifth uploads nothing.
func FreeRiders(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	for i := 5; i <= n; i += 5 {
		s.Peers[i].FreeRide = true
	}
	return s
}

// NoFreeRiders is the same swarm as [FreeRiders] without them.
func NoFreeRiders(n int, seed uint64) Scenario {
	s := FreeRiders(n, seed)
	s.Peers = slices.DeleteFunc(s.Peers, func(p Peer) bool { return p.FreeRide })
	return s
}

// SeedLeaves is a flash crowd whose seed goes when it has sent 1.1 copies.
func SeedLeaves(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Peers[0].Copies = 1.1
	s.Limit = 10 * s.Bound() // if the others lack something they lack it for ever
	return s
}

// Liars is a flash crowd of which a tenth corrupts a fifth of the blocks it sends.
func Liars(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	for i := 10; i <= n; i += 10 {
		s.Peers[i].Lies = 0.2
	}
	return s
}

const (
	// Churn plays for so long after the swarm has settled, which takes it churnSettles.
	churnPlays   = time.Minute
	churnSettles = time.Minute
)

// Churn is a swarm of about n leechers that come one by one, as a Poisson process, and go, complete or not, after
// stays that are exponential and in the mean a third of the time that a download takes at the rate of an
// uplink. It begins with n, as a flash crowd does.
func Churn(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	s.Limit = churnSettles + churnPlays
	rng := rand.New(rand.NewPCG(seed, 0xc0de))
	download := float64(s.Size) / float64(s.Peers[0].Up)
	mean := download / 3 // seconds
	stay := func() time.Duration { return time.Duration(mean * rng.ExpFloat64() * float64(time.Second)) }
	for i := 1; i <= n; i++ {
		s.Peers[i].Leaves = s.Peers[i].Arrives + stay()
	}
	for at := 0.0; at < s.Limit.Seconds(); at += mean / float64(n) * rng.ExpFloat64() {
		p := s.Peers[1]
		p.Delay = delay(rng)
		p.Arrives = time.Duration(at * float64(time.Second))
		p.Leaves = p.Arrives + stay()
		s.Peers = append(s.Peers, p)
	}
	return s
}

// Office is the setting that real clients are measured in: one seed and n leechers that start at once on a network
// without delays to speak of, each limited to 2 MiB/s up.
func Office(n int, seed uint64) Scenario {
	s := FlashCrowd(n, seed)
	for i := range s.Peers {
		p := &s.Peers[i]
		p.Up, p.Down = 2*mib, 1000*mib
		p.Delay, p.Arrives = 50*time.Microsecond, 0
	}
	return s
}
