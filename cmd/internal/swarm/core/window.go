package core

import (
	"math"
	"time"

	"bittern/piece"
)

// A window says how many blocks to keep outstanding at one peer, so that its link never runs dry
// while we wait for a round trip. In the ramp it follows bandwidth times delay without measuring the delay:
// a round ends when the block that was asked for last at its beginning has come, and the window grows by one block for every
// block that comes, so it doubles every round. The ramp ends when three rounds brought no more throughput (as BBR leaves its
// start-up), or when a round has taken longer than [horizon], so that the queue at a slow peer does not grow. From then on the
// window holds what the peer sends in [horizon]: long enough for most round trips and for peers that upload in pulses of half a
// second, short enough that a slow peer does not sit on blocks which others could bring.
//
// Where the round trip is longer than that (a satellite, a line whose modem queues for seconds) such a window would shrink
// without end, for the rate is the window by the round trip. So the window looks ahead for twice the least time that an answer
// has taken. The least, because answers also wait in the peer's queue, as long as the window makes them, or
// until it is our turn; hardly one waits for all of that. A round trip that becomes longer is believed only when
// nothing is left to shrink: what fewest requests wait for is hardly each other. (Of a peer that sends a few blocks in a
// second it may be; it owes us no more than it sends in mostAhead for that.)
type window struct {
	size int // blocks to keep outstanding

	ramp bool
	flat int     // rounds without growth
	best float64 // blocks/s of the best round

	asked    int // requests sent so far
	answered int // blocks received so far

	roundEnd   int // the round ends when so many blocks are answered
	roundFrom  int // blocks answered when it began
	roundStart time.Time

	trip     time.Duration // the least time that an answer has taken; 0 before the first
	lastTrip time.Duration // the same, of those since the last tick
	least    int           // for so many ticks the window has been as small as it gets
}

const (
	firstWindow = 16
	leastWindow = 4
	mostWindow  = 1500
	horizon     = time.Second
	mostAhead   = 4 * time.Second
	leastFor    = 4  // ticks
	enoughTrips = 32 // answers, before the least time of any says how far away the peer is

	rampGrowth = 1.25 // a round must beat the best one by this to count as growth
	rampRounds = 3
)

func newWindow() window { return window{ramp: true, size: firstWindow} }

// ask notes n requests sent at now.
func (w *window) ask(now time.Time, n int) {
	if w.asked == w.answered { // nothing was outstanding: a new round begins here
		w.begin(now, n)
	}
	w.asked += n
}

func (w *window) begin(now time.Time, n int) {
	w.roundStart, w.roundFrom, w.roundEnd = now, w.answered, w.asked+n
}

// answer notes one block received at now, trip after it was asked for.
func (w *window) answer(now time.Time, trip time.Duration) {
	w.trip, w.lastTrip = shorter(w.trip, trip), shorter(w.lastTrip, trip)
	w.answered++
	took := now.Sub(w.roundStart)
	if w.ramp && took <= horizon {
		w.size = min(w.size+1, mostWindow)
	}
	if w.answered < w.roundEnd {
		return
	}
	switch {
	case took > horizon: // it holds that much already: what it waits for is itself
		w.ramp = false
	case took > 0 && w.ramp:
		w.judge(float64(w.answered-w.roundFrom) / took.Seconds())
	}
	w.begin(now, 0)
}

// judge ends the ramp once rounds stop bringing more.
func (w *window) judge(rate float64) {
	if rate > w.best*rampGrowth {
		w.best, w.flat = rate, 0
		return
	}
	w.best = math.Max(w.best, rate)
	if w.flat++; w.flat >= rampRounds {
		w.ramp = false
	}
}

// forgive notes n requests that will not be answered.
func (w *window) forgive(n int) { w.answered += n }

// follow sets the size after the ramp from the peer's rate in bytes/s, once a tick.
func (w *window) follow(rate float64) {
	if w.ramp {
		return
	}
	if w.least++; w.size > leastWindow {
		w.least = 0
	}
	if w.least >= leastFor {
		w.trip = max(w.trip, w.lastTrip)
	}
	w.lastTrip = 0
	blocks := rate * w.ahead().Seconds() / piece.BlockSize
	w.size = int(math.Min(math.Max(blocks, leastWindow), mostWindow))
}

// ahead is what time of the peer's sending the window covers.
func (w *window) ahead() time.Duration {
	if w.answered < enoughTrips {
		return horizon
	}
	return min(max(horizon, 2*w.trip), mostAhead)
}

// shorter returns the lesser of two times, of which a zero one is not known.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// restart makes the window small after the peer has let us down; nothing is outstanding then.
func (w *window) restart() { *w = window{size: 1, ramp: true} }
