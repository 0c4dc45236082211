package core

import (
	"bittern/piece"
)

// An ask is one request we sent.
type ask struct {
	block piece.Block
	state askState
}

type askState uint8

const (
	askLive   askState = iota // we count on it
	askLost                   // given back to the scheduler, but an answer may still come
	askClosed                 // answered
)

// maxLost bounds how many lost requests of one peer are remembered: more than any peer can have
// in its queue, so that none of its late answers looks like one we never asked for.
const maxLost = 2 * mostWindow

// An askQueue holds the requests one peer has not answered, oldest first. Peers answer mostly in
// order, so looking one up costs a step; the slice is reused, so asking allocates nothing in
// steady state.
type askQueue struct {
	asks []ask
	head int // asks before it are closed
	live int
	lost int
}

func (q *askQueue) push(b piece.Block) {
	if q.head > len(q.asks)/2 && q.head >= 64 {
		q.asks = q.asks[:copy(q.asks, q.asks[q.head:])]
		q.head = 0
	}
	q.asks = append(q.asks, ask{block: b})
	q.live++
}

// take closes the request for b and returns what it was; ok is false if there is none.
func (q *askQueue) take(b piece.Block) (was askState, ok bool) {
	for i := q.head; i < len(q.asks); i++ {
		a := &q.asks[i]
		if a.block != b || a.state == askClosed {
			continue
		}
		was = a.state
		q.close(i)
		return was, true
	}
	return 0, false
}

func (q *askQueue) close(i int) {
	if q.asks[i].state == askLive {
		q.live--
	} else {
		q.lost--
	}
	q.asks[i].state = askClosed
	q.trim()
}

func (q *askQueue) trim() {
	for q.head < len(q.asks) && q.asks[q.head].state == askClosed {
		q.head++
	}
	if q.head == len(q.asks) {
		q.asks, q.head = q.asks[:0], 0
	}
}

// lose marks the live request for b as lost.
func (q *askQueue) lose(b piece.Block) bool {
	for i := q.head; i < len(q.asks); i++ {
		if a := &q.asks[i]; a.block == b && a.state == askLive {
			a.state = askLost
			q.live--
			q.lost++
			return true
		}
	}
	return false
}

// loseAll marks every live request as lost and returns how many there were. Of too many lost ones
// the oldest are forgotten.
func (q *askQueue) loseAll() (n int) {
	for i := q.head; i < len(q.asks); i++ {
		if q.asks[i].state == askLive {
			q.asks[i].state = askLost
			n++
		}
	}
	q.live, q.lost = 0, q.lost+n
	for i := q.head; q.lost > maxLost; i++ {
		if q.asks[i].state == askLost {
			q.asks[i].state = askClosed
			q.lost--
		}
	}
	q.trim()
	return n
}

// clear forgets everything: nothing that was asked will be answered.
func (q *askQueue) clear() { q.asks, q.head, q.live, q.lost = q.asks[:0], 0, 0, 0 }
