package core

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bittern/peer/rate"
	"bittern/peer/wire"
)

// A Peering says who we are and how many peers we want. PeerID and Rand are required; of the rest zero
// means the default.
type Peering struct {
	PeerID   [20]byte
	Rand     *rand.Rand // the only source of luck
	MaxPeers int        // connections; 0 means 80
	HalfOpen int        // dials under way at once; 0 means 30

	// The most that all connections together receive and send, in bytes/s; 0 means no limit. [NoUpload] is a limit, too.
	MaxDownload, MaxUpload int64

	// DHTPort is the UDP port of our DHT node, of which peers that run one too are told (BEP 5). 0 means that there is
	// none, and that theirs do not matter.
	DHTPort uint16

	// Explain asks for an Explain effect with every decision that a log may tell of.
	Explain bool

	// Ext is what our extension handshake says (BEP 10); its Reqq is our bound on queued requests.
	Ext wire.ExtHandshake
}

// withDefaults fills in what was left out.
func (p Peering) withDefaults() Peering {
	if p.MaxPeers == 0 {
		p.MaxPeers = defaultMaxPeers
	}
	if p.HalfOpen == 0 {
		p.HalfOpen = defaultHalfOpen
	}
	return p
}

const (
	defaultMaxPeers = 80
	defaultHalfOpen = 30
)

// A roster is what a swarm knows in every phase: the moment, what is to be done, who is connected and
// who might be. The phases embed it, and the later one takes it over from the earlier.
type roster struct {
	peering  Peering
	start    time.Time
	now      time.Time // of the event being handled
	out      []Effect
	contacts []*contact        // who is connected, in order of joining: what is ranged over
	changes  int               // of contacts, and of what they say of themselves
	met      int               // handshakes completed
	nextTurn time.Time         // no peer gives way for its uselessness before
	news     map[endpoint]byte // reused by reachable
	dialing  dialState
	limits   limits
}

func newRoster(now time.Time, p Peering) roster {
	r := roster{peering: p.withDefaults(), start: now, now: now, limits: newLimits(now, p), news: make(map[endpoint]byte)}
	r.dialing.init(r.peering.HalfOpen)
	return r
}

// A contact is one connection, whatever the phase.
type contact struct {
	id       LinkID
	remote   Remote
	joined   time.Time
	at       *address    // where it can be dialed; nil if we do not know
	useful   bool        // it has given us something, or we it
	patience rate.Bucket // with it; see patience.go

	exchanged time.Time // when a block last passed between us, either way; zero if none has
	useless   bool      // as far as turnover is concerned, at the last tick

	liar bool // it was convicted

	ext wire.ExtHandshake // what it said of itself (BEP 10); zero until it does
	pex pexState

	toldNode bool // it has said where its DHT node is

	// What is looked at with every message stands together, here and in link: with so many links it is the memory that
	// takes the time.
	seed         bool // it has everything
	amInterested bool // we want something of it
	interested   bool // it wants something of us (BEP 3)
}

// begin starts the handling of an event.
func (r *roster) begin(now time.Time) {
	r.now = now
	clear(r.out) // let go of payloads and errors
	r.out = r.out[:0]
}

func (r *roster) emit(e Effect) { r.out = append(r.out, e) }

// send queues m for a peer.
func (r *roster) send(l *contact, m wire.Message) {
	r.limits.sent(r.now, &m)
	r.emit(Effect{Op: Send, Link: l.id, Msg: m})
}

// maxPerIP bounds connections from one address; loopback, where many peers live, is exempt.
const maxPerIP = 3

// admit decides whether a new connection may stay. If so it makes a contact of it. Two others may have to
// go, and are the caller's to drop: a twin, which is an older connection of the same peer, and one that makes
// room. If not, it has been refused. Whoever seeds keeps no places for those that we dial.
func (r *roster) admit(id LinkID, remote Remote, seeding bool) (l, twin, spare *contact) {
	remote.Addr = netip.AddrPortFrom(remote.Addr.Addr().Unmap(), remote.Addr.Port()) // one peer, one address
	twin, spare, err := r.place(&remote, seeding)
	if err != nil {
		r.emit(Effect{Op: Drop, Link: id, Err: err})
		r.dialing.refused(r, &remote, err, twin)
		return nil, nil, nil
	}
	l = &contact{id: id, remote: remote, joined: r.now, patience: newPatience()}
	if twin != nil && twin.remote.Addr.Addr() == remote.Addr.Addr() {
		l.at, twin.at = twin.at, nil
	}
	r.met++
	return l, twin, spare
}

// enter adds a contact that was admitted, once those it replaces are gone.
func (r *roster) enter(l *contact) {
	r.contacts = append(r.contacts, l)
	r.changes++
	r.dialing.joined(r, l)
}

// place finds a place for a connection, or the error that keeps it out. A twin is another connection of
// the same peer: the one to be dropped or, with errTwice, the one to stay. A spare one makes room.
func (r *roster) place(remote *Remote, seeding bool) (twin, spare *contact, err error) {
	if remote.ID == r.peering.PeerID {
		return nil, nil, errSelf
	}
	if r.dialing.banned(remote) {
		return nil, nil, errBanned
	}
	if !remote.Outgoing && r.now.Before(r.dialing.misbehaved[subscriberOf(remote.Addr.Addr())]) {
		return nil, nil, errTooSoon
	}
	sameIP := 0
	for _, o := range r.contacts {
		if o.remote.ID == remote.ID {
			twin = o
		} else if o.remote.Addr.Addr() == remote.Addr.Addr() {
			sameIP++
		}
	}
	switch {
	case twin != nil && !r.keepsNew(twin, remote):
		return twin, nil, errTwice
	case sameIP >= maxPerIP && !remote.Addr.Addr().IsLoopback():
		return nil, nil, errManyPerIP
	case twin != nil:
		return twin, nil, nil
	case !seeding && r.manyCalls(remote):
		spare, err = r.spare(true)
	case len(r.contacts) >= r.peering.MaxPeers:
		spare, err = r.spare(false)
	}
	return nil, spare, err
}

