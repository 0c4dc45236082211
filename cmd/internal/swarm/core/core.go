// Package core makes every decision of one torrent's swarm: whom to dial, what to ask of whom,
// whom to serve, whom to blame and when to leave.
//
// A [Core] is a value that turns (now, event) into effects. It is pure: it does no I/O, starts no
// goroutine, takes no lock and reads no clock, and its random choices come from a seed. The same
// configuration and the same calls give the same effects, so a simulator can drive a thousand
// cores in one process and repeat a failure bit for bit. The shell (package swarm) owns the
// sockets, the disk and the buffers, tells the core what happened and does what it asks.
//
// A torrent of which only the info-hash is known has a [Fetch] first, which turns into a Core. What both
// know of peers is the roster.
//
// Each part of the state has a file of its own: picking (what to ask for), serving (what to send), turns (to whom
// first), superseed (what to hide), fast (what in spite of a choke), telling (the metadata, to whom asks), haves (what
// we have, to whom it is late), choking (whom to serve), dialing (whom to connect to), crowd (to how few in a new
// swarm), turnover (who makes room), limits (how fast), pex (whom to tell of whom), blame (who lied), patience (who is
// a nuisance), copies (who has everything) and leaving (when to stop); note is how they say why. [Core.Handle] only
// routes. The core never ranges over a map to decide something: map order would leak into the effects.
package core

import (
	"slices"
	"time"

	"bittern/peer/rate"
	"bittern/piece"
)

// A Config sets up a [Core]. Layout is required, and what [Peering] requires; of the rest zero means the
// default.
type Config struct {
	Peering
	Layout piece.Layout

	Have       piece.Bitfield  // verified at the start; the zero value means nothing
	Wanted     *piece.Bitfield // pieces to fetch; nil means all
	Sequential bool            // lowest piece first instead of rarest
	SuperSeed  SuperSeeding    // whether to show each peer a piece at a time (BEP 16) when there is nothing more to fetch

	Slots int // peers served at once on a slow line; 0 means 4, negative none

	// Info is the info dictionary, which peers may ask for (BEP 9). It is not copied and must not change. Nil
	// means that they may not.
	Info []byte

	InfoHash [20]byte // of the torrent: what allowed fast sets depend on (BEP 6)

	Stall   time.Duration // leave when no content byte came for so long; 0 means never
	MaxTime time.Duration // leave after so long, complete and seeding or not; 0 means never
	Seed    Seeding
}

// Seeding says how long to go on after completion.
type Seeding struct {
	Forever bool          // until told otherwise
	Ratio   float64       // until uploaded / content reaches it; 0 means no such condition
	Time    time.Duration // until so long after completion; 0 means no such condition
	Copies  int           // until so many other complete copies are known, at most [MaxCopies]; 0 means no such condition
}

// wanted reports whether there is to be any seeding at all.
func (s Seeding) wanted() bool { return s.Forever || s.Ratio > 0 || s.Time > 0 || s.Copies > 0 }

const (
	defaultSlots = 4

	// tickEvery is how often time-outs and rates are looked at while anybody is connected.
	tickEvery = time.Second
)

// A Core is one torrent's swarm, as a value. It is not safe for concurrent use.
type Core struct {
	roster
	cfg   Config
	links []*link          // the contacts again, with what else is known of them
	byID  map[LinkID]*link // for look-up only
	seeds int              // links that have everything

	copies  copyState
	pick    pickState
	serving serveState
	fast    fastState
	telling tellState
	choking chokeState
	turns   turnState
	super   superState
	blame   blameState
	leaving leaveState
	late    lateHaves

	down, up                   rate.Meter
	received, uploaded, wasted int64
	nextTick                   time.Time
}

// New returns the core of one torrent at the moment now. It copies the configuration; Have and
// Wanted are not kept.
func New(now time.Time, cfg Config) *Core {
	return newCore(newRoster(now, cfg.Peering), cfg)
}

// newCore returns a core that has nobody of a roster's contacts as a link yet.
func newCore(r roster, cfg Config) *Core {
	switch {
	case cfg.MaxUpload == NoUpload:
		cfg.Slots, cfg.Info = -1, nil
	case cfg.Slots == 0:
		cfg.Slots = defaultSlots
	}
	now := r.now
	c := &Core{roster: r, cfg: cfg, byID: make(map[LinkID]*link)}
	c.down, c.up = rate.NewMeter(rateWindow), rate.NewMeter(rateWindow)
	c.copies.init()
	c.pick.init(&cfg)
	c.fast.init(&cfg)
	c.telling.init()
	c.choking.init(now)
	c.leaving.init(c.pick.sched.Complete())
	c.nextTick = now
	return c
}

