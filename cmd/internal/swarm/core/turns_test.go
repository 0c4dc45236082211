package core

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A turnRig is a rig in which peers always ask for more, and which keeps whom each block is read for.
type turnRig struct {
	*rig
	order  []LinkID // of blocks, as they are read
	unsent []LinkID // of them, those not handed to the kernel yet
	asked  map[LinkID]int
}

// newTurnRig has the first half of 32 pieces of 64 KiB, or everything, and some peers that are unchoked and take whatever they get.
func newTurnRig(t *testing.T, seed bool, ids ...LinkID) *turnRig {
	t.Helper()
	l := layoutOf(t, 2*mib, 64*kib)
	have := full(l)
	if !seed {
		for i := 16; i < 32; i++ {
			have.Clear(i)
		}
	}
	r := &turnRig{rig: newRig(t, Config{Layout: l, Have: have, Slots: 16, Seed: Seeding{Forever: true}}), asked: map[LinkID]int{}}
	r.see = func(e Effect) {
		if e.Op == ReadBlock {
			r.order = append(r.order, e.Link)
			r.unsent = append(r.unsent, e.Link)
		}
	}
	r.tick(0)
	for _, id := range ids {
		r.join(id)
		r.msg(id, wire.Message{ID: wire.Have, Index: 0})
		r.say(id, wire.Interested)
		if l := r.c.byID[id]; l.amChoking {
			t.Fatalf("%d is choked", id)
		} else {
			l.upload.speed = 100 * mib // its window is no matter
		}
	}
	return r
}

// asks lets a peer ask for n more blocks of ours, one after the other.
func (r *turnRig) asks(id LinkID, n int) {
	for range n {
		k := r.asked[id] % (16 * 4)
		r.asked[id]++
		r.msg(id, request(uint32(k/4), uint32(k%4)))
	}
}

// goes sends n blocks, one every 10 ms, while some peers always ask for another eight.
func (r *turnRig) goes(n int, ids ...LinkID) {
	r.t.Helper()
	for range n {
		for _, id := range ids {
			r.asks(id, 8-len(r.c.byID[id].queue))
		}
		if len(r.unsent) == 0 {
			return
		}
		id := r.unsent[0]
		r.unsent = r.unsent[1:]
		r.tick(10 * time.Millisecond)
		r.handle(Event{Op: Sent, Link: id, N: piece.BlockSize})
	}
}

// trades makes a peer one that gives, and is owed so many bytes.
func (r *turnRig) trades(id LinkID, owed float64) {
	l := r.c.byID[id]
	l.gave.Add(r.now, 10*mib)
	l.balance = owed
}

