package core

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A storm drives a core by bytes, as its shell and as peers that do whatever comes to mind, and
// holds it to what no event may make it break.
type storm struct {
	t       testing.TB
	in      []byte // what is left of the script
	c       *Core
	now     time.Time
	next    LinkID
	peers   []*stormPeer
	dialing []netip.AddrPort
	written map[int]int // blocks of each piece since its last verdict
	full    []int       // pieces that await one
	ended   bool
	asked   *piece.Block // the block of the event being handled
	did     []string     // unless nil: all effects but the notes
	notes   []string
	wrote   int            // Write and Release effects of the event being handled
	order   *int32         // of the super-seeding that goes on; nil if none does
	out     piece.Bitfield // what was out of it when last looked at
	supers  int            // steps at which it was one
	ends    int            // times that it ended
}

// ourDontHave is the id under which the storm's core takes lt_donthave.
const ourDontHave = 9

// A stormPeer is the other end of a link: what it has been asked, and what it has asked.
type stormPeer struct {
	id      LinkID
	fast    bool
	reqq    int
	choking bool
	allowed []uint32       // pieces it serves all the same
	live    []piece.Block  // requests it has
	late    []lateAsk      // those it was told to forget
	open    []piece.Block  // whatever it was asked and has not answered
	wants   int            // requests of ours to it that it may still answer, or we must
	told    piece.Bitfield // what it was told that we have
}

type lateAsk struct {
	block piece.Block
	at    time.Time
}

func newStorm(t testing.TB, in []byte) *storm {
	l := layoutOf(t, 8*64*kib+5000, 64*kib)
	s := &storm{t: t, in: in, now: epoch, written: map[int]int{}}
	cfg := Config{
		Peering: Peering{
			Rand: rand.New(rand.NewPCG(1, 2)), MaxPeers: 6, HalfOpen: 2,
			Ext: wire.ExtHandshake{M: wire.ExtIDs{UtPex: ourPex, DontHave: ourDontHave}},
		},
		Layout: l, Slots: 2, Seed: Seeding{Forever: len(in)%3 > 0},
	}
	switch len(in) % 8 {
	case 1, 5:
		cfg.Have, cfg.SuperSeed = full(l), SuperAlways
	case 2, 6:
		cfg.Have = full(l)
	}
	copy(cfg.PeerID[:], "-BN0000-mmmmmmmmmmmm")
	s.c = New(s.now, cfg)
	return s
}

// byte returns the next byte of the script, below n.
func (s *storm) byte(n int) int {
	if len(s.in) == 0 {
		return 0
	}
	b := s.in[0]
	s.in = s.in[1:]
	return int(b) % n
}

func (s *storm) run() {
	for len(s.in) > 0 {
		s.step()
		s.audit()
	}
}

func (s *storm) step() {
	op := s.byte(28)
	if op == 0 || len(s.peers) == 0 {
		s.join()
		return
	}
	p := s.peers[s.byte(len(s.peers))]
	switch op {
	case 1:
		s.gone(p.id)
		s.handle(Event{Op: Left, Link: p.id})
	case 2:
		s.message(p, wire.Message{ID: wire.Bitfield, Payload: []byte{byte(s.byte(256)), 0x80}})
	case 3, 4:
		s.message(p, wire.Message{ID: wire.Have, Index: uint32(s.byte(9))})
	case 5, 6:
		p.choking = false
		s.message(p, wire.Message{ID: wire.Unchoke})
	case 7:
		s.choke(p)
	case 8:
		s.message(p, wire.Message{ID: wire.Interested + wire.ID(s.byte(2))})
	case 9, 10:
		p.wants++
		s.message(p, s.theirRequest(wire.Request))
	case 11:
		s.message(p, s.theirRequest(wire.Cancel))
	case 12, 13, 14, 15, 16:
		s.answer(p)
	case 17:
		s.refuse(p)
	case 18, 19:
		s.verdict()
	case 20:
		s.wait()
	case 21:
		n := s.byte(5) * piece.BlockSize // perhaps more than there was
		s.handle(Event{Op: Sent, Link: p.id, N: n})
	case 22:
		s.dials()
	case 23:
		s.unasked(p)
	case 24:
		pex := wire.Pex{Added: []netip.AddrPort{addr(s.byte(20))}, Flags: []byte{byte(s.byte(256))}}
		s.message(p, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: wire.AppendPex(nil, pex)})
	case 25:
		i := uint32(s.byte(9))
		p.allowed = append(p.allowed, i)
		s.message(p, wire.Message{ID: wire.AllowedFast, Index: i})
	case 26:
		s.message(p, wire.Message{ID: wire.Suggest, Index: uint32(s.byte(9))})
	case 27:
		s.loses(p, uint32(s.byte(9)))
	}
}

