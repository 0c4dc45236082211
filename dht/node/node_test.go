package node

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"bittern/dht/krpc"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newNode(seed uint64, edit func(*Options)) *Node {
	opt := Options{IPv4: true, Version: [4]byte{'B', 'N', 0, 1}, Random: rand.New(rand.NewPCG(seed, 9))}
	if edit != nil {
		edit(&opt)
	}
	return New(opt)
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// query is a query by a stranger, as a packet.
func query(q krpc.Query) []byte {
	q.ID = krpc.ID{19: 1}
	return krpc.Append(nil, &krpc.Message{Kind: krpc.IsQuery, T: []byte("tt"), V: []byte("XX01"), Query: q})
}

// asks sends a packet to a node and returns its answer; nil if there is none.
func asks(t *testing.T, n *Node, now time.Time, from netip.AddrPort, packet []byte) *krpc.Message {
	t.Helper()
	n.Receive(now, from, packet)
	var out *krpc.Message
	for _, p := range n.Take().Packets {
		m, err := krpc.Parse(p.Data)
		if err != nil {
			t.Fatalf("sent %q: %v", p.Data, err)
		}
		if m.Kind == krpc.IsQuery {
			continue
		}
		if out != nil || p.To != from || string(m.T) != "tt" {
			t.Fatalf("answered %q to %v", p.Data, p.To)
		}
		if m.IP != from || string(m.V) != "BN\x00\x01" {
			t.Errorf("answer has ip %v and v %q", m.IP, m.V)
		}
		out = &m
	}
	return out
}

// TestServe: each query gets the reply of its BEP.
func TestServe(t *testing.T) {
	n, now, from := newNode(1, nil), begin, addr("9.8.7.6:1000")
	hash := krpc.ID{1, 2, 3}
	ask := func(q krpc.Query) *krpc.Message {
		t.Helper()
		m := asks(t, n, now, from, query(q))
		if m == nil {
			t.Fatalf("no answer to %s", q.Method)
		}
		return m
	}
	self := n.families[0].table.Self()
	if m := ask(krpc.Query{Method: krpc.Ping}); m.Reply.ID != self {
		t.Errorf("ping: %+v", m)
	}
	if m := ask(krpc.Query{Method: krpc.FindNode, Target: hash}); m.Reply.Nodes == nil || m.Reply.Token != nil {
		t.Errorf("find_node: %+v", m)
	}
	m := ask(krpc.Query{Method: krpc.GetPeers, Target: hash, Scrape: true})
	if len(m.Reply.Token) == 0 || m.Reply.Values != nil || m.Reply.Seeds != nil {
		t.Errorf("get_peers of an unknown torrent: %+v", m)
	}
	token := m.Reply.Token
	for _, tt := range []struct {
		token   string
		implied bool
		code    int64
	}{{"", false, krpc.ProtocolError}, {"forged!!", false, krpc.ProtocolError}, {string(token), false, 0}, {string(token), true, 0}} {
		m := ask(krpc.Query{Method: krpc.AnnouncePeer, Target: hash, Token: []byte(tt.token), Port: 77, ImpliedPort: tt.implied, Seed: true})
		if m.Error.Code != tt.code {
			t.Errorf("announce with token %q: %+v", tt.token, m)
		}
		if tt.code != 0 {
			continue
		}
		want := addr("9.8.7.6:77")
		if tt.implied {
			want = from
		}
		if m := ask(krpc.Query{Method: krpc.GetPeers, Target: hash}); !slices.Equal(m.Reply.Values, []netip.AddrPort{want}) {
			t.Errorf("peers %v, want one for an address: %v", m.Reply.Values, want)
		}
	}
	if m := ask(krpc.Query{Method: krpc.GetPeers, Target: hash, NoSeed: true}); m.Reply.Values != nil {
		t.Errorf("seeds %v for one that wants none", m.Reply.Values)
	}
	if m := ask(krpc.Query{Method: krpc.SampleInfohashes, Target: hash}); !bytes.Equal(m.Reply.Samples, hash[:]) || m.Reply.Num != 1 || m.Reply.Interval != 600 {
		t.Errorf("sample: %+v", m)
	}
	if m := ask(krpc.Query{Method: "vote"}); m.Error.Code != krpc.MethodUnknown {
		t.Errorf("unknown method: %+v", m)
	}
	if m := asks(t, n, now, from, []byte("d1:ade1:q4:ping1:t2:tt1:y1:qe")); m == nil || m.Error.Code != krpc.ProtocolError {
		t.Errorf("malformed query: %+v", m)
	}
	for _, junk := range []string{"", "d", "hello", "d1:t2:tt1:y1:qe trailing"} {
		if m := asks(t, n, now, from, []byte(junk)); m != nil {
			t.Errorf("%q is answered", junk)
		}
	}
}

// TestScrape: what is stored is counted in the filters of BEP 33, for who has proved its address.
func TestScrape(t *testing.T) {
	n, hash := newNode(1, nil), krpc.ID{5}
	for i := range 30 {
		n.store.put(begin, krpc.ID{}, hash, netip.AddrPortFrom(netip.AddrFrom4([4]byte{7, 7, byte(i), 1}), 1), i%3 == 0)
	}
	from := addr("9.8.7.6:1000")
	n.families[0].table.Answered(begin, krpc.Contact{ID: krpc.IDFor(from.Addr(), n.opt.Random), Addr: from}, time.Millisecond)
	m := asks(t, n, begin, from, query(krpc.Query{Method: krpc.GetPeers, Target: hash, Scrape: true}))
	if m.Reply.Seeds == nil || m.Reply.Peers == nil {
		t.Fatalf("no filters in %+v", m.Reply)
	}
	if s, p := m.Reply.Seeds.Size(), m.Reply.Peers.Size(); s < 9 || s > 11 || p < 18 || p > 22 {
		t.Errorf("%.1f seeds and %.1f peers are counted, want 10 and 20", s, p)
	}
}

// TestTokens: a token holds for its address, for five to ten minutes.
func TestTokens(t *testing.T) {
	n, from := newNode(1, nil), addr("9.8.7.6:1000")
	token := asks(t, n, begin, from, query(krpc.Query{Method: krpc.GetPeers})).Reply.Token
	announce := query(krpc.Query{Method: krpc.AnnouncePeer, Token: token, Port: 1})
	for _, tt := range []struct {
		from  string
		after time.Duration
		good  bool
	}{
		{"9.8.7.6:1000", 0, true}, {"9.8.7.6:2000", time.Second, true}, {"9.8.7.7:1000", time.Second, false},
		{"9.8.7.6:1000", 5 * time.Minute, true}, {"9.8.7.6:1000", 10*time.Minute - time.Second, true}, {"9.8.7.6:1000", 10 * time.Minute, false},
	} {
		if m := asks(t, n, begin.Add(tt.after), addr(tt.from), announce); (m.Kind == krpc.IsReply) != tt.good {
			t.Errorf("from %s after %v: %+v", tt.from, tt.after, m.Error)
		}
	}
}

// TestReadOnly: a read-only node answers nobody and says so in what it asks (BEP 43); who asks read-only is
// answered but not pinged.
func TestReadOnly(t *testing.T) {
	n := newNode(1, func(o *Options) { o.ReadOnly = true })
	if m := asks(t, n, begin, addr("9.8.7.6:1"), query(krpc.Query{Method: krpc.Ping})); m != nil {
		t.Errorf("a read-only node answers %+v", m)
	}
	n.Ping(begin, addr("9.8.7.6:1"))
	if m, err := krpc.Parse(n.Take().Packets[0].Data); err != nil || !m.ReadOnly {
		t.Errorf("a read-only node asks %+v, %v", m, err)
	}
	n.SetReadOnly(false)
	asker := krpc.Message{Kind: krpc.IsQuery, T: []byte("tt"), ReadOnly: true, Query: krpc.Query{Method: krpc.Ping, ID: krpc.ID{1}}}
	if m := asks(t, n, begin, addr("10.8.7.6:1"), krpc.Append(nil, &asker)); m == nil {
		t.Error("a read-only asker is not answered")
	}
	if c, ok := n.families[0].table.Probe(begin); ok {
		t.Errorf("%v is read-only, and worth a ping", c)
	}
}

// TestNoAmplification: an address that has proved nothing is sent at most three times what it sent, whatever is
// stored, and one that has answered us gets the full answer, within the largest packet.
func TestNoAmplification(t *testing.T) {
	n, hash := newNode(1, nil), krpc.ID{5}
	f := n.families[0]
	known := krpc.Contact{Addr: addr("9.9.9.9:9")}
	known.ID = krpc.IDFor(known.Addr.Addr(), n.opt.Random)
	for i := range 100 {
		ip := netip.AddrFrom4([4]byte{20, byte(i), 1, 1})
		f.table.Answered(begin, krpc.Contact{ID: krpc.IDFor(ip, n.opt.Random), Addr: netip.AddrPortFrom(ip, 1)}, time.Millisecond)
		n.store.put(begin, f.table.Self(), hash, netip.AddrPortFrom(ip, 2), i%2 == 0)
		n.store.put(begin, f.table.Self(), krpc.ID{byte(i)}, netip.AddrPortFrom(ip, 2), false)
	}
	f.table.Answered(begin, known, time.Millisecond)
	for _, q := range []krpc.Query{
		{Method: krpc.Ping}, {Method: krpc.FindNode}, {Method: krpc.GetPeers, Target: hash}, {Method: krpc.GetPeers, Target: krpc.ID{7}},
		{Method: krpc.GetPeers, Target: hash, Scrape: true}, {Method: krpc.SampleInfohashes}, {Method: "x"},
	} {
		packet := query(q)
		for _, from := range []netip.AddrPort{addr("8.8.8.8:1"), known.Addr} {
			n.Receive(begin, from, packet)
			out := n.Take().Packets
			if len(out) != 1 {
				t.Fatalf("%d answers to %s from %v", len(out), q.Method, from)
			}
			limit := krpc.MaxPacket
			if from != known.Addr {
				limit = 3 * len(packet)
			}
			m, err := krpc.Parse(out[0].Data)
			if got := len(out[0].Data); got > limit || err != nil {
				t.Errorf("%d bytes answer %d of %s from %v, %v", got, len(packet), q.Method, from, err)
			}
			if r := &m.Reply; q.Method == krpc.GetPeers && q.Target == hash && (len(r.Values) < krpc.K || from == known.Addr && !q.Scrape && len(r.Values) < 60) {
				t.Errorf("%d peers and %d nodes for %v", len(r.Values), len(r.Nodes), from)
			}
			if r := &m.Reply; q.Method == krpc.FindNode && len(r.Nodes) < krpc.K-1 {
				t.Errorf("%d nodes for %v", len(r.Nodes), from)
			}
		}
	}
}

// TestFloods: one address gets fifty answers in ten seconds, then none for five minutes; others go on.
func TestFloods(t *testing.T) {
	n, now := newNode(1, nil), begin
	ping := query(krpc.Query{Method: krpc.Ping})
	got := 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		if asks(t, n, now, addr("9.8.7.6:1"), ping) != nil {
			got++
		}
	}
	if got != 50 {
		t.Errorf("%d answers in ten seconds, want 50", got)
	}
	if asks(t, n, now, addr("9.8.7.7:1"), ping) == nil {
		t.Error("another address is not answered")
	}
	if asks(t, n, now.Add(4*time.Minute), addr("9.8.7.6:2"), ping) != nil {
		t.Error("answered after four minutes")
	}
	if asks(t, n, now.Add(6*time.Minute), addr("9.8.7.6:2"), ping) == nil {
		t.Error("not answered after six minutes")
	}
}

