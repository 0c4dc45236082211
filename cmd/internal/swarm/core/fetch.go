package core

import (
	"slices"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A FetchConfig sets up a [Fetch]. What [Peering] requires is required; of the rest zero means the default.
type FetchConfig struct {
	Peering

	Timeout time.Duration // leave when the metadata has not come after so long; 0 means never
	MaxTime time.Duration // leave after so long, with the metadata or without; 0 means never
}

// A Fetch is the swarm of a torrent of which only the info-hash is known, as a value like [Core]: it meets
// peers and gets the info dictionary from them (BEP 9). Then [Fetch.Proceed] makes a Core of it, which goes on
// with the same connections. It is not safe for concurrent use.
//
// The dictionary is collected in copies, two at most and of [MaxMetadata] bytes together. As long as nobody has
// lied, all peers that name the same size bring pieces of one copy. The hash covers the whole, so a copy that
// fails says only that one of its peers lied. From then on each copy comes from one peer alone: if it fails,
// that one is the liar, and the first good one convicts those who brought something else before.
type Fetch struct {
	roster
	cfg   FetchConfig
	links []*fetchLink // the contacts again, with what else is known of them
	byID  map[LinkID]*fetchLink

	copies   [maxCopies]*metadataCopy
	bad      []badCopy
	alone    bool // a copy has failed: each comes from one peer now
	resolved bool // the metadata is known
	ended    bool
	liars    int
	nextTick time.Time
}

// MaxMetadata is the largest info dictionary that is fetched or served, in bytes.
const MaxMetadata = 32 << 20

const (
	metadataPiece = wire.MetadataPiece // bytes
	maxCopies     = 2

	// fetchTick is how often requests without an answer are looked at.
	fetchTick = 500 * time.Millisecond

	// A piece that was asked for askAgainAfter ago may be asked of another peer, who may be quicker, until
	// maxAsked owe it.
	askAgainAfter = time.Second
	maxAsked      = 4

	// silentFor is how long a peer may leave requests for metadata unanswered. Then it is not asked for
	// firstRest, which doubles each time; so too if it refuses, for it may be fetching the metadata itself.
	silentFor = 6 * time.Second
	firstRest = 20 * time.Second

	// A copy has firstLease to be complete if others wait for its place, twice as long at the next try.
	firstLease = 8 * time.Second

	// Requests outstanding at one peer: few at first, so that there are some left for the next peer, and one more
	// with each answer.
	leastMetadataAsks, mostMetadataAsks = 4, 16

	// In a full house a peer that does not offer the metadata after chanceToOffer, or has answered no request for it, gives way
	// to one that was not tried yet, one every nextOfferEvery.
	chanceToOffer  = 10 * time.Second
	nextOfferEvery = time.Second

	// maxEarlyHaves bounds the pieces that are remembered of one peer before their number is known.
	maxEarlyHaves = 16 << 10

	// maxEarlyHints does so for what else it says of its pieces.
	maxEarlyHints = 64
)

// A fetchLink is what a Fetch knows of one connection, besides what every phase does.
type fetchLink struct {
	contact
	early early

	asked  []metadataAsk
	since  time.Time // of its last answer, or the request that found nothing outstanding
	gave   int       // pieces it has brought
	rested int       // how often it had to rest
	rests  time.Time // not asked before
	tried  int       // copies that were given up with it, or that it has turned from
}

// A metadataAsk is a request that was sent.
type metadataAsk struct {
	copy  *metadataCopy
	piece int
}

// early is what a peer says before the number of pieces is known.
type early struct {
	spoke    bool    // something that a bitfield must not follow any more (BEP 3)
	set      wire.ID // Bitfield, HaveAll or HaveNone, if hasSet
	hasSet   bool
	bits     []byte         // of the bitfield; bounded by what a message may have
	haves    []uint32       // at most maxEarlyHaves
	hints    []wire.Message // of AllowedFast, Suggest and lt_donthave (BEP 54) the first maxEarlyHints
	unchoked bool
}

// A metadataCopy is the info dictionary as some peers bring it.
type metadataCopy struct {
	size     int64
	pieces   [][]byte     // nil until one has come
	by       []*fetchLink // who brought it
	have     int
	asks     []copyAsk  // of each piece
	from     *fetchLink // the only peer that is asked; nil for all who name the size
	began    time.Time
	lease    time.Duration
	leased   int  // pieces it had when its lease began
	checking bool // its hash is being worked out
}

// A copyAsk counts the requests for a piece that wait for an answer.
type copyAsk struct {
	waiting int
	last    time.Time
}

// A badCopy is a copy that failed, with what is needed to name the liar later.
type badCopy struct {
	by   []*fetchLink
	sums [][20]byte
}

// NewFetch returns the swarm of a torrent without metadata at the moment now.
func NewFetch(now time.Time, cfg FetchConfig) *Fetch {
	return &Fetch{roster: newRoster(now, cfg.Peering), cfg: cfg, byID: make(map[LinkID]*fetchLink), nextTick: now}
}

// Handle is [Core.Handle] of this phase.
func (f *Fetch) Handle(now time.Time, ev Event) []Effect {
	f.begin(now)
	f.limits.received(now, &ev)
	if f.ended {
		f.refuse(ev)
		return f.out
	}
	switch ev.Op {
	case Joined:
		f.joined(ev.Link, *ev.Remote)
	case Message:
		l := f.byID[ev.Link]
		switch {
		case l == nil:
		case f.bears(&l.contact, f.cost(&l.contact, &ev.Msg, !l.early.unchoked)):
			f.message(l, ev.Msg)
		default:
			f.drop(l, errFlood)
		}
	case Idle:
		if l := f.byID[ev.Link]; l != nil && !f.bears(&l.contact, costOfIdle(&ev)) {
			f.drop(l, errFlood)
		}
	case BlockIn:
		f.limits.unasked(now, ev.Msg.Len())
		f.emit(Effect{Op: Release})
		if l := f.byID[ev.Link]; l != nil {
			f.drop(l, misdeed("sends what nobody asked for"))
		}
	case Left:
		if l := f.byID[ev.Link]; l != nil {
			f.forget(l, ev.Err)
		}
	case Checked:
		f.checked(ev.Piece, ev.OK, ev.Sums)
	case Supplied:
		f.settle()
	default:
		f.heard(ev)
	}
	f.due()
	return f.out
}

// due does what has come due by now.
func (f *Fetch) due() {
	if !f.now.Before(f.nextTick) {
		f.nextTick = f.now.Add(fetchTick)
		f.checkSilence()
		f.gossip()
		f.turnOver()
	}
	if !f.resolved {
		f.ask()
	}
	f.dialMore()
	f.leaveIfDue()
}

// Next returns when to send a Tick if nothing else happens before; zero means never.
func (f *Fetch) Next() time.Time {
	if f.ended {
		return time.Time{}
	}
	next := f.maxTimeAt()
	if !f.resolved {
		next = earlier(next, f.timeoutAt())
		if len(f.links) > 0 {
			next = earlier(next, f.nextTick)
			if at := f.limits.down.Ready(f.now); at.After(f.now) {
				next = earlier(next, at.Add(limitSlack))
			}
		}
	}
	return earlier(next, f.dialing.next)
}

func (f *Fetch) timeoutAt() time.Time { return after(f.start, f.cfg.Timeout) }
func (f *Fetch) maxTimeAt() time.Time { return after(f.start, f.cfg.MaxTime) }

// leaveIfDue ends the swarm when there is no more time or no more hope.
func (f *Fetch) leaveIfDue() {
	o := Running
	switch {
	case due(f.now, f.maxTimeAt()):
		o = OutOfTime
	case f.resolved:
	case due(f.now, f.timeoutAt()):
		o = NoMetadata
	case f.nobodyLeft():
		o = NoneUsable
	}
	if o == Running {
		return
	}
	if f.met == 0 && o != NoneUsable {
		o = NoPeers
	}
	f.ended = true
	f.emit(Effect{Op: Done, Outcome: o})
}

// joined admits a connection that has shaken hands, or drops it.
func (f *Fetch) joined(id LinkID, remote Remote) {
	who, twin, spare := f.admit(id, remote, false)
	if who == nil {
		return
	}
	if twin != nil {
		f.drop(f.byID[twin.id], errTwice)
	}
	if spare != nil {
		f.drop(f.byID[spare.id], errMadeRoom)
	}
	l := &fetchLink{contact: *who}
	f.links = append(f.links, l)
	f.byID[id] = l
	f.enter(&l.contact)
	if l.remote.Fast { // one of three messages must come first (BEP 6)
		f.send(&l.contact, wire.Message{ID: wire.HaveNone})
	}
	f.introduce(&l.contact, f.peering.Ext)
	f.tellNode(&l.contact)
}

// drop closes l's connection because of err and forgets it.
func (f *Fetch) drop(l *fetchLink, err error) {
	f.emit(Effect{Op: Drop, Link: l.id, Err: err})
	f.forget(l, err)
}

// forget removes a link whose connection is closed or about to be.
func (f *Fetch) forget(l *fetchLink, err error) {
	delete(f.byID, l.id)
	i := slices.Index(f.links, l)
	f.links = slices.Delete(f.links, i, i+1)
	f.left(&l.contact, err)
	l.unask()
	for n, c := range f.copies {
		if c != nil && c.from == l && !c.checking {
			f.copies[n] = nil
		}
	}
}

// message takes a message: what is about the content is kept for later.
func (f *Fetch) message(l *fetchLink, m wire.Message) {
	switch m.ID {
	case wire.Extended:
		f.extended(l, m)
		return
	case wire.Port:
		f.node(&l.contact, m)
		return
	case wire.KeepAlive:
		return
	case wire.HaveAll, wire.HaveNone, wire.Bitfield:
		if l.early.spoke && m.ID == wire.HaveNone {
			f.drop(l, errLateNone)
			return
		}
		if l.early.hasSet && !f.bears(&l.contact, costExtended) {
			f.drop(l, errFlood)
			return
		}
		l.early.set, l.early.hasSet, l.early.bits = m.ID, true, m.Payload
	case wire.Have:
		if len(l.early.haves) < maxEarlyHaves {
			l.early.haves = append(l.early.haves, m.Index)
		} else if !f.bears(&l.contact, costIdle) {
			f.drop(l, errFlood)
			return
		}
		l.early.hints = slices.DeleteFunc(l.early.hints, func(h wire.Message) bool { // it has it again
			lost, err := wire.ParseDontHave(h.Payload)
			return err == nil && lost == m.Index
		})
	case wire.AllowedFast, wire.Suggest:
		l.early.hint(m)
	case wire.Choke:
		l.early.unchoked = false
	case wire.Unchoke:
		l.early.unchoked = true
	case wire.Interested:
		l.interested = true
	case wire.NotInterested:
		l.interested = false
	case wire.Request:
		if l.remote.Fast {
			f.send(&l.contact, wire.Message{ID: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
		}
		if !f.bears(&l.contact, costRefused) {
			f.drop(l, errInsists)
			return
		}
	}
	l.early.spoke = true
}

// hint keeps what a peer says of its pieces besides having them.
func (e *early) hint(m wire.Message) {
	if len(e.hints) < maxEarlyHints {
		e.hints = append(e.hints, m)
	}
}

// extended takes an extension message.
func (f *Fetch) extended(l *fetchLink, m wire.Message) {
	switch m.ExtID {
	case 0:
		before := l.ext.MetadataSize
		if err := f.introduced(&l.contact, m.Payload); err != nil {
			f.drop(l, err)
			return
		}
		if before != 0 && before != l.ext.MetadataSize {
			l.tried++ // its copy is as good as given up, and others come first now
		}
		l.amInterested = l.offers()
	case f.peering.Ext.M.UtMetadata:
		if msg, err := wire.ParseMetadata(m.Payload); err != nil {
			f.drop(l, err)
		} else {
			f.metadata(l, msg)
		}
	case f.peering.Ext.M.DontHave:
		if _, err := wire.ParseDontHave(m.Payload); err != nil { // it may be 128 KiB long
			f.drop(l, err)
			return
		}
		l.early.hint(m)
	case f.peering.Ext.M.UtPex:
		if err := f.gossiped(&l.contact, m.Payload, false); err != nil {
			f.drop(l, err)
		}
	}
}

// offers reports whether a peer says that it has the metadata.
func (l *fetchLink) offers() bool {
	return l.ext.M.UtMetadata != 0 && l.ext.MetadataSize > 0 && l.ext.MetadataSize <= MaxMetadata
}

// metadata takes a message of BEP 9.
func (f *Fetch) metadata(l *fetchLink, m wire.Metadata) {
	switch m.Type {
	case wire.MetadataRequest: // "Peers that do not have the entire metadata MUST respond with a reject"
		if !f.bears(&l.contact, costRefused) {
			f.drop(l, errInsists)
		} else if l.ext.M.UtMetadata != 0 {
			f.sendMetadata(l, wire.Metadata{Type: wire.MetadataReject, Piece: m.Piece})
		}
	case wire.MetadataReject:
		if _, ok := l.answered(m.Piece); ok {
			f.rest(l)
		}
	case wire.MetadataData:
		f.arrived(l, m)
	}
}

func (f *Fetch) sendMetadata(l *fetchLink, m wire.Metadata) {
	f.send(&l.contact, wire.Message{ID: wire.Extended, ExtID: l.ext.M.UtMetadata, Payload: wire.AppendMetadata(nil, m)})
}

// answered takes a request off the list of those that wait for an answer.
func (l *fetchLink) answered(i int) (c *metadataCopy, ok bool) {
	n := slices.IndexFunc(l.asked, func(a metadataAsk) bool { return a.piece == i })
	if n < 0 {
		return nil, false
	}
	c = l.asked[n].copy
	c.asks[i].waiting--
	l.asked = slices.Delete(l.asked, n, n+1)
	return c, true
}

// unask gives up the requests that wait for an answer.
func (l *fetchLink) unask() {
	for _, a := range l.asked {
		a.copy.asks[a.piece].waiting--
	}
	l.asked = nil
}

// arrived takes a piece of the metadata.
func (f *Fetch) arrived(l *fetchLink, m wire.Metadata) {
	c, asked := l.answered(m.Piece)
	if !asked {
		if !f.bears(&l.contact, costUnasked) {
			f.drop(l, misdeed("sends metadata that nobody asked for"))
		}
		return
	}
	l.since = f.now
	if int64(len(m.Data)) != c.pieceSize(m.Piece) || m.TotalSize != 0 && m.TotalSize != c.size {
		f.drop(l, misdeed("sends metadata of another size than it said"))
		return
	}
	if !f.collects(c) || c.pieces[m.Piece] != nil {
		return
	}
	c.pieces[m.Piece], c.by[m.Piece] = m.Data, l
	l.gave++
	if c.have++; c.have == len(c.pieces) {
		c.checking = true
		f.emit(Effect{Op: Check, Number: slices.Index(f.copies[:], c), Parts: c.pieces})
	}
}

// collects reports whether a copy still takes pieces.
func (f *Fetch) collects(c *metadataCopy) bool {
	return slices.Contains(f.copies[:], c) && !c.checking
}

// pieceSize is the length of a piece, in bytes.
func (c *metadataCopy) pieceSize(i int) int64 {
	return min(metadataPiece, c.size-int64(i)*metadataPiece)
}

// checked takes the verdict on a copy. sums are those of its pieces.
func (f *Fetch) checked(n int, ok bool, sums [][20]byte) {
	c := f.copies[n]
	if c == nil || !c.checking {
		return
	}
	f.copies[n] = nil
	if ok {
		f.complete(c, sums)
		return
	}
	if who := soleSource(c.by); who != nil {
		f.convict(who)
		return
	}
	f.alone = true
	f.bad = append(f.bad, badCopy{by: c.by, sums: slices.Clone(sums)})
}

// complete follows from a good copy: those who brought something else before have lied.
func (f *Fetch) complete(c *metadataCopy, sums [][20]byte) {
	for _, l := range c.by {
		l.useful = true
	}
	for _, b := range f.bad {
		for i, sum := range b.sums {
			if i >= len(sums) || sum != sums[i] || len(b.sums) != len(sums) {
				f.convict(b.by[i])
			}
		}
	}
	f.settle()
	f.emit(Effect{Op: Resolved})
}

// settle ends the search: from now on the Fetch only keeps its peers until it proceeds.
func (f *Fetch) settle() {
	f.resolved = true
	f.bad, f.copies = nil, [maxCopies]*metadataCopy{}
	for _, l := range f.links {
		l.unask()
	}
}

// soleSource returns the only peer that brought a copy, or nil if there were several.
func soleSource(by []*fetchLink) *fetchLink {
	for _, l := range by[1:] {
		if l != by[0] {
			return nil
		}
	}
	return by[0]
}

// convict bans a proven liar, connected or not, and with it whoever else is at its address.
func (f *Fetch) convict(l *fetchLink) {
	if l.liar {
		return
	}
	l.liar = true
	f.liars++
	f.dialing.ban(&l.contact)
	if f.byID[l.id] == l {
		f.drop(l, &Misdeed{What: "sent metadata that is not the torrent's", Ban: true})
	}
	for k := len(f.links) - 1; k >= 0; k-- { // backwards: they leave on the way
		if o := f.links[k]; f.dialing.banned(&o.remote) {
			f.drop(o, errBanned)
		}
	}
}

// rest leaves a peer alone for a while: it does not answer, or refuses.
func (f *Fetch) rest(l *fetchLink) {
	l.unask()
	l.rests = f.now.Add(firstRest << min(l.rested, 6))
	l.rested++
}

// checkSilence finds peers that do not answer, and copies that have had their time while others wait.
func (f *Fetch) checkSilence() {
	for _, l := range f.links {
		if len(l.asked) > 0 && f.now.Sub(l.since) >= silentFor {
			f.rest(l)
		}
	}
	f.endLeases()
}

// turnOver lets a peer that has not helped make room if all places are taken and somebody new can be dialed. It is not
// useless for good: the content may be had of it.
func (f *Fetch) turnOver() {
	for _, l := range f.links {
		l.useless = f.now.Sub(l.joined) >= chanceToOffer && (!l.offers() || l.gave == 0 && l.rested > 0)
	}
	if f.resolved || len(f.links) < f.peering.MaxPeers || !f.dialing.knowsFresh(f.now) {
		return
	}
	if o := f.useless(false); o != nil {
		f.nextTurn = f.now.Add(nextOfferEvery)
		f.drop(f.byID[o.id], errNoOffer)
	}
}

// endLeases gives up one copy whose time is over, if there is somebody else to try: the one that has come
// forward least.
func (f *Fetch) endLeases() {
	if f.resolved || f.waiting(MaxMetadata) == nil || f.waiting(f.room()) != nil {
		return
	}
	worst := -1
	for n, c := range f.copies {
		if c == nil || c.checking || f.now.Sub(c.began) < c.lease {
			continue
		}
		if worst < 0 || c.have-c.leased < f.copies[worst].have-f.copies[worst].leased {
			worst = n
		}
	}
	for n, c := range f.copies {
		switch {
		case c == nil:
		case n == worst:
			f.giveUp(n)
		case worst >= 0 && f.now.Sub(c.began) >= c.lease:
			c.began, c.leased = f.now, c.have
		}
	}
}

// giveUp forgets a copy, and that its peers were asked for it.
func (f *Fetch) giveUp(n int) {
	c := f.copies[n]
	f.copies[n] = nil
	for _, l := range f.links {
		if f.suits(l, c) {
			l.tried++
			l.unask()
		}
	}
}

// suits reports whether l is one to bring pieces of c.
func (f *Fetch) suits(l *fetchLink, c *metadataCopy) bool {
	return l.offers() && l.ext.MetadataSize == c.size && (c.from == nil || c.from == l)
}

// free reports whether a peer may be asked for metadata now.
func (f *Fetch) free(l *fetchLink) bool { return l.offers() && !f.now.Before(l.rests) }

// room is how large another copy may be, in bytes.
func (f *Fetch) room() int64 {
	room := int64(MaxMetadata)
	free := false
	for _, c := range f.copies {
		if c != nil {
			room -= c.size
		} else {
			free = true
		}
	}
	if !free {
		return 0
	}
	return room
}

// waiting returns who comes first of the peers that could be asked and suit no copy, and whose metadata has at most
// so many bytes: the one that has been tried least.
func (f *Fetch) waiting(most int64) *fetchLink {
	var first *fetchLink
next:
	for _, l := range f.links {
		if !f.free(l) || l.ext.MetadataSize > most || first != nil && l.tried >= first.tried {
			continue
		}
		for _, c := range f.copies {
			if c != nil && f.suits(l, c) {
				continue next
			}
		}
		first = l
	}
	return first
}

// ask begins the copies that there is room for and asks for their pieces.
func (f *Fetch) ask() {
	f.dropIdle()
	for n := range f.copies {
		if f.copies[n] == nil {
			if l := f.waiting(f.room()); l != nil {
				f.copies[n] = f.newCopy(l)
			}
		}
	}
	for _, c := range f.copies {
		if c != nil && !c.checking {
			f.askFor(c)
		}
	}
}

// dropIdle gives up copies that nobody can go on with while somebody waits.
func (f *Fetch) dropIdle() {
	for n, c := range f.copies {
		if c == nil || c.checking || slices.ContainsFunc(f.links, func(l *fetchLink) bool { return f.suits(l, c) && f.free(l) }) {
			continue
		}
		if f.waiting(MaxMetadata) != nil {
			f.giveUp(n)
		}
	}
}

func (f *Fetch) newCopy(l *fetchLink) *metadataCopy {
	size := l.ext.MetadataSize
	n := (size + metadataPiece - 1) / metadataPiece // 2,048 at most: what a peer claims costs no more than that
	c := &metadataCopy{
		size: size, pieces: make([][]byte, n), by: make([]*fetchLink, n), asks: make([]copyAsk, n),
		began: f.now, lease: firstLease << min(l.tried, 6),
	}
	if f.alone {
		c.from = l
	}
	return c
}

// askFor asks the peers of a copy for its pieces, each for its share.
func (f *Fetch) askFor(c *metadataCopy) {
	peers := 0
	for _, l := range f.links {
		if f.suits(l, c) && f.free(l) {
			peers++
		}
	}
	if peers == 0 {
		return
	}
	share := max(1, (len(c.pieces)-c.have+peers-1)/peers)
	for _, l := range f.links {
		most := min(share, leastMetadataAsks+l.gave, mostMetadataAsks)
		for f.suits(l, c) && f.free(l) && len(l.asked) < most && f.limitLets() {
			i := f.nextPiece(c, l)
			if i < 0 {
				break
			}
			if len(l.asked) == 0 {
				l.since = f.now
			}
			c.asks[i] = copyAsk{waiting: c.asks[i].waiting + 1, last: f.now}
			l.asked = append(l.asked, metadataAsk{copy: c, piece: i})
			f.sendMetadata(l, wire.Metadata{Type: wire.MetadataRequest, Piece: i})
		}
	}
}

// limitLets reports whether the limit on downloading lets another piece be asked for: while no more are under way than a burst
// has, but for those of peers that do not answer. What comes is a debt then, for which the next waits.
func (f *Fetch) limitLets() bool {
	limit := f.limits.down.Rate()
	if limit == 0 {
		return true
	}
	underWay := 0
	for _, l := range f.links {
		if f.now.Sub(l.since) < askAgainAfter {
			underWay += len(l.asked)
		}
	}
	return f.limits.down.Open(f.now) && (underWay == 0 || float64((underWay+1)*metadataPiece) <= limit*limitBurst.Seconds())
}

// nextPiece returns a piece of c to ask l for, or -1: one that nobody was asked for, or else one for which a
// few others were, a while ago.
func (f *Fetch) nextPiece(c *metadataCopy, l *fetchLink) int {
	again := -1
	for i, a := range c.asks {
		switch {
		case c.pieces[i] != nil:
		case a.waiting == 0:
			return i
		case again < 0 && a.waiting < maxAsked && f.now.Sub(a.last) >= askAgainAfter && !l.waitsFor(i):
			again = i
		}
	}
	return again
}

// waitsFor reports whether the peer has been asked for a piece and has not answered.
func (l *fetchLink) waitsFor(i int) bool {
	return slices.ContainsFunc(l.asked, func(a metadataAsk) bool { return a.piece == i })
}

// Snapshot tells the state of the swarm.
func (f *Fetch) Snapshot(time.Time) Snapshot {
	s := Snapshot{
		Fetching: true, Left: unknownLeft, Missing: unknownLeft,
		Peers: len(f.links), Liars: f.liars, Dialing: f.dialing.underWay, Known: f.dialing.known(), Met: f.met,
	}
	for _, l := range f.links {
		if len(l.asked) > 0 {
			s.Asked++
		}
	}
	return s
}

// unknownLeft is what trackers are told to be left while nobody knows: anything but 0, which would say that we
// are a seed.
const unknownLeft = piece.BlockSize

// Proceed makes a Core of a Fetch whose metadata is known, and returns with it what is to be done. The connections
// stay: what their peers have said of the content is told to the core as if it had just come. Neither the
// Fetch nor the result of its last Handle may be used after it.
func (f *Fetch) Proceed(now time.Time, cfg Config) (*Core, []Effect) {
	f.begin(now)
	r := f.roster
	r.peering, r.contacts = cfg.Peering.withDefaults(), nil
	c := newCore(r, cfg)
	c.start = now
	c.blame.liars = f.liars
	for _, o := range f.links {
		l := c.newLink(o.contact)
		l.interested, l.amInterested = false, false
		c.links = append(c.links, l)
		c.contacts = append(c.contacts, &l.contact)
		c.byID[l.id] = l
		c.pick.join(l)
	}
	if !c.pick.sched.HavePieces().Empty() {
		c.tellLater(func(*link) bool { return true })
	}
	for _, o := range f.links {
		c.replay(o)
	}
	c.due()
	return c, c.out
}

// replay tells a peer what there is to say now, and the core what the peer has said.
func (c *Core) replay(o *fetchLink) {
	l := c.byID[o.id]
	if l == nil {
		return
	}
	c.introduce(l)
	said := make([]wire.Message, 0, 4+len(o.early.haves)+len(o.early.hints))
	if o.early.hasSet {
		said = append(said, wire.Message{ID: o.early.set, Payload: o.early.bits})
	}
	for _, i := range o.early.haves {
		said = append(said, wire.Message{ID: wire.Have, Index: i})
	}
	if o.interested {
		said = append(said, wire.Message{ID: wire.Interested})
	}
	said = append(said, o.early.hints...)
	if o.early.unchoked {
		said = append(said, wire.Message{ID: wire.Unchoke})
	}
	for _, m := range said {
		if c.byID[o.id] != nil {
			c.message(l, m)
		}
	}
	if c.byID[o.id] != nil {
		l.gotHave = l.gotHave || o.early.spoke
	}
}
