package core

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A fetchRig drives one Fetch by hand, as a rig does a Core, and plays its peers: each answers requests for
// metadata after its delay, in its own way.
type fetchRig struct {
	t     *testing.T
	f     *Fetch
	now   time.Time
	info  []byte
	peers map[LinkID]*holder
	mail  []letter // under way to the Fetch, in order of time
	got   []string
	found []byte // the metadata, once resolved
	last  []byte // the copy that was checked last
	asked int
	end   Outcome
}

// A holder is a peer that says it has the metadata.
type holder struct {
	size   int64 // that it names; 0 means the true one
	delay  time.Duration
	answer func(i int) (wire.Metadata, bool) // nil means the truth
	served int
	gone   bool
}

type letter struct {
	at   time.Time
	from LinkID
	msg  wire.Metadata
}

func newFetchRig(t *testing.T, size int, cfg FetchConfig) *fetchRig {
	t.Helper()
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(1, 2))
	}
	copy(cfg.PeerID[:], "-BN0000-mmmmmmmmmmmm")
	cfg.Ext.M.UtMetadata = 7
	r := &fetchRig{t: t, now: epoch, peers: map[LinkID]*holder{}, info: make([]byte, size)}
	for i := range r.info {
		r.info[i] = byte(i * i >> 7)
	}
	r.f = NewFetch(r.now, cfg)
	return r
}

// piece is piece i of the metadata.
func (r *fetchRig) piece(i int) []byte {
	return r.info[i*wire.MetadataPiece : min(len(r.info), (i+1)*wire.MetadataPiece)]
}

func (r *fetchRig) handle(ev Event) {
	for _, e := range slices.Clone(r.f.Handle(r.now, ev)) {
		r.got = append(r.got, r.word(e))
		switch e.Op {
		case Send:
			r.deliver(e)
		case Drop:
			if p := r.peers[e.Link]; p != nil {
				p.gone = true
			}
		case Check:
			r.last = bytes.Join(e.Parts, nil)
			var sums [][20]byte
			for _, p := range e.Parts {
				sums = append(sums, sha1.Sum(p))
			}
			r.handle(Event{Op: Checked, Piece: e.Number, OK: bytes.Equal(r.last, r.info), Sums: sums})
		case Resolved:
			r.found = r.last
		case Done:
			r.end = e.Outcome
		}
	}
}

// deliver lets a peer answer a request for metadata.
func (r *fetchRig) deliver(e Effect) {
	p := r.peers[e.Link]
	if p == nil || e.Msg.ID != wire.Extended || e.Msg.ExtID != 3 {
		return
	}
	m, err := wire.ParseMetadata(e.Msg.Payload)
	if err != nil {
		r.t.Fatal(err)
	}
	if m.Type != wire.MetadataRequest {
		return
	}
	r.asked++
	answer, ok := wire.Metadata{Type: wire.MetadataData, Piece: m.Piece, TotalSize: int64(len(r.info))}, true
	if p.answer != nil {
		answer, ok = p.answer(m.Piece)
	} else {
		answer.Data = r.piece(m.Piece)
	}
	if ok {
		p.served++
		r.mail = append(r.mail, letter{r.now.Add(p.delay), e.Link, answer})
		slices.SortStableFunc(r.mail, func(a, b letter) int { return a.at.Compare(b.at) })
	}
}

// word names an effect; a request for metadata is "1:ask 0".
func (r *fetchRig) word(e Effect) string {
	switch {
	case e.Op == Check:
		return "check"
	case e.Op == Resolved:
		return "resolved"
	case e.Op == Send && e.Msg.ID == wire.Extended && e.Msg.ExtID == 3:
		if m, err := wire.ParseMetadata(e.Msg.Payload); err == nil {
			return fmt.Sprintf("%d:%s %d", e.Link, [...]string{"ask", "data", "reject"}[m.Type], m.Piece)
		}
	}
	return word(e)
}

func (r *fetchRig) want(why, words string) {
	r.t.Helper()
	got := squeeze(r.got)
	r.got = nil
	if got != words {
		r.t.Errorf("%s:\n got %s\nwant %s", why, got, words)
	}
}

// join connects a peer that has the metadata.
func (r *fetchRig) join(id LinkID, p *holder) {
	r.peers[id] = p
	r.handle(Event{Op: Joined, Link: id, Remote: fast(id)})
	size := p.size
	if size == 0 {
		size = int64(len(r.info))
	}
	r.ext(id, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: size})
}

