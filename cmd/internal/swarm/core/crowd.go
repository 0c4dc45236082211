package core

import "time"

// A flash crowd: many peers come at about the same time to a swarm where nobody has anything yet. If each of them dials as many as
// it may, those who come first fill their places with one another, and what they have trickles through few connections to
// those who come later: in the simulator a crowd of a thousand took five seconds longer. So in a new swarm we dial few, and leave the
// other places to who calls. A [Fetch] dials all it can: who has the metadata may be the last one that is asked.
const (
	// newSwarmFor is how long that lasts, at most: it may be that only those we have not dialed have something. In the simulator
	// 20 seconds cost a hundred, of whom a fifth were free riders, up to 2 % more, and 7 a crowd without riders 0.3 seconds.
	newSwarmFor = 10 * time.Second

	// newSwarmHas is the part of the torrent from which on peers, in the mean, make no new swarm.
	newSwarmHas = 8 // of so many parts one

	// newSwarmDials is the part of the places for those we dial, and leastDials how many they are at least.
	newSwarmDials = 8 // of so many one
	leastDials    = 4
)

// boundDials sets how many peers to dial, as the swarm looks now.
func (c *Core) boundDials() {
	s := &c.dialing
	if s.most = 0; !c.inNewSwarm() {
		return
	}
	s.most = max(leastDials, c.peering.MaxPeers/newSwarmDials)
	for _, a := range s.order {
		if a.state == dialing && c.now.Sub(a.due) >= tickEvery {
			s.most++ // most likely nobody is there
		}
	}
}

// inNewSwarm reports whether those we know have next to nothing. Where nobody has been met yet that may be so for a second after the
// first address was found.
func (c *Core) inNewSwarm() bool {
	age := time.Duration(0)
	if !c.dialing.since.IsZero() {
		age = c.now.Sub(c.dialing.since)
	}
	if len(c.links) == 0 {
		return age < tickEvery
	}
	pieces := 0
	for _, l := range c.links {
		pieces += c.pick.sched.PeerCount(l.sched)
	}
	return age < newSwarmFor && pieces < len(c.links)*c.cfg.Layout.Pieces()/newSwarmHas
}
