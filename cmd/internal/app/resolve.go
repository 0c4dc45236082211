package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
)

// A known torrent is one that a command has read, or has resolved a magnet link to.
type known struct {
	t      *metainfo.Torrent
	file   []byte           // the .torrent as it was read, to which t refers; nil if it was resolved
	magnet *metainfo.Magnet // what it was resolved from; nil if it was read
	live   *meeting         // the swarm that gave the metadata, to go on with; nil if there is none
}

// leave ends the swarm that gave the metadata, if it still runs. Nobody can go on with it then.
func (k *known) leave() {
	if k.live != nil {
		k.live.stop()
		k.live = nil
	}
}

// A search says where the torrent of a magnet link is looked for, besides at peers.
type search struct {
	dir     string        // where an earlier run may have left the metadata; "" for nowhere
	web     bool          // at the URLs that the link names
	serves  bool          // for what is here already
	maxTime time.Duration // from the start of the command; 0 means no limit
}

// find returns the torrent that source names: it reads a .torrent, or resolves a magnet link or a bare
// info-hash while d shows how.
func find(ctx context.Context, s Streams, d *display, log *slog.Logger, n Network, source string, where search, started time.Time) (*known, error) {
	if err := n.policy().Check(); err != nil { // before anything is fetched by it
		return nil, &Error{Class: ClassUsage, Err: err}
	}
	switch kindOf(source) {
	case magnetSource, hashSource:
		m, err := metainfo.ParseMagnet(source)
		if err != nil {
			return nil, badTorrent(source, err)
		}
		return resolve(ctx, d, log, n, m, where, started)
	}
	ctx, cancel := limited(ctx, started, where.maxTime, false, "still reading the torrent")
	defer cancel()
	k, err := load(ctx, s, log, n.policy(), source)
	if e, ok := errors.AsType[*Error](context.Cause(ctx)); ok && err != nil {
		return nil, e
	}
	return k, err
}

// resolve gets the metadata of a magnet link.
func resolve(ctx context.Context, d *display, log *slog.Logger, n Network, m *metainfo.Magnet, where search, started time.Time) (*known, error) {
	if info := savedMetadata(log, where.dir, m.InfoHash); info != nil {
		t, err := torrentFrom(log, m, info)
		return &known{t: t, magnet: m}, err
	}
	defer limitMemory()()
	x, err := newSession(m.InfoHash, m.Trackers, n, log, started)
	if err != nil {
		return nil, err
	}
	x.serves = where.serves
	x.invite(m.Peers)
	if err := x.listen(); err != nil {
		return nil, err
	}
	if where.web {
		x.pages.Store(int32(len(m.Torrents)))
	}
	x.resolving.Store(true)
	resolved := make(chan []byte, 1)
	cfg := x.swarmConfig()
	cfg.Resolved = func(info []byte) { resolved <- info }
	live := x.begin(ctx, swarm.NewFetch(x.inbox, cfg, core.FetchConfig{
		Peering: x.peering(), Timeout: x.remaining(n.MetadataTimeout), MaxTime: x.remaining(where.maxTime),
	}))
	t, err := live.await(ctx, d, resolved, m, where)
	x.resolving.Store(false)
	if err != nil || t.Private {
		// Peers of a private torrent come from its trackers only (BEP 27): whoever was met so far is left.
		live.stop()
		live = nil
	}
	if err != nil {
		return nil, err
	}
	return &known{t: t, magnet: m, live: live}, nil
}

// searchMemory is what we may take from the system, in bytes, while strangers decide how large the copies of the metadata are
// that are being collected. The collector keeps to it: left alone, it lets as much again pile up of copies that came to nothing.
const searchMemory = core.MaxMetadata + 20<<20

// limitMemory holds the process to searchMemory, or to less if the user said so (GOMEMLIMIT), until restore is called.
func limitMemory() (restore func()) {
	before := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(before, searchMemory))
	return func() { debug.SetMemoryLimit(before) }
}

