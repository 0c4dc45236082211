package core

import (
	"math"
	"time"

	"bittern/piece"
)

// A window says how many blocks to keep outstanding at one peer, so that its link never runs dry
// while we wait for a round trip. It follows bandwidth times delay without measuring the delay:
// a round ends when the block that was asked for last at its beginning has come, and in the ramp
// the window grows by one block for every block that comes, so it doubles every round. The ramp
// ends when three rounds brought no more throughput (as BBR leaves its start-up), or when a round has
// taken longer than [horizon], so that the queue at a slow peer does not grow. From then on the
// window holds what the peer sends in [horizon]: long enough for the longest round trip in use
// and for peers that upload in pulses of half a second, short enough that a slow peer does not sit
// on blocks which others could bring.
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
}

const (
	firstWindow = 16
	leastWindow = 4
	mostWindow  = 1500
	horizon     = time.Second

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

// answer notes one block received at now.
func (w *window) answer(now time.Time) {
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

// follow sets the size after the ramp from the peer's rate in bytes/s.
func (w *window) follow(rate float64) {
	if w.ramp {
		return
	}
	blocks := rate * horizon.Seconds() / piece.BlockSize
	w.size = int(math.Min(math.Max(blocks, leastWindow), mostWindow))
}

// restart makes the window small after the peer has let us down; nothing is outstanding then.
func (w *window) restart() { *w = window{size: 1, ramp: true} }
