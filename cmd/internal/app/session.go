package app

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"bittern/cmd/internal/discover"
	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
	"bittern/dht"
	"bittern/peer/wire"
	"bittern/tracker"
)

// A session is the meeting of one torrent's peers: the port where they call, the sources of their addresses,
// and the inbox of the swarm. It needs no more of the torrent than its info-hash.
type session struct {
	hash    [20]byte
	net     Network
	policy  sockets.Policy // that of net, which does not contradict itself
	log     *slog.Logger
	id      [20]byte
	started time.Time
	handles handleBudget

	listener *sockets.Listener // nil if no port could be had and that was not insisted on
	inbox    *swarm.Inbox
	client   *tracker.Client
	trackers *discover.Trackers
	static   *discover.Static // the peers that the user named
	invited  *discover.Static // the peers that a magnet link names; nil if none
	names    []string         // of the peers of both, as they were given
	node     *dht.Node        // nil without the DHT, as dht
	dht      *discover.DHT    // searches through node
	nodes    []string         // of the DHT, that the torrent names
	serves   bool             // there is no content to fetch
	lsd      *discover.LSD    // the local network; nil if it is left out
	tiers    [][]string
	pages    atomic.Int32 // URLs where the .torrent may be had and that have not answered

	// resolving says that the metadata is looked for, which has a time limit of its own.
	resolving atomic.Bool

	whenComplete func() // what to do once all is there and seeding goes on; set before the swarm has content
}

// newSession sets up what does not touch the network yet. tiers are the trackers that the torrent names.
func newSession(hash [20]byte, tiers [][]string, n Network, log *slog.Logger, started time.Time) (*session, error) {
	x := &session{hash: hash, net: n, policy: n.policy(), log: log, started: started, id: newPeerID(), inbox: swarm.NewInbox(), names: slices.Clone(n.Peers)}
	x.handles = n.handles()
	peers := make([]discover.Peer, 0, len(n.Peers))
	for _, s := range n.Peers {
		p, err := discover.ParsePeer(s)
		if err != nil {
			return nil, &Error{Class: ClassUsage, Err: err}
		}
		if ip, err := netip.ParseAddr(p.Host); err == nil && !x.policy.Allows(ip) {
			return nil, &Error{Class: ClassUsage, What: "cannot connect to " + p.String(), Err: errors.New("its address family is left out")}
		}
		peers = append(peers, p)
	}
	if !n.NoTrackers {
		x.tiers = append(x.tiers, tiers...)
		warnOfLocal(log, tiers)
	}
	for _, url := range n.Trackers {
		x.tiers = append(x.tiers, []string{url})
	}
	x.static = x.named(peers, core.SourceStatic)
	if n.LSD {
		x.lookAround()
	}
	return x, nil
}

// named is the source of peers with names.
func (x *session) named(peers []discover.Peer, src core.Source) *discover.Static {
	return discover.NewStatic(discover.StaticConfig{
		Peers: peers, Lookup: x.policy.Resolver().LookupNetIP, Allows: x.policy.Allows, Log: x.log,
		Emit: func(f discover.Found) { x.inbox.Found(f.Addrs, src) },
	})
}

// invite adds the peers that a magnet link names, as far as they can be used.
func (x *session) invite(names []string) {
	var peers []discover.Peer
	for _, s := range names {
		p, err := x.guest(s)
		if err != nil {
			x.log.Warn("peer of the magnet link left out", "peer", printable(s), "error", err)
			continue
		}
		peers = append(peers, p)
		x.names = append(x.names, s)
	}
	if len(peers) > 0 {
		x.invited = x.named(peers, core.SourceMagnet)
	}
}

