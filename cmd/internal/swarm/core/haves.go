package core

import (
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// lateHaves is what some peers are still to be told that we have, and for which it is too late to send a bitfield (BEP 3): those who
// were connected before the metadata came, what we had then; those who saw a super-seed, the rest, what they have themselves, too, so
// that they know us for a seed. They are told some pieces at a time: a hundred thousand for each of eighty would be more than is to be
// held at once.
type lateHaves struct {
	pieces piece.Bitfield // what we had when that began
	tellAt time.Time      // when to go on; zero if all is told
}

const (
	// Of these messages so many go out at once, to all peers together, and the next after tellEvery.
	mostTold  = 8 << 10
	tellEvery = 5 * time.Millisecond
)

// tellLater begins to tell some peers what we have.
func (c *Core) tellLater(whom func(l *link) bool) {
	c.late = lateHaves{pieces: c.pick.sched.HavePieces().Clone(), tellAt: c.now}
	for _, l := range c.links {
		if whom(l) {
			l.untold = c.late.pieces.Len()
		}
	}
}

// tellLate goes on with that.
func (c *Core) tellLate() {
	s := &c.late
	if !due(c.now, s.tellAt) {
		return
	}
	each, more := max(1, mostTold/max(1, len(c.links))), false
	for _, l := range c.links {
		if l.untold == 0 {
			continue
		}
		for left := each; l.untold > 0 && left > 0; l.untold-- {
			if i := s.pieces.Len() - l.untold; s.pieces.Has(i) && (l.showing == nil || l.showing.all.Set(i)) {
				c.tellHave(l, i)
				left--
			}
		}
		if l.untold > 0 {
			more = true
		} else {
			l.showing = nil // it sees everything now
		}
	}
	if s.tellAt = c.now.Add(tellEvery); !more {
		*s = lateHaves{}
	}
}

// tellHave tells a peer that we have piece i.
func (c *Core) tellHave(l *link, i int) {
	c.send(&l.contact, wire.Message{ID: wire.Have, Index: uint32(i)})
	l.patience.Give(worthHave)
}
