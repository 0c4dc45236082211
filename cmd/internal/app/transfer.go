package app

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
	"bittern/piece"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
)

// A transfer is one torrent being downloaded or seeded: the session in which its peers are met, and the
// content. It builds the parts that `get` and `seed` share, runs them together and takes them down in order.
type transfer struct {
	*session
	t     *metainfo.Torrent
	live  *meeting // of the session, once its swarm runs
	store *storage.Store

	plan     plan         // of the swarm
	fetches  bool         // something was missing when it began
	checking atomic.Int64 // bytes that open has checked; what is shown before the swarm runs
	toCheck  atomic.Int64 // bytes that it has to look at
	running  atomic.Bool  // the swarm has the content
	outcome  core.Outcome // of the swarm, once it is over
}

// newTransfer sets up what does not touch the disk or the network yet.
func newTransfer(k *known, n Network, log *slog.Logger, started time.Time) (*transfer, error) {
	if k.live != nil {
		return &transfer{session: k.live.session, live: k.live, t: k.t}, nil
	}
	if k.t.Private {
		n = n.private()
	}
	x, err := newSession(k.t.InfoHash, k.t.Trackers, n, log, started)
	if err != nil {
		return nil, err
	}
	if k.magnet != nil && !k.t.Private { // see Network.private
		x.invite(k.magnet.Peers)
	}
	x.nodes = k.t.Nodes
	return &transfer{session: x, t: k.t}, nil
}

// open opens the storage, which checks what is there already. A time limit holds for that too.
func (x *transfer) open(ctx context.Context, cfg storage.Config, maxTime time.Duration) error {
	met := x.live != nil && x.inbox.Snapshot().Met > 0 // while the metadata was fetched
	ctx, cancel := limited(ctx, x.started, maxTime, met, "still checking what is there")
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

// A plan says what the swarm is to do with the store.
type plan struct {
	wanted     *piece.Bitfield
	sequential bool
	maxTime    time.Duration // from the start of the command
	stall      time.Duration
	seed       SeedUntil
	superSeed  SuperSeeding
	serveOnly  bool   // what is missing stays missing
	completed  func() // called once when all is there and seeding goes on; must not block
}

// run runs the swarm and its sources until the swarm has ended, says goodbye to the trackers and
// closes the store. A swarm that runs already goes on. The first error counts.
func (x *transfer) run(ctx context.Context, p plan) error {
	x.plan, x.fetches = p, !x.store.Complete() && !p.serveOnly
	x.whenComplete = func() {
		x.completed()
		if p.completed != nil {
			p.completed()
		}
	}
	if x.live == nil {
		x.serves = !x.fetches
		x.live = x.begin(ctx, swarm.New(x.inbox, x.swarmConfig(), x.content(p)))
	} else {
		x.inbox.Proceed(x.content(p))
	}
	x.running.Store(true)
	<-x.live.ended
	outcome, err := x.live.outcome, x.live.err
	if x.outcome = outcome; outcome.Succeeded() {
		x.completed()
	}
	said := x.live.goodbye()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	cerr := x.store.Close(closing)
	st := x.store.Stats()
	x.log.Debug("storage", "written", st.Written, "read_back", st.ReadBack, "checked", st.Checked)
	said()
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
	if x.live != nil {
		x.live.stop()
	}
	return errors.Join(err, x.close(), closeStore(ctx, x.store))
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

// content is what the swarm is to work on. The metadata of a private torrent is not given to peers: who
// is to have it is the tracker's to say (BEP 27).
func (x *transfer) content(p plan) swarm.Content {
	info := x.t.Info
	if x.t.Private || len(info) > core.MaxMetadata {
		info = nil
	}
	return swarm.Content{Store: x.store, Core: core.Config{
		Peering: x.peering(), Info: info, InfoHash: x.hash,
		Layout: x.t.Layout, Have: x.store.Have(), Wanted: p.wanted, Sequential: p.sequential,
		Stall: p.stall, MaxTime: x.remaining(p.maxTime),
		Seed:      core.Seeding{Forever: p.seed.Forever, Ratio: p.seed.Ratio, Time: p.seed.Time, Copies: p.seed.Copies},
		SuperSeed: p.superSeed,
	}}
}