// TestFloods6: to be another address of its /64 does not help who floods.
func TestFloods6(t *testing.T) {
	n := newNode(1, func(o *Options) { o.IPv6 = true })
	ping, got := query(krpc.Query{Method: krpc.Ping}), 0
	for i := range 100 {
		from := netip.AddrFrom16([16]byte{0x20, 0x01, 15: byte(i)})
		if asks(t, n, begin, netip.AddrPortFrom(from, 1), ping) != nil {
			got++
		}
	}
	if got != 50 {
		t.Errorf("%d answers, want 50", got)
	}
	if asks(t, n, begin, netip.MustParseAddrPort("[2001:1::]:1"), ping) == nil {
		t.Error("another network is not answered")
	}
}

// TestBounded: 100,000 announces with forged tokens and 20,000 other queries, of as many addresses, leave the node as large as its
// limits say, and sending no more than it may.
func TestBounded(t *testing.T) {
	n, now := newNode(1, nil), begin
	random := rand.New(rand.NewPCG(4, 4))
	before := heapInUse()
	const step = 50 * time.Millisecond // so that more is announced than may be stored before it is too old
	sent, largest := 0, 0
	for i := range 120_000 {
		now = now.Add(step)
		ip := netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 1})
		q := krpc.Query{Method: krpc.AnnouncePeer, Target: krpc.RandomID(random), Port: 1, Token: token([32]byte{1}, ip)}
		switch i % 12 {
		case 0:
			q.Method = krpc.GetPeers
		case 6:
			q.Token = token(n.tokens.secret, ip)
			if i%60 == 6 {
				q.Target = krpc.ID{1}
			}
		}
		n.Receive(now, netip.AddrPortFrom(ip, 1), query(q))
		if i%100 == 0 {
			n.Tick(now)
		}
		for _, p := range n.Take().Packets {
			sent += len(p.Data)
		}
		largest = max(largest, len(n.store.torrents))
	}
	seconds := int(now.Sub(begin) / time.Second)
	if most := answersPerSec*seconds + answerBurst + seconds*queriesPerSec*200; sent > most {
		t.Errorf("%d bytes were sent in %d s", sent, seconds)
	}
	if len(n.floods.callers) > maxCallers || largest > maxTorrents || len(n.calls) > maxCalls || n.families[0].table.Len() > 200 {
		t.Errorf("%d callers, %d torrents, %d calls, %d nodes", len(n.floods.callers), largest, len(n.calls), n.families[0].table.Len())
	}
	for _, tor := range n.store.torrents {
		if len(tor.peers) > maxPeers {
			t.Errorf("%d peers of one torrent", len(tor.peers))
		}
	}
	grown := heapInUse() - before
	t.Logf("the node grew by %d KiB and held %d torrents at most", grown>>10, largest)
	if grown > 4<<20 {
		t.Errorf("the node grew by %d bytes", grown)
	}
	if m := asks(t, n, now.Add(time.Hour), addr("9.8.7.6:1"), query(krpc.Query{Method: krpc.GetPeers, Target: krpc.ID{1}})); m == nil || m.Reply.Values != nil {
		t.Errorf("peers that announced an hour ago: %+v", m)
	}
}