// await shows how the search for the metadata goes until it is over.
func (y *meeting) await(ctx context.Context, d *display, resolved <-chan []byte, m *metainfo.Magnet, where search) (*metainfo.Torrent, error) {
	show, hide := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer hide()
	wg.Go(func() { d.Run(show, y.searching) })
	web := make(chan []byte)
	if where.web {
		wg.Go(func() { y.fetchTorrents(show, m, web) })
	}
	select {
	case info := <-resolved:
		return torrentFrom(y.log, m, info)
	case info := <-web:
		y.inbox.Supplied()
		return torrentFrom(y.log, m, info)
	case <-y.ended:
	}
	if y.err != nil {
		return nil, storageError(y.err)
	}
	return nil, y.unresolved(y.net.MetadataTimeout, where.maxTime)
}

// unresolved is the error of a search that ended without the metadata.
func (y *meeting) unresolved(timeout, maxTime time.Duration) error {
	s := y.inbox.Snapshot()
	switch y.outcome {
	case core.NoMetadata:
		return &Error{Class: ClassNoMetadata, What: fmt.Sprintf("no metadata after %v", timeout), Err: errors.New(y.whyNoMetadata(s)),
			Hint: "a .torrent file would do without"}
	case core.OutOfTime:
		return &Error{Class: ClassMaxTime, What: fmt.Sprintf("no metadata after %v", maxTime), Err: errors.New(y.whyNoMetadata(s))}
	case core.NoPeers, core.NoneUsable:
		if s.Met == 0 {
			return nobody(s, y.whyNoPeers())
		}
		return &Error{Class: ClassNoMetadata, What: "no metadata", Err: errors.New(y.whyNoMetadata(s)), Hint: morePeers}
	}
	return fmt.Errorf("ended without a reason: %v", y.outcome)
}

// whyNoMetadata says in a few words why nobody of those who were met gave it.
func (y *meeting) whyNoMetadata(s core.Snapshot) string {
	switch {
	case s.Peers == 0 && s.Liars > 0:
		return y.whyNoPeers()
	case s.Peers == 0:
		return plural(s.Met, "peer") + " met, none is left"
	case s.Liars > 0:
		return fmt.Sprintf("%s, and %s banned for sending what is not the torrent's", plural(s.Peers, "peer"), plural(s.Liars, "other"))
	}
	return plural(s.Peers, "peer") + ", none gives it"
}

// searching is what the display shows.
func (x *session) searching() ui.Snapshot {
	s := x.inbox.Snapshot()
	parts := x.sources()
	if n := x.pages.Load(); n > 0 {
		parts = append(parts, plural(int(n), "URL"))
	}
	parts = append(parts, plural(s.Peers, "peer"))
	if s.Asked > 0 {
		parts = append(parts, fmt.Sprintf("%d asked", s.Asked))
	}
	if s.Liars > 0 {
		parts = append(parts, fmt.Sprintf("%d banned", s.Liars))
	}
	return ui.Snapshot{State: "metadata", Peers: s.Peers, Story: strings.Join(parts, ", ")}
}

// errTwoTorrents says that the metadata has the version 1 hash of its link but not the version 2 hash. Both are of the
// same bytes (BEP 52), so no other copy could do better.
var errTwoTorrents = errors.New("the two info-hashes of the magnet link are not of one torrent")

// torrentFrom makes a torrent of the metadata and of what the link says besides. Its errors are of
// [ClassBadInput]: the metadata is the torrent's, but nothing that could be used.
func torrentFrom(log *slog.Logger, m *metainfo.Magnet, info []byte) (*metainfo.Torrent, error) {
	name := fmt.Sprintf("%x", m.InfoHash)
	if m.InfoHashV2 != [32]byte{} && sha256.Sum256(info) != m.InfoHashV2 {
		return nil, badTorrent(name, errTwoTorrents)
	}
	t, err := metainfo.FromInfo(info, m.Trackers, m.WebSeeds)
	if err != nil {
		return nil, badTorrent(name, err)
	}
	for _, w := range t.Warnings {
		log.Warn(w)
	}
	return t, nil
}
