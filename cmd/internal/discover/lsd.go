package discover

import (
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The multicast groups of BEP 14.
var lsdGroups = []netip.AddrPort{
	netip.MustParseAddrPort("239.192.152.143:6771"),
	netip.MustParseAddrPort("[ff15::efc0:988f]:6771"),
}

const (
	// "it should send a LSD announce every 5 minutes […] a client should send no more than 1 announce
	// per minute" (BEP 14). The first few come sooner, because datagrams get lost.
	lsdEvery  = 5 * time.Minute
	lsdAtMost = time.Minute
	lsdFirst  = 3

	// lsdHopes is how long somebody is expected to answer. Most do at once; those who may not, because they have just announced,
	// within a minute. The DHT takes as long to say that it knows nobody.
	lsdHopes = 45 * time.Second

	maxNeighbours = 256              // remembered; more are not heard
	neighbourGone = 15 * time.Minute // after it was last heard
	receivePause  = time.Second      // after a failure to receive
)

// A Multicast is a membership in a group.
type Multicast interface {
	Send(b []byte) error
	// Receive waits for a datagram to the group; what does not fit into b is lost. After Close it
	// returns net.ErrClosed.
	Receive(b []byte) (n int, from netip.AddrPort, err error)
	Rejoin() error // for when the machine's addresses have changed; joining and sending are called from one goroutine
	Close() error
}

// An LSDConfig sets up [LSD].
type LSDConfig struct {
	InfoHash [20]byte
	Port     func() uint16 // where we listen for peers; 0 means nowhere, and then nothing is announced
	// Join joins a multicast group on the interfaces to be used.
	Join func(group netip.AddrPort) (Multicast, error)
	// Emit takes what is found. It may block while the context of Run lasts, and must not block after that.
	Emit func(Found)
	// OnPanic, when not nil, is told of a panic while a datagram was read, which is a bug of ours; nothing
	// more is received from its group then.
	OnPanic func(v any, stack []byte)
	Log     *slog.Logger // nil means discard
}

// LSD is the source of the peers on the local network (BEP 14, local service discovery): it announces to
// multicast groups that this machine takes part in a swarm, and hears who else does. It is not for
// private torrents (BEP 27). Where multicast is refused, that is logged and nothing is found.
type LSD struct {
	cfg    LSDConfig
	cookie string
	watch  watch
	done   atomic.Bool // nobody is expected to answer any more, or no group is joined

	// ---- owned by Run ----
	groups []Multicast // one for each of lsdGroups, nil where it is not joined
	plan   lsdPlan
	heard  map[netip.AddrPort]time.Time // when each neighbour was last emitted
}

// NewLSD returns the source; nothing is sent before Run.
func NewLSD(cfg LSDConfig) *LSD {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &LSD{
		cfg: cfg, cookie: crand.Text(), watch: systemWatch(),
		groups: make([]Multicast, len(lsdGroups)), heard: make(map[netip.AddrPort]time.Time),
	}
}

// Exhausted implements [Source]: whoever is there has had the time to answer the first announce, or no group could be
// joined. Peers that come later are still found.
func (l *LSD) Exhausted() bool { return l.done.Load() }

// Run implements [Source].
func (l *LSD) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.close()
	back := make(chan struct{}, 1)
	wg.Go(func() {
		l.watch.run(ctx, func() {
			select {
			case back <- struct{}{}:
			default: // it is going to join anyway
			}
		})
	})
	met := make(chan netip.AddrPort)
	join := func() {
		for i := range l.groups {
			if l.join(i) {
				g := l.groups[i]
				wg.Go(func() { l.listen(ctx, g, met) })
			}
		}
		l.plan.start(time.Now())
	}
	join()
	for timer := time.NewTimer(0); ; timer.Reset(l.plan.next(time.Now())) {
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			if now := time.Now(); !now.Before(l.plan.due) {
				l.announce(now)
			}
		case peer := <-met:
			l.meet(peer, time.Now())
		case <-back:
			join()
		}
		l.done.Store(!time.Now().Before(l.plan.hopes) || !slices.ContainsFunc(l.groups, func(g Multicast) bool { return g != nil }))
	}
}

// join joins a group, once more if it is joined already. It reports whether it is now and was not before.
func (l *LSD) join(i int) (fresh bool) {
	log := l.cfg.Log.With("group", lsdGroups[i])
	if g := l.groups[i]; g != nil {
		if err := g.Rejoin(); err != nil {
			log.Debug("cannot join the multicast group again", "error", err)
		}
		return false
	}
	g, err := l.cfg.Join(lsdGroups[i])
	if err != nil {
		log.Debug("cannot join the multicast group", "error", err)
		return false
	}
	l.groups[i] = g
	return true
}

