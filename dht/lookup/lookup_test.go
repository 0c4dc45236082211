package lookup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bittern/dht/krpc"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A world is a network of nodes that all know one another, at private addresses.
type world struct {
	nodes  []krpc.Contact // nearest to the target first
	target krpc.ID
}

func newWorld(n int, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 1))
	w := &world{target: krpc.RandomID(random)}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		w.nodes = append(w.nodes, krpc.Contact{ID: krpc.RandomID(random), Addr: netip.AddrPortFrom(addr, 6881)})
	}
	slices.SortFunc(w.nodes, w.target.Compare)
	return w
}

// closer returns what c names: nodes about half as far from the target as itself, so that a search takes its steps.
func (w *world) closer(c krpc.Contact) []krpc.Contact {
	i := slices.Index(w.nodes, c)
	from := max(i/2-2, 0)
	return w.nodes[from : from+krpc.K]
}

// run lets every node answer in the order asked, but for those that dead says are; it returns whom was asked.
func (w *world) run(s *Search, dead func(krpc.Contact) bool) []krpc.Contact {
	now := start
	var queue, all []krpc.Contact
	for {
		for c, ok := s.Next(now); ok; c, ok = s.Next(now) {
			queue, all = append(queue, c), append(all, c)
		}
		if len(queue) == 0 {
			return all
		}
		c := queue[0]
		queue = queue[1:]
		now = now.Add(time.Millisecond)
		if dead != nil && dead(c) {
			s.Failed(c)
			continue
		}
		s.Answered(c, []byte("token"), w.closer(c))
	}
}

func contacts(fs []Found) []krpc.Contact {
	var out []krpc.Contact
	for _, f := range fs {
		out = append(out, f.Contact)
	}
	return out
}

// TestFindsClosest: a search that begins far away ends with exactly the nearest nodes, whatever its width, and asks few.
func TestFindsClosest(t *testing.T) {
	for _, flight := range []int{1, 3, 8} {
		for seed := range uint64(20) {
			w := newWorld(2000, seed)
			s := New(w.target, Options{Flight: flight, Slow: time.Second, Exact: true}, w.nodes[1990:])
			asked := w.run(s, nil)
			if got := contacts(s.Closest()); !slices.Equal(got, w.nodes[:krpc.K]) {
				t.Fatalf("flight %d, seed %d: found\n%v\nwant\n%v", flight, seed, got, w.nodes[:krpc.K])
			}
			if !s.Done(start) || len(asked) > 100 || s.Asked() != len(asked) {
				t.Fatalf("flight %d, seed %d: done %v after %d queries", flight, seed, s.Done(start), len(asked))
			}
		}
	}
}

// TestDeadNodes: the nearest nodes that live are found, though every third is dead.
func TestDeadNodes(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(2000, seed)
		dead := func(c krpc.Contact) bool { return slices.Index(w.nodes, c)%3 == 1 }
		opt := Shipped
		opt.Exact = true
		s := New(w.target, opt, w.nodes[1980:])
		w.run(s, dead)
		var want []krpc.Contact
		for _, c := range w.nodes {
			if !dead(c) && len(want) < krpc.K {
				want = append(want, c)
			}
		}
		if got := contacts(s.Closest()); !slices.Equal(got, want) {
			t.Fatalf("seed %d: found\n%v\nwant\n%v", seed, got, want)
		}
	}
}

// TestFlight: no more queries are out than there are slots; one that is slow frees its slot, and its answer counts
// when it comes after all.
func TestFlight(t *testing.T) {
	w := newWorld(100, 1)
	s := New(w.target, Options{Flight: 3, Slow: time.Second}, w.nodes[10:30])
	now := start
	var out []krpc.Contact
	for c, ok := s.Next(now); ok; c, ok = s.Next(now) {
		out = append(out, c)
	}
	if !slices.Equal(out, w.nodes[10:13]) {
		t.Fatalf("asked %v, want the three nearest", out)
	}
	if got := s.Wake(now); got != now.Add(time.Second) || s.Done(now) {
		t.Fatalf("wakes at %v, done %v", got, s.Done(now))
	}
	now = s.Wake(now)
	if c, ok := s.Next(now); !ok || c != w.nodes[13] {
		t.Fatalf("asks %v %v when the three are slow", c, ok)
	}
	s.Answered(w.nodes[10], nil, w.nodes[:3])
	if c, ok := s.Next(now); !ok || c != w.nodes[0] {
		t.Fatalf("asks %v %v after a late answer named nearer nodes", c, ok)
	}
}

