package sockets

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// groupAt returns a group with a port that nobody has.
func groupAt(t *testing.T) netip.AddrPort {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return netip.AddrPortFrom(netip.MustParseAddr("239.192.152.143"), port)
}

// join joins a group on loopback, which nothing leaves.
func join(t *testing.T, group netip.AddrPort, from string) *Group {
	g, err := (Policy{Interface: netip.MustParseAddr(from)}).JoinGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// next returns the next datagram that a member receives.
func next(t *testing.T, g *Group) (text string, from netip.Addr) {
	t.Helper()
	type result struct {
		text string
		from netip.Addr
		err  error
	}
	done := make(chan result, 1)
	go func() {
		b := make([]byte, 100)
		n, at, err := g.Receive(b)
		done <- result{string(b[:n]), at.Addr(), err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.text, r.from
	case <-time.After(10 * time.Second):
		t.Fatal("nothing received")
		return
	}
}

// Every member hears what one of them sends, itself included, and that it comes from the address of
// the policy.
func TestGroup(t *testing.T) {
	group := groupAt(t)
	a, b := join(t, group, "127.0.0.1"), join(t, group, "127.0.0.1")
	for _, rejoined := range []bool{false, true} {
		if rejoined {
			if err := a.Rejoin(); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		for _, g := range []*Group{a, b} {
			if text, from := next(t, g); text != "hello" || from != ip4 {
				t.Errorf("rejoined %v: %q from %v", rejoined, text, from)
			}
		}
	}
}

// What is sent to the port but not to the group could come from far away.
func TestGroupTakesMulticastOnly(t *testing.T) {
	group := groupAt(t)
	g := join(t, group, "127.0.0.1")
	c, err := net.Dial("udp4", netip.AddrPortFrom(ip4, group.Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("unicast")); err != nil {
		t.Fatal(err)
	}
	if err := g.Send([]byte("multicast")); err != nil {
		t.Fatal(err)
	}
	if text, _ := next(t, g); text != "multicast" {
		t.Errorf("received %q", text)
	}
}

func TestGroupClosed(t *testing.T) {
	g := join(t, groupAt(t), "127.0.0.1")
	done := make(chan error, 1)
	go func() {
		_, _, err := g.Receive(make([]byte, 100))
		done <- err
	}()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive: %v", err)
	}
}

func TestGroupRefused(t *testing.T) {
	v4, v6 := groupAt(t), netip.MustParseAddrPort("[ff15::efc0:988f]:6771")
	for _, tt := range []struct {
		name  string
		p     Policy
		group netip.AddrPort
		want  error
	}{
		{"IPv6 with -4", Policy{Only4: true}, v6, ErrFamily},
		{"IPv4 with -6", Policy{Only6: true}, v4, ErrFamily},
		{"IPv6 on an IPv4 interface", Policy{Interface: ip4}, v6, ErrFamily},
		{"on an interface that is not there", Policy{Interface: netip.MustParseAddr("192.0.2.1")}, v4, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := tt.p.JoinGroup(tt.group)
			if err == nil {
				g.Close()
				t.Fatal("joined")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if _, gone := errors.AsType[*InterfaceError](err); tt.want == nil && !gone {
				t.Errorf("%v, want an InterfaceError", err)
			}
		})
	}
}

// Which interfaces take part: without a choice those that reach others, else the chosen one.
func TestMulticastFrom(t *testing.T) {
	usual, loop := net.FlagUp|net.FlagMulticast, net.FlagUp|net.FlagLoopback|net.FlagMulticast
	for _, tt := range []struct {
		name  string
		p     Policy
		flags net.Flags
		has   string
		v4    bool
		want  bool
	}{
		{"usual", Policy{}, usual, "10.0.0.1", true, true},
		{"usual in IPv6", Policy{}, usual, "fe80::1", false, true},
		{"without an address of the family", Policy{}, usual, "fe80::1", true, false},
		{"without multicast", Policy{}, net.FlagUp, "10.0.0.1", true, false},
		{"loopback", Policy{}, loop, "127.0.0.1", true, false},
		{"the chosen", Policy{Interface: netip.MustParseAddr("10.0.0.1")}, usual, "10.0.0.1", true, true},
		{"not the chosen", Policy{Interface: netip.MustParseAddr("10.0.0.2")}, usual, "10.0.0.1", true, false},
		{"loopback chosen", Policy{Interface: ip4}, net.FlagUp | net.FlagLoopback, "127.0.0.1", true, true},
		{"by zone", Policy{Interface: netip.MustParseAddr("fe80::1%eth0")}, usual, "fe80::1", false, true},
		{"of another zone", Policy{Interface: netip.MustParseAddr("fe80::1%eth1")}, usual, "fe80::1", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.multicastFrom(net.Interface{Name: "eth0", Flags: tt.flags}, net.ParseIP(tt.has), tt.v4); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
