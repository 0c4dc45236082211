package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	lookupTime   = 10 * time.Second
	firstLookup  = 5 * time.Second  // after a failed lookup, doubling
	lastLookup   = 60 * time.Second // at most
	lookupAgain  = 5 * time.Minute  // after a good one: the host's address may change
	failuresLost = 3
)

// A Peer is a --peer argument, checked.
type Peer struct {
	Host string // name or number
	Port uint16
}

// ParsePeer reads HOST:PORT; an IPv6 address stands in brackets.
func ParsePeer(s string) (Peer, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Peer{}, fmt.Errorf("peer %q is not HOST:PORT", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || len(host) > 253 {
		return Peer{}, fmt.Errorf("peer %q is not HOST:PORT with a port from 1 to 65535", s)
	}
	p := Peer{host, uint16(n)}
	if ip, err := netip.ParseAddr(host); err == nil && !oneHost(ip) {
		return Peer{}, fmt.Errorf("peer %q is not the address of one host", s)
	}
	return p, nil
}

// String returns HOST:PORT.
func (p Peer) String() string { return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))) }

// A StaticConfig sets up [Static].
type StaticConfig struct {
	Peers []Peer
	// Lookup returns the addresses of a name; nil means Go's default resolver. See [net.Resolver.LookupNetIP].
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Allows func(netip.Addr) bool // whether an address may be dialed at all; nil allows all
	// Emit takes what is found, as for [Trackers].
	Emit func(Found)
	Log  *slog.Logger // nil means discard
}

// Static is the source of the peers that the user named. Each is emitted once it is known, and again when its name leads elsewhere.
type Static struct {
	cfg     StaticConfig
	pending atomic.Int32 // peers neither emitted yet nor given up after three failed lookups
}

// NewStatic returns the source.
func NewStatic(cfg StaticConfig) *Static {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lookup == nil {
		cfg.Lookup = net.DefaultResolver.LookupNetIP
	}
	s := &Static{cfg: cfg}
	s.pending.Store(int32(len(cfg.Peers)))
	return s
}

// Exhausted implements [Source]: every peer has been emitted, or its name could not be looked up three times. Whether
// they answer is for those to say who dial.
func (s *Static) Exhausted() bool { return s.pending.Load() == 0 }

// Run implements [Source].
func (s *Static) Run(ctx context.Context) {
	var numbers []netip.AddrPort
	var wg sync.WaitGroup
	for _, p := range s.cfg.Peers {
		if ip, err := netip.ParseAddr(p.Host); err == nil {
			numbers = append(numbers, netip.AddrPortFrom(ip.Unmap(), p.Port))
		} else {
			wg.Go(func() { s.follow(ctx, p) })
		}
	}
	if len(numbers) > 0 {
		s.cfg.Emit(Found{Addrs: numbers, Source: "--peer"})
		s.pending.Add(-int32(len(numbers)))
	}
	<-ctx.Done()
	wg.Wait()
}

// follow looks a peer's name up until ctx ends.
func (s *Static) follow(ctx context.Context, p Peer) {
	var known []netip.AddrPort
	decided := sync.OnceFunc(func() { s.pending.Add(-1) })
	for failures := 0; ctx.Err() == nil; {
		found, err := s.lookup(ctx, p)
		wait := lookupAgain
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures++; failures == failuresLost {
				decided()
			}
			if failures == 1 {
				s.cfg.Log.Warn("peer not found", "peer", p.String(), "error", err)
			}
			wait = min(firstLookup<<min(failures-1, 4), lastLookup)
		default:
			failures = 0
			if !slices.Equal(found, known) {
				known = found
				s.cfg.Emit(Found{Addrs: slices.Clone(found), Source: "--peer"})
				decided()
			}
		}
		pause(ctx, wait)
	}
}

var errNoAddress = errors.New("no address of an allowed family")

// lookup returns the addresses that a peer's name leads to, sorted.
func (s *Static) lookup(ctx context.Context, p Peer) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	ips, err := s.cfg.Lookup(ctx, "ip", p.Host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		a := netip.AddrPortFrom(ip.Unmap(), p.Port)
		if oneHost(ip) && (s.cfg.Allows == nil || s.cfg.Allows(a.Addr())) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errNoAddress
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out), nil
}

// oneHost reports whether ip can be the address of one host.
func oneHost(ip netip.Addr) bool {
	return ip.IsValid() && !ip.Unmap().IsUnspecified() && !ip.Unmap().IsMulticast()
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
