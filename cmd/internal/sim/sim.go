// Package sim plays whole swarms in one process, in virtual time: hundreds of cores, the very ones
// that the program runs, over a network of queues. The same [Scenario] gives the same [Result], down to
// the last bit of its trace, so a failure is repeated by its seed and no figure depends on the
// machine.
//
// The model, by file: the world (sim.go) is a heap of events, ordered by time and then by
// the order in which they were scheduled; the network (network.go) moves messages, each of which costs its
// bytes and its share of packet headers, through an uplink, a delay and a downlink; a node
// (node.go) is a core with a model of the storage and with the habits of its [Peer].
//
// What the model leaves out: lost packets and TCP's slow start (a connection has a window of fixed
// size), crossing traffic, and the time that disks take.
package sim

import (
	"encoding/binary"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"bittern/piece"
)

// A Scenario is a swarm to be played.
type Scenario struct {
	Seed        uint64        // of all luck
	Size        int64         // bytes of the torrent
	PieceLength int64         // bytes
	Peers       []Peer        // peer n of the Result is Peers[n]
	Limit       time.Duration // end after so long; 0 means a day
}

// A Peer is one participant and its habits. The zero value of a habit is the honest one.
type Peer struct {
	Up, Down int64         // bytes/s of its access line, which carries all its connections; required
	Delay    time.Duration // one way from the peer to the middle of the network
	Arrives  time.Duration
	Leaves   time.Duration // when it goes; 0 means by its own decision
	Vanishes bool          // it goes without a word, its line cut
	Copies   float64       // it goes when it has sent so many copies of the torrent; 0 means never

	Seed bool          // it has everything from the start and stays
	Stay time.Duration // how long a leecher stays when complete; negative means for ever

	Mute     bool    // it promises (unchokes) and never sends a block
	FreeRide bool    // it never unchokes anybody
	Lies     float64 // share of the blocks it sends that are corrupt
	MaxPeers int     // 0 means 80

	Sequential bool // it wants the pieces in order
}

// waited reports whether the play goes on until the peer is complete.
func (p *Peer) waited() bool {
	return !p.Seed && !p.Mute && !p.FreeRide && p.Lies == 0 && p.Leaves == 0 && p.Copies == 0
}

// A Result is how a scenario went.
type Result struct {
	Peers []PeerResult
	End   time.Duration
	// Trace is a hash over every decision of every core, in order.
	Trace  uint64
	Events int
}

// A PeerResult is how one peer fared. Bytes are those of blocks, without heads.
type PeerResult struct {
	Done     time.Duration // when it was complete; 0 if it never was, or was from the start
	Sent     int64         // bytes its uplink has sent
	Out      time.Duration // when it had sent every block once; 0 if it never had
	Received int64
	From     []int64 // of it, bytes by the peer they came from
	Wasted   int64   // received in vain: twice, too late, corrupt
	Failed   int     // pieces that failed their hash
	Convicts []int   // peers it has dropped as proven liars, in order
	Links    int     // connections at the end
	Left     int64   // bytes still missing at the end
}

// Complete reports whether everybody the play waits for has everything.
func (r *Result) Complete(s Scenario) bool {
	for n, p := range s.Peers {
		if p.waited() && r.Peers[n].Done == 0 {
			return false
		}
	}
	return true
}

// Last returns when the last peer was complete.
func (r *Result) Last() (last time.Duration) {
	for _, p := range r.Peers {
		last = max(last, p.Done)
	}
	return last
}

// FlashCrowd is the usual setting: one seed, n leechers that arrive within five seconds and stay,
// uplinks of 1 MiB/s, downlinks eight times that, one-way delays of 10 to 100 ms, and 64 MiB in
// pieces of 256 KiB.
func FlashCrowd(n int, seed uint64) Scenario {
	rng := rand.New(rand.NewPCG(seed, 0xf1a5))
	s := Scenario{Seed: seed, Size: 64 << 20, PieceLength: 256 << 10}
	for i := range n + 1 {
		p := Peer{Up: 1 << 20, Down: 8 << 20, Stay: -1, Delay: 5*time.Millisecond + upTo(rng, 45*time.Millisecond)}
		if i > 0 {
			p.Arrives = upTo(rng, 5*time.Second)
		}
		s.Peers = append(s.Peers, p)
	}
	s.Peers[0].Seed = true
	return s
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// A world is a scenario being played.
type world struct {
	sc     Scenario
	layout piece.Layout
	blocks int // of the layout
	rng    *rand.Rand
	now    time.Duration
	events agenda
	count  int
	nodes  []*node
	open   int // peers the play still waits for
	trace  hash.Hash64
	line   []byte // reused: of the trace
	wire   []byte // reused: to measure messages
}

// epoch is when every play begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) clock() time.Time { return epoch.Add(w.now) }

// at schedules do.
func (w *world) at(t time.Duration, do func()) { w.events.push(max(t, w.now), do) }

func (w *world) after(d time.Duration, do func()) { w.at(w.now+d, do) }

// note adds a line to the trace.
func (w *world) note(values ...uint64) {
	w.line = binary.LittleEndian.AppendUint64(w.line[:0], uint64(w.now))
	for _, v := range values {
		w.line = binary.LittleEndian.AppendUint64(w.line, v)
	}
	w.trace.Write(w.line) // a hash never fails
}

// Run plays a scenario to its end. It panics when the scenario is none (no size, a peer without a
// line), or when a core does what no core may.
func Run(s Scenario) Result {
	layout, err := piece.NewLayout(s.Size, s.PieceLength)
	if err != nil {
		panic(err)
	}
	if s.Limit == 0 {
		s.Limit = 24 * time.Hour
	}
	w := &world{sc: s, layout: layout, rng: rand.New(rand.NewPCG(s.Seed, 0)), trace: fnv.New64a()}
	for i := range layout.Pieces() {
		w.blocks += layout.Blocks(i)
	}
	for n := range s.Peers {
		w.nodes = append(w.nodes, newNode(w, n))
		if s.Peers[n].waited() {
			w.open++
		}
	}
	for w.open > 0 && len(w.events.heap) > 0 {
		e := w.events.pop()
		if e.at > s.Limit {
			break
		}
		w.now = e.at
		w.count++
		e.do()
	}
	return w.result()
}

func (w *world) result() Result {
	r := Result{End: w.now, Trace: w.trace.Sum64(), Events: w.count}
	for _, n := range w.nodes {
		if n.core != nil {
			s := n.core.Snapshot(w.clock())
			n.res.Received, n.res.Wasted, n.res.Links, n.res.Left = s.Received, s.Wasted, s.Peers, s.Left
		}
		r.Peers = append(r.Peers, n.res)
	}
	return r
}

// An agenda is a heap of events.
type agenda struct {
	heap []event
	seq  uint64
}

// An event is something to be done at a time. Of two at the same time the one scheduled first comes
// first.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (a *agenda) push(at time.Duration, do func()) {
	a.seq++
	a.heap = append(a.heap, event{at, a.seq, do})
	h := a.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (a *agenda) pop() event {
	h := a.heap
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	a.heap = h
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
