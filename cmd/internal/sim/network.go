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

	// moment is how exact the times of messages are, where they need not be. It saves half of the events.
	moment = time.Millisecond

	// leastWindow is how many bytes of one direction of a connection may be on the way at once, as
	// TCP has them, where twice bandwidth times delay is not more.
	leastWindow = 1 << 20

	// dialTimeout is when a dial to nobody is given up, and silence when a connection whose other end
	// has vanished is.
	dialTimeout = 10 * time.Second
	silence     = 3 * time.Minute
)

// An end is one side of a connection between two nodes, with the socket that holds what goes to the other side:
// packets leave, travel and arrive in order.
type end struct {
	node   *node
	other  *end
	id     core.LinkID
	closed bool // the connection is, for both ends
	live   bool // the node's core has been told of it, and not been told or said that it is over

	first, last *packet       // the queue of those that are not being sent yet; first is nil if there are none
	onWay       int           // bytes being sent or sent, and not arrived
	limit       int           // bytes that may be on the way
	held        int           // turns of the uplink given up because so many bytes were on the way
	delay       time.Duration // one way

	wants            bool // the node wants something of the other
	together, wanted int  // samples in which both were leechers; of them, those in which it did
}

// A stage is how far a packet has come.
type stage uint8

const (
	leaving   stage = iota // through the uplink of the sender, if it is a block
	traveling              // for the delay of the connection
	arriving               // through the downlink of the receiver
)

// A packet is what goes through a line in one go: a block in as many segments as it takes, or other
// messages in one. What is sent while it waits, as the last of its connection, rides in the room that is left in
// its last segment, as TCP fills segments.
type packet struct {
	from     *end
	next     *packet // in the queue of from
	stage    stage
	bytes    int
	block    piece.Block // of length 0 if there is none
	lie      uint64      // not 0: the block is corrupt, and this names the corruption
	messages []wire.Message
	room     [1]wire.Message // for messages: mostly it is one
}

// segments returns how many headers the packet costs.
func (p *packet) segments() int { return (p.bytes + segment - 1) / segment }

// cost returns what the packet takes of a line, in bytes.
func (p *packet) cost() int { return p.bytes + p.segments()*header }

// A line is what connects a node to the network. Its uplink is one queue for all connections, its downlink
// takes what comes in the order of arrival.
type line struct {
	up, down  float64 // ns a byte
	sending   bool
	queue     fifo[*end] // whose turn it is, once for every packet in a socket that was not held back
	busy      time.Duration
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
		a := w.connect(from, to)
		w.after(d, func() { a.join(addr, true) })
		a.other.join(netip.AddrPortFrom(from.addr.Addr(), 50000), false)
	})
}

// connect returns the end at from of a new connection.
func (w *world) connect(from, to *node) *end {
	d := from.peer.Delay + to.peer.Delay
	a := &end{node: from, delay: d, limit: limit(from, to)}
	a.other = &end{node: to, other: a, delay: d, limit: limit(to, from)}
	return a
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
	e.id, e.live = core.LinkID(len(n.ends)), true
	n.ends = append(n.ends, e)
	e.open().bytes = wire.HandshakeLen // it was on its way before, but takes its room all the same
	n.handle(core.Event{Op: core.Joined, Link: e.id, Remote: &core.Remote{
		ID: e.other.node.id, Addr: addr, Outgoing: outgoing, Fast: true, Ext: true,
	}})
	if e.closed {
		e.lost()
	}
}

// send puts a message into the socket.
func (e *end) send(m wire.Message) {
	if e.closed {
		return
	}
	size := e.node.w.sizeOf(m)
	p := e.last
	if e.first == nil || p.bytes+size > p.segments()*segment {
		p = e.open()
	}
	p.bytes += size
	p.messages = append(p.messages, m)
	e.node.flush()
}