// heapInUse returns how many bytes are in use.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBoundedSearch: a search that every node it asks answers with 50 nodes and 50 peers nobody has named before, of both
// families, stays within its limits, and so does what the node learns by it.
func TestBoundedSearch(t *testing.T) {
	n, now := newNode(1, func(o *Options) { o.IPv6 = true }), begin
	random := rand.New(rand.NewPCG(6, 6))
	made := 0
	public := func() netip.Addr {
		made++
		return netip.AddrFrom4([4]byte{byte(20 + made>>16), byte(made >> 8), byte(made), 1})
	}
	for range 3 * seeds {
		ip := public()
		n.Remember([]krpc.Contact{{ID: krpc.IDFor(ip, random), Addr: netip.AddrPortFrom(ip, 1)}})
	}
	target := krpc.RandomID(random)
	n.Search(now, target, Announce{})
	s := n.searches[0]
	answers, peers := 0, 0
	for answers < 1000 && !s.ended {
		eff := n.Take()
		for _, p := range eff.Peers {
			peers += len(p.Addrs)
		}
		for _, p := range eff.Packets {
			m, err := krpc.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			answers++
			r := krpc.Reply{ID: krpc.IDFor(p.To.Addr(), random)}
			for range 50 {
				ip := public()
				r.Nodes = append(r.Nodes, krpc.Contact{ID: forge(target, ip, random), Addr: netip.AddrPortFrom(ip, 1)})
				r.Values = append(r.Values, netip.AddrPortFrom(public(), 2))
				six := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(made >> 8), byte(made), 15: 1})
				r.Nodes6 = append(r.Nodes6, krpc.Contact{ID: krpc.IDFor(six, random), Addr: netip.AddrPortFrom(six, 1)})
			}
			n.Receive(now, p.To, krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: r}))
		}
		now = n.Next(now)
		n.Tick(now)
	}
	if answers < 2*krpc.K || len(s.found) > maxFound || peers > 2*maxFound || len(s.times) > answers {
		t.Errorf("%d answers brought %d peers, of which %d are kept, and %d round trips", answers, peers, len(s.found), len(s.times))
	}
	for _, f := range n.families {
		if len(f.remembered) > maxRemembered || len(f.votes) > maxVotes || f.table.Len() > maxRemembered {
			t.Errorf("%d nodes are remembered, %d votes, %d nodes in the table", len(f.remembered), len(f.votes), f.table.Len())
		}
	}
}

