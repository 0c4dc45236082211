package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Ports is a range of port numbers, both ends included. The zero value means any free port.
type Ports struct{ Low, High uint16 }

// ParsePorts reads "N" or "N-M".
func ParsePorts(s string) (Ports, error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, err := strconv.ParseUint(low, 10, 16)
	h, errHigh := strconv.ParseUint(high, 10, 16)
	if err != nil || errHigh != nil || l == 0 || h < l {
		return Ports{}, errors.New("want a port of 1 to 65535, or a range like 6881-6889")
	}
	return Ports{uint16(l), uint16(h)}, nil
}

// String writes a range as ParsePorts reads it; the zero range is "any".
func (p Ports) String() string {
	switch {
	case p == Ports{}:
		return "any"
	case p.Low == p.High:
		return strconv.Itoa(int(p.Low))
	}
	return fmt.Sprintf("%d-%d", p.Low, p.High)
}

// A PortError reports that no port of a range could be opened.
type PortError struct {
	Ports Ports
	Err   error // of the last one tried
}

func (e *PortError) Error() string {
	return fmt.Sprintf("cannot listen on port %s: %v", e.Ports, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

const (
	anyTries  = 20                     // ports tried when any will do: one may be taken in the other family
	firstWait = 5 * time.Millisecond   // after a failure to accept, doubling
	lastWait  = 500 * time.Millisecond // at most
)

// A Listener takes connections on one port, over IPv4 and IPv6 where both are there.
type Listener struct {
	port    uint16
	taken   int // ports passed over
	socks   portSockets
	waiting waiting
}

// portSockets are the sockets of one port.
type portSockets struct {
	tcp        []net.Listener
	udp4, udp6 net.PacketConn // nil if there is none
}

// Listen opens the first free port of a range, on every address that p allows. A family that this machine does not have is
// left out. The caller must call Serve or Close.
//
// Errors are *[PortError] and *[InterfaceError].
func Listen(p Policy, ports Ports) (*Listener, error) { return listenOn(p, ports, false) }

// ListenBoth is Listen for a port that is free for UDP as well, which it opens under the same rules: others know us by one
// number. The UDP sockets are for who takes them; see [Listener.TakeUDP].
func ListenBoth(p Policy, ports Ports) (*Listener, error) { return listenOn(p, ports, true) }

func listenOn(p Policy, ports Ports, udp bool) (*Listener, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if ports == (Ports{}) {
		return listenAny(p, udp)
	}
	var last error
	for n := int(ports.Low); n <= int(ports.High); n++ {
		socks, err := open(p, uint16(n), udp)
		if err == nil {
			return &Listener{port: uint16(n), taken: n - int(ports.Low), socks: socks}, nil
		}
		if gone, ok := errors.AsType[*InterfaceError](err); ok {
			return nil, gone
		}
		last = err
	}
	return nil, &PortError{ports, last}
}

func listenAny(p Policy, udp bool) (*Listener, error) {
	var last error
	for range anyTries {
		socks, err := open(p, 0, udp)
		if err == nil {
			return &Listener{port: portOf(socks.tcp[0]), socks: socks}, nil
		}
		if gone, ok := errors.AsType[*InterfaceError](err); ok {
			return nil, gone
		}
		last = err
	}
	return nil, &PortError{Ports{}, last}
}

// open opens one port in each family that is allowed and there; port 0 takes the same free one in all.
func open(p Policy, port uint16, udp bool) (portSockets, error) {
	var socks portSockets
	var failed error
	for _, f := range []struct {
		family  string
		allowed bool
		any     netip.Addr
		udp     *net.PacketConn
	}{{"4", p.V4(), netip.IPv4Unspecified(), &socks.udp4}, {"6", p.V6(), netip.IPv6Unspecified(), &socks.udp6}} {
		if !f.allowed {
			continue
		}
		ip := f.any
		if p.Interface.IsValid() {
			ip = p.Interface.Unmap()
		}
		cfg := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
		l, err := cfg.Listen(context.Background(), "tcp"+f.family, netip.AddrPortFrom(ip, port).String())
		if err == nil {
			socks.tcp, port = append(socks.tcp, l), portOf(l)
			if udp {
				*f.udp, err = cfg.ListenPacket(context.Background(), "udp"+f.family, netip.AddrPortFrom(ip, port).String())
			}
		}
		if err == nil {
			continue
		}
		if err = p.explain(err); !noFamily(err) || p.Interface.IsValid() {
			return portSockets{}, errors.Join(err, socks.close())
		}
		failed = err
	}
	if len(socks.tcp) == 0 {
		return portSockets{}, failed
	}
	return socks, nil
}

func portOf(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

func (s *portSockets) close() error {
	var errs error
	for _, l := range s.tcp {
		errs = errors.Join(errs, unlessClosed(l.Close()))
	}
	for _, c := range []net.PacketConn{s.udp4, s.udp6} {
		if c != nil {
			errs = errors.Join(errs, unlessClosed(c.Close()))
		}
	}
	return errs
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Port returns the port number, the same in both families.
func (l *Listener) Port() uint16 { return l.port }

// PassedOver returns how many ports of the range were tried before this one and could not be opened.
func (l *Listener) PassedOver() int { return l.taken }

// Addrs returns the address of each socket.
func (l *Listener) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range l.socks.tcp {
		out = append(out, s.Addr().(*net.TCPAddr).AddrPort())
	}
	return out
}

// TakeUDP hands over the UDP sockets that ListenBoth opened, for the caller to close; nil for a family that is not there, or
// once they were taken. It is not for use beside Serve.
func (l *Listener) TakeUDP() (ipv4, ipv6 net.PacketConn) {
	ipv4, ipv6 = l.socks.udp4, l.socks.udp6
	l.socks.udp4, l.socks.udp6 = nil, nil
	return ipv4, ipv6
}

// Close closes the sockets, but for those that were taken. It ends Serve.
func (l *Listener) Close() error { return l.socks.close() }

// Serve accepts connections until ctx ends or the listener is closed, and gives each to handle in a goroutine of its own. handle owns the
// connection; it returns once it has passed it on or closed it, and soon after its context ends. Until it returns, the
// connection may be closed under it.
//
// At most pending handles run at once. When another connection comes, the one that has been in its handle for longest is closed under it: a
// crowd of silent connections neither blocks the listener nor keeps a live one out. Serve returns when all handles have.
func (l *Listener) Serve(ctx context.Context, pending int, handle func(context.Context, net.Conn)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	w := &l.waiting
	w.max = max(1, pending)
	var wg, accepting sync.WaitGroup
	for _, s := range l.socks.tcp {
		accepting.Go(func() {
			accept(ctx, s, func(nc net.Conn) {
				w.add(nc)
				wg.Go(func() {
					defer w.remove(nc)
					handle(ctx, nc)
				})
			})
		})
	}
	accepting.Wait()
	cancel()
	w.closeAll()
	wg.Wait()
}

// accept takes connections from one socket until it is closed. When the process has no file left, or anything else fails, it waits and
// goes on: peers that wait in the kernel's queue are served later.
func accept(ctx context.Context, s net.Listener, take func(net.Conn)) {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		nc, err := s.Accept()
		if err == nil {
			wait = 0
			shortQueue(nc)
			take(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		wait = min(max(firstWait, 2*wait), lastWait)
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// waiting holds the connections that are in their handle, oldest first.
type waiting struct {
	mu   sync.Mutex // a leaf: nothing is called under it but Close of the evicted
	max  int
	list []net.Conn
}

// add adds a connection, and closes the oldest when there are too many.
func (w *waiting) add(nc net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) >= w.max {
		w.list[0].Close()
		w.list = append(w.list[:0], w.list[1:]...)
	}
	w.list = append(w.list, nc)
}

// remove forgets a connection that has left its handle.
func (w *waiting) remove(nc net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.list {
		if other == nc {
			w.list = append(w.list[:i], w.list[i+1:]...)
			return
		}
	}
}

func (w *waiting) closeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.list {
		nc.Close()
	}
}
