package tracker

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// sweepEvery is how often a swarm is searched for peers that have gone silent.
const sweepEvery = 10 * time.Second

// A registry is what the embedded tracker knows: swarms and their peers, bounded in both. It holds no lock and takes the
// time from its caller.
type registry struct {
	swarms   map[[20]byte]*members
	open     bool          // serve any info-hash
	swarmMax int           // when open
	peerMax  int           // in a swarm
	hostMax  int           // peers of one address in a swarm; hosts on this machine are exempt
	life     time.Duration // of a peer that does not announce
	rng      *rand.Rand
	order    []int // reused by pick
}

// members is one swarm.
type members struct {
	list       []*member // no order
	at         map[netip.AddrPort]int
	hosts      map[netip.Addr]int
	downloaded int64
	swept      time.Time
}

// A member is one peer of a swarm.
type member struct {
	addr netip.AddrPort
	id   [20]byte
	left int64 // bytes
	part bool  // a partial seed (BEP 21)
	seen time.Time
}

func (m *member) seeder() bool { return m.left == 0 }

// wants reports whether the peer downloads.
func (m *member) wants() bool { return m.left > 0 && !m.part }

// A tally is what is counted of a swarm.
type tally struct {
	Counts
	downloaders int // of the leechers, those that are no partial seeds (BEP 21)
}

// swarm returns the swarm of a torrent, nil when it is not served here.
func (g *registry) swarm(now time.Time, hash [20]byte) *members {
	s := g.swarms[hash]
	if s != nil || !g.open {
		return s
	}
	if len(g.swarms) >= g.swarmMax {
		for h, s := range g.swarms { // swarms that everybody has left
			if s.sweep(now, g.life); len(s.list) == 0 {
				delete(g.swarms, h)
			}
		}
		if len(g.swarms) >= g.swarmMax {
			return nil
		}
	}
	return g.allow(hash)
}

// allow adds a torrent to those served.
func (g *registry) allow(hash [20]byte) *members {
	s := g.swarms[hash]
	if s == nil {
		s = &members{at: make(map[netip.AddrPort]int), hosts: make(map[netip.Addr]int)}
		g.swarms[hash] = s
	}
	return s
}

// announce records what the peer at addr says. A peer that does not fit is answered but not kept.
func (g *registry) announce(now time.Time, s *members, addr netip.AddrPort, r Request) {
	s.sweep(now, g.life)
	i, known := s.at[addr]
	if r.Event == Stopped {
		if known {
			s.remove(i)
		}
		return
	}
	if addr.Port() == 0 { // it takes no connections
		return
	}
	if !known {
		if len(s.list) >= g.peerMax || s.hosts[addr.Addr()] >= g.hostMax && !addr.Addr().IsLoopback() {
			return
		}
		i = len(s.list)
		s.list, s.at[addr] = append(s.list, &member{addr: addr, left: r.Left}), i
		s.hosts[addr.Addr()]++
	}
	m := s.list[i]
	if r.Event == Completed && known && !m.seeder() {
		s.downloaded++
	}
	m.id, m.left, m.part, m.seen = r.PeerID, r.Left, r.Partial, now
}

// remove drops the peer at index i.
func (s *members) remove(i int) {
	m, last := s.list[i], len(s.list)-1
	s.list[i] = s.list[last]
	s.at[s.list[i].addr] = i
	s.list[last] = nil
	s.list = s.list[:last]
	delete(s.at, m.addr)
	if s.hosts[m.addr.Addr()]--; s.hosts[m.addr.Addr()] == 0 {
		delete(s.hosts, m.addr.Addr())
	}
}

// sweep drops peers that have been silent for life.
func (s *members) sweep(now time.Time, life time.Duration) {
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	for i := len(s.list) - 1; i >= 0; i-- {
		if now.Sub(s.list[i].seen) >= life {
			s.remove(i)
		}
	}
}

// counts returns how many peers have everything and how many have not.
func (s *members) counts() tally {
	c := tally{Counts: Counts{Downloaded: s.downloaded}}
	for _, m := range s.list {
		if m.seeder() {
			c.Seeders++
		} else {
			c.Leechers++
		}
		if m.wants() {
			c.downloaders++
		}
	}
	return c
}

// pick calls yield for up to n peers that fit, drawn at random. It leaves out the one that asks, and if that wants nothing the
// others that do not either.
func (g *registry) pick(s *members, asks netip.AddrPort, wants bool, n int, fits func(netip.Addr) bool, yield func(*member)) {
	g.order = g.order[:0]
	for i := range s.list {
		g.order = append(g.order, i)
	}
	for k := 0; k < len(g.order) && n > 0; k++ {
		j := k + g.rng.IntN(len(g.order)-k)
		g.order[k], g.order[j] = g.order[j], g.order[k]
		m := s.list[g.order[k]]
		if m.addr == asks || !wants && !m.wants() || !fits(m.addr.Addr()) {
			continue
		}
		yield(m)
		n--
	}
}
