package swarm

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/pool"
	"bittern/peer/simnet"
	"bittern/peer/wire"
	"bittern/piece"
	"bittern/piece/storage"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A torrent is the content that a test's swarm is about: one file.
type torrent struct {
	layout piece.Layout
	data   []byte
	sums   []byte
	info   []byte // stands for the info dictionary; nobody here looks into it
	hash   [20]byte
}

func newTorrent(t testing.TB, total, pieceLength int) *torrent {
	t.Helper()
	layout, err := piece.NewLayout(int64(total), int64(pieceLength))
	if err != nil {
		t.Fatal(err)
	}
	o := &torrent{layout: layout, data: make([]byte, total), info: make([]byte, 40_000)}
	o.hash = sha1.Sum(o.info)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(o.data)
	for p := range layout.Pieces() {
		sum := sha1.Sum(o.piece(p))
		o.sums = append(o.sums, sum[:]...)
	}
	return o
}

func (o *torrent) piece(p int) []byte {
	return o.data[o.layout.Offset(p):][:o.layout.PieceSize(p)]
}

// at returns the bytes of a block.
func (o *torrent) at(b piece.Block) []byte {
	return o.data[o.layout.Offset(int(b.Piece))+int64(b.Begin):][:b.Length]
}

// host returns the address at which the n-th node listens.
func host(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 6881)
}

// A node is a swarm with its storage and its listener. The zero value of all but the first three
// fields is an empty node that downloads, and leaves when it is complete.
type node struct {
	t   testing.TB
	net *simnet.Network
	o   *torrent

	n       int                   // its number, which its address follows from
	has     func(p int) bool      // pieces it has at the start
	core    func(*core.Config)    // changes the configuration of the core
	config  func(*Config)         // changes that of the swarm
	store   func(*storage.Config) // changes that of the storage
	wrap    func(net.Conn) net.Conn
	silence bool // it does not listen
	magnet  bool // it knows the info-hash alone

	dir     string
	s       *Swarm
	disk    *storage.Store
	log     bytes.Buffer
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	closing sync.Once
	ended   chan struct{} // closed when Run has returned
	out     core.Outcome
	err     error
	seeds   chan struct{} // closed when it goes on as a seed
}

func all(int) bool { return true }

// open makes the node; start runs it.
func (d *node) open() *node {
	d.t.Helper()
	d.dir = d.t.TempDir()
	d.ended, d.seeds = make(chan struct{}), make(chan struct{})
	in := NewInbox()
	sc := storage.Config{
		Dir: d.dir, Files: []storage.File{{Path: "f", Length: int64(len(d.o.data)), Wanted: true}},
		Layout: d.o.layout, Sums: d.o.sums, InfoHash: d.o.hash, Name: "f", Notify: in.Storage,
	}
	d.prepare(&sc)
	if d.store != nil {
		d.store(&sc)
	}
	var err error
	if d.disk, err = storage.Open(d.t.Context(), sc); err != nil {
		d.t.Fatal(err)
	}
	cfg := Config{
		InfoHash:  d.o.hash,
		Log:       slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Completed: func() { close(d.seeds) },
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return d.net.Dial(ctx, netip.AddrPortFrom(host(d.n).Addr(), 0), to)
		},
	}
	content := Content{Store: d.disk, Core: core.Config{
		SuperSeed: core.SuperNever, // raw peers ask for what they like
		Layout:    d.o.layout, Have: d.disk.Have(),
		Peering: core.Peering{
			PeerID: [20]byte{'-', 'T', 'T', 19: byte(d.n)},
			Rand:   rand.New(rand.NewPCG(1, uint64(d.n))),
			Ext:    wire.ExtHandshake{Reqq: core.MaxQueue, M: wire.ExtIDs{UtMetadata: 1}},
		},
		Info: d.o.info,
	}}
	if d.core != nil {
		d.core(&content.Core)
	}
	if d.config != nil {
		d.config(&cfg)
	}
	if !d.magnet {
		d.s = New(in, cfg, content)
		return d
	}
	cfg.Resolved = func(info []byte) {
		if !bytes.Equal(info, d.o.info) {
			d.t.Errorf("resolved to %d other bytes", len(info))
		}
		d.wg.Go(func() { in.Proceed(content) }) // which may block, as the loop must not
	}
	d.s = NewFetch(in, cfg, core.FetchConfig{Peering: content.Core.Peering})
	return d
}

