package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer/wire"
	"bittern/piece"
)

const (
	// hashTime is how long the verdict on a piece takes.
	hashTime = 2 * time.Millisecond

	// The tracker answers so long after a peer has arrived, with so many others, and is asked again
	// so much later.
	trackerTime  = 100 * time.Millisecond
	trackerPeers = 50
	trackerEvery = time.Minute

	extPex = 2 // the id of peer exchange, as the program has it
)

// A node is one peer in the play.
type node struct {
	w    *world
	n    int
	peer *Peer
	id   [20]byte
	addr netip.AddrPort
	rng  *rand.Rand
	core *core.Core // nil until it arrives
	line line

	gone, vanished bool
	ends           []*end    // by LinkID; nil where the connection is over
	ticking        time.Time // when the next Tick is scheduled for
	tick           uint64    // number of the Tick that counts

	open  []*pieceState // by piece; nil where nothing is stored
	have  piece.Bitfield
	out   sentBlocks
	from  int           // who sent the block being received
	lie   uint64        // of that block
	kept  int64         // bytes stored that have not failed
	began time.Duration // how long its uplink had been busy before its first block
	res   PeerResult
}

// A pieceState is what the storage has of a piece that is not verified.
type pieceState struct {
	blocks []storedBlock
	count  int
	failed bool // the piece has failed before
}

// A storedBlock is a block of a piece that is not verified.
type storedBlock struct {
	got  bool
	from int
	lie  uint64 // 0 means good
}

// sentBlocks is the set of blocks that a node has sent.
type sentBlocks struct {
	has   []bool // by number, all pieces having as many as the first
	count int
}

// add puts b into the set and reports whether it is new.
func (s *sentBlocks) add(l *piece.Layout, b piece.Block) bool {
	if s.has == nil {
		s.has = make([]bool, l.Pieces()*l.Blocks(0))
	}
	has := &s.has[int(b.Piece)*l.Blocks(0)+l.Number(b)]
	if *has {
		return false
	}
	*has = true
	s.count++
	return true
}

func newNode(w *world, n int) *node {
	p := &w.sc.Peers[n]
	nd := &node{
		w: w, n: n, peer: p, line: newLine(p),
		addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 6881),
		rng:  rand.New(rand.NewPCG(w.sc.Seed, uint64(n)+1)),
		ends: make([]*end, 1), open: make([]*pieceState, w.layout.Pieces()), have: piece.NewBitfield(w.layout.Pieces()),
	}
	nd.res.From = make([]int64, len(w.sc.Peers))
	copy(nd.id[:], "-BN0000-")
	binary.BigEndian.PutUint64(nd.id[8:], nd.rng.Uint64())
	binary.BigEndian.PutUint32(nd.id[16:], uint32(n))
	nd.res.Arrived = p.Arrives
	w.at(p.Arrives, nd.arrive)
	return nd
}

func (w *world) nodeAt(addr netip.AddrPort) *node {
	ip := addr.Addr().As4()
	if n := int(ip[2])<<8 | int(ip[3]); n < len(w.nodes) && w.nodes[n].addr == addr {
		return w.nodes[n]
	}
	return nil
}

func (n *node) present() bool { return n.core != nil && !n.gone }

// arrive starts the node's core.
func (n *node) arrive() {
	cfg := core.Config{
		Layout: n.w.layout, Sequential: n.peer.Sequential,
		Peering: core.Peering{
			PeerID: n.id, Rand: n.rng, MaxPeers: n.peer.MaxPeers,
			Ext:     wire.ExtHandshake{M: wire.ExtIDs{UtPex: extPex}, Reqq: core.MaxQueue, P: n.addr.Port()},
			Explain: n.w.sc.Log != nil,
		},
	}
	if n.peer.Seed {
		for i := range n.have.Len() {
			n.have.Set(i)
			n.w.copies[i]++
		}
		cfg.Have = n.have
	}
	switch {
	case n.peer.Seed || n.peer.Stay < 0:
		cfg.Seed.Forever = true
	default:
		cfg.Seed.Time = n.peer.Stay
	}
	if n.peer.FreeRide {
		cfg.Slots = -1
	}
	n.core = core.New(n.w.clock(), cfg)
	if n.peer.Leaves > 0 {
		n.w.at(n.peer.Leaves, n.leave)
	}
	n.w.after(trackerTime, n.announce)
	n.handle(core.Event{Op: core.Tick})
}

