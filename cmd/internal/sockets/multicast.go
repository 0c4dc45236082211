package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// multicastHops is how many routers a datagram to a group may pass. That of BEP 14 are groups of an
// organization and a site, so its note asks for more than 1; 32 is what is usual for a site.
const multicastHops = 32

// ErrNoInterface reports that no interface of this machine can take part in a multicast group.
var ErrNoInterface = errors.New("no interface for multicast")

// A Group is a membership in a multicast group on every interface that the policy allows. It
// exchanges datagrams with whoever else is a member.
type Group struct {
	policy  Policy
	to      *net.UDPAddr
	group   netip.Addr
	in, out *socket // in is what all members share the port of; out belongs to the caller of Send

	mu     sync.Mutex // a leaf
	joined []net.Interface
}

// JoinGroup joins a multicast group and takes its port, which other programs may have as well. The
// interfaces are those that are up and can do multicast, loopback left out; where the policy names an
// address, the one that has it and no other, loopback too. The caller must call Close.
//
// The error is [ErrFamily], [ErrNoInterface], an *[InterfaceError] or the system's.
func (p Policy) JoinGroup(group netip.AddrPort) (*Group, error) {
	if !p.Allows(group.Addr()) {
		return nil, ErrFamily
	}
	g := &Group{policy: p, to: net.UDPAddrFromAddrPort(group), group: group.Addr()}
	var err error
	if g.in, err = openSocket(group); err != nil { // package net makes that any address, and the port shared
		return nil, err
	}
	if err := g.open(); err != nil {
		return nil, errors.Join(err, g.in.Close())
	}
	if err := g.Rejoin(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// open sets the sockets up. What is sent leaves from one of its own, so that it has the address of
// the policy.
func (g *Group) open() error {
	// Not every system tells where a datagram came in. Then one of another interface cannot be told
	// apart, which matters only if there is one that must not be used.
	if err := g.in.tellArrival(); err != nil && g.policy.Interface.IsValid() {
		return fmt.Errorf("tell interfaces apart: %w", err)
	}
	from := netip.IPv4Unspecified()
	if g.group.Is6() {
		from = netip.IPv6Unspecified()
	}
	if ip := g.policy.Interface.Unmap(); ip.IsValid() {
		from = ip
	}
	var err error
	if g.out, err = openSocket(netip.AddrPortFrom(from, 0)); err != nil {
		return g.policy.explain(err)
	}
	// Other programs on this machine are peers too.
	if err = errors.Join(g.out.setHops(multicastHops), g.out.SetMulticastLoopback(true)); err != nil {
		return errors.Join(err, g.out.Close())
	}
	return nil
}

// Rejoin joins the group on the interfaces that are there now, those too where we are members already,
// so that a network which has forgotten us is told again. It is for when the machine's addresses have
// changed. Errors are as for [Policy.JoinGroup].
func (g *Group) Rejoin() error {
	interfaces, err := g.policy.multicastInterfaces(g.group)
	if err != nil {
		return err
	}
	var joined []net.Interface
	var errs error
	for _, ifi := range interfaces {
		_ = g.in.LeaveGroup(&ifi, g.to) // fails where we were no member, which is as good
		if err := g.in.JoinGroup(&ifi, g.to); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", ifi.Name, err))
			continue
		}
		joined = append(joined, ifi)
	}
	g.mu.Lock()
	g.joined = joined
	g.mu.Unlock()
	switch {
	case len(joined) > 0:
		return nil // the others are not worth losing these
	case errs != nil:
		return errs
	}
	return ErrNoInterface
}

// multicastInterfaces returns the interfaces on which to join a group of ip's family.
func (p Policy) multicastInterfaces(ip netip.Addr) ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(all, func(ifi net.Interface) bool {
		addrs, err := ifi.Addrs()
		if err != nil || ifi.Flags&net.FlagUp == 0 { // an error: it has gone since
			return true
		}
		return !slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && p.multicastFrom(ifi, n.IP, ip.Is4())
		})
	})
	if len(out) == 0 && p.Interface.IsValid() {
		return nil, &InterfaceError{Addr: p.Interface, Err: ErrNoInterface}
	}
	return out, nil
}

