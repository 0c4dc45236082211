package core

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A pipe plays a core against peers that answer after a delay, and counts what goes over the wire.
type pipe struct {
	t      *testing.T
	c      *Core
	now    time.Duration // since epoch
	todo   agenda
	seq    int
	up     flow
	down   flow
	peers  map[LinkID]*far
	taken  int                      // requests that we took back
	choose func(*far) time.Duration // how long a peer takes to answer
}

// A far is the other end of a link.
type far struct {
	id       LinkID
	asks     int // requests it keeps outstanding
	up, down int // bytes of blocks that it has been sent, and has sent
	next     uint32
}

// A flow is bytes over time.
type flow struct {
	at []time.Duration
	n  []int
}

func (f *flow) add(at time.Duration, n int) { f.at, f.n = append(f.at, at), append(f.n, n) }

// most and least are the extremes of the bytes in any span of that length that begins and ends between two times.
func (f *flow) extremes(span, from, to time.Duration) (least, most int) {
	least = math.MaxInt
	first, last, sum := 0, 0, 0
	for s := from; s+span <= to; s += span / 50 {
		for last < len(f.at) && f.at[last] < s+span {
			sum += f.n[last]
			last++
		}
		for first < last && f.at[first] < s {
			sum -= f.n[first]
			first++
		}
		least, most = min(least, sum), max(most, sum)
	}
	return least, most
}

type deed struct {
	at  time.Duration
	seq int
	do  func()
}

type agenda []deed

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(deed)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// newPipe is a core that has everything, or nothing, of a large torrent.
func newPipe(t *testing.T, cfg Config, complete bool) *pipe {
	cfg.Layout = layoutOf(t, 4<<30, mib)
	if complete {
		cfg.Have = full(cfg.Layout)
	}
	cfg.Seed.Forever = true
	cfg.SuperSeed = SuperNever // every peer asks for what it likes
	cfg.Rand = rand.New(rand.NewPCG(1, 2))
	copy(cfg.PeerID[:], "-BN0000-mmmmmmmmmmmm")
	return &pipe{t: t, c: New(epoch, cfg), peers: map[LinkID]*far{}}
}

func (p *pipe) after(d time.Duration, do func()) {
	p.seq++
	heap.Push(&p.todo, deed{p.now + d, p.seq, do})
}

// run plays until a time.
func (p *pipe) run(until time.Duration) {
	for {
		next := p.c.Next()
		tick := next.Sub(epoch)
		switch {
		case len(p.todo) > 0 && p.todo[0].at <= until && (next.IsZero() || p.todo[0].at <= tick):
			d := heap.Pop(&p.todo).(deed)
			p.now = max(p.now, d.at)
			d.do()
		case !next.IsZero() && tick <= until:
			p.now = max(p.now, tick)
			p.handle(Event{Op: Tick})
		default:
			p.now = until
			return
		}
	}
}

// join adds a peer. It has everything that we lack.
func (p *pipe) join(id LinkID, asks int) *far {
	f := &far{id: id, asks: asks}
	p.peers[id] = f
	r := remote(id)
	r.Fast = true
	p.up.add(p.now, wire.HandshakeLen)
	p.down.add(p.now, wire.HandshakeLen)
	p.handle(Event{Op: Joined, Link: id, Remote: r})
	if asks == 0 {
		p.say(f, wire.Message{ID: wire.HaveAll})
		p.say(f, wire.Message{ID: wire.Unchoke})
	} else {
		p.say(f, wire.Message{ID: wire.HaveNone})
		p.say(f, wire.Message{ID: wire.Interested})
	}
	return f
}

// say delivers a message from a peer.
func (p *pipe) say(f *far, m wire.Message) {
	p.down.add(p.now, m.Len())
	op := Message
	if m.ID == wire.Piece {
		op = BlockIn
		f.down += int(m.Length)
	}
	p.handle(Event{Op: op, Link: f.id, Msg: m})
}

// ask lets a peer keep its requests outstanding.
func (p *pipe) ask(f *far) {
	f.next++
	p.say(f, wire.Message{ID: wire.Request, Index: f.next / 64, Begin: f.next % 64 * piece.BlockSize, Length: piece.BlockSize})
}