// runs writes the order as lengths of runs.
func (r *turnRig) runs() (ids []LinkID, lengths []int) {
	for i, id := range r.order {
		if i == 0 || id != r.order[i-1] {
			ids, lengths = append(ids, id), append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return ids, lengths
}

// shares counts the blocks of each.
func (r *turnRig) shares() map[LinkID]int {
	n := map[LinkID]int{}
	for _, id := range r.order {
		n[id]++
	}
	return n
}

func TestATurnIsAPiece(t *testing.T) {
	r := newTurnRig(t, true, 1, 2, 3)
	r.goes(96, 1, 2, 3)
	ids, lengths := r.runs()
	for i := range ids[:len(ids)-1] {
		if i > 2 && (lengths[i] != 4 || ids[i] != ids[i-3]) {
			t.Fatalf("run %d is %d blocks for %d: %v %v", i, lengths[i], ids[i], ids, lengths)
		}
	}
}

func TestWhoIsOwedMostComesFirst(t *testing.T) {
	r := newTurnRig(t, false, 1, 2, 3)
	r.trades(2, 4*mib)
	r.trades(3, 4*mib+512*kib)
	r.asks(1, 4) // fill the line with what is nobody's loss
	r.order = nil
	r.goes(24, 2, 3)
	if n := r.shares(); n[2] != 0 {
		t.Errorf("3 is owed most; blocks: %v", n)
	}
	r.goes(200, 2, 3)
	r.order = nil
	r.goes(400, 2, 3)
	if n := r.shares(); n[2] < 180 || n[3] < 180 {
		t.Errorf("both are owed the same by now; blocks: %v", n)
	}
}

// Who has given nothing lately gets giftShare percent of what those get who have.
func TestGifts(t *testing.T) {
	r := newTurnRig(t, false, 1, 2)
	r.trades(1, kib) // who has never given anything would be in debt soon
	r.tick(tradeWindow + time.Second)
	r.trades(2, 100*mib)
	r.goes(100, 1, 2)
	r.order = nil
	r.goes(1500, 1, 2)
	if n := r.shares(); n[1] < 280 || n[1] > 320 {
		t.Errorf("of 1500 blocks %d are gifts, want one for four others", n[1])
	}
}

// Who could give us something and has had its advance gets little of the gifts.
func TestTheAdvance(t *testing.T) {
	r := newTurnRig(t, false, 1, 2)
	r.msg(1, wire.Message{ID: wire.Bitfield, Payload: full(r.c.cfg.Layout).Bytes()}) // and it chokes us
	r.trades(2, 100*mib)
	r.tick(2 * time.Second)
	r.goes(200, 1)
	if n := r.shares()[1] * piece.BlockSize; n < advance || n > advance+192*kib {
		t.Errorf("it got %d bytes, want an advance of %d and what is in the line, about 160 KiB", n, advance)
	}
	r.goes(20, 2)
	r.order = nil
	r.goes(1500, 1, 2)
	if n := r.shares(); n[1] < 30 || n[1] > 60 {
		t.Errorf("of 1500 blocks it gets %d, want one for forty others", n[1])
	}
	r.order, r.unsent = nil, nil
	r.say(1, wire.Unchoke)
	r.c.byID[1].gave.Add(r.now, 1)
	r.c.serving.queue(r.c.byID[2], nil)
	r.goes(1, 1)
	if r.c.owes(r.c.byID[1]) {
		t.Error("who serves us owes us nothing")
	}
}

// Who waited for nothing gets no more than a turn for the time in which it did, and begins at once.
func TestWhoCatchesUp(t *testing.T) {
	r := newTurnRig(t, true, 1, 2, 3)
	r.goes(400, 1, 2)
	r.order = nil
	r.goes(120, 1, 2, 3)
	n := r.shares()
	if n[3] < n[1] || n[3] > n[1]+12 {
		t.Errorf("who comes late got %d blocks, another %d", n[3], n[1])
	}
}

// What a peer got in exchange is not held against it once we are complete and give to all alike.
func TestWhatWasPaidForCountsForNothing(t *testing.T) {
	for _, gifts := range []bool{false, true} { // to the other, meanwhile
		r := newTurnRig(t, false, 1, 2)
		r.trades(2, kib)
		r.tick(tradeWindow + time.Second)
		r.trades(1, 64*mib)
		if gifts {
			r.goes(800, 1, 2)
		} else {
			r.goes(800, 1)
		}
		if n := r.shares(); n[1] < 600 || gifts != (n[2] > 100) {
			t.Fatalf("of 800 blocks: %v", n)
		}
		r.c.leaving.complete = true
		r.order = nil
		r.goes(200, 1, 2)
		if n := r.shares(); n[1] < 80 || n[2] < 80 {
			t.Errorf("gifts %t: of 200 blocks: %v, want as many for each", gifts, n)
		}
	}
}

// Who takes nothing does not hold the line.
func TestAStuckPeerDoesNotHoldTheLine(t *testing.T) {
	r := newTurnRig(t, true, 1, 2)
	r.asks(1, 8)
	if n := r.shares(); n[1] != firstLine/piece.BlockSize {
		t.Fatalf("%d blocks are in the line", n[1])
	}
	r.asks(2, 8)
	if n := r.shares(); n[2] != 0 {
		t.Fatalf("%d blocks more than the line has room for", n[2])
	}
	r.tick(mostStuckAfter)
	if n := r.shares(); n[2] != firstLine/piece.BlockSize {
		t.Errorf("%d blocks for the other, want as many as the line takes", n[2])
	}
}

// On a slow line everybody waits for what the others are sent. That is no reason to hand out more.
func TestASlowLineIsNotFilled(t *testing.T) {
	r := newTurnRig(t, true, 1, 2, 3, 4)
	r.c.limits.peak = 64 * kib
	r.c.peering.MaxUpload = mib // which the line does not reach
	for id := LinkID(1); id <= 4; id++ {
		r.c.byID[id].upload.speed = 0
	}
	for n := range 100 {
		for id := LinkID(1); id <= 4; id++ {
			r.asks(id, 8-len(r.c.byID[id].queue))
		}
		if got := r.c.serving.reading; got > leastLine {
			t.Fatalf("%d bytes are handed out after %d blocks, want %d at most", got, n, leastLine)
		}
		r.tick(250 * time.Millisecond)
		r.handle(Event{Op: Sent, Link: r.unsent[0], N: piece.BlockSize})
		r.unsent = r.unsent[1:]
	}
	r.tick(mostStuckAfter) // nobody takes anything any more
	if got := r.c.serving.reading; got <= leastLine {
		t.Errorf("%d bytes are handed out when all are stuck", got)
	}
}

func TestTurnLength(t *testing.T) {
	for _, tt := range []struct {
		name     string
		capacity int64 // bytes/s
		length   int64 // of pieces
		waiting  int
		want     int
	}{
		{"nothing is known", 0, 256 * kib, 100, 256 * kib},
		{"a piece", mib, 256 * kib, 4, 256 * kib},
		{"as many as take four seconds", mib, 256 * kib, 16, 256 * kib},
		{"more", mib, 256 * kib, 32, 128 * kib},
		{"very many", mib, 256 * kib, 1000, piece.BlockSize},
		{"large pieces", mib, 16 * mib, 1, 4 * mib},
		{"a slow line", 4 * kib, 256 * kib, 1, piece.BlockSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: layoutOf(t, 64*mib, tt.length), Peering: Peering{MaxUpload: tt.capacity}})
			r.c.serving.asking = tt.waiting
			if got := r.c.turnLength(); got != tt.want {
				t.Errorf("%d bytes, want %d", got, tt.want)
			}
		})
	}
}

