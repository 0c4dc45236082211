package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"bittern/cmd/internal/sockets"
)

func TestKindOf(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   sourceKind
	}{
		{"x.torrent", pathSource}, {"/a/b", pathSource}, {"-x", pathSource}, {"httpx:y", pathSource},
		{"", pathSource}, {"a:b", pathSource}, {"http", pathSource}, {"./magnet:x", pathSource},
		{"-", stdinSource}, {"ftp://a/b", otherSource}, {"file:///etc/passwd", otherSource},
		{"http://a/b", urlSource}, {"HTTPS://A/B", urlSource},
		{"magnet:?xt=urn:btih:x", magnetSource}, {"MAGNET:?x", magnetSource},
		{strings.Repeat("aB", 20), hashSource}, {strings.Repeat("a2", 16), hashSource}, {strings.Repeat("A7", 16), hashSource},
		{strings.Repeat("g", 40), pathSource}, {strings.Repeat("1", 32), pathSource}, {strings.Repeat("a", 39), pathSource},
	} {
		if got := kindOf(tt.source); got != tt.want {
			t.Errorf("%q: kind %d, want %d", tt.source, got, tt.want)
		}
	}
}

// source reads one and checks that any error is the source's fault.
func source(t *testing.T, name string, in io.Reader) (string, error) {
	t.Helper()
	data, err := readSource(t.Context(), sockets.Policy{}, name, in)
	if err != nil && ClassOf(err) != ClassBadInput {
		t.Errorf("%s: class %v, want bad-input", name, ClassOf(err))
	}
	return string(data), err
}

func TestReadSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := source(t, path, nil); got != "from a file" || err != nil {
		t.Errorf("file: %q, %v", got, err)
	}
	if got, err := source(t, "-", strings.NewReader("from stdin")); got != "from stdin" || err != nil {
		t.Errorf("stdin: %q, %v", got, err)
	}
	for _, tt := range []struct {
		name, source string
		in           io.Reader
		want         string // in the error
	}{
		{"broken stdin", "-", iotest.ErrReader(errors.New("gone")), "from stdin: gone"},
		{"endless stdin", "-", zeroReader{}, "larger than 64 MiB"},
		{"folder", filepath.Dir(path), nil, "a folder"},
		{"nothing there", path + "x", nil, "no such file"},
		{"escape codes in the name", "no\x1b[2Jsuch", nil, `no\x1b[2Jsuch`},
		{"bad URL", "http://[", nil, "cannot fetch http://["},
	} {
		_, err := source(t, tt.source, tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return len(p), nil }

func TestFetchCancelled(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := SignalError{Sig: os.Interrupt}
	cancel(stop)
	if _, err := readSource(ctx, sockets.Policy{}, srv.URL, nil); !errors.Is(err, stop) {
		t.Errorf("%v, want the cause", err)
	}
}

// TestSilentStdin: a signal ends what waits for a terminal or a pipe that says nothing.
func TestSilentStdin(t *testing.T) {
	silent, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := SignalError{Sig: os.Interrupt}
	cancel(stop)
	if _, err := readSource(ctx, sockets.Policy{}, "-", silent); !errors.Is(err, stop) {
		t.Errorf("%v, want the cause", err)
	}
}

func TestFetchHidesSecrets(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	u, err := url.Parse(srv.URL + "/x?passkey=sesame")
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("me", "hunter2")
	_, err = source(t, u.String(), nil)
	if err == nil || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

// TestFetchObeysPolicy: --interface, -4 and -6 hold for fetching the torrent too.
func TestFetchObeysPolicy(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }))
	defer srv.Close()
	for _, tt := range []struct {
		name   string
		policy sockets.Policy
		from   string // the address that the server is called from; "" for not at all
		class  Class
	}{
		{"any", sockets.Policy{}, "127.0.0.1", 0},
		{"the server's family", sockets.Policy{Only4: true}, "127.0.0.1", 0},
		{"the other family", sockets.Policy{Only6: true}, "", ClassBadInput},
		{"this interface", sockets.Policy{Interface: netip.MustParseAddr("127.0.0.1")}, "127.0.0.1", 0},
		{"an address of the other family", sockets.Policy{Interface: netip.MustParseAddr("::1")}, "", ClassBadInput},
		{"an address that is not there", sockets.Policy{Interface: netip.MustParseAddr("192.0.2.1")}, "", ClassNetwork},
	} {
		data, err := readSource(t.Context(), tt.policy, srv.URL, nil)
		if host, _, _ := strings.Cut(string(data), ":"); host != tt.from || (err != nil) != (tt.from == "") || ClassOf(err) != tt.class {
			t.Errorf("%s: called from %q, %v of class %v; want %q, class %v", tt.name, host, err, ClassOf(err), tt.from, tt.class)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	for _, tt := range []struct{ source, want string }{
		{"http://me:hunter2@a.example/x.torrent?passkey=sesame", "http://me:xxxxx@a.example/x.torrent?..."},
		{"ftp://a.example/?k=v", "ftp://a.example/?..."},
		{"magnet:?xt=urn:btih:x", "magnet:?..."},
		{"http://me:hunter2@a.example:port/x?passkey=sesame", "http://...@a.example:port/x?..."},
		{"what? 100%41.torrent", "what? 100%41.torrent"},
		{"./a b#c\x1b", `./a b#c\x1b`},
		{"-", "-"},
	} {
		if got := withoutSecrets(tt.source); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.source, got, tt.want)
		}
	}
}

