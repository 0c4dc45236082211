package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

var (
	ip4 = netip.MustParseAddr("127.0.0.1")
	ip6 = netip.MustParseAddr("::1")
)

func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      Policy
		ok     bool
		v4, v6 bool
	}{
		{"anything", Policy{}, true, true, true},
		{"-4", Policy{Only4: true}, true, true, false},
		{"-6", Policy{Only6: true}, true, false, true},
		{"both", Policy{Only4: true, Only6: true}, false, false, false},
		{"IPv4 interface", Policy{Interface: ip4}, true, true, false},
		{"IPv6 interface", Policy{Interface: ip6}, true, false, true},
		{"mapped interface", Policy{Interface: netip.MustParseAddr("::ffff:127.0.0.1")}, true, true, false},
		{"IPv4 interface with -6", Policy{Interface: ip4, Only6: true}, false, false, false},
		{"IPv6 interface with -4", Policy{Interface: ip6, Only4: true}, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.p.Check(); (err == nil) != tt.ok {
				t.Errorf("Check = %v", err)
			}
			if tt.p.Allows(ip4) != tt.v4 || tt.p.Allows(ip6) != tt.v6 || tt.p.Allows(netip.MustParseAddr("::ffff:1.2.3.4")) != tt.v4 || tt.p.Allows(netip.Addr{}) {
				t.Errorf("allows IPv4 %v, IPv6 %v", tt.p.Allows(ip4), tt.p.Allows(ip6))
			}
		})
	}
}

// listen opens a port of this machine for a test and takes whoever comes.
func listen(t *testing.T, network, address string) netip.AddrPort {
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestDial(t *testing.T) {
	at4, at6 := listen(t, "tcp4", "127.0.0.1:0"), listen(t, "tcp6", "[::1]:0")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(at4.Addr().As16()), at4.Port())
	other := netip.MustParseAddr("127.0.0.2")
	for _, tt := range []struct {
		name  string
		p     Policy
		to    netip.AddrPort
		local netip.Addr // expected; zero: ErrFamily
	}{
		{"IPv4", Policy{}, at4, ip4},
		{"IPv6", Policy{}, at6, ip6},
		{"mapped IPv4", Policy{}, mapped, ip4},
		{"IPv4 with -4", Policy{Only4: true}, at4, ip4},
		{"IPv6 with -4", Policy{Only4: true}, at6, netip.Addr{}},
		{"IPv4 with -6", Policy{Only6: true}, at4, netip.Addr{}},
		{"mapped IPv4 with -6", Policy{Only6: true}, mapped, netip.Addr{}},
		{"from the interface", Policy{Interface: other}, at4, other},
		{"IPv6 from an IPv4 interface", Policy{Interface: other}, at6, netip.Addr{}},
		{"from the IPv6 interface", Policy{Interface: ip6}, at6, ip6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc, err := tt.p.Dial(t.Context(), tt.to)
			if !tt.local.IsValid() {
				if !errors.Is(err, ErrFamily) {
					t.Errorf("err = %v, want ErrFamily", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if got := nc.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); got != tt.local {
				t.Errorf("from %v, want %v", got, tt.local)
			}
		})
	}
}

func TestDialForTrackers(t *testing.T) {
	at4 := listen(t, "tcp4", "127.0.0.1:0")
	other := netip.MustParseAddr("127.0.0.3")
	p := Policy{Interface: other}
	for _, tt := range []struct {
		network string
		dial    func(context.Context, string, string) (net.Conn, error)
		want    error
	}{{"tcp4", p.DialTCP, nil}, {"tcp", p.DialTCP, nil}, {"udp4", p.DialUDP, nil}, {"udp", p.DialUDP, nil}, {"tcp6", p.DialTCP, ErrFamily}, {"udp6", p.DialUDP, ErrFamily}} {
		nc, err := tt.dial(t.Context(), tt.network, at4.String())
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.network, err, tt.want)
		}
		if err != nil {
			continue
		}
		if got, _ := netip.ParseAddrPort(nc.LocalAddr().String()); got.Addr() != other {
			t.Errorf("%s: from %v, want %v", tt.network, got, other)
		}
		nc.Close()
	}
}

func TestDialCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Policy{}).Dial(ctx, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		t.Errorf("err = %v", err)
	}
}

// 192.0.2.1 is for documentation (RFC 5737): no machine has it.
func TestInterfaceGone(t *testing.T) {
	p := Policy{Interface: netip.MustParseAddr("192.0.2.1")}
	_, err := p.Dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"))
	if e, ok := errors.AsType[*InterfaceError](err); !ok || e.Addr != p.Interface {
		t.Errorf("Dial: %v", err)
	}
	_, err = Listen(p, Ports{})
	if _, ok := errors.AsType[*InterfaceError](err); !ok {
		t.Errorf("Listen: %v", err)
	}
	_, err = Listen(p, Ports{40000, 40010})
	if _, ok := errors.AsType[*InterfaceError](err); !ok {
		t.Errorf("Listen on a range: %v", err)
	}
}

func TestResolver(t *testing.T) {
	if (Policy{}).Resolver() != nil {
		t.Error("without an interface the default resolver does")
	}
	for _, p := range []Policy{{Interface: netip.MustParseAddr("127.0.0.4")}, {Interface: ip6}} {
		// A resolver on this machine is asked from any address; Dial on UDP sends nothing.
		nc, err := p.Resolver().Dial(t.Context(), "udp", "127.0.0.53:53")
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	gone := Policy{Interface: netip.MustParseAddr("192.0.2.1")}
	if nc, err := gone.Resolver().Dial(t.Context(), "udp", "198.51.100.1:53"); err == nil {
		nc.Close()
		t.Error("a query to another machine did not leave from the interface")
	}
}

func TestExhausted(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if err := fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)}); !Exhausted(err) {
			t.Errorf("%v is not exhausted", err)
		}
	}
	if Exhausted(syscall.ECONNREFUSED) || Exhausted(nil) {
		t.Error("a refusal is taken for our own lack")
	}
}

func TestOffline(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"no route", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, true},
		{"interface down", syscall.ENETDOWN, true},
		{"no name server", &net.DNSError{Err: "server misbehaving", IsTemporary: true}, true},
		{"no such name", &net.DNSError{Err: "no such host", IsNotFound: true}, false},
		{"refused", syscall.ECONNREFUSED, false},
		{"none", nil, false},
	} {
		if got := Offline(tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
