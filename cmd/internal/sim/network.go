package sim

import (
	"net/netip"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer/wire"
	"bittern/piece"
)

const (
	// header is what a packet costs besides its content (IPv4 and TCP with time stamps), and segment
	// how much content it takes, both in bytes.
	header, segment = 52, 1448

	// leastWindow is how many bytes of one direction of a connection may be on the way at once, as
	// TCP has them, where twice bandwidth times delay is not more.
	leastWindow = 1 << 20

	// dialTimeout is when a dial to nobody is given up, and silence when a connection whose other end
	// has vanished is.
	dialTimeout = 10 * time.Second
	silence     = 3 * time.Minute
)

// A conn is a connection between two nodes; an end of it is what each of them holds.
type conn struct {
	ends   [2]end
	closed bool
}

// An end is one side of a connection, with the messages that go from it to the other side. They wait,
// are on the way and arrive in order, so they stay in one queue until they have arrived.
type end struct {
	conn  *conn
	node  *node
	other *end
	id    core.LinkID
	delay time.Duration // one way
	limit int           // bytes that may be on the way
	live  bool          // the node's core has been told of it, and not been told or said that it is over

	queue  []item
	first  int // items before it have arrived
	unsent int // index of the first item that is not being sent yet
	onWay  int // bytes being sent or sent, and not arrived
	listed bool
}

// An item is one message on its way.
type item struct {
	msg   wire.Message
	bytes int
	lie   uint64 // not 0: the block is corrupt, and this names the corruption
}

// A line is what connects a node to the network. Its uplink serves the connections in turn, a packet
// or a block at a time; its downlink takes what comes in the order of arrival.
type line struct {
	up, down  float64 // ns a byte
	sending   bool
	ready     []*end // have something to send and are allowed to
	downUntil time.Duration
}

func newLine(p *Peer) line {
	if p.Up <= 0 || p.Down <= 0 {
		panic("sim: a peer without a line")
	}
	return line{up: 1e9 / float64(p.Up), down: 1e9 / float64(p.Down)}
}

// dial connects a node to an address: a round trip for TCP, another for the handshakes.
func (w *world) dial(from *node, addr netip.AddrPort) {
	to := w.nodeAt(addr)
	fail := func() {
		from.handle(core.Event{Op: core.DialFailed, Addr: addr})
	}
	if to == nil || to.vanished {
		w.after(dialTimeout, fail)
		return
	}
	d := from.peer.Delay + to.peer.Delay
	w.after(3*d, func() {
		if !to.present() || !from.present() {
			w.after(d, fail)
			return
		}
		c := &conn{}
		a, b := &c.ends[0], &c.ends[1]
		*a = end{conn: c, node: from, other: b, delay: d, limit: limit(from, to)}
		*b = end{conn: c, node: to, other: a, delay: d, limit: limit(to, from)}
		w.after(d, func() { a.join(addr, true) })
		b.join(netip.AddrPortFrom(from.addr.Addr(), 50000), false)
	})
}

// limit returns how many bytes may be on the way between two nodes.
func limit(from, to *node) int {
	rate := float64(min(from.peer.Up, to.peer.Down))
	trip := 2 * (from.peer.Delay + to.peer.Delay)
	return max(leastWindow, int(2*rate*trip.Seconds()))
}

// join tells a node of a connection.
func (e *end) join(addr netip.AddrPort, outgoing bool) {
	n := e.node
	if !n.present() {
		e.close()
		return
	}
	n.lastID++
	e.id, e.live = n.lastID, true
	n.ends[e.id] = e
	n.order = append(n.order, e)
	n.handle(core.Event{Op: core.Joined, Link: e.id, Remote: &core.Remote{
		ID: e.other.node.id, Addr: addr, Outgoing: outgoing, Fast: true, Ext: true,
	}})
	if e.conn.closed {
		e.lost()
	}
}