// prepare puts on disk what the node has.
func (d *node) prepare(sc *storage.Config) {
	if d.has == nil {
		return
	}
	data, whole := make([]byte, len(d.o.data)), true
	for p := range d.o.layout.Pieces() {
		if d.has(p) {
			copy(data[d.o.layout.Offset(p):], d.o.piece(p))
		} else {
			whole = false
		}
	}
	name := "f.part"
	if whole {
		name, sc.ReadOnly = "f", true
	}
	if err := os.WriteFile(filepath.Join(d.dir, name), data, 0o666); err != nil {
		d.t.Fatal(err)
	}
}

// start runs the node, which finds peers at the given numbers.
func (d *node) start(peers ...int) *node {
	if d.s == nil {
		d.open()
	}
	ctx, cancel := context.WithCancelCause(d.t.Context())
	d.cancel = cancel
	d.t.Cleanup(d.tidy) // if the test fails, too
	if !d.silence {
		d.listen(ctx)
	}
	go func() {
		defer close(d.ended)
		d.out, d.err = d.s.Run(ctx)
		cancel(nil)
	}()
	d.found(peers...)
	return d
}

func (d *node) found(peers ...int) {
	for _, n := range peers {
		d.s.in.Found([]netip.AddrPort{host(n)}, core.SourceTracker)
	}
}

// listen passes on connections until ctx ends.
func (d *node) listen(ctx context.Context) {
	l, err := d.net.Listen(host(d.n))
	if err != nil {
		d.t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	d.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if d.wrap != nil {
				nc = d.wrap(nc)
			}
			d.wg.Go(func() { d.s.Accept(ctx, nc) })
		}
	})
}

// end waits for the swarm's end, and checks that nothing is left of it.
func (d *node) end() (core.Outcome, error) {
	d.t.Helper()
	<-d.ended
	d.tidy()
	d.empty()
	return d.out, d.err
}

// tidy takes down what is still there of the node.
func (d *node) tidy() {
	if d.cancel != nil {
		d.cancel(nil)
	}
	<-d.ended
	d.wg.Wait()
	d.closing.Do(func() { _ = d.disk.Close(context.Background()) }) // a fault is what some tests are about
}

// stop ends the swarm, and checks that it ends for that reason.
func (d *node) stop() {
	d.t.Helper()
	cause := errors.New("enough")
	d.cancel(cause)
	if out, err := d.end(); !errors.Is(err, cause) || out != core.Running {
		d.t.Errorf("node %d: Run = %v, %v; want the cause", d.n, out, err)
	}
}

// empty checks that no buffer is missing.
func (d *node) empty() {
	d.t.Helper()
	for name, p := range map[string]*pool.Pool{"block": d.s.blocks, "small": d.s.small, "slab": d.s.slabs} {
		if n := p.Outstanding(); n != 0 {
			d.t.Errorf("node %d: %d %s buffers are lent at the end", d.n, n, name)
		}
	}
}

// complete waits for the end of a download, and compares it with the torrent.
func (d *node) complete() {
	d.t.Helper()
	if out, err := d.end(); out != core.Complete || err != nil {
		d.t.Fatalf("node %d: Run = %v, %v\n%s", d.n, out, err, &d.log)
	}
	d.same()
}

// same compares what is on disk with the torrent.
func (d *node) same() {
	d.t.Helper()
	got, err := os.ReadFile(filepath.Join(d.dir, "f"))
	if err != nil || !bytes.Equal(got, d.o.data) {
		d.t.Errorf("node %d: the file differs, %v", d.n, err)
	}
}

// until waits for a state of the swarm, looking ten times a second.
func (d *node) until(what string, ok func(core.Snapshot) bool) core.Snapshot {
	d.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 36000 {
		if s := d.s.in.Snapshot(); ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-d.ended:
			d.t.Fatalf("node %d has ended (%v, %v) before %s\n%s", d.n, d.out, d.err, what, &d.log)
		}
	}
	d.t.Fatalf("node %d: not within an hour: %s, but %+v\n%s", d.n, what, d.s.in.Snapshot(), &d.log)
	return core.Snapshot{}
}

// logged returns how many lines of the log, of a node that has ended, hold all the words.
func (d *node) logged(words ...string) (n int) {
	for line := range strings.Lines(d.log.String()) {
		has := 0
		for _, w := range words {
			if strings.Contains(line, w) {
				has++
			}
		}
		if has == len(words) {
			n++
		}
	}
	return n
}

func forever(c *core.Config) { c.Seed.Forever = true }

// seed returns a node that has everything, on disk for good, and stays.
func seed(t testing.TB, net *simnet.Network, o *torrent, n int) *node {
	return &node{t: t, net: net, o: o, n: n, has: all, core: forever}
}

