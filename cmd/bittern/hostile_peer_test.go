//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Messages (BEP 3, 6 and 10).
const (
	msgChoke         = 0
	msgUnchoke       = 1
	msgInterested    = 2
	msgHave          = 4
	msgBitfield      = 5
	msgRequest       = 6
	msgPiece         = 7
	msgCancel        = 8
	msgHaveAll       = 14
	msgHaveNone      = 15
	msgRejectRequest = 16
	msgExtended      = 20
)

// protocol is how each handshake begins.
const protocol = "\x13BitTorrent protocol"

// errLeave makes a script close the connection without a complaint.
var errLeave = errors.New("the script says so")

// A block is the range a request names.
type block struct{ piece, begin, length uint32 }

// A script says how a fake peer departs from an honest seed; its zero value is one.
type script struct {
	id    [20]byte                 // zero means one that tells the peers of a test apart
	has   func(piece int) bool     // what its bitfield says and it serves; nil means everything
	quota int                      // blocks it serves before it waits for allow or release; 0 means no end
	hello func(*link) error        // instead of the answer to a handshake
	greet func(*link) error        // instead of the bitfield behind the handshake
	serve func(*link, block) error // instead of the block that answers a request
}

// A peer is a fake end of the wire protocol. It listens, and can dial.
type peer struct {
	x      *fixture
	addr   netip.AddrPort
	script script

	quota   chan struct{} // one token a block; closed means no end
	release func()        // ends the quota; may be called twice
	struck  chan struct{} // closed when the script has done its deed
	strike  func()
	dropped chan struct{} // closed when a connection has ended after the deed
	drop    func()

	mu     sync.Mutex
	links  int              // handshakes completed
	live   map[*link]bool   // connections that are open
	asked  map[block]int    // requests read
	served map[block]int    // blocks sent whole
	haves  map[int]bool     // pieces that the other end says it has
	ended  []error          // why connections ended
	going  sync.WaitGroup   // every goroutine of the peer
	closed bool             // takes no more connections
	ln     *net.TCPListener // at addr
}

// A link is one connection of a fake peer.
type link struct {
	net.Conn
	peer *peer
	in   []byte // the other end's handshake
	done chan struct{}
	sync.Mutex
	queue []block       // asked for and not served yet
	more  chan struct{} // one slot: the queue has grown
}

// newPeer starts a fake peer at an address of this machine; it ends with the test.
func newPeer(t *testing.T, x *fixture, ip string, s script) *peer {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	p := &peer{
		x: x, addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), script: s, ln: ln,
		quota: make(chan struct{}, x.blocks()+1), struck: make(chan struct{}), dropped: make(chan struct{}),
		live: map[*link]bool{}, asked: map[block]int{}, served: map[block]int{}, haves: map[int]bool{},
	}
	if p.script.id == [20]byte{} {
		copy(p.script.id[:], fmt.Sprintf("-TT0001-%012d", addr.Port()))
	}
	p.release = sync.OnceFunc(func() { close(p.quota) })
	p.strike = sync.OnceFunc(func() { close(p.struck) })
	p.drop = sync.OnceFunc(func() { close(p.dropped) })
	if s.quota == 0 {
		p.release()
	}
	p.allow(s.quota)
	p.going.Go(p.accept)
	t.Cleanup(func() { p.close(t) })
	return p
}

// allow lets n more blocks through the quota.
func (p *peer) allow(n int) {
	for range n {
		p.quota <- struct{}{}
	}
}

func (p *peer) accept() {
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.going.Go(func() { p.speak(nc, false) })
	}
}

// dial connects to the command from the peer's own address, and speaks until the connection ends.
func (p *peer) dial(t *testing.T, to netip.AddrPort) {
	t.Helper()
	nc := dialFrom(t, p.addr.Addr(), to)
	p.going.Go(func() { p.speak(nc, true) })
}

func (p *peer) close(t *testing.T) {
	p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.live {
		l.Close()
	}
	ended := p.ended
	p.mu.Unlock()
	p.going.Wait()
	if t.Failed() {
		t.Logf("fake peer %v: %d handshakes, %d blocks asked for, %d served, connections ended: %v", p.addr, p.links, total(p.asked), total(p.served), ended)
	}
}

