//go:build linux

package main_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// msgAllowedFast is a message of the fast extension (BEP 6) that only a tap looks at.
const msgAllowedFast = 17

// A tap stands between the command and a client, passes everything on, and counts what the client gives while it
// chokes.
type tap struct {
	addr netip.AddrPort

	mu      sync.Mutex
	allowed map[uint32]bool // pieces that the client has allowed
	choking bool
	asked   int // requests for them while it choked
	given   int // blocks of them that came while it choked
}

// newTap starts a tap before a client, at an address of the lab; it ends with the test.
func newTap(t *testing.T, to netip.AddrPort) *tap {
	t.Helper()
	from := newHost()
	ln, err := net.Listen("tcp", net.JoinHostPort(from, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: ln.Addr().(*net.TCPAddr).AddrPort(), allowed: map[uint32]bool{}}
	var going sync.WaitGroup
	t.Cleanup(func() { ln.Close(); going.Wait() })
	going.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return // closed
			}
			client, err := tryDialFrom(t, netip.MustParseAddr(from), to)
			if err != nil {
				nc.Close()
				continue
			}
			p.mu.Lock()
			p.choking = true
			p.mu.Unlock()
			going.Go(func() { p.pass(nc, client, p.fromCommand) })
			going.Go(func() { p.pass(client, nc, p.fromClient) })
		}
	})
	return p
}

// pass hands on what comes from one end to the other, and closes both when either ends.
func (p *tap) pass(from, to net.Conn, look func(id byte, body []byte)) {
	defer from.Close()
	defer to.Close()
	l, out := &link{Conn: from}, &link{Conn: to}
	hello := make([]byte, 68)
	if _, err := io.ReadFull(from, hello); err != nil || out.raw(hello) != nil {
		return
	}
	for {
		id, body, err := l.receive()
		if err != nil {
			return
		}
		if id == 0xff { // keep-alive
			err = out.raw(u32(0))
		} else {
			p.mu.Lock()
			look(id, body)
			p.mu.Unlock()
			err = out.send(id, body)
		}
		if err != nil {
			return
		}
	}
}

func (p *tap) fromCommand(id byte, body []byte) {
	if id == msgRequest && p.choking && p.allowed[binary.BigEndian.Uint32(body)] {
		p.asked++
	}
}

func (p *tap) fromClient(id byte, body []byte) {
	switch {
	case id == msgUnchoke:
		p.choking = false
	case id == msgChoke:
		p.choking = true
	case id == msgAllowedFast:
		p.allowed[binary.BigEndian.Uint32(body)] = true
	case id == msgPiece && p.choking && p.allowed[binary.BigEndian.Uint32(body)]:
		p.given++
	}
}

// TestInteropAllowedFast: what aria2c allows the command, the command asks for while it is choked, and gets. (libtorrent
// allows some pieces, too, but unchokes its first peers at once.)
func TestInteropAllowedFast(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := newFixture("allowed", 8*mib, 32*kib)
	torrent, from, to := x.torrent(t), t.TempDir(), t.TempDir()
	x.lay(t, from)
	s := aria2.share(t, newHost(), torrent, from)
	s.seeds(t, x.hash, x.pieces())
	p := newTap(t, s.job.at)
	run(t, "get", torrent, "-d", to, "--interface", newHost(), "--peer", p.addr.String()).exits(t, 0, 90*time.Second)
	x.isIn(t, to)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("allowed %d pieces, asked for %d of their blocks and given %d while choked", len(p.allowed), p.asked, p.given)
	if p.asked == 0 || p.given == 0 {
		t.Error("nothing was asked for, or given, while choked")
	}
}
