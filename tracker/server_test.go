package tracker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bittern/bencode"
)

// startServer runs a tracker on address until the test ends.
func startServer(t *testing.T, address string, cfg ServerConfig) *Server {
	s, err := Listen(address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, s)
	return s
}

func serveUntilEnd(t *testing.T, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// Our own client and server, over both protocols and families.
func TestServerWithClient(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := startServer(t, address, ServerConfig{})
		s.Allow(hashA)
		for _, scheme := range []string{"http", "udp"} {
			t.Run(scheme+" "+address, func(t *testing.T) {
				u := scheme + "://" + s.Addr().String() + "/announce"
				var c Client
				defer c.Close()
				say := func(port uint16, left int64, ev Event) Response {
					t.Helper()
					r, err := c.Announce(t.Context(), u, Request{InfoHash: hashA, PeerID: [20]byte{byte(port)}, Port: port, Left: left, Event: ev})
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
				say(1001, 0, Started)
				r := say(1002, 5, Started)
				if want := []netip.AddrPort{netip.AddrPortFrom(s.Addr().Addr(), 1001)}; !slices.Equal(r.Peers, want) || r.Seeders != 1 || r.Leechers != 1 || r.Interval != time.Minute {
					t.Errorf("got %+v, want %v", r, want)
				}
				if scheme == "http" && r.ExternalIP != s.Addr().Addr() {
					t.Errorf("external ip %v", r.ExternalIP)
				}
				say(1002, 0, Completed)
				got, err := c.Scrape(t.Context(), u, hashA)
				if err != nil || got[hashA].Seeders != 2 || got[hashA].Downloaded == 0 {
					t.Errorf("scrape %v, %v", got, err)
				}
				if r := say(1002, 0, None); len(r.Peers) != 0 {
					t.Errorf("a seed is told of seeds: %v", r.Peers)
				}
				say(1001, 0, Stopped)
				if r := say(1002, 0, Stopped); r.Seeders != 0 || len(r.Peers) != 0 {
					t.Errorf("after the last left: %+v", r)
				}
				_, err = c.Announce(t.Context(), u, Request{InfoHash: hashB, Port: 1, Left: 1})
				if _, ok := errors.AsType[*FailureError](err); !ok {
					t.Errorf("a torrent that is not served: %v", err)
				}
			})
		}
	}
}

func TestServerAddresses(t *testing.T) {
	s := startServer(t, "127.0.0.1:0", ServerConfig{Open: true})
	if _, err := Listen(s.Addr().String(), ServerConfig{}); err == nil {
		t.Error("two trackers on one port")
	}
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:x", "192.0.2.1:0", "127.0.0.1:99999"} {
		if _, err := Listen(bad, ServerConfig{}); err == nil {
			t.Errorf("Listen(%q) succeeded", bad)
		}
	}
	all := startServer(t, ":0", ServerConfig{Open: true}) // both families on one socket
	var c Client
	defer c.Close()
	for _, scheme := range []string{"http", "udp"} {
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			u := fmt.Sprintf("%s://%s:%d/announce", scheme, host, all.Addr().Port())
			if _, err := c.Announce(t.Context(), u, request); err != nil {
				t.Errorf("%s: %v", u, err)
			}
		}
	}
	six := startServer(t, ":0", ServerConfig{Open: true, Only6: true})
	for _, scheme := range []string{"http", "udp"} {
		if _, err := c.Announce(t.Context(), fmt.Sprintf("%s://[::1]:%d/announce", scheme, six.Addr().Port()), request); err != nil {
			t.Errorf("%s over IPv6: %v", scheme, err)
		}
	}
	if nc, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", six.Addr().Port())); err == nil {
		nc.Close()
		t.Error("a tracker for IPv6 alone takes IPv4 connections")
	}
}

func TestServerPortTakenForUDP(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := Listen(udp.LocalAddr().String(), ServerConfig{}); err == nil {
		t.Fatal("a port that is taken for UDP was used")
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatalf("the failed attempt left its TCP socket open: %v", err)
	}
	tcp.Close()
}

