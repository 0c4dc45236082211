package tracker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// script is a tracker that answers requests by a function and remembers them.
type script struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // request URIs
	heads []http.Header
	conns map[string]bool
}

func serve(t *testing.T, answer http.HandlerFunc) *script {
	s := &script{conns: make(map[string]bool)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked, s.heads = append(s.asked, r.RequestURI), append(s.heads, r.Header)
		s.conns[r.RemoteAddr] = true
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *script) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func say(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func client(t *testing.T) *Client {
	c := &Client{UserAgent: "bittern/test", NoIPv6: true}
	t.Cleanup(c.Close)
	return c
}

var request = Request{InfoHash: hashA, PeerID: [20]byte{'-', 'x'}, Port: 6881, Uploaded: 1, Downloaded: 2, Left: 3, Event: Started, NumWant: 80, Key: 0xbeef}

func TestAnnounceHTTP(t *testing.T) {
	s := serve(t, say(enc("interval", 1800, "peers", "\x01\x02\x03\x04\x00\x05", "tracker id", "id &")))
	c := client(t)
	url := s.URL + "/announce?passkey=a%20b"
	got, err := c.Announce(t.Context(), url, request)
	if err != nil || !slices.Equal(got.Peers, addrs("1.2.3.4:5")) || got.Interval != 30*time.Minute {
		t.Fatalf("got %+v, %v", got, err)
	}
	again := request
	again.Event = Stopped
	if _, err := c.Announce(t.Context(), url, again); err != nil {
		t.Fatal(err)
	}
	const head = "/announce?passkey=a%20b&info_hash=%01%02%FF%20%2B%26%0A%00%00%00%00%00%00%00%00%00%00%00%00%00" +
		"&peer_id=-x%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00&port=6881&uploaded=1&downloaded=2&left=3&compact=1&no_peer_id=1&key=0000beef"
	want := []string{head + "&numwant=80&event=started", head + "&numwant=0&event=stopped&trackerid=id%20%26"}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Errorf("asked %q\nwant %q", got, want)
	}
	if len(s.conns) != 1 {
		t.Errorf("%d connections for two announces, want 1", len(s.conns))
	}
	if ua := s.heads[0].Get("User-Agent"); ua != "bittern/test" {
		t.Errorf("User-Agent %q", ua)
	}
}

// A partial seed says so in every announce but its goodbye, and never that it is complete (BEP 21).
func TestPartialSeedAnnounces(t *testing.T) {
	for ev, want := range map[Event]string{None: paused, Started: paused, Completed: paused, Stopped: "stopped"} {
		r := request
		r.Partial, r.Event = true, ev
		q, err := url.ParseQuery(announceQuery(r, ""))
		if err != nil || q.Get("event") != want {
			t.Errorf("%v by HTTP: %q, %v; want %q", ev, q.Get("event"), err, want)
		}
		if got := parseAnnouncePacket(appendAnnounce(nil, 0, 0, r, "")).Event; got == Completed {
			t.Errorf("%v by UDP: completed", ev)
		}
	}
}

func TestAnnounceHTTPS(t *testing.T) {
	s := httptest.NewUnstartedServer(say("de"))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client that refuses it
	s.StartTLS()
	t.Cleanup(s.Close)
	c := client(t)
	if _, err := c.Announce(t.Context(), s.URL+"/announce", request); err == nil {
		t.Error("a certificate that nobody vouches for was accepted")
	}
	c = client(t)
	c.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig
	if _, err := c.Announce(t.Context(), s.URL+"/announce", request); err != nil {
		t.Error(err)
	}
}

func TestScrapeHTTP(t *testing.T) {
	s := serve(t, say(enc("files", map[string]any{string(hashA[:]): map[string]any{"complete": 2}})))
	got, err := client(t).Scrape(t.Context(), s.URL+"/announce.php?k=1", hashA, hashB)
	if err != nil || len(got) != 1 || got[hashA].Seeders != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	if asked := s.requests(); len(asked) != 1 || !strings.HasPrefix(asked[0], "/scrape.php?k=1&info_hash=%01%02%FF%20") || strings.Count(asked[0], "info_hash=") != 2 {
		t.Errorf("asked %q", asked)
	}
	if _, err = client(t).Scrape(t.Context(), s.URL+"/tell", hashA); !errors.Is(err, ErrURL) {
		t.Errorf("no announce in the path: %v", err)
	}
	if _, err = client(t).Scrape(t.Context(), s.URL+"/announce"); err == nil {
		t.Error("a scrape of nothing succeeded")
	}
}

func TestGzip(t *testing.T) {
	pack := func(body []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(body)
		w.Close()
		return b.Bytes()
	}
	answer := func(members int, body []byte) http.HandlerFunc {
		packed := pack(body)
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			for range members {
				w.Write(packed)
			}
		}
	}
	s := serve(t, answer(1, []byte(enc("complete", 7))))
	if r, err := client(t).Announce(t.Context(), s.URL+"/announce", request); err != nil || r.Seeders != 7 {
		t.Errorf("got %+v, %v", r, err)
	}
	bomb := serve(t, answer(1000, make([]byte, 1<<20)))
	if _, err := client(t).Announce(t.Context(), bomb.URL+"/announce", request); !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("gzip bomb: %v", err)
	}
}