func (r *fetchRig) ext(id LinkID, h wire.ExtHandshake) {
	r.msg(id, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, h)})
}

func (r *fetchRig) msg(id LinkID, m wire.Message) { r.handle(Event{Op: Message, Link: id, Msg: m}) }

// metadata delivers a message of BEP 9.
func (r *fetchRig) metadata(id LinkID, m wire.Metadata) {
	r.msg(id, wire.Message{ID: wire.Extended, ExtID: 7, Payload: wire.AppendMetadata(nil, m)})
}

// run lets time pass until the metadata is there, the Fetch has ended, or so long.
func (r *fetchRig) run(d time.Duration) {
	end := r.now.Add(d)
	for r.found == nil && r.end == Running {
		next := r.f.Next()
		if len(r.mail) > 0 && (next.IsZero() || r.mail[0].at.Before(next)) {
			m := r.mail[0]
			if m.at.After(end) {
				break
			}
			r.now, r.mail = later(r.now, m.at), r.mail[1:]
			r.metadata(m.from, m.msg)
			continue
		}
		if next.IsZero() || next.After(end) {
			break
		}
		r.now = later(r.now, next)
		r.handle(Event{Op: Tick})
		if again := r.f.Next(); again.Equal(next) {
			r.t.Fatalf("tick at %v did nothing about what was due", next.Sub(epoch))
		}
	}
	if r.found == nil && r.end == Running {
		r.now = end
	}
}

// junk answers with bytes that are not the torrent's.
func (r *fetchRig) junk(pieces ...int) func(int) (wire.Metadata, bool) {
	return func(i int) (wire.Metadata, bool) {
		data := bytes.Clone(r.piece(i))
		if len(pieces) == 0 || slices.Contains(pieces, i) {
			data[0] ^= 1
		}
		return wire.Metadata{Type: wire.MetadataData, Piece: i, Data: data}, true
	}
}

// junkOf is junk for a claimed size.
func junkOf(size int64) func(int) (wire.Metadata, bool) {
	return func(i int) (wire.Metadata, bool) {
		n := min(wire.MetadataPiece, size-int64(i)*wire.MetadataPiece)
		return wire.Metadata{Type: wire.MetadataData, Piece: i, Data: make([]byte, n)}, true
	}
}

func silent(int) (wire.Metadata, bool) { return wire.Metadata{}, false }

func refusing(i int) (wire.Metadata, bool) {
	return wire.Metadata{Type: wire.MetadataReject, Piece: i}, true
}

