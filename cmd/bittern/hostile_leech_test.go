//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// leech downloads all of x from a seed that is the command, with up to window requests on their
// way, from an address of this machine, within a minute, and compares every byte.
func leech(ctx context.Context, x *fixture, from string, to netip.AddrPort, window int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	id := [20]byte([]byte(fmt.Sprintf("-TL0001-%012d", nc.LocalAddr().(*net.TCPAddr).Port)))
	l := &link{Conn: nc}
	if err := l.shakeAs(x.hash, id); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, 68)); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := l.send(msgInterested); err != nil {
		return err
	}
	return l.fetch(x, x.all(), window)
}

// all is every block, in order.
func (x *fixture) all() []block {
	var all []block
	for i := range x.pieces() {
		for at := 0; at < len(x.pieceData(i)); at += blockSize {
			all = append(all, block{uint32(i), uint32(at), uint32(min(blockSize, len(x.pieceData(i))-at))})
		}
	}
	return all
}

// fetch asks for the blocks and reads them, in any order.
func (l *link) fetch(x *fixture, todo []block, window int) error {
	choked, missing := true, map[block]bool{}
	for len(todo)+len(missing) > 0 {
		for ; !choked && len(todo) > 0 && len(missing) < window; todo = todo[1:] {
			b := todo[0]
			missing[b] = true
			if err := l.send(msgRequest, u32(b.piece, b.begin, b.length)); err != nil {
				return err
			}
		}
		id, body, err := l.receive()
		if err != nil {
			return fmt.Errorf("with %d blocks to go: %w", len(todo)+len(missing), err)
		}
		switch id {
		case msgUnchoke:
			choked = false
		case msgChoke: // without the fast extension this takes back what was asked (BEP 3)
			choked = true
			for b := range missing {
				todo = append(todo, b)
			}
			clear(missing)
		case msgPiece:
			b := block{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), uint32(len(body) - 8)}
			if want, ok := x.block(b); !ok || !missing[b] || !bytes.Equal(want, body[8:]) {
				return fmt.Errorf("%+v was not asked for or is wrong", b)
			}
			delete(missing, b)
		}
	}
	return nil
}

// dialFrom opens a connection from an address of this machine; it ends with the test.
func dialFrom(t *testing.T, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := tryDialFrom(t, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryDialFrom is dialFrom where nobody need be listening.
func tryDialFrom(t *testing.T, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}
