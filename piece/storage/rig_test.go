package storage

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bittern/piece"
)

const kib = 1 << 10

// A rig is a torrent with its content, and a disk to put it on.
type rig struct {
	t    testing.TB
	cfg  Config
	data []byte // the stream
	dir  string // "" in memory
	mem  *memDisk
	fs   *faultFS // of the last open
	held atomic.Int64
	evs  *events
}

// kinds are the disks that every contract test runs on.
var kinds = []string{"disk", "memory"}

// onBoth runs a test on each kind of disk.
func onBoth(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// file describes a file: its path, its length, and whether it is padding (BEP 47).
func file(name string, length int64) File { return File{Path: name, Length: length, Wanted: true} }
func pad(length int64) File               { return File{Path: ".pad/x", Length: length, Pad: true} }

func newRig(t testing.TB, kind string, pieceLength int64, files ...File) *rig {
	t.Helper()
	r := &rig{t: t}
	rng := rand.New(rand.NewPCG(1, uint64(len(files))))
	for _, f := range files {
		part := make([]byte, f.Length)
		if !f.Pad {
			for i := 0; i < len(part); i += 8 { // no zeros: they would look like holes
				word := binary.LittleEndian.AppendUint64(nil, rng.Uint64()|0x0101010101010101)
				copy(part[i:], word)
			}
		}
		r.data = append(r.data, part...)
	}
	layout, err := piece.NewLayout(int64(len(r.data)), pieceLength)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = Config{Files: files, Layout: layout, Name: strings.Split(files[0].Path, "/")[0], InfoHash: [20]byte{1, 2, 3}}
	for p := range layout.Pieces() {
		sum := sha1.Sum(r.piece(p))
		r.cfg.Sums = append(r.cfg.Sums, sum[:]...)
	}
	if kind == "memory" {
		r.mem = newMemDisk()
	} else {
		r.dir = t.TempDir()
		r.cfg.Dir = r.dir
	}
	return r
}

func (r *rig) piece(p int) []byte {
	at := r.cfg.Layout.Offset(p)
	return r.data[at : at+r.cfg.Layout.PieceSize(p)]
}

// content returns what file i should hold.
func (r *rig) content(i int) []byte {
	at := int64(0)
	for _, f := range r.cfg.Files[:i] {
		at += f.Length
	}
	return r.data[at : at+r.cfg.Files[i].Length]
}

// raw returns the disk without faults.
func (r *rig) raw() FS {
	if r.mem != nil {
		return memFS{r.mem}
	}
	f, err := openRoot(r.dir, false)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// tryOpen opens a store as the configuration stands, changed by edit.
func (r *rig) tryOpen(edit func(*Config)) (*Store, error) {
	r.fs = &faultFS{FS: r.raw()}
	r.evs = newEvents()
	cfg := r.cfg
	cfg.Files = slices.Clone(cfg.Files)
	cfg.FS, cfg.Notify = r.fs, r.evs.add
	if edit != nil {
		edit(&cfg)
	}
	return Open(r.t.Context(), cfg)
}

func (r *rig) open(edit func(*Config)) *Store {
	r.t.Helper()
	s, err := r.tryOpen(edit)
	if err != nil {
		r.t.Fatalf("Open: %v", err)
	}
	return s
}

// close ends a store in good order.
func (r *rig) close(s *Store) {
	r.t.Helper()
	if err := s.Close(r.t.Context()); err != nil {
		r.t.Fatalf("Close: %v", err)
	}
	r.wantReleased()
}

// kill ends a store as SIGKILL would: nothing is synced or recorded.
func (r *rig) kill(s *Store) {
	r.t.Helper()
	for _, h := range s.shards {
		h.jobs.close()
	}
	s.reads.close()
	s.shardc.Wait()
	s.readc.Wait()
	if err := s.shut(); err != nil {
		r.t.Fatalf("shut: %v", err)
	}
}

// A testBuffer counts its release.
type testBuffer struct {
	data []byte
	held *atomic.Int64
}

func (b *testBuffer) Bytes() []byte { return b.data }
func (b *testBuffer) Release() {
	clear(b.data) // whoever still reads it shall notice
	b.held.Add(-1)
}

func (r *rig) wantReleased() {
	r.t.Helper()
	if n := r.held.Load(); n != 0 {
		r.t.Errorf("%d buffers more taken than released", n)
	}
}

// block gives a store block n of piece p, changed by spoil.
func (r *rig) block(s *Store, p, n int, spoil func([]byte)) {
	b := r.cfg.Layout.BlockAt(p, n)
	buf := &testBuffer{make([]byte, piece.BlockSize), &r.held}
	copy(buf.data, r.piece(p)[b.Begin:b.Begin+b.Length])
	if spoil != nil {
		spoil(buf.data[:b.Length])
	}
	r.held.Add(1)
	s.Write(b, buf)
}

// give gives a store whole pieces, block by block.
func (r *rig) give(s *Store, pieces ...int) {
	for _, p := range pieces {
		for n := range r.cfg.Layout.Blocks(p) {
			r.block(s, p, n, nil)
		}
	}
}

// giveAndWait gives pieces and waits until they are verified.
func (r *rig) giveAndWait(s *Store, pieces ...int) {
	r.t.Helper()
	r.give(s, pieces...)
	for _, p := range pieces {
		r.evs.want(r.t, Verified, func(e Event) bool { return e.Piece == p })
	}
}

// rest returns the pieces that a store lacks, of those that touch a wanted file.
func (r *rig) rest(s *Store) (ps []int) {
	have := s.Have()
	for p := range have.Len() {
		wanted := false
		for c := s.vol.cut(p, 0, r.cfg.Layout.PieceSize(p)); c.next(); {
			wanted = wanted || s.cfg.Files[c.file].Wanted && !c.pad()
		}
		if wanted && !have.Has(p) {
			ps = append(ps, p)
		}
	}
	return ps
}

// complete gives a store what it lacks and waits for the end.
func (r *rig) complete(s *Store) {
	r.t.Helper()
	if !s.Complete() {
		r.give(s, r.rest(s)...)
		r.evs.want(r.t, Complete, nil)
	}
}

// wantContent checks every wanted file under its final name.
func (r *rig) wantContent(files ...int) {
	r.t.Helper()
	for _, i := range files {
		if got := r.read(r.cfg.Files[i].Path); !bytes.Equal(got, r.content(i)) {
			r.t.Errorf("%s: %d bytes that differ from the %d expected", r.cfg.Files[i].Path, len(got), r.cfg.Files[i].Length)
		}
	}
}

// read returns a file on the disk.
func (r *rig) read(name string) []byte {
	r.t.Helper()
	h, err := r.raw().OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		r.t.Errorf("read: %v", err)
		return nil
	}
	defer h.Close()
	size, err := h.Size()
	if err != nil {
		r.t.Fatal(err)
	}
	data := make([]byte, size)
	if _, err := h.ReadAt(data, 0); err != nil && size > 0 {
		r.t.Fatal(err)
	}
	return data
}

// put puts a file on the disk.
func (r *rig) put(name string, data []byte) {
	r.t.Helper()
	fsys := r.raw()
	r.mkdir(path.Dir(name))
	_ = fsys.Remove(name) // it may not be there
	h, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		r.t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.WriteAt(data, 0); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mkdir(dir string) {
	if dir == "." {
		return
	}
	r.mkdir(path.Dir(dir))
	_ = r.raw().Mkdir(dir, 0o777) // it may be there
}

// poke changes a byte of a file in place.
func (r *rig) poke(name string, off int64) {
	r.t.Helper()
	data := r.read(name)
	data[off] ^= 0x40
	r.put(name, data)
}

// touch makes sure that the time of change of a file is another one: a disk's clock may be coarse.
func (r *rig) touch(name string) {
	r.t.Helper()
	if r.mem != nil {
		return // its clock counts the changes
	}
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(filepath.Join(r.dir, name), later, later); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) truncate(name string, size int64) {
	r.t.Helper()
	h, err := r.raw().OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer h.Close()
	if err := h.Truncate(size); err != nil {
		r.t.Fatal(err)
	}
}

// tree returns every name on the disk, files with the sum of their content.
func (r *rig) tree() []string {
	r.t.Helper()
	var names []string
	if r.mem != nil {
		for name := range r.mem.nodes {
			names = append(names, name)
		}
	} else {
		err := filepath.WalkDir(r.dir, func(p string, _ fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(r.dir, p)
			names = append(names, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if info, err := r.raw().Lstat(name); err == nil && info.Mode().IsRegular() {
			names[i] = fmt.Sprintf("%s %x", name, sha1.Sum(r.read(name)))
		}
	}
	return names
}

// names returns the names of the files on the disk.
func (r *rig) names() (names []string) {
	for _, line := range r.tree() {
		if name, _, isFile := strings.Cut(line, " "); isFile {
			names = append(names, name)
		}
	}
	return names
}

func (r *rig) wantNames(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	if got := r.names(); !slices.Equal(got, want) {
		r.t.Errorf("files on disk: %q, want %q", got, want)
	}
}

// events keeps what a store has told.
type events struct {
	mu   sync.Mutex
	more sync.Cond
	all  []Event
}

func newEvents() *events {
	e := &events{}
	e.more.L = &e.mu
	return e
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
	e.more.Broadcast()
}

// want waits for an event and takes it. It fails at a fault, unless that is what is wanted.
func (e *events) want(t testing.TB, op Op, match func(Event) bool) Event {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for seen := 0; ; {
		for ; seen < len(e.all); seen++ {
			ev := e.all[seen]
			if ev.Op == op && (match == nil || match(ev)) {
				e.all = slices.Delete(e.all, seen, seen+1)
				return ev
			}
			if ev.Op == Fault && op != ReadDone {
				t.Fatalf("waiting for op %d: fault: %v", op, ev.Err)
			}
		}
		e.more.Wait()
	}
}

// count returns how many events of a kind have come and were not taken.
func (e *events) count(op Op) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Op == op {
			n++
		}
	}
	return n
}

// A canceled context has ended with a cause.
type canceled struct {
	context.Context
	cause error
}

func (c canceled) Err() error { return c.cause }
func (c canceled) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// withSum appends the SHA-1 of a record's body.
func withSum(body []byte) []byte {
	sum := sha1.Sum(body)
	return append(bytes.Clone(body), sum[:]...)
}

// unwrapAll returns the innermost error.
func unwrapAll(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