// banned returns the peers whose address is banned.
func (r *fetchRig) banned() (ids []LinkID) {
	for id := range r.peers {
		if r.f.dialing.bannedIPs[addr(int(id)).Addr()] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestFetchFromOne(t *testing.T) {
	r := newFetchRig(t, 2*wire.MetadataPiece+5, FetchConfig{})
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	r.want("we greet without having anything", "1:have none, 1:extended")
	r.peers[1] = &holder{delay: 50 * time.Millisecond}
	r.ext(1, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: int64(len(r.info))})
	r.want("a peer that has it is asked for all of it", "1:ask 0, 1:ask 1, 1:ask 2")
	if s := r.f.Snapshot(r.now); !s.Fetching || s.Peers != 1 || s.Asked != 1 || s.Left == 0 {
		t.Errorf("snapshot %+v", s)
	}
	r.run(time.Second)
	r.want("and it is checked", "check, resolved")
	if !bytes.Equal(r.found, r.info) {
		t.Error("another dictionary")
	}
	if took := r.now.Sub(epoch); took != 50*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestFetchFromManyAtOnce(t *testing.T) {
	r := newFetchRig(t, 64*wire.MetadataPiece, FetchConfig{})
	for id := range LinkID(8) {
		r.join(id+1, &holder{delay: 100 * time.Millisecond})
	}
	r.run(time.Minute)
	if r.found == nil {
		t.Fatal("not found")
	}
	for id, p := range r.peers {
		if p.served == 0 {
			t.Errorf("peer %d was not asked", id)
		}
	}
	if r.asked > 64 {
		t.Errorf("%d requests for 64 pieces", r.asked)
	}
	if took := r.now.Sub(epoch); took > 400*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// TestFetchWithstands: however the others behave, the metadata of the honest peers arrives, no honest peer is
// banned, and provable liars are.
func TestFetchWithstands(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		pieces int
		peers  func(r *fetchRig) []*holder // 0 is peer 1
		within time.Duration
		banned []LinkID
	}{
		{"impossible sizes", 3, func(r *fetchRig) []*holder {
			return []*holder{{size: 2 << 30, answer: silent}, {size: MaxMetadata + 1, answer: silent}, {delay: 50 * ms}}
		}, time.Second, nil},
		{"a liar alone", 3, func(r *fetchRig) []*holder {
			return []*holder{{delay: ms, answer: r.junk()}, {delay: 3000 * ms}}
		}, 4 * time.Second, []LinkID{1}},
		{"one wrong piece of many", 40, func(r *fetchRig) []*holder {
			return []*holder{{delay: 50 * ms}, {delay: 20 * ms, answer: r.junk(1, 2, 17, 18)}, {delay: 50 * ms}, {delay: 50 * ms}}
		}, 5 * time.Second, []LinkID{2}},
		{"silent ones", 10, func(r *fetchRig) []*holder {
			ps := make([]*holder, 30)
			for i := range ps {
				ps[i] = &holder{answer: silent}
			}
			return append(ps, &holder{delay: 100 * ms})
		}, 10 * time.Second, nil},
		{"some that have nothing yet", 10, func(r *fetchRig) []*holder {
			return []*holder{{delay: 10 * ms, answer: refusing}, {delay: 10 * ms, answer: refusing}, {delay: 100 * ms}}
		}, 2 * time.Second, nil},
		{"a size of their own each, silent", 10, func(r *fetchRig) []*holder {
			ps := make([]*holder, 10)
			for i := range ps {
				ps[i] = &holder{size: int64(1000 * (i + 1)), answer: silent}
			}
			return append(ps, &holder{delay: 100 * ms})
		}, 60 * time.Second, nil},
		{"a size of their own each, junk", 10, func(r *fetchRig) []*holder {
			ps := make([]*holder, 20)
			for i := range ps {
				size := int64(100_000 * (i + 1))
				ps[i] = &holder{size: size, delay: 10 * ms, answer: junkOf(size)}
			}
			return append(ps, &holder{delay: 100 * ms})
		}, 20 * time.Second, []LinkID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
		{"large and slow", 10, func(r *fetchRig) []*holder {
			n := time.Duration(0)
			drip := func(i int) (wire.Metadata, bool) { // every answer five seconds after the last
				n++
				return wire.Metadata{Type: wire.MetadataData, Piece: i, Data: make([]byte, wire.MetadataPiece)}, n%4 == 0
			}
			return []*holder{
				{size: MaxMetadata, delay: 5 * time.Second, answer: drip}, {size: MaxMetadata - 1, delay: 5 * time.Second, answer: drip},
				{size: MaxMetadata / 2, delay: 5 * time.Second, answer: drip}, {delay: 100 * ms},
			}
		}, 60 * time.Second, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newFetchRig(t, tt.pieces*wire.MetadataPiece-100, FetchConfig{})
			for i, p := range tt.peers(r) {
				r.join(LinkID(i+1), p)
			}
			r.run(2 * time.Minute)
			if !bytes.Equal(r.found, r.info) {
				t.Fatalf("not found; end %v", r.end)
			}
			if took := r.now.Sub(epoch); took > tt.within {
				t.Errorf("took %v, want at most %v", took, tt.within)
			}
			for _, id := range r.banned() {
				if !slices.Contains(tt.banned, id) {
					t.Errorf("peer %d is banned", id)
				}
			}
			if tt.name != "a size of their own each, junk" && !slices.Equal(r.banned(), tt.banned) {
				t.Errorf("banned %v, want %v", r.banned(), tt.banned)
			}
		})
	}
}

// TestFetchNamesEveryLiar: with liars that each spoil another piece of the shared copy, all of them are named by the
// first good one.
func TestFetchNamesEveryLiar(t *testing.T) {
	r := newFetchRig(t, 32*wire.MetadataPiece, FetchConfig{})
	for id := range LinkID(8) {
		p := &holder{delay: 100 * time.Millisecond}
		if id < 3 {
			p.answer = r.junk()
		}
		r.join(id+1, p)
	}
	r.run(time.Minute)
	if r.found == nil || !slices.Equal(r.banned(), []LinkID{1, 2, 3}) {
		t.Errorf("found %v, banned %v", r.found != nil, r.banned())
	}
}

// TestFetchFickle: peers that name another size again and again do not keep the others from their turn.
func TestFetchFickle(t *testing.T) {
	r := newFetchRig(t, 40*wire.MetadataPiece, FetchConfig{})
	fickle := func(id LinkID, n int) {
		r.ext(id, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: int64(n)})
	}
	r.join(1, &holder{size: 1 << 20, delay: time.Second, answer: junkOf(1 << 20)})
	r.join(2, &holder{size: 2 << 20, delay: time.Second, answer: junkOf(2 << 20)})
	r.join(3, &holder{delay: 100 * time.Millisecond})
	for n := 1; n < 60 && r.found == nil; n++ {
		r.run(2 * time.Second)
		fickle(1, 1<<20+n)
		fickle(2, 2<<20+n)
	}
	if took := r.now.Sub(epoch); r.found == nil || took > 10*time.Second {
		t.Errorf("found %v after %v", r.found != nil, took)
	}
}

// TestFetchBoundsWhatItHolds: two copies, and no more bytes of them than one dictionary may have.
func TestFetchBoundsWhatItHolds(t *testing.T) {
	r := newFetchRig(t, 10, FetchConfig{})
	for i := range 20 {
		r.join(LinkID(i+1), &holder{size: 20<<20 + int64(i), answer: silent})
	}
	n := 0
	for _, c := range r.f.copies {
		if c != nil {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d copies of 20 MiB", n)
	}
	for i := range 20 {
		r.join(LinkID(i+21), &holder{size: 1000 + int64(i), answer: silent})
	}
	if r.f.copies[0] == nil || r.f.copies[1] == nil {
		t.Error("no second copy, though there is room")
	}
}

// TestFetchAsksAgain: a piece that does not come is asked of another peer, but only of so many.
func TestFetchAsksAgain(t *testing.T) {
	r := newFetchRig(t, 100, FetchConfig{})
	for id := range LinkID(6) {
		r.join(id+1, &holder{answer: silent})
	}
	r.got = nil
	r.run(900 * time.Millisecond)
	r.want("not at once", "")
	r.run(600 * time.Millisecond)
	r.want("but after a second", "2:ask 0")
	r.run(4 * time.Second)
	r.want("and then", "3:ask 0, 4:ask 0")
	r.run(time.Second)
	r.want("until the first has been silent for too long", "5:ask 0")
}

func TestFetchMisdeeds(t *testing.T) {
	long := wire.Metadata{Type: wire.MetadataData, Data: make([]byte, 101)}
	for _, tt := range []struct {
		name string
		do   func(r *fetchRig)
		want string // a part of the reason; "" means it stays
	}{
		{"wrong length", func(r *fetchRig) { r.metadata(1, long) }, "another size"},
		{"wrong total", func(r *fetchRig) {
			r.metadata(1, wire.Metadata{Type: wire.MetadataData, TotalSize: 99, Data: r.piece(0)})
		}, "another size"},
		{"no dictionary", func(r *fetchRig) { r.msg(1, wire.Message{ID: wire.Extended, ExtID: 7, Payload: []byte("x")}) }, "not a metadata message"},
		{"unknown type", func(r *fetchRig) {
			r.msg(1, wire.Message{ID: wire.Extended, ExtID: 7, Payload: []byte("d8:msg_typei9ee")})
		}, ""},
		{"a stray answer", func(r *fetchRig) { r.metadata(1, wire.Metadata{Type: wire.MetadataData, Piece: 5, Data: r.piece(0)}) }, ""},
		{"many stray answers", func(r *fetchRig) {
			for range mostPatience/costUnasked + 1 {
				r.metadata(1, wire.Metadata{Type: wire.MetadataData, Piece: 5, Data: r.piece(0)})
			}
		}, "nobody asked for"},
		{"asking us", func(r *fetchRig) { r.metadata(1, wire.Metadata{Type: wire.MetadataRequest}) }, ""},
		{"asking us for ever", func(r *fetchRig) {
			for range mostPatience/costRefused + 1 {
				r.metadata(1, wire.Metadata{Type: wire.MetadataRequest})
			}
		}, "goes on asking"},
		{"a block", func(r *fetchRig) { r.handle(Event{Op: BlockIn, Link: 1, Msg: wire.Message{ID: wire.Piece}}) }, "nobody asked for"},
		{"requests", func(r *fetchRig) {
			for range mostPatience/costRefused + 1 {
				r.msg(1, wire.Message{ID: wire.Request, Length: 1})
			}
		}, "goes on asking"},
		{"choking and unchoking", func(r *fetchRig) {
			for range mostPatience / costWavering {
				r.msg(1, wire.Message{ID: wire.Unchoke})
				r.msg(1, wire.Message{ID: wire.Choke})
			}
		}, "of no use"},
		{"more haves than there can be use for", func(r *fetchRig) {
			for range maxEarlyHaves + mostPatience + 1 {
				r.msg(1, wire.Message{ID: wire.Have})
			}
		}, "of no use"},
		{"the same bitfield", func(r *fetchRig) {
			for range mostPatience/costExtended + 2 {
				r.msg(1, wire.Message{ID: wire.Bitfield, Payload: []byte{1}})
			}
		}, "of no use"},
		{"keep-alives", func(r *fetchRig) { r.handle(Event{Op: Idle, Link: 1, N: 5}) }, ""},
		{"a flood of keep-alives", func(r *fetchRig) {
			r.handle(Event{Op: Idle, Link: 1, N: 100_000})
			r.handle(Event{Op: Idle, Link: 1, N: 1})
		}, "of no use"},
		{"have none late", func(r *fetchRig) {
			r.msg(1, wire.Message{ID: wire.Unchoke})
			r.msg(1, wire.Message{ID: wire.HaveNone})
		}, "late or twice"},
		{"a broken extension handshake", func(r *fetchRig) { r.msg(1, wire.Message{ID: wire.Extended, Payload: []byte("le")}) }, "no dictionary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newFetchRig(t, 100, FetchConfig{})
			r.join(1, &holder{answer: silent})
			tt.do(r)
			dropped := ""
			for _, w := range r.got {
				if strings.HasPrefix(w, "1:drop") {
					dropped = w
				}
			}
			if tt.want == "" && dropped != "" || tt.want != "" && !strings.Contains(dropped, tt.want) {
				t.Errorf("got %q, want %q", dropped, tt.want)
			}
			if len(r.banned()) > 0 {
				t.Error("banned for something that is not a wrong hash")
			}
		})
	}
}

func TestFetchEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  FetchConfig
		do   func(r *fetchRig)
		want Outcome
		at   time.Duration
	}{
		{"nobody, time-out", FetchConfig{Timeout: time.Minute}, nil, NoPeers, time.Minute},
		{"nobody, max time", FetchConfig{MaxTime: time.Minute}, nil, NoPeers, time.Minute},
		{"no metadata", FetchConfig{Timeout: time.Minute}, func(r *fetchRig) { r.join(1, &holder{answer: silent}) }, NoMetadata, time.Minute},
		{"out of time", FetchConfig{MaxTime: time.Minute, Timeout: time.Hour}, func(r *fetchRig) { r.join(1, &holder{answer: silent}) }, OutOfTime, time.Minute},
		{"no source", FetchConfig{}, func(r *fetchRig) { r.handle(Event{Op: Sources}) }, NoneUsable, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newFetchRig(t, 100, tt.cfg)
			if tt.do != nil {
				tt.do(r)
			}
			r.run(time.Hour)
			if r.end != tt.want || r.now.Sub(epoch) != tt.at {
				t.Errorf("%v after %v, want %v after %v", r.end, r.now.Sub(epoch), tt.want, tt.at)
			}
			if !r.f.Next().IsZero() {
				t.Error("something is still due")
			}
		})
	}
}