// TestStoreKeepsNear: when the store is full the torrents nearest to the node's id stay.
func TestStoreKeepsNear(t *testing.T) {
	s, self, random := newStore(), krpc.ID{0xff}, rand.New(rand.NewPCG(1, 1))
	near := krpc.RandomNear(self, 100, random)
	s.put(begin, self, near, addr("1.2.3.4:5"), false)
	for range 2 * maxTorrents {
		s.put(begin, self, krpc.RandomID(random), addr("1.2.3.4:5"), false)
	}
	if _, ok := s.find(near); !ok || len(s.torrents) != maxTorrents {
		t.Errorf("the nearest is there: %v, of %d", ok, len(s.torrents))
	}
	for i := 1; i < len(s.torrents); i++ {
		if bytes.Compare(s.torrents[i-1].hash[:], s.torrents[i].hash[:]) >= 0 {
			t.Fatal("the store is out of order")
		}
	}
}

// TestStoreForgets: a torrent goes with its last peer, whether somebody asks for it or its place is needed.
func TestStoreForgets(t *testing.T) {
	s, random, late := newStore(), rand.New(rand.NewPCG(2, 2)), begin.Add(announceHolds)
	asked, full := krpc.RandomID(random), krpc.RandomID(random)
	s.put(begin, krpc.ID{}, asked, addr("1.2.3.4:5"), false)
	s.put(begin, krpc.ID{}, full, addr("1.2.3.4:5"), false)
	for len(s.torrents) < maxTorrents {
		s.put(late, krpc.ID{}, krpc.RandomID(random), addr("1.2.3.4:5"), false)
	}
	if got := s.peers(late, asked, false, false, random); got != nil {
		t.Errorf("old peers %v", got)
	}
	if hashes := s.sample(late, maxTorrents, random); len(hashes) != 20*(maxTorrents-2) {
		t.Errorf("%d torrents are named, want those that have peers", len(hashes)/20)
	}
	for range 3 {
		s.put(late, krpc.ID{}, krpc.RandomID(random), addr("1.2.3.4:5"), false)
	}
	if len(s.torrents) != maxTorrents {
		t.Errorf("%d torrents", len(s.torrents))
	}
}

