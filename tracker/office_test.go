package tracker

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"bittern/bencode"
)

// officeSize is how many peers a tracker beside a seed must be good for at once.
const officeSize = 200

// A desk is one peer of the office.
type desk struct {
	Client
	url     string
	request Request
}

// newDesk sets number i up, which announces by HTTP or UDP, over IPv4 or IPv6, by turns.
func newDesk(s *Server, i int) *desk {
	d := &desk{request: Request{InfoHash: hashA, PeerID: [20]byte{1, byte(i >> 8), byte(i)}, Port: uint16(10_000 + i), NumWant: 50, Left: int64(i % 5), Event: Started}}
	port := s.Addr().Port()
	scheme := [...]string{"http", "udp"}[i%2]
	at := netip.AddrPortFrom(netip.IPv6Loopback(), port)
	if i%4 < 2 {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	d.url = fmt.Sprintf("%s://%s/announce", scheme, at)
	return d
}

// TestOffice: 200 peers that announce at the same moment, by HTTP and UDP and over both families, are all heard, counted,
// and told of as many others as they want, none of them much more often than another.
func TestOffice(t *testing.T) {
	s := startServer(t, "[::]:0", ServerConfig{})
	s.Allow(hashA)
	desks := make([]*desk, officeSize)
	for i := range desks {
		desks[i] = newDesk(s, i)
		t.Cleanup(desks[i].Close)
	}
	answers := make([]Response, officeSize)
	all := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i, d := range desks {
			wg.Go(func() {
				var err error
				if answers[i], err = d.Announce(ctx, d.url, d.request); err != nil {
					t.Errorf("desk %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	}
	begin := time.Now()
	all()
	t.Logf("%d announces at once in %v", officeSize, time.Since(begin).Round(time.Millisecond))
	for _, d := range desks {
		d.request.Event = None
	}
	all() // now everybody is known
	told := make(map[uint16]int)
	for i, r := range answers {
		if r.Seeders != officeSize/5 || r.Leechers != officeSize*4/5 {
			t.Fatalf("desk %d hears of %d seeds and %d leechers", i, r.Seeders, r.Leechers)
		}
		if len(r.Peers) != 50 {
			t.Fatalf("desk %d is told of %d peers, wants 50", i, len(r.Peers))
		}
		for _, p := range r.Peers {
			told[p.Port()]++
		}
	}
	// A leecher is named in 50 of 199 answers on average. That one is 5 deviations off happens once in ten thousand runs.
	for i, d := range desks {
		if n := told[d.request.Port]; d.request.Left > 0 && (n < 16 || n > 100) {
			t.Errorf("desk %d is named %d times", i, n)
		}
	}
}

// A partial seed is no seed, but wants nobody who wants nothing, and downloads nothing (BEP 21).
func TestServerPartialSeeds(t *testing.T) {
	s := idle(t, ServerConfig{})
	s.ask(t, "198.51.100.1", query("left", "0"))
	s.ask(t, "198.51.100.2", query("left", "5"))
	s.ask(t, "198.51.100.3", query("left", "5", "event", "paused"))
	r, err := parseAnnounce(s.ask(t, "198.51.100.4", query("left", "5", "event", "paused")).Raw(), hashA)
	if err != nil || len(r.Peers) != 1 || r.Peers[0].Addr().String() != "198.51.100.2" || r.Seeders != 1 || r.Leechers != 3 {
		t.Errorf("a partial seed is told %+v, %v", r, err)
	}
	v, err := bencode.Decode(s.httpScrape(map[string][]string{"info_hash": {string(hashA[:])}}))
	if err != nil {
		t.Fatal(err)
	}
	f := v.Get("files").Get(string(hashA[:]))
	for key, want := range map[string]int64{"complete": 1, "incomplete": 3, "downloaders": 1} {
		if n, ok := f.Get(key).Int(); !ok || n != want {
			t.Errorf("%s: %d, want %d", key, n, want)
		}
	}
}

// TestOfficeMemory: what the registry takes for as many peers as it keeps.
func TestOfficeMemory(t *testing.T) {
	measure := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s := idle(t, ServerConfig{})
	before := measure()
	for i := range 10_000 {
		host := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		s.announce(Request{InfoHash: hashA, Port: 1, Left: 1}, host, anyFamily, nil)
	}
	c, _ := s.scrape(hashA)
	if took := int64(measure()) - int64(before); c.Leechers != 2000 || took > 1<<20 {
		t.Errorf("%d peers kept in %d bytes, want 2000 in 1 MiB", c.Leechers, took)
	}
}

// BenchmarkServer announces to a swarm of 200 by HTTP and UDP, a connection or socket kept where the protocol keeps it.
func BenchmarkServer(b *testing.B) {
	for _, scheme := range []string{"http", "udp"} {
		b.Run(scheme, func(b *testing.B) {
			s, err := Listen("127.0.0.1:0", ServerConfig{})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			wg.Go(func() { s.Serve(ctx) })
			defer wg.Wait()
			defer cancel()
			s.Allow(hashA)
			for i := range officeSize {
				s.announce(Request{InfoHash: hashA, Port: uint16(1 + i), Left: 1}, netip.AddrFrom4([4]byte{127, 0, 0, 1}), anyFamily, nil)
			}
			url := fmt.Sprintf("%s://%s/announce", scheme, s.Addr())
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var c Client
				defer c.Close()
				for pb.Next() {
					if _, err := c.Announce(ctx, url, Request{InfoHash: hashA, Port: 9, Left: 1, NumWant: 50}); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}