func TestEndlessBody(t *testing.T) {
	var sent int
	done := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(done)
		for chunk := make([]byte, 64<<10); ; sent += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	if _, err := client(t).Announce(t.Context(), s.URL+"/announce", request); !errors.Is(err, ErrAnswer) {
		t.Errorf("err = %v", err)
	}
	<-done // the connection was closed: nothing is read on behind our back
	if sent > 64<<20 {
		t.Errorf("%d bytes were taken", sent)
	}
}

func TestRedirects(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Get("to") != "":
			http.Redirect(w, r, q.Get("to"), http.StatusFound)
		case q.Get("loop") != "":
			http.Redirect(w, r, "/announce?loop=1", http.StatusMovedPermanently)
		default:
			io.WriteString(w, enc("complete", 1))
		}
	})
	get := func(query string) error {
		_, err := client(t).Announce(t.Context(), s.URL+"/announce"+query, request)
		return err
	}
	if err := get("?to=" + url.QueryEscape("/announce?x=1")); err != nil {
		t.Errorf("one redirect: %v", err)
	}
	before := len(s.requests())
	if err := get("?loop=1"); !errors.Is(err, ErrAnswer) {
		t.Errorf("redirect loop: %v", err)
	}
	if n := len(s.requests()) - before; n != maxRedirects+1 {
		t.Errorf("%d requests in a loop, want %d", n, maxRedirects+1)
	}
	for _, to := range []string{"file:///etc/passwd", "ftp://127.0.0.1/announce", "udp://127.0.0.1:1/announce", "javascript:alert(1)", "http://", "http://%zz/", "http://[::1"} {
		if err := get("?to=" + url.QueryEscape(to)); !errors.Is(err, ErrAnswer) {
			t.Errorf("redirect to %s: %v, want ErrAnswer", to, err)
		}
	}
	if err := get("?to=/admin/delete"); !errors.Is(err, ErrURL) {
		t.Errorf("redirect to another path on this machine: %v", err)
	}
}

// farConn is a connection that seems to come from the Internet.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("93.184.216.34:80"))
}

func TestRedirectFromPublicToLocal(t *testing.T) {
	victim := serve(t, say("de"))
	for _, to := range []string{victim.URL + "/announce", "http://10.0.0.1/announce", "http://169.254.169.254/announce", "http://100.64.0.1/announce", "http://0.0.0.0/announce"} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
		c := client(t)
		dials := 0
		c.DialTCP = func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials++
			nc, err := new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
			return farConn{nc}, err
		}
		if _, err := c.Announce(t.Context(), "http://tracker.test/announce", request); !errors.Is(err, ErrURL) || dials != 1 {
			t.Errorf("%s: %v after %d dials; want ErrURL and 1", to, err, dials)
		}
	}
	if len(victim.requests()) != 0 {
		t.Error("a request reached the local host")
	}
}