// TestFetchSupplied: once the metadata was found elsewhere nobody is asked for it, and neither its time-out nor a lack of
// sources ends the swarm; what a peer gives late is nothing new.
func TestFetchSupplied(t *testing.T) {
	r := newFetchRig(t, 100, FetchConfig{Timeout: time.Minute, MaxTime: time.Hour})
	r.join(1, &holder{delay: time.Second})
	r.got = nil
	r.handle(Event{Op: Supplied})
	r.join(2, &holder{})
	r.handle(Event{Op: Sources})
	r.run(2 * time.Second)
	r.want("a newcomer is greeted only", "2:have none, 2:extended")
	for id := range LinkID(2) {
		r.handle(Event{Op: Left, Link: id + 1})
	}
	r.run(2 * time.Minute)
	if r.end != Running || r.found != nil {
		t.Errorf("end %v, resolved %v", r.end, r.found != nil)
	}
	r.run(time.Hour)
	if r.end != OutOfTime {
		t.Errorf("end %v, want %v", r.end, OutOfTime)
	}
}

// TestFetchRefusesAfterTheEnd is about what comes late.
func TestFetchRefusesAfterTheEnd(t *testing.T) {
	r := newFetchRig(t, 100, FetchConfig{Timeout: time.Second})
	r.run(time.Minute)
	r.got = nil
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	r.handle(Event{Op: BlockIn, Link: 1})
	r.want("nothing is wanted any more", "1:drop the swarm has ended, release")
}

