package core

import (
	"bittern/peer/rate"
	"bittern/peer/wire"
)

// tellState is about giving the metadata to peers that came by a magnet link (BEP 9). Nothing tells us when a
// peer has read a piece of it, so what waits in our memory for peers that do not read is bounded by rates.
type tellState struct {
	all     rate.Bucket // bytes to all peers
	waiting int         // pieces that peers wait for
	turn    int         // whose turn it is, so that no link always comes first
}

// telling is what one peer wants of the metadata.
type telling struct {
	asked []int       // pieces, oldest first; at most maxQueue
	sent  int         // pieces so far
	rate  rate.Bucket // bytes
}

const (
	tellRate     = 1 << 20   // bytes a second, and at once, to all
	tellLinkRate = 256 << 10 // bytes a second, and at once, to one

	// A peer may ask for all the metadata so many times, and for tellSpare pieces more: BEP 9 has clients
	// reject "after a certain number of them have been served".
	tellTimes = 3
	tellSpare = 16
)

func newTelling() telling { return telling{rate: rate.NewBucket(tellLinkRate, tellLinkRate)} }

func (s *tellState) init() { s.all = rate.NewBucket(tellRate, tellRate) }

// metadataPieces is how many pieces the metadata has.
func (c *Core) metadataPieces() int {
	return (len(c.cfg.Info) + wire.MetadataPiece - 1) / wire.MetadataPiece
}

// metadata takes a message about the metadata, which we have: only requests mean anything.
func (c *Core) metadata(l *link, payload []byte) {
	m, err := wire.ParseMetadata(payload)
	if err != nil {
		c.drop(l, err)
		return
	}
	if m.Type != wire.MetadataRequest || l.ext.M.UtMetadata == 0 {
		return
	}
	if m.Piece >= c.metadataPieces() || len(l.telling.asked) >= maxQueue ||
		l.telling.sent+len(l.telling.asked) >= tellTimes*c.metadataPieces()+tellSpare {
		c.tell(l, wire.Metadata{Type: wire.MetadataReject, Piece: m.Piece})
		if !c.bears(&l.contact, costRefused) {
			c.drop(l, errInsists)
		}
		return
	}
	l.telling.asked = append(l.telling.asked, m.Piece)
	c.telling.waiting++
}

// leave forgets what a link has asked for.
func (s *tellState) leave(l *link) {
	s.waiting -= len(l.telling.asked)
	l.telling.asked = nil
}

// tell sends a message about the metadata under the id that the peer gave it.
func (c *Core) tell(l *link, m wire.Metadata) {
	c.send(&l.contact, wire.Message{ID: wire.Extended, ExtID: l.ext.M.UtMetadata, Payload: wire.AppendMetadata(nil, m)})
}

// serveMetadata sends what was asked for as far as the rates allow, in turn. The rest waits for a Tick.
func (c *Core) serveMetadata() {
	if c.telling.waiting == 0 {
		return
	}
	for range c.links { // a limit on uploading holds for all the data that peers are given
		c.telling.turn++
		l := c.links[c.telling.turn%len(c.links)]
		t := &l.telling
		n := 0
		for n < len(t.asked) && c.limits.up.Open(c.now) && !t.rate.Ready(c.now).After(c.now) && c.telling.all.Take(c.now, wire.MetadataPiece) {
			i := t.asked[n]
			t.rate.Take(c.now, wire.MetadataPiece)
			data := c.cfg.Info[i*wire.MetadataPiece : min(len(c.cfg.Info), (i+1)*wire.MetadataPiece)]
			c.tell(l, wire.Metadata{Type: wire.MetadataData, Piece: i, TotalSize: int64(len(c.cfg.Info)), Data: data})
			n++
		}
		t.asked = t.asked[n:]
		t.sent += n
		c.telling.waiting -= n
	}
}