// TestUnsolicited: only the answer to a query, from where that went, with its transaction id, counts.
func TestUnsolicited(t *testing.T) {
	n, to := newNode(1, nil), addr("9.8.7.6:1")
	n.Ping(begin, to)
	m, err := krpc.Parse(n.Take().Packets[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	reply := func(tid []byte) []byte {
		return krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: tid, Reply: krpc.Reply{ID: krpc.IDFor(to.Addr(), n.opt.Random)}})
	}
	n.Receive(begin, addr("9.8.7.6:2"), reply(m.T))
	n.Receive(begin, addr("9.8.7.5:1"), reply(m.T))
	n.Receive(begin, to, reply([]byte{m.T[0], m.T[1] ^ 1}))
	n.Receive(begin, to, reply(append(slices.Clone(m.T), 0)))
	if n.families[0].table.Len() != 0 || len(n.calls) != 1 {
		t.Fatal("an answer that nobody asked for counts")
	}
	n.Receive(begin, to, reply(m.T))
	if n.families[0].table.Len() != 1 || len(n.calls) != 0 {
		t.Fatal("the answer does not count")
	}
}

// TestVotes: nodes of four networks that agree on our address give us an id that fits it; one network cannot.
func TestVotes(t *testing.T) {
	n := newNode(1, nil)
	f := n.families[0]
	old, ours := f.table.Self(), netip.MustParseAddr("124.31.75.21")
	for i := range 100 {
		n.vote(f, netip.AddrFrom4([4]byte{9, 9, 9, byte(i)}), ours)
	}
	n.vote(f, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("192.168.1.1"))
	if f.table.Self() != old {
		t.Fatal("one network named the node")
	}
	for i := range 3 {
		n.vote(f, netip.AddrFrom4([4]byte{9, 9, byte(10 + i), 1}), ours)
	}
	named := f.table.Self()
	if named == old || !named.Fits(ours) {
		t.Fatalf("the id is %v after four networks agree", named)
	}
	for i := range 3 {
		n.vote(f, netip.AddrFrom4([4]byte{9, 10, byte(10 + i), 1}), netip.MustParseAddr("5.5.5.5"))
	}
	if f.table.Self() != named {
		t.Error("a minority renamed the node")
	}
}

// TestBothFamilies: a query is answered with the lists it wants (BEP 32), peers only of the family it came by; a node of
// both asks for both while one table is empty, and searches both.
func TestBothFamilies(t *testing.T) {
	n := newNode(1, func(o *Options) { o.IPv6 = true })
	six, four := netip.MustParseAddrPort("[2001:db8::1]:6"), addr("20.1.1.1:4")
	for _, a := range []netip.AddrPort{six, four} {
		n.familyOf(a.Addr()).table.Answered(begin, krpc.Contact{ID: krpc.IDFor(a.Addr(), n.opt.Random), Addr: a}, time.Millisecond)
		n.store.put(begin, krpc.ID{}, krpc.ID{5}, a, false)
	}
	for _, tt := range []struct {
		from   netip.AddrPort
		want   krpc.Want
		n4, n6 int
	}{
		{addr("9.8.7.6:1"), krpc.Want{}, 1, 0}, {addr("[2001:db8:1::1]:1"), krpc.Want{}, 0, 1},
		{addr("9.8.7.6:1"), krpc.Want{N6: true}, 0, 1}, {addr("9.8.7.6:1"), krpc.Want{N4: true, N6: true}, 1, 1},
	} {
		r := asks(t, n, begin, tt.from, query(krpc.Query{Method: krpc.GetPeers, Target: krpc.ID{5}, Want: tt.want})).Reply
		if len(r.Nodes) != tt.n4 || len(r.Nodes6) != tt.n6 {
			t.Errorf("%v wants %+v: %d and %d nodes", tt.from, tt.want, len(r.Nodes), len(r.Nodes6))
		}
		if len(r.Values) != 1 || r.Values[0].Addr().Is4() != tt.from.Addr().Is4() {
			t.Errorf("%v: peers %v", tt.from, r.Values)
		}
	}
	n.Search(begin, krpc.ID{7}, Announce{})
	var to []netip.AddrPort
	for _, p := range n.Take().Packets {
		to = append(to, p.To)
	}
	if !slices.Contains(to, six) || !slices.Contains(to, four) {
		t.Errorf("a search asks %v", to)
	}
	young := newNode(2, func(o *Options) { o.IPv6 = true })
	young.Router(begin, four)
	young.Search(begin, krpc.ID{7}, Announce{})
	if m, err := krpc.Parse(young.Take().Packets[0].Data); err != nil || m.Query.Want != (krpc.Want{N4: true, N6: true}) {
		t.Errorf("a node with an empty table asks %+v, %v", m.Query, err)
	}
}