// announce asks the tracker for peers.
func (n *node) announce() {
	if n.gone {
		return
	}
	var addrs []netip.AddrPort
	for _, i := range n.w.rng.Perm(len(n.w.nodes)) {
		if o := n.w.nodes[i]; o != n && o.present() && len(addrs) < trackerPeers {
			addrs = append(addrs, o.addr)
		}
	}
	n.handle(core.Event{Op: core.Found, Addrs: addrs, Source: core.SourceTracker})
	n.w.after(trackerEvery, n.announce)
}

// leave takes the node out of the swarm, with its connections.
func (n *node) leave() {
	if n.gone {
		return
	}
	s := n.core.Snapshot(n.w.clock())
	n.res.Received, n.res.Wasted, n.res.Left = s.Received, s.Wasted, s.Left
	n.res.Gone = n.w.now
	n.gone, n.vanished = true, n.peer.Vanishes
	for _, e := range n.ends {
		switch {
		case e == nil:
		case n.vanished:
			e.part()
			e.shut()
			n.w.after(silence, e.other.lost)
		default:
			e.close()
		}
	}
	for i := range n.have.Len() {
		if n.have.Has(i) {
			n.w.copies[i]--
		}
	}
	n.core, n.ends, n.open = nil, nil, nil
}

// handle tells the core of an event and does what it decides.
func (n *node) handle(ev core.Event) {
	if !n.present() {
		return
	}
	effects := n.core.Handle(n.w.clock(), ev)
	for i := range effects {
		n.note(&effects[i])
		n.do(&effects[i])
		if n.gone {
			return
		}
	}
	n.wind()
}

// wind sets the one timer to what the core says.
func (n *node) wind() {
	next := n.core.Next()
	if next.Equal(n.ticking) {
		return
	}
	n.ticking = next
	n.tick++
	if next.IsZero() {
		return
	}
	mine := n.tick
	n.w.at(next.Sub(epoch), func() {
		if n.tick != mine {
			return
		}
		n.ticking = time.Time{}
		n.handle(core.Event{Op: core.Tick})
		if n.present() && n.core.Next().Equal(next) {
			panic(fmt.Sprintf("sim: a tick of peer %d did nothing about what was due", n.n))
		}
	})
}

// note adds an effect to the trace. What the core says of its decisions is only for people to read: a trace is the same
// whether anybody does.
func (n *node) note(e *core.Effect) {
	if e.Op == core.Explain {
		n.explain(e.Note)
		return
	}
	m := &e.Msg
	n.w.note(uint64(n.n), uint64(e.Op), uint64(e.Link), uint64(m.ID), uint64(m.Index), uint64(m.Begin), uint64(m.Length),
		uint64(e.Block.Piece), uint64(e.Block.Begin), uint64(e.Addr.Port()))
	if n.w.sc.Log != nil {
		n.log(e)
	}
}

// explain writes a note of the core down.
func (n *node) explain(note *core.Note) {
	fmt.Fprintf(n.w.sc.Log, "%11.6f peer %d decides: %s", n.w.now.Seconds(), n.n, note.What)
	if note.Why != "" {
		fmt.Fprintf(n.w.sc.Log, " (%s)", note.Why)
	}
	if int(note.Link) < len(n.ends) && n.ends[note.Link] != nil {
		fmt.Fprintf(n.w.sc.Log, ", peer %d", n.ends[note.Link].other.node.n)
	}
	if note.Piece > 0 {
		fmt.Fprintf(n.w.sc.Log, ", piece %d", note.Piece-1)
	}
	if note.Blocks > 0 {
		fmt.Fprintf(n.w.sc.Log, ", %d blocks", note.Blocks)
	}
	if note.Peers > 0 {
		fmt.Fprintf(n.w.sc.Log, ", %d peers", note.Peers)
	}
	if note.Rate > 0 {
		fmt.Fprintf(n.w.sc.Log, ", %.0f KiB/s", note.Rate/1024)
	}
	fmt.Fprintln(n.w.sc.Log)
}