// loses lets a peer have a piece no more: what it was asked of it need not be answered.
func (s *storm) loses(p *stormPeer, i uint32) {
	p.live = slices.DeleteFunc(p.live, func(b piece.Block) bool {
		if b.Piece == i {
			p.late = append(p.late, lateAsk{b, s.now})
		}
		return b.Piece == i
	})
	s.message(p, wire.Message{ID: wire.Extended, ExtID: ourDontHave, Payload: wire.AppendDontHave(nil, i)})
}

func (s *storm) message(p *stormPeer, m wire.Message) {
	s.handle(Event{Op: Message, Link: p.id, Msg: m})
}

func (s *storm) join() {
	s.next++
	who := LinkID(s.byte(8)) // few, so that they come twice
	rem := remote(who)
	rem.Outgoing, rem.Fast, rem.Ext = s.byte(2) == 0, s.byte(2) == 0, true
	if i := slices.Index(s.dialing, rem.Addr); rem.Outgoing && i >= 0 {
		s.dialing = slices.Delete(s.dialing, i, i+1)
	}
	p := &stormPeer{id: s.next, fast: rem.Fast, reqq: 1 + s.byte(40), choking: true, told: piece.NewBitfield(s.c.cfg.Layout.Pieces())}
	s.peers = append(s.peers, p)
	s.handle(Event{Op: Joined, Link: p.id, Remote: rem})
	s.message(p, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, wire.ExtHandshake{
		Reqq: p.reqq, P: rem.Addr.Port(), M: wire.ExtIDs{UtPex: theirPex},
	})})
	if s.byte(2) == 0 && p.fast {
		s.message(p, wire.Message{ID: wire.HaveAll})
	}
}

func (s *storm) gone(id LinkID) {
	s.peers = slices.DeleteFunc(s.peers, func(p *stormPeer) bool { return p.id == id })
}

func (s *storm) choke(p *stormPeer) {
	p.choking = true
	if !p.fast { // it forgets what it was asked
		p.live = nil
	}
	s.message(p, wire.Message{ID: wire.Choke})
}

func (s *storm) theirRequest(id wire.ID) wire.Message {
	m := request(uint32(s.byte(9)), uint32(s.byte(4)))
	if m.Index == 8 {
		m.Begin, m.Length = 0, 5000
	}
	m.ID = id
	return m
}

// take removes one of the requests of a peer, as it chooses, from all its lists.
func (s *storm) take(p *stormPeer) (b piece.Block, ok bool) {
	if len(p.open) == 0 {
		return b, false
	}
	i := s.byte(min(4, len(p.open)))
	b = p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	if i := slices.Index(p.live, b); i >= 0 {
		p.live = slices.Delete(p.live, i, i+1)
	} else if i := slices.IndexFunc(p.late, func(a lateAsk) bool { return a.block == b }); i >= 0 {
		p.late = slices.Delete(p.late, i, i+1)
	}
	return b, true
}

func (s *storm) answer(p *stormPeer) {
	if b, ok := s.take(p); ok {
		s.block(p, b, &b)
	}
}

func (s *storm) block(p *stormPeer, b piece.Block, asked *piece.Block) {
	s.asked, s.wrote = asked, 0
	s.handle(Event{Op: BlockIn, Link: p.id, Msg: wire.Message{ID: wire.Piece, Index: b.Piece, Begin: b.Begin, Length: b.Length}})
	if s.wrote != 1 {
		s.t.Fatalf("a block was written or released %d times", s.wrote)
	}
	s.asked = nil
}

