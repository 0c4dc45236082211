package core

import (
	"slices"
	"time"

	"bittern/peer/rate"
	"bittern/piece"
)

// An ask is one request we count on. One that was answered has the zero block.
type ask struct {
	block piece.Block
	at    time.Duration // when it was sent, since the start of the core
}

// maxLate bounds how many given-up requests of one peer are remembered: more than any peer can have
// in its queue, so that none of its late answers looks like one we never asked for.
const maxLate = 2 * mostWindow

// An askQueue holds the requests one peer has not answered, oldest first. Peers answer mostly in
// order, so looking one up costs a step; the slices are reused, so asking allocates nothing in
// steady state.
//
// A request we have given up (a choke, a time-out, another peer was quicker) is late: others may be
// asked for its block, but its answer is still welcome.
type askQueue struct {
	asks []ask
	head int // asks before it are answered
	live int // asks not answered

	late  []piece.Block
	stale int // late ones at the front that do not fill the peer's queue any more

	// answers says that the peer answers every request, even those we have cancelled (BEP 6), so
	// that late ones fill its queue until it does.
	answers bool

	// reserved is what live requests have taken their answers' bytes from; it gets them back as these end, which is
	// before the answer itself is counted or when there will be none. Nil means that nothing was taken.
	reserved *rate.Bucket
}

// lost returns how many requests that we have given up are still in the peer's queue.
func (q *askQueue) lost() int { return len(q.late) - q.stale }

func (q *askQueue) push(b piece.Block, at time.Duration) {
	if q.head > len(q.asks)/2 && q.head >= 16 {
		q.asks = q.asks[:copy(q.asks, q.asks[q.head:])]
		q.head = 0
	}
	q.asks = append(q.asks, ask{b, at})
	q.live++
}

// find returns the index of the live request for b, or -1.
func (q *askQueue) find(b piece.Block) int {
	for i := q.head; i < len(q.asks); i++ {
		if q.asks[i].block == b {
			return i
		}
	}
	return -1
}

// take closes the request for b. It reports whether there was one, and whether we counted on it; if so, when it was sent.
func (q *askQueue) take(b piece.Block) (at time.Duration, live, ok bool) {
	if i := q.find(b); i >= 0 {
		at = q.asks[i].at
		q.close(i)
		return at, true, true
	}
	i := slices.Index(q.late, b)
	if i < 0 {
		return 0, false, false
	}
	q.late = slices.Delete(q.late, i, i+1)
	if i < q.stale {
		q.stale--
	}
	return 0, false, true
}

// close ends the live request at i.
func (q *askQueue) close(i int) {
	if q.reserved != nil {
		q.reserved.Return(onWire(q.asks[i].block))
	}
	q.asks[i].block = piece.Block{}
	q.live--
	for q.head < len(q.asks) && q.asks[q.head].block == (piece.Block{}) {
		q.head++
	}
	if q.head == len(q.asks) {
		q.asks, q.head = q.asks[:0], 0
	}
}

// abandon ends all live requests.
func (q *askQueue) abandon() {
	for q.live > 0 {
		q.close(q.head)
	}
}

// lose gives up the live request for b and reports whether there was one.
func (q *askQueue) lose(b piece.Block) bool {
	i := q.find(b)
	if i < 0 {
		return false
	}
	q.close(i)
	q.add(b)
	return true
}

// add remembers a request that was given up. Of too many the oldest are forgotten.
func (q *askQueue) add(b piece.Block) {
	if len(q.late) == maxLate {
		q.late = slices.Delete(q.late, 0, maxLate/4)
		q.stale = max(0, q.stale-maxLate/4)
	}
	q.late = append(q.late, b)
	if !q.answers {
		q.expire()
	}
}

// expire stops counting what was given up: the peer will not answer it any more, or does not say so.
func (q *askQueue) expire() { q.stale = len(q.late) }

// overdue returns a request that was sent before then while a later one has been answered. There
// is one where a peer holds a block back: in order or not, others came.
func (q *askQueue) overdue(then time.Duration) (b piece.Block, ok bool) {
	if q.live == 0 || q.live == len(q.asks)-q.head || q.asks[q.head].at > then {
		return b, false
	}
	return q.asks[q.head].block, true
}
