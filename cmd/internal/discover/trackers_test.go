package discover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bittern/tracker"
)

// config returns the set-up for tests: the trackers are reached by dial, what is found goes to e, what is logged to log.
func config(urls [][]string, dial tracker.DialFunc, e *emitted, log io.Writer) TrackersConfig {
	return TrackersConfig{
		Client: &tracker.Client{NoIPv6: true, DialTCP: dial}, URLs: urls, Rand: rand.New(rand.NewPCG(1, 2)),
		Request: func() tracker.Request { return tracker.Request{Port: 1} }, Emit: e.emit,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func TestTrackers(t *testing.T) {
	var mu sync.Mutex
	var events []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		events = append(events, r.URL.Query().Get("event"))
		mu.Unlock()
		io.WriteString(w, "d5:peers6:\x01\x02\x03\x04\x00\x0515:warning message4:ah\x1b!e")
	}))
	defer srv.Close()
	var log bytes.Buffer
	var e emitted
	answered := make(chan struct{})
	var once sync.Once
	cfg := config([][]string{{srv.URL + "/announce?passkey=secret"}, {"wss://h/x"}}, nil, &e, &log)
	cfg.Changed = func(s tracker.Status) { once.Do(func() { close(answered) }) }
	s := NewTrackers(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	<-answered
	s.Completed()
	cancel()
	<-done
	cfg.Client.Close()
	if want := []string{"started", "completed", "stopped"}; !slices.Equal(events, want) {
		t.Errorf("events %v, want %v", events, want)
	}
	label := tracker.Label(srv.URL)
	if want := "tracker " + label + "[1.2.3.4:5]"; !slices.Contains(e.got, want) {
		t.Errorf("found %v, want %s", e.got, want)
	}
	for _, want := range []string{"tracker left out", `tracker warns`, label} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "\x1b") || strings.Count(log.String(), "tracker warns") != 1 {
		t.Errorf("log:\n%s", log.String())
	}
	if s.Exhausted() || len(s.Status()) != 2 {
		t.Errorf("status %+v", s.Status())
	}
}

func TestTrackersAllFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var e emitted
		refuse := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		s := NewTrackers(config([][]string{{"http://a/announce"}}, refuse, &e, &log))
		stop := running(t, s)
		time.Sleep(10 * time.Second)
		if synctest.Wait(); s.Exhausted() {
			t.Error("exhausted after two failures")
		}
		time.Sleep(10 * time.Second)
		if synctest.Wait(); !s.Exhausted() {
			t.Error("not exhausted after three failures")
		}
		stop()
		if e.got != nil || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("found %v; log, which wants one line:\n%s", e.got, log.String())
		}
	})
}

// NeedPeers and a change of the network reach the trackers.
func TestTrackersAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dials, online := 0, []string{"192.0.2.1"}
		dial := func(context.Context, string, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				in := make([]byte, 4096)
				theirs.Read(in)
				io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nde")
			}()
			return ours, nil
		}
		count := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return dials
		}
		var e emitted
		s := NewTrackers(config([][]string{{"http://a/announce"}}, dial, &e, io.Discard))
		s.watch = watch{wall: time.Now, addrs: func() ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(online), nil
		}}
		stop := running(t, s)
		time.Sleep(time.Second)
		s.NeedPeers()
		time.Sleep(5 * time.Minute)
		if n := count(); n != 2 {
			t.Errorf("%d announces, want one for want of peers", n)
		}
		time.Sleep(5 * time.Minute)
		mu.Lock()
		online = []string{"192.0.2.2"}
		mu.Unlock()
		time.Sleep(watchEvery)
		if n := count(); n != 3 {
			t.Errorf("%d announces, want one more after the address changed", n)
		}
		stop()
		s.cfg.Client.Close()
	})
}

func TestWatch(t *testing.T) {
	type look struct {
		addrs []string
		err   error
		slept time.Duration // since the look before
		back  bool          // expected
	}
	errDown := errors.New("no netlink")
	one, two := []string{"192.0.2.1"}, []string{"192.0.2.1", "192.0.2.2"}
	for _, tt := range []struct {
		name  string
		looks []look // the first is at the start
	}{
		{"nothing changes", []look{{addrs: one}, {addrs: one}, {addrs: one}}},
		{"another address", []look{{addrs: one}, {addrs: two, back: true}, {addrs: two}}},
		{"gone and back", []look{{addrs: one}, {}, {}, {addrs: one, back: true}}},
		{"down at the start", []look{{}, {addrs: one, back: true}}},
		{"not known for a while", []look{{addrs: one}, {err: errDown}, {addrs: one}}},
		{"not known at the start", []look{{err: errDown}, {addrs: one, back: true}, {addrs: one}}},
		{"the machine slept", []look{{addrs: one}, {addrs: one, slept: time.Hour, back: true}, {addrs: one}}},
		{"the clock was set a little", []look{{addrs: one}, {addrs: one, slept: 20 * time.Second}}},
		{"the clock was set back", []look{{addrs: one}, {addrs: one, slept: -time.Hour}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, offset := 0, time.Duration(0)
				var backs []int
				w := watch{
					addrs: func() ([]string, error) {
						l := tt.looks[min(i, len(tt.looks)-1)]
						offset += l.slept
						i++
						return l.addrs, l.err
					},
					wall: func() time.Time { return time.Now().Round(0).Add(offset) },
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(tt.looks)-1)*watchEvery+time.Second)
				defer cancel()
				w.run(ctx, func() { backs = append(backs, i-1) })
				var want []int
				for i, l := range tt.looks {
					if l.back {
						want = append(want, i)
					}
				}
				if !slices.Equal(backs, want) {
					t.Errorf("called at looks %v, want %v", backs, want)
				}
			})
		})
	}
}

func TestSystemWatch(t *testing.T) {
	w := systemWatch()
	addrs, err := w.addrs()
	if err != nil || !slices.IsSorted(addrs) || slices.Contains(addrs, "127.0.0.1") {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	if d := time.Since(w.wall()); d < -time.Minute || d > time.Minute {
		t.Errorf("the wall clock is off by %v", d)
	}
}