// speak runs one connection to its end.
func (p *peer) speak(nc net.Conn, dialed bool) {
	l := &link{Conn: nc, peer: p, done: make(chan struct{}), more: make(chan struct{}, 1)}
	p.mu.Lock()
	if p.closed {
		nc.Close()
	}
	p.live[l] = true
	p.mu.Unlock()
	err := l.speak(dialed)
	nc.Close()
	close(l.done)
	p.mu.Lock()
	delete(p.live, l)
	p.ended = append(p.ended, err)
	p.mu.Unlock()
	select {
	case <-p.struck:
		p.drop()
	default:
	}
}

func (l *link) speak(dialed bool) error {
	hello := l.peer.script.hello
	if hello == nil {
		hello = (*link).shake
	}
	if dialed {
		if err := hello(l); err != nil {
			return err
		}
	}
	l.in = make([]byte, 68)
	if _, err := io.ReadFull(l, l.in); err != nil {
		return err
	}
	if string(l.in[:20]) != protocol || !bytes.Equal(l.in[28:48], l.peer.x.hash[:]) {
		return errors.New("not a plain handshake for this torrent")
	}
	if !dialed {
		if err := hello(l); err != nil {
			return err
		}
	}
	l.peer.count(func() { l.peer.links++ })
	greet := l.peer.script.greet
	if greet == nil {
		greet = (*link).bitfield
	}
	if err := greet(l); err != nil {
		return err
	}
	l.peer.going.Go(l.serveAll)
	for {
		id, body, err := l.receive()
		if err == nil {
			err = l.handle(id, body)
		}
		if err != nil {
			return err
		}
	}
}

