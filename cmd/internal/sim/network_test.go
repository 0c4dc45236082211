package sim

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A wireTest is a network of nodes without cores, whose ends the test holds.
func wireTest(t *testing.T, peers ...Peer) *world {
	t.Helper()
	layout, err := piece.NewLayout(mib, 256*kib)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{sc: Scenario{Peers: peers}, layout: layout}
	for n := range peers {
		p := &w.sc.Peers[n]
		nd := &node{w: w, n: n, peer: p, line: newLine(p)}
		nd.res.From = make([]int64, len(peers))
		w.nodes = append(w.nodes, nd)
	}
	return w
}

// connect joins two nodes by hand.
func (w *world) connect(from, to int) *end {
	a, b := w.nodes[from], w.nodes[to]
	d := a.peer.Delay + b.peer.Delay
	c := &conn{}
	c.ends[0] = end{conn: c, node: a, other: &c.ends[1], delay: d, limit: limit(a, b), live: true}
	c.ends[1] = end{conn: c, node: b, other: &c.ends[0], delay: d, limit: limit(b, a), live: true}
	return &c.ends[0]
}

// until plays for so long.
func (w *world) until(t time.Duration) {
	for len(w.events.heap) > 0 && w.events.heap[0].at <= t {
		e := w.events.pop()
		w.now = e.at
		e.do()
	}
	w.now = t
}

func block(n uint32) wire.Message {
	return wire.Message{ID: wire.Piece, Begin: n * piece.BlockSize, Length: piece.BlockSize}
}

// cost is what a block takes of a line, in bytes.
const cost = 13 + piece.BlockSize + 12*header

func TestABlockTakesItsTime(t *testing.T) {
	const rate = 1_000_000
	w := wireTest(t, Peer{Up: rate, Down: rate, Delay: 10 * time.Millisecond}, Peer{Up: rate, Down: rate, Delay: 5 * time.Millisecond})
	e := w.connect(0, 1)
	e.send(block(0), 0)
	per := time.Duration(cost) * time.Second / rate // up, and down again
	arrives := 2*per + 15*time.Millisecond
	w.until(arrives - time.Microsecond)
	if e.first != 0 {
		t.Errorf("it has arrived before %v", arrives)
	}
	w.until(arrives + time.Microsecond)
	if e.first != 1 {
		t.Errorf("it has not arrived by %v", arrives)
	}
}

func TestSmallMessagesShareAPacket(t *testing.T) {
	w := wireTest(t, Peer{Up: mib, Down: mib}, Peer{Up: mib, Down: mib})
	e := w.connect(0, 1)
	e.send(wire.Message{ID: wire.Interested}, 0) // goes at once, alone
	for range 100 {
		e.send(wire.Message{ID: wire.Request}, 0)
	}
	e.send(block(0), 0)
	for _, want := range []struct {
		count, bytes int
		block        bool
	}{{85, 85 * 17, false}, {15, 15 * 17, false}, {1, 13 + piece.BlockSize, true}} {
		b, count, bytes := e.packet()
		if count != want.count || bytes != want.bytes || (b.Length > 0) != want.block {
			t.Errorf("%d messages, %d bytes, block %v; want %+v", count, bytes, b, want)
		}
	}
}

func TestConnectionsShareAnUplink(t *testing.T) {
	fast := Peer{Up: mib, Down: 100 * mib}
	w := wireTest(t, fast, fast, fast, fast)
	var ends []*end
	for to := 1; to <= 3; to++ {
		e := w.connect(0, to)
		for n := range uint32(30 * to) { // who has more waiting gets no more
			e.send(block(n), 0)
		}
		ends = append(ends, e)
	}
	w.until(time.Second)
	total := 0
	for _, e := range ends {
		total += e.first
		if d := e.first - ends[0].first; d < -1 || d > 1 {
			t.Errorf("%d blocks of one connection, %d of another", e.first, ends[0].first)
		}
	}
	if want := mib / cost; total < want-2 || total > want {
		t.Errorf("%d blocks in a second, want %d", total, want)
	}
}

// A receiver with a narrow line holds the sender back: what is on the way is bounded.
func TestWhatIsOnTheWayIsBounded(t *testing.T) {
	w := wireTest(t, Peer{Up: 100 * mib, Down: mib}, Peer{Up: mib, Down: 64 * kib})
	e := w.connect(0, 1)
	for n := range uint32(500) {
		e.send(block(n%16), 0)
	}
	w.until(2 * time.Second)
	if e.onWay > e.limit+piece.BlockSize+13 || e.onWay < e.limit/2 {
		t.Errorf("%d bytes on the way, the window is %d", e.onWay, e.limit)
	}
	if e.first < 6 || e.first > 8 {
		t.Errorf("%d blocks have come in 2 s at 64 KiB/s, want 7", e.first)
	}
	w.until(10 * time.Minute)
	if e.first != e.unsent || e.onWay != 0 || len(e.queue)-e.first != 0 {
		t.Errorf("%d of %d have come, %d bytes on the way", e.first, len(e.queue), e.onWay)
	}
}

func TestNobodyAnswersWhereNobodyIs(t *testing.T) {
	s := small(1, 1)
	s.Peers[0].Leaves = time.Second // before the leecher knows of it
	s.Peers[1].Arrives = 500 * time.Millisecond
	s.Limit = time.Minute
	r := Run(s)
	if r.Complete(s) || r.Peers[1].Done != 0 || r.Peers[1].Left == 0 || r.Peers[1].Links != 0 {
		t.Errorf("%+v", r.Peers[1])
	}
	w := wireTest(t, Peer{Up: 1, Down: 1})
	for _, at := range []string{"198.18.0.1:6881", "198.18.255.255:6881"} {
		if n := w.nodeAt(netip.MustParseAddrPort(at)); n != nil {
			t.Errorf("somebody is at %s", at)
		}
	}
}

func TestAScenarioMustMakeSense(t *testing.T) {
	for name, s := range map[string]Scenario{
		"no pieces":      {Size: 1, Peers: []Peer{{Up: 1, Down: 1}}},
		"negative size":  {Size: -1, PieceLength: 1, Peers: []Peer{{Up: 1, Down: 1}}},
		"a peer offline": {Size: 1, PieceLength: 1, Peers: []Peer{{Up: 1}}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Run(s)
		}()
	}
}

// Whoever goes with a word is missed at once, and whoever goes without one later.
func TestLeavingAndVanishing(t *testing.T) {
	for _, tt := range []struct {
		vanishes bool
		after    time.Duration
		links    int
	}{
		{false, time.Second, 0},
		{true, time.Second, 1},
		{true, silence + time.Second, 0},
	} {
		s := small(1, 3)
		s.Peers[1].Arrives = 0
		s.Peers[0].Leaves, s.Peers[0].Vanishes = 5*time.Second, tt.vanishes
		s.Limit = s.Peers[0].Leaves + tt.after
		if r := Run(s); r.Peers[1].Links != tt.links {
			t.Errorf("vanishes %v: %d connections %v later, want %d", tt.vanishes, r.Peers[1].Links, tt.after, tt.links)
		}
	}
}
