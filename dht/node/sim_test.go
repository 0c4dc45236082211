package node

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"time"

	"bittern/dht/krpc"
	"bittern/dht/lookup"
)

// A world is a network of simulated nodes on virtual time, among which real ones ([Node]) live. One seed gives one run.
type world struct {
	random *rand.Rand
	now    time.Time
	queue  events
	seq    int
	hosts  []*host // by id
	byAddr map[netip.AddrPort]*host
	nodes  map[netip.AddrPort]*Node
	next   netip.Addr
	loss   float64
	liars  []*host                // that live; made when first needed
	depth  map[netip.AddrPort]int // of the search that runs: over how many answers it came to an address, its own included
	hops   int                    // to the first answer with peers; 0 if there was none yet

	onPeers func(at netip.AddrPort, p Peers)
	onEnded func(at netip.AddrPort, e Ended)
	sent    map[netip.AddrPort]int // packets by real nodes
	wake    map[netip.AddrPort]time.Time
}

// A host answers like a node of the public network: eight nodes a bucket, fixed, some of them dead.
type host struct {
	krpc.Contact
	rtt   time.Duration // to whoever asks
	dead  bool
	role  role
	table []*host // made when first needed
	store map[krpc.ID][]netip.AddrPort
}

type role int

const (
	honest   role = iota
	junk          // answers what is no message
	deadEnds      // names addresses where nobody is, close to any target
	ring          // names only others of its kind: the eight nearest to the target
	wideRing      // as ring, but eight of the 24 nearest
	squatter      // names others of its kind, all of whom are at the target whatever that is
)

type event struct {
	at   time.Time
	seq  int
	from netip.AddrPort
	to   netip.AddrPort
	data []byte // nil: a tick of the real node at to
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// newWorld makes n hosts that live, at addresses of networks of their own, with round trips around 80 ms.
func newWorld(n int, seed uint64) *world {
	return newWorldAt(netip.AddrFrom4([4]byte{20, 0, 0, 1}), n, seed)
}

// newWorldAt is newWorld at the addresses from first on.
func newWorldAt(first netip.Addr, n int, seed uint64) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		byAddr: map[netip.AddrPort]*host{}, nodes: map[netip.AddrPort]*Node{}, sent: map[netip.AddrPort]int{}, wake: map[netip.AddrPort]time.Time{},
		next: first,
	}
	for range n {
		addr := w.address()
		w.addHost(&host{Contact: krpc.Contact{ID: krpc.IDFor(addr.Addr(), w.random), Addr: addr}})
	}
	w.sort()
	return w
}

func (w *world) addHost(h *host) {
	h.rtt = time.Duration(80e6 * math.Exp(0.5*w.random.NormFloat64()))
	h.store = map[krpc.ID][]netip.AddrPort{}
	w.hosts = append(w.hosts, h)
	w.byAddr[h.Addr] = h
}

func (w *world) sort() {
	slices.SortFunc(w.hosts, func(a, b *host) int { return krpc.ID{}.Compare(a.Contact, b.Contact) })
}

// address returns an address, public unless the world was moved, in a /24 that nobody else is in.
func (w *world) address() netip.AddrPort {
	a := w.next.As4()
	for i := 2; ; i-- {
		if a[i]++; a[i] != 0 {
			break
		}
	}
	w.next = netip.AddrFrom4(a)
	return netip.AddrPortFrom(w.next, 6881)
}

// kill lets a share of the hosts die.
func (w *world) kill(share float64) {
	for _, h := range w.hosts {
		h.dead = h.dead || w.random.Float64() < share
	}
	w.liars = nil
}

// node puts a real node into the world.
func (w *world) node(opt Options) (netip.AddrPort, *Node) {
	at := w.address()
	opt.IPv4, opt.Random = true, rand.New(rand.NewPCG(w.random.Uint64(), 1))
	n := New(opt)
	w.nodes[at] = n
	return at, n
}

// remove takes a real node out again.
func (w *world) remove(at netip.AddrPort) {
	delete(w.nodes, at)
	delete(w.wake, at)
}

func (w *world) push(e event) {
	w.seq++
	e.seq = w.seq
	heap.Push(&w.queue, e)
}

// flush sends what a real node wants to send, and asks when to wake it.
func (w *world) flush(at netip.AddrPort) {
	n := w.nodes[at]
	eff := n.Take()
	for _, p := range eff.Packets {
		w.sent[at]++
		w.carry(at, p.To, p.Data)
	}
	for _, p := range eff.Peers {
		w.onPeers(at, p)
	}
	for _, e := range eff.Ended {
		w.onEnded(at, e)
	}
	next := n.Next(w.now)
	if old, ok := w.wake[at]; !ok || next.Before(old) {
		w.wake[at] = next
		w.push(event{at: next, to: at})
	}
}

