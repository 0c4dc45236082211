package core

import (
	"errors"
	"fmt"
	"time"

	"bittern/peer/rate"
	"bittern/peer/wire"
	"bittern/piece"
)

// Reasons to drop a link that are nobody's fault.
var (
	errEnded     = errors.New("the swarm has ended")
	errSelf      = errors.New("connected to ourselves")
	errTwice     = errors.New("already connected to this peer")
	errBanned    = errors.New("address is banned")
	errTooSoon   = errors.New("address has misbehaved less than a minute ago")
	errFull      = errors.New("no place for another peer")
	errMadeRoom  = errors.New("made room for another peer")
	errUseless   = errors.New("of no use to each other for long: made room for another peer")
	errNoOffer   = errors.New("does not give the metadata: made room for another peer")
	errBothSeeds = errors.New("both ends are seeds")
	errManyPerIP = errors.New("too many connections from this address")
)

// A Misdeed is a reason to drop a peer that is the peer's own fault. It matches
// [wire.ErrProtocol] under errors.Is.
type Misdeed struct {
	What string // lower case, no full stop
	Ban  bool   // whether its address is banned for the rest of the run
}

func (m *Misdeed) Error() string { return "peer " + m.What }

// Unwrap makes every misdeed a protocol violation.
func (m *Misdeed) Unwrap() error { return wire.ErrProtocol }

func misdeed(format string, a ...any) error { return &Misdeed{What: fmt.Sprintf(format, a...)} }

// errInsists is the misdeed of a peer that asks again and again.
var errInsists = misdeed("goes on asking for what it is refused")

// errFlood is the misdeed of a peer that says too much that is of no use.
var errFlood = misdeed("says too much that is of no use")

// errLateNone is the misdeed of a peer that says too late that it has nothing.
var errLateNone = misdeed("said late or twice that it has nothing")

// A link is what the core knows of one connection, besides what every phase does. All four flags of BEP 3 start as "choked, not
// interested".
type link struct {
	contact

	sched   *piece.Peer // what it has
	gotHave bool        // it has said what it has, so a bitfield would be late

	// Picking: what we ask of it.
	choked    bool      // it chokes us
	shut      bool      // and allows nothing, which the scheduler knows: there is no point in asking
	snubbed   bool      // it owes us blocks for too long
	letDown   bool      // it was snubbed before
	suspended bool      // it is suspect, and asked for nothing
	wants     bool      // it waits to be asked, as the limit allows
	askAfter  time.Time // no request before: it has choked us in the middle of things
	window    window
	asked     askQueue
	lostAt    time.Time // when a request was last given up
	lastBlock time.Time // or the request that found nothing outstanding
	down      rate.Meter

	// Blame.
	unclear   int // bad pieces that it had a part in, where nothing proved whose fault they were
	proven    int // blocks that it sent of good pieces
	suspectIn int // the last round of weighing trials that found it suspect

	// Serving: what it asks of us.
	amChoking   bool
	chokedSince time.Time     // when amChoking last changed
	upBefore    int64         // bytes that had gone to it when amChoking last changed
	idled       bool          // it had a slot, and took nothing
	welcome     bool          // it was unchoked because it had nothing
	queue       []piece.Block // asked for and not yet read, oldest first
	asksAt      time.Time     // when it last asked for something that is not refused
	upload      upload        // what it is being sent
	showing     *showing      // what it sees of us; nil means all
	untold      int           // how many pieces, the last ones, it is still to be told of; see lateHaves
	fast        fastGrant     // pieces that it gets in spite of a choke
	telling     telling       // metadata that it asks for
	up          rate.Meter

	// Trading: what it gave us for what it got.
	gave    rate.Meter // by the tit-for-tat's window
	balance float64    // bytes that it gave us, less those it got; this fades
}

const (
	// rateWindow is the time over which rates are measured.
	rateWindow = 4 * time.Second

	// tradeWindow is the time over which it is measured what a peer gives us: two rounds of choking, so that somebody whom
	// we have just choked is not taken for a free rider.
	tradeWindow = 20 * time.Second
)

// joined admits a connection that has shaken hands, or drops it.
func (c *Core) joined(id LinkID, remote Remote) {
	who, twin, spare := c.admit(id, remote, c.leaving.complete)
	if who == nil {
		return
	}
	if twin != nil {
		c.drop(c.byID[twin.id], errTwice)
	}
	if spare != nil {
		c.drop(c.byID[spare.id], errMadeRoom)
	}
	l := c.newLink(*who)
	c.links = append(c.links, l)
	c.byID[id] = l
	c.pick.join(l)
	c.enter(&l.contact)
	c.greet(l)
}

// newLink returns a link of which nothing is known but the contact.
func (c *Core) newLink(who contact) *link {
	return &link{
		contact: who, upload: upload{start: c.turns.startOf(who.remote.Addr.Addr())},
		choked: true, amChoking: true, chokedSince: c.now, window: newWindow(), lastBlock: c.now,
		asked: askQueue{answers: who.remote.Fast, reserved: &c.limits.down}, telling: newTelling(),
		down: rate.NewMeter(rateWindow), up: rate.NewMeter(rateWindow), gave: rate.NewMeter(tradeWindow),
	}
}

