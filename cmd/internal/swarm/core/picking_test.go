package core

import (
	"testing"
	"time"

	"bittern/peer/rate"
	"bittern/peer/wire"
	"bittern/piece"
)

func TestASeedIsAskedForAWindow(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*mib, mib)})
	r.join(1)
	r.want("we have nothing and the peer speaks plain BEP 3", "")
	all := piece.NewBitfield(16)
	for i := range 16 {
		all.Set(i)
	}
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: all.Bytes()})
	r.want("it has what we lack", "1:interested")
	r.say(1, wire.Unchoke)
	r.want("the first window", "16x 1:request")
}

func TestBlocksAreWrittenAndReplaced(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 16*mib, mib)})
	r.seed(1)
	r.forget()
	asks := r.takeAsks()
	for _, b := range asks {
		r.block(1, b)
	}
	writes, requests := 0, 0
	for _, w := range r.got {
		switch w {
		case "write":
			writes++
		case "1:request":
			requests++
		}
	}
	if writes != 16 {
		t.Errorf("%d blocks written, want 16", writes)
	}
	if requests < 24 || requests > 32 {
		t.Errorf("%d requests in the second round, want about twice the 16 of the first", requests)
	}
}

func TestUnaskedBlocksAreReleased(t *testing.T) {
	r := newRig(t, Config{})
	r.join(1)
	r.block(1, piece.Block{Length: piece.BlockSize})
	r.want("not asked for", "release")
	r.block(1, piece.Block{Begin: 1, Length: piece.BlockSize})
	r.want("no block of ours at all", "release, 1:drop peer sends what nobody asked for")
	r.block(1, piece.Block{Length: piece.BlockSize})
	r.want("of a link that is gone", "release")
	if got := r.c.Snapshot(r.now).Wasted; got != 2*piece.BlockSize {
		t.Errorf("wasted %d bytes, want those of two blocks", got)
	}
}

func TestAChokeFreesTheBlocksForOthers(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.want("all four blocks are asked of the first", "1:interested, 4x 1:request")
	r.say(1, wire.Choke)
	r.takeAsks()
	r.seed(2)
	if n := len(r.takeAsks()); n != 4 {
		t.Errorf("%d blocks asked of the second peer after the first choked us, want all 4", n)
	}
	r.forget()
	r.say(1, wire.Unchoke)
	r.want("no storm: a second's pause", "")
}

func TestASnubbedPeerLosesItsBlocks(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 2*mib, 64*kib)})
	r.seed(1)
	r.takeAsks()
	r.tick(snubAfter - time.Second)
	r.seed(2)
	first := len(r.takeAsks())
	r.forget()
	for range 3 {
		r.tick(time.Second)
	}
	if !r.c.byID[1].snubbed {
		t.Fatal("the silent peer is not snubbed")
	}
	if r.c.byID[2].snubbed {
		t.Fatal("the new peer is snubbed before its time")
	}
	if got := r.c.byID[1].asked.live; got != 1 {
		t.Errorf("%d requests at the snubbed peer, want 1", got)
	}
	if first == 0 {
		t.Error("nothing asked of the second peer")
	}
}

func TestALateAnswerIsStillGood(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 2*mib, 64*kib)})
	r.seed(1)
	b := r.takeAsks()[0]
	r.tick(snubAfter + time.Second)
	r.forget()
	r.block(1, b)
	if !r.has("write") {
		t.Errorf("a block that came after the time-out was thrown away: %v", r.got)
	}
}

func TestHaveAndInterestFollowAVerifiedPiece(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	r.join(2)
	for _, b := range r.takeAsks() {
		r.block(1, b)
	}
	r.forget()
	r.handle(Event{Op: Verified, Piece: 0, OK: true})
	r.want("told to all", "1:have, 1:not interested, 2:have")
	r.handle(Event{Op: Stored})
	r.want("the end", "done complete")
	r.block(1, piece.Block{Length: piece.BlockSize})
	r.want("after the end", "release")
}

func TestTheWindowDoublesWhileTheRateGrows(t *testing.T) {
	w := newWindow()
	now := epoch
	w.ask(now, w.size)
	const rtt = 100 * time.Millisecond
	for round := 1; round <= 4; round++ {
		size := w.size
		now = now.Add(rtt)
		for range size {
			w.answer(now, rtt)
		}
		w.ask(now, 2*size)
		if w.size != 2*size {
			t.Fatalf("round %d: window %d, want %d", round, w.size, 2*size)
		}
	}
}