func TestServeEndsWithItsSocket(t *testing.T) {
	s, err := Listen("127.0.0.1:0", ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(t.Context()) }()
	s.Close()
	if err := <-done; err == nil {
		t.Error("Serve returned nil though its context goes on")
	}
}

// ask returns the answer to an HTTP announce from host.
func (s *Server) ask(t *testing.T, host string, q url.Values) bencode.Value {
	t.Helper()
	ip := netip.MustParseAddr(host)
	v, err := bencode.Decode(s.httpAnnounce(q, ip, func() netip.Addr { return netip.MustParseAddr("203.0.113.1") }))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func query(kv ...string) url.Values {
	q := url.Values{"info_hash": {string(hashA[:])}, "peer_id": {"-AA0000-0123456789ab"}, "port": {"6881"}, "left": {"1"}}
	for i := 0; i < len(kv); i += 2 {
		q.Set(kv[i], kv[i+1])
	}
	return q
}

func idle(t *testing.T, cfg ServerConfig) *Server {
	s, err := Listen("127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Allow(hashA)
	return s
}

func TestServerHTTPForms(t *testing.T) {
	s := idle(t, ServerConfig{Interval: 2 * time.Minute})
	s.ask(t, "198.51.100.1", query("port", "1"))
	s.ask(t, "2001:db8::1", query("port", "2"))
	s.ask(t, "127.0.0.1", query("port", "3"))
	v := s.ask(t, "198.51.100.9", query("numwant", "50"))
	r, err := parseAnnounce(v.Raw(), hashA)
	got := make([]string, 0, 3)
	for _, p := range r.Peers {
		got = append(got, p.String())
	}
	slices.Sort(got)
	// The peer on this machine is found where the tracker was.
	if want := []string{"198.51.100.1:1", "203.0.113.1:3", "[2001:db8::1]:2"}; err != nil || !slices.Equal(got, want) || r.Interval != 2*time.Minute {
		t.Errorf("got %v (%+v), %v; want %v", got, r, err, want)
	}
	if ip, _ := v.Get("external ip").Bytes(); !bytes.Equal(ip, []byte{198, 51, 100, 9}) {
		t.Errorf("external ip %v", ip)
	}
	v = s.ask(t, "127.0.0.1", query("compact", "0", "port", "3"))
	seen := ""
	for p := range v.Get("peers").List() {
		ip, _ := p.Get("ip").Text()
		id, _ := p.Get("peer id").Text()
		seen += ip + id[:3] + " "
	}
	if !strings.Contains(seen, "198.51.100.1-AA") || !strings.Contains(seen, "2001:db8::1-AA") {
		t.Errorf("dictionaries: %s", seen)
	}
	v = s.ask(t, "127.0.0.1", query("compact", "0", "no_peer_id", "1"))
	for p := range v.Get("peers").List() {
		if p.Get("peer id").Kind() != bencode.Invalid {
			t.Error("a peer id that was not wanted")
		}
	}
}

// A client that announces every five minutes, sooner than which some never do, stays known in between; one that is silent does not.
func TestServerRemembersSlowClients(t *testing.T) {
	s := idle(t, ServerConfig{})
	now := time.Now()
	s.now = func() time.Time { return now }
	others := func() int {
		t.Helper()
		r, err := parseAnnounce(s.ask(t, "198.51.100.9", query()).Raw(), hashA)
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Peers)
	}
	s.ask(t, "198.51.100.1", query())
	for range 3 {
		now = now.Add(5 * time.Minute)
		if others() != 1 {
			t.Fatal("forgotten before it was to announce")
		}
		s.ask(t, "198.51.100.1", query())
	}
	now = now.Add(5 * time.Minute)
	others()
	now = now.Add(6 * time.Minute)
	if others() != 0 {
		t.Error("kept for good")
	}
}

func TestServerHTTPRefuses(t *testing.T) {
	s := idle(t, ServerConfig{})
	for name, q := range map[string]url.Values{
		"nothing": {}, "short hash": query("info_hash", "x"), "short id": query("peer_id", "x"), "port": query("port", "65536"), "no port": query("port", ""),
		"negative port": query("port", "-1"), "not served": query("info_hash", string(hashB[:])),
	} {
		if v := s.ask(t, "127.0.0.1", q); v.Get("failure reason").Kind() != bencode.String {
			t.Errorf("%s: %q", name, v.Raw())
		}
	}
	for name, q := range map[string]url.Values{
		"left unknown": query("left", "-1"), "left 2^64-1": query("left", "18446744073709551615"), "no left": query("left", ""), "odd event": query("event", "paused"),
		"numwant": query("numwant", "-9999999999999999999"),
	} {
		if v := s.ask(t, "127.0.0.1", q); v.Get("failure reason").Kind() != bencode.Invalid || v.Get("incomplete").Kind() != bencode.Int {
			t.Errorf("%s: %q", name, v.Raw())
		} else if n, _ := v.Get("incomplete").Int(); n != 1 {
			t.Errorf("%s: counted as complete", name)
		}
	}
}

func TestServerNumWant(t *testing.T) {
	s := idle(t, ServerConfig{})
	for i := range 300 {
		s.ask(t, fmt.Sprintf("198.51.%d.%d", i/100, i%100), query())
	}
	for want, n := range map[string]int{"0": 0, "7": 7, "": defaultNumWant, "100000": maxNumWant, "-1": defaultNumWant} {
		r, err := parseAnnounce(s.ask(t, "203.0.113.9", query("numwant", want)).Raw(), hashA)
		if err != nil || len(r.Peers) != n {
			t.Errorf("numwant %q: %d peers, %v; want %d", want, len(r.Peers), err, n)
		}
	}
}

func TestServerHTTPRequests(t *testing.T) {
	s := startServer(t, "127.0.0.1:0", ServerConfig{})
	s.Allow(hashA)
	base := "http://" + s.Addr().String()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/announce?" + query().Encode(), 200}, {"GET", "/scrape", 200}, {"GET", "/", 404}, {"GET", "/announce/x", 404}, {"POST", "/announce", 405},
		{"GET", "/announce?info_hash=%zz", 400}, {"GET", "/announce?a;b", 400}, {"HEAD", "/announce?" + query().Encode(), 200},
		{"GET", "/announce?x=" + strings.Repeat("y", 64<<10), 431},
	} {
		req, err := http.NewRequest(tt.method, base+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %.30s: %v", tt.method, tt.path, err)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != tt.code {
			t.Errorf("%s %.30s: %d, want %d", tt.method, tt.path, resp.StatusCode, tt.code)
		}
	}
	v, err := bencode.Decode(s.httpScrape(url.Values{"info_hash": {string(hashA[:]), string(hashB[:]), "short"}}))
	if err != nil || v.Get("files").Len() != 1 {
		t.Errorf("scrape: %q, %v", v.Raw(), err)
	}
}