// TestOtherFamily: a search that knows nobody in one family waits for what the nodes of the other tell of it, and no longer.
func TestOtherFamily(t *testing.T) {
	six, router := netip.MustParseAddrPort("[2001:db8::1]:6"), addr("20.1.1.1:4")
	for _, named := range [][]krpc.Contact{nil, {{ID: krpc.ID{8}, Addr: six}}} {
		n := newNode(3, func(o *Options) { o.IPv6 = true })
		n.Router(begin, router)
		n.Search(begin, krpc.ID{7}, Announce{})
		asked := n.Take()
		if len(asked.Packets) != 1 || len(asked.Ended) != 0 {
			t.Fatalf("at first %+v", asked)
		}
		m, err := krpc.Parse(asked.Packets[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		n.Receive(begin, router, krpc.Append(nil, &krpc.Message{
			Kind: krpc.IsReply, T: m.T, Reply: krpc.Reply{ID: krpc.IDFor(router.Addr(), n.opt.Random), Nodes6: named},
		}))
		then := n.Take()
		if len(named) > 0 && (len(then.Packets) != 1 || then.Packets[0].To != six || len(then.Ended) != 0) {
			t.Errorf("told of a node: %+v", then)
		}
		if len(named) == 0 && (len(then.Packets) != 0 || len(then.Ended) != 1) {
			t.Errorf("told of none: %+v", then)
		}
	}
}

// TestOtherFamilyUnasked: nodes of the other family that nobody asked for are not kept.
func TestOtherFamilyUnasked(t *testing.T) {
	router := addr("20.1.1.1:4")
	n := newNode(3, func(o *Options) { o.IPv6 = true })
	for i := range krpc.K {
		six := netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i)}), 6)
		n.families[1].table.Answered(begin, krpc.Contact{ID: krpc.IDFor(six.Addr(), n.opt.Random), Addr: six}, time.Millisecond)
	}
	n.Ping(begin, router)
	m, err := krpc.Parse(n.Take().Packets[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	n.Receive(begin, router, krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: krpc.Reply{
		ID: krpc.IDFor(router.Addr(), n.opt.Random), Nodes6: []krpc.Contact{{ID: krpc.ID{8}, Addr: netip.MustParseAddrPort("[2001:db9::]:6")}},
	}}))
	if got := n.Save(begin); len(got) != krpc.K+1 {
		t.Errorf("saved %v, want those that live", got)
	}
}

// TestLateRouter: a router that becomes known after the node has tried to begin without is asked without delay.
func TestLateRouter(t *testing.T) {
	n := newNode(1, nil)
	n.Tick(begin)
	if eff := n.Take(); len(eff.Packets) != 0 {
		t.Fatalf("asks %v", eff.Packets)
	}
	n.Router(begin, addr("20.1.1.1:4"))
	n.Tick(begin.Add(upkeepEvery))
	if eff := n.Take(); len(eff.Packets) != 1 {
		t.Errorf("%d packets, want a question to the router", len(eff.Packets))
	}
}

// TestRoutersBounded: names that lead to other addresses each time cost no memory.
func TestRoutersBounded(t *testing.T) {
	n := newNode(1, nil)
	for i := range 10 * maxRouters {
		n.Router(begin, netip.AddrPortFrom(addr("20.1.1.1:1").Addr(), uint16(i+1)))
	}
	if got := len(n.families[0].routers); got != maxRouters {
		t.Errorf("%d routers are kept", got)
	}
}

// TestForeignAddresses: a public node cannot send us into our own network.
func TestForeignAddresses(t *testing.T) {
	n, router := newNode(1, nil), addr("20.1.1.1:4")
	n.Router(begin, router)
	n.Search(begin, krpc.ID{7}, Announce{})
	m, err := krpc.Parse(n.Take().Packets[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	n.Receive(begin, router, krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: krpc.Reply{
		ID:     krpc.IDFor(router.Addr(), n.opt.Random),
		Nodes:  []krpc.Contact{{ID: krpc.ID{1}, Addr: addr("192.168.1.1:1")}, {ID: krpc.ID{2}, Addr: addr("127.0.0.1:1")}, {ID: krpc.ID{3}, Addr: addr("21.1.1.1:1")}},
		Values: []netip.AddrPort{addr("10.0.0.1:1"), addr("21.2.2.2:2"), addr("21.2.2.2:2")},
	}}))
	eff := n.Take()
	if len(eff.Packets) != 1 || eff.Packets[0].To != addr("21.1.1.1:1") {
		t.Errorf("asks %v", eff.Packets)
	}
	if len(eff.Peers) != 1 || !slices.Equal(eff.Peers[0].Addrs, []netip.AddrPort{addr("21.2.2.2:2")}) {
		t.Errorf("found %v", eff.Peers)
	}
}

