// Package sockets opens every TCP and UDP socket of the program, so that one [Policy] holds for all of them: which
// address families may be used, and which local address traffic leaves from.
//
// [Listen] opens the port for incoming peers, [ListenBoth] for UDP as well, [Policy.Dial] connects to peers, [Policy.DialTCP] and
// [Policy.DialUDP] serve trackers, [Policy.DialGuarded] web servers, and [Policy.JoinGroup] multicast. What cannot obey the policy fails; nothing falls back to another address.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A Policy says which sockets may be opened. The zero value allows all.
type Policy struct {
	Interface netip.Addr // listen on and send from this address only; the zero Addr means any
	Only4     bool       // no IPv6
	Only6     bool       // no IPv4
}

// ErrFamily matches an address of a family that the policy leaves out.
var ErrFamily = errors.New("address family not allowed")

// An InterfaceError reports that the address of Policy.Interface cannot be used on this machine, or no longer.
type InterfaceError struct {
	Addr netip.Addr
	Err  error
}

func (e *InterfaceError) Error() string {
	return fmt.Sprintf("cannot use local address %s: %v", e.Addr, e.Err)
}

func (e *InterfaceError) Unwrap() error { return e.Err }

// Check reports a policy that contradicts itself.
func (p Policy) Check() error {
	switch {
	case p.Only4 && p.Only6:
		return errors.New("only IPv4 and only IPv6 exclude each other")
	case !p.V4() && !p.V6():
		return fmt.Errorf("%s is not of the address family asked for", p.Interface)
	}
	return nil
}

// V4 reports whether IPv4 may be used.
func (p Policy) V4() bool {
	return !p.Only6 && (!p.Interface.IsValid() || p.Interface.Unmap().Is4())
}

// V6 reports whether IPv6 may be used.
func (p Policy) V6() bool {
	return !p.Only4 && (!p.Interface.IsValid() || p.Interface.Unmap().Is6())
}

// Allows reports whether packets may be sent to ip.
func (p Policy) Allows(ip netip.Addr) bool {
	if ip = ip.Unmap(); ip.Is4() {
		return p.V4()
	}
	return ip.Is6() && p.V6()
}

// Dial connects to a peer. Errors match [ErrFamily], are *[InterfaceError], or the network's; see [Exhausted].
func (p Policy) Dial(ctx context.Context, peer netip.AddrPort) (net.Conn, error) {
	if !p.Allows(peer.Addr()) {
		return nil, ErrFamily
	}
	network := "tcp4"
	if peer.Addr().Unmap().Is6() {
		network = "tcp6"
	}
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	nc, err := p.dial(ctx, network, peer.String(), nil)
	if err != nil {
		return nil, err
	}
	shortQueue(nc)
	return nc, nil
}

// DialTCP connects to a tracker or web server by name or number. The network is "tcp4" or "tcp6", or "tcp" for any
// family that is allowed.
func (p Policy) DialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return p.dial(ctx, network, address, nil)
}

// A Guard may refuse an address, which is a number by then, before it is connected to; see [net.Dialer].
type Guard func(network, address string, c syscall.RawConn) error

// DialGuarded is [Policy.DialTCP] to addresses that a guard lets through.
func (p Policy) DialGuarded(ctx context.Context, network, address string, guard Guard) (net.Conn, error) {
	return p.dial(ctx, network, address, guard)
}

// DialUDP returns a UDP socket that exchanges packets with one address only. The network is "udp4" or "udp6", or "udp" for
// any family that is allowed.
func (p Policy) DialUDP(ctx context.Context, network, address string) (net.Conn, error) {
	return p.dial(ctx, network, address, nil)
}

func (p Policy) dial(ctx context.Context, network, address string, guard Guard) (net.Conn, error) {
	network, err := p.narrow(network)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{
		KeepAlive: -1, // peers have a keep-alive of their own (BEP 3), and it saves four system calls a connection
		LocalAddr: p.local(network),
		Resolver:  p.Resolver(),
		Control:   guard,
	}
	nc, err := d.DialContext(ctx, network, address)
	return nc, p.explain(err)
}

// narrow restricts a network name to the families that are allowed.
func (p Policy) narrow(network string) (string, error) {
	family := network[len(network)-1]
	switch {
	case family == '4' && !p.V4(), family == '6' && !p.V6():
		return "", ErrFamily
	case family == '4', family == '6', p.V4() && p.V6():
		return network, nil
	case p.V4():
		return network + "4", nil
	case p.V6():
		return network + "6", nil
	}
	return "", ErrFamily
}

// local returns the local end to bind; nil for any.
func (p Policy) local(network string) net.Addr {
	ip := p.Interface.Unmap()
	switch {
	case !ip.IsValid():
		return nil
	case network[0] == 'u':
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
}

// explain makes the loss of the interface's address an *InterfaceError.
func (p Policy) explain(err error) error {
	if p.Interface.IsValid() && errors.Is(err, syscall.EADDRNOTAVAIL) {
		return &InterfaceError{Addr: p.Interface, Err: err}
	}
	return err
}

// Resolver returns what looks up names under the policy: its queries leave from the interface as well, except those to a
// resolver on this machine. It is nil, Go's default, when no interface is given.
func (p Policy) Resolver() *net.Resolver {
	if !p.Interface.IsValid() {
		return nil
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		server, err := netip.ParseAddrPort(address)
		if err != nil || !server.Addr().IsLoopback() {
			d.LocalAddr = p.local(network)
		}
		return d.DialContext(ctx, network, address)
	}}
}

// Exhausted reports whether err says that this process or machine has no more sockets or memory for them. Then the peer is not to blame, and
// another attempt makes sense only once something was closed.
func Exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// Offline reports whether err says that this machine has no network at the moment. Then neither the peer nor the tracker is to
// blame, and nothing is learnt about either.
func Offline(err error) bool {
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ENETDOWN) {
		return true
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsTemporary && !dns.IsNotFound
}