// TestFetchDials: addresses are dialed, failed ones again, as in the later phase.
func TestFetchDials(t *testing.T) {
	r := newFetchRig(t, 100, FetchConfig{Peering: Peering{MaxPeers: 1}})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1), addr(2)}, Source: SourceTracker})
	r.want("one place, one dial", "dial 198.18.0.1:6881")
	r.handle(Event{Op: DialFailed, Addr: addr(1)})
	r.want("then the next", "dial 198.18.0.2:6881")
}

// TestProceed: the connections go on into the download with what their peers have said before.
func TestProceed(t *testing.T) {
	l := layoutOf(t, mib, 64*kib)
	cfg := Config{Layout: l, Info: []byte("info"), Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2))}}
	copy(cfg.PeerID[:], "-BN0000-mmmmmmmmmmmm")
	cfg.Ext.M.UtMetadata = 7
	all := full(l)
	for _, tt := range []struct {
		name string
		say  []wire.Message
		want string
	}{
		{"nothing", nil, "1:extended"},
		{"a bitfield", []wire.Message{{ID: wire.Bitfield, Payload: all.Bytes()}}, "1:extended, 1:interested"},
		{"have all, unchoked", []wire.Message{{ID: wire.HaveAll}, {ID: wire.Unchoke}}, "1:extended, 1:interested, 16x 1:request"},
		{"have all late", []wire.Message{{ID: wire.HaveNone}, {ID: wire.Unchoke}, {ID: wire.HaveAll}}, "1:extended, 1:interested, 16x 1:request"},
		{"a have", []wire.Message{{ID: wire.HaveNone}, {ID: wire.Have, Index: 3}, {ID: wire.Unchoke}}, "1:extended, 1:interested, 4x 1:request"},
		{"unchoked and choked", []wire.Message{{ID: wire.HaveAll}, {ID: wire.Unchoke}, {ID: wire.Choke}}, "1:extended, 1:interested"},
		{"a bitfield of another torrent", []wire.Message{{ID: wire.Bitfield, Payload: []byte{1}}, {ID: wire.Unchoke}},
			"1:extended, 1:drop peer sent a wrong bitfield: piece: bitfield of 1 bytes, want 2 for 16 pieces"},
		{"a piece that does not exist", []wire.Message{{ID: wire.Have, Index: 16}}, "1:extended, 1:drop peer has a piece 16 that does not exist"},
		{"it is interested", []wire.Message{{ID: wire.Interested}}, "1:extended, 1:unchoke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newFetchRig(t, 100, FetchConfig{})
			r.join(1, &holder{})
			for _, m := range tt.say {
				r.msg(1, m)
			}
			r.run(time.Second)
			if r.found == nil {
				t.Fatal("no metadata")
			}
			c, effects := r.f.Proceed(r.now, cfg)
			var words []string
			for _, e := range effects {
				words = append(words, word(e))
			}
			if got := squeeze(words); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			if s := c.Snapshot(r.now); s.Met != 1 || s.Fetching {
				t.Errorf("snapshot %+v", s)
			}
		})
	}
}

