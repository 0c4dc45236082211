package app

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bittern/cmd/internal/discover"
	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
	"bittern/peer/wire"
	"bittern/piece"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
	"bittern/tracker"
)

// A transfer is one torrent being downloaded or seeded: it builds the parts that `get` and `seed`
// share, runs them together and takes them down in order.
type transfer struct {
	t       *metainfo.Torrent
	net     Network
	policy  sockets.Policy // that of net, which does not contradict itself
	log     *slog.Logger
	id      [20]byte
	started time.Time
	handles handleBudget

	listener *sockets.Listener // nil if no port could be had and that was not insisted on
	store    *storage.Store
	inbox    *swarm.Inbox
	client   *tracker.Client
	trackers *discover.Trackers
	static   *discover.Static
	tiers    [][]string

	plan     plan         // of the swarm
	fetches  bool         // something was missing when it began
	checking atomic.Int64 // bytes that Open has checked; what is shown before the swarm runs
	toCheck  atomic.Int64 // bytes that it has to look at
	running  atomic.Bool  // the swarm is
}

// newTransfer sets up what does not touch the disk or the network yet.
func newTransfer(t *metainfo.Torrent, n Network, log *slog.Logger, started time.Time) (*transfer, error) {
	x := &transfer{t: t, net: n, policy: n.policy(), log: log, started: started, id: newPeerID(), inbox: swarm.NewInbox()}
	x.handles = shareHandles(handleLimit(), n.MaxPeers)
	if x.handles.peers < n.MaxPeers {
		log.Warn("few open files are allowed: fewer peers", "peers", x.handles.peers)
	}
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
		x.tiers = append(x.tiers, t.Trackers...)
		warnOfLocal(log, t.Trackers)
	}
	for _, url := range n.Trackers {
		x.tiers = append(x.tiers, []string{url})
	}
	x.static = discover.NewStatic(discover.StaticConfig{
		Peers: peers, Lookup: x.policy.Resolver().LookupNetIP, Allows: x.policy.Allows, Log: log,
		Emit: func(f discover.Found) { x.inbox.Found(f.Addrs, core.SourceStatic) },
	})
	return x, nil
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

// open opens the storage, which checks what is there already. A time limit holds for that too.
func (x *transfer) open(ctx context.Context, cfg storage.Config, maxTime time.Duration) error {
	ctx, cancel := limited(ctx, x.started, maxTime, "still checking what is there")
	defer cancel()
	cfg.Notify = x.inbox.Storage
	cfg.OpenFiles = x.handles.files
	cfg.Progress = func(done, total int64) {
		x.checking.Store(done)
		x.toCheck.Store(total)
	}
	store, err := storage.Open(ctx, cfg)
	if err != nil && !cfg.ReadOnly && unwritable(err) {
		store, err = openComplete(ctx, cfg, err)
	}
	if err != nil {
		return storageError(err)
	}
	x.store = store
	return nil
}

// unwritable reports whether an error says that a folder cannot be written to.
func unwritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// openComplete opens content that is complete where nothing can be written, which nothing needs to be.
// Of anything else err is said.
func openComplete(ctx context.Context, cfg storage.Config, err error) (*storage.Store, error) {
	cfg.ReadOnly = true
	store, rerr := storage.Open(ctx, cfg)
	switch {
	case rerr != nil:
		return nil, err
	case !store.Complete():
		return nil, errors.Join(err, store.Close(ctx))
	}
	return store, nil
}

// piecesOf returns the pieces that hold a byte of a wanted file; nil means all.
func piecesOf(t *metainfo.Torrent, wanted []bool) *piece.Bitfield {
	if wanted == nil {
		return nil
	}
	b := piece.NewBitfield(t.Layout.Pieces())
	for i, f := range t.Files {
		if !wanted[i] || f.Length == 0 {
			continue
		}
		last := (f.Offset + f.Length - 1) / t.Layout.PieceLength()
		for p := f.Offset / t.Layout.PieceLength(); p <= last; p++ {
			b.Set(int(p))
		}
	}
	return &b
}