// A raw is a peer that the test plays: a connection that has shaken hands, without a swarm.
type raw struct {
	t    testing.TB
	nc   net.Conn
	fast bool
}

// shake connects to a node from the address of another.
func shake(t testing.TB, net *simnet.Network, o *torrent, from, to int, fast bool) *raw {
	t.Helper()
	nc, err := net.Dial(t.Context(), netip.AddrPortFrom(host(from).Addr(), 0), host(to))
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, nc: nc, fast: fast}
	r.greet(o, from)
	head := make([]byte, wire.HandshakeLen)
	if _, err := io.ReadFull(nc, head); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *raw) greet(o *torrent, from int) {
	r.t.Helper()
	h := wire.Handshake{InfoHash: o.hash, PeerID: [20]byte{'-', 'R', 'W', 19: byte(from)}}
	if r.fast {
		h.Reserved[7] |= 4 // BEP 6
	}
	r.write(wire.AppendHandshake(nil, h))
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(b); err != nil {
		r.t.Errorf("raw peer cannot write: %v", err)
	}
}

func (r *raw) send(ms ...wire.Message) {
	r.t.Helper()
	var b []byte
	for _, m := range ms {
		b = wire.Append(b, m)
	}
	r.write(b)
}

// next reads a message, and the data of a block.
func (r *raw) next() (wire.Message, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.nc, head[:]); err != nil {
		return wire.Message{}, nil, err
	}
	n := int(head[0])<<24 | int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	if n == 0 {
		return wire.Message{ID: wire.KeepAlive}, nil, nil
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r.nc, body); err != nil {
		return wire.Message{}, nil, err
	}
	m, err := wire.Parse(wire.ID(body[0]), body[1:])
	if m.ID == wire.Piece {
		return m, body[9:], err
	}
	return m, nil, err
}

// await reads until a message with the id comes.
func (r *raw) await(id wire.ID) (wire.Message, []byte) {
	r.t.Helper()
	for {
		m, data, err := r.next()
		if err != nil {
			r.t.Fatalf("raw peer waits for %v: %v", id, err)
		}
		if m.ID == id {
			return m, data
		}
	}
}

// untilEOF reads and ignores what comes until the connection ends.
func (r *raw) untilEOF() {
	_, _ = io.Copy(io.Discard, r.nc)
	_ = r.nc.Close()
}

func ask(id wire.ID, b piece.Block) wire.Message {
	return wire.Message{ID: id, Index: b.Piece, Begin: b.Begin, Length: b.Length}
}

// A faultyFS is a folder on disk with things going wrong in it.
type faultyFS struct {
	*os.Root
	fault func(op string) error // asked before each operation
}

func newFaultyFS(t testing.TB, dir string, fault func(op string) error) *faultyFS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &faultyFS{root, fault}
}

func (f *faultyFS) OpenFile(name string, flag int, perm fs.FileMode) (storage.Handle, error) {
	if err := f.fault("open"); err != nil {
		return nil, err
	}
	h, err := f.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{h, f}, nil
}

func (f *faultyFS) Folder(dir string) (storage.Folder, error) { return f.OpenRoot(dir) }
func (f *faultyFS) Lock(string) (io.Closer, error)            { return io.NopCloser(nil), nil }

type faultyFile struct {
	*os.File
	fs *faultyFS
}

func (f *faultyFile) Size() (int64, error) { return f.Seek(0, io.SeekEnd) }

func (f *faultyFile) Extent(off int64) (int64, bool) {
	size, err := f.Size()
	return max(size, off+1), err == nil
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.fault("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *faultyFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.fault("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

// A puppet runs a connection with the peer package but decides itself: it tells of having
// everything, unchokes, and answers each request as the test says.
type puppet struct {
	conn  *peer.Conn
	pool  *pool.Pool
	ended chan struct{}
}

// play starts a puppet on a connection whose handshake is done.
func play(nc net.Conn, r peer.Remote, pieces int, answer func(c *peer.Conn, m wire.Message)) *puppet {
	p := &puppet{pool: pool.New(wire.MaxBlock, 8), ended: make(chan struct{})}
	p.conn = peer.Start(nc, r, peer.Config{
		Limits: r.Limits(pieces), Blocks: p.pool,
		Deliver: func(b *peer.Batch) {
			for _, m := range b.Msgs {
				answer(b.Conn, m.Message)
			}
			b.ReleaseAll()
			if b.Err != nil {
				close(p.ended)
			}
			b.Recycle()
		},
	})
	return p
}