func TestTheRampEndsWhenTheLinkIsFull(t *testing.T) {
	w := newWindow()
	now := epoch
	const perBlock = 10 * time.Millisecond // what the link takes
	w.ask(now, w.size)
	for n := 0; w.ramp; n++ {
		now = now.Add(perBlock)
		w.answer(now, perBlock)
		w.ask(now, 2)
		if n > 2000 {
			t.Fatal("still ramping after 2000 blocks of a full link")
		}
	}
	w.follow(1.6e6) // bytes/s
	if want := 1_600_000 / piece.BlockSize; w.size != want {
		t.Errorf("window %d, want the %d blocks of one second", w.size, want)
	}
}

// A slow peer is not given more and more only because it has not shown its limit yet.
func TestTheRampEndsWhereRoundsAreLong(t *testing.T) {
	w := newWindow()
	now := epoch
	const perBlock = time.Second / 8 // 128 KiB/s
	w.ask(now, w.size)
	most := 0
	for range 2 * firstWindow {
		now = now.Add(perBlock)
		w.answer(now, perBlock)
		w.ask(now, 1)
		most = max(most, w.size)
	}
	if w.ramp || most > firstWindow+8 {
		t.Errorf("ramp %v, window up to %d blocks; want an end, %d at most", w.ramp, most, firstWindow+8)
	}
}

// However far away a peer is, and however its distance changes, the window comes to hold what is on the way, and no more than
// its queue needs.
func TestTheWindowCoversTheRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name         string
		first, later time.Duration // round trips, for two minutes each, with nothing outstanding in between
		least, most  int           // blocks, at the end
	}{
		{"near", 50 * time.Millisecond, 50 * time.Millisecond, 60, 70},
		{"0.9 s", 900 * time.Millisecond, 900 * time.Millisecond, 64, 130},
		{"far", 1500 * time.Millisecond, 1500 * time.Millisecond, 96, 200},
		{"very far", 2 * time.Second, 2 * time.Second, 128, 260},
		{"it comes to be far", 50 * time.Millisecond, 1500 * time.Millisecond, 96, 200},
		{"it is far no more", 1500 * time.Millisecond, 50 * time.Millisecond, 60, 70},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const tick = time.Second / 64 // in which the peer can send a block
			w, down := newWindow(), rate.NewMeter(rateWindow)
			var asked []time.Duration // when those were sent that are not answered, oldest first
			for n := range 4 * 60 * 64 {
				at := time.Duration(n) * tick
				now, trip, pause := epoch.Add(at), tt.first, at >= 115*time.Second && at < 2*time.Minute
				if at >= 2*time.Minute {
					trip = tt.later
				}
				if len(asked) > 0 && at-asked[0] >= trip {
					w.answer(now, at-asked[0])
					down.Add(now, piece.BlockSize)
					asked = asked[1:]
				}
				for !pause && len(asked) < w.size {
					w.ask(now, 1)
					asked = append(asked, at)
				}
				if n%64 == 0 && len(asked) >= w.size/2 {
					w.follow(down.Rate(now))
				}
			}
			if w.size < tt.least || w.size > tt.most {
				t.Errorf("%d blocks at the end, want %d to %d", w.size, tt.least, tt.most)
			}
		})
	}
}

// What a peer could send is not known from a time in which it choked us.
func TestAChokeDoesNotShrinkTheWindow(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 256*mib, mib)})
	r.seed(1)
	queue := r.takeAsks()
	deliver := func(d time.Duration) { // 100 blocks/s
		for end := r.now.Add(d); r.now.Before(end); {
			r.tick(10 * time.Millisecond)
			r.block(1, queue[0])
			queue = append(queue[1:], r.takeAsks()...)
		}
	}
	deliver(10 * time.Second)
	l := r.c.byID[1]
	before := l.window.size
	if l.window.ramp || before < 80 || before > 120 {
		t.Fatalf("ramp %v, window %d; want the 100 blocks of a second", l.window.ramp, before)
	}
	r.say(1, wire.Choke)
	r.tick(10 * time.Second)
	r.say(1, wire.Unchoke)
	queue = r.takeAsks()
	if n := len(queue); n < before*3/4 {
		t.Errorf("%d requests after the choke, the window was %d", n, before)
	}
	deliver(5 * time.Second)
	if n := l.window.size; n < 80 || n > 120 {
		t.Errorf("window %d five seconds later, want about 100", n)
	}
}