func (s *storm) unasked(p *stormPeer) {
	b := s.c.cfg.Layout.BlockAt(s.byte(8), s.byte(4))
	if !slices.Contains(p.open, b) {
		s.block(p, b, nil)
	}
}

func (s *storm) refuse(p *stormPeer) {
	if !p.fast {
		return
	}
	if b, ok := s.take(p); ok {
		s.message(p, wire.Message{ID: wire.Reject, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	}
}

func (s *storm) verdict() {
	if len(s.full) == 0 {
		return
	}
	i := s.full[0]
	s.full = s.full[1:]
	s.written[i] = 0
	blocks := s.c.cfg.Layout.Blocks(i)
	bad := sums(blocks)
	ok := s.byte(4) > 0
	if !ok {
		bad = sums(blocks, s.byte(blocks))
	}
	s.handle(Event{Op: Verified, Piece: i, OK: ok, Sums: bad})
	if s.c.pick.sched.Complete() {
		s.handle(Event{Op: Stored})
	}
}

// wait lets time pass.
func (s *storm) wait() {
	end := s.now.Add([]time.Duration{time.Millisecond, time.Second, 5 * time.Second, 25 * time.Second}[s.byte(4)])
	for n := 0; !s.ended; n++ {
		next := s.c.Next()
		if len(s.c.links) > 0 && next.IsZero() {
			s.t.Fatal("somebody is connected and nothing is ever due")
		}
		if next.IsZero() || next.After(end) {
			break
		}
		s.now = later(s.now, next)
		s.handle(Event{Op: Tick})
		if again := s.c.Next(); again.Equal(next) || n > 1000 {
			s.t.Fatalf("ticks do nothing about what is due at %v", next.Sub(epoch))
		}
	}
	s.now = later(s.now, end)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (s *storm) dials() {
	if len(s.dialing) > 0 && s.byte(2) == 0 {
		at := s.dialing[0]
		s.dialing = s.dialing[1:]
		s.handle(Event{Op: DialFailed, Addr: at, Local: s.byte(2) == 0})
		return
	}
	s.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(s.byte(20))}, Source: Source(s.byte(3))})
}

// handle hands an event to the core and checks each effect.
func (s *storm) handle(ev Event) {
	for _, e := range s.c.Handle(s.now, ev) {
		if s.ended && e.Op != Release && ev.Op != Joined {
			s.t.Fatalf("%s after the end", word(e))
		}
		if e.Op == Explain {
			s.notes = append(s.notes, e.Note.What+": "+e.Note.Why)
			continue
		}
		if s.did != nil {
			s.did = append(s.did, fmt.Sprint(word(e), e.Block, e.Msg.Index, e.Msg.Begin))
		}
		switch e.Op {
		case Write, Release:
			s.wrote++
			if e.Op == Write {
				s.store(e.Block)
			}
		case Forget:
			s.unstore(e.Block)
		case Dial:
			if slices.Contains(s.dialing, e.Addr) {
				s.t.Fatalf("%v is dialed twice at once", e.Addr)
			}
			s.dialing = append(s.dialing, e.Addr)
		case Done:
			s.ended = true
		case Completed:
		default:
			s.effect(e)
		}
	}
}

func (s *storm) store(b piece.Block) {
	if s.asked == nil || *s.asked != b {
		s.t.Fatalf("block %v is written, which nobody was asked for", b)
	}
	i := int(b.Piece)
	if s.written[i]++; s.written[i] == s.c.cfg.Layout.Blocks(i) {
		s.full = append(s.full, i)
	}
}

func (s *storm) unstore(b piece.Block) {
	i := int(b.Piece)
	if s.written[i] == 0 || s.written[i] == s.c.cfg.Layout.Blocks(i) {
		s.t.Fatalf("block %v is forgotten, of whose piece %d are written", b, s.written[i])
	}
	s.written[i]--
}