// log writes an effect down for people.
func (n *node) log(e *core.Effect) {
	say := func(format string, args ...any) {
		fmt.Fprintf(n.w.sc.Log, "%11.6f peer %d "+format+"\n", append([]any{n.w.now.Seconds(), n.n}, args...)...)
	}
	other := func() string { return fmt.Sprintf("peer %d", n.end(e.Link).other.node.n) }
	block := func(b piece.Block) string { return fmt.Sprintf("block %d/%d", b.Piece, b.Begin/piece.BlockSize) }
	switch e.Op {
	case core.Send:
		switch m := e.Msg; m.ID {
		case wire.Have, wire.Suggest, wire.AllowedFast:
			say("says %v %d to %s", m.ID, m.Index, other())
		case wire.Request, wire.Cancel, wire.Reject:
			say("says %v %s to %s", m.ID, block(piece.Block{Piece: m.Index, Begin: m.Begin}), other())
		default:
			say("says %v to %s", m.ID, other())
		}
	case core.Write:
		say("stores %s of peer %d", block(e.Block), n.from)
	case core.Forget:
		say("forgets %s", block(e.Block))
	case core.ReadBlock:
		say("sends %s to %s", block(e.Block), other())
	case core.Dial:
		say("dials %v", e.Addr)
	case core.Drop:
		say("drops %s: %v", other(), e.Err)
	case core.Completed:
		say("has everything")
	case core.Done:
		say("ends: %v", e.Outcome)
	}
}

func (n *node) do(e *core.Effect) {
	switch e.Op {
	case core.Send:
		n.send(n.end(e.Link), e.Msg)
	case core.Write:
		n.write(e.Block)
	case core.Forget:
		n.forget(e.Block)
	case core.ReadBlock:
		n.read(n.end(e.Link), e.Block)
	case core.Dial:
		n.w.dial(n, e.Addr)
	case core.Drop:
		n.drop(n.end(e.Link), e.Err)
	case core.Completed, core.Done:
		n.complete()
		if e.Op == core.Done {
			n.leave()
		}
	}
}

// end returns the connection that an effect means.
func (n *node) end(id core.LinkID) *end {
	if int(id) >= len(n.ends) || n.ends[id] == nil {
		panic(fmt.Sprintf("sim: peer %d decides about link %d, which it does not have", n.n, id))
	}
	return n.ends[id]
}

// send sends a message other than a block.
func (n *node) send(e *end, m wire.Message) {
	switch m.ID {
	case wire.Interested:
		e.wants = true
	case wire.NotInterested:
		e.wants = false
	}
	e.send(m)
}

func (n *node) drop(e *end, why error) {
	if m, ok := errors.AsType[*core.Misdeed](why); ok && m.Ban {
		n.res.Convicts = append(n.res.Convicts, e.other.node.n)
	}
	e.close()
}

// complete notes that the node has everything.
func (n *node) complete() {
	if n.peer.Seed || n.res.Done > 0 {
		return
	}
	n.res.Done = n.w.now
	if n.peer.waited() {
		n.w.open--
	}
	if n.peer.waited() && n.w.firstDone == 0 {
		n.w.firstDone = n.w.now
		for _, o := range n.w.nodes {
			o.res.Early = o.kept
		}
	}
}

// read sends a block, as it is or not.
func (n *node) read(e *end, b piece.Block) {
	if !n.have.Has(int(b.Piece)) {
		panic(fmt.Sprintf("sim: peer %d serves piece %d, which it does not have", n.n, b.Piece))
	}
	if n.peer.Mute {
		return
	}
	var lie uint64
	if n.peer.Lies > 0 && n.rng.Float64() < n.peer.Lies {
		lie = n.rng.Uint64() | 1
	}
	e.sendBlock(b, lie)
}

// sent notes that a block has gone out.
func (n *node) sent(e *end, b piece.Block) {
	n.res.Sent += int64(b.Length)
	if n.out.add(&n.w.layout, b) && n.out.count == n.w.blocks {
		n.res.Out, n.res.OutSent = n.w.now, n.res.Sent
		n.res.OutBusy = (n.line.busy - n.began).Seconds() / (n.w.now - n.res.Began).Seconds()
	}
	if n.peer.Copies > 0 && float64(n.res.Sent) >= n.peer.Copies*float64(n.w.layout.Total()) {
		n.w.after(0, n.leave)
	}
	n.handle(core.Event{Op: core.Sent, Link: e.id, N: int(b.Length)})
}

