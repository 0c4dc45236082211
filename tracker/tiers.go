package tracker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	parallel       = 16 // announces under way at once
	parallelBye    = 64 // likewise at the end, when there is no time to queue
	farewellBudget = 2 * time.Second
)

// A TiersConfig sets up [Tiers].
type TiersConfig struct {
	URLs [][]string // a torrent's announce-list; each inner list is a tier. At most 512 URLs are used.
	Rand *rand.Rand // shuffles each tier once
	// Announce sends one announce; each is called as soon as an address family has answered. See [Client.AnnounceEach].
	Announce func(ctx context.Context, url string, r Request, each func(Response)) (Response, error)
	// Request returns what an announce says, with the counters as they are now; Event is filled in.
	// It is called from Run's goroutine and from farewells, until Run has returned.
	Request func() Request
	// Found takes the addresses that a tracker names. It is called from several goroutines, may block while
	// the context of Run lasts, and must not block after that.
	Found func(url string, r Response)
	// Report, when not nil, is told the state of a tracker after each announce to it, from Run's goroutine.
	Report func(Status)
	// Budget is the time for "completed" and "stopped" together once Run's context has ended; 0 means 2 s.
	Budget time.Duration
}

// A Status is what is known of one tracker.
type Status struct {
	URL      string // whole; show it with [Label]
	Tier     int    // from 0
	LastOK   time.Time
	Next     time.Time // of the next announce, as far as it is planned; zero when none is
	Failures int       // in a row
	Dead     bool      // never tried again
	Err      error     // of the last announce; nil after success
	Peers    int       // addresses in the last answer
	Seeders  int       // -1 when not said
	Leechers int       // likewise
	Warning  string
}

// Tiers keeps the trackers of one torrent told (BEP 12). All tiers are announced to at once: a tool that fetches one torrent and exits
// gains from every swarm it can reach, where the BEP would try a tier only after those before it. Within a tier the BEP's order
// holds: the next tracker is tried when one fails, and the one that answers moves to the front.
type Tiers struct {
	cfg  TiersConfig
	wake chan struct{} // holds one token: something below has changed

	mu        sync.Mutex
	completed bool
	hungry    bool
	back      bool
	status    []Status
	failed3   bool

	// ---- owned by Run ----
	tiers    []*tier
	flights  map[*entry]flight
	results  chan result
	finished bool // "completed" has been noted in every tier
	first    int  // index of the tier whose turn it is when announces must wait for one another
}

// A flight is an announce under way.
type flight struct {
	event  Event
	cancel context.CancelFunc
}

// A result is how a flight ended.
type result struct {
	entry *entry
	event Event
	resp  Response
	err   error
}

// NewTiers returns the trackers of one torrent; nothing is sent before Run.
func NewTiers(cfg TiersConfig) *Tiers {
	cfg.Budget = cmp.Or(cfg.Budget, farewellBudget)
	t := &Tiers{cfg: cfg, wake: make(chan struct{}, 1), flights: make(map[*entry]flight)}
	t.tiers = newTiers(cfg.URLs, cfg.Rand)
	t.results = make(chan result, len(t.tiers)) // a tier has one flight at most, so a send never blocks
	t.publish()
	return t
}

// Completed says that the download has just become complete. It never blocks.
func (t *Tiers) Completed() { t.note(func() { t.completed = true }) }

// NeedPeers asks for an announce as soon as the trackers allow one. It never blocks.
func (t *Tiers) NeedPeers() { t.note(func() { t.hungry = true }) }

// NetworkBack says that the network is there again or our address has changed: every tracker is announced to, at most
// a minute later. It never blocks.
func (t *Tiers) NetworkBack() { t.note(func() { t.back = true }) }

func (t *Tiers) note(set func()) {
	t.mu.Lock()
	set()
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Status returns the state of every tracker, by tier, in the order they are tried. The slice is the caller's.
func (t *Tiers) Status() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Status(nil), t.status...)
}

// Exhausted reports whether every tracker has failed three times in a row or is dead; true when there is none.
func (t *Tiers) Exhausted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed3
}

// Run announces until ctx ends. Then it tells the trackers that answered "started" that we have "completed", if so and not yet said, and
// "stopped", and returns after at most the budget. It must be called once.
func (t *Tiers) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		t.obey(now)
		at := t.launch(ctx, now)
		t.publish()
		timer.Stop()
		if !at.IsZero() {
			timer.Reset(at.Sub(now))
		}
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		case r := <-t.results:
			t.land(time.Now(), r)
		}
	}
	t.farewell(ctx)
	t.publish()
}

// obey applies what Completed, NeedPeers and NetworkBack asked for.
func (t *Tiers) obey(now time.Time) {
	t.mu.Lock()
	completed, hungry, back := t.completed && !t.finished, t.hungry, t.back
	t.hungry, t.back = false, false
	t.mu.Unlock()
	for _, tr := range t.tiers {
		if completed {
			tr.complete(func(e *entry) bool { return t.flights[e].event == Started })
		}
		if hungry {
			tr.needPeers(now)
		}
		if back {
			tr.networkBack(now)
		}
	}
	t.finished = t.finished || completed
}