// guest reads the HOST:PORT of a peer that a magnet link names. Whoever wrote the link has no business with this machine.
func (x *session) guest(s string) (discover.Peer, error) {
	p, err := discover.ParsePeer(s)
	if err != nil {
		return p, err
	}
	ip, err := netip.ParseAddr(p.Host)
	switch {
	case err != nil: // a name
		return p, nil
	case ip.Unmap().IsLoopback():
		return p, errors.New("it is on this machine, where only --peer may name one")
	case !x.policy.Allows(ip):
		return p, errors.New("its address family is left out")
	}
	return p, nil
}

// lookAround looks for peers on the local network.
func (x *session) lookAround() {
	x.lsd = discover.NewLSD(discover.LSDConfig{
		InfoHash: x.hash, Port: x.port, Log: x.log, OnPanic: x.inbox.Panicked,
		Join: func(group netip.AddrPort) (discover.Multicast, error) { return x.policy.JoinGroup(group) },
		Emit: func(f discover.Found) { x.inbox.Found(f.Addrs, core.SourceLSD) },
	})
}

// found lists the sources of addresses.
func (x *session) found() []discover.Source {
	all := []discover.Source{x.trackers, x.static}
	if x.invited != nil {
		all = append(all, x.invited)
	}
	if x.dht != nil {
		all = append(all, x.dht)
	}
	if x.lsd != nil {
		all = append(all, x.lsd)
	}
	return all
}

// warnOfLocal warns of the torrent's trackers that no stranger could reach: a torrent has no business on
// this machine or its network, unless it was made here.
func warnOfLocal(log *slog.Logger, tiers [][]string) {
	for _, tier := range tiers {
		for _, url := range tier {
			if tracker.IsLocal(url) {
				log.Warn("the torrent names a tracker on this machine or its network", "tracker", tracker.Label(url))
			}
		}
	}
}

// newPeerID returns a random id that names us in the usual form (BEP 20).
func newPeerID() (id [20]byte) {
	copy(id[:], "-BN0100-")
	crand.Read(id[8:]) // never fails: it ends the process instead
	return id
}

// newRand returns a source of luck that no peer can foresee.
func newRand() *rand.Rand {
	var seed [16]byte
	crand.Read(seed[:])
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
}

// listen opens the port for peers. Only a port that the user named must be had.
func (x *session) listen() error {
	if x.listener != nil {
		return nil // since the metadata was looked for
	}
	open := sockets.Listen
	if x.net.DHT {
		open = sockets.ListenBoth
	}
	l, err := open(x.policy, x.net.Ports)
	switch {
	case err == nil:
		x.listener = l
		if l.PassedOver() > 0 {
			x.log.Warn("ports taken", "count", l.PassedOver(), "listening", l.Port())
		}
		return nil
	case x.net.Ports != sockets.Ports{} || x.net.Interface.IsValid():
		return &Error{Class: ClassNetwork, What: "cannot listen for peers", Err: err}
	}
	x.log.Warn("cannot listen for peers: only connecting to them", "error", err)
	return nil
}

// port is where we listen, 0 if nowhere.
func (x *session) port() uint16 {
	if x.listener == nil {
		return 0
	}
	return x.listener.Port()
}

// dhtPort is where our node of the DHT listens, 0 if there is none.
func (x *session) dhtPort() uint16 {
	if !x.net.DHT {
		return 0
	}
	return x.port()
}

// close closes what listen opened, for a session that does not begin.
func (x *session) close() error {
	if x.listener == nil {
		return nil
	}
	return x.listener.Close()
}

// The ids under which we take extended messages (BEP 10). Any would do.
const (
	extMetadata = 1 // BEP 9
	extPex      = 2 // BEP 11
	extDontHave = 3 // BEP 54
)

// peering is who we are in the swarm.
func (x *session) peering() core.Peering {
	p := core.Peering{
		PeerID: x.id, Rand: newRand(), MaxPeers: x.handles.peers, DHTPort: x.dhtPort(),
		MaxDownload: x.net.MaxDownload, MaxUpload: x.net.MaxUpload,
		Ext: wire.ExtHandshake{
			M:    wire.ExtIDs{UtMetadata: extMetadata, DontHave: extDontHave},
			Reqq: core.MaxQueue, V: "bittern " + x.net.Version, P: x.port(),
		},
	}
	if x.net.PEX {
		p.Ext.M.UtPex = extPex
	}
	return p
}