func (w *world) carry(from, to netip.AddrPort, data []byte) {
	if w.random.Float64() < w.loss {
		return
	}
	delay := 40 * time.Millisecond
	for _, a := range []netip.AddrPort{from, to} {
		if h := w.byAddr[a]; h != nil {
			delay = h.rtt / 2
		}
	}
	w.push(event{at: w.now.Add(delay), from: from, to: to, data: data})
}

// run lets time pass until done says so or d is over, and reports whether it was done.
func (w *world) run(d time.Duration, done func() bool) bool {
	end := w.now.Add(d)
	for !done() {
		if len(w.queue) == 0 || w.queue[0].at.After(end) {
			w.now = end
			return false
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		if n := w.nodes[e.to]; n != nil {
			switch {
			case e.data != nil:
				w.trace(e)
				n.Receive(w.now, e.from, e.data)
			case w.wake[e.to] != e.at:
				continue // it asked to be woken at another time since
			default:
				delete(w.wake, e.to)
				n.Tick(w.now)
			}
			w.flush(e.to)
		} else if h := w.byAddr[e.to]; h != nil && !h.dead {
			w.answer(h, e)
		}
	}
	return true
}

// answer is what a host does with a query.
func (w *world) answer(h *host, e event) {
	m, err := krpc.Parse(e.data)
	if err != nil || m.Kind != krpc.IsQuery {
		return
	}
	out := krpc.Message{Kind: krpc.IsReply, T: m.T, IP: e.from, Reply: krpc.Reply{ID: h.ID}}
	r := &out.Reply
	switch h.role {
	case junk:
		w.carry(h.Addr, e.from, []byte("d1:rd2:id5:helloe1:y1:re"))
		return
	case deadEnds:
		r.Token = []byte("liar")
		for range krpc.K {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(100 + w.random.IntN(50)), byte(w.random.Uint32()), byte(w.random.Uint32()), 1}), 1)
			r.Nodes = append(r.Nodes, krpc.Contact{ID: forge(m.Query.Target, addr.Addr(), w.random), Addr: addr})
		}
	case ring:
		r.Token, r.Nodes = []byte("liar"), nearestHosts(w.ring(), m.Query.Target, krpc.K)
	case wideRing:
		all := nearestHosts(w.ring(), m.Query.Target, 3*krpc.K)
		w.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		r.Token, r.Nodes = []byte("liar"), all[:min(krpc.K, len(all))]
	case squatter:
		r.ID, r.Token = squat(m.Query.Target, h.Addr), []byte("liar")
		for range krpc.K {
			addr := w.ring()[w.random.IntN(len(w.ring()))].Addr
			r.Nodes = append(r.Nodes, krpc.Contact{ID: squat(m.Query.Target, addr), Addr: addr})
		}
	default:
		r.Token = []byte("token")
		r.Nodes = h.closest(w, m.Query.Target)
	}
	switch m.Query.Method {
	case krpc.AnnouncePeer:
		if h.role == honest {
			peer := netip.AddrPortFrom(e.from.Addr(), m.Query.Port)
			if !slices.Contains(h.store[m.Query.Target], peer) {
				h.store[m.Query.Target] = append(h.store[m.Query.Target], peer)
			}
		}
		r.Nodes, r.Token = nil, nil
	case krpc.GetPeers:
		if h.role == honest {
			r.Values = h.store[m.Query.Target]
		}
	}
	w.carry(h.Addr, e.from, krpc.Append(nil, &out))
}

// forge returns the id nearest to the target that an address may have.
func forge(target krpc.ID, ip netip.Addr, random *rand.Rand) krpc.ID {
	best := krpc.IDFor(ip, random)
	for range 64 {
		id := krpc.IDFor(ip, random)
		copy(id[3:19], target[3:19]) // BEP 42 binds the first 21 bits and the last 3
		if target.Closer(id, best) {
			best = id
		}
	}
	return best
}

// squat returns the id right at the target that a squatter at an address takes.
func squat(target krpc.ID, addr netip.AddrPort) krpc.ID {
	ip := addr.Addr().As4()
	copy(target[16:], ip[:])
	return target
}

// closest names eight nodes of the host's table.
func (h *host) closest(w *world, target krpc.ID) []krpc.Contact {
	if h.table == nil {
		h.fill(w)
	}
	return nearestHosts(h.table, target, krpc.K)
}

// ring returns the liars that live.
func (w *world) ring() []*host {
	if w.liars == nil {
		for _, h := range w.hosts {
			if h.role != honest && !h.dead {
				w.liars = append(w.liars, h)
			}
		}
	}
	return w.liars
}

// nearestHosts returns the n of hosts that are nearest to the target, nearest first.
func nearestHosts(hosts []*host, target krpc.ID, n int) []krpc.Contact {
	var out []krpc.Contact
	for _, o := range hosts {
		at, _ := slices.BinarySearchFunc(out, o, func(c krpc.Contact, o *host) int { return target.Compare(c, o.Contact) })
		if at < n {
			out = slices.Insert(out, at, o.Contact)
			out = out[:min(len(out), n)]
		}
	}
	return out
}

