package core

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/peer/choke"
	"bittern/peer/wire"
	"bittern/piece"
)

// fast is remote with the fast extension and the extension protocol.
func fast(id LinkID) *Remote {
	r := remote(id)
	r.Fast, r.Ext = true, true
	return r
}

// fastSeed joins a peer that speaks the extensions, has everything, takes reqq requests and unchokes us.
func (r *rig) fastSeed(id LinkID, reqq int) {
	r.handle(Event{Op: Joined, Link: id, Remote: fast(id)})
	r.says(id, wire.ExtHandshake{Reqq: reqq})
	r.say(id, wire.HaveAll)
	r.say(id, wire.Unchoke)
}

// says delivers an extension handshake.
func (r *rig) says(id LinkID, h wire.ExtHandshake) {
	r.msg(id, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, h)})
}

func about(id wire.ID, b piece.Block) wire.Message {
	return wire.Message{ID: id, Index: b.Piece, Begin: b.Begin, Length: b.Length}
}

// outstanding counts what a peer has in its queue: it answers all, in its own time (BEP 6).
func (r *rig) outstanding(id LinkID) int {
	l := r.c.byID[id]
	return l.asked.live + l.asked.lost()
}

func TestNeverMoreRequestsThanThePeerTakes(t *testing.T) {
	const reqq = 10
	r := newRig(t, Config{Layout: layoutOf(t, 16*mib, mib)})
	r.fastSeed(1, reqq)
	if n := len(r.takeAsks()); n != reqq {
		t.Fatalf("%d requests to a peer that takes %d", n, reqq)
	}
	r.forget()
	r.tick(snubAfter + time.Second)
	r.want("all of them are given up, and the queue of a peer that answers each is still full", "10x 1:cancel")
	if n := r.outstanding(1); n != reqq {
		t.Errorf("%d outstanding, want %d", n, reqq)
	}
	r.msg(1, about(wire.Reject, piece.Block{Length: piece.BlockSize}))
	r.tick(time.Second)
	if n := r.outstanding(1); n > reqq {
		t.Errorf("%d outstanding, want %d at most", n, reqq)
	}
	r.tick(lostFor)
	if n := r.c.byID[1].asked.live; n != 1 {
		t.Errorf("%d requests to a snubbed peer that has forgotten the others, want 1", n)
	}
}

func TestARejectedBlockIsAskedAgainASecondLater(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.fastSeed(1, 250)
	asked := r.takeAsks()
	r.forget()
	r.msg(1, about(wire.Reject, asked[0]))
	r.tick(askPause - time.Millisecond)
	r.want("too early", "")
	r.tick(time.Second)
	r.want("nobody else has it", "1:request")
	r.fastSeed(2, 250)
	r.takeAsks()
	r.msg(2, about(wire.Reject, asked[1])) // endgame: the first was asked, too
	r.forget()
	r.msg(1, about(wire.Reject, asked[1]))
	r.tick(2 * askPause)
	if !r.has("1:request") && !r.has("2:request") {
		t.Errorf("a block that both rejected is not asked for again: %v", r.got)
	}
}

func TestARejectOfNothingIsToleratedOnlySoOften(t *testing.T) {
	r := newRig(t, Config{})
	r.fastSeed(1, 1)
	r.forget()
	for range 500 {
		r.msg(1, about(wire.Reject, r.c.cfg.Layout.BlockAt(9, 0)))
	}
	r.want("borne", "")
	for range 20 {
		r.msg(1, about(wire.Reject, r.c.cfg.Layout.BlockAt(9, 0)))
	}
	r.want("too often", "1:drop peer sends what nobody asked for")
}

func TestAFastPeerRejectsEachRequestItself(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.fastSeed(1, 250)
	asked := r.takeAsks()
	r.say(1, wire.Choke)
	if n := r.c.byID[1].asked.live; n != len(asked) {
		t.Errorf("%d requests count after the choke, want all %d until they are rejected (BEP 6)", n, len(asked))
	}
	r.fastSeed(2, 250)
	r.takeAsks()
	r.block(1, asked[0])
	if !r.has("write") {
		t.Error("what it sends all the same was thrown away")
	}
	r.forget()
	r.msg(1, about(wire.Reject, asked[1]))
	r.say(1, wire.Unchoke)
	r.want("a second's pause", "")
}

