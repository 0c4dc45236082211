//go:build linux

package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// zeros is a megabyte of nothing.
var zeros [mib]byte

// bomb is a gigabyte of zeros, compressed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is in range
	for range 1024 {
		z.Write(zeros[:]) // into memory: no error
	}
	z.Close()
	return b.Bytes()
})

// hostileTrackers are trackers of a tier of their own, beside a tier with an honest one.
var hostileTrackers = []struct {
	name   string
	answer http.HandlerFunc
}{
	{"a gigabyte", endless},
	{"a gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb())
	}},
	{"a redirect loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/announce?"+r.URL.RawQuery, http.StatusFound)
	}},
	{"a redirect to a file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	}},
	{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	{"a byte a second", dripping},
	{"an interval of 0", replies(answer(0))},
	{"an interval below 0", replies("d8:intervali-4611686018427387904e5:peers0:e")},
	{"an interval of ages", replies("d8:intervali4611686018427387904e5:peers0:e")},
	{"peers cut short", replies("d8:intervali1800e5:peers7:\x7f\x00\x00\x09\x00\x01\x02e")},
	{"peers of the wrong type", replies("d8:intervali1800e5:peersi7ee")},
	{"peers at port 0 and nowhere", replies("d8:intervali1800e5:peers12:\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x1a\xe1e")},
	{"a failure reason of 700 kB", replies("d14:failure reason700000:" + string(bytes.Repeat([]byte("\x1b[31m!"), 116_667))[:700_000] + "e")},
	{"lists a million deep", replies(string(bytes.Repeat([]byte("l"), mib-1)))},
	{"not bencoded", replies("<html>hello</html>")},
	{"status 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	{"10,000 peers", replies(answer(1800, strangers(10_000)...))},
}

// endless sends a gigabyte, or as much of it as is read.
func endless(w http.ResponseWriter, _ *http.Request) {
	for range 1024 {
		if _, err := w.Write(zeros[:]); err != nil {
			return
		}
	}
}

// dripping sends a byte a second.
func dripping(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.Write([]byte("d")) // the request's context ends when nobody reads
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// strangers are addresses of the loopback at which nobody listens.
func strangers(n int) []netip.AddrPort {
	var a []netip.AddrPort
	for i := range n {
		a = append(a, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 1))
	}
	return a
}

// TestHostileTracker runs each beside an honest tracker: the download completes, in little memory,
// and no tracker is asked in a hurry.
func TestHostileTracker(t *testing.T) {
	for _, tt := range hostileTrackers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 2*mib, 64*kib)
			honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
			asked := make(chan struct{})
			ask := sync.OnceFunc(func() { close(asked) })
			bad := newTrackerFunc(t, func(w http.ResponseWriter, r *http.Request) {
				ask()
				tt.answer(w, r)
			})
			good := newTrackerFunc(t, func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-asked:
				case <-r.Context().Done():
				}
				<-time.After(200 * time.Millisecond) // the honest answer comes last
				replies(answer(1800, honest.addr))(w, r)
			})
			dir := t.TempDir()
			get := run(t, "get", x.torrent(t, bad.url, good.url), "-d", dir)
			closes(t, asked, 10*time.Second, "an announce")
			await(t, 10*time.Second, "half of the content", func() bool { return honest.blocksServed() == x.blocks()/2 })
			<-time.After(500 * time.Millisecond) // a storm of announces would show
			// Six: one announce and the five redirects that are followed at most.
			if n := len(bad.asked()); n > 6 {
				t.Errorf("%d requests at once", n)
			}
			honest.release()
			get.exits(t, 0, 30*time.Second)
			x.isAloneIn(t, dir)
			if s := get.err.String(); bytes.ContainsRune([]byte(s), '\x1b') || len(s) > 10_000 {
				t.Errorf("stderr has escape codes or %d bytes", len(s))
			}
		})
	}
}

// TestHostileTrackerBody: of an endless body no more is read than the limit of a megabyte and what
// the kernel's buffers take.
func TestHostileTrackerBody(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
	var sent atomic.Int64
	ended := make(chan struct{})
	bad := newTrackerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("event") != "started" {
			return
		}
		defer close(ended)
		for range 1024 {
			n, err := w.Write(zeros[:])
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	get := run(t, "get", x.torrent(t, bad.url), "-d", t.TempDir(), "--peer", honest.addr.String())
	closes(t, ended, 20*time.Second, "the end of the endless body")
	if n := sent.Load(); n > 32*mib {
		t.Errorf("%d MiB of the body were taken", n/mib)
	}
	honest.release()
	get.exits(t, 0, 30*time.Second)
}

// TestHostileTrackersDoNotHoldUpTheEnd: two dead trackers cost the exit at most the two seconds that
// the farewell may take.
func TestHostileTrackersDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
	var trackers []string
	for range 2 {
		var n atomic.Int64
		trackers = append(trackers, newTrackerFunc(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				fmt.Fprint(w, answer(1800))
				return
			}
			<-r.Context().Done()
		}).url)
	}
	get := run(t, "get", x.torrent(t, trackers...), "-d", t.TempDir(), "--peer", honest.addr.String())
	await(t, 10*time.Second, "half of the content", func() bool { return honest.blocksServed() == x.blocks()/2 })
	honest.release()
	get.exits(t, 0, 5*time.Second)
}