// sendBlock puts a block into the socket.
func (e *end) sendBlock(b piece.Block, lie uint64) {
	if e.closed {
		return
	}
	p := e.open()
	p.block, p.lie = b, lie
	p.bytes = wire.PieceHeadLen + int(b.Length)
	p.messages = append(p.messages, wire.Message{ID: wire.Piece, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	e.node.flush()
}

// open begins a packet, whose turn will come.
func (e *end) open() *packet {
	p := e.node.w.packet()
	p.from = e
	if e.first == nil {
		e.first = p
	} else {
		e.last.next = p
	}
	e.last = p
	e.node.line.queue.push(e)
	return p
}

// packet returns an empty packet.
func (w *world) packet() *packet {
	if last := len(w.packets) - 1; last >= 0 {
		p := w.packets[last]
		w.packets = w.packets[:last]
		return p
	}
	p := new(packet)
	p.messages = p.room[:0]
	return p
}

// recycle takes a packet that is done with.
func (w *world) recycle(p *packet) {
	*p = packet{messages: p.messages[:0]}
	w.packets = append(w.packets, p)
}

// sizeOf returns the bytes of a message on the wire, without the headers of packets.
func (w *world) sizeOf(m wire.Message) int {
	switch m.ID {
	case wire.Have:
		return w.sizes.have
	case wire.Request, wire.Cancel, wire.Reject:
		return w.sizes.request
	}
	w.wire = wire.Append(w.wire[:0], m)
	return len(w.wire)
}

// flush lets the uplink, if it is idle, send the packets whose turn it is: as far as the next block, or for a
// moment.
func (n *node) flush() {
	l := &n.line
	if l.sending {
		return
	}
	until := n.w.now
	for l.queue.len() > 0 && until < n.w.now+moment {
		e := l.queue.pop()
		switch {
		case e.closed || n.gone:
			continue
		case e.onWay >= e.limit:
			e.held++
			continue
		}
		p := e.first
		e.first = p.next
		e.onWay += p.bytes
		until += l.takes(p)
		if p.block.Length > 0 {
			l.sending, p.stage = true, leaving
			n.w.events.push(until, p)
			return
		}
		l.sending, p.stage = true, traveling
		l.busy += l.takes(p)
		n.w.events.push(until+e.delay, p)
	}
	if l.sending {
		n.w.events.push(until, (*idle)(n))
	}
}

// idle is the happening that the uplink of a node has sent what flush gave it.
type idle node

func (i *idle) happen() {
	i.line.sending = false
	(*node)(i).flush()
}

// takes returns how long the uplink takes to send a packet.
func (l *line) takes(p *packet) time.Duration { return time.Duration(float64(p.cost()) * l.up) }

// happen takes the packet a stage further.
func (p *packet) happen() {
	switch p.stage {
	case leaving:
		p.left()
	case traveling:
		p.arrive()
	case arriving:
		p.deliver()
	}
}

// left follows from a block having gone through the uplink.
func (p *packet) left() {
	e := p.from
	n := e.node
	took := n.line.takes(p)
	n.line.sending = false
	n.line.busy += took
	if n.res.Sent == 0 {
		n.res.Began, n.began = n.w.now-took, n.line.busy-took
	}
	if e.closed || n.gone {
		n.w.recycle(p)
	} else {
		block := p.block
		p.stage = traveling
		n.w.events.push(n.w.now+e.delay, p)
		n.sent(e, block)
	}
	n.flush()
}

// arrive takes the packet to the downlink of the receiver.
func (p *packet) arrive() {
	to := p.from.other.node
	if p.from.closed {
		to.w.recycle(p)
		return
	}
	l := &to.line
	took := time.Duration(float64(p.cost()) * l.down)
	if l.downUntil <= to.w.now && took < moment {
		l.downUntil = to.w.now + took
		p.deliver() // by so little too early
		return
	}
	l.downUntil = max(l.downUntil, to.w.now) + took
	p.stage = arriving
	to.w.events.push(l.downUntil, p)
}

// deliver hands the messages to the receiver.
func (p *packet) deliver() {
	from, e := p.from, p.from.other
	from.onWay -= p.bytes
	for _, m := range p.messages {
		if !e.live || e.closed {
			break
		}
		e.node.receive(e, m, p.lie)
	}
	e.node.w.recycle(p)
	if from.onWay < from.limit && from.held > 0 {
		for ; from.held > 0; from.held-- {
			from.node.line.queue.push(from)
		}
		from.node.flush()
	}
}

// close ends the connection; the other side hears of it after the delay.
func (e *end) close() {
	e.part()
	if e.closed {
		return
	}
	e.shut()
	e.node.w.after(e.delay, e.other.lost)
}

// shut closes the connection without a word to anybody.
func (e *end) shut() { e.closed, e.other.closed = true, true }

// lost tells a node that a connection is gone.
func (e *end) lost() {
	if !e.live {
		return
	}
	e.part()
	e.node.handle(core.Event{Op: core.Left, Link: e.id})
}

// part takes the end from its node, which knows of it or never did.
func (e *end) part() {
	if !e.live {
		return
	}
	e.live = false
	e.node.ends[e.id] = nil
	e.node.w.sampler.part(e)
}

// A fifo is a queue that reuses its room.
type fifo[T any] struct {
	items []T
	first int
}

func (f *fifo[T]) len() int { return len(f.items) - f.first }

func (f *fifo[T]) push(v T) {
	if len(f.items) == cap(f.items) && 2*f.first > len(f.items) {
		n := copy(f.items, f.items[f.first:])
		clear(f.items[n:])
		f.items, f.first = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// pop takes the first; there must be one.
func (f *fifo[T]) pop() T {
	var none T
	v := f.items[f.first]
	f.items[f.first] = none
	if f.first++; f.first == len(f.items) {
		f.items, f.first = f.items[:0], 0
	}
	return v
}
