//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// A script says how a fake peer departs from an honest seed; its zero value is one.
type script struct {
	id    [20]byte                 // zero means one that tells the peers of a test apart
	has   func(piece int) bool     // what its bitfield says and it serves; nil means everything
	quota int                      // blocks it serves before it waits for allow or release; 0 means no end
	hello func(*link) error        // instead of the answer to a handshake
	greet func(*link) error        // instead of the bitfield behind the handshake
	serve func(*link, block) error // instead of the block that answers a request
	offer *offer                   // the metadata (BEP 9); nil means that it has none to give
}

// An offer is what a fake peer does about metadata.
type offer struct {
	size int64                          // as it says
	give func(l *link, piece int) error // answers a request
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
	told   int              // requests for metadata read
	ended  []error          // why connections ended
	going  sync.WaitGroup   // every goroutine of the peer
	closed bool             // takes no more connections
	ln     *net.TCPListener // at addr
}

// newPeer starts a fake peer at an address of this machine; it ends with the test.
func newPeer(t *testing.T, x *fixture, ip string, s script) *peer {
	t.Helper()
	return newPeerAt(t, x, netip.AddrPortFrom(netip.MustParseAddr(ip), 0), s)
}

// newPeerAt is the same at a port; 0 means any.
func newPeerAt(t *testing.T, x *fixture, at netip.AddrPort, s script) *peer {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
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
	if err := p.tryDial(t, to); err != nil {
		t.Fatal(err)
	}
}

// tryDial is dial where the command may be gone.
func (p *peer) tryDial(t *testing.T, to netip.AddrPort) error {
	nc, err := tryDialFrom(t, p.addr.Addr(), to)
	if err == nil {
		p.going.Go(func() { p.speak(nc, true) })
	}
	return err
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

// count changes what the peer keeps under its lock.
func (p *peer) count(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
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

// mostAsked is the block that was asked for most often, and how often.
func (p *peer) mostAsked() (most block, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b, n := range p.asked {
		if n > times {
			most, times = b, n
		}
	}
	return most, times
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