// TestEnds: a search with nobody to ask ends at once, one whose nodes are dead within seconds, one that is stopped is
// heard of no more.
func TestEnds(t *testing.T) {
	n := newNode(1, nil)
	id := n.Search(begin, krpc.ID{1}, Announce{Port: 1})
	if e := n.Take().Ended; len(e) != 1 || e[0].Search != id {
		t.Errorf("ended %v", e)
	}
	n.Remember([]krpc.Contact{{ID: krpc.ID{1}, Addr: addr("10.0.0.1:1")}, {ID: krpc.ID{2}, Addr: addr("10.0.0.2:1")}})
	id = n.Search(begin, krpc.ID{1}, Announce{})
	now, ended := begin, false
	for !ended && now.Before(begin.Add(time.Minute)) {
		now = n.Next(now)
		n.Tick(now)
		for _, e := range n.Take().Ended {
			ended = ended || e.Search == id
		}
	}
	if took := now.Sub(begin); !ended || took > dead {
		t.Errorf("ended %v after %v", ended, took)
	}
	id = n.Search(now, krpc.ID{1}, Announce{})
	n.Stop(now, id)
	for range 20 {
		now = n.Next(now).Add(time.Millisecond)
		n.Tick(now)
		if e := n.Take().Ended; len(e) != 0 {
			t.Errorf("a stopped search ended: %v", e)
		}
	}
	if len(n.searches) > 1 { // its own may run
		t.Errorf("%d searches are left", len(n.searches))
	}
}

// TestSave: what lives and what is not known dead is remembered for the next run, never our own id.
func TestSave(t *testing.T) {
	n := newNode(1, nil)
	alive := krpc.Contact{ID: krpc.ID{1}, Addr: addr("10.0.0.1:1")}
	deadOne := krpc.Contact{ID: krpc.ID{2}, Addr: addr("10.0.0.2:1")}
	unknown := krpc.Contact{ID: krpc.ID{3}, Addr: addr("10.0.0.3:1")}
	n.Remember([]krpc.Contact{alive, deadOne, unknown})
	n.families[0].table.Answered(begin, alive, time.Millisecond)
	n.failed(n.families[0], &call{to: deadOne.Addr, id: deadOne.ID, known: true}, true)
	if got := n.Save(begin); !slices.Equal(got, []krpc.Contact{alive, unknown}) {
		t.Errorf("saved %v", got)
	}
}

// TestProven: what a search meets is in the table once it has shown that it knows the nodes nearest to the target, and a node that
// names only others is not.
func TestProven(t *testing.T) {
	n, random := newNode(1, nil), rand.New(rand.NewPCG(8, 8))
	var all []krpc.Contact
	for i := range krpc.K + 1 {
		ip := netip.AddrFrom4([4]byte{20, byte(i), 1, 1})
		all = append(all, krpc.Contact{ID: krpc.IDFor(ip, random), Addr: netip.AddrPortFrom(ip, 1)})
	}
	router, near := all[0], all[1:]
	n.Router(begin, router.Addr)
	n.Search(begin, krpc.ID{7}, Announce{})
	for packets := n.Take().Packets; len(packets) > 0; packets = n.Take().Packets {
		for _, p := range packets {
			m, err := krpc.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(all, func(c krpc.Contact) bool { return c.Addr == p.To })
			r := krpc.Reply{ID: all[i].ID, Nodes: near}
			if all[i] == near[0] {
				r.Nodes = nil
			}
			n.Receive(begin, p.To, krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: r}))
			if len(n.searches) > 0 && n.families[0].table.Len() > 1 {
				t.Fatal("a node that showed nothing is in the table")
			}
		}
	}
	for _, c := range all {
		if got, want := n.families[0].table.Knows(c.Addr), c != near[0]; got != want {
			t.Errorf("%v is in the table: %v, want %v", c.Addr, got, want)
		}
	}
}

// liveOne returns a host that lives.
func (w *world) liveOne() *host {
	for {
		if h := w.hosts[w.random.IntN(len(w.hosts))]; !h.dead && h.role == honest {
			return h
		}
	}
}

// announced lets n nodes announce torrents and returns these, and how many queries an announcing search took.
func (w *world) announced(n int, saved [][]krpc.Contact) (hashes []krpc.ID, queries float64) {
	for i := range n {
		h := krpc.RandomID(w.random)
		at := w.warm(shipped, saved[i%len(saved)])
		queries += float64(w.search(at, h, Announce{Port: 1}).queries) / float64(n)
		w.remove(at)
		hashes = append(hashes, h)
	}
	return hashes, queries
}

// many returns how much of a measurement is done: all for the figures in the README of dht, which -v logs, less in a
// plain run of the tests.
func many(all int) int {
	if testing.Verbose() {
		return all
	}
	return all * 3 / 10
}

