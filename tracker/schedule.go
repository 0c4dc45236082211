package tracker

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// What is waited for after a failure. A network that is down comes back without notice, so it is asked often; a
// tracker that said no is left in peace.
const (
	netBackoff    = 5 * time.Second  // doubling
	maxNetBackoff = 60 * time.Second // so that the return of the network is seen within a minute
	noBackoff     = time.Minute      // after a refusal, doubling
	maxNoBackoff  = 30 * time.Minute
	morePause     = 5 * time.Minute // between announces for want of peers, where the tracker names no minimum
)

// maxTrackers bounds how many trackers of one torrent are used; the rest is left out.
const maxTrackers = 512

// An entry is one tracker of a torrent. Times are given by the caller.
type entry struct {
	url       string
	tier      int
	started   bool      // it has answered "started"
	owed      bool      // it is to hear "completed"
	dead      bool      // never to be tried again
	failures  int       // in a row
	tried     int       // failures since any tracker of the tier has answered
	network   bool      // the last failure was the network's
	notBefore time.Time // not tried sooner
	lastOK    time.Time
	last      Response // Peers left out
	peers     int      // in the last answer
	err       error    // of the last announce
}

// A tier is a list of trackers of which one at a time is announced to (BEP 12). It is state without goroutines: the
// caller asks due, announces, and reports to answered or failed.
type tier struct {
	order []*entry // "if a connection with a tracker is successful, it will be moved to the front of the tier"
	busy  bool     // an announce is under way
	next  time.Time
	last  time.Time     // the last answer
	pause time.Duration // the least time between announces for want of peers
}

// newTiers makes the state for a torrent's trackers: "URLs within each tier will be processed in a randomly chosen
// order". A URL that appears twice counts where it stands first; one that can never work is dead from the start.
func newTiers(urls [][]string, rng *rand.Rand) []*tier {
	var out []*tier
	seen := make(map[string]bool)
	for _, list := range urls {
		t := new(tier)
		for _, u := range list {
			if seen[u] || len(seen) == maxTrackers {
				continue
			}
			seen[u] = true
			e := &entry{url: u, tier: len(out)}
			_, e.err = parseEndpoint(u)
			e.dead = e.err != nil
			t.order = append(t.order, e)
		}
		if len(t.order) > 0 {
			rng.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
			out = append(out, t)
		}
	}
	return out
}

// due returns the tracker to announce to now and the event, or nil and when to ask again; a zero time means not
// before something happens.
func (t *tier) due(now time.Time) (e *entry, ev Event, at time.Time) {
	if t.busy {
		return nil, None, at
	}
	for _, e := range t.order {
		switch {
		case !e.owed || !e.started || e.dead:
		case !e.notBefore.After(now):
			return e, Completed, at
		default:
			at = earlier(at, e.notBefore)
		}
	}
	if t.next.After(now) {
		if !t.allDead() {
			at = earlier(at, t.next)
		}
		return nil, None, at
	}
	for _, o := range t.order {
		switch {
		case o.dead:
		case o.notBefore.After(now):
			at = earlier(at, o.notBefore)
		case e == nil || o.tried < e.tried: // all are tried once before one is tried again, however long that takes
			e = o
		}
	}
	switch {
	case e == nil:
		return nil, None, at
	case !e.started: // each tracker hears "started" first, also one that others failed over to
		return e, Started, at
	}
	return e, None, at
}

func (t *tier) allDead() bool {
	return !slices.ContainsFunc(t.order, func(e *entry) bool { return !e.dead })
}

// answered records that e answered ev with r.
func (t *tier) answered(now time.Time, e *entry, ev Event, r Response) {
	t.busy = false
	e.failures, e.err, e.notBefore, e.lastOK = 0, nil, time.Time{}, now
	e.peers, e.last = len(r.Peers), r
	e.last.Peers = nil
	for _, o := range t.order {
		o.tried = 0
	}
	switch ev {
	case Started:
		e.started = true
	case Completed:
		e.owed = false
	}
	if i := slices.Index(t.order, e); i > 0 && ev != Completed { // "completed" also goes to trackers that do not lead
		copy(t.order[1:i+1], t.order[:i])
		t.order[0] = e
	}
	t.last, t.next = now, now.Add(max(r.Interval, r.MinInterval))
	if t.pause = r.MinInterval; t.pause == 0 {
		t.pause = max(minInterval, min(r.Interval, morePause))
	}
}

// failed records that an announce to e failed; the tier's next tracker is due at once.
func (t *tier) failed(now time.Time, e *entry, ev Event, err error) {
	t.busy = false
	e.owed = e.owed && ev != Started // its next "started" will say that nothing is left
	e.failures++
	e.tried++
	e.err, e.network = err, false
	var refusal *FailureError
	var status *StatusError
	wait := time.Duration(0)
	switch {
	case errors.Is(err, ErrURL):
		e.dead = true
	case errors.As(err, &refusal):
		e.dead, wait = refusal.Never, refusal.RetryIn
	case errors.As(err, &status):
		wait = status.RetryIn
	case !errors.Is(err, ErrAnswer):
		e.network, wait = true, backoff(netBackoff, maxNetBackoff, e.failures)
	}
	if wait == 0 {
		wait = backoff(noBackoff, maxNoBackoff, e.failures)
	}
	e.notBefore = now.Add(wait)
}

// complete notes that the download has become complete: "completed" goes to those that heard "started", or are hearing it now.
func (t *tier) complete(starting func(*entry) bool) {
	for _, e := range t.order {
		e.owed = e.started || starting(e)
	}
}

// needPeers brings the next announce forward as far as the tracker allows.
func (t *tier) needPeers(now time.Time) {
	if !t.last.IsZero() {
		t.next = earlier(t.next, later(now, t.last.Add(t.pause)))
	}
}

// networkBack brings the next announce forward because the network has come back or our address has changed.
func (t *tier) networkBack(now time.Time) {
	for _, e := range t.order {
		if e.network {
			e.notBefore = earlier(e.notBefore, now)
		}
	}
	if !t.last.IsZero() {
		t.next = earlier(t.next, later(now, t.last.Add(minInterval)))
	}
}

// exhausted reports whether no tracker of the tier is left that has failed fewer than n times in a row.
func (t *tier) exhausted(n int) bool {
	return !slices.ContainsFunc(t.order, func(e *entry) bool { return !e.dead && e.failures < n })
}

// backoff returns first doubled for every failure after the first, at most limit.
func backoff(first, limit time.Duration, failures int) time.Duration {
	for ; failures > 1 && first < limit; failures-- {
		first *= 2
	}
	return min(first, limit)
}

// earlier returns the earlier of two times; a zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
