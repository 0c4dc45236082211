package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/ui"
	"bittern/piece/metainfo"
	"bittern/piece/storage"
	"bittern/tracker"
)

// Seed serves what is there of a torrent, or makes a torrent of a file or folder first. The content
// is checked before anything is served and never written to. It prints the magnet link once peers
// can connect, and ends when a stop condition is met or with ctx.
func Seed(ctx context.Context, s Streams, o SeedOptions) error {
	started := time.Now()
	d, log, closeLog, err := begin(s, o.Shown)
	if err != nil {
		return err
	}
	defer closeLog()
	if err := o.policy().Check(); err != nil { // before anything is fetched by it
		return &Error{Class: ClassUsage, Err: err}
	}
	o.ServesTracker = o.ServeTracker != ""
	o.warnOfHandles(log)
	d.Emit(ui.Start{Source: withoutSecrets(o.Source)})
	k, cfg, err := seedable(ctx, s, d, log, o, started)
	if err != nil {
		return err
	}
	x, err := newTransfer(k, o.Network, log, started)
	if err != nil {
		return err
	}
	if o.SeedUntil == (SeedUntil{}) {
		o.Forever = true
	}
	z := &seeding{transfer: x, o: o, d: d}
	show, hide := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(show, x.snapshot) })
	err = z.serve(ctx, cfg)
	hide()
	wg.Wait()
	if err == nil {
		s := x.inbox.Snapshot()
		x.sayWhyEnded(d)
		err = resultError(d.Emit(ui.Complete{Path: filepath.Join(cfg.Dir, filepath.FromSlash(cfg.Name)), Seconds: seconds(started),
			Downloaded: s.Received, Uploaded: s.Uploaded, Wasted: s.Wasted, Copies: s.Copies, Reason: stopReason(x.outcome)}))
	}
	return err
}

// seedable returns the torrent that source is or is made into, and where its content is.
func seedable(ctx context.Context, s Streams, d *display, log *slog.Logger, o SeedOptions, started time.Time) (*known, storage.Config, error) {
	if kindOf(o.Source) == pathSource && !isTorrentFile(o.Source) {
		t, cfg, err := torrentOf(ctx, d, log, o)
		return &known{t: t}, cfg, err
	}
	k, err := find(ctx, s, d, log, o.Network, o.Source, search{dir: orHere(o.Dir), web: true, serves: true}, started)
	if err != nil {
		return nil, storage.Config{}, err
	}
	// What is met to fetch the metadata is no swarm to seed in: it has announced that something is missing, and not to
	// the tracker that we may serve ourselves.
	k.leave()
	if o.Output != "" {
		t, err := k.t.WithRoot(o.Output)
		if err != nil {
			return nil, storage.Config{}, &Error{Class: ClassUsage, What: "--output", Err: err}
		}
		k.t = t
	}
	return k, readConfig(k.t, o.Dir), nil
}

// isTorrentFile tells a .torrent from content to make one of: by its name, or by how it begins. What
// cannot be opened is left to the error of reading it as a torrent. A pipe holds a torrent, for content
// has a size and a name; it is not looked into, because what is read of it is gone.
func isTorrentFile(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 {
		return true
	}
	if strings.EqualFold(filepath.Ext(path), ".torrent") {
		return !info.IsDir()
	}
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close() // read only: nothing to lose
	head := make([]byte, 32<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return false // a folder, or empty
	}
	head = head[:n]
	return bytes.HasPrefix(head, []byte("d")) && bytes.Contains(head, []byte("4:infod"))
}

// torrentOf makes a torrent of a file or folder, without a date, so that the same content always
// gives the same torrent.
func torrentOf(ctx context.Context, d *display, log *slog.Logger, o SeedOptions) (*metainfo.Torrent, storage.Config, error) {
	c, err := gather(CreateOptions{Path: o.Source, Name: o.Output, NoDate: true})
	if err != nil {
		return nil, storage.Config{}, err
	}
	data, err := c.build(ctx, d, log)
	if err != nil {
		return nil, storage.Config{}, err
	}
	t, err := metainfo.Parse(data)
	if err != nil {
		panic("app: created a torrent that is none: " + err.Error())
	}
	cfg := storageConfig(t, c.dir)
	cfg.Files = c.files // under the names they have, whatever another system would call them
	cfg.Name = filepath.Base(c.files[0].Path)
	if root, _, ok := strings.Cut(c.files[0].Path, "/"); ok {
		cfg.Name = root
	}
	return t, cfg, nil
}