// TestSearches measures searches among 10,000 nodes; the README of dht has the table that it logs. Warm means that the node
// remembers what 80 searches of an earlier run left it, of which a quarter has died since.
func TestSearches(t *testing.T) {
	t.Log(header)
	for _, tt := range []struct {
		name string
		opt  Options
		warm bool
	}{{"plain, warm", plain, true}, {"plain, cold", plain, false}, {"shipped, warm", shipped, true}, {"shipped, cold", shipped, false}} {
		w := newWorld(13333, 1)
		w.loss = 0.02
		var saved [][]krpc.Contact
		for range 8 {
			saved = append(saved, w.remembered(tt.opt, 80))
		}
		w.kill(0.25)
		hashes, _ := w.announced(20, saved)
		s := summary{name: tt.name}
		for i := range many(1000) {
			at, n := w.node(tt.opt)
			if tt.warm {
				n.Remember(saved[i%len(saved)])
			} else {
				n.Router(w.now, w.liveOne().Addr)
			}
			s.add(w.search(at, hashes[w.random.IntN(len(hashes))], Announce{}))
			w.remove(at)
		}
		t.Log(&s)
		median, most := quantile(s.firsts, .5), quantile(s.firsts, .99)
		switch {
		case s.found < s.searches*99/100:
			t.Errorf("%s: %d of %d searches found a peer", tt.name, s.found, s.searches)
		case tt.name == "shipped, warm" && (median > 180*time.Millisecond || most > 700*time.Millisecond || s.queries > 15*s.searches):
			t.Errorf("warm: median %v, 99 %% %v, %d queries in %d searches", median, most, s.queries, s.searches)
		case tt.name == "shipped, cold" && median > 1500*time.Millisecond:
			t.Errorf("cold: median %v", median)
		}
	}
}

// TestAnnounces: what is announced in the network of TestSearches, a hundred random nodes find.
func TestAnnounces(t *testing.T) {
	const lookers = 100
	w := newWorld(13333, 5)
	w.loss = 0.02
	var saved [][]krpc.Contact
	for range 8 {
		saved = append(saved, w.remembered(shipped, 40))
	}
	w.kill(0.25)
	announces, found := many(20), 0
	hashes, queries := w.announced(announces, saved)
	for _, hash := range hashes {
		for range lookers {
			at := w.warm(shipped, saved[w.random.IntN(len(saved))])
			if w.search(at, hash, Announce{}).first != 0 {
				found++
			}
			w.remove(at)
		}
	}
	t.Logf("%d announces took %.1f queries each; of %d who looked for each %.1f %% found it", announces, queries, lookers,
		100*float64(found)/float64(announces*lookers))
	if found < announces*lookers*99/100 {
		t.Errorf("%d of %d lookers found what was announced", found, announces*lookers)
	}
}

// TestAttacks: a fifth of the nodes lies, each in a network of its own and with an id that fits its address. What is announced is
// found all the same. How many find it where liars choose their ids is only logged, and so is what it would be without
// BEP 42, from which private addresses are exempt.
func TestAttacks(t *testing.T) {
	t.Log(header)
	public, private := netip.MustParseAddr("20.0.0.1"), netip.MustParseAddr("10.0.0.1")
	for _, tt := range []struct {
		name  string
		role  role
		at    netip.Addr
		bound bool // their ids are
	}{
		{"junk", junk, public, true}, {"addresses where nobody is", deadEnds, public, true}, {"the nearest of their own", ring, public, true},
		{"some near ones of their own", wideRing, public, true},
		{"with ids at the target", squatter, public, false}, {"with ids at the target, no BEP 42", squatter, private, false},
	} {
		if !tt.bound && !testing.Verbose() {
			continue
		}
		w := newWorldAt(tt.at, 6666, 2)
		w.loss = 0.02
		for _, h := range w.hosts {
			if w.random.IntN(5) == 0 {
				h.role = tt.role
			}
		}
		var saved [][]krpc.Contact
		for range many(10) {
			saved = append(saved, w.remembered(shipped, 40))
		}
		w.kill(0.25)
		hashes, _ := w.announced(many(200), saved)
		s := summary{name: tt.name}
		for i := range many(1000) {
			at := w.warm(shipped, saved[w.random.IntN(len(saved))])
			s.add(w.search(at, hashes[i%len(hashes)], Announce{}))
			w.remove(at)
		}
		t.Log(&s)
		if tt.bound && s.found < s.searches*99/100 {
			t.Errorf("%s: %d of %d searches found a peer", tt.name, s.found, s.searches)
		}
	}
}

// TestReplays: one seed gives one run.
func TestReplays(t *testing.T) {
	run := func() string {
		w := newWorld(500, 3)
		w.loss = 0.1
		saved := [][]krpc.Contact{w.remembered(shipped, 3)}
		hashes, _ := w.announced(2, saved)
		return fmt.Sprint(saved, hashes, w.now, w.seq)
	}
	if a, b := run(), run(); a != b {
		t.Error("two runs of one seed differ")
	}
}