// Handle takes one event and returns what is to be done about it. The result is valid until the
// next call. Handle never fails: what a peer does wrong has consequences, not errors. Events of
// links the core has dropped are ignored, but for a block's data, which is released.
func (c *Core) Handle(now time.Time, ev Event) []Effect {
	c.begin(now)
	c.limits.received(now, &ev)
	if c.leaving.ended {
		c.refuse(ev)
		return c.out
	}
	switch ev.Op {
	case Joined:
		c.joined(ev.Link, *ev.Remote)
	case Message:
		if l := c.byID[ev.Link]; l != nil && !c.bothers(l, c.cost(&l.contact, &ev.Msg, l.choked)) {
			c.message(l, ev.Msg)
		}
	case Idle:
		if l := c.byID[ev.Link]; l != nil {
			c.bothers(l, costOfIdle(&ev))
		}
	case BlockIn:
		if l := c.byID[ev.Link]; l != nil {
			c.blockIn(l, ev.Msg)
		} else {
			c.limits.unasked(now, ev.Msg.Len())
			c.emit(Effect{Op: Release})
		}
	case Left:
		if l := c.byID[ev.Link]; l != nil {
			c.forget(l, ev.Err)
			c.lookAgain(l)
		}
	case Verified:
		c.verified(ev.Piece, ev.OK, ev.Sums)
	case Stored:
		c.completed()
	case Sent:
		c.sent(c.byID[ev.Link], ev.N)
	default:
		c.heard(ev)
	}
	c.due()
	return c.out
}

// due does what has come due by now.
func (c *Core) due() {
	if c.leaving.ended {
		return
	}
	if !c.now.Before(c.nextTick) {
		c.nextTick = c.now.Add(tickEvery)
		c.checkTimeouts()
		c.blame.weigh = c.blame.weigh || len(c.blame.trials) > 0
		c.pick.updateRates(c)
		c.expireShown()
		// Who sees everything may have been kept waiting, and who has a slot may have ceased to take.
		c.choking.fill = c.choking.fill || c.super.on || c.takers() < c.slots()
		c.turns.trade = slices.ContainsFunc(c.links, func(l *link) bool { return l.interested && c.trades(l) })
		c.limits.measure(c.now, c.up.Rate(c.now))
		c.grantFast()
		c.gossip()
		c.turnOver()
		c.boundDials()
	}
	c.show()
	c.tellLate()
	c.serveMetadata()
	c.weighTrials()
	c.pumpIfFreed()
	c.rechokeIfDue()
	c.askInTurn()
	c.serveInTurn()
	c.explainLimits()
	c.dialMore()
	c.leaveIfDue()
}

// Next returns when to send a Tick if nothing else happens before; zero means never.
func (c *Core) Next() time.Time {
	if c.leaving.ended {
		return time.Time{}
	}
	next := c.leaving.next(c)
	if len(c.links) > 0 {
		next = earlier(next, c.nextTick)
		next = earlier(next, c.choking.next)
		next = earlier(next, c.nextServe())
		next = earlier(next, c.limits.next(c))
		next = earlier(next, c.late.tellAt)
	}
	return earlier(next, c.dialing.next)
}

// earlier returns the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// drop closes l's connection because of err and forgets it.
func (c *Core) drop(l *link, err error) {
	c.emit(Effect{Op: Drop, Link: l.id, Err: err})
	c.forget(l, err)
}

// forget removes a link whose connection is closed or about to be.
func (c *Core) forget(l *link, err error) {
	c.explain(Note{What: "done with a peer", Addr: l.remote.Addr, Received: l.down.Total(), Sent: l.up.Total()})
	delete(c.byID, l.id)
	i := slices.Index(c.links, l)
	c.links = slices.Delete(c.links, i, i+1)
	if l.seed {
		c.seeds--
	}
	c.pick.leave(l)
	c.limits.up.Give(l.upload.inFlight) // it did not go out, as far as we know
	c.serving.leave(l)
	if c.turns.of == l {
		c.turns.of = nil
	}
	c.shownLeft(l)
	c.telling.leave(l)
	c.roster.left(&l.contact, err)
	if !l.amChoking {
		c.choking.fill = true // its place is free
	}
}

// Snapshot tells the state of the swarm.
func (c *Core) Snapshot(now time.Time) Snapshot {
	s := Snapshot{
		Total: c.pick.total, Left: c.pick.sched.Left(), Missing: c.pick.sched.Left() + c.pick.unwanted,
		Received: c.received, Uploaded: c.uploaded, Wasted: c.wasted,
		DownRate: int64(c.down.Rate(now)), UpRate: int64(c.up.Rate(now)),
		Peers: len(c.links), Seeds: c.seeds, Liars: c.blame.liars, Copies: c.copies.count(), Dialing: c.dialing.underWay, Known: c.dialing.known(),
		Met: c.met, Seeding: c.leaving.complete, Since: c.leaving.lastData,
	}
	s.Done = s.Total - s.Left
	return s
}

// Have returns what is verified; it is the core's own and valid until the next call of Handle.
func (c *Core) Have() piece.Bitfield { return c.pick.sched.HavePieces() }