// effect checks one that concerns a link.
func (s *storm) effect(e Effect) {
	i := slices.IndexFunc(s.peers, func(p *stormPeer) bool { return p.id == e.Link })
	if i < 0 {
		s.t.Fatalf("%s for a link that is gone", word(e))
	}
	p := s.peers[i]
	b := piece.Block{Piece: e.Msg.Index, Begin: e.Msg.Begin, Length: e.Msg.Length}
	switch {
	case e.Op == Drop:
		s.gone(e.Link)
	case e.Op == ReadBlock:
		if p.wants--; !p.told.Has(int(e.Block.Piece)) {
			s.t.Fatalf("piece %d is served to somebody who was not told of it", e.Block.Piece)
		}
	case e.Msg.ID == wire.HaveAll:
		p.told = full(s.c.cfg.Layout)
	case e.Msg.ID == wire.Bitfield:
		var err error
		if p.told, err = piece.ParseBitfield(e.Msg.Payload, p.told.Len()); err != nil {
			s.t.Fatal(err)
		}
	case e.Msg.ID == wire.Have:
		if !p.told.Set(int(e.Msg.Index)) {
			s.t.Fatalf("somebody is told twice of piece %d", e.Msg.Index)
		}
	case e.Msg.ID == wire.Request:
		s.request(p, b)
	case e.Msg.ID == wire.Cancel:
		i := slices.Index(p.live, b)
		if i >= 0 {
			p.live = slices.Delete(p.live, i, i+1)
			p.late = append(p.late, lateAsk{b, s.now})
		}
	case e.Msg.ID == wire.Reject:
		if p.wants--; !p.fast || p.wants < 0 {
			s.t.Fatal("a request is refused that was never made, or to a peer that does not understand")
		}
	}
}

// request checks a request to a peer.
func (s *storm) request(p *stormPeer, b piece.Block) {
	switch {
	case p.choking && !slices.Contains(p.allowed, b.Piece):
		s.t.Fatalf("%v is asked of a peer that chokes", b)
	case slices.Contains(p.live, b):
		s.t.Fatalf("%v is asked twice of one peer", b)
	}
	p.live = append(p.live, b)
	p.open = append(p.open, b)
	n := len(p.live)
	for _, a := range p.late {
		if p.fast && s.now.Sub(a.at) < lostFor {
			n++
		}
	}
	if n > p.reqq {
		s.t.Fatalf("%d requests outstanding at a peer that takes %d", n, p.reqq)
	}
}

// audit checks the accounts.
func (s *storm) audit() {
	c := s.c
	if len(c.links) != len(c.byID) || len(c.links) != len(c.pick.links) || len(c.links) > c.cfg.MaxPeers {
		s.t.Fatalf("%d links, %d by number, %d by peer", len(c.links), len(c.byID), len(c.pick.links))
	}
	if !slices.EqualFunc(c.links, c.contacts, func(l *link, o *contact) bool { return &l.contact == o }) {
		s.t.Fatalf("%d links are not the %d contacts", len(c.links), len(c.contacts))
	}
	if o := c.turns.of; o != nil && c.byID[o.id] != o {
		s.t.Fatalf("it is the turn of link %d, which is gone", o.id)
	}
	reading, writing, asking, seeds := 0, 0, 0, 0
	for _, l := range c.links {
		if l.upload.inFlight < 0 || len(l.queue) > maxQueue || len(l.asked.late) > maxLate || l.asked.lost() < 0 {
			s.t.Fatalf("link %d: %d bytes in flight, %d asked of us, %d late", l.id, l.upload.inFlight, len(l.queue), len(l.asked.late))
		}
		if len(l.pex.told) > c.peering.MaxPeers {
			s.t.Fatalf("link %d was told of %d peers", l.id, len(l.pex.told))
		}
		reading += l.upload.inFlight
		if l.shut && !c.pick.sched.Shut(l.sched) {
			s.t.Fatalf("link %d is not asked, though it might give something", l.id)
		}
		if l.upload.inFlight > 0 {
			writing++
		}
		if slices.Contains(c.serving.writing, l) != (l.upload.inFlight > 0) {
			s.t.Fatalf("link %d has %d bytes in flight, and is listed as if that were not so", l.id, l.upload.inFlight)
		}
		if asks(l) {
			asking++
		}
		if l.seed {
			seeds++
		}
	}
	dials, busy := 0, 0
	for _, a := range c.dialing.order {
		if a.state == dialing {
			dials++
		}
		if a.state.busy() {
			busy++
		}
	}
	for _, n := range c.dialing.perIP {
		busy -= n
	}
	if busy != 0 {
		s.t.Fatalf("addresses in use are miscounted by %d", busy)
	}
	if asking != c.serving.asking {
		s.t.Fatalf("%d links ask for something, counted %d", asking, c.serving.asking)
	}
	if writing != len(c.serving.writing) {
		s.t.Fatalf("%d links are being written to, listed %d", writing, len(c.serving.writing))
	}
	if reading != c.serving.reading || seeds != c.seeds || dials != c.dialing.underWay {
		s.t.Fatalf("%d bytes being read, %d seeds, %d dials; counted %d, %d, %d",
			reading, seeds, dials, c.serving.reading, c.seeds, c.dialing.underWay)
	}
	if left := c.Snapshot(s.now).Left; left < 0 {
		s.t.Fatalf("%d bytes left", left)
	}
	s.auditSuper()
}