// fill makes the host's table: of each bucket eight nodes at random.
func (h *host) fill(w *world) {
	lo, hi := 0, len(w.hosts)
	for prefix := 0; hi-lo > 1 && prefix < 160; prefix++ {
		// Where the hosts of this prefix turn from those that differ in the next bit to those that do not.
		bit := func(i int) bool { return w.hosts[i].ID[prefix/8]&(0x80>>(prefix%8)) != 0 }
		mid := lo + sort.Search(hi-lo, func(i int) bool { return bit(lo + i) })
		from, to := lo, mid // those that are not on our side
		if h.ID[prefix/8]&(0x80>>(prefix%8)) == 0 {
			from, to, hi = mid, hi, mid
		} else {
			lo = mid
		}
		var bucket []*host
		for tries := 0; len(bucket) < min(krpc.K, to-from) && tries < 1000; tries++ {
			o := w.hosts[from+w.random.IntN(to-from)]
			if !slices.Contains(bucket, o) {
				bucket = append(bucket, o)
			}
		}
		h.table = append(h.table, bucket...)
	}
}

// trace follows the search that runs by an answer that reaches it.
func (w *world) trace(e event) {
	m, err := krpc.Parse(e.data)
	if err != nil || m.Kind != krpc.IsReply {
		return
	}
	d := max(w.depth[e.from], 1)
	if len(m.Reply.Values) > 0 && w.hops == 0 {
		w.hops = d
	}
	for _, c := range m.Reply.Nodes {
		if w.depth[c.Addr] == 0 {
			w.depth[c.Addr] = d + 1
		}
	}
}

// A result is what one search came to; durations are since it began.
type result struct {
	first, end     time.Duration // 0: no peer was found; the search did not end
	hops           int           // answers on the way to the first peer, that one included
	queries        int
	answered, told int
}

// search runs one search of a real node and takes the node out again.
func (w *world) search(at netip.AddrPort, hash krpc.ID, announce Announce) result {
	var r result
	n, began, sent := w.nodes[at], w.now, w.sent[at]
	var id SearchID
	w.onPeers = func(who netip.AddrPort, p Peers) {
		if who == at && p.Search == id && r.first == 0 {
			r.first = w.now.Sub(began)
		}
	}
	w.onEnded = func(who netip.AddrPort, e Ended) {
		if who == at && e.Search == id {
			r.end, r.answered, r.told = w.now.Sub(began), e.Answered, e.Announced
		}
	}
	w.depth, w.hops = map[netip.AddrPort]int{}, 0
	id = n.Search(w.now, hash, announce)
	w.flush(at)
	w.run(time.Minute, func() bool { return r.end != 0 })
	r.hops, r.queries = w.hops, w.sent[at]-sent-r.told
	return r
}

// remembered returns what a node saves that has run some searches in this world.
func (w *world) remembered(opt Options, searches int) []krpc.Contact {
	at, n := w.node(opt)
	n.Router(w.now, w.liveOne().Addr)
	w.flush(at)
	for range searches {
		w.search(at, krpc.RandomID(w.random), Announce{})
	}
	w.remove(at)
	return n.Save(w.now)
}

// warm puts a node into the world that remembers what an earlier run left.
func (w *world) warm(opt Options, saved []krpc.Contact) netip.AddrPort {
	at, n := w.node(opt)
	n.Remember(saved)
	return at
}

// quantile returns the q-quantile of ds.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}

// A summary is a line of the table in the README.
type summary struct {
	name             string
	searches, found  int
	firsts, ends     []time.Duration
	hops             int
	queries, answers int
}

const header = "| setting | found | hops | first peer ms, median | 99 % | closest 8 ms, median | 99 % | queries | answers |"

func (s *summary) add(r result) {
	s.searches++
	s.queries += r.queries
	s.answers += r.answered
	if r.first != 0 {
		s.found++
		s.hops += r.hops
		s.firsts = append(s.firsts, r.first)
	}
	s.ends = append(s.ends, r.end)
}

func (s *summary) String() string {
	ms := func(d time.Duration) int64 { return d.Round(time.Millisecond).Milliseconds() }
	per := func(n, of int) float64 { return float64(n) / float64(max(of, 1)) }
	return fmt.Sprintf("| %s | %.1f %% | %.1f | %d | %d | %d | %d | %.1f | %.1f |", s.name, 100*per(s.found, s.searches), per(s.hops, s.found),
		ms(quantile(s.firsts, .5)), ms(quantile(s.firsts, .99)), ms(quantile(s.ends, .5)), ms(quantile(s.ends, .99)),
		per(s.queries, s.searches), per(s.answers, s.searches))
}

var plain = Options{ReadOnly: true, Search: lookup.Options{Flight: 3, Slow: 2 * time.Second}}
var shipped = Options{ReadOnly: true, Wide: true}