// Choking and unchoking does not make us ask for a block more than once a second.
func TestFlappingMakesNoStorm(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	first := len(r.takeAsks())
	const seconds, flaps = 10, 100
	for range seconds {
		for range flaps {
			r.say(1, wire.Choke)
			r.say(1, wire.Unchoke)
			r.tick(time.Second / flaps)
		}
	}
	if n := len(r.takeAsks()); n > seconds*first {
		t.Errorf("%d requests in %d s of flapping, want at most %d", n, seconds, seconds*first)
	}
}

func TestEndgameCancels(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib)})
	r.seed(1)
	asked := r.takeAsks()
	r.seed(2)
	if n := len(r.takeAsks()); n != len(asked) {
		t.Fatalf("%d blocks asked of the second peer, want all %d again", n, len(asked))
	}
	r.forget()
	r.block(1, asked[0])
	r.want("the other need not send it", "write, 2:cancel")
	r.block(2, asked[0])
	r.want("but it had", "release")
	if r.c.byID[2] == nil {
		t.Error("it was dropped for that")
	}
}

// A peer that brings everything but one block holds that one up for 20 seconds only.
func TestABlockHeldBackGoesToAnother(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*mib, mib)})
	r.seed(1)
	held := r.takeAsks()
	var cancelled bool
	queue := held[1:]
	for range 250 { // a block every 100 ms
		r.tick(100 * time.Millisecond)
		r.block(1, queue[0])
		queue = append(queue[1:], r.takeAsks()...)
		cancelled = cancelled || r.has("1:cancel")
		r.forget()
	}
	if !cancelled {
		t.Error("the block is still waited for after 25 s")
	}
	if l := r.c.byID[1]; l.snubbed || len(l.asked.asks) > 2*mostWindow {
		t.Errorf("snubbed %v, %d requests kept; it sends all the time", l.snubbed, len(l.asked.asks))
	}
}

// Small messages that say nothing new cost no memory.
func TestFloodsOfSmallMessagesLeaveNothing(t *testing.T) {
	r := newRig(t, Config{})
	r.join(1)
	for n := range 1000 {
		r.msg(1, wire.Message{ID: wire.Have, Index: uint32(n % 16)})
	}
	r.want("said once", "1:interested")
	for _, id := range []wire.ID{wire.Port, wire.Suggest, wire.Choke} {
		r.say(1, id)
	}
	r.msg(1, wire.Message{ID: wire.Extended, ExtID: 7, Payload: []byte("what nobody understands")})
	r.want("nothing to say to that", "")
	if l := r.c.byID[1]; len(l.asked.asks)+len(l.asked.late)+len(l.queue) > 0 {
		t.Error("something is kept")
	}
}

// A peer that asks and asks and does not read has 250 requests in our queue and four blocks in memory.
func TestARequestFloodIsBounded(t *testing.T) {
	r := seedRig(t, false)
	r.say(1, wire.Interested)
	r.forget()
	for n := range uint32(2000) {
		r.msg(1, request(n/64%16, n%64))
	}
	r.want("no more is read than its writer may hold", "4x 1:read")
	if n := len(r.c.byID[1].queue); n != 250 {
		t.Errorf("%d requests queued, want 250", n)
	}
	r.tick(10 * time.Minute)
	r.want("and nothing more", "")
	for n := range uint32(3000) {
		r.msg(1, request(n/64%16, n%64))
	}
	r.want("and there is an end", "1:drop peer goes on asking for what it is refused")
}