// auditSuper checks the accounts of a super-seed.
func (s *storm) auditSuper() {
	u := &s.c.super
	waits := int64(0)
	for _, l := range s.c.links {
		w := l.showing
		if w == nil {
			continue
		}
		for _, p := range slices.Concat(w.open, w.kept) {
			if !l.sees(p.piece) || p.left < 0 || p.left > s.c.cfg.Layout.PieceSize(p.piece) {
				s.t.Fatalf("%+v is shown to link %d, which has seen %v", p, l.id, w.all)
			}
		}
		for i := range w.open {
			if waits += w.open[i].waits(); w.open[i].left == 0 {
				s.t.Fatalf("%+v waits to be sent", w.open[i])
			}
		}
	}
	if waits != u.backlog {
		s.t.Fatalf("%d bytes wait, %d are counted", waits, u.backlog)
	}
	if len(u.again) > s.c.cfg.Layout.Pieces() {
		s.t.Fatalf("%d pieces are to be shown again", len(u.again))
	}
	if !u.on {
		if s.order != nil {
			s.ends++
		}
		s.order = nil
		return
	}
	s.supers++
	if s.order != &u.order[0] { // it begins, perhaps anew
		s.order, s.out = &u.order[0], piece.NewBitfield(s.c.cfg.Layout.Pieces())
	}
	for i := range s.out.Len() {
		if s.out.Has(i) && !u.out.Has(i) {
			s.t.Fatalf("piece %d is out no more", i)
		}
	}
	s.out = u.out.Clone()
}

// FuzzEvents: whatever happens, the core never panics, asks no peer for more than it takes, writes only
// what it asked for, says nothing to links that are gone, keeps its accounts, and always
// knows what is due.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x20\x00\x05\x00"))
	f.Add([]byte("\x00\x01\x00\x01\x05\x01\x00\x02\x01\x01\x05\x01\x08\x00\x00\x09\x00\x00\x00\x14\x00\x03")) // a super-seed
	f.Fuzz(func(t *testing.T, in []byte) { newStorm(t, in).run() })
}

func TestWhateverHappens(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	complete, supers, ends := 0, 0, 0
	storms := 300
	if testing.Short() {
		storms = 60
	}
	for range storms {
		in := make([]byte, 4000+rng.IntN(24))
		for i := range in {
			in[i] = byte(rng.Uint32())
		}
		s := newStorm(t, in)
		began := s.c.pick.sched.Complete()
		s.run()
		if s.c.leaving.complete && !began {
			complete++
		}
		supers += s.supers
		ends += s.ends
	}
	if complete < storms/30 || 3*supers < 100*storms || ends < storms/3 {
		t.Errorf("%d of %d storms came to completion, %d steps of super-seeding, which ended %d times: the storm is too weak",
			complete, storms, supers, ends)
	}
}