// count changes what the peer keeps under its lock.
func (p *peer) count(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// shake sends the handshake.
func (l *link) shake() error { return l.shakeAs(l.peer.x.hash, l.peer.script.id) }

// shakeAs sends a handshake for another torrent or in another's name.
func (l *link) shakeAs(hash, id [20]byte) error {
	return l.raw([]byte(protocol), []byte{0, 0, 0, 0, 0, 0x10, 0, 0}, hash[:], id[:])
}

// bitfield says what the script has, the way of BEP 3.
func (l *link) bitfield() error { return l.send(msgBitfield, l.peer.bits()) }

// bits is the bitfield of what the script has.
func (p *peer) bits() []byte {
	b := make([]byte, (p.x.pieces()+7)/8)
	for i := range p.x.pieces() {
		if p.script.has == nil || p.script.has(i) {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	return b
}

// raw writes bytes as they are.
func (l *link) raw(parts ...[]byte) error {
	l.Lock()
	defer l.Unlock()
	_, err := l.Write(bytes.Join(parts, nil))
	return err
}

// send writes one message.
func (l *link) send(id byte, body ...[]byte) error {
	payload := bytes.Join(body, nil)
	return l.raw(u32(uint32(1+len(payload))), []byte{id}, payload)
}

// sendPiece writes a piece message with any data.
func (l *link) sendPiece(b block, data []byte) error {
	return l.send(msgPiece, u32(b.piece, b.begin), data)
}

// u32 is the big-endian form of the integers.
func u32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// receive reads one message; a keep-alive comes as ID 0xff.
func (l *link) receive() (id byte, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(l, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return 0xff, nil, nil
	}
	if n > mib {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(l, body); err != nil {
		return 0, nil, err
	}
	return body[0], body[1:], nil
}

// handle answers one message as an honest peer does.
func (l *link) handle(id byte, body []byte) error {
	switch id {
	case msgInterested:
		return l.send(msgUnchoke)
	case msgHave:
		i := int(binary.BigEndian.Uint32(body))
		l.peer.count(func() { l.peer.haves[i] = true })
	case msgRequest:
		b := block{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint32(body[8:])}
		l.peer.count(func() { l.peer.asked[b]++ })
		l.Lock()
		l.queue = append(l.queue, b)
		l.Unlock()
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
	return nil // a cancel is no duty (BEP 3): the block may be on its way
}

// serveAll answers requests in their order, as fast as the quota lets it.
func (l *link) serveAll() {
	serve := l.peer.script.serve
	if serve == nil {
		serve = (*link).honest
	}
	for {
		b, ok := l.next()
		if !ok {
			return
		}
		select {
		case <-l.peer.quota:
		case <-l.done:
			return
		}
		if err := serve(l, b); err != nil {
			l.Close() // the reader sees it and says why
			return
		}
	}
}

// next is the oldest request; false once the connection has ended.
func (l *link) next() (block, bool) {
	for {
		l.Lock()
		if len(l.queue) > 0 {
			b := l.queue[0]
			l.queue = l.queue[1:]
			l.Unlock()
			return b, true
		}
		l.Unlock()
		select {
		case <-l.more:
		case <-l.done:
			return block{}, false
		}
	}
}

// honest sends the block that was asked for.
func (l *link) honest(b block) error {
	data, ok := l.peer.x.block(b)
	if !ok {
		return fmt.Errorf("asked for %+v", b)
	}
	if err := l.sendPiece(b, data); err != nil {
		return err
	}
	l.peer.count(func() { l.peer.served[b]++ })
	return nil
}

// corrupt sends the block with one byte wrong.
func (l *link) corrupt(b block) error {
	data, ok := l.peer.x.block(b)
	if !ok {
		return fmt.Errorf("asked for %+v", b)
	}
	wrong := bytes.Clone(data)
	wrong[len(wrong)/2] ^= 0x40
	l.peer.strike()
	return l.sendPiece(b, wrong)
}

// block is the content of a range, false if it does not lie in one piece.
func (x *fixture) block(b block) ([]byte, bool) {
	if int64(b.piece) >= int64(x.pieces()) {
		return nil, false
	}
	data := x.pieceData(int(b.piece))
	if int64(b.begin)+int64(b.length) > int64(len(data)) {
		return nil, false
	}
	return data[b.begin : b.begin+b.length], true
}

// bytesAsked is the sum of all requests read.
func (p *peer) bytesAsked() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for b, times := range p.asked {
		n += int64(b.length) * int64(times)
	}
	return n
}

// blocksServed is how many blocks were sent, each time counted.
func (p *peer) blocksServed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return total(p.served)
}

// met is how many handshakes were completed.
func (p *peer) met() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links
}

// open is how many connections are alive.
func (p *peer) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}

func total[K comparable](counts map[K]int) int {
	n := 0
	for _, v := range counts {
		n += v
	}
	return n
}

// leech downloads all of x from a seed that is the command, with up to window requests on their
// way, from an address of this machine, and compares every byte.
func leech(ctx context.Context, x *fixture, from string, to netip.AddrPort, window int) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	id := [20]byte([]byte(fmt.Sprintf("-TL0001-%012d", nc.LocalAddr().(*net.TCPAddr).Port)))
	l := &link{Conn: nc}
	if err := l.shakeAs(x.hash, id); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, 68)); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := l.send(msgInterested); err != nil {
		return err
	}
	var todo []block
	for i := range x.pieces() {
		for at := 0; at < len(x.pieceData(i)); at += blockSize {
			todo = append(todo, block{uint32(i), uint32(at), uint32(min(blockSize, len(x.pieceData(i))-at))})
		}
	}
	return l.fetch(x, todo, window)
}

// fetch asks for the blocks and reads them, in any order.
func (l *link) fetch(x *fixture, todo []block, window int) error {
	choked, missing := true, map[block]bool{}
	for len(todo)+len(missing) > 0 {
		for ; !choked && len(todo) > 0 && len(missing) < window; todo = todo[1:] {
			b := todo[0]
			missing[b] = true
			if err := l.send(msgRequest, u32(b.piece, b.begin, b.length)); err != nil {
				return err
			}
		}
		id, body, err := l.receive()
		if err != nil {
			return fmt.Errorf("with %d blocks to go: %w", len(todo)+len(missing), err)
		}
		switch id {
		case msgUnchoke:
			choked = false
		case msgChoke: // without the fast extension this takes back what was asked (BEP 3)
			choked = true
			for b := range missing {
				todo = append(todo, b)
			}
			clear(missing)
		case msgPiece:
			b := block{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), uint32(len(body) - 8)}
			if want, ok := x.block(b); !ok || !missing[b] || !bytes.Equal(want, body[8:]) {
				return fmt.Errorf("%+v was not asked for or is wrong", b)
			}
			delete(missing, b)
		}
	}
	return nil
}

// dialFrom opens a connection from an address of this machine; it ends with the test.
func dialFrom(t *testing.T, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
