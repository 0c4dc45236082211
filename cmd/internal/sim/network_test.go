package sim

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// wireTest returns a network of nodes without cores, whose ends the test holds.
func wireTest(t *testing.T, peers ...Peer) *world {
	t.Helper()
	w := newWorld(Scenario{Size: mib, PieceLength: 256 * kib, Peers: peers})
	for n := range peers {
		p := &w.sc.Peers[n]
		nd := &node{w: w, n: n, peer: p, line: newLine(p)}
		nd.res.From = make([]int64, len(peers))
		w.nodes = append(w.nodes, nd)
	}
	return w
}

// link connects two nodes by hand, and counts what arrives from the first.
func (w *world) link(from, to int) *counted {
	e := w.connect(w.nodes[from], w.nodes[to])
	e.other.live = true
	return &counted{end: e, from: from, to: w.nodes[to]}
}

// A counted is an end with what the other one has received of it.
type counted struct {
	*end
	from int
	to   *node
}

// blocks returns how many blocks have arrived.
func (c *counted) blocks() int { return int(c.to.res.From[c.from] / piece.BlockSize) }

// until plays for so long.
func (w *world) until(t time.Duration) {
	for len(w.events.heap) > 0 && w.events.heap[0].at <= t {
		e := w.events.pop()
		w.now = e.at
		e.what.happen()
	}
	w.now = t
}

func block(n uint32) piece.Block {
	return piece.Block{Begin: n * piece.BlockSize, Length: piece.BlockSize}
}

// cost is what a block takes of a line, in bytes.
const cost = 13 + piece.BlockSize + 12*header

func TestABlockTakesItsTime(t *testing.T) {
	const rate = 1_000_000
	w := wireTest(t, Peer{Up: rate, Down: rate, Delay: 10 * time.Millisecond}, Peer{Up: rate, Down: rate, Delay: 5 * time.Millisecond})
	e := w.link(0, 1)
	e.sendBlock(block(0), 0)
	per := time.Duration(cost) * time.Second / rate // up, and down again
	arrives := 2*per + 15*time.Millisecond
	w.until(arrives - time.Microsecond)
	if e.blocks() != 0 {
		t.Errorf("it has arrived before %v", arrives)
	}
	w.until(arrives + time.Microsecond)
	if e.blocks() != 1 {
		t.Errorf("it has not arrived by %v", arrives)
	}
	if busy := w.nodes[0].line.busy; busy != per {
		t.Errorf("the uplink was busy for %v, want %v", busy, per)
	}
}

func TestSmallMessagesShareAPacket(t *testing.T) {
	w := wireTest(t, Peer{Up: mib, Down: mib}, Peer{Up: mib, Down: mib})
	e := w.link(0, 1)
	e.send(wire.Message{ID: wire.Interested}) // goes at once, alone
	for range 100 {
		e.send(wire.Message{ID: wire.Request})
	}
	e.sendBlock(block(0), 0)
	for range 100 {
		e.send(wire.Message{ID: wire.Have}) // most ride behind the block
	}
	for _, want := range []struct {
		count, bytes, segments int
		block                  bool
	}{
		{85, 85 * 17, 1, false}, {15, 15 * 17, 1, false},
		{1 + 100, 13 + piece.BlockSize + 100*9, 12, true},
	} {
		p := e.first
		e.first = p.next
		if len(p.messages) != want.count || p.bytes != want.bytes || p.segments() != want.segments || (p.block.Length > 0) != want.block {
			t.Errorf("%d messages, %d bytes, block %v; want %+v", len(p.messages), p.bytes, p.block, want)
		}
	}
	if e.first != nil {
		t.Errorf("a packet more: %+v", e.first)
	}
}

// An uplink is one queue: what was handed over first goes first, whatever the connection, a block or not.
func TestConnectionsShareAnUplink(t *testing.T) {
	fast := Peer{Up: mib, Down: 100 * mib}
	w := wireTest(t, fast, fast, fast)
	first, second := w.link(0, 1), w.link(0, 2)
	for n := range uint32(20) {
		first.sendBlock(block(n), 0)
	}
	second.sendBlock(block(0), 0)
	first.sendBlock(block(20), 0)
	const per = time.Duration(cost) * time.Second / mib
	for _, tt := range []struct {
		sent          int // by then, and a little for the downlink
		first, second int
	}{{10, 10, 0}, {20, 20, 0}, {21, 20, 1}, {22, 21, 1}} {
		w.until(time.Duration(tt.sent)*per + per/2)
		if a, b := first.blocks(), second.blocks(); a != tt.first || b != tt.second {
			t.Errorf("when %d blocks are out, %d and %d have come, want %d and %d", tt.sent, a, b, tt.first, tt.second)
		}
	}
}

// A receiver with a narrow line holds the sender back: what is on the way is bounded, and what goes to others
// goes past it.
func TestWhatIsOnTheWayIsBounded(t *testing.T) {
	w := wireTest(t, Peer{Up: 100 * mib, Down: mib}, Peer{Up: mib, Down: 64 * kib}, Peer{Up: mib, Down: mib})
	slow, other := w.link(0, 1), w.link(0, 2)
	for n := range uint32(500) {
		slow.sendBlock(block(n%16), 0)
	}
	other.sendBlock(block(0), 0)
	w.until(2 * time.Second)
	if slow.onWay > slow.limit+piece.BlockSize+13 || slow.onWay < slow.limit/2 {
		t.Errorf("%d bytes on the way, the window is %d", slow.onWay, slow.limit)
	}
	if n := slow.blocks(); n < 6 || n > 8 {
		t.Errorf("%d blocks have come in 2 s at 64 KiB/s, want 7", n)
	}
	if other.blocks() != 1 {
		t.Error("the other connection waits")
	}
	w.until(10 * time.Minute)
	if slow.blocks() != 500 || slow.onWay != 0 || slow.first != nil {
		t.Errorf("%d of 500 have come, %d bytes on the way, packets wait: %v", slow.blocks(), slow.onWay, slow.first != nil)
	}
}

func TestAQueueKeepsItsOrder(t *testing.T) {
	var q fifo[int]
	in, out := 0, 0
	for round := range 50 {
		for range 1 + round%7 {
			in++
			q.push(in)
		}
		for range round % 6 {
			if q.len() == 0 {
				break
			}
			out++
			if got := q.pop(); got != out {
				t.Fatalf("got %d, want %d", got, out)
			}
		}
		if q.len() != in-out {
			t.Fatalf("%d queued, want %d", q.len(), in-out)
		}
	}
}

func TestNobodyAnswersWhereNobodyIs(t *testing.T) {
	s := small(1, 1)
	s.Peers[0].Leaves = time.Second // before the leecher knows of it
	s.Peers[1].Arrives = 500 * time.Millisecond
	s.Limit = time.Minute
	r := Run(s)
	if r.Complete() || r.Peers[1].Done != 0 || r.Peers[1].Left == 0 || r.Peers[1].Links != 0 {
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