// More connections than there are slots are refused, and the slots come back.
func TestServerConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	l := &limited{Listener: inner, slots: make(chan struct{}, 2)}
	dialed := func() net.Conn {
		nc, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- nc
		}
	}()
	dialed()
	first := <-accepted
	dialed()
	second := <-accepted
	if n, err := dialed().Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection was taken: %d bytes", n)
	}
	first.Close()
	first.Close() // as net/http does
	dialed()
	third := <-accepted
	second.Close()
	third.Close()
	inner.Close()
	if <-accepted; len(l.slots) != 0 {
		t.Errorf("%d slots are lost", len(l.slots))
	}
}

// Clients that keep their connection for the next announce do not keep others out.
func TestServerHasRoomForIdleClients(t *testing.T) {
	s := startServer(t, "127.0.0.1:0", ServerConfig{})
	s.Allow(hashA)
	for i := range maxServed + 1 {
		nc, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fmt.Fprintf(nc, "GET /announce?%s HTTP/1.1\r\nHost: tracker\r\nConnection: keep-alive\r\n\r\n", query().Encode())
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		if io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 {
			t.Fatalf("client %d: status %d", i, resp.StatusCode)
		}
	}
}

var host4, host6 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")

// udpConnect returns a good connection id for host.
func (s *Server) udpConnect(t *testing.T, host netip.Addr) uint64 {
	t.Helper()
	out := s.udpAnswer(nil, appendConnect(nil, 7), host)
	body, _, ok := match{actionConnect, 7, connectLen}.answer(out)
	if !ok || len(out) != connectLen {
		t.Fatalf("connect answered %x", out)
	}
	return be.Uint64(body)
}

