package discover

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"bittern/dht"
)

const (
	// dhtAgain is when peers are looked for again, and ours is announced again: nodes forget it after half an hour
	// (the same in libtorrent).
	dhtAgain = 15 * time.Minute

	// With too few peers the DHT is asked sooner: after firstHungry, doubling up to lastHungry.
	firstHungry, lastHungry = 15 * time.Second, 5 * time.Minute

	// After a search that no node answered, or none that would take an announce: firstUnheard, doubling up to lastUnheard.
	firstUnheard, lastUnheard = 2 * time.Second, time.Minute
)

// A DHTConfig sets up [DHT].
type DHTConfig struct {
	Node     *dht.Node // run by Run; the caller may ask it things meanwhile
	InfoHash [20]byte
	// Announce returns what a search tells others of us, as it is now.
	Announce func() dht.Announce
	// Loopback says that the nodes to begin from are on this machine's loopback; see [Found].
	Loopback bool
	// Patient, when not nil, reports whether somebody waits for a peer to come, who has a time limit of his own. That no node
	// knows one yet does not exhaust the DHT then.
	Patient func() bool
	Emit    func(Found)  // takes what is found, as for [Trackers]
	Log     *slog.Logger // nil means discard
}

// DHT is the source that finds peers through the DHT (BEP 5), and announces ours there.
type DHT struct {
	cfg    DHTConfig
	watch  watch
	hungry chan struct{} // has one slot, full when peers are needed
	moved  chan struct{} // has one slot, full when the machine's network has changed

	vain atomic.Int32 // searches in a row that failed: nodes answered, and knew nobody
	at   time.Time    // when the last of them did; owned by Run
}

// NewDHT returns the source; nothing is sent before Run.
func NewDHT(cfg DHTConfig) *DHT {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &DHT{cfg: cfg, watch: systemWatch(), hungry: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
}

// Exhausted implements [Source]: three searches in a row found nobody, or no node is known, though three times some were asked
// to begin from.
func (d *DHT) Exhausted() bool {
	s := d.cfg.Node.Status()
	patient := d.cfg.Patient != nil && d.cfg.Patient()
	return !patient && d.vain.Load() >= failuresLost || s.IPv4+s.IPv6 == 0 && s.Failures >= failuresLost
}

// count counts a search that nodes have answered as failed or not, by the peers that it found other than ourselves. Those that
// come in quick succession, for the sake of an announce, are one.
func (d *DHT) count(peers int) {
	switch now := time.Now(); {
	case peers > 0:
		d.vain.Store(0)
	case d.at.IsZero() || now.Sub(d.at) >= firstHungry:
		d.at = now
		d.vain.Add(1)
	}
}

// NeedPeers asks for another search as soon as one makes sense. It never blocks.
func (d *DHT) NeedPeers() { fill(d.hungry) }

// fill fills a channel of one slot.
func fill(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run implements [Source]: it runs the node and searches until ctx ends.
func (d *DHT) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // should the node have ended by itself
	wg.Go(func() { d.cfg.Node.Run(ctx) })
	wg.Go(func() { d.watch.run(ctx, func() { fill(d.moved) }) })
	unheard, hungry := firstUnheard, firstHungry
	for ctx.Err() == nil {
		found, ours := 0, 0
		announce := d.cfg.Announce()
		r, err := d.cfg.Node.Search(ctx, d.cfg.InfoHash, announce, func(addrs []netip.AddrPort) {
			found += len(addrs)
			for _, a := range addrs {
				if a.Port() == announce.Port {
					ours++ // or, hardly ever, a stranger's: then it is still tried
				}
			}
			d.cfg.Emit(Found{Addrs: addrs, Source: "DHT", Loopback: d.cfg.Loopback})
		})
		if err != nil {
			return // ctx has ended, or the node has met a bug and told of it
		}
		d.cfg.Log.Debug("searched the DHT", "peers", found, "answered", r.Answered, "announced", r.Announced)
		if r.Answered > 0 {
			d.count(found - ours)
		}
		switch {
		case r.Answered == 0, announce.Port != 0 && r.Announced == 0:
			pause(ctx, unheard)
			unheard = min(2*unheard, lastUnheard)
		case d.rest(ctx, hungry):
			unheard, hungry = firstUnheard, min(2*hungry, lastHungry)
		default:
			unheard, hungry = firstUnheard, firstHungry
		}
	}
}

// rest waits until the next search is due, and reports whether it is because peers are needed: not before so much time has
// passed. When the machine's network has changed, others know us at an address that we have no longer.
func (d *DHT) rest(ctx context.Context, least time.Duration) bool {
	due, early := time.NewTimer(dhtAgain), time.NewTimer(least)
	defer due.Stop()
	defer early.Stop()
	var hungry chan struct{} // nil until then
	for {
		select {
		case <-early.C:
			hungry = d.hungry
			select { // what was needed before the search was
			case <-hungry:
			default:
			}
		case <-hungry:
			return true
		case <-d.moved:
			return false
		case <-due.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