// A seeding is one run of `seed` after its torrent is known.
type seeding struct {
	*transfer
	o SeedOptions
	d *display
}

// serve checks the content and serves it until a stop condition is met or ctx ends.
func (z *seeding) serve(ctx context.Context, cfg storage.Config) error {
	cfg.ReadOnly = true
	if err := folderAt(cfg.Dir); err != nil {
		return err
	}
	if err := z.open(ctx, cfg, 0); err != nil {
		return err
	}
	p, stop, err := z.prepare(ctx, cfg)
	if err != nil {
		return z.abandon(ctx, err)
	}
	defer stop()
	return z.run(ctx, p)
}

// prepare makes us reachable and says how. stop ends what run does not.
func (z *seeding) prepare(ctx context.Context, cfg storage.Config) (p plan, stop func(), err error) {
	have := z.store.Have()
	if have.Empty() && have.Len() > 0 {
		return p, nil, &Error{Class: ClassCorrupt, What: "nothing of " + printable(cfg.Name) + " is in " + printable(cfg.Dir),
			Hint: "--dir says where the content is"}
	}
	if !have.Full() {
		z.log.Warn("content is not complete: serving what is there", "pieces", have.Count(), "of", have.Len())
	}
	if err := z.listen(); err != nil {
		return p, nil, err
	}
	url, stop, err := z.serveTracker(ctx)
	if err != nil {
		return p, nil, err
	}
	if err := z.announce(url); err != nil {
		stop()
		return p, nil, err
	}
	return plan{wanted: &have, seed: z.o.SeedUntil, superSeed: z.o.SuperSeed, serveOnly: true}, stop, nil
}

// serveTracker starts the embedded tracker, if it was asked for, and puts its URL in front of the
// torrent's. stop ends it.
func (z *seeding) serveTracker(ctx context.Context) (url string, stop func(), err error) {
	if z.o.ServeTracker == "" {
		return "", func() {}, nil
	}
	address := trackerAddress(z.o.ServeTracker, z.policy)
	srv, err := tracker.Listen(address, tracker.ServerConfig{Only6: !z.policy.V4(), MaxConns: z.handles.tracker, OnPanic: z.inbox.Panicked})
	if err != nil {
		return "", nil, &Error{Class: ClassNetwork, What: "cannot serve a tracker on " + printable(address), Err: err}
	}
	srv.Allow(z.t.InfoHash)
	url = "http://" + dialable(srv.Addr(), z.policy).String() + "/announce"
	z.tiers = append([][]string{{url}}, z.tiers...)
	z.t.Trackers = append([][]string{{url}}, z.t.Trackers...)
	// It outlives ctx: our own goodbye goes there too.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(running); err != nil {
			z.log.Error("embedded tracker", "error", err)
		}
	})
	return url, func() { cancel(); wg.Wait() }, nil
}

// trackerAddress is where the tracker listens: where the user said, and if that names no host, on the
// addresses that the policy leaves.
func trackerAddress(address string, policy sockets.Policy) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil || host != "":
		return address
	case policy.Interface.IsValid():
		return net.JoinHostPort(policy.Interface.Unmap().String(), port)
	case !policy.V6():
		return net.JoinHostPort("0.0.0.0", port)
	}
	return address
}

// announce prints how to reach us: through our own tracker, the torrent's, and those that we were told of.
func (z *seeding) announce(url string) error {
	for _, url := range z.net.Trackers {
		z.t.Trackers = append(z.t.Trackers, []string{url})
	}
	if z.t.Private {
		z.log.Warn("the torrent is private: peers need the .torrent, for the magnet link alone gives them no metadata")
	}
	if z.o.JSON {
		return resultError(z.d.Emit(ui.Seeding{
			Infohash: fmt.Sprintf("%x", z.t.InfoHash), Magnet: z.t.Magnet(), TrackerURL: url, Port: int(z.port()),
		}))
	}
	return z.d.result([]byte(z.t.Magnet() + "\n"))
}

// dialable is the address under which others on this machine's networks reach a listener: an IPv4 one, unless
// the policy forbids that.
func dialable(at netip.AddrPort, policy sockets.Policy) netip.AddrPort {
	if !at.Addr().IsUnspecified() {
		return at
	}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if !policy.V4() {
		ip = netip.IPv6Loopback()
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				if got, ok := netip.AddrFromSlice(n.IP); ok && got.Unmap().Is4() == policy.V4() {
					ip = got.Unmap()
					break
				}
			}
		}
	}
	return netip.AddrPortFrom(ip, at.Port())
}
