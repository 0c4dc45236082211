package core

import (
	"net/netip"

	"bittern/piece"
)

// A Note says what the core has decided, and why, for a log. There are only notes where [Peering.Explain] asks for them:
// what nobody reads costs next to nothing and allocates nothing. So they are flat, with texts that are constants, and it
// is the shell that makes lines of them. They change nothing: with or without them the other effects are the same.
//
// Notes are effects so that they stand among those that they explain, in the order of the decisions.
type Note struct {
	What string // was decided: the same words for the same kind of decision
	Why  string // reason; "" means that What says it all
	Link LinkID // whom it is about; 0 means nobody connected
	Addr netip.AddrPort
	// Piece is the number of the piece it is about, counted from one; 0 means none.
	Piece  int
	Blocks int     // how many it is about; 0 means that the number does not matter
	Peers  int     // how many have the piece, or had a part in it, or are there
	Slots  int     // upload slots: how many peers are to be served
	Times  int     // how often it has happened before
	Rate   float64 // bytes/s that the decision rests on

	Received, Sent int64 // bytes of blocks in all, of one who leaves
}

// explain tells of a decision if anybody listens.
func (r *roster) explain(n Note) {
	if r.peering.Explain {
		listened := n // n itself stays off the heap
		r.emit(Effect{Op: Explain, Note: &listened})
	}
}

// explainAsks tells which blocks a peer is asked for. The blocks of one piece stand together.
func (c *Core) explainAsks(l *link, blocks []piece.Block) {
	if !c.peering.Explain {
		return
	}
	for from := 0; from < len(blocks); {
		i, to := int(blocks[from].Piece), from
		for to < len(blocks) && int(blocks[to].Piece) == i {
			to++
		}
		c.explain(Note{
			What: "ask", Why: c.pick.sched.Reason(i).String(), Link: l.id, Piece: i + 1, Blocks: to - from,
			Peers: c.pick.sched.Availability(i), Rate: l.down.Rate(c.now),
		})
		from = to
	}
}