func TestUploadWindow(t *testing.T) {
	for _, tt := range []struct {
		speed float64
		want  int
	}{{0, leastWriter}, {100 * kib, leastWriter}, {mib, mib / 5}, {100 * mib, mostWriter}} {
		u := upload{speed: tt.speed}
		if got := u.window(); got != tt.want {
			t.Errorf("at %.0f bytes/s %d, want %d", tt.speed, got, tt.want)
		}
	}
	u := upload{}
	if !u.room(128 << 10) { // the largest that some ask for
		t.Error("no room for one block")
	}
	u.inFlight = piece.BlockSize
	if u.room(leastWriter) || !u.room(leastWriter-piece.BlockSize) {
		t.Error("the window is not what bounds more")
	}
	u.moved = epoch
	u.took(epoch.Add(time.Second), piece.BlockSize)
	if u.inFlight != 0 || u.speed != piece.BlockSize/4 {
		t.Errorf("after a block in a second: %+v", u)
	}
}

// Requests of 1, 16 and 64 KiB get the same share of bytes.
func TestSmallAndLargeRequests(t *testing.T) {
	r := newTurnRig(t, true, 1, 2, 3)
	bytes := map[LinkID]int{}
	var unsent []Effect
	r.see = func(e Effect) {
		if e.Op == ReadBlock {
			bytes[e.Link] += int(e.Block.Length)
			unsent = append(unsent, e)
		}
	}
	sizes := map[LinkID]uint32{1: kib, 2: 16 * kib, 3: 64 * kib}
	begin := map[LinkID]uint32{}
	for total := 0; total < 12*mib; {
		for id := LinkID(1); id <= 3; id++ {
			for range 24 - len(r.c.byID[id].queue) {
				at := begin[id] % (2 * mib)
				begin[id] += sizes[id]
				r.msg(id, wire.Message{ID: wire.Request, Index: at / (64 * kib), Begin: at % (64 * kib), Length: sizes[id]})
			}
		}
		e := unsent[0]
		unsent = unsent[1:]
		total += int(e.Block.Length)
		r.tick(time.Duration(e.Block.Length) * time.Microsecond)
		r.handle(Event{Op: Sent, Link: e.Link, N: int(e.Block.Length)})
	}
	for id, n := range bytes {
		if n < 7*mib/2 || n > 9*mib/2 {
			t.Errorf("requests of %d bytes got %d of 12 MiB", sizes[id], n)
		}
	}
}