// TestBegin: a search begins with few queries, sends another soon where none is answered, and more once some are.
func TestBegin(t *testing.T) {
	w := newWorld(100, 9)
	s := New(w.target, Options{Flight: 4, First: 2, Slow: time.Second, Hedge: time.Second / 10}, w.nodes[20:40])
	asks := func(now time.Time, want ...krpc.Contact) {
		t.Helper()
		var got []krpc.Contact
		for c, ok := s.Next(now); ok; c, ok = s.Next(now) {
			got = append(got, c)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("at %v asks %v, want %v", now.Sub(start), got, want)
		}
	}
	asks(start, w.nodes[20:22]...)
	now := start.Add(time.Second / 10)
	if got := s.Wake(start); got != now {
		t.Fatalf("wakes after %v", got.Sub(start))
	}
	asks(now, w.nodes[22:24]...)
	s.Answered(w.nodes[20], nil, w.nodes[:2]) // one of four; 21 is late, but not slow by now
	asks(now)
	s.Answered(w.nodes[21], nil, nil)
	asks(now, w.nodes[:2]...)
}

// TestNotWaitedFor: a search ends while nodes that are dead or farther are still out.
func TestNotWaitedFor(t *testing.T) {
	w := newWorld(100, 2)
	s := New(w.target, Options{Flight: 20, Slow: time.Second}, w.nodes[:12])
	for c, ok := s.Next(start); ok; c, ok = s.Next(start) {
		_ = c // the nearest eight are asked
	}
	for _, c := range w.nodes[:7] {
		s.Answered(c, nil, nil)
	}
	if s.Done(start) {
		t.Fatal("done while one of the nearest may answer")
	}
	now := start.Add(time.Second)
	if c, ok := s.Next(now); !ok || c != w.nodes[8] {
		t.Fatalf("asks %v %v in place of the slow one", c, ok)
	}
	s.Answered(w.nodes[8], nil, nil)
	if !s.Done(now) {
		t.Error("not done though the eight nearest that live have answered")
	}
}

// TestUnasked: answers of nodes that were not asked, or a second time, change nothing.
func TestUnasked(t *testing.T) {
	w := newWorld(100, 3)
	s := New(w.target, Options{Flight: 1, Slow: time.Second}, w.nodes[50:60])
	s.Answered(w.nodes[50], []byte("x"), w.nodes[:8])
	s.Answered(w.nodes[99], []byte("x"), w.nodes[:8])
	s.Failed(w.nodes[50])
	c, _ := s.Next(start)
	s.Answered(c, []byte("first"), nil)
	s.Answered(c, []byte("second"), w.nodes[:8])
	if got := s.Closest(); len(got) != 1 || got[0].Contact != w.nodes[50] || string(got[0].Token) != "first" {
		t.Errorf("found %v", got)
	}
	if c, _ := s.Next(start); c != w.nodes[51] {
		t.Errorf("asks %v, which only a node named that was not asked", c)
	}
}

// TestOtherID: a node that answers under another id than the one it was named by counts by its own.
func TestOtherID(t *testing.T) {
	w := newWorld(100, 4)
	s := New(w.target, Options{Flight: 1, Slow: time.Second}, []krpc.Contact{{ID: w.target, Addr: w.nodes[90].Addr}, w.nodes[20]})
	if c, _ := s.Next(start); c.ID != w.target {
		t.Fatalf("asks %v first", c)
	}
	s.Answered(w.nodes[90], nil, nil)
	c, _ := s.Next(start)
	s.Answered(c, nil, nil)
	if got := contacts(s.Closest()); !slices.Equal(got, []krpc.Contact{w.nodes[20], w.nodes[90]}) {
		t.Errorf("found %v", got)
	}
}