// TestWhatWeHadIsToldBitByBit: who was there before the metadata hears of each piece that we had then, and not of all at once.
func TestWhatWeHadIsToldBitByBit(t *testing.T) {
	const pieces, peers = 6000, 3
	l := layoutOf(t, pieces*16*kib, 16*kib)
	have := full(l)
	have.Clear(7)
	r := newFetchRig(t, 100, FetchConfig{})
	for id := range LinkID(peers) {
		r.join(1+id, &holder{})
	}
	r.run(time.Second)
	cfg := Config{Layout: l, Have: have, Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2))}}
	c, effects := r.f.Proceed(r.now, cfg)
	told := map[LinkID][]uint32{}
	now, rounds := r.now, 0
	for ; ; rounds++ {
		if len(effects) > mostTold+2*peers {
			t.Fatalf("%d effects at once", len(effects))
		}
		for _, e := range effects {
			if e.Op == Send && e.Msg.ID == wire.Have {
				told[e.Link] = append(told[e.Link], e.Msg.Index)
			}
		}
		if c.late.tellAt.IsZero() {
			break
		}
		now = c.Next()
		effects = c.Handle(now, Event{Op: Tick})
	}
	for id := range LinkID(peers) {
		is := told[1+id]
		if len(is) != pieces-1 || !slices.IsSorted(is) || slices.Contains(is, 7) {
			t.Errorf("%d was told of %d pieces", 1+id, len(is))
		}
	}
	if rounds < 2 || now.Sub(r.now) > time.Second {
		t.Errorf("in %d rounds, in %v", rounds, now.Sub(r.now))
	}
}

