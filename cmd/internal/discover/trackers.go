package discover

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"bittern/tracker"
)

// A TrackersConfig sets up [Trackers].
type TrackersConfig struct {
	Client *tracker.Client // owned by the caller, who closes it after Run
	URLs   [][]string      // a torrent's announce-list; each inner list is a tier
	Rand   *rand.Rand      // used by NewTrackers only
	// Request returns what an announce says, with the counters as they are now; Event is filled in. It is called from several
	// goroutines, until Run has returned.
	Request func() tracker.Request
	// Emit takes what is found. It is called from several goroutines, may block while the context of Run lasts, and
	// must not block after that.
	Emit func(Found)
	// Changed, when not nil, is told the state of a tracker after each announce to it. It must not block.
	Changed func(tracker.Status)
	Log     *slog.Logger  // nil means discard
	Budget  time.Duration // for the farewell; 0 means 2 s
}

// Trackers is the source that announces to a torrent's trackers.
type Trackers struct {
	cfg   TrackersConfig
	tiers *tracker.Tiers
	watch watch

	mu     sync.Mutex
	warned map[string]string // by URL: the tracker's warning that was last logged
}

// NewTrackers returns the source; nothing is sent before Run.
func NewTrackers(cfg TrackersConfig) *Trackers {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Trackers{cfg: cfg, watch: systemWatch(), warned: make(map[string]string)}
	t.tiers = tracker.NewTiers(tracker.TiersConfig{
		URLs: cfg.URLs, Rand: cfg.Rand, Request: cfg.Request, Budget: cfg.Budget,
		Announce: cfg.Client.AnnounceEach,
		Found:    t.found,
		Report:   t.report,
	})
	return t
}

// Run announces until ctx ends, then says "completed", when that is owed, and "stopped" to the trackers that know us, in two seconds at most.
func (t *Trackers) Run(ctx context.Context) {
	for _, s := range t.tiers.Status() {
		if s.Dead {
			t.cfg.Log.Warn("tracker left out", "tracker", tracker.Label(s.URL), "error", s.Err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { t.watch.run(ctx, t.tiers.NetworkBack) })
	t.tiers.Run(ctx)
}

// Completed says that the download has just become complete. It never blocks.
func (t *Trackers) Completed() { t.tiers.Completed() }

// NeedPeers asks for more addresses as soon as the trackers allow. It never blocks.
func (t *Trackers) NeedPeers() { t.tiers.NeedPeers() }

// Status returns the state of every tracker, by tier, in the order they are tried.
func (t *Trackers) Status() []tracker.Status { return t.tiers.Status() }

// Exhausted implements [Source].
func (t *Trackers) Exhausted() bool { return t.tiers.Exhausted() }

func (t *Trackers) found(url string, r tracker.Response) {
	if len(r.Peers) > 0 {
		t.cfg.Emit(Found{Addrs: r.Peers, Source: "tracker " + tracker.Label(url), Loopback: tracker.IsLoopback(url)})
	}
}

// report logs an announce's end: failures of a tracker that works otherwise, or that has just begun to fail, are worth a
// warning once; the rest is detail.
func (t *Trackers) report(s tracker.Status) {
	label := tracker.Label(s.URL)
	switch {
	case s.Err != nil && s.Failures == 1:
		t.cfg.Log.Warn("announce failed", "tracker", label, "error", s.Err)
	case s.Err != nil:
		t.cfg.Log.Debug("announce failed", "tracker", label, "error", s.Err, "failures", s.Failures)
	default:
		t.cfg.Log.Debug("announced", "tracker", label, "peers", s.Peers, "seeders", s.Seeders, "leechers", s.Leechers)
	}
	if s.Warning != "" && t.news(s.URL, s.Warning) {
		t.cfg.Log.Warn("tracker warns", "tracker", label, "warning", s.Warning)
	}
	if t.cfg.Changed != nil {
		t.cfg.Changed(s)
	}
}

// news reports whether a tracker's warning differs from its last.
func (t *Trackers) news(url, warning string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := t.warned[url] != warning
	t.warned[url] = warning
	return fresh
}

// watchEvery is how often the machine's network is looked at.
const watchEvery = 20 * time.Second

// slack is by how much wall clock and monotonic clock may drift apart between two looks before we take it that the machine slept.
const slack = 30 * time.Second

// A watch notices that the machine has slept or that its addresses have changed.
type watch struct {
	addrs func() ([]string, error) // the machine's addresses
	wall  func() time.Time         // the wall clock, without monotonic reading
}

// run calls back after each change, until ctx ends.
func (w watch) run(ctx context.Context, back func()) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	known, err := w.addrs()
	seen, mono := w.wall(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, errNow := w.addrs()
		wall := w.wall()
		slept := wall.Sub(seen)-time.Since(mono) > slack // Linux stops the monotonic clock in suspend
		changed := errNow == nil && (err != nil || !slices.Equal(now, known))
		if slept || changed && len(now) > 0 {
			back()
		}
		if errNow == nil {
			known, err = now, nil
		}
		seen, mono = wall, time.Now()
	}
}