// Each reject waits in our memory until the peer reads it, so there is an end to them; one whose requests
// cross a choke, or who cancels at the end of a download, is far from it.
func TestRejectsAreNotSentForEver(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	for _, tt := range []struct {
		name string
		fast bool
		ask  []wire.ID
	}{
		{"choked", true, []wire.ID{wire.Request}},
		{"and takes everything back", true, []wire.ID{wire.Interested, wire.Request, wire.Cancel}},
		{"without the fast extension", false, []wire.ID{wire.Request}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
			rem := remote(1)
			rem.Fast = tt.fast
			r.handle(Event{Op: Joined, Link: 1, Remote: rem})
			again := func(n int) {
				for i := range n {
					for _, id := range tt.ask {
						r.msg(1, about(id, l.BlockAt(i%16, i/16%64)))
					}
				}
			}
			again(maxQueue)
			r.handle(Event{Op: Sent, Link: 1, N: piece.BlockSize})
			again(1000 / len(tt.ask))
			if r.c.byID[1] == nil {
				t.Fatal("dropped too early")
			}
			r.forget()
			again(mostPatience)
			if r.c.byID[1] != nil {
				t.Error("it was not dropped")
			}
			if rejects := slices.Index(r.got, "1:drop peer goes on asking for what it is refused"); rejects > mostPatience {
				t.Errorf("%d rejects sent", rejects)
			}
		})
	}
}

func TestARequestTwiceIsServedOnce(t *testing.T) {
	r := seedRig(t, true)
	r.say(1, wire.Interested)
	for n := range uint32(5) {
		r.msg(1, request(0, n))
	}
	r.forget()
	r.msg(1, request(0, 4)) // it still waits
	r.want("once is enough", "1:reject request")
}

func TestWrongRequestsAreDropped(t *testing.T) {
	for _, tt := range []struct {
		name string
		m    wire.Message
		drop bool
	}{
		{"no such piece", wire.Message{Index: 16, Length: 1}, true},
		{"length 0", wire.Message{}, true},
		{"beyond the piece", wire.Message{Begin: mib - 1, Length: 2}, true},
		{"wraps", wire.Message{Begin: 1<<32 - 1, Length: 2}, true},
		{"over 128 KiB", wire.Message{Length: 128*kib + 1}, true},
		{"128 KiB", wire.Message{Length: 128 * kib}, false},
		{"one byte", wire.Message{Begin: 7, Length: 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := seedRig(t, false)
			r.say(1, wire.Interested)
			r.forget()
			tt.m.ID = wire.Request
			r.msg(1, tt.m)
			if tt.drop {
				r.want("a misdeed", "1:drop peer asks for bytes that do not exist")
			} else {
				r.want("served", "1:read")
			}
		})
	}
}

func TestAChokeRefusesWhatWaits(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Slots: 1})
	r.tick(0)
	for id := LinkID(1); id <= 2; id++ {
		r.handle(Event{Op: Joined, Link: id, Remote: fast(id)})
		r.msg(id, wire.Message{ID: wire.Have, Index: 1})
		r.say(id, wire.Interested)
	}
	for n := range uint32(10) {
		r.msg(1, request(0, n))
	}
	r.forget()
	r.tick(choke.Every)
	r.want("choke first, then reject each (BEP 6)", "1:choke, 6x 1:reject request, 3x 2:suggest piece, 2:unchoke")
	r.handle(Event{Op: Sent, Link: 1, N: 4 * piece.BlockSize})
	if r.has("1:read") {
		t.Error("something was left to send")
	}
}

// Credit that leaves with its peers goes to those who wait for it, though nothing is ever Sent again.
func TestCreditOfTheGoneGoesToWhoWaits(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	const greedy = readCredit/mostWriter + 1
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Slots: greedy + 1})
	r.tick(0)
	r.c.limits.peak = 100 * mib // the line takes it all
	for id := LinkID(1); id <= greedy+1; id++ {
		r.join(id)
		r.say(id, wire.Interested)
	}
	for id := LinkID(1); id <= greedy; id++ { // each proves fast, so that its window is the largest
		for n := range uint32(64) {
			r.msg(id, request(0, n))
			r.now = r.now.Add(time.Millisecond)
			r.handle(Event{Op: Sent, Link: id, N: piece.BlockSize})
		}
		for n := range uint32(64) {
			r.msg(id, request(1, n))
		}
	}
	if got := r.c.serving.reading; got != readCredit {
		t.Fatalf("%d bytes are being read, want all %d", got, readCredit)
	}
	r.msg(greedy+1, request(0, 0))
	r.forget()
	for id := LinkID(1); id <= greedy; id++ {
		r.handle(Event{Op: Left, Link: id})
	}
	if !r.has(fmt.Sprintf("%d:read", greedy+1)) {
		t.Errorf("the last peer is never served: %v", r.got)
	}
	r.handle(Event{Op: Sent, Link: 1, N: mostWriter})
	r.handle(Event{Op: Sent, Link: 2, N: mostWriter})
	if got := r.c.serving.reading; got != piece.BlockSize {
		t.Errorf("%d bytes counted after late reports, want the one block", got)
	}
}