func TestLoopbackOnlyAtAnnounce(t *testing.T) {
	s := serve(t, say("de"))
	for path, want := range map[string]bool{"/announce": true, "/announce.php?x": true, "/announce/key": true, "/": false, "/api/shutdown": false, "/x/announce": false, "": false,
		"/announce/../api": false, "/announce/%2e%2E/api": false, "/announce/x/../key": true} {
		_, err := client(t).Announce(t.Context(), s.URL+path, request)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v; want allowed: %v", path, err, want)
		}
	}
	if n := len(s.requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

func TestBadURLs(t *testing.T) {
	for _, u := range []string{
		"", "x", "http://", "http:///announce", "file:///etc/passwd", "javascript:alert(1)", "wss://h/announce", "ftp://h/a", "udp://h/announce", "udp://:80",
		"http://h/\r\nHost: x", "http://h/a\x00", "http://h/\x7f", "http://h\n/a", "http://[::1/announce", "http://h/" + strings.Repeat("x", 1<<20),
		"udp://h:1/" + strings.Repeat("x", 2000), "http://h /a", "http://h:port/a", "http://%zz/", "http://h:0/a", "udp://h:65536/a",
	} {
		if _, err := client(t).Announce(t.Context(), u, request); !errors.Is(err, ErrURL) {
			t.Errorf("%.40q: %v, want ErrURL", u, err)
		} else if len(u) > 20 && strings.Contains(err.Error(), u) {
			t.Errorf("%.40q is repeated in %v", u, err)
		}
	}
}

func TestRequestLineIsClean(t *testing.T) {
	s := serve(t, say("de"))
	raw := strings.Replace(s.URL, "http://", "HTTP://user:secret@", 1) + "/announce?a=b c\"<>é#frag"
	if _, err := client(t).Announce(t.Context(), raw, request); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[0]; !strings.HasPrefix(got, "/announce?a=b%20c%22%3C%3E%C3%A9&info_hash=") {
		t.Errorf("asked %q", got)
	}
	for _, name := range []string{"Authorization", "Cookie", "Referer"} {
		if v := s.heads[0].Get(name); v != "" {
			t.Errorf("%s: %q was sent", name, v)
		}
	}
}

func TestStatus(t *testing.T) {
	status, body := 404, ""
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
	_, err := client(t).Announce(t.Context(), s.URL+"/announce", request)
	if e, ok := errors.AsType[*StatusError](err); !ok || *e != (StatusError{404, 2 * time.Minute}) {
		t.Errorf("404: %v", err)
	}
	status, body = 403, enc("failure reason", "passkey?")
	_, err = client(t).Announce(t.Context(), s.URL+"/announce", request)
	if e, ok := errors.AsType[*FailureError](err); !ok || e.Reason != "passkey?" {
		t.Errorf("403 with a reason: %v", err)
	}
	status, body = 302, ""
	_, err = client(t).Announce(t.Context(), s.URL+"/announce", request)
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Code != 302 {
		t.Errorf("302 without a location: %v", err)
	}
}

// pipeTracker serves each connection of the returned dialer by a function, in memory.
func pipeTracker(serve func(net.Conn)) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			serve(theirs)
		}()
		return ours, nil
	}
}

func TestHTTPTimeLimit(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"no answer": func(nc net.Conn) { io.Copy(io.Discard, nc) },
		"one byte a second": func(nc net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(nc, "d"); err != nil {
					return
				}
			}
		},
		"one byte of header a second": func(nc net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nX: ")
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(nc, "x"); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Client{NoIPv6: true, DialTCP: pipeTracker(serve)}
				defer c.Close()
				start := time.Now()
				_, err := c.Announce(t.Context(), "http://tracker.test/announce", request)
				took := time.Since(start)
				if !errors.Is(err, context.DeadlineExceeded) || took != 30*time.Second {
					t.Errorf("%v after %v, want the time limit after exactly 30 s", err, took)
				}
				time.Sleep(time.Minute) // until the tracker has noticed
			})
		})
	}
}

// twoFamilies answers over IPv4 and IPv6 after a delay each; a negative one refuses.
func twoFamilies(delays map[string]time.Duration, seen *[]string, mu *sync.Mutex) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		*seen = append(*seen, network)
		mu.Unlock()
		if delays[network] < 0 {
			return nil, &net.OpError{Op: "dial", Err: errors.New("unreachable")}
		}
		return pipeTracker(func(nc net.Conn) {
			in := bufio.NewReader(nc)
			for {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				time.Sleep(delays[network])
				body := enc("peers", "\x01\x02\x03\x04\x00\x04")
				if network == "tcp6" {
					body = enc("peers", "\x01\x02\x03\x04\x00\x06", "complete", 5)
				}
				(&http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}).Write(nc)
			}
		})(ctx, network, address)
	}
}