// launch starts what is due and returns when to look again.
func (t *Tiers) launch(ctx context.Context, now time.Time) (at time.Time) {
	for i := range t.tiers {
		turn := (t.first + i) % len(t.tiers)
		tr := t.tiers[turn]
		e, ev, when := tr.due(now)
		if e == nil {
			at = earlier(at, when)
			continue
		}
		if len(t.flights) == parallel {
			t.first = turn     // else those in front, due again after a short time, would keep it waiting for ever
			return time.Time{} // a landing wakes the loop
		}
		// Not cancelled with ctx: "completed" must be heard once, so the farewell waits for it.
		fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		tr.busy = true
		t.flights[e] = flight{ev, cancel}
		go func() {
			defer cancel()
			resp, err := t.announce(fctx, e, ev)
			t.results <- result{e, ev, resp, err}
		}()
	}
	return at
}

// announce sends one announce; peers go out as soon as they are there. It may be called from any goroutine.
func (t *Tiers) announce(ctx context.Context, e *entry, ev Event) (Response, error) {
	r := t.cfg.Request()
	r.Event = ev
	return t.cfg.Announce(ctx, e.url, r, func(resp Response) {
		if ev != Stopped {
			t.cfg.Found(e.url, resp)
		}
	})
}

// land records the end of a flight.
func (t *Tiers) land(now time.Time, r result) {
	tr := t.tiers[r.entry.tier]
	delete(t.flights, r.entry)
	if r.err != nil {
		tr.failed(now, r.entry, r.event, r.err)
	} else {
		tr.answered(now, r.entry, r.event, r.resp)
	}
	if t.cfg.Report != nil {
		t.cfg.Report(t.describe(tr, r.entry))
	}
}

// farewell says what is owed to every tracker that has answered "started", all at once, within the budget.
func (t *Tiers) farewell(ctx context.Context) {
	t.obey(time.Now())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.cfg.Budget)
	defer cancel()
	for _, f := range t.flights {
		if f.event != Completed {
			f.cancel()
		}
	}
	half, stop := context.WithTimeout(ctx, t.cfg.Budget/2)
	defer stop()
	slots := make(chan struct{}, parallelBye)
	var wg sync.WaitGroup
	bye := func(e *entry) {
		if !e.started {
			return
		}
		owed := e.owed
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-slots }()
			t.bye(ctx, half, e, owed)
		})
	}
	for _, tr := range t.tiers {
		for _, e := range tr.order {
			if _, flying := t.flights[e]; !flying {
				bye(e)
			}
		}
	}
	t.awaitFlights(half, bye)
	wg.Wait()
}

// awaitFlights waits for the announces still under way and passes each tracker on once its own has landed. Those that
// have not landed when half ends are cancelled.
func (t *Tiers) awaitFlights(half context.Context, bye func(*entry)) {
	cut := half.Done()
	for len(t.flights) > 0 {
		select {
		case <-cut:
			cut = nil
			for _, f := range t.flights {
				f.cancel()
			}
		case r := <-t.results:
			delete(t.flights, r.entry)
			tr := t.tiers[r.entry.tier]
			if r.err == nil {
				tr.answered(time.Now(), r.entry, r.event, r.resp)
			}
			r.entry.owed = r.entry.owed && r.event != Completed // cut short or not, it is not sent twice
			bye(r.entry)
		}
	}
}

// bye says "completed", when owed, and "stopped", in this order. What fails now is not tried again: the tracker
// forgets us by itself.
func (t *Tiers) bye(ctx, half context.Context, e *entry, owed bool) {
	if owed {
		t.announce(half, e, Completed)
	}
	t.announce(ctx, e, Stopped)
}

// publish copies the state to where Status and Exhausted read it.
func (t *Tiers) publish() {
	out, failed3 := make([]Status, 0, len(t.status)), true
	for _, tr := range t.tiers {
		for _, e := range tr.order {
			out = append(out, t.describe(tr, e))
		}
		failed3 = failed3 && tr.exhausted(3)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.failed3 = out, failed3
}

func (t *Tiers) describe(tr *tier, e *entry) Status {
	s := Status{URL: e.url, Tier: e.tier, LastOK: e.lastOK, Failures: e.failures, Dead: e.dead, Err: e.err,
		Peers: e.peers, Seeders: e.last.Seeders, Leechers: e.last.Leechers, Warning: e.last.Warning}
	if e.lastOK.IsZero() {
		s.Seeders, s.Leechers = -1, -1
	}
	if !e.dead && !tr.busy {
		s.Next = later(tr.next, e.notBefore)
	}
	return s
}
