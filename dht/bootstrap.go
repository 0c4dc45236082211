package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"bittern/peer/compact"
)

const (
	lookupTime = 10 * time.Second
	maxLookups = 8  // at once
	maxNamed   = 20 // of Config.Named: strangers chose what we look up and ask
	maxPerName = 4  // addresses of one name

	firstRound = 5 * time.Second  // until the next try, doubling
	lastRound  = 60 * time.Second // at most
)

// A bootState says how the search for nodes to begin from goes.
type bootState struct {
	failures int  // rounds in a row after which nobody answered
	mute     bool // in the last of them nobody could be asked
	err      error
}

// bootstrap looks up the nodes to begin from, until ctx ends: at the start, and again while no good node is known.
func (n *Node) bootstrap(ctx context.Context) {
	failures, mute, wait := 0, false, firstRound
	for ctx.Err() == nil {
		err := n.round(ctx)
		n.boot.Store(&bootState{failures, mute, err})
		pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		if n.knowsNodes() {
			failures, mute, wait = 0, false, firstRound
			n.boot.Store(&bootState{})
			for n.knowsNodes() && ctx.Err() == nil {
				pause(ctx, lastRound)
			}
			continue
		}
		was := mute
		mute = n.Status().Err != nil
		if was && !mute {
			failures = 0
		}
		if failures++; failures == 1 {
			n.warn(err)
		}
		n.boot.Store(&bootState{failures, mute, err})
		wait = min(2*wait, lastRound)
	}
}

// warn tells of the first failure; err may be nil.
func (n *Node) warn(err error) {
	if err == nil {
		n.cfg.Log.Warn("no node of the DHT answers yet")
		return
	}
	n.cfg.Log.Warn("no node of the DHT is found yet", "error", err)
}

func (n *Node) knowsNodes() bool {
	s := n.status.Load()
	return s.IPv4+s.IPv6 > 0
}

// round looks all names up, several at once, and tells the loop of each address as soon as it is known. When no name led to one it
// returns why.
func (n *Node) round(ctx context.Context) error {
	named := n.cfg.Named[:min(len(n.cfg.Named), maxNamed)]
	hosts := slices.Concat(n.cfg.Bootstrap, named)
	errs := make([]error, len(hosts))
	slots := make(chan struct{}, maxLookups)
	var wg sync.WaitGroup
	for i, host := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n.guard(func() { errs[i] = n.follow(ctx, host, i < len(n.cfg.Bootstrap)) })
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			n.cfg.Log.Debug("DHT node not found", "node", hosts[i], "error", err)
		}
	}
	if slices.Contains(errs, nil) {
		return nil
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

var errNoAddress = errors.New("no address that may be used")

// follow tells the loop of the addresses of HOST:PORT.
func (n *Node) follow(ctx context.Context, hostport string, trusted bool) error {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return err
	}
	ips, err := n.lookup(ctx, host)
	if err != nil {
		return err
	}
	told := 0
	for _, ip := range ips {
		at := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if !n.usable(at, trusted) || told == maxPerName {
			continue
		}
		told++
		n.do(ctx, func(now time.Time) {
			n.begun = true
			n.node.Router(now, at)
		})
	}
	if told == 0 {
		return errNoAddress
	}
	return nil
}

func (n *Node) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	return n.cfg.Lookup(ctx, "ip", host)
}

// usable reports whether a node may be asked at an address.
func (n *Node) usable(at netip.AddrPort, trusted bool) bool {
	return n.socket(at.Addr()) != nil && compact.Usable(at) && (trusted || n.cfg.Loopback || !at.Addr().IsLoopback())
}