func (p *pipe) handle(ev Event) {
	for _, e := range p.c.Handle(epoch.Add(p.now), ev) {
		f := p.peers[e.Link]
		switch e.Op {
		case Send:
			p.up.add(p.now, e.Msg.Len())
			p.answer(f, e.Msg)
		case ReadBlock:
			p.up.add(p.now, wire.PieceHeadLen+int(e.Block.Length))
			f.up += int(e.Block.Length)
			p.after(time.Millisecond, func() {
				p.handle(Event{Op: Sent, Link: f.id, N: int(e.Block.Length)})
				if f.asks > 0 {
					p.ask(f)
				}
			})
		case Drop:
			p.t.Fatalf("peer %d is dropped: %v", e.Link, e.Err)
		}
	}
}

// answer is what a peer does about a message.
func (p *pipe) answer(f *far, m wire.Message) {
	switch m.ID {
	case wire.Unchoke:
		for range f.asks {
			p.after(0, func() { p.ask(f) })
		}
	case wire.Cancel:
		p.taken++
	case wire.Request:
		d := p.choose(f)
		p.after(d, func() {
			m.ID = wire.Piece
			p.say(f, m)
		})
	}
}

// holds checks that a flow keeps to a rate: within 2 % or a block over any ten seconds after the first two, never
// more than a burst and a little above it, and not at the start either.
func (p *pipe) holds(f *flow, rate int64) {
	p.t.Helper()
	const span = 10 * time.Second
	want := float64(rate) * span.Seconds()
	slack := max(0.02*want, piece.BlockSize+1000)
	least, most := f.extremes(span, 2*time.Second, p.now)
	p.t.Logf("%d B/s: %.1f %% to %.1f %% over ten seconds", rate, 100*float64(least)/want, 100*float64(most)/want)
	if float64(least) < want-slack || float64(most) > want+slack {
		p.t.Errorf("%d to %d bytes in ten seconds, want %.0f", least, most, want)
	}
	for _, short := range []time.Duration{100 * time.Millisecond, time.Second} {
		_, most := f.extremes(short, 0, p.now)
		if allowed := float64(rate)*(short+limitBurst+50*time.Millisecond).Seconds() + 2*piece.BlockSize + 4000; float64(most) > allowed {
			p.t.Errorf("%d bytes within %v, want %.0f at most", most, short, allowed)
		}
	}
}

// TestAnyLimitWillDo: the largest that can be given does not overflow.
func TestAnyLimitWillDo(t *testing.T) {
	p := newPipe(t, Config{Peering: Peering{MaxDownload: math.MaxInt64, MaxUpload: math.MaxInt64}}, false)
	p.choose = func(*far) time.Duration { return 10 * time.Millisecond }
	f := p.join(1, 0)
	p.run(time.Second)
	if f.down < mib {
		t.Errorf("%d bytes in a second", f.down)
	}
}

var limitedRates = []int64{5 * kib, 100 * kib, mib, 100 * mib}

func TestUploadKeepsToItsLimit(t *testing.T) {
	for _, limit := range limitedRates {
		for _, n := range []int{1, 2, 5, 20} {
			t.Run(fmt.Sprintf("%d KiB/s to %d", limit/kib, n), func(t *testing.T) {
				p := newPipe(t, Config{Peering: Peering{MaxUpload: limit}, Slots: n}, true)
				for id := range n {
					p.join(LinkID(id+1), []int{200, 8, 30}[id%3])
				}
				p.run(13 * time.Second)
				p.holds(&p.up, limit)
				p.even(p.c.turns.length, func(f *far) int { return f.up })
			})
		}
	}
}

// even checks that no peer has been given more than the others by more than slack, and two blocks or 2 %.
func (p *pipe) even(slack int, of func(*far) int) {
	p.t.Helper()
	least, most := math.MaxInt, 0
	for _, f := range p.peers {
		least, most = min(least, of(f)), max(most, of(f))
	}
	if most-least > slack+2*piece.BlockSize && float64(most) > 1.02*float64(least) {
		p.t.Errorf("one peer has %d bytes and another %d", most, least)
	}
}

