package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"bittern/peer/wire"
)

// HandshakeTimeout bounds a whole handshake, in either direction.
const HandshakeTimeout = 10 * time.Second

// A Greeting is what our end of a handshake says of us.
type Greeting struct {
	ID  [20]byte
	DHT bool // we run a DHT node (BEP 5); never for a private torrent (BEP 27)
}

// A Remote is what a handshake tells about the other end.
type Remote struct {
	ID       [20]byte
	Hash     [20]byte // the torrent agreed on
	Reserved wire.Reserved
	Addr     netip.AddrPort // as we see it; of an incoming connection not where it listens
	Outgoing bool           // we opened the connection
}

// Fast reports whether both ends speak the fast extension (BEP 6).
func (r Remote) Fast() bool { return r.Reserved.Fast() && wire.OurReserved().Fast() }

// Ext reports whether both ends speak the extension protocol (BEP 10).
func (r Remote) Ext() bool { return r.Reserved.Ext() && wire.OurReserved().Ext() }

// DHT reports whether the remote runs a DHT node (BEP 5), whatever we do.
func (r Remote) DHT() bool { return r.Reserved.DHT() }

// Limits returns what the remote may send for a torrent of that many pieces; 0 means not known yet.
func (r Remote) Limits(pieces int) wire.Limits {
	return wire.Limits{Pieces: pieces, Fast: r.Fast(), Ext: r.Ext()}
}

// Initiate does the handshake of a connection that we opened. It sends its 68 bytes and nothing behind
// them before the answer has come: aria2c bans whoever does otherwise. Both ids may turn out to be
// the same, when we have met ourselves; that is for the caller to see.
//
// The error matches [ErrHash], [wire.ErrHandshake], context.Cause(ctx), or is the network's; nc is closed then.
func Initiate(ctx context.Context, nc net.Conn, hash [20]byte, us Greeting) (Remote, error) {
	return shake(ctx, nc, true, func(buf []byte) (h wire.Handshake, err error) {
		if err := greet(nc, hash, us); err != nil {
			return h, err
		}
		if h, err = readHead(nc, buf); err != nil {
			return h, err
		}
		if h.InfoHash != hash {
			return h, ErrHash
		}
		return h, readID(nc, &h)
	})
}

// Accept does the handshake of a connection that was opened to us. It answers when it has read the
// hash and known says that we have that torrent, and before the peer id: BEP 3 lets an end "wait for
// incoming connections to give a download hash first, and respond with the same one".
// Errors are those of [Initiate].
func Accept(ctx context.Context, nc net.Conn, known func([20]byte) bool, us Greeting) (Remote, error) {
	return shake(ctx, nc, false, func(buf []byte) (h wire.Handshake, err error) {
		if h, err = readHead(nc, buf); err != nil {
			return h, err
		}
		if !known(h.InfoHash) {
			return h, ErrHash
		}
		if err := greet(nc, h.InfoHash, us); err != nil {
			return h, err
		}
		return h, readID(nc, &h)
	})
}

// shake runs one side of a handshake within the time limit and under ctx.
func shake(ctx context.Context, nc net.Conn, outgoing bool, side func(buf []byte) (wire.Handshake, error)) (Remote, error) {
	addr := addrOf(nc)
	fail := func(err error) (Remote, error) {
		_ = nc.Close() // the connection is given up, and err says why
		return Remote{}, fmt.Errorf("peer: handshake with %v: %w", addr, err)
	}
	if err := nc.SetDeadline(time.Now().Add(HandshakeTimeout)); err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // unblocks reads and writes
	h, err := side(make([]byte, 0, wire.HandshakeLen))
	switch {
	case !stop():
		return fail(context.Cause(ctx))
	case err != nil:
		return fail(err)
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return fail(err)
	}
	return Remote{ID: h.PeerID, Hash: h.InfoHash, Reserved: h.Reserved, Addr: addr, Outgoing: outgoing}, nil
}

func greet(nc net.Conn, hash [20]byte, us Greeting) error {
	h := wire.Handshake{Reserved: wire.OurReserved(), InfoHash: hash, PeerID: us.ID}
	if us.DHT {
		h.Reserved = h.Reserved.WithDHT()
	}
	_, err := nc.Write(wire.AppendHandshake(nil, h))
	return err
}

// readHead reads all but the peer id. It looks at the greeting first, so that one who speaks another
// protocol, and may wait for us after a short line, is not waited for.
func readHead(nc net.Conn, buf []byte) (wire.Handshake, error) {
	raw := buf[:wire.HandshakeLen]
	if _, err := io.ReadFull(nc, raw[:wire.GreetingLen]); err != nil {
		return wire.Handshake{}, err
	}
	if err := wire.CheckGreeting(raw); err != nil {
		return wire.Handshake{}, err
	}
	if _, err := io.ReadFull(nc, raw[wire.GreetingLen:wire.HandshakeLen-20]); err != nil {
		return wire.Handshake{}, err
	}
	return wire.ParseHandshake(raw) // its id is still empty
}

func readID(nc net.Conn, h *wire.Handshake) error {
	_, err := io.ReadFull(nc, h.PeerID[:])
	return err
}

// addrOf returns the remote address, or the zero value for a connection that has none of IP and port.
func addrOf(nc net.Conn) netip.AddrPort {
	if a, ok := nc.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