// send queues a message.
func (e *end) send(m wire.Message, lie uint64) {
	if e.conn.closed {
		return
	}
	e.queue = append(e.queue, item{msg: m, bytes: e.node.w.sizeOf(m), lie: lie})
	e.list()
}

// sizeOf returns the bytes of a message on the wire, without the headers of packets.
func (w *world) sizeOf(m wire.Message) int {
	if m.ID == wire.Piece {
		return wire.PieceHeadLen + int(m.Length)
	}
	w.wire = wire.Append(w.wire[:0], m)
	return len(w.wire)
}

// list lets the end take part in the turns of its uplink if it has something to send.
func (e *end) list() {
	if e.listed || e.unsent == len(e.queue) || e.onWay >= e.limit {
		return
	}
	e.listed = true
	l := &e.node.line
	l.ready = append(l.ready, e)
	if !l.sending {
		e.node.sendNext()
	}
}

// sendNext lets the next end in turn send a block, or a packet of other messages.
func (n *node) sendNext() {
	l := &n.line
	for len(l.ready) > 0 {
		e := l.ready[0]
		l.ready = append(l.ready[:0], l.ready[1:]...)
		e.listed = false
		if e.conn.closed || n.gone {
			continue
		}
		block, count, bytes := e.packet()
		cost := bytes + (bytes+segment-1)/segment*header
		l.sending = true
		n.w.after(time.Duration(float64(cost)*l.up), func() {
			l.sending = false
			if !e.conn.closed && !n.gone {
				n.w.after(e.delay, func() { e.other.arrive(count, bytes, cost) })
				e.list()
				if block.Length > 0 {
					n.sent(e, block)
				}
			}
			if !l.sending {
				n.sendNext()
			}
		})
		return
	}
}

// packet takes the messages that go together from what is unsent: a block alone, or as many others as
// fit a packet. It returns the block, if it is one, how many they are and their bytes.
func (e *end) packet() (block piece.Block, count, bytes int) {
	for _, it := range e.queue[e.unsent:] {
		isBlock := it.msg.ID == wire.Piece
		if count > 0 && (isBlock || bytes+it.bytes > segment) {
			break
		}
		count++
		bytes += it.bytes
		if isBlock {
			block = piece.Block{Piece: it.msg.Index, Begin: it.msg.Begin, Length: it.msg.Length}
			break
		}
	}
	e.unsent += count
	e.onWay += bytes
	return block, count, bytes
}

// arrive takes messages to the downlink.
func (e *end) arrive(count, bytes, cost int) {
	if e.conn.closed {
		return
	}
	w, l := e.node.w, &e.node.line
	l.downUntil = max(l.downUntil, w.now) + time.Duration(float64(cost)*l.down)
	w.at(l.downUntil, func() { e.deliver(count, bytes) })
}

// deliver hands messages to the node.
func (e *end) deliver(count, bytes int) {
	from := e.other
	from.onWay -= bytes
	for range count {
		if !e.live || e.conn.closed {
			return
		}
		it := from.queue[from.first]
		from.queue[from.first] = item{}
		from.first++
		e.node.receive(e, it)
	}
	from.compact()
	from.list()
}

// compact gives up the room of what has arrived.
func (e *end) compact() {
	if e.first < 256 || e.first < len(e.queue)/2 {
		return
	}
	e.queue = e.queue[:copy(e.queue, e.queue[e.first:])]
	e.unsent -= e.first
	e.first = 0
}

// close ends the connection; the other side hears of it after the delay.
func (e *end) close() {
	e.live = false
	delete(e.node.ends, e.id)
	if e.conn.closed {
		return
	}
	e.conn.closed = true
	e.node.w.after(e.delay, e.other.lost)
}

// lost tells a node that a connection is gone.
func (e *end) lost() {
	if !e.live {
		return
	}
	e.live = false
	delete(e.node.ends, e.id)
	e.node.handle(core.Event{Op: core.Left, Link: e.id})
}