// multicastFrom reports whether the address that an interface has makes it one to join groups on.
func (p Policy) multicastFrom(ifi net.Interface, has net.IP, v4 bool) bool {
	ip, _ := netip.AddrFromSlice(has)
	if ip = ip.Unmap(); !p.Interface.IsValid() {
		return ifi.Flags&(net.FlagMulticast|net.FlagLoopback) == net.FlagMulticast && ip.Is4() == v4
	}
	zone := p.Interface.Zone()
	return ip == p.Interface.Unmap().WithZone("") && (zone == "" || zone == ifi.Name)
}

// Send sends a datagram to the group out of every interface. The error is what kept it from leaving any.
// Not to be called from two goroutines at once.
func (g *Group) Send(b []byte) error {
	g.mu.Lock()
	joined := g.joined
	g.mu.Unlock()
	var errs error
	sent := false
	for _, ifi := range joined {
		err := g.out.SetMulticastInterface(&ifi)
		if err == nil {
			_, err = g.out.WriteTo(b, g.to)
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s: %w", ifi.Name, err))
			continue
		}
		sent = true
	}
	if sent {
		return nil
	}
	return errs
}

// Receive waits for a datagram to the group and returns its length and sender; what does not fit into
// b is lost. The error is the socket's, net.ErrClosed after Close.
func (g *Group) Receive(b []byte) (n int, from netip.AddrPort, err error) {
	for {
		n, at, src, err := g.in.receive(b)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		addr, ok := src.(*net.UDPAddr)
		if ok && g.member(at) {
			from := addr.AddrPort()
			return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
		}
	}
}

// member reports whether a datagram that arrived so is for us: the port takes in what was sent to
// this machine alone, and on Linux what other programs have joined.
func (g *Group) member(at arrival) bool {
	if at == (arrival{}) {
		return true // this system does not tell
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ifi := range g.joined {
		if ifi.Index == at.ifIndex && at.to == g.group {
			return true
		}
	}
	return false
}

// Close closes the sockets, which ends the memberships and Receive.
func (g *Group) Close() error { return errors.Join(g.in.Close(), g.out.Close()) }

// An arrival is where a datagram came in and whom it was for; the zero arrival is not known.
type arrival struct {
	ifIndex int
	to      netip.Addr
}

// A socket is a UDP socket for multicast. The families have options of their own with one meaning.
type socket struct {
	net.PacketConn
	options
	setHops     func(int) error
	tellArrival func() error // from now on, by receive
	receive     func(b []byte) (int, arrival, net.Addr, error)
}

// options are those that an *[ipv4.PacketConn] and an *[ipv6.PacketConn] have in common.
type options interface {
	JoinGroup(ifi *net.Interface, group net.Addr) error
	LeaveGroup(ifi *net.Interface, group net.Addr) error
	SetMulticastInterface(ifi *net.Interface) error
	SetMulticastLoopback(on bool) error
}

func openSocket(at netip.AddrPort) (*socket, error) {
	if at.Addr().Is4() {
		c, err := net.ListenPacket("udp4", at.String())
		if err != nil {
			return nil, err
		}
		p := ipv4.NewPacketConn(c)
		tell := func() error { return p.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true) }
		return &socket{c, p, p.SetMulticastTTL, tell, func(b []byte) (int, arrival, net.Addr, error) {
			n, cm, from, err := p.ReadFrom(b)
			if err != nil || cm == nil {
				return n, arrival{}, from, err
			}
			return n, arrivalOf(cm.IfIndex, cm.Dst), from, nil
		}}, nil
	}
	c, err := net.ListenPacket("udp6", at.String())
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(c)
	tell := func() error { return p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true) }
	return &socket{c, p, p.SetMulticastHopLimit, tell, func(b []byte) (int, arrival, net.Addr, error) {
		n, cm, from, err := p.ReadFrom(b)
		if err != nil || cm == nil {
			return n, arrival{}, from, err
		}
		return n, arrivalOf(cm.IfIndex, cm.Dst), from, nil
	}}, nil
}

func arrivalOf(ifIndex int, dst net.IP) arrival {
	to, _ := netip.AddrFromSlice(dst) // the zero Addr is no group's
	return arrival{ifIndex, to.Unmap()}
}