// What nobody asked for buys no turn, and is nothing that we owe.
func TestWhatNobodyAskedForBuysNothing(t *testing.T) {
	r := newTurnRig(t, false, 1)
	r.block(1, r.all(20)[0])
	if l := r.c.byID[1]; l == nil || l.balance != 0 || r.c.trades(l) {
		t.Error("a block that nobody asked for counts")
	}
}

// Who unchokes us, once gave something and now answers nothing is in debt as is somebody who chokes us.
func TestWhoAnswersNothingOwes(t *testing.T) {
	r := newTurnRig(t, false, 1, 2)
	r.msg(1, wire.Message{ID: wire.Have, Index: 20})
	r.say(1, wire.Unchoke)
	r.block(1, r.all(20)[0])
	l := r.c.byID[1]
	l.balance = -2 * advance
	for r.now.Before(epoch.Add(2 * snubAfter)) {
		r.trades(2, mib)
		r.tick(time.Second)
	}
	if !l.snubbed || !r.c.owes(l) {
		t.Errorf("snubbed %t, owes %t", l.snubbed, r.c.owes(l))
	}
	r.block(1, r.all(20)[1])
	if r.c.owes(l) {
		t.Error("who answers again owes nothing")
	}
}

// While only a seed gives us something, which wants nothing of us, a leecher that has nothing for us gets the whole line.
func TestASeedDoesNotMakeOthersOwe(t *testing.T) {
	r := newTurnRig(t, false, 1)
	r.seed(2)
	r.trades(2, 100*mib)
	r.tick(2 * time.Second)
	r.goes(200, 1)
	if n := r.shares()[1]; n < 200 {
		t.Errorf("it got %d blocks of 200 while nobody else wanted any", n)
	}
}

// Those who are stuck do not come to hold all that there is for everybody.
func TestWhoIsStuckGetsNoMoreThanHalf(t *testing.T) {
	const stuck = 15
	ids := make([]LinkID, stuck+1)
	for i := range ids {
		ids[i] = LinkID(i + 1)
	}
	r := newTurnRig(t, true, ids...)
	for range 40 {
		for _, id := range ids[:stuck] {
			r.asks(id, 50-len(r.c.byID[id].queue))
		}
		r.tick(mostStuckAfter)
	}
	if n := r.c.serving.reading; n > readCredit/2+mostWriter {
		t.Errorf("%d bytes of %d are held", n, readCredit)
	}
	r.asks(stuck+1, 4)
	if n := r.shares()[stuck+1]; n != 4 {
		t.Errorf("who takes something got %d blocks of 4", n)
	}
}

// Who has nothing is served before those that we owe, until it has had as much as a piece, whatever it says it has then.
func TestWhoHasNothingComesFirst(t *testing.T) {
	r := newTurnRig(t, false, 1)
	r.trades(1, 100*mib)
	r.goes(20, 1)
	r.join(2)
	r.say(2, wire.Interested)
	r.asks(2, 8)
	r.order, r.unsent = nil, r.unsent[:0]
	r.handle(Event{Op: Sent, Link: 1, N: r.c.byID[1].upload.inFlight})
	r.goes(60, 1, 2)
	if n := len(r.order); n < 40 {
		t.Fatalf("%d blocks in all", n)
	}
	late := r.order[24:]
	r.order = r.order[:24]
	if n := r.shares(); n[2] < 4 || n[2] > 8 { // a piece and, as a stranger, an advance
		t.Errorf("of the first 24 blocks it got %d, want its piece", n[2])
	}
	r.order = late
	if n := r.shares(); n[1] < 3*n[2] {
		t.Errorf("later it got %d blocks and who is owed most %d", n[2], n[1])
	}
}