func TestSeedsPart(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	for _, tt := range []struct {
		name string
		do   func(*rig)
	}{
		{"has everything", func(r *rig) { r.say(1, wire.HaveAll) }},
		{"becomes complete", func(r *rig) {
			r.say(1, wire.HaveNone)
			r.forget()
			for i := range uint32(16) {
				r.msg(1, wire.Message{ID: wire.Have, Index: i})
			}
		}},
		{"has little and wants nothing (BEP 21)", func(r *rig) {
			r.msg(1, wire.Message{ID: wire.Have})
			r.says(1, wire.ExtHandshake{UploadOnly: true})
		}},
		{"wants nothing and says later what it has", func(r *rig) {
			r.says(1, wire.ExtHandshake{UploadOnly: true})
			r.want("it may be complete", "")
			r.say(1, wire.HaveNone)
		}},
		{"wants nothing and does not say what it has", func(r *rig) {
			r.says(1, wire.ExtHandshake{UploadOnly: true})
			r.say(1, wire.NotInterested)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}})
			r.tick(0)
			r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
			r.forget()
			tt.do(r)
			r.want("neither wants anything of the other", "1:drop both ends are seeds")
		})
	}
}

func TestOnCompletionSeedsGoAndOthersStay(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 64*kib, 64*kib), Seed: Seeding{Forever: true}})
	r.seed(1)
	r.seed(2)
	r.join(3)
	for _, b := range r.all(0) {
		r.block(1, b)
	}
	r.handle(Event{Op: Verified, Piece: 0, OK: true})
	r.forget()
	r.handle(Event{Op: Stored})
	r.want("the seeds go", "completed, 2:drop both ends are seeds, 1:drop both ends are seeds")
	r.handle(Event{Op: Stored})
	r.want("once", "")
	if !r.c.Snapshot(r.now).Seeding || !r.c.Have().Full() {
		t.Error("it does not know that it is complete")
	}
}

func TestATwinDoesNotCountForItsAddress(t *testing.T) {
	r := newRig(t, Config{})
	at := func(id LinkID, out bool) *Remote {
		rem := remote(id)
		rem.ID[0] = 'z' // larger than ours: what it opens stays
		rem.Addr, rem.Outgoing = netip.AddrPortFrom(addr(1).Addr(), uint16(id)), out
		return rem
	}
	for id := LinkID(1); id <= 3; id++ {
		r.handle(Event{Op: Joined, Link: id, Remote: at(id, true)})
	}
	twin := at(1, false)
	twin.Addr = netip.AddrPortFrom(addr(1).Addr(), 50_000)
	r.handle(Event{Op: Joined, Link: 4, Remote: twin})
	r.want("in place of the first", "1:drop already connected to this peer")
	other := at(5, false)
	r.handle(Event{Op: Joined, Link: 5, Remote: other})
	r.want("the fourth is too many", "5:drop too many connections from this address")
}

// What others rely on, in numbers.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"a peer owes a block for", snubAfter, 20 * time.Second},
		{"the same block is asked again after", askPause, time.Second},
		{"requests queued for a peer", MaxQueue, 250},
		{"connections of one address", maxPerIP, 3},
		{"connections", defaultMaxPeers, 80},
		{"dials at once, of 50 at most", defaultHalfOpen, 30},
		{"an address that refuses rests for", firstPause, 60 * time.Second},
		{"and in the end for", mostPause, 30 * time.Minute},
		{"without a network an address rests at most", mostLocalPause, 60 * time.Second},
		{"addresses kept", maxKnown, 2000},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
