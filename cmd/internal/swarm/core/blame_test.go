package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/piece"
)

// sums returns block sums of a version of a piece: block n differs in versions where bad holds n.
func sums(blocks int, bad ...int) [][20]byte {
	out := make([][20]byte, blocks)
	for n := range out {
		out[n][0] = byte(n)
	}
	for _, n := range bad {
		out[n][1] = 0xff
	}
	return out
}

func TestTheOnlySenderOfABadPieceIsBanned(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.want("caught", "1:drop peer sent corrupt data in piece 0")
	r.handle(Event{Op: Joined, Link: 2, Remote: remote(1)})
	r.want("and it stays out", "2:drop address is banned")
	if n := r.c.Snapshot(r.now).Liars; n != 1 {
		t.Errorf("%d liars counted, want 1", n)
	}
}

// What is banned is an address, with all that is connected from it.
func TestALiarsOtherConnectionsGoToo(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	asks := r.takeAsks()
	other := remote(2)
	other.Addr = netip.AddrPortFrom(addr(1).Addr(), 7)
	r.handle(Event{Op: Joined, Link: 2, Remote: other})
	r.join(3)
	for _, b := range asks {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 1)})
	r.want("both go", "1:drop peer sent corrupt data in piece 0, 2:drop address is banned")
	if r.c.byID[3] == nil {
		t.Error("a peer of another address was dropped")
	}
}

func TestOfTwoSendersTheLiarIsFound(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.seed(2)
	blocks := r.all(0)
	// Endgame: both are asked for all of it, so the test chooses who answers.
	r.block(1, blocks[0])
	r.block(1, blocks[1])
	r.tick(0)
	r.block(2, blocks[2])
	r.block(2, blocks[3])
	r.takeAsks()
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 3)})
	for _, w := range r.got {
		if w == "1:drop peer sent corrupt data in piece 0" || w == "2:drop peer sent corrupt data in piece 0" {
			t.Fatalf("somebody was convicted without proof: %v", r.got)
		}
	}
	again := map[piece.Block]bool{}
	for _, b := range r.takeAsks() {
		again[b] = true
	}
	if len(again) != 4 {
		t.Fatalf("%d blocks asked for again, want 4", len(again))
	}
	for _, b := range blocks {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if !r.has("2:drop peer sent corrupt data in piece 0") {
		t.Errorf("the liar got away: %v", r.got)
	}
	if r.c.byID[1] == nil {
		t.Error("the honest peer was dropped")
	}
}

// Liars only: the download never completes and asks for less than three times the bytes.
func TestOnlyCorruptDataEnds(t *testing.T) {
	l := layoutOf(t, 4*mib, 64*kib)
	r := newRig(t, Config{Layout: l, Stall: time.Minute})
	const liars = 4
	for id := LinkID(1); id <= liars; id++ {
		r.seed(id)
	}
	for range 1000 {
		if len(r.c.links) == 0 {
			break
		}
		r.lie()
		r.tick(time.Millisecond)
	}
	if n := len(r.c.links); n > 0 {
		t.Errorf("%d liars are still there", n)
	}
	if s := r.c.Snapshot(r.now); s.Received >= 3*s.Total || s.Left != s.Total {
		t.Errorf("%d bytes received for %d, %d left; want under three times, all left", s.Received, s.Total, s.Left)
	}
	r.forget()
	r.tick(time.Minute)
	r.want("nothing came for a minute", "done stalled")
}

// lie lets each peer answer one request, and every piece that is whole fail; each block is bad in a way of
// its sender's.
func (r *rig) lie() {
	for _, l := range slices.Clone(r.c.links) {
		if l.asked.live == 0 || r.c.byID[l.id] != l {
			continue
		}
		b := l.asked.asks[l.asked.head].block
		r.got = nil
		r.block(l.id, b)
		if r.has("write") {
			if r.count == nil {
				r.count = map[uint32]int{}
			}
			r.count[b.Piece]++
		}
		if i := int(b.Piece); r.count[b.Piece] == r.c.cfg.Layout.Blocks(i) {
			r.count[b.Piece] = 0
			r.handle(Event{Op: Verified, Piece: i, Sums: sums(r.c.cfg.Layout.Blocks(i), 0, 1, 2, 3)})
		}
	}
}

func TestALiarIsConvictedAfterItHasLeft(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.seed(2)
	for n, b := range r.all(0) {
		r.block(LinkID(1+n/2), b)
	}
	r.handle(Event{Op: Verified, Piece: 0, Sums: sums(4, 0)}) // by peer 1
	r.handle(Event{Op: Left, Link: 1})
	for _, b := range r.all(0) {
		r.block(2, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(4)})
	if r.c.byID[2] == nil {
		t.Error("the honest peer was dropped")
	}
	r.forget()
	r.handle(Event{Op: Joined, Link: 3, Remote: remote(1)})
	r.want("it does not come back", "3:drop address is banned")
}

// Who had a part in three bad pieces of which nothing proves whose fault they were is banned all the same.
func TestUnprovenPiecesAddUp(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 128*kib, 32*kib)})
	r.seed(1)
	for i := range 3 {
		other := LinkID(2 + i)
		r.seed(other)
		blocks := r.all(i)
		r.block(1, blocks[0])
		r.block(other, blocks[1])
		if r.c.byID[1] == nil {
			t.Fatalf("banned after %d unproven pieces", i)
		}
		r.handle(Event{Op: Verified, Piece: i})
	}
	if r.c.byID[1] != nil || !r.c.dialing.bannedIPs[addr(1).Addr()] {
		t.Error("not banned after three")
	}
	for i := range 3 {
		if r.c.byID[LinkID(2+i)] == nil {
			t.Errorf("peer %d is gone, which had a part in one", 2+i)
		}
	}
}

// Versions without sums prove little, and of a piece that fails for ever only some are kept.
func TestEvidenceIsBounded(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 32*kib, 32*kib)})
	blocks := r.all(0)
	for n := range LinkID(2*maxVersions + 2) {
		r.seed(2*n + 1)
		r.seed(2*n + 2)
		r.block(2*n+1, blocks[0])
		r.block(2*n+2, blocks[1])
		var s [][20]byte
		if n%2 == 0 {
			s = sums(2, 0)
		}
		r.handle(Event{Op: Verified, Piece: 0, Sums: s})
		r.handle(Event{Op: Left, Link: 2*n + 1})
		r.handle(Event{Op: Left, Link: 2*n + 2})
	}
	if n := len(r.c.blame.bad[0]); n != maxVersions {
		t.Errorf("%d versions kept, want %d", n, maxVersions)
	}
	r.seed(101)
	for _, b := range blocks {
		r.block(101, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true, Sums: sums(2)})
	if n := len(r.c.blame.bad) + len(r.c.blame.open); n != 0 {
		t.Errorf("%d records kept after the verdict", n)
	}
	for n := range LinkID(2*maxVersions + 2) {
		ip := addr(int(2*n + 1)).Addr()
		if got, want := r.c.dialing.bannedIPs[ip], n%2 == 0 && n < 2*maxVersions; got != want {
			t.Errorf("sender %d of the bad block: banned %v, want %v", n, got, want)
		}
		if r.c.dialing.bannedIPs[addr(int(2*n+2)).Addr()] {
			t.Errorf("sender %d of the good block is banned", n)
		}
	}
}
