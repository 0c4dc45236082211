package table

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

const quick = 50 * time.Millisecond

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// contact makes a node with a given number of bits in common with self, at an address of its own private network.
func contact(self krpc.ID, prefix int, n byte, random *rand.Rand) krpc.Contact {
	return krpc.Contact{
		ID:   krpc.RandomNear(self, prefix, random),
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(prefix), n, 1}), 6881),
	}
}

// fill puts nodes of one prefix into the table and returns them.
func fill(t *Table, now time.Time, prefix, n int, rtt time.Duration) []krpc.Contact {
	var out []krpc.Contact
	for i := range n {
		c := contact(t.self, prefix, byte(i), t.random)
		t.Answered(now, c, rtt)
		out = append(out, c)
	}
	return out
}

func (t *Table) holds(c krpc.Contact) bool {
	return find(t.buckets[t.index(c.ID)].nodes, c) != nil
}

// check fails if the table is not what its comment says.
func (t *Table) check() error {
	seen := map[netip.AddrPort]bool{}
	for i := range t.buckets {
		b := &t.buckets[i]
		if len(b.nodes) > t.width(i) || len(b.spare) > spares {
			return fmt.Errorf("bucket %d holds %d nodes and %d spares", i, len(b.nodes), len(b.spare))
		}
		networks := map[netip.Prefix]int{}
		for _, n := range b.nodes {
			ip := n.Addr.Addr()
			if !krpc.Local(ip) {
				networks[krpc.Network(ip)]++
			}
			switch p := t.self.Prefix(n.ID); {
			case p < i, p > i && i < len(t.buckets)-1:
				return fmt.Errorf("bucket %d holds a node with %d bits in common", i, p)
			case seen[n.Addr]:
				return fmt.Errorf("two nodes are at %v", n.Addr)
			case networks[krpc.Network(ip)] > perNetwork:
				return fmt.Errorf("bucket %d holds three nodes of %v", i, krpc.Network(ip))
			case !n.ID.Fits(ip):
				return fmt.Errorf("bucket %d holds %v, which does not fit %v", i, n.ID, ip)
			case n.answered.IsZero():
				return fmt.Errorf("bucket %d holds a node that never answered", i)
			}
			seen[n.Addr] = true
		}
	}
	return nil
}

// TestInvariants: whatever happens in whatever order, the table is what it says, and what it names is what
// a look at every node would name.
func TestInvariants(t *testing.T) {
	good := 0
	for seed := range uint64(30) {
		random := newRandom(seed)
		tab := New(krpc.RandomID(random), seed%2 == 0, random)
		now := start
		var known []krpc.Contact
		for range 1000 {
			now = now.Add(time.Duration(random.IntN(4000)) * time.Millisecond)
			if len(known) == 0 || random.IntN(3) == 0 {
				ip := netip.AddrFrom4([4]byte{byte(1 + random.IntN(9)), byte(random.IntN(3)), byte(random.IntN(9)), byte(random.IntN(200))})
				c := krpc.Contact{ID: krpc.IDFor(ip, random), Addr: netip.AddrPortFrom(ip, uint16(1+random.IntN(3)))}
				if random.IntN(2) == 0 { // a node near us, that fits nowhere but in 10.0.0.0/8
					c.ID = krpc.RandomNear(tab.self, random.IntN(20), random)
				}
				known = append(known, c)
			}
			c := known[random.IntN(len(known))]
			switch random.IntN(20) {
			case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
				tab.Answered(now, c, time.Duration(1+random.IntN(300))*time.Millisecond)
			case 13, 14:
				tab.Asked(now, c)
			case 15, 16, 17:
				tab.Failed(c)
			case 18:
				tab.Probe(now)
			case 19:
				tab.Refresh(now)
			}
			if random.IntN(1000) == 0 {
				tab.Rename(krpc.RandomID(random))
			}
			if err := tab.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		target := krpc.RandomID(random)
		want := tab.Good(nil, now)
		slices.SortFunc(want, target.Compare)
		if got := tab.Closest(nil, now, target, krpc.K); !slices.Equal(got, want[:min(len(want), krpc.K)]) {
			t.Fatalf("seed %d: Closest\n got %v\nwant %v", seed, got, want)
		}
		good += len(want)
	}
	if good < 30*10 {
		t.Fatalf("%d good nodes in 30 tables: too few to have tested anything", good)
	}
}

// TestSplit: only the bucket around our own id is split, so the far half of the space never takes more than its width.
func TestSplit(t *testing.T) {
	for _, wide := range []bool{false, true} {
		tab := New(krpc.RandomID(newRandom(1)), wide, newRandom(2))
		for prefix := range 12 {
			fill(tab, start, prefix, 200, quick)
		}
		for prefix := range 11 {
			if got, want := len(tab.buckets[prefix].nodes), tab.width(prefix); got != want {
				t.Errorf("wide %v: bucket %d holds %d nodes, want %d", wide, prefix, got, want)
			}
		}
	}
}

// TestOldNodesStay: a full bucket keeps its nodes while they answer; the newcomer waits, and enters for one that
// failed twice.
func TestOldNodesStay(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	fill(tab, start, 5, 8, quick) // the bucket of our own id
	old := fill(tab, start, 0, 8, quick)
	late := contact(tab.self, 0, 200, tab.random)
	tab.Answered(start, late, time.Millisecond)
	if tab.holds(late) {
		t.Fatal("the newcomer is in a bucket full of good nodes")
	}
	tab.Failed(old[3])
	if tab.holds(late) {
		t.Fatal("one missed answer cost a node its place")
	}
	if c, ok := tab.Probe(start); !ok || c != old[3] {
		t.Fatalf("Probe names %v %v, not the node that failed once", c, ok)
	}
	tab.Failed(old[3])
	if !tab.holds(late) || tab.holds(old[3]) {
		t.Fatal("the newcomer did not take the place of the node that failed twice")
	}
}

// TestOutage: when every node fails and none waits, the table keeps them to start from, but names none
// to others.
func TestOutage(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), true, newRandom(2))
	nodes := fill(tab, start, 0, 20, quick)
	for range 5 {
		for _, n := range nodes {
			tab.Failed(n)
		}
	}
	if got := tab.Closest(nil, start, tab.self, 8); len(got) != 0 {
		t.Errorf("%d failed nodes are named to others", len(got))
	}
	if got := tab.Start(nil, start, tab.self, 8); len(got) != 8 {
		t.Errorf("a search starts with %d nodes, want 8", len(got))
	}
}

