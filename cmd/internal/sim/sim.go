// Package sim plays whole swarms in one process, in virtual time: up to a thousand cores, the very ones
// that the program runs, over a network of queues. The same [Scenario] gives the same [Result], down to
// the last bit of its trace, so a failure is repeated by its seed and no figure depends on the
// machine.
//
// The model, by file: the world (sim.go) plays an agenda of events (agenda.go), ordered by time and then by
// the order in which they were scheduled; the network (network.go) moves packets, each of which costs its
// bytes and its headers, through an uplink, a delay and a downlink; a node (node.go) is a core with a model of
// the storage and with the habits of its [Peer].
//
// Each uplink and each downlink is one queue, first come first served, which blocks and all other messages of all
// connections share; what a core has handed over waits there, and a choke or a request waits behind it. A
// block counts as sent, for the core, when it has left the uplink: sockets hold nothing that they do not
// say. At most [segment] bytes share a header, and small messages that wait for the same peer share a packet.
//
// What the model leaves out: acknowledgements (one of 52 bytes for two packets would take of the line that goes
// out 1.8 % of what comes in), lost packets and TCP's slow start (a connection has a window of fixed
// size), crossing traffic, and the time that disks take. What is on its way when a connection ends is lost.
//
// What is measured of a play is in measure.go; scenarios.go has the swarms that bittern is judged by, rows.go
// what is demanded of it in each, and outcome.go plays them.
package sim

import (
	"io"
	"math/bits"
	"math/rand/v2"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A Scenario is a swarm to be played.
type Scenario struct {
	Seed        uint64        // of all luck
	Size        int64         // bytes of the torrent
	PieceLength int64         // bytes
	Peers       []Peer        // peer n of the Result is Peers[n]
	Limit       time.Duration // end after so long; 0 means a day
	// Log takes a line for every decision of every core; nil means that nobody wants to know. Its errors are not
	// looked at: a bufio.Writer keeps them for later.
	Log io.Writer
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

// waited reports whether the play goes on until the peer is complete. A play that waits for nobody goes on
// until its limit.
func (p *Peer) waited() bool {
	return !p.Seed && !p.Mute && !p.FreeRide && p.Lies == 0 && p.Leaves == 0 && p.Copies == 0
}

// A world is a scenario being played.
type world struct {
	sc      Scenario
	layout  piece.Layout
	blocks  int // of the layout
	rng     *rand.Rand
	now     time.Duration
	events  agenda
	count   int
	nodes   []*node
	open    int // peers the play still waits for
	trace   uint64
	packets []*packet // not in use
	sizes   struct{ have, request int }
	wire    []byte // reused: to measure other messages

	copies    []int32 // of each piece, among those present
	kept      int64   // bytes stored by all that have not failed
	firstDone time.Duration
	sampler   sampler
}

// epoch is when every play begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) clock() time.Time { return epoch.Add(w.now) }

// at schedules do.
func (w *world) at(t time.Duration, do func()) { w.events.push(max(t, w.now), doing(do)) }

func (w *world) after(d time.Duration, do func()) { w.at(w.now+d, do) }

// note adds values to the trace.
func (w *world) note(values ...uint64) {
	h := bits.RotateLeft64(w.trace, 5) ^ uint64(w.now)
	for _, v := range values {
		h = (h ^ v) * 0x9e3779b97f4a7c15 // as FNV does with bytes, with another odd number
		h ^= h >> 32
	}
	w.trace = h
}

// Run plays a scenario to its end. It panics when the scenario is none (no size, a peer without a
// line), or when a core does what no core may.
func Run(s Scenario) Result {
	if s.Limit == 0 {
		s.Limit = 24 * time.Hour
	}
	w := newWorld(s)
	for n := range s.Peers {
		w.nodes = append(w.nodes, newNode(w, n))
		if s.Peers[n].waited() {
			w.open++
		}
	}
	w.after(0, w.sample)
	forever := w.open == 0
	for (w.open > 0 || forever) && len(w.events.heap) > 0 {
		e := w.events.pop()
		if e.at > s.Limit {
			w.now = s.Limit
			break
		}
		w.now = e.at
		w.count++
		e.what.happen()
	}
	return w.result()
}

func newWorld(s Scenario) *world {
	layout, err := piece.NewLayout(s.Size, s.PieceLength)
	if err != nil {
		panic(err)
	}
	w := &world{sc: s, layout: layout, rng: rand.New(rand.NewPCG(s.Seed, 0)), copies: make([]int32, layout.Pieces())}
	for i := range layout.Pieces() {
		w.blocks += layout.Blocks(i)
	}
	w.sizes.have = len(wire.Append(nil, wire.Message{ID: wire.Have}))
	w.sizes.request = len(wire.Append(nil, wire.Message{ID: wire.Request}))
	return w
}

func (w *world) result() Result {
	w.sampler.take(w)
	r := Result{
		Scenario: w.sc, End: w.now, FirstDone: w.firstDone, Trace: w.trace, Events: w.count,
		Samples: w.sampler.samples,
	}
	for _, n := range w.nodes {
		if n.core != nil {
			s := n.core.Snapshot(w.clock())
			n.res.Received, n.res.Wasted, n.res.Links, n.res.Left = s.Received, s.Wasted, s.Peers, s.Left
			for _, e := range n.ends {
				w.sampler.part(e)
			}
		}
		r.Peers = append(r.Peers, n.res)
	}
	r.Interest = w.sampler.interest()
	return r
}
