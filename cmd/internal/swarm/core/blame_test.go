package core

import (
	"testing"

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