// TestQuickNodes: of a wide bucket the slow nodes go for those that are clearly quicker, elsewhere none does.
func TestQuickNodes(t *testing.T) {
	for _, wide := range []bool{false, true} {
		tab := New(krpc.RandomID(newRandom(1)), wide, newRandom(2))
		fill(tab, start, 5, 20, quick)
		slow := fill(tab, start, 0, tab.width(0), 200*time.Millisecond)
		same := contact(tab.self, 0, 250, tab.random)
		tab.Answered(start, same, 180*time.Millisecond)
		if tab.holds(same) {
			t.Errorf("wide %v: a node that is hardly quicker took a place", wide)
		}
		fast := contact(tab.self, 0, 251, tab.random)
		tab.Answered(start, fast, quick)
		if tab.holds(fast) != wide || wide && !slices.ContainsFunc(slow, func(c krpc.Contact) bool { return !tab.holds(c) }) {
			t.Errorf("wide %v: the quick node is in: %v", wide, tab.holds(fast))
		}
	}
}

// TestUnproved: a node that only asked is not in the table, but is worth a ping.
func TestUnproved(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	c := contact(tab.self, 0, 1, tab.random)
	tab.Asked(start, c)
	if tab.Len() != 0 {
		t.Fatal("a node that never answered is in the table")
	}
	if p, ok := tab.Probe(start); !ok || p != c {
		t.Fatalf("Probe names %v %v", p, ok)
	}
	if p, ok := tab.Probe(start.Add(time.Second)); ok {
		t.Fatalf("Probe names %v again after a second", p)
	}
	tab.Answered(start, c, quick)
	if got := tab.Closest(nil, start, c.ID, 8); len(got) != 1 || got[0] != c {
		t.Fatalf("Closest names %v", got)
	}
}

// TestUnfit: a node whose id its address does not allow is never in the table nor named to others, but a search
// may begin with it when there is no other (BEP 42).
func TestUnfit(t *testing.T) {
	random := newRandom(3)
	tab := New(krpc.RandomID(random), false, random)
	c := krpc.Contact{ID: krpc.RandomID(random), Addr: netip.MustParseAddrPort("5.6.7.8:1")}
	tab.Answered(start, c, quick)
	if tab.Len() != 0 || len(tab.Closest(nil, start, c.ID, 8)) != 0 {
		t.Fatal("an unfit node is in the table")
	}
	if got := tab.Start(nil, start, c.ID, 8); len(got) != 1 || got[0] != c {
		t.Fatalf("a search starts with %v", got)
	}
	if p, ok := tab.Probe(start); ok {
		t.Fatalf("%v is pinged for nothing", p)
	}
}

