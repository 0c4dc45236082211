package tracker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"time"
)

const (
	firstWait   = 15 * time.Second // "If a response is not received after 15 * 2 ^ n seconds, the client should retransmit"
	maxDoubling = 8                // "where n starts at 0 and is increased up to 8"
	maxSessions = 32               // UDP sockets kept for their connection id
)

// A udpSession is a socket towards one tracker and the connection id that came over it. One exchange uses it at a time.
type udpSession struct {
	turn chan struct{} // holds one token; taken for the length of an exchange
	// ---- owned by who has the token ----
	nc    net.Conn
	id    uint64
	until time.Time // "A client can use a connection ID until one minute after it has received it."
}

func (s *udpSession) close() {
	if s.nc != nil {
		s.nc.Close()
		s.nc = nil
	}
}

// announceUDP announces over one family (BEP 15), with the URL's path and query (BEP 41).
func (c *Client) announceUDP(ctx context.Context, ep endpoint, f family, r Request) (Response, error) {
	data := ""
	if ep.url.Path != "" || ep.url.RawQuery != "" {
		data = ep.url.RequestURI()
	}
	body, err := c.exchange(ctx, ep, f, actionAnnounce, 20, func(dst []byte, conn uint64, tid uint32) []byte {
		return appendAnnounce(dst, conn, tid, r, data)
	})
	if err != nil {
		return Response{}, err
	}
	return parseUDPAnnounce(body, f == v6), nil
}

func (c *Client) scrapeUDP(ctx context.Context, ep endpoint, f family, hashes [][20]byte) (map[[20]byte]Counts, error) {
	body, err := c.exchange(ctx, ep, f, actionScrape, 8, func(dst []byte, conn uint64, tid uint32) []byte {
		return appendScrape(dst, conn, tid, hashes)
	})
	if err != nil {
		return nil, err
	}
	out := make(map[[20]byte]Counts, len(hashes))
	parseUDPScrape(body, hashes, out)
	return out, nil
}

// exchange sends one request and returns the body of its answer, at least `least` bytes with its head.
func (c *Client) exchange(ctx context.Context, ep endpoint, f family, action uint32, least int, build func([]byte, uint64, uint32) []byte) ([]byte, error) {
	network := "udp" + string(f)
	s := c.session(network + " " + ep.url.Host)
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer c.release(s)
	if s.nc == nil || !time.Now().Before(s.until) {
		s.close() // a new socket as well: the host's address may have changed
		nc, err := dial(ctx, c.DialUDP, network, ep.url.Host)
		if err != nil {
			return nil, err
		}
		s.nc, s.until = nc, time.Time{}
	}
	nc := s.nc
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	body, err := s.ask(ctx, action, least, build)
	if !stop() || err != nil { // after a cancellation the socket's deadline is no longer ours
		s.close()
	}
	return body, err
}

// ask runs the protocol: a connection id when there is no fresh one, then the request, each repeated with the BEP's back-off.
func (s *udpSession) ask(ctx context.Context, action uint32, least int, build func([]byte, uint64, uint32) []byte) ([]byte, error) {
	packet, in := make([]byte, 0, 256), make([]byte, maxDatagram)
	inherited := time.Now().Before(s.until)
	tid := randomID()
	for n := 0; ; {
		want, size, fresh := action, least, time.Now().Before(s.until)
		if fresh {
			packet = build(packet[:0], s.id, tid)
		} else {
			want, size, packet = actionConnect, connectLen, appendConnect(packet[:0], tid)
		}
		body, refused, err := s.roundTrip(ctx, packet, in, match{want, tid, size}, firstWait<<n)
		switch {
		case refused != nil && inherited && fresh: // the tracker may have forgotten an id it gave us earlier
			s.until, inherited, tid = time.Time{}, false, randomID()
		case refused != nil:
			return nil, refused
		case errors.Is(err, errNoAnswer):
			n = min(n+1, maxDoubling)
		case err != nil:
			return nil, err
		case fresh:
			return body, nil
		default:
			s.id, s.until, tid = be.Uint64(body), time.Now().Add(idleTime), randomID()
		}
	}
}

var errNoAnswer = errors.New("no answer")

// roundTrip sends packet and waits for its answer. Packets that do not match are ignored: they are late, forged or broken.
func (s *udpSession) roundTrip(ctx context.Context, packet, in []byte, m match, wait time.Duration) ([]byte, *FailureError, error) {
	if err := s.nc.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil { // after SetDeadline, which may have undone what the cancellation set
		return nil, nil, ctx.Err()
	}
	if _, err := s.nc.Write(packet); err != nil {
		return nil, nil, cause(ctx, err)
	}
	for {
		n, err := s.nc.Read(in)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && ctx.Err() == nil {
			return nil, nil, errNoAnswer
		}
		if err != nil {
			return nil, nil, cause(ctx, err)
		}
		if body, refused, ok := m.answer(in[:n]); ok {
			return body, refused, nil
		}
	}
}

// session returns the session for a tracker, made at need.
func (c *Client) session(key string) *udpSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[key]
	if s == nil {
		s = &udpSession{turn: make(chan struct{}, 1)}
		s.turn <- struct{}{}
		c.sessions = put(c.sessions, key, s)
	}
	return s
}

// release ends an exchange. Sockets whose connection id has expired are closed, and no more than maxSessions are kept.
func (c *Client) release(s *udpSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) > maxSessions { // counts those without a socket too: a torrent with so many trackers reuses nothing
		s.close()
	}
	s.turn <- struct{}{}
	for _, other := range c.sessions {
		select {
		case <-other.turn:
			if !time.Now().Before(other.until) {
				other.close()
			}
			other.turn <- struct{}{}
		default: // in use
		}
	}
}

// randomID returns a transaction id that nobody can guess.
func randomID() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return binary.BigEndian.Uint32(b[:])
}