// greet sends what comes behind the handshake: first what we have (BEP 3, BEP 6), then what we
// speak (BEP 10).
func (c *Core) greet(l *link) {
	have := c.pick.sched.HavePieces()
	switch {
	case c.superSeeds():
		c.mask(l)
	case l.remote.Fast && have.Full():
		c.send(&l.contact, wire.Message{ID: wire.HaveAll})
	case l.remote.Fast && have.Empty():
		c.send(&l.contact, wire.Message{ID: wire.HaveNone})
	case !have.Empty():
		c.send(&l.contact, wire.Message{ID: wire.Bitfield, Payload: have.Clone().Bytes()})
	}
	c.introduce(l)
	c.tellNode(&l.contact)
}

// introduce sends our extension handshake as it is now: a partial seed says so (BEP 21). A super-seed does not: whoever has
// nothing and wants nothing, clients hang up on.
func (c *Core) introduce(l *link) {
	h := c.peering.Ext
	h.UploadOnly = c.leaving.complete && l.showing == nil
	if h.MetadataSize = int64(len(c.cfg.Info)); h.MetadataSize == 0 {
		h.M.UtMetadata = 0
	}
	c.roster.introduce(&l.contact, h)
}

// message takes a message other than a block.
func (c *Core) message(l *link, m wire.Message) {
	switch m.ID {
	case wire.Bitfield, wire.HaveAll, wire.HaveNone:
		c.haveSet(l, m)
		return
	case wire.Extended:
		c.extended(l, m)
		return
	case wire.Port:
		c.node(&l.contact, m)
		return
	case wire.KeepAlive:
		return
	}
	if !l.gotHave { // BEP 3: the bitfield is first or not at all; a peer without one has nothing
		l.gotHave, c.choking.fill = true, true
		if c.seedsPart(l); c.byID[l.id] != l {
			return
		}
	}
	switch m.ID {
	case wire.Choke:
		c.choked(l)
	case wire.Unchoke:
		c.unchoked(l)
	case wire.Interested:
		c.interested(l, true)
	case wire.NotInterested:
		c.interested(l, false)
	case wire.Have:
		c.have(l, m)
	case wire.Request:
		c.request(l, m)
	case wire.Cancel:
		c.cancel(l, m)
	case wire.Reject:
		c.rejected(l, m)
	case wire.AllowedFast:
		c.allowed(l, m)
	case wire.Suggest:
		c.suggested(l, m)
	}
}

// extended takes an extension message: the handshake (BEP 10, BEP 21), or one of an id that ours has named.
func (c *Core) extended(l *link, m wire.Message) {
	var err error
	switch m.ExtID {
	case 0:
		err = c.introduced(&l.contact, m.Payload)
	case c.peering.Ext.M.UtMetadata:
		c.metadata(l, m.Payload)
		return
	case c.peering.Ext.M.DontHave:
		c.lost(l, m.Payload)
		return
	case c.peering.Ext.M.UtPex:
		err = c.gossiped(&l.contact, m.Payload, c.leaving.complete)
	}
	if err != nil {
		c.drop(l, err)
		return
	}
	c.seedsPart(l)
}

// haveSet takes the message that says at once what the peer has. BEP 3 and BEP 6 want it first and once, but aria2c sends a
// bitfield in place of many haves, and "have all" when these complete it.
func (c *Core) haveSet(l *link, m wire.Message) {
	first, before := !l.gotHave, c.pick.sched.PeerCount(l.sched)
	if !first && m.ID == wire.HaveNone {
		c.drop(l, errLateNone)
		return
	}
	l.gotHave, c.choking.fill = true, true
	switch m.ID {
	case wire.HaveAll:
		c.pick.sched.HaveAll(l.sched)
	case wire.Bitfield:
		b, err := piece.ParseBitfield(m.Payload, c.cfg.Layout.Pieces())
		if err != nil {
			c.drop(l, &Misdeed{What: "sent a wrong bitfield: " + err.Error()})
			return
		}
		c.pick.sched.HaveSet(l.sched, b)
	}
	if !first && c.pick.sched.PeerCount(l.sched) == before {
		c.bothers(l, costExtended)
		return
	}
	c.boundDials()
	c.shownSet(l)
	c.hasMore(l)
	if c.byID[l.id] == l {
		c.seedsPart(l)
	}
}

// have takes the news that the peer has one more piece.
func (c *Core) have(l *link, m wire.Message) {
	if int64(m.Index) >= int64(c.cfg.Layout.Pieces()) {
		c.drop(l, misdeed("has a piece %d that does not exist", m.Index))
		return
	}
	if c.pick.sched.Has(l.sched, int(m.Index)) {
		c.bothers(l, costIdle)
		return
	}
	c.pick.sched.Have(l.sched, int(m.Index))
	c.shownPassed(l, int(m.Index))
	c.hasMore(l)
}

// hasMore follows from a peer having more than before.
func (c *Core) hasMore(l *link) {
	if !l.seed && c.pick.sched.PeerCount(l.sched) == c.cfg.Layout.Pieces() {
		l.seed = true
		c.seeds++
		c.copies.add(&l.contact)
		c.seedsPart(l)
		if c.byID[l.id] != l {
			return
		}
	}
	c.updateInterest(l)
	c.pump(l)
}

// seedsPart drops a peer that wants nothing when neither do we, once it has said what it has: some say first that they
// want nothing, and whether they are complete is worth knowing.
func (c *Core) seedsPart(l *link) {
	if c.leaving.complete && (l.seed || l.ext.UploadOnly && l.gotHave) {
		c.drop(l, errBothSeeds)
	}
}
