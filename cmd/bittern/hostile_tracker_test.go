//go:build linux

package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// An announce is one question that a fake tracker was asked.
type announce struct {
	at    time.Time
	query url.Values
	from  netip.Addr
}

// listens is where the announcing peer says it can be reached.
func (a announce) listens(t *testing.T) netip.AddrPort {
	t.Helper()
	to, err := netip.ParseAddrPort(a.from.String() + ":" + a.query.Get("port"))
	if err != nil {
		t.Fatalf("announced port %q: %v", a.query.Get("port"), err)
	}
	return to
}

// number is a parameter that is a number.
func (a announce) number(t *testing.T, key string) int {
	t.Helper()
	n, err := strconv.Atoi(a.query.Get(key))
	if err != nil {
		t.Fatalf("%s of an announce: %v", key, err)
	}
	return n
}

// counts fails the test unless the announce says so many bytes downloaded, -1 for any, and left.
func (a announce) counts(t *testing.T, downloaded, left int) {
	t.Helper()
	if n := a.number(t, "downloaded"); downloaded >= 0 && n != downloaded {
		t.Errorf("announced %q with %d bytes downloaded, want %d", a.query.Get("event"), n, downloaded)
	}
	if n := a.number(t, "left"); n != left {
		t.Errorf("announced %q with %d bytes left, want %d", a.query.Get("event"), n, left)
	}
}

// A tracker is a fake HTTP tracker on the loopback.
type tracker struct {
	url  string // of its announces
	mu   sync.Mutex
	seen []announce
}

// newTracker answers every announce with the same peers and an interval of half an hour.
func newTracker(t *testing.T, peers ...netip.AddrPort) *tracker {
	t.Helper()
	return newTrackerAt(t, "127.0.0.1", peers...)
}

// newTrackerAt is the same at another address of this machine.
func newTrackerAt(t *testing.T, host string, peers ...netip.AddrPort) *tracker {
	t.Helper()
	return startTracker(t, host, replies(answer(1800, peers...)))
}

// newTrackerFunc answers as a test says.
func newTrackerFunc(t *testing.T, handler http.HandlerFunc) *tracker {
	t.Helper()
	return startTracker(t, "127.0.0.1", handler)
}

func startTracker(t *testing.T, host string, handler http.HandlerFunc) *tracker {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	k := &tracker{url: "http://" + ln.Addr().String() + "/announce"}
	s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := netip.ParseAddrPort(r.RemoteAddr) // the server made it
		k.mu.Lock()
		k.seen = append(k.seen, announce{time.Now(), r.URL.Query(), from.Addr()})
		k.mu.Unlock()
		handler(w, r)
	})}
	go s.Serve(ln) // until it is closed, which is its only error
	t.Cleanup(func() { s.Close() })
	return k
}

// replies is a tracker that always says the same.
func replies(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

// answer is a tracker's answer in the compact forms (BEP 7 and 23): interval in seconds.
func answer(interval int, peers ...netip.AddrPort) string {
	var v4, v6 []byte
	for _, p := range peers {
		to := &v4
		if p.Addr().Is6() {
			to = &v6
		}
		*to = append(*to, p.Addr().AsSlice()...)
		*to = append(*to, byte(p.Port()>>8), byte(p.Port()))
	}
	s := fmt.Sprintf("d8:intervali%de5:peers%s", interval, bstring(string(v4)))
	if len(v6) > 0 {
		s += "6:peers6" + bstring(string(v6))
	}
	return s + "e"
}

// asked is every announce so far.
func (k *tracker) asked() []announce {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]announce(nil), k.seen...)
}

// awaits returns the first announce of an event; "" stands for any.
func (k *tracker) awaits(t *testing.T, event string, within time.Duration) announce {
	t.Helper()
	var got announce
	await(t, within, fmt.Sprintf("an announce %q", event), func() bool {
		for _, a := range k.asked() {
			if event == "" || a.query.Get("event") == event {
				got = a
				return true
			}
		}
		return false
	})
	return got
}
