package core

import (
	"bittern/peer/rate"
	"bittern/peer/wire"
)

// A peer may say what brings nobody on: it repeats itself, changes its mind, asks for what it cannot have. Some of that
// is in the nature of the protocol, where messages cross; a peer that does little else is a flood, and loses its place.
//
// So we have patience with each peer. It is a bucket of points, which what is of no use costs, and which time, blocks
// in either direction and news of ours give back. One account for all of it bounds what a peer can make us do, whichever
// way it finds. It is large against what can cross: a choke may meet hundreds of requests.
const (
	mostPatience  = 2048 // points
	patienceEvery = 20   // points that come back each second

	costIdle     = 1       // says nothing new: a keep-alive, a piece that we know it has, a cancel of nothing
	costRefused  = 1       // a request that we do not serve
	costWavering = 4       // a change of mind: choke and unchoke, interested and not; a reject of nothing
	costExtended = 8       // a message that takes parsing and may say nothing new; PEX comes once a minute (BEP 11)
	costUnasked  = 32      // a block that nobody asked for
	costReneged  = 32      // to have everything and then not: of large torrents the way there and back takes milliseconds
	pointBytes   = 1 << 10 // of messages that we do not know, for a point more

	worthBlock = 8 // a block that was asked for
	worthHave  = 8 // a have of ours: it may make the peer interested, and the piece that it then gets no longer so
)

func newPatience() rate.Bucket { return rate.NewBucket(patienceEvery, mostPatience) }

// bears takes the points that something costs, and reports whether there were any left.
func (r *roster) bears(l *contact, points int) bool {
	return points == 0 || l.patience.Take(r.now, points)
}

// cost returns the points that a message costs whatever it is about. What else it costs is told where it is handled.
func (r *roster) cost(l *contact, m *wire.Message, choked bool) int {
	switch m.ID {
	case wire.Choke, wire.Unchoke:
		return costOfMind(choked, m.ID == wire.Choke)
	case wire.Interested, wire.NotInterested:
		return costOfMind(l.interested, m.ID == wire.Interested)
	case wire.KeepAlive, wire.Port, wire.Suggest, wire.AllowedFast:
		return costIdle
	case wire.Extended:
		switch {
		case m.ExtID == 0, m.ExtID == r.peering.Ext.M.UtPex:
			return costExtended
		case m.ExtID != r.peering.Ext.M.UtMetadata:
			return costIdle + len(m.Payload)/pointBytes
		}
	}
	return 0
}

// costOfIdle returns the points that messages cost which say nothing.
func costOfIdle(ev *Event) int { return ev.N*costIdle + ev.Bytes/pointBytes }

// costOfMind returns what it costs to be of a mind again, or of another.
func costOfMind(was, is bool) int {
	if was == is {
		return costIdle
	}
	return costWavering
}

// bothers takes the points that something costs. If there were none left the peer is dropped.
func (c *Core) bothers(l *link, points int) bool {
	if c.bears(&l.contact, points) {
		return false
	}
	c.drop(l, errFlood)
	return true
}