// TestOneNetwork: one /24 gets two places in a bucket, one address a single place, and a thousand
// callers of one network leave room for others beside it.
func TestOneNetwork(t *testing.T) {
	random := newRandom(4)
	tab := New(krpc.ID{}, false, random)
	for i := range 1000 {
		ip := netip.AddrFrom4([4]byte{9, 9, 9, byte(i % 250)})
		c := krpc.Contact{ID: krpc.IDFor(ip, random), Addr: netip.AddrPortFrom(ip, uint16(1+i))}
		if i%2 == 0 {
			tab.Asked(start, c)
		} else {
			tab.Answered(start, c, quick)
		}
	}
	for i := range tab.buckets {
		if n := len(tab.buckets[i].nodes); n > perNetwork {
			t.Errorf("bucket %d holds %d nodes of one network", i, n)
		}
		if n := len(tab.buckets[i].spare); n > 1 {
			t.Errorf("%d nodes of one network wait beside bucket %d", n, i)
		}
	}
	if n := tab.Len(); n == 0 {
		t.Error("no node of the network is in the table")
	}
}

// TestRenamedNode: a node that answers under a new id is one node.
func TestRenamedNode(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	c := contact(tab.self, 0, 1, tab.random)
	tab.Answered(start, c, quick)
	again := krpc.Contact{ID: krpc.RandomID(tab.random), Addr: c.Addr}
	tab.Answered(start, again, quick)
	if tab.holds(c) || !tab.holds(again) || tab.Len() != 1 {
		t.Errorf("old id held: %v, new: %v, %d nodes", tab.holds(c), tab.holds(again), tab.Len())
	}
}

// TestStolenID: who answers under another's id does not take its place.
func TestStolenID(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	c := contact(tab.self, 0, 1, tab.random)
	tab.Answered(start, c, quick)
	thief := krpc.Contact{ID: c.ID, Addr: netip.MustParseAddrPort("10.9.9.9:1")}
	tab.Answered(start, thief, quick)
	if !tab.holds(c) || tab.holds(thief) {
		t.Error("an id was stolen")
	}
	tab.Answered(start, krpc.Contact{ID: tab.self, Addr: thief.Addr}, quick)
	if tab.Len() != 1 {
		t.Error("our own id is in the table")
	}
}

// TestRefresh: each bucket is refreshed once in a quarter of an hour in which nothing changed it, by an id
// that lies in it.
func TestRefresh(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	for prefix := range 4 {
		fill(tab, start, prefix, 8, quick)
	}
	if id, ok := tab.Refresh(start); ok {
		t.Fatalf("a fresh table wants a refresh of %v", id)
	}
	now := start.Add(Fresh)
	for i := range tab.buckets {
		id, ok := tab.Refresh(now)
		if !ok || tab.index(id) != i {
			t.Errorf("refresh %d is %v %v", i, id, ok)
		}
	}
	if id, ok := tab.Refresh(now); ok {
		t.Errorf("%v is refreshed twice", id)
	}
	if n := len(tab.Good(nil, now)); n != 0 {
		t.Errorf("%d nodes are good that were silent for %v", n, Fresh)
	}
}

// TestQuestionable: a silent node is pinged while another waits for its place, and stays if it answers.
func TestQuestionable(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), false, newRandom(2))
	fill(tab, start, 5, 8, quick)
	old := fill(tab, start, 0, 8, quick)
	now := start.Add(Fresh)
	for _, c := range old[1:] {
		tab.Answered(now, c, quick)
	}
	late := contact(tab.self, 0, 99, tab.random)
	tab.Asked(now, late)
	c, ok := tab.Probe(now)
	if !ok || c != old[0] {
		t.Fatalf("Probe names %v %v, not the silent node", c, ok)
	}
	tab.Answered(now, c, quick)
	if c, ok := tab.Probe(now.Add(time.Minute)); ok {
		t.Fatalf("Probe names %v while all are good", c)
	}
}

func TestRename(t *testing.T) {
	tab := New(krpc.RandomID(newRandom(1)), true, newRandom(2))
	fill(tab, start, 0, 20, quick)
	fill(tab, start, 6, 5, quick)
	tab.Rename(krpc.RandomID(tab.random))
	if err := tab.check(); err != nil || tab.Len() != 25 {
		t.Errorf("%d nodes of 25 are left, %v", tab.Len(), err)
	}
}

func BenchmarkClosest(b *testing.B) {
	random := newRandom(1)
	tab := New(krpc.RandomID(random), true, random)
	for prefix := range 14 {
		fill(tab, start, prefix, 200, quick)
	}
	dst := make([]krpc.Contact, 0, 2*krpc.K)
	b.ReportAllocs()
	for b.Loop() {
		dst = tab.Closest(dst[:0], start, krpc.RandomID(random), krpc.K)
	}
}