// TestProceedKeepsTheAddresses: a bitfield may still come from a peer that has said nothing of the kind before, and one that came
// too late is refused as ever; a dial under way ends in the core.
func TestProceedKeepsTheAddresses(t *testing.T) {
	r := newFetchRig(t, 100, FetchConfig{})
	r.join(1, &holder{})
	r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(2)}, Source: SourceTracker})
	r.run(time.Second)
	cfg := Config{Layout: layoutOf(t, mib, 64*kib), Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2))}}
	c, _ := r.f.Proceed(r.now, cfg)
	if s := c.Snapshot(r.now); s.Dialing != 1 || s.Known != 1 {
		t.Fatalf("snapshot %+v", s)
	}
	effects := c.Handle(r.now, Event{Op: Joined, Link: 2, Remote: fast(2)})
	if len(effects) == 0 || effects[0].Op != Send {
		t.Errorf("effects %v", effects)
	}
	if s := c.Snapshot(r.now); s.Dialing != 0 || s.Peers != 2 || s.Met != 2 {
		t.Errorf("snapshot %+v", s)
	}
	c.Handle(r.now, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.HaveAll}})
	if s := c.Snapshot(r.now); s.Peers != 2 || s.Seeds != 1 {
		t.Errorf("a peer that said nothing yet may still say what it has: %+v", s)
	}
}