// crossFor is how long after one connection another may come from elsewhere that was begun before both ends knew of the first.
const crossFor = 30 * time.Second

// keepsNew decides between two connections of the same two peers. Both ends must decide alike, so of two that cross
// the one stays that was opened by the larger peer id; of two opened by the same end the older. Of another IP it stays
// later on, too: a peer id is no secret, and whoever shows that of another is not to take its place.
func (r *roster) keepsNew(old *contact, remote *Remote) bool {
	elsewhere := old.remote.Addr.Addr() != remote.Addr.Addr()
	if old.remote.Outgoing == remote.Outgoing || elsewhere && r.now.Sub(old.joined) >= crossFor {
		return false
	}
	weAreLarger := string(r.peering.PeerID[:]) > string(remote.ID[:])
	return remote.Outgoing == weAreLarger
}

// manyCalls reports whether a connection that was opened to us needs the place of another such. A quarter of
// the places is for peers that we dial: whoever calls cannot fill them all.
func (r *roster) manyCalls(remote *Remote) bool {
	if remote.Outgoing {
		return false
	}
	calls := 0
	for _, o := range r.contacts {
		if !o.remote.Outgoing {
			calls++
		}
	}
	return calls >= r.peering.MaxPeers-r.peering.MaxPeers/4
}

// idleFor is how long a peer that wants nothing and has nothing for us may stay in a full house.
const idleFor = 10 * time.Second

// spare returns the oldest connection of which neither end wants anything, and of only those that were
// opened to us if it is their part of the places that is full; or else one that has been useless for long. The error says that
// there is none.
func (r *roster) spare(ofCalls bool) (*contact, error) {
	for _, o := range r.contacts {
		if ofCalls && o.remote.Outgoing {
			continue
		}
		if !o.amInterested && !o.interested && r.now.Sub(o.joined) >= idleFor {
			return o, nil
		}
	}
	if o := r.useless(ofCalls); o != nil {
		return o, nil
	}
	return nil, errFull
}

// left removes a contact whose connection is closed or about to be.
func (r *roster) left(l *contact, err error) {
	i := slices.Index(r.contacts, l)
	r.contacts = slices.Delete(r.contacts, i, i+1)
	r.changes++
	if errors.Is(err, wire.ErrProtocol) {
		r.dialing.shutOut(l.remote.Addr.Addr(), r.now)
	}
	r.dialing.left(r, l, err)
}

// introduce sends our extension handshake (BEP 10).
func (r *roster) introduce(l *contact, h wire.ExtHandshake) {
	if !l.remote.Ext {
		return
	}
	h.YourIP = l.remote.Addr.Addr()
	r.send(l, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, h)})
}

// tellNode tells a peer where our DHT node is: "Peer receiving a handshake indicating the remote peer supports the DHT
// should send a PORT message" (BEP 5). It goes behind what we have, which must come first (BEP 6).
func (r *roster) tellNode(l *contact) {
	if r.peering.DHTPort != 0 && l.remote.DHT {
		r.send(l, wire.Message{ID: wire.Port, Index: uint32(r.peering.DHTPort)})
	}
}

// node takes a peer's PORT message. The first counts, for nobody moves, and somebody might have us ask one port of its
// host after the other.
func (r *roster) node(l *contact, m wire.Message) {
	if r.peering.DHTPort == 0 || l.toldNode || m.Index == 0 || m.Index > 0xFFFF {
		return
	}
	l.toldNode = true
	r.emit(Effect{Op: Node, Addr: netip.AddrPortFrom(l.remote.Addr.Addr(), uint16(m.Index))})
}

// introduced takes a peer's extension handshake; fields that make no sense are ignored, as BEP 10 asks.
// The error, if it is none, is reason to drop the peer.
func (r *roster) introduced(l *contact, payload []byte) error {
	if err := l.ext.Update(payload); err != nil {
		return err
	}
	r.changes++
	r.dialing.seenAs(l.ext.YourIP, l)
	if ip := l.ext.YourIP; !r.dialing.self.IsValid() && ip.IsGlobalUnicast() && !ip.IsPrivate() {
		r.dialing.self = ip.Unmap()
	}
	r.dialing.listens(l)
	return nil
}

// nobodyLeft reports whether there is no hope of a peer: every source has failed for good, and so
// has every address.
func (r *roster) nobodyLeft() bool {
	d := &r.dialing
	return d.sourcesKnown && !d.sourcesLeft && len(r.contacts) == 0 && d.underWay == 0 && d.hopeless()
}

// heard takes an event that concerns nothing but the addresses. A Tick is none of those either: what is due
// is done after any event.
func (r *roster) heard(ev Event) {
	switch ev.Op {
	case DialFailed:
		r.dialFailed(ev.Addr, ev.Local)
	case Found:
		r.found(ev.Addrs, ev.Source)
	case Sources:
		r.dialing.sourcesLeft = ev.OK
		r.dialing.sourcesKnown = true
	}
}

// refuse answers an event after the end: nothing is wanted any more.
func (r *roster) refuse(ev Event) {
	switch ev.Op {
	case BlockIn:
		r.emit(Effect{Op: Release})
	case Joined:
		r.emit(Effect{Op: Drop, Link: ev.Link, Err: errEnded})
	}
}