// public returns a contact at a public address whose id is near the target, and fits the address if asked to.
func public(w *world, ip string, fits bool, random *rand.Rand) krpc.Contact {
	a := netip.MustParseAddr(ip)
	c := krpc.Contact{ID: krpc.IDFor(a, random), Addr: netip.AddrPortFrom(a, 1)}
	if !fits {
		c.ID = krpc.RandomNear(w.target, 100, random)
	}
	return c
}

// TestUnfit: nodes that chose an id at the target do not end a search nor stand before honest ones, and take few
// queries; where there are no others they are better than nothing.
func TestUnfit(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	w := newWorld(100, 5)
	var liars []krpc.Contact
	for i := range 50 {
		liars = append(liars, public(w, fmt.Sprintf("5.%d.1.1", i), false, random))
	}
	s := New(w.target, Options{Flight: 4, Slow: time.Second}, append(slices.Clone(liars), w.nodes[:20]...))
	unfit := 0
	for c, ok := s.Next(start); ok; c, ok = s.Next(start) {
		if slices.Contains(liars, c) {
			unfit++
		}
		s.Answered(c, []byte("x"), liars[:8])
	}
	if got := contacts(s.Closest()); !slices.Equal(got, w.nodes[:krpc.K]) {
		t.Errorf("found %v, want the honest nodes", got)
	}
	if unfit > maxUnfit {
		t.Errorf("%d queries went to nodes that do not fit", unfit)
	}
	s = New(w.target, Shipped, liars)
	for c, ok := s.Next(start); ok; c, ok = s.Next(start) {
		s.Answered(c, nil, nil)
	}
	if got := s.Closest(); len(got) != krpc.K || !s.Done(start) {
		t.Errorf("found %d nodes where none fits, done %v", len(got), s.Done(start))
	}
}

// TestOneNetwork: two nodes of a /24 take part, and one of an address.
func TestOneNetwork(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 6))
	w := newWorld(1, 6)
	var many []krpc.Contact
	for i := range 40 {
		c := public(w, fmt.Sprintf("7.7.7.%d", 1+i/2), true, random)
		c.Addr = netip.AddrPortFrom(c.Addr.Addr(), uint16(1+i))
		many = append(many, c)
	}
	s := New(w.target, Options{Flight: 100, Slow: time.Second}, many)
	if got := len(w.run(s, func(krpc.Contact) bool { return true })); got != perNetwork {
		t.Errorf("%d nodes of one network were asked", got)
	}
}

// TestDoubtful: a node that names dead ones is found out after a few; what two name is believed.
func TestDoubtful(t *testing.T) {
	w := newWorld(200, 7)
	s := New(w.target, Options{Flight: 1, Slow: time.Second}, w.nodes[100:110])
	liar, _ := s.Next(start)
	s.Answered(liar, nil, w.nodes[:8]) // all dead
	for range believed {
		c, ok := s.Next(start)
		if !ok || slices.Index(w.nodes, c) >= 8 {
			t.Fatalf("asks %v %v, not the nearest", c, ok)
		}
		s.Failed(c)
	}
	c, _ := s.Next(start)
	if c != w.nodes[101] {
		t.Fatalf("asks %v, still believing the liar", c)
	}
	s.Answered(c, nil, []krpc.Contact{w.nodes[5]}) // a second witness
	if c, _ := s.Next(start); c != w.nodes[5] {
		t.Errorf("asks %v, not the node that two named", c)
	}
}

// liars returns nodes nearer to the target than any of the world, the nearest first, n of them.
func (w *world) liars(n int, random *rand.Rand) []krpc.Contact {
	var out []krpc.Contact
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 100, byte(i), 1})
		out = append(out, krpc.Contact{ID: krpc.RandomNear(w.target, 30, random), Addr: netip.AddrPortFrom(addr, 1)})
	}
	slices.SortFunc(out, w.target.Compare)
	return out
}