// listen opens the port for peers. Only a port that the user named must be had.
func (x *transfer) listen() error {
	l, err := sockets.Listen(x.policy, x.net.Ports)
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
func (x *transfer) port() uint16 {
	if x.listener == nil {
		return 0
	}
	return x.listener.Port()
}

// A plan says what the swarm is to do with the store.
type plan struct {
	wanted     *piece.Bitfield
	sequential bool
	maxTime    time.Duration // from the start of the command
	stall      time.Duration
	seed       SeedUntil
	serveOnly  bool   // what is missing stays missing
	completed  func() // called once when all is there and seeding goes on; must not block
}

// run runs the swarm and its sources until the swarm has ended, says goodbye to the trackers and
// closes the store. The first error counts.
func (x *transfer) run(ctx context.Context, p plan) error {
	x.plan, x.fetches = p, !x.store.Complete() && !p.serveOnly
	sw := x.swarm(p)
	x.makeTrackers()
	sources, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	if x.listener != nil {
		wg.Go(func() { x.listener.Serve(sources, x.handles.pending, sw.Accept) })
	}
	wg.Go(func() { x.trackers.Run(sources) })
	wg.Go(func() { x.static.Run(sources) })
	wg.Go(func() { x.hope(sources) })
	x.running.Store(true)
	outcome, err := sw.Run(ctx)
	if outcome == core.Complete {
		x.completed()
	}
	end() // and with it the goodbyes begin
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	cerr := x.store.Close(closing)
	st := x.store.Stats()
	x.log.Debug("storage", "written", st.Written, "read_back", st.ReadBack, "checked", st.Checked)
	wg.Wait()
	x.client.Close()
	if err != nil {
		err = storageError(err)
	} else {
		err = x.outcomeError(outcome, p)
	}
	switch {
	case err == nil && cerr != nil:
		return storageError(cerr)
	case cerr != nil: // the first error is the one to tell, but this one says what the next run will not trust
		x.log.Warn("closing the files", "error", cerr)
	}
	return err
}

// abandon closes what was opened for a run that err keeps from beginning, and returns err.
func (x *transfer) abandon(ctx context.Context, err error) error {
	if x.listener != nil {
		err = errors.Join(err, x.listener.Close())
	}
	return errors.Join(err, closeStore(ctx, x.store))
}

// completed tells the trackers that the download has become complete: "No completed is sent if the file was
// complete when started" (BEP 3).
func (x *transfer) completed() {
	if x.fetches {
		x.trackers.Completed()
	}
}

// closeTime bounds how long the end of a run may take on a slow disk.
const closeTime = 5 * time.Second

// swarm builds the swarm.
func (x *transfer) swarm(p plan) *swarm.Swarm {
	maxTime := p.maxTime
	if maxTime > 0 {
		maxTime = max(1, maxTime-time.Since(x.started))
	}
	return swarm.New(x.inbox, swarm.Config{
		InfoHash: x.t.InfoHash,
		Store:    x.store,
		Dial:     x.policy.Dial,
		Local:    func(err error) bool { return sockets.Exhausted(err) || sockets.Offline(err) },
		Log:      x.log,
		Completed: func() {
			x.completed()
			if p.completed != nil {
				p.completed()
			}
		},
		Core: core.Config{
			Peering: core.Peering{
				PeerID: x.id, Rand: newRand(), MaxPeers: x.handles.peers,
				Ext: wire.ExtHandshake{Reqq: core.MaxQueue, V: "bittern " + x.net.Version, P: x.port()},
			},
			Layout: x.t.Layout, Have: x.store.Have(), Wanted: p.wanted, Sequential: p.sequential,
			Stall: p.stall, MaxTime: maxTime,
			Seed: core.Seeding{Forever: p.seed.Forever, Ratio: p.seed.Ratio, Time: p.seed.Time},
		},
	})
}

// makeTrackers builds the source that announces.
func (x *transfer) makeTrackers() {
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
				InfoHash: x.t.InfoHash, PeerID: x.id, Port: x.port(), Key: key, NumWant: x.numWant(s),
				Uploaded: s.Uploaded, Downloaded: s.Received, Left: s.Left,
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
func (x *transfer) numWant(s core.Snapshot) int {
	if s.Seeding {
		return 0
	}
	return 200
}

// hope tells the swarm, until ctx ends, whether any source may still bring peers.
func (x *transfer) hope(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told, hope := false, false
	for {
		now := !discover.Exhausted(x.trackers, x.static) || x.offline()
		if !told || now != hope {
			told, hope = true, now
			x.inbox.Sources(hope)
		}
		if s := x.inbox.Snapshot(); !s.Seeding && s.Peers+s.Dialing == 0 {
			x.trackers.NeedPeers() // whoever we knew is gone
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// offline reports whether this machine has no network: then failures say nothing, and waiting makes sense.
func (x *transfer) offline() bool {
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
	return offline
}
