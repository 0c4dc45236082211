package simnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Conn is one end of a stream.
type Conn struct {
	in, out       *pipe
	local, remote netip.AddrPort
}

// A pipe is one direction of a stream. Whoever waits for it to change waits for the channel
// changed, which every change replaces.
type pipe struct {
	net      *Network
	from, to netip.Addr

	mu       sync.Mutex
	segments []arriving
	size     int  // bytes in segments
	ended    bool // the writing end was closed: after the segments comes EOF
	broken   bool // the reading end was closed: writes fail
	eof      time.Time
	changed  chan struct{}

	readBy, writeBy time.Time // deadlines
}

type arriving struct {
	data []byte
	at   time.Time
}

func newPipe(n *Network, from, to netip.Addr) *pipe {
	return &pipe{net: n, from: from, to: to, changed: make(chan struct{})}
}

// change wakes all who wait. mu is held.
func (p *pipe) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait gives mu up until something changes, or one of the times that are not zero has come.
func (p *pipe) wait(times ...time.Time) {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	var first time.Time
	for _, t := range times {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	waitFor(changed, first)
}

func past(t time.Time) bool { return !t.IsZero() && !t.After(time.Now()) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case past(p.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		n := 0
		for n < len(b) && len(p.segments) > 0 && past(p.segments[0].at) {
			s := &p.segments[0]
			k := copy(b[n:], s.data)
			n += k
			if s.data = s.data[k:]; len(s.data) == 0 {
				p.segments = p.segments[1:]
			}
		}
		if n > 0 {
			p.size -= n
			p.change()
			return n, nil
		}
		var next time.Time
		switch {
		case len(p.segments) > 0:
			next = p.segments[0].at
		case p.ended && past(p.eof):
			return 0, io.EOF
		case p.ended:
			next = p.eof
		}
		p.wait(next, p.readBy)
	}
}

func (p *pipe) write(b []byte) (n int, err error) {
	limit := p.room()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.ended:
			return n, net.ErrClosed
		case p.broken:
			return n, syscall.EPIPE
		case past(p.writeBy):
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		if k := min(len(b), limit-p.size, segment); k > 0 {
			at := p.net.arrival(p.from, p.to, k)
			p.segments = append(p.segments, arriving{append([]byte(nil), b[:k]...), at})
			p.size += k
			n += k
			b = b[k:]
			p.change()
			continue
		}
		p.wait(p.writeBy)
	}
}

// room returns how many bytes may be on the way.
func (p *pipe) room() int {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if n := p.net.host(p.to).Buffer; n > 0 {
		return n
	}
	return defaultBuffer
}

// end closes the writing end: EOF travels behind what was written.
func (p *pipe) end() {
	at := p.net.arrival(p.from, p.to, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.eof = true, at
		p.change()
	}
}

// breakOff closes the reading end: what is on the way is lost.
func (p *pipe) breakOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken, p.segments, p.size = true, nil, 0
	p.change()
}

func (p *pipe) deadline(which *time.Time, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*which = t
	p.change()
}

// Read reads what has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write returns when all of b is on its way.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// wrap gives an error the form that errors of real connections have.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Close closes both directions. The other end reads what was written before, and then EOF; if
// it writes, that fails, as soon as this end is closed.
func (c *Conn) Close() error {
	c.out.end()
	c.in.breakOff()
	return nil
}

// CloseWrite ends the outgoing direction only.
func (c *Conn) CloseWrite() error {
	c.out.end()
	return nil
}

// LocalAddr and RemoteAddr return a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines; the zero time means none. Waiting calls obey it at once.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.deadline(&c.in.readBy, t)
	c.out.deadline(&c.out.writeBy, t)
	return nil
}

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.deadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.deadline(&c.out.writeBy, t)
	return nil
}