func TestDownloadKeepsToItsLimit(t *testing.T) {
	for _, limit := range limitedRates {
		for _, n := range []int{1, 2, 5, 20} {
			t.Run(fmt.Sprintf("%d KiB/s from %d", limit/kib, n), func(t *testing.T) {
				p := newPipe(t, Config{Peering: Peering{MaxDownload: limit}}, false)
				p.choose = func(f *far) time.Duration { return time.Duration(f.id%5) * 30 * time.Millisecond }
				for id := range n {
					p.join(LinkID(id+1), 0)
				}
				until := 40 * time.Second // longer than it takes to be snubbed
				if limit > 10*mib {
					until = 13 * time.Second
				}
				p.run(2 * time.Second) // by then windows are wide
				for _, f := range p.peers {
					f.down = 0
				}
				p.run(until)
				p.holds(&p.down, limit)
				p.even(0, func(f *far) int { return f.down })
				if p.taken > 0 {
					t.Errorf("%d requests were taken back", p.taken)
				}
			})
		}
	}
}

// TestRequestsWaitForNoLimit: who may upload only little downloads as fast as the line is, although the requests alone
// are more than the limit. That does not keep it from uploading later.
func TestRequestsWaitForNoLimit(t *testing.T) {
	p := newPipe(t, Config{Peering: Peering{MaxUpload: 5 * kib}}, false)
	p.choose = func(*far) time.Duration { return 100 * time.Millisecond }
	f := p.join(1, 0)
	p.run(10 * time.Second)
	if f.down < 100*mib {
		t.Errorf("%d bytes in ten seconds from a fast peer", f.down)
	}
	up := &p.c.limits.up
	if wait := up.Ready(epoch.Add(p.now)).Sub(epoch.Add(p.now)); wait < mostDebt-time.Second || wait > mostDebt+time.Second {
		t.Errorf("a block would wait %v, want %v", wait, mostDebt)
	}
}

func TestMessagesWaitForNoLimit(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Peering: Peering{MaxUpload: 5 * kib}})
	rem := remote(1)
	rem.Fast = true
	r.handle(Event{Op: Joined, Link: 1, Remote: rem})
	r.say(1, wire.Interested)
	r.want("nothing was sent yet, but for a handshake", "1:have all, completed, 3x 1:suggest piece, 1:unchoke")
	r.msg(1, request(0, 0))
	r.msg(1, request(0, 1))
	r.want("the bucket is in debt", "1:suggest piece")
	r.tick(time.Second)
	r.want("one block passes", "1:read")
	r.msg(1, request(0, 1))
	r.want("asked for twice, and told at once", "1:reject request")
	r.handle(Event{Op: Joined, Link: 2, Remote: remote(2)})
	r.say(2, wire.Interested)
	r.want("another one comes, and hears of us at once", "2:bitfield, 2:unchoke")
	r.tick(2 * time.Second)
	r.want("the first is not paid yet", "")
	r.tick(time.Second)
	r.want("now it is", "1:read")
}

// TestWhatIsGivenUpIsGivenBack: what a peer will not send, another is asked for at once.
func TestWhatIsGivenUpIsGivenBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*rig, piece.Block)
	}{
		{"it leaves", func(r *rig, _ piece.Block) { r.handle(Event{Op: Left, Link: 1}) }},
		{"it chokes", func(r *rig, _ piece.Block) { r.say(1, wire.Choke) }},
		{"it rejects", func(r *rig, b piece.Block) {
			r.msg(1, wire.Message{ID: wire.Reject, Index: b.Piece, Begin: b.Begin, Length: b.Length})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{Peering: Peering{MaxDownload: 8 * kib}})
			r.seed(1)
			r.tick(time.Second)
			asks := r.takeAsks()
			if len(asks) != 1 {
				t.Fatalf("asked for %d blocks, want one", len(asks))
			}
			r.seed(2)
			r.tick(200 * time.Millisecond) // for what has been said
			r.forget()
			tt.do(r, asks[0])
			r.tick(100 * time.Millisecond)
			if got := r.takeAsks(); len(got) != 1 || !r.has("2:request") {
				t.Errorf("did %v, want one request to the other peer", r.got)
			}
		})
	}
}