func TestServerConnectionID(t *testing.T) {
	s := idle(t, ServerConfig{})
	now := time.Date(2030, 1, 1, 0, 0, 59, 0, time.UTC)
	s.now = func() time.Time { return now }
	id := s.udpConnect(t, host4)
	ask := func(host netip.Addr, id uint64) bool {
		return len(s.udpAnswer(nil, appendScrape(nil, id, 1, [][20]byte{hashA}), host)) > 0
	}
	if !ask(host4, id) || ask(host6, id) || ask(host4, id+1) || ask(netip.MustParseAddr("198.51.100.2"), id) || ask(host4, protocolID) {
		t.Error("an id is good at the address it was given to, and only there")
	}
	now = now.Add(2 * time.Minute)
	if !ask(host4, id) {
		t.Error("an id is refused before two minutes are over")
	}
	now = now.Add(time.Minute)
	if ask(host4, id) {
		t.Error("an id is good after three minutes")
	}
	other := idle(t, ServerConfig{})
	other.now = s.now
	if other.udpConnect(t, host4) == s.udpConnect(t, host4) {
		t.Error("two trackers have the same secret")
	}
}

// Before its address is proven nobody gets more than was sent, and what is not understood gets nothing.
func TestServerDoesNotAmplify(t *testing.T) {
	s := idle(t, ServerConfig{})
	for i := range 500 {
		s.ask(t, fmt.Sprintf("198.51.%d.%d", i/100, i%100), query())
	}
	wrongMagic := appendConnect(nil, 7)
	wrongMagic[7] ^= 1
	for name, p := range map[string][]byte{
		"empty": {}, "short": make([]byte, 15), "zeros": make([]byte, 16), "wrong magic": wrongMagic,
		"announce": appendAnnounce(nil, 123, 7, request, ""), "scrape": appendScrape(nil, 123, 7, [][20]byte{hashA}), "unknown action": append(make([]byte, 11), 9, 0, 0, 0, 0),
	} {
		if out := s.udpAnswer(nil, p, host4); len(out) != 0 {
			t.Errorf("%s: answered %x", name, out)
		}
	}
	if out := s.udpAnswer(nil, appendConnect(nil, 7), host4); len(out) > connectLen {
		t.Errorf("connect: %d bytes for %d", len(out), connectLen)
	}
}