// FuzzFetch: whatever peers send, a Fetch never panics, holds two copies and no more bytes than one may have, asks no
// peer for more than it should, and says nothing to links that are gone.
func FuzzFetch(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	f.Add([]byte("\x00\x01\x00\x02\x10\x01\x10\x02\x22\x01\x33\x02\x44\x01\x55\x02\x06\x07\x08"))
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:min(len(in), 2000)]
		cfg := FetchConfig{Timeout: time.Hour, Peering: Peering{Rand: rand.New(rand.NewPCG(1, 2)), MaxPeers: 6, HalfOpen: 2}}
		cfg.Ext.M.UtMetadata = 7
		x := NewFetch(epoch, cfg)
		now, next := epoch, LinkID(1)
		live := map[LinkID]bool{}
		var checks []int
		byteAt := func(n int) byte {
			if n < len(in) {
				return in[n]
			}
			return 0
		}
		handle := func(ev Event) {
			for _, e := range x.Handle(now, ev) {
				switch e.Op {
				case Send:
					if !live[e.Link] {
						t.Fatalf("%v to link %d, which is gone", e.Msg.ID, e.Link)
					}
				case Drop:
					delete(live, e.Link)
				case Check:
					checks = append(checks, e.Number)
				}
			}
			held := int64(0)
			for _, c := range x.copies {
				if c != nil {
					held += c.size
					for i, a := range c.asks {
						if a.waiting < 0 || a.waiting > maxAsked {
							t.Fatalf("piece %d waits for %d answers", i, a.waiting)
						}
					}
				}
			}
			if held > MaxMetadata {
				t.Fatalf("copies of %d bytes", held)
			}
			for _, l := range x.links {
				if len(l.asked) > mostMetadataAsks || len(l.early.haves) > maxEarlyHaves {
					t.Fatalf("link %d: %d requests", l.id, len(l.asked))
				}
			}
		}
		for n := 0; n+1 < len(in); n += 2 {
			op, arg := in[n]%11, in[n+1]
			id := LinkID(arg%8) + 1
			now = now.Add(time.Duration(in[n]/11) * 200 * time.Millisecond)
			switch op {
			case 0:
				id, next = next, next+1
				live[id] = true
				rem := fast(id)
				rem.Fast = arg%2 == 0
				handle(Event{Op: Joined, Link: id, Remote: rem})
			case 1:
				h := wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: int64(byteAt(n+2)) << (arg % 26)}
				handle(Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, h)}})
			case 2:
				size := wire.MetadataPiece
				if c := x.copies[0]; c != nil {
					size = int(c.pieceSize(int(byteAt(n+2)) % len(c.pieces)))
				}
				m := wire.Metadata{Type: wire.MetadataType(arg % 4), Piece: int(byteAt(n + 2)), Data: make([]byte, size)}
				handle(Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Extended, ExtID: 7, Payload: wire.AppendMetadata(nil, m)}})
			case 3:
				if len(checks) > 0 {
					var sums [][20]byte
					for i := range byteAt(n + 2) {
						sums = append(sums, [20]byte{i})
					}
					handle(Event{Op: Checked, Piece: checks[0], OK: arg%5 == 0 && len(sums) > 0, Sums: sums})
					checks = checks[1:]
				}
			case 4:
				delete(live, id)
				handle(Event{Op: Left, Link: id})
			case 5:
				handle(Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.ID(byteAt(n + 2)), Index: uint32(arg), Payload: in[n:]}})
			case 6:
				handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(int(arg))}, Source: SourceTracker})
			case 7:
				handle(Event{Op: DialFailed, Addr: addr(int(arg))})
			case 8:
				handle(Event{Op: Tick})
			case 9:
				handle(Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Extended, ExtID: byteAt(n + 2), Payload: in[n:]}})
			case 10:
				handle(Event{Op: Supplied})
			}
		}
		l, err := piece.NewLayout(mib, 64*kib)
		if err != nil {
			t.Fatal(err)
		}
		_, effects := x.Proceed(now, Config{Layout: l, Peering: cfg.Peering})
		for _, e := range effects {
			if e.Op == Send && !live[e.Link] {
				t.Fatalf("%v to link %d, which is gone", e.Msg.ID, e.Link)
			}
			if e.Op == Drop {
				delete(live, e.Link)
			}
		}
	})
}

// Where the limit lets few pieces be asked for at once, those who do not answer do not hold up the others.
func TestSilentPeersHoldNothingUpUnderALimit(t *testing.T) {
	r := newFetchRig(t, 40_000, FetchConfig{Peering: Peering{MaxDownload: 100 * kib}})
	for id := LinkID(1); id <= 10; id++ {
		r.join(id, &holder{answer: silent})
	}
	r.join(11, &holder{})
	if r.run(20 * time.Second); r.found == nil {
		t.Errorf("not there after %v", r.now.Sub(epoch))
	}
}

// In a full house those who do not give the metadata make room for addresses that were not tried yet.
func TestAFullHouseWithoutMetadataIsTurnedOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		offers bool // those who are there say they have it, but do not answer
	}{{"they do not offer it", false}, {"they do not answer", true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newFetchRig(t, 20_000, FetchConfig{Peering: Peering{MaxPeers: 2}})
			r.handle(Event{Op: Found, Addrs: []netip.AddrPort{addr(1), addr(2), addr(3)}, Source: SourceTracker})
			for id := LinkID(1); id <= 2; id++ {
				who := remote(id)
				who.Ext = true
				r.handle(Event{Op: Joined, Link: id, Remote: who})
				if tt.offers {
					h := wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}, MetadataSize: 20_000}
					r.handle(Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, h)}})
				}
			}
			for range 60 {
				r.now = r.now.Add(time.Second)
				r.handle(Event{Op: Tick})
			}
			if third := "dial " + addr(3).String(); !slices.Contains(r.got, third) {
				t.Errorf("no %q in a minute", third)
			}
			if n := len(r.f.links); n != 1 {
				t.Errorf("%d links, want all but one", n)
			}
		})
	}
}
