// Package dht runs a node of the BitTorrent DHT (BEP 5) over UDP sockets: it is the shell of package node, which decides
// everything. [Node.Run] is its one loop, with one reader a socket; other goroutines search through it, and
// tell it of nodes.
//
// A node needs others to begin from. It asks those that it remembers from the last run and, while it knows
// too few, bootstrap nodes, whose names are looked up meanwhile. That none of this works is no error: it is tried again
// until the node is told to end.
package dht

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"bittern/dht/krpc"
	"bittern/dht/node"
)

// Bootstrap returns the HOST:PORT of the nodes from which programs begin that know no other: those that libtorrent,
// Transmission and BitTorrent Inc run for everyone, and one that is there for IPv6.
func Bootstrap() []string {
	return []string{
		"dht.libtorrent.org:25401", "dht.transmissionbt.com:6881", "router.bittorrent.com:6881", "router.utorrent.com:6881",
		"router.silotis.us:6881",
	}
}

// A Config sets up a [Node].
type Config struct {
	// IPv4 and IPv6 are the sockets; one may be nil. New takes them over, Run closes them.
	IPv4, IPv6 net.PacketConn

	// Bootstrap are nodes to begin from, HOST:PORT; see the function of that name.
	Bootstrap []string
	// Named are more of them, by strangers: a torrent's (BEP 5 "Torrent File Extensions"). The first few are
	// asked. On this machine's loopback they are only with Loopback.
	Named    []string
	Loopback bool
	// Lookup returns the addresses of a name; see [net.Resolver.LookupNetIP].
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	// Cache is the file that keeps nodes from one run to the next; "" means none. Any number of processes may share it.
	Cache string

	// ReadOnly is for how long at least the node answers no queries (BEP 43): one that is gone in a minute should not be
	// in the tables of others. After that it answers once it is known that strangers reach it. 0 means that it
	// answers from the start.
	ReadOnly time.Duration

	Version [4]byte // sent as "v": two letters of the program and its version
	Log     *slog.Logger
	// OnPanic is told of a bug, with the stack, by the goroutine that met it; the node ends after it. Nil means that the panic
	// takes its course.
	OnPanic func(v any, stack []byte)
}

// An Announce is what a search tells the nodes nearest to its target. The zero value announces nothing.
type Announce = node.Announce

// A Result says how a search ended.
type Result struct {
	Answered  int // nodes that answered it
	Announced int // nodes that took the announce
}

// A Status is how a node is doing.
type Status struct {
	IPv4, IPv6 int  // nodes it knows to be good
	ReadOnly   bool // it answers no queries
	// Failures is how often in a row it has looked for nodes to begin from and heard of none; Err is why the
	// last look-up of a name failed or, if none did, why no packet can be sent. Once that is over, what failed
	// before does not count: a network has come back.
	Failures int
	Err      error
}

const (
	maxPings = 64 // addresses that wait to be pinged

	statusEvery = 250 * time.Millisecond
	saveEvery   = 10 * time.Minute

	firstWait = 5 * time.Millisecond   // after a failure to read, doubling
	lastWait  = 500 * time.Millisecond // at most
)

// ErrClosed says that a node runs no longer.
var ErrClosed = errors.New("dht: the node has ended")

// A Node is a node that runs. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	packets chan packet
	pings   chan netip.AddrPort
	calls   chan func(now time.Time) // for the loop to run
	done    chan struct{}            // closed when the loop has ended
	status  atomic.Pointer[Status]
	boot    atomic.Pointer[bootState]
	saves   sync.WaitGroup
	end     context.CancelFunc // of Run's context

	// The loop's own.
	node     *node.Node
	started  time.Time
	begun    bool    // nodes to begin from are known
	waiting  []*hunt // searches that wait for that
	hunts    map[node.SearchID]*hunt
	reach    *reach // nil once the node answers queries
	statusAt time.Time
	saveAt   time.Time
	sent     [2]sent        // over IPv4 and IPv6
	others   []krpc.Contact // of the cache, in a network that this run takes no part in
}

// sent says how sending a packet went, last.
type sent struct {
	ok  bool
	err error // nil, too, if none was sent yet
}

type packet struct {
	from netip.AddrPort
	data []byte
}

// New returns a node; nothing is sent before Run.
func New(cfg Config) *Node {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var seed [32]byte
	crand.Read(seed[:]) // never fails: it ends the process instead
	n := &Node{
		cfg:     cfg,
		packets: make(chan packet),
		pings:   make(chan netip.AddrPort, maxPings),
		calls:   make(chan func(time.Time)),
		done:    make(chan struct{}),
		hunts:   make(map[node.SearchID]*hunt),
		node: node.New(node.Options{
			IPv4: cfg.IPv4 != nil, IPv6: cfg.IPv6 != nil, ReadOnly: cfg.ReadOnly > 0, Wide: true,
			Version: cfg.Version, Random: rand.New(rand.NewChaCha8(seed)), // whose output tells nothing of its state
		}),
	}
	if cfg.ReadOnly > 0 {
		n.reach = newReach()
	}
	n.boot.Store(&bootState{})
	n.status.Store(&Status{ReadOnly: cfg.ReadOnly > 0})
	return n
}

// Run runs the node until ctx ends, then saves the nodes it knows and closes its sockets. It is to be called once.
func (n *Node) Run(ctx context.Context) {
	ctx, n.end = context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, c := range n.load() {
		if n.socket(c.Addr.Addr()) == nil {
			n.others = append(n.others, c)
			continue
		}
		n.node.Remember([]krpc.Contact{c})
		n.begun = true
	}
	for _, c := range []net.PacketConn{n.cfg.IPv4, n.cfg.IPv6} {
		if c != nil {
			wg.Go(func() { n.guard(func() { n.read(ctx, c) }) })
		}
	}
	wg.Go(func() { n.guard(func() { n.bootstrap(ctx) }) })
	sound := false
	n.guard(func() {
		n.loop(ctx)
		sound = true
	})
	n.end()
	close(n.done)
	for _, c := range []net.PacketConn{n.cfg.IPv4, n.cfg.IPv6} {
		if c != nil {
			if err := c.Close(); err != nil {
				n.cfg.Log.Debug("closing the DHT's socket", "error", err)
			}
		}
	}
	wg.Wait()
	n.saves.Wait()
	if sound {
		now := time.Now()
		for id := range n.hunts { // a short run ends before its first search does: the next is to begin from what this one found
			n.node.Stop(now, id)
		}
		n.save(n.toKeep(now))
	}
}

// guard runs f. A panic in it ends the node and, if somebody wants to hear of it, nothing else.
func (n *Node) guard(f func()) {
	if n.cfg.OnPanic != nil {
		defer func() {
			if v := recover(); v != nil {
				n.cfg.OnPanic(v, debug.Stack())
				n.end()
			}
		}()
	}
	f()
}

// read hands the packets of a socket to the loop. Should reading fail it waits and goes on: on some systems
// an error tells of a packet that we sent.
func (n *Node) read(ctx context.Context, c net.PacketConn) {
	buf := make([]byte, krpc.MaxReceived+1)
	wait := time.Duration(0)
	for {
		size, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = min(max(firstWait, 2*wait), lastWait)
			pause(ctx, wait)
			continue
		}
		wait = 0
		udp, ok := from.(*net.UDPAddr)
		if !ok || size > krpc.MaxReceived {
			continue
		}
		select {
		case n.packets <- packet{udp.AddrPort(), append([]byte(nil), buf[:size]...)}:
		case <-ctx.Done():
		}
	}
}

func (n *Node) loop(ctx context.Context) {
	n.started = time.Now()
	n.saveAt = n.started.Add(saveEvery)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-n.packets:
			now := time.Now()
			n.reached(now, p)
			n.node.Receive(now, p.from, p.data)
		case at := <-n.pings:
			n.node.Ping(time.Now(), at)
		case f := <-n.calls:
			f(time.Now())
		case <-timer.C:
			n.node.Tick(time.Now())
		}
		now := time.Now()
		n.beginSearches(now)
		n.carryOut(n.node.Take())
		n.tell(now)
		timer.Reset(n.node.Next(now).Sub(now))
	}
}

// carryOut does what the node wants done.
func (n *Node) carryOut(eff node.Effects) {
	for _, p := range eff.Packets {
		n.send(p)
	}
	for _, f := range eff.Peers {
		if h := n.hunts[f.Search]; h != nil {
			h.put(f.Addrs, nil)
		}
	}
	for _, e := range eff.Ended {
		if h := n.hunts[e.Search]; h != nil {
			h.put(nil, &Result{e.Answered, e.Announced})
			delete(n.hunts, e.Search)
		}
	}
}

// socket returns the socket for packets to an address; nil if there is none.
func (n *Node) socket(to netip.Addr) net.PacketConn {
	if to.Is4() {
		return n.cfg.IPv4
	}
	return n.cfg.IPv6
}

// send sends a packet. One that cannot be sent is lost, as any may be.
func (n *Node) send(p node.Packet) {
	last := &n.sent[0]
	if !p.To.Addr().Is4() {
		last = &n.sent[1]
	}
	if n.reach != nil {
		n.reach.sent(p.To)
	}
	_, err := n.socket(p.To.Addr()).WriteTo(p.Data, net.UDPAddrFromAddrPort(p.To))
	*last = sent{err == nil, err}
	if err != nil {
		n.cfg.Log.Debug("DHT packet not sent", "to", p.To, "error", err)
	}
}

// unsent returns why no packet can be sent: none got out of the last in each family, of which there are some.
func (n *Node) unsent() error {
	if n.sent[0].ok || n.sent[1].ok {
		return nil
	}
	return cmp.Or(n.sent[0].err, n.sent[1].err)
}

// tell keeps the status and the cache up to date.
func (n *Node) tell(now time.Time) {
	if now.Sub(n.statusAt) < statusEvery {
		return
	}
	n.statusAt = now
	s := &Status{ReadOnly: n.reach != nil, Err: n.unsent()}
	s.IPv4, s.IPv6 = n.node.Nodes(now)
	n.status.Store(s)
	if now.Before(n.saveAt) {
		return
	}
	n.saveAt = now.Add(saveEvery)
	nodes := n.toKeep(now)
	n.saves.Go(func() { n.save(nodes) }) // a disk may be slow
}

// Status returns how the node is doing, as of a moment ago.
func (n *Node) Status() Status {
	s := *n.status.Load()
	b := n.boot.Load()
	s.Err = cmp.Or(b.err, s.Err)
	if s.IPv4+s.IPv6 == 0 && !(b.mute && s.Err == nil) {
		s.Failures = b.failures
	}
	return s
}

// Ping asks whether there is a node at an address, which is remembered if there is: a peer tells where its node is in a
// PORT message (BEP 5). It never blocks; when too many addresses wait it does nothing.
func (n *Node) Ping(at netip.AddrPort) {
	select {
	case n.pings <- netip.AddrPortFrom(at.Addr().Unmap(), at.Port()):
	default:
	}
}

// do has the loop run f, and reports whether it will: not when ctx or the node has ended.
func (n *Node) do(ctx context.Context, f func(now time.Time)) bool {
	select {
	case n.calls <- f:
		return true
	case <-ctx.Done():
	case <-n.done:
	}
	return false
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