// TestHopGuard: only a redirect from the network to here is refused.
func TestHopGuard(t *testing.T) {
	const public, local, private = "192.0.2.1:80", "127.0.0.1:80", "10.0.0.1:80"
	for _, tt := range []struct {
		name string
		hops []string
		ok   bool // the last hop is let through
	}{
		{"straight to this machine", []string{local}, true},
		{"straight to the network", []string{public}, true},
		{"from here to here", []string{local, private}, true},
		{"from here to the network", []string{local, public}, true},
		{"from the network to the network", []string{public, public}, true},
		{"from the network to this machine", []string{public, local}, false},
		{"from the network to the local network", []string{public, private}, false},
		{"from the network to a link-local address", []string{public, "169.254.169.254:80"}, false},
		{"the same in IPv6", []string{public, "[::1]:80"}, false},
		{"mapped into IPv6", []string{public, "[::ffff:127.0.0.1]:80"}, false},
		{"with a hop between", []string{public, public, local}, false},
	} {
		var g hopGuard
		var err error
		for i, hop := range tt.hops {
			if i > 0 {
				g.redirected = true
			}
			err = g.control("tcp", hop, nil)
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestIsPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "2001:db8::1": true, "127.0.0.1": false, "::1": false, "10.1.2.3": false, "192.168.0.1": false,
		"169.254.1.1": false, "fe80::1": false, "fd00::1": false, "0.0.0.0": false, "224.0.0.1": false,
	} {
		if got := isPublic(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestErrorLine(t *testing.T) {
	gone := &os.PathError{Op: "open", Path: "x", Err: errors.New("gone")}
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{What: "cannot read x", Err: gone}, "cannot read x: gone"},
		{&Error{What: "cannot read x", Err: &net.OpError{Op: "dial", Err: gone}}, "cannot read x: dial: open x: gone"},
		{&Error{What: "too late"}, "too late"},
		{&Error{Err: errors.New("why")}, "why"},
		{&Error{What: "a", Err: errors.New("b"), Hint: "c"}, "a: b (c)"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if tt.err.Err != nil && !errors.Is(tt.err, tt.err.Err) {
			t.Errorf("%q does not wrap its cause", tt.want)
		}
	}
	if s := Class(200).String(); s != "other" {
		t.Errorf("an unknown class is %q", s)
	}
}