// receive takes a message; lie is that of the block, if it is one.
func (n *node) receive(e *end, m wire.Message, lie uint64) {
	op := core.Message
	if m.ID == wire.Piece {
		op, n.from, n.lie = core.BlockIn, e.other.node.n, lie
		n.res.From[n.from] += int64(m.Length)
	}
	n.handle(core.Event{Op: op, Link: e.id, Msg: m})
}

// write stores the block being received. The last one of a piece brings the verdict.
func (n *node) write(b piece.Block) {
	i := int(b.Piece)
	if n.have.Has(i) {
		panic(fmt.Sprintf("sim: peer %d writes into piece %d, which is verified", n.n, i))
	}
	p := n.open[i]
	if p == nil {
		p = &pieceState{blocks: make([]storedBlock, n.w.layout.Blocks(i))}
		n.open[i] = p
	}
	k := n.w.layout.Number(b)
	if p.blocks[k].got {
		panic(fmt.Sprintf("sim: peer %d writes block %d of piece %d twice", n.n, k, i))
	}
	p.blocks[k] = storedBlock{true, n.from, n.lie}
	n.keep(int64(b.Length))
	if p.count++; p.count == len(p.blocks) {
		n.w.after(hashTime, func() { n.verify(i, p) })
	}
}

// keep counts bytes stored, or bytes that are missing again.
func (n *node) keep(bytes int64) {
	n.kept += bytes
	n.w.kept += bytes
	if n.res.Nearly == 0 && 100*n.kept >= 99*n.w.layout.Total() {
		n.res.Nearly = n.w.now
	}
}

// forget makes a block that was stored missing again.
func (n *node) forget(b piece.Block) {
	p, k := n.open[int(b.Piece)], n.w.layout.Number(b)
	if p == nil || !p.blocks[k].got || p.count == len(p.blocks) {
		panic(fmt.Sprintf("sim: peer %d forgets block %d of piece %d, which it does not have", n.n, k, b.Piece))
	}
	p.blocks[k] = storedBlock{}
	p.count--
	n.keep(-int64(b.Length))
}

// verify gives the verdict on a piece.
func (n *node) verify(i int, p *pieceState) {
	if n.gone {
		return
	}
	ok := !slices.ContainsFunc(p.blocks, func(b storedBlock) bool { return b.lie != 0 })
	ev := core.Event{Op: core.Verified, Piece: i, OK: ok}
	if !ok || p.failed {
		ev.Sums = sums(i, p.blocks)
	}
	if ok {
		n.have.Set(i)
		n.w.copies[i]++
		n.open[i] = nil
	} else {
		n.fail(i, p)
	}
	n.handle(ev)
	if ok && n.have.Full() {
		n.handle(core.Event{Op: core.Stored})
	}
}

// fail throws away a piece, and notes who is to blame.
func (n *node) fail(i int, p *pieceState) {
	n.res.Failed++
	n.keep(-n.w.layout.PieceSize(i))
	if n.res.FailedBy == nil {
		n.res.FailedBy = make([]int, len(n.w.nodes))
	}
	for k, b := range p.blocks {
		again := func(o storedBlock) bool { return o.from == b.from && o.lie != 0 }
		if b.lie != 0 && !slices.ContainsFunc(p.blocks[:k], again) {
			n.res.FailedBy[b.from]++
		}
	}
	*p = pieceState{blocks: make([]storedBlock, len(p.blocks)), failed: true}
}

// sums returns sums of the blocks of a piece, equal where the content is.
func sums(i int, blocks []storedBlock) [][20]byte {
	out := make([][20]byte, len(blocks))
	for k, b := range blocks {
		binary.BigEndian.PutUint32(out[k][:], uint32(i))
		binary.BigEndian.PutUint32(out[k][4:], uint32(k))
		binary.BigEndian.PutUint64(out[k][8:], b.lie)
	}
	return out
}