// TestALateBlockIsCharged: what was given back and comes all the same makes the next one wait.
func TestALateBlockIsCharged(t *testing.T) {
	r := newRig(t, Config{Peering: Peering{MaxDownload: 8 * kib}})
	r.seed(1)
	r.tick(time.Second)
	b := r.takeAsks()[0]
	wait := func() time.Duration { return r.c.limits.down.Ready(r.now).Sub(r.now) }
	before := wait()
	r.say(1, wire.Choke) // without the fast extension it takes the request away
	if d := wait(); d > time.Millisecond {
		t.Errorf("%v in debt after it was given back", d)
	}
	r.block(1, b)
	if d := wait() - before; d < -5*time.Millisecond || d > 5*time.Millisecond {
		t.Errorf("%v more in debt than if it had come in time", d)
	}
}

func TestNothingIsUploadedWhenThatIsOff(t *testing.T) {
	l := layoutOf(t, 16*mib, mib)
	r := newRig(t, Config{
		Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Info: []byte("de"),
		Peering: Peering{MaxUpload: NoUpload, Ext: wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 1}}},
	})
	rem := remote(1)
	rem.Fast, rem.Ext = true, true
	r.handle(Event{Op: Joined, Link: 1, Remote: rem})
	var said wire.ExtHandshake
	for _, e := range r.c.out {
		if e.Op == Send && e.Msg.ID == wire.Extended {
			if err := said.Update(e.Msg.Payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if said.M.UtMetadata != 0 || said.MetadataSize != 0 {
		t.Errorf("offers metadata: %+v", said)
	}
	r.forget()
	r.say(1, wire.Interested)
	r.tick(time.Minute)
	r.want("no unchoke", "")
	r.msg(1, request(0, 0))
	r.want("every request is answered (BEP 6)", "1:reject request")
	if got := r.c.uploadCapacity(); got != 0 {
		t.Errorf("%v bytes/s of capacity", got)
	}
}

// TestTheMetadataCounts: what was received to get it is a debt of the download that follows.
func TestTheMetadataCounts(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	p := Peering{MaxDownload: 8 * kib, Rand: rand.New(rand.NewPCG(1, 2))}
	f := NewFetch(epoch, FetchConfig{Peering: p})
	f.Handle(epoch, Event{Op: Joined, Link: 1, Remote: remote(1)})
	f.Handle(epoch, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, ExtID: 1, Payload: make([]byte, 24*kib)}})
	c, _ := f.Proceed(epoch, Config{Peering: p, Layout: l})
	if d := c.limits.down.Ready(epoch).Sub(epoch); d < 3*time.Second || d > 3300*time.Millisecond {
		t.Errorf("the first block waits %v, want three seconds", d)
	}
}

// What was handed out to a peer that leaves before it went out is no load on the limit.
func TestWhoAsksAndLeavesCostsNothing(t *testing.T) {
	l := layoutOf(t, 2*mib, mib)
	r := newRig(t, Config{Layout: l, Have: full(l), Seed: Seeding{Forever: true}, Peering: Peering{MaxUpload: 20 * kib}})
	r.tick(time.Second)
	r.join(1)
	r.say(1, wire.Interested)
	r.msg(1, request(0, 0))
	if !r.has("1:read") || r.c.limits.up.Open(r.now) {
		t.Fatalf("nothing was handed out: %v", r.got)
	}
	r.handle(Event{Op: Left, Link: 1})
	if wait := r.c.limits.up.Ready(r.now).Sub(r.now); wait > 10*time.Millisecond { // for the messages
		t.Errorf("others wait %v for a block", wait)
	}
}

// The metadata comes no faster than the limit, and no slower.
func TestTheMetadataKeepsToTheLimit(t *testing.T) {
	for _, limit := range []int64{8 * kib, 100 * kib, mib} {
		const size = 2 * mib
		f := NewFetch(epoch, FetchConfig{Peering: Peering{
			MaxDownload: limit, Rand: rand.New(rand.NewPCG(1, 2)), Ext: wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 1}},
		}})
		now := epoch
		var asked []int
		do := func(ev Event) {
			for _, e := range f.Handle(now, ev) {
				if e.Op == Send && e.Msg.ID == wire.Extended && e.Msg.ExtID == 3 {
					m, err := wire.ParseMetadata(e.Msg.Payload)
					if err != nil {
						t.Fatal(err)
					}
					asked = append(asked, m.Piece)
				}
			}
		}
		do(Event{Op: Joined, Link: 1, Remote: fast(1)})
		do(Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil,
			wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: size})}})
		got, end := 0, epoch.Add(10*time.Second)
		for limit*10 < size && now.Before(end) || limit*10 >= size && got < size {
			if len(asked) == 0 {
				now = f.Next()
				do(Event{Op: Tick})
				continue
			}
			i := asked[0]
			asked = asked[1:]
			got += metadataPiece
			m := wire.AppendMetadata(nil, wire.Metadata{Type: wire.MetadataData, Piece: i, TotalSize: size, Data: make([]byte, metadataPiece)})
			do(Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, ExtID: 1, Payload: m}})
		}
		took := now.Sub(epoch)
		if lets := float64(limit) * (took + limitBurst).Seconds(); float64(got) > lets+metadataPiece || float64(got) < 0.9*lets-metadataPiece {
			t.Errorf("%d bytes in %v with a limit of %d a second", got, took, limit)
		}
	}
}