// A turn that ends in the middle, because the writer takes no more, goes on before another begins, and at once if the one whose turn it
// is has had more.
func TestAnInterruptedTurnGoesOn(t *testing.T) {
	r := newTurnRig(t, true, 1, 2, 3)
	r.asks(1, 8) // four of them fill the line
	r.asks(2, 8)
	r.asks(3, 8)
	one, two := r.c.byID[1], r.c.byID[2]
	for _, tt := range []struct{ had, left, want int }{{0, kib, 1}, {2, kib, 2}, {0, 0, 2}} {
		r.c.turns.of = two
		one.upload.share, one.upload.left, two.upload.share = int64(tt.had)*mib, tt.left, mib
		one.upload.inFlight, r.c.serving.reading = 64*kib, mib // there is room for nothing
		r.c.begin(r.now)
		r.c.sent(one, piece.BlockSize)
		if got := r.c.turns.of.id; got != LinkID(tt.want) {
			t.Errorf("with %d KiB left of its turn, and %d MiB to the other's one, it is the turn of %d", tt.left/kib, tt.had, got)
		}
	}
	one.upload.share, one.upload.left, two.upload.left = 2*mib, kib, 0
	if next := r.c.nextTurn(); next != one {
		t.Errorf("the next turn is that of %d", next.id)
	}
}

// Where peers trade, a stranger that has something gets no more than an advance in a turn.
func TestAStrangersTurnIsShort(t *testing.T) {
	r := newTurnRig(t, false, 1, 2, 3)
	r.c.turns.length = 256 * kib
	r.trades(1, mib)
	r.tick(2 * time.Second)
	for id, want := range map[LinkID]int{1: 256 * kib, 2: advance} {
		if n := r.c.turnOf(r.c.byID[id]); n != want {
			t.Errorf("a turn of %d is %d bytes, want %d", id, n, want)
		}
	}
	r.c.turns.trade = false
	if n := r.c.turnOf(r.c.byID[2]); n != 256*kib {
		t.Errorf("nobody trades, and a turn is %d bytes", n)
	}
}

// Only the first peer of a subscriber is served first because it has nothing, however often it comes; of loopback, everyone.
func TestASubscriberStartsOnce(t *testing.T) {
	for at, want := range map[string]bool{"198.18.7.7:1": false, "127.0.0.1:1": true} {
		r := newTurnRig(t, true)
		comes := func(id LinkID) *link {
			r.handle(Event{Op: Joined, Link: id, Remote: &Remote{Addr: netip.MustParseAddrPort(at), ID: [20]byte{byte(id)}, Fast: true}})
			r.say(id, wire.HaveNone)
			r.say(id, wire.Interested)
			return r.c.byID[id]
		}
		if l := comes(1); !r.c.starts(l) || l.amChoking {
			t.Fatalf("%s: who has nothing does not start", at)
		}
		r.goes(8, 1)
		if r.c.starts(r.c.byID[1]) {
			t.Errorf("%s: it has had a piece, and starts again", at)
		}
		r.handle(Event{Op: Left, Link: 1})
		if l := comes(2); r.c.starts(l) != want {
			t.Errorf("%s: another starts: %t", at, !want)
		}
	}
}

// So many places are remembered and no more.
func TestStartsAreForgotten(t *testing.T) {
	var s turnState
	first := s.startOf(netip.MustParseAddr("198.18.0.1"))
	if s.startOf(netip.MustParseAddr("198.18.0.1")) != first {
		t.Error("a subscriber is forgotten at once")
	}
	for n := range 3 * mostStarted {
		s.startOf(netip.AddrFrom4([4]byte{198, 19, byte(n >> 8), byte(n)}))
		if len(s.started) > mostStarted {
			t.Fatalf("%d places are remembered", len(s.started))
		}
	}
}

// What is served first because it has nothing is not taken from those who have something and gave nothing yet.
func TestStartsAreNoGifts(t *testing.T) {
	r := newTurnRig(t, false, 1)
	r.trades(1, 100*mib)
	r.tick(2 * time.Second)
	before := r.c.turns.gifts
	r.join(2)
	r.say(2, wire.Interested)
	r.asks(2, 4)
	for range 4 {
		r.handle(Event{Op: Sent, Link: 2, N: piece.BlockSize})
	}
	if n := r.shares(); n[2] != 4 || r.c.turns.gifts < before {
		t.Errorf("%d blocks went to it, and gifts went from %d to %d", n[2], before, r.c.turns.gifts)
	}
}