// TestRing: nodes that name only the nearest of themselves, as near as they may be, do not end a search: of the nodes that do only
// half have one node to thank for being named.
func TestRing(t *testing.T) {
	w := newWorld(200, 10)
	ring := w.liars(krpc.K, rand.New(rand.NewPCG(10, 10)))
	s := New(w.target, Options{Flight: 1, Slow: time.Second}, append(slices.Clone(w.nodes[20:40]), ring[krpc.K-1]))
	honest := 0
	for c, ok := s.Next(start); ok; c, ok = s.Next(start) {
		if slices.Contains(ring, c) {
			s.Answered(c, nil, ring)
			continue
		}
		honest++
		s.Answered(c, nil, w.closer(c))
	}
	if honest < 3 || !s.Done(start) { // beside the one of the liars that it began with
		t.Errorf("%d of the others were asked", honest)
	}
}

// TestTrap: nodes near the target that hardly know one another are passed by: then the search ends only with nodes
// it came to from several of those it began with.
func TestTrap(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 11))
	w := newWorld(200, 11)
	ring := w.liars(100, random)
	s := New(w.target, Options{Flight: 1, Slow: time.Second}, append(slices.Clone(w.nodes[20:40]), ring[99]))
	honest := 0
	for c, ok := s.Next(start); ok; c, ok = s.Next(start) {
		if slices.Contains(ring, c) {
			s.Answered(c, nil, []krpc.Contact{ring[random.IntN(100)], ring[random.IntN(100)], ring[random.IntN(100)]})
			continue
		}
		honest++
		s.Answered(c, nil, w.closer(c))
	}
	if honest < 6 {
		t.Errorf("%d of the others were asked", honest)
	}
	if got := s.Proven(); len(got) != 0 {
		t.Errorf("%d of the liars show that they know the others", len(got))
	}
}

// TestDistrust: a search that trusts none of those it began with asks more of them.
func TestDistrust(t *testing.T) {
	asked := func(wary bool) int {
		w := newWorld(200, 12)
		s := New(w.target, Options{Flight: 1, Slow: time.Second}, w.nodes[100:116])
		if wary {
			s.Distrust()
		}
		n := 0
		for _, c := range w.run(s, nil) {
			if slices.Contains(w.nodes[100:116], c) {
				n++
			}
		}
		return n
	}
	if trusting, wary := asked(false), asked(true); trusting != 1 || wary < 4 {
		t.Errorf("%d and, where none is trusted, %d of those it began with were asked", trusting, wary)
	}
}

// TestProven: nodes that name half of the others show that they know them; where there are few all are taken.
func TestProven(t *testing.T) {
	w := newWorld(krpc.K, 13)
	s := New(w.target, Options{Flight: krpc.K, Slow: time.Second}, w.nodes)
	for range w.nodes {
		s.Next(start)
	}
	s.Answered(w.nodes[0], nil, nil)
	if got := s.Proven(); !slices.Equal(got, w.nodes[:1]) {
		t.Errorf("of one that answered %v are proven", got)
	}
	s.Answered(w.nodes[1], nil, w.nodes[:4]) // itself and three others
	for _, c := range w.nodes[2:] {
		s.Answered(c, nil, w.nodes[:5]) // four others or five
	}
	if got := s.Proven(); !slices.Equal(got, w.nodes[2:]) {
		t.Errorf("proven are %v", got)
	}
}

// TestBounded: a flood of names does not grow the search.
func TestBounded(t *testing.T) {
	w := newWorld(5000, 8)
	s := New(w.target, Shipped, w.nodes[4990:])
	for i := range 100 {
		s.Add(w.nodes[i*40 : i*40+40]...)
		if len(s.nodes) > maxNodes {
			t.Fatalf("the search knows %d nodes", len(s.nodes))
		}
	}
	if c, _ := s.Next(start); c != w.nodes[0] {
		t.Errorf("asks %v, not the nearest of all", c)
	}
}

func TestNothingToAsk(t *testing.T) {
	s := New(krpc.ID{1}, Shipped, nil)
	if _, ok := s.Next(start); ok || !s.Done(start) || len(s.Closest()) != 0 || !s.Wake(start).IsZero() {
		t.Error("a search with no nodes is not done")
	}
}
