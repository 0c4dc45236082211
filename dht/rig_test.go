package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"bittern/dht/krpc"
	"bittern/peer/simnet"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	hash = [20]byte{0x5a, 1, 2, 3}
	id   = krpc.ID{0xa5, 9}
)

// A world is a network in memory with nodes on it, under a clock of its own.
type world struct {
	t   *testing.T
	net *simnet.Network
}

// in runs a test in a world of its own.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, &world{t, simnet.New(1)}) })
}

// host returns the address of the i-th host in a range where one network is many (RFC 2544).
func hostAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 6881)
}

// socket opens a socket, 10 ms away from any other.
func (w *world) socket(at netip.AddrPort) *simnet.PacketConn {
	w.net.SetHost(at.Addr(), simnet.Host{Delay: 5 * time.Millisecond})
	c, err := w.net.ListenPacket(at)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// run runs a node at an IPv4 address, unless cfg has sockets, until stop is called or the test ends.
func (w *world) run(at netip.AddrPort, cfg Config) (n *Node, stop func()) {
	if cfg.IPv4 == nil && cfg.IPv6 == nil {
		cfg.IPv4 = w.socket(at)
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("no names here") }
	}
	n = New(cfg)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return n, stop
}

// crowd runs some nodes that know one another, the first at hostAt(0).
func (w *world) crowd(count int) []*Node {
	var nodes []*Node
	for i := range count {
		n, _ := w.run(hostAt(i), Config{Bootstrap: []string{hostAt(0).String()}})
		nodes = append(nodes, n)
	}
	time.Sleep(time.Minute)
	return nodes
}

// search searches and returns what was found.
func search(ctx context.Context, n *Node, announce Announce) ([]netip.AddrPort, Result, error) {
	var found []netip.AddrPort
	r, err := n.Search(ctx, hash, announce, func(a []netip.AddrPort) { found = append(found, a...) })
	return found, r, err
}

// A stranger speaks the protocol by hand.
type stranger struct {
	w *world
	c *simnet.PacketConn
}

func (w *world) stranger(at netip.AddrPort) *stranger { return &stranger{w, w.socket(at)} }

func (s *stranger) send(to netip.AddrPort, packet []byte) {
	if _, err := s.c.WriteTo(packet, net.UDPAddrFromAddrPort(to)); err != nil {
		s.w.t.Fatal(err)
	}
}

// query sends a query and returns the answer of that node; false if none came within two seconds. What else comes is ignored.
func (s *stranger) query(to netip.AddrPort, m krpc.Message) (krpc.Message, bool) {
	m.Kind, m.T, m.Query.ID = krpc.IsQuery, []byte("aa"), id
	s.send(to, krpc.Append(nil, &m))
	if err := s.c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		s.w.t.Fatal(err)
	}
	for {
		buf := make([]byte, krpc.MaxReceived)
		size, from, err := s.c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return krpc.Message{}, false
		}
		got, err := krpc.Parse(buf[:size])
		if err == nil && from == to && got.Kind != krpc.IsQuery && string(got.T) == "aa" {
			return got, true
		}
	}
}

// answers reports whether the node at an address answers a ping.
func (s *stranger) answers(to netip.AddrPort) bool {
	_, ok := s.query(to, krpc.Message{Query: krpc.Query{Method: krpc.Ping}})
	return ok
}
