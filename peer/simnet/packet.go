package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A PacketConn is a net.PacketConn of a [Network]: packets are lost, delayed, and never blocked on.
type PacketConn struct {
	net  *Network
	addr netip.AddrPort

	mu      sync.Mutex
	queue   []packet // in the order of arrival
	readBy  time.Time
	closed  bool
	changed chan struct{}
}

type packet struct {
	data []byte
	from netip.AddrPort
	at   time.Time
}

// ListenPacket opens a socket for packets at addr; port 0 means any.
func (n *Network) ListenPacket(addr netip.AddrPort) (*PacketConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, err := n.bind("listen", addr, func(a netip.AddrPort) bool { return n.packets[a] != nil })
	if err != nil {
		return nil, err
	}
	p := &PacketConn{net: n, addr: addr, changed: make(chan struct{})}
	n.packets[addr] = p
	return p, nil
}

// WriteTo sends a packet. Like the real one it does not tell whether anybody is there.
func (p *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	ap, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, p.wrap("write", net.UnknownNetworkError(to.Network()))
	}
	return p.WriteToUDPAddrPort(b, ap.AddrPort())
}

// WriteToUDPAddrPort is WriteTo, named as in *net.UDPConn.
func (p *PacketConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return 0, p.wrap("write", net.ErrClosed)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	at := p.net.arrival(p.addr.Addr(), to.Addr(), len(b))
	if dest := p.net.route(p.addr.Addr(), to); dest != nil {
		dest.put(packet{append([]byte(nil), b...), p.addr, at})
	}
	return len(b), nil
}

// route returns who gets a packet, or nil if it is lost.
func (n *Network) route(from netip.Addr, to netip.AddrPort) *PacketConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := n.host(from), n.host(to.Addr())
	if b.Deaf || n.rng.Float64() < a.Loss || n.rng.Float64() < b.Loss {
		return nil
	}
	return n.packets[to]
}

// put queues a packet behind all that arrive before it, or at the same time.
func (p *PacketConn) put(k packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.queue) >= queue {
		return // as a full socket buffer does
	}
	i := len(p.queue)
	for i > 0 && p.queue[i-1].at.After(k.at) {
		i--
	}
	p.queue = append(p.queue, packet{})
	copy(p.queue[i+1:], p.queue[i:])
	p.queue[i] = k
	p.change()
}

func (p *PacketConn) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// ReadFrom waits for a packet; what does not fit into b of it is lost.
func (p *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.ReadFromUDPAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDPAddrPort is ReadFrom, named as in *net.UDPConn.
func (p *PacketConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		p.mu.Lock()
		next, changed := p.readBy, p.changed
		switch {
		case p.closed:
			p.mu.Unlock()
			return 0, netip.AddrPort{}, p.wrap("read", net.ErrClosed)
		case past(p.readBy):
			p.mu.Unlock()
			return 0, netip.AddrPort{}, p.wrap("read", os.ErrDeadlineExceeded)
		case len(p.queue) > 0 && past(p.queue[0].at):
			k := p.queue[0]
			p.queue = p.queue[1:]
			p.mu.Unlock()
			return copy(b, k.data), k.from, nil
		case len(p.queue) > 0 && (next.IsZero() || p.queue[0].at.Before(next)):
			next = p.queue[0].at
		}
		p.mu.Unlock()
		waitFor(changed, next)
	}
}

// waitFor waits for the channel, or for a time that is not zero.
func waitFor(changed <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func (p *PacketConn) wrap(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: p.LocalAddr(), Err: err}
}

// Close frees the address; a read that waits fails.
func (p *PacketConn) Close() error {
	p.net.mu.Lock()
	if p.net.packets[p.addr] == p {
		delete(p.net.packets, p.addr)
	}
	p.net.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.change()
	return nil
}

// LocalAddr returns a *net.UDPAddr.
func (p *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.addr) }

// SetReadDeadline sets the deadline of reads; the zero time means none. A waiting read obeys at once.
func (p *PacketConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readBy = t
	p.change()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (p *PacketConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (p *PacketConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }
