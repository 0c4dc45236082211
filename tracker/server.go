package tracker

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

const (
	defaultNumWant = 50
	maxNumWant     = 200 // peers in one answer
	portTries      = 20  // ports tried to find one that is free for TCP and UDP
	// clientInterval is what some clients wait between announces however soon a tracker wants the next: 5 minutes.
	clientInterval = 5 * time.Minute
)

// A ServerConfig sets up a [Server]. The zero value serves nothing until Allow is called.
type ServerConfig struct {
	Open     bool          // serve any info-hash, at most 1024 of them at a time
	Interval time.Duration // between announces, asked of the clients; 0 means 60 s
	MaxPeers int           // kept of one swarm; 0 means 2000
	MaxConns int           // HTTP connections at once, above which callers are hung up on; 0 means 256
	Only6    bool          // where the address names no host, listen on IPv6 alone
	// OnPanic, when not nil, is told of a panic while a request was served, which is a bug of ours; the request then
	// gets no proper answer. It is called from any goroutine.
	OnPanic func(v any, stack []byte)
}

// A Server is a small tracker: HTTP (BEP 3, 7, 23, 24, 48) and UDP (BEP 15) on one address, with all state in memory and
// bounded. It takes a peer's address from where its announce comes from and nowhere else, so that nobody can announce others.
type Server struct {
	interval time.Duration
	maxConns int
	secret   [32]byte // of UDP connection ids
	tcp      net.Listener
	udp      *net.UDPConn
	now      func() time.Time
	onPanic  func(v any, stack []byte)

	mu    sync.Mutex // guards peers; held for a lookup, never over I/O
	peers registry
}

// Listen opens a tracker's sockets on a TCP and UDP address of one number; port 0 picks one that is free for both. The sockets
// are closed by Serve, or by Close when Serve is never called.
func Listen(address string, cfg ServerConfig) (*Server, error) {
	s := &Server{interval: cmp.Or(cfg.Interval, time.Minute), maxConns: cmp.Or(cfg.MaxConns, maxServed), now: time.Now, onPanic: cfg.OnPanic}
	s.peers = registry{
		swarms: make(map[[20]byte]*members), open: cfg.Open, swarmMax: 1024,
		peerMax: cmp.Or(cfg.MaxPeers, 2000), hostMax: 256, life: 2*max(s.interval, clientInterval) + time.Minute,
	}
	var seed [32]byte
	crand.Read(s.secret[:])
	crand.Read(seed[:])
	s.peers.rng = rand.New(rand.NewChaCha8(seed))
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("tracker: listen on %q: %w", address, err)
	}
	for range portTries {
		if err = s.bind(address, host, cfg.Only6); err == nil || port != "0" {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tracker: listen on %s: %w", address, err)
	}
	return s, nil
}

// bind opens both sockets, the UDP one on the number that the TCP one got.
func (s *Server) bind(address, host string, only6 bool) error {
	family := "" // both, where the address names none
	if only6 {
		family = "6"
	}
	tcp, err := net.Listen("tcp"+family, address)
	if err != nil {
		return err
	}
	number := tcp.Addr().(*net.TCPAddr).Port
	udp, err := net.ListenPacket("udp"+family, net.JoinHostPort(host, strconv.Itoa(number)))
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	s.tcp, s.udp = tcp, udp.(*net.UDPConn)
	return nil
}

// Addr returns the address of both sockets; its IP is unspecified when they take packets on every address.
func (s *Server) Addr() netip.AddrPort {
	a := s.tcp.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Allow adds a torrent to those served.
func (s *Server) Allow(hash [20]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers.allow(hash)
}

// Serve answers until ctx ends and closes the sockets. It returns nil then, else the error of the socket that failed.
func (s *Server) Serve(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var wg sync.WaitGroup
	wg.Go(func() { end(s.serveHTTP(ctx)) })
	wg.Go(func() { end(s.serveUDP()) })
	<-ctx.Done()
	err := s.Close()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("tracker: serve: %w", cause)
	}
	return err
}

// Close closes the sockets of a server that is not served, or ends Serve with an error.
func (s *Server) Close() error {
	return errors.Join(closed(s.tcp.Close()), closed(s.udp.Close()))
}

// closed takes closing twice for success.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A reply is what an announce is answered with.
type reply struct {
	counts tally
	peers  []netip.AddrPort
	ids    [][20]byte // of peers
}

// announce serves one announce that came from host. here finds the address under which this machine is known there.
func (s *Server) announce(r Request, host netip.Addr, fits func(netip.Addr) bool, here func() netip.Addr) (reply, bool) {
	out, ok := s.record(r, netip.AddrPortFrom(host, r.Port), fits)
	if ok && !host.IsLoopback() {
		out.outward(here, fits)
	}
	return out, ok
}

// record notes what the peer at from says and picks peers for it.
func (s *Server) record(r Request, from netip.AddrPort, fits func(netip.Addr) bool) (out reply, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	swarm := s.peers.swarm(now, r.InfoHash)
	if swarm == nil {
		return out, false
	}
	s.peers.announce(now, swarm, from, r)
	out.counts = swarm.counts()
	if r.Event != Stopped {
		s.peers.pick(swarm, from, r.Left > 0 && !r.Partial, want(r.NumWant), fits, func(m *member) {
			out.peers, out.ids = append(out.peers, m.addr), append(out.ids, m.id)
		})
	}
	return out, true
}

// outward replaces loopback addresses: a peer that runs beside this tracker has announced itself from 127.0.0.1, which means nothing to others.
// They reach it where they reach us.
func (r *reply) outward(here func() netip.Addr, fits func(netip.Addr) bool) {
	var us netip.Addr
	kept := 0
	for i, a := range r.peers {
		if a.Addr().IsLoopback() {
			if !us.IsValid() {
				us = here()
			}
			if a = netip.AddrPortFrom(us, a.Port()); !us.IsValid() || us.IsLoopback() || !fits(us) {
				continue
			}
		}
		r.peers[kept], r.ids[kept] = a, r.ids[i]
		kept++
	}
	r.peers, r.ids = r.peers[:kept], r.ids[:kept]
}

// want bounds the number of peers that a client asks for; negative means it does not say.
func want(n int) int {
	if n < 0 {
		return defaultNumWant
	}
	return min(n, maxNumWant)
}

// scrape returns the counts of a torrent, if it is served here. It never makes a swarm.
func (s *Server) scrape(hash [20]byte) (tally, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	swarm := s.peers.swarms[hash]
	if swarm == nil {
		return tally{}, false
	}
	swarm.sweep(s.now(), s.peers.life)
	return swarm.counts(), true
}