func TestBothFamilies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		v4, v6 time.Duration // until the answer; negative: cannot be reached
		host   string
		change func(*Client)
		took   time.Duration
		want   []netip.AddrPort
		first  []string // families asked at "started", sorted
		last   []string // families asked at "stopped", sorted; connections that are reused are not dialed again
	}{
		{"both answer", time.Second, 2 * time.Second, "h", nil, 2 * time.Second, addrs("1.2.3.4:4", "1.2.3.4:6"), []string{"tcp4", "tcp6"}, nil},
		{"IPv6 refused", time.Second, -1, "h", nil, time.Second, addrs("1.2.3.4:4"), []string{"tcp4", "tcp6"}, nil},
		{"IPv4 refused", -1, time.Second, "h", nil, time.Second, addrs("1.2.3.4:6"), []string{"tcp4", "tcp6"}, nil},
		{"IPv6 leads nowhere", time.Second, time.Hour, "h", nil, 4 * time.Second, addrs("1.2.3.4:4"), []string{"tcp4", "tcp6"}, nil},
		{"-4", time.Second, 0, "h", func(c *Client) { c.NoIPv6 = true }, time.Second, addrs("1.2.3.4:4"), []string{"tcp4"}, nil},
		{"-6", 0, time.Second, "h", func(c *Client) { c.NoIPv4 = true }, time.Second, addrs("1.2.3.4:6"), []string{"tcp6"}, nil},
		{"a number has one family", 0, time.Second, "[2001:db8::1]", nil, time.Second, addrs("1.2.3.4:6"), []string{"tcp6"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var seen []string
				c := &Client{DialTCP: twoFamilies(map[string]time.Duration{"tcp4": tt.v4, "tcp6": tt.v6}, &seen, &mu)}
				defer c.Close()
				if tt.change != nil {
					tt.change(c)
				}
				start, each := time.Now(), 0
				got, err := c.AnnounceEach(t.Context(), "http://"+tt.host+"/announce", request, func(Response) { each++ })
				if err != nil || !slices.Equal(got.Peers, tt.want) || time.Since(start) != tt.took || each != len(tt.want) {
					t.Errorf("got %v, %v after %v in %d parts; want %v after %v", got.Peers, err, time.Since(start), each, tt.want, tt.took)
				}
				if slices.Sort(seen); !slices.Equal(seen, tt.first) {
					t.Errorf("dialed %v, want %v", seen, tt.first)
				}
				seen = nil
				bye := request
				bye.Event = Stopped
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if _, err := c.Announce(ctx, "http://"+tt.host+"/announce", bye); err != nil && tt.v6 < 2*time.Second {
					t.Errorf("stopped: %v", err)
				}
				if !slices.Equal(seen, tt.last) {
					t.Errorf("stopped dialed %v, want %v", seen, tt.last)
				}
				c.Close()
				time.Sleep(2 * time.Hour) // until the slowest tracker has noticed
			})
		})
	}
}

func TestNoFamilyLeft(t *testing.T) {
	c := &Client{NoIPv4: true}
	if _, err := c.Announce(t.Context(), "http://127.0.0.1/announce", request); !errors.Is(err, errNoFamily) {
		t.Errorf("err = %v", err)
	}
	if out, err := c.Scrape(t.Context(), "http://127.0.0.1/announce", hashA); !errors.Is(err, errNoFamily) {
		t.Errorf("scrape: %v, err = %v", out, err)
	}
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"http://user:pw@Host:80/secret/announce?passkey=1": "http://Host:80", "udp://h:1/x": "udp://h:1", "bad\x1b[2J": `bad\x1b[2J`,
	} {
		if got := Label(in); got != want {
			t.Errorf("Label(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestIsLocal(t *testing.T) {
	for in, want := range map[string]bool{
		"http://127.0.0.1/announce": true, "http://localhost:80/announce": true, "udp://169.254.169.254:80": true, "http://[::1]/a": true, "http://192.168.1.1/a": true,
		"http://[fe80::1]/a": true, "http://[::ffff:10.0.0.1]/a": true, "http://tracker.test/a": false, "http://93.184.216.34/a": false, "nonsense": false,
	} {
		if got := IsLocal(in); got != want {
			t.Errorf("IsLocal(%q) = %v", in, got)
		}
	}
}