// What we do not understand counts as well.
func TestUnknownMessagesCount(t *testing.T) {
	p := newPipe(t, Config{Peering: Peering{MaxDownload: 8 * kib}}, false)
	p.join(1, 1)
	before := p.c.limits.down.Ready(epoch)
	p.handle(Event{Op: Idle, Link: 1, N: 1, Bytes: 24 * kib})
	if d := p.c.limits.down.Ready(epoch).Sub(before); d < 2900*time.Millisecond || d > 3100*time.Millisecond {
		t.Errorf("blocks wait %v for it, want three seconds", d)
	}
	p.handle(Event{Op: Idle, Link: 1, N: 1, Bytes: mib})
	if d := p.c.limits.down.Ready(epoch).Sub(epoch); d > mostDebt+time.Second {
		t.Errorf("blocks wait %v for very much of it, want %v at most", d, mostDebt)
	}
}

// Blocks that nobody asked for hold up what others are asked for no longer than messages may.
func TestUnaskedBlocksAreABoundedDebt(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 256*mib, 256*kib), Peering: Peering{MaxDownload: 100 * kib}})
	r.seed(1)
	r.tick(5 * time.Second)
	for n := LinkID(10); n < 60; n++ {
		r.join(n)
		for i := 0; r.c.byID[n] != nil; i++ {
			r.block(n, r.c.cfg.Layout.BlockAt(500+i/16, i%16))
		}
		r.block(n, r.c.cfg.Layout.BlockAt(500, 0)) // which came when it was gone
		r.tick(100 * time.Millisecond)
	}
	if wait := r.c.limits.down.Ready(r.now).Sub(r.now); wait > mostDebt+time.Second {
		t.Errorf("nobody is asked for anything for %v, want %v at most", wait, mostDebt)
	}
}

func TestUploadCapacity(t *testing.T) {
	limited := newPipe(t, Config{Peering: Peering{MaxUpload: 100 * kib}}, true)
	if got := limited.c.uploadCapacity(); got != 100*kib {
		t.Errorf("%v with a limit, want the limit", got)
	}
	p := newPipe(t, Config{}, true)
	p.join(1, 2) // of 16 KiB a millisecond: 32 MiB/s
	if got := p.c.uploadCapacity(); got != 0 {
		t.Errorf("%v before anything was sent", got)
	}
	p.run(20 * time.Second)
	if got := p.c.uploadCapacity(); got < 30*mib || got > 34*mib {
		t.Errorf("measured %v, want 32 MiB/s", got)
	}
	p.peers[1].asks = 0
	p.run(2 * time.Minute)
	if got := p.c.uploadCapacity(); got < 12*mib || got > 24*mib {
		t.Errorf("%v after minutes of silence, want about half", got)
	}
}

func BenchmarkLimitedUpload(b *testing.B) {
	r := newRig(&testing.T{}, Config{Layout: layoutOf(b, 16*mib, mib), Have: full(layoutOf(b, 16*mib, mib)), Seed: Seeding{Forever: true},
		Peering: Peering{MaxUpload: 1 << 40}})
	r.join(1)
	r.say(1, wire.Interested)
	ask, sent := Event{Op: Message, Link: 1, Msg: request(0, 0)}, Event{Op: Sent, Link: 1, N: piece.BlockSize}
	b.ReportAllocs()
	for b.Loop() {
		r.now = r.now.Add(time.Microsecond)
		r.c.Handle(r.now, ask)
		r.c.Handle(r.now, sent)
	}
}