// close leaves the groups, which ends listen.
func (l *LSD) close() {
	for i, g := range l.groups {
		if g == nil {
			continue
		}
		if err := g.Close(); err != nil {
			l.cfg.Log.Debug("leaving the multicast group", "group", lsdGroups[i], "error", err)
		}
	}
}

// announce tells the groups that we are there.
func (l *LSD) announce(now time.Time) {
	l.plan.announced(now)
	port := l.cfg.Port()
	if port == 0 {
		return
	}
	a := announcement{port: port, hashes: [][20]byte{l.cfg.InfoHash}, cookie: l.cookie}
	for i, g := range l.groups {
		if g == nil {
			continue
		}
		if err := g.Send(a.append(nil, lsdGroups[i].String())); err != nil {
			l.cfg.Log.Debug("announcing to the local network", "group", lsdGroups[i], "error", err)
		}
	}
}

// listen hands the peers of our swarm over that announce themselves to a group, until it is closed.
func (l *LSD) listen(ctx context.Context, g Multicast, met chan<- netip.AddrPort) {
	defer func() {
		if v := recover(); v != nil && l.cfg.OnPanic != nil {
			l.cfg.OnPanic(v, debug.Stack())
		}
	}()
	b := make([]byte, maxAnnouncement+1) // one byte more shows that it was too long
	for {
		n, from, err := g.Receive(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.cfg.Log.Debug("hearing the local network", "error", err)
			pause(ctx, receivePause)
			continue
		}
		a, ok := parseAnnouncement(b[:n])
		if !ok || a.cookie == l.cookie || !slices.Contains(a.hashes, l.cfg.InfoHash) || !oneHost(from.Addr()) {
			continue
		}
		select {
		case met <- netip.AddrPortFrom(from.Addr(), a.port):
		case <-ctx.Done():
			return
		}
	}
}

// meet emits a peer that has announced itself. One that has not been there before is answered, because
// it may have come after our last announce.
func (l *LSD) meet(peer netip.AddrPort, now time.Time) {
	last, known := l.heard[peer]
	if known && now.Sub(last) < lsdAtMost {
		return // one announce, through several interfaces
	}
	if !known && len(l.heard) >= maxNeighbours {
		for p, at := range l.heard {
			if now.Sub(at) > neighbourGone {
				delete(l.heard, p)
			}
		}
		if len(l.heard) >= maxNeighbours {
			return
		}
	}
	l.heard[peer] = now
	if !known || now.Sub(last) > neighbourGone {
		l.cfg.Log.Debug("peer on the local network", "peer", peer)
		l.plan.asked(now)
	}
	l.cfg.Emit(Found{Addrs: []netip.AddrPort{peer}, Source: "LSD"})
}

// An lsdPlan says when to announce.
type lsdPlan struct {
	due   time.Time // of the next
	last  time.Time // of the last that counts
	made  int       // since the start
	hopes time.Time // until then somebody may answer
}

// soonest returns when an announce may be made.
func (p *lsdPlan) soonest(now time.Time) time.Time {
	if at := p.last.Add(lsdAtMost); at.After(now) {
		return at
	}
	return now
}

// start begins anew, as after a change of networks.
func (p *lsdPlan) start(now time.Time) {
	p.made, p.due = 0, p.soonest(now)
	p.hopes = p.due.Add(lsdHopes)
}

// next returns how long it is until something is due: an announce, or the end of hope.
func (p *lsdPlan) next(now time.Time) time.Duration {
	if p.hopes.After(now) && p.hopes.Before(p.due) {
		return p.hopes.Sub(now)
	}
	return p.due.Sub(now)
}

// asked brings the next announce forward as far as may be.
func (p *lsdPlan) asked(now time.Time) {
	if at := p.soonest(now); at.Before(p.due) {
		p.due = at
	}
}

// announced plans the next announce.
func (p *lsdPlan) announced(now time.Time) {
	if p.last.IsZero() {
		p.last = now.Add(-lsdAtMost) // the very first leaves room to answer a neighbour at once
	} else {
		p.last = now
	}
	p.made++
	p.due = now.Add(lsdEvery)
	if p.made < lsdFirst {
		p.due = now.Add(lsdAtMost)
	}
}
