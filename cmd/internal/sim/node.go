package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
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
	lastID         core.LinkID
	ends           map[core.LinkID]*end // look-up only
	order          []*end               // what is ranged over
	ticking        time.Time            // when the next Tick is scheduled for
	tick           uint64               // number of the Tick that counts

	open map[int]*pieceState // look-up only
	have piece.Bitfield
	out  sentBlocks
	lie  uint64 // of the block being received
	res  PeerResult
}

// A pieceState is what the storage has of a piece that is not verified.
type pieceState struct {
	lies   []uint64 // of each block: 0 good
	got    []bool
	count  int
	failed bool // the piece has failed before
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
		ends: make(map[core.LinkID]*end), open: make(map[int]*pieceState), have: piece.NewBitfield(w.layout.Pieces()),
	}
	nd.res.From = make([]int64, len(w.sc.Peers))
	copy(nd.id[:], "-BN0000-")
	binary.BigEndian.PutUint64(nd.id[8:], nd.rng.Uint64())
	binary.BigEndian.PutUint32(nd.id[16:], uint32(n))
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
			Ext: wire.ExtHandshake{Reqq: core.MaxQueue, P: n.addr.Port()},
		},
	}
	if n.peer.Seed {
		for i := range n.have.Len() {
			n.have.Set(i)
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
	n.gone, n.vanished = true, n.peer.Vanishes
	for _, e := range n.order {
		switch {
		case !e.live:
		case n.vanished:
			e.live, e.conn.closed = false, true
			n.w.after(silence, e.other.lost)
		default:
			e.close()
		}
	}
	n.core, n.ends, n.order, n.open = nil, nil, nil, nil
}

// handle tells the core of an event and does what it decides.
func (n *node) handle(ev core.Event) {
	if !n.present() {
		return
	}
	for _, e := range n.core.Handle(n.w.clock(), ev) {
		n.note(&e)
		n.do(&e)
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

// note adds an effect to the trace.
func (n *node) note(e *core.Effect) {
	m := &e.Msg
	n.w.note(uint64(n.n), uint64(e.Op), uint64(e.Link), uint64(m.ID), uint64(m.Index), uint64(m.Begin), uint64(m.Length),
		uint64(e.Block.Piece), uint64(e.Block.Begin), uint64(e.Addr.Port()))
}

func (n *node) do(e *core.Effect) {
	switch e.Op {
	case core.Send:
		n.end(e.Link).send(e.Msg, 0)
	case core.Write:
		n.write(e.Block)
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
	e := n.ends[id]
	if e == nil {
		panic(fmt.Sprintf("sim: peer %d decides about link %d, which it does not have", n.n, id))
	}
	return e
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
	e.send(wire.Message{ID: wire.Piece, Index: b.Piece, Begin: b.Begin, Length: b.Length}, lie)
}

// sent notes that a block has gone out.
func (n *node) sent(e *end, b piece.Block) {
	n.res.Sent += int64(b.Length)
	if n.out.add(&n.w.layout, b) && n.out.count == n.w.blocks {
		n.res.Out = n.w.now
	}
	if n.peer.Copies > 0 && float64(n.res.Sent) >= n.peer.Copies*float64(n.w.layout.Total()) {
		n.w.after(0, n.leave)
	}
	n.handle(core.Event{Op: core.Sent, Link: e.id, N: int(b.Length)})
}

// receive takes a message.
func (n *node) receive(e *end, it item) {
	op := core.Message
	if it.msg.ID == wire.Piece {
		op, n.lie = core.BlockIn, it.lie
		n.res.From[e.other.node.n] += int64(it.msg.Length)
	}
	n.handle(core.Event{Op: op, Link: e.id, Msg: it.msg})
}

// write stores the block being received. The last one of a piece brings the verdict.
func (n *node) write(b piece.Block) {
	i := int(b.Piece)
	if n.have.Has(i) {
		panic(fmt.Sprintf("sim: peer %d writes into piece %d, which is verified", n.n, i))
	}
	p := n.open[i]
	if p == nil {
		blocks := n.w.layout.Blocks(i)
		p = &pieceState{lies: make([]uint64, blocks), got: make([]bool, blocks)}
		n.open[i] = p
	}
	k := n.w.layout.Number(b)
	if p.got[k] {
		panic(fmt.Sprintf("sim: peer %d writes block %d of piece %d twice", n.n, k, i))
	}
	p.lies[k], p.got[k] = n.lie, true
	if p.count++; p.count == len(p.got) {
		n.w.after(hashTime, func() { n.verify(i, p) })
	}
}

// verify gives the verdict on a piece.
func (n *node) verify(i int, p *pieceState) {
	if n.gone {
		return
	}
	ok := true
	for _, lie := range p.lies {
		ok = ok && lie == 0
	}
	ev := core.Event{Op: core.Verified, Piece: i, OK: ok}
	if !ok || p.failed {
		ev.Sums = sums(i, p.lies)
	}
	if ok {
		n.have.Set(i)
		delete(n.open, i)
	} else {
		n.res.Failed++
		*p = pieceState{lies: make([]uint64, len(p.lies)), got: make([]bool, len(p.got)), failed: true}
	}
	n.handle(ev)
	if ok && n.have.Full() {
		n.handle(core.Event{Op: core.Stored})
	}
}

// sums returns sums of the blocks of a piece, equal where the content is.
func sums(i int, lies []uint64) [][20]byte {
	out := make([][20]byte, len(lies))
	for k, lie := range lies {
		binary.BigEndian.PutUint32(out[k][:], uint32(i))
		binary.BigEndian.PutUint32(out[k][4:], uint32(k))
		binary.BigEndian.PutUint64(out[k][8:], lie)
	}
	return out
}
