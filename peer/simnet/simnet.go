// Package simnet is a network in memory, for tests of what runs over real ones: streams like TCP's and
// packets like UDP's, with delay, limited rates and loss.
//
// It uses only the clock of package time and blocks only on channels, so under testing/synctest
// time passes when everybody waits, and a transfer of an hour takes a moment and always the same time.
// It is no model of TCP: no slow start, no loss on streams, and acknowledgements take no time.
// What it does model is what tests of a swarm need: a byte takes its time, a link has a rate which all
// connections of a host share, and a writer blocks when the other end does not read.
package simnet

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A Host is one end's link to the network. The zero value is fast, near and reliable.
type Host struct {
	Up, Down float64       // bytes a second, over all its connections; 0 means no limit
	Delay    time.Duration // of every byte, in either direction, besides the other end's
	Loss     float64       // share of packets that are lost on the way in or out; streams lose nothing
	Deaf     bool          // dials to the host are not answered, not even refused, and packets are lost
	Buffer   int           // bytes on the way to the host, per connection, before the writer blocks; 0 means 1 MiB
}

const (
	defaultBuffer = 1 << 20
	segment       = 16 << 10 // bytes that cross a link at once
	backlog       = 128      // connections that wait to be accepted
	queue         = 1024     // packets that wait to be read
)

// A Network connects hosts by their addresses. Its methods are safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	hosts     map[netip.Addr]*host
	listeners map[netip.AddrPort]*Listener
	packets   map[netip.AddrPort]*PacketConn
	lastPort  uint16
}

// A host is a Host with the state of its link. net.mu guards it.
type host struct {
	Host
	upFree, downFree time.Time // when what has been sent so far has crossed the link
}

// New returns a network without hosts. The seed decides which packets are lost.
func New(seed uint64) *Network {
	return &Network{
		rng:       rand.New(rand.NewPCG(seed, 0)),
		hosts:     map[netip.Addr]*host{},
		listeners: map[netip.AddrPort]*Listener{},
		packets:   map[netip.AddrPort]*PacketConn{},
		lastPort:  49151, // the private ports follow
	}
}

// SetHost sets the link of a host, from now on. Hosts that were not set are there all the same.
func (n *Network) SetHost(addr netip.Addr, h Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host(addr).Host = h
}

// host returns the host at addr. mu is held.
func (n *Network) host(addr netip.Addr) *host {
	h := n.hosts[addr]
	if h == nil {
		h = &host{}
		n.hosts[addr] = h
	}
	return h
}

// bind returns addr with a port of its own if it has none, or an error if it is taken. mu is held.
func (n *Network) bind(op string, addr netip.AddrPort, taken func(netip.AddrPort) bool) (netip.AddrPort, error) {
	if !addr.Addr().IsValid() {
		return addr, opError(op, addr, syscall.EADDRNOTAVAIL)
	}
	if addr.Port() != 0 {
		if taken(addr) {
			return addr, opError(op, addr, syscall.EADDRINUSE)
		}
		return addr, nil
	}
	for range 1 << 14 {
		n.lastPort = max(n.lastPort+1, 49152) // wraps round
		if a := netip.AddrPortFrom(addr.Addr(), n.lastPort); !taken(a) {
			return a, nil
		}
	}
	return addr, opError(op, addr, syscall.EADDRINUSE)
}

// Listen waits for connections to addr; port 0 means any.
func (n *Network) Listen(addr netip.AddrPort) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, err := n.bind("listen", addr, func(a netip.AddrPort) bool { return n.listeners[a] != nil })
	if err != nil {
		return nil, err
	}
	l := &Listener{net: n, addr: addr, conns: make(chan *Conn, backlog), done: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects from an address, whose port may be 0, to another, which takes a round trip.
func (n *Network) Dial(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	from, err := n.bind("dial", from, func(netip.AddrPort) bool { return false })
	oneWay := n.host(from.Addr()).Delay + n.host(to.Addr()).Delay
	deaf := n.host(to.Addr()).Deaf
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if deaf {
		<-ctx.Done()
		return nil, opError("dial", to, context.Cause(ctx))
	}
	if err := sleep(ctx, oneWay); err != nil {
		return nil, opError("dial", to, err)
	}
	ours, err := n.connect(from, to)
	if err != nil {
		_ = sleep(ctx, oneWay) // the refusal travels too, and is the answer in any case
		return nil, opError("dial", to, err)
	}
	if err := sleep(ctx, oneWay); err != nil {
		_ = ours.Close()
		return nil, opError("dial", to, err)
	}
	return ours, nil
}

// connect makes a pair of connections and gives one to the listener.
func (n *Network) connect(from, to netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	out := newPipe(n, from.Addr(), to.Addr())
	back := newPipe(n, to.Addr(), from.Addr())
	ours := &Conn{in: back, out: out, local: from, remote: to}
	select {
	case l.conns <- &Conn{in: out, out: back, local: to, remote: from}:
		return ours, nil
	default:
		return nil, syscall.ECONNREFUSED // the backlog is full
	}
}

// arrival counts size bytes against the links between two hosts and returns when the last of
// them arrives.
func (n *Network) arrival(from, to netip.Addr, size int) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := n.host(from), n.host(to)
	at := cross(&a.upFree, time.Now(), a.Up, size)
	return cross(&b.downFree, at.Add(a.Delay+b.Delay), b.Down, size)
}

// cross returns when size bytes that are there at the given time have crossed a link, which is busy
// until *free.
func cross(free *time.Time, at time.Time, rate float64, size int) time.Time {
	if rate <= 0 {
		return at
	}
	if free.After(at) {
		at = *free
	}
	*free = at.Add(time.Duration(float64(size) / rate * float64(time.Second)))
	return *free
}

// sleep waits, or returns the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func opError(op string, addr netip.AddrPort, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
}

// A Listener is a net.Listener of a [Network].
type Listener struct {
	net   *Network
	addr  netip.AddrPort
	conns chan *Conn
	done  chan struct{}
	once  sync.Once
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	}
}

// Close ends the listening; connections not accepted yet are reset.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.addr)
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.conns:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr returns a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
