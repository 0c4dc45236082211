package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
)

// dialTimeout bounds a connect; the handshake has a limit of its own. It leaves time for a SYN to be
// repeated three times, and keeps addresses where nobody answers from filling the half-open limit for
// the minutes that a system would wait.
const dialTimeout = 10 * time.Second

var errNotDialing = errors.New("swarm: not dialing")

// dial connects and shakes hands on a goroutine of its own.
func (s *Swarm) dial(to netip.AddrPort) {
	s.wg.Go(func() {
		defer s.in.recover()
		o, err := s.connect(to)
		if err != nil {
			local := s.cfg.Local != nil && s.cfg.Local(err)
			s.in.post(message{event: &core.Event{Op: core.DialFailed, Addr: to, Local: local, Err: err}})
			return
		}
		s.in.post(message{opened: o})
	})
}

// connect returns a connection that has shaken hands.
func (s *Swarm) connect(to netip.AddrPort) (o *opened, err error) {
	if s.cfg.Dial == nil {
		return nil, errNotDialing
	}
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	nc, err := s.cfg.Dial(ctx, to)
	cancel()
	if err != nil {
		return nil, err
	}
	defer closeUnless(&o, nc)
	r, err := peer.Initiate(s.ctx, nc, s.cfg.InfoHash, s.greeting())
	if err != nil {
		return nil, err
	}
	r.Addr = to // the name under which the core knows it
	return &opened{conn: nc, remote: r}, nil
}

// greeting is what our handshakes say.
func (s *Swarm) greeting() peer.Greeting { return peer.Greeting{ID: s.id, DHT: s.cfg.Node != nil} }

// Accept shakes hands on a connection from the listener and passes it to the loop, or closes it. It
// returns soon after ctx or nc ends.
func (s *Swarm) Accept(ctx context.Context, nc net.Conn) {
	defer s.in.recover()
	var o *opened
	defer closeUnless(&o, nc)
	known := func(hash [20]byte) bool { return hash == s.cfg.InfoHash }
	r, err := peer.Accept(ctx, nc, known, s.greeting())
	if err != nil {
		s.log.Debug("handshake failed", "why", err)
		return
	}
	o = &opened{conn: nc, remote: r}
	s.in.post(message{opened: o})
}

// closeUnless is deferred to close a connection that came to nothing, by a panic perhaps.
func closeUnless(o **opened, nc net.Conn) {
	if *o == nil {
		_ = nc.Close() // whatever failed has been said
	}
}
