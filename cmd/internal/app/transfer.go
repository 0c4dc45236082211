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
	store *storage.Store

	plan     plan         // of the swarm
	fetches  bool         // something was missing when it began
	checking atomic.Int64 // bytes that open has checked; what is shown before the swarm runs
	toCheck  atomic.Int64 // bytes that it has to look at
}

// newTransfer sets up what does not touch the disk or the network yet.
func newTransfer(t *metainfo.Torrent, n Network, log *slog.Logger, started time.Time) (*transfer, error) {
	x, err := newSession(t.InfoHash, t.Trackers, n, log, started)
	if err != nil {
		return nil, err
	}
	return &transfer{session: x, t: t}, nil
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
	leave := x.meet(ctx, sw)
	outcome, err := sw.Run(ctx)
	if outcome == core.Complete {
		x.completed()
	}
	left := leave() // and with it the goodbyes begin
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	cerr := x.store.Close(closing)
	st := x.store.Stats()
	x.log.Debug("storage", "written", st.Written, "read_back", st.ReadBack, "checked", st.Checked)
	left()
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

// swarm builds the swarm.
func (x *transfer) swarm(p plan) *swarm.Swarm {
	return swarm.New(x.inbox, x.swarmConfig(func() {
		x.completed()
		if p.completed != nil {
			p.completed()
		}
	}), swarm.Content{Store: x.store, Core: core.Config{
		Peering: x.peering(),
		Layout:  x.t.Layout, Have: x.store.Have(), Wanted: p.wanted, Sequential: p.sequential,
		Stall: p.stall, MaxTime: x.remaining(p.maxTime),
		Seed: core.Seeding{Forever: p.seed.Forever, Ratio: p.seed.Ratio, Time: p.seed.Time},
	}})
}