func TestServerUDPAnnounce(t *testing.T) {
	s := idle(t, ServerConfig{})
	for i := range 300 {
		s.ask(t, fmt.Sprintf("203.0.%d.%d", i/100, 1+i%100), query())
		s.ask(t, fmt.Sprintf("2001:db8::1:%x", 1+i), query())
	}
	for _, tt := range []struct {
		host netip.Addr
		want int // asked for
		got  int
	}{{host4, 7, 7}, {host4, 0, defaultNumWant}, {host4, 1 << 30, udpWant4}, {host6, 7, 7}, {host6, 1000, udpWant6}} {
		r := request
		r.NumWant = tt.want
		out := s.udpAnswer(nil, appendAnnounce(nil, s.udpConnect(t, tt.host), 9, r, "/announce"), tt.host)
		body, refused, ok := match{actionAnnounce, 9, 20}.answer(out)
		if !ok || refused != nil || len(out) > 1452 {
			t.Fatalf("%v: %d bytes, %v", tt.host, len(out), refused)
		}
		if got := parseUDPAnnounce(body, tt.host.Is6()); len(got.Peers) != tt.got || got.Leechers < 600 {
			t.Errorf("%v, %d wanted: %d peers, %d leechers", tt.host, tt.want, len(got.Peers), got.Leechers)
		}
	}
	id := s.udpConnect(t, host4)
	for name, p := range map[string][]byte{
		"short announce": appendAnnounce(nil, id, 9, request, "")[:97], "unknown action": append(be.AppendUint64(nil, id), 0, 0, 0, 9, 0, 0, 0, 9),
		"not served": appendAnnounce(nil, id, 9, Request{InfoHash: hashB, Port: 1}, ""),
	} {
		if _, refused, ok := (match{actionAnnounce, 9, 20}).answer(s.udpAnswer(nil, p, host4)); !ok || refused == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	out := s.udpAnswer(nil, appendScrape(nil, id, 9, slices.Repeat([][20]byte{hashB}, 100)), host4)
	if len(out) != 8+12*maxScrape {
		t.Errorf("a scrape of 100 has %d bytes", len(out))
	}
}

// FuzzServerUDP: no packet without a proven address gets an answer longer than itself, and an answer carries the packet's transaction.
func FuzzServerUDP(f *testing.F) {
	s, err := Listen("127.0.0.1:0", ServerConfig{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	s.Allow(hashA)
	f.Add(appendConnect(nil, 7), false)
	f.Add(appendAnnounce(nil, 1, 2, request, "/announce?x"), true)
	f.Add(appendScrape(nil, 1, 2, [][20]byte{hashA, hashB}), true)
	f.Fuzz(func(t *testing.T, in []byte, proven bool) {
		if proven && len(in) >= 8 {
			in = append(be.AppendUint64(nil, s.connectionID(host4, s.now())), in[8:]...)
		}
		out := s.udpAnswer(nil, in, host4)
		if len(out) > 0 && !bytes.Equal(out[4:8], in[12:16]) {
			t.Errorf("%x was answered %x", in, out)
		}
		if !proven && len(out) > len(in) || len(out) > 1452 {
			t.Errorf("%d bytes were answered with %d", len(in), len(out))
		}
	})
}

// FuzzServerHTTP: every query gets an answer that is canonical bencoding and that our client understands.
func FuzzServerHTTP(f *testing.F) {
	s, err := Listen("127.0.0.1:0", ServerConfig{Open: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add(query("event", "started", "numwant", "5").Encode())
	f.Add(query("compact", "0", "left", "0").Encode())
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		out := s.httpAnnounce(q, host4, func() netip.Addr { return host4 })
		if _, err := bencode.Decode(out); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if _, err := parseAnnounce(out, hashA); err != nil {
			if _, ok := errors.AsType[*FailureError](err); !ok {
				t.Errorf("%q: %v", out, err)
			}
		}
		if _, err := parseScrape(s.httpScrape(q), [][20]byte{hashA}); err != nil {
			t.Errorf("scrape: %v", err)
		}
	})
}

// A bug of ours is told and costs one request, not the tracker.
func TestPanicsAreReported(t *testing.T) {
	var mu sync.Mutex
	told := 0
	report := func(v any, stack []byte) {
		mu.Lock()
		defer mu.Unlock()
		if told++; v != "bug" || !bytes.Contains(stack, []byte("tracker.")) {
			t.Errorf("told of %v:\n%s", v, stack)
		}
	}
	s, err := Listen("127.0.0.1:0", ServerConfig{Open: true, OnPanic: report})
	if err != nil {
		t.Fatal(err)
	}
	var bug atomic.Bool
	s.now = func() time.Time {
		if bug.Swap(false) {
			panic("bug")
		}
		return time.Now()
	}
	serveUntilEnd(t, s)
	c := Client{OnPanic: report, Timeout: time.Second}
	defer c.Close()
	for _, scheme := range []string{"http", "udp"} {
		u := scheme + "://" + s.Addr().String() + "/announce"
		bug.Store(true)
		if _, err := c.Announce(t.Context(), u, request); err == nil {
			t.Errorf("%s: an answer in spite of the bug", scheme)
		}
		if _, err := c.Announce(t.Context(), u, request); err != nil {
			t.Errorf("%s: %v after the bug", scheme, err)
		}
	}
	c2 := Client{NoIPv6: true, OnPanic: report, DialTCP: func(context.Context, string, string) (net.Conn, error) { panic("bug") },
		DialUDP: func(context.Context, string, string) (net.Conn, error) { panic("bug") }}
	if _, err := c2.Announce(t.Context(), "udp://h:1", request); !errors.Is(err, errPanicked) {
		t.Errorf("err = %v", err)
	}
	if told != 3 {
		t.Errorf("told of %d panics, want 3", told)
	}
}
