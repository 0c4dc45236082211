package core

import "time"

// A flash crowd: many peers come at about the same time to a swarm where nobody has anything yet. If each of them dials as many as
// it may, those who come first fill their places with one another, and what they have trickles through few connections to
// those who come later: in the simulator a crowd of a thousand took five seconds longer. So in a new swarm we dial few, and leave the
// other places to who calls. A [Fetch] dials all it can: who has the metadata may be the last one that is asked.
const (
	// newSwarmFor is how long that lasts, at most: it may be that only those we have not dialed have something.
	newSwarmFor = 20 * time.Second

	// newSwarmHas is the part of the torrent from which on peers, in the mean, make no new swarm.
	newSwarmHas = 8 // of so many parts one

	// newSwarmDials is the part of the places for those we dial.
	newSwarmDials = 8 // of so many one
)

// boundDials sets how many peers to dial, as the swarm looks now.
func (c *Core) boundDials() {
	c.dialing.most = 0
	if c.inNewSwarm() {
		c.dialing.most = max(1, c.peering.MaxPeers/newSwarmDials)
	}
}

// inNewSwarm reports whether those we know have next to nothing. Where nobody has been met yet that may be so for a second.
func (c *Core) inNewSwarm() bool {
	age := c.now.Sub(c.start)
	if len(c.links) == 0 {
		return age < tickEvery
	}
	pieces := 0
	for _, l := range c.links {
		pieces += c.pick.sched.PeerCount(l.sched)
	}
	return age < newSwarmFor && pieces < len(c.links)*c.cfg.Layout.Pieces()/newSwarmHas
}