// swarmConfig is how the swarm reaches its peers.
func (x *session) swarmConfig() swarm.Config {
	cfg := swarm.Config{
		InfoHash:  x.hash,
		Dial:      x.policy.Dial,
		Local:     func(err error) bool { return sockets.Exhausted(err) || sockets.Offline(err) },
		Log:       x.log,
		Completed: func() { x.whenComplete() },
	}
	if x.dhtPort() != 0 {
		cfg.Node = func(at netip.AddrPort) { // called once the swarm has begun, and with it the node
			if x.node != nil {
				x.node.Ping(at)
			}
		}
	}
	return cfg
}

// remaining is what is left of a time limit that runs from the start of the command; 0 means none.
func (x *session) remaining(limit time.Duration) time.Duration {
	if limit == 0 {
		return 0
	}
	return max(1, limit-time.Since(x.started))
}

// makeTrackers builds the source that announces.
func (x *session) makeTrackers() {
	x.client = &tracker.Client{
		UserAgent: "bittern/" + x.net.Version,
		NoIPv4:    !x.policy.V4(), NoIPv6: !x.policy.V6(),
		DialTCP: x.policy.DialTCP, DialUDP: x.policy.DialUDP, Resolver: x.policy.Resolver(),
		OnPanic: x.inbox.Panicked,
	}
	key := newRand().Uint32()
	x.trackers = discover.NewTrackers(discover.TrackersConfig{
		Client: x.client, URLs: x.tiers, Rand: newRand(), Log: x.log,
		Request: func() tracker.Request {
			s := x.inbox.Snapshot()
			return tracker.Request{
				InfoHash: x.hash, PeerID: x.id, Port: x.port(), Key: key, NumWant: x.numWant(s),
				Uploaded: s.Uploaded, Downloaded: s.Received, Left: s.Missing, Partial: s.Seeding && s.Missing > 0,
			}
		},
		Emit: func(f discover.Found) {
			src := core.SourceTracker
			if f.Loopback {
				src = core.SourceLocalTracker
			}
			x.inbox.Found(f.Addrs, src)
		},
	})
}

// numWant is how many addresses to ask a tracker for.
func (x *session) numWant(s core.Snapshot) int {
	if s.Seeding {
		return 0
	}
	return 200
}

// hope tells the swarm, until ctx ends, whether any source may still bring peers.
func (x *session) hope(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told, hope := false, false
	for {
		now := !discover.Exhausted(x.found()...) || x.pages.Load() > 0 || x.offline()
		if !told || now != hope {
			told, hope = true, now
			x.inbox.Sources(hope)
		}
		x.seek(x.inbox.Snapshot())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// few is how many peers are too few to wait for the next search of the DHT.
const few = 5

// seek asks for more addresses before their time, while there are too few peers to download from.
func (x *session) seek(s core.Snapshot) {
	if s.Seeding {
		return
	}
	if s.Peers+s.Dialing == 0 {
		x.trackers.NeedPeers() // whoever we knew is gone
	}
	if s.Peers+s.Dialing < few && x.dht != nil {
		x.dht.NeedPeers()
	}
}

// offline reports whether this machine has no network: then failures say nothing, and waiting makes sense.
func (x *session) offline() bool {
	offline := false // a tracker that is never asked again tells nothing about the network
	for _, s := range x.trackers.Status() {
		if s.Dead {
			continue
		}
		if !sockets.Offline(s.Err) {
			return false
		}
		offline = true
	}
	if x.node == nil {
		return offline
	}
	err := x.node.Status().Err
	return err == nil && offline || sockets.Offline(err)
}
