package tracker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a world of trackers by host name. Each behaves by a function; what was asked is logged as "seconds host event left".
type fake struct {
	mu      sync.Mutex
	start   time.Time
	log     []string
	flying  int
	most    int // announces at once
	left    int64
	behaves map[string]func(ctx context.Context, r Request) (Response, error)
}

func (f *fake) announce(ctx context.Context, url string, r Request, each func(Response)) (Response, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/announce")
	f.mu.Lock()
	f.log = append(f.log, fmt.Sprintf("%v %s %s %d", time.Since(f.start), host, r.Event, r.Left))
	f.flying++
	f.most = max(f.most, f.flying)
	do := f.behaves[host]
	f.mu.Unlock()
	resp, err := do(ctx, r)
	f.mu.Lock()
	f.flying--
	f.mu.Unlock()
	if err == nil {
		each(resp)
	}
	return resp, err
}

func (f *fake) request() Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Request{InfoHash: hashA, Left: f.left}
}

func (f *fake) setLeft(n int64) { f.mu.Lock(); f.left = n; f.mu.Unlock() }

func (f *fake) logged() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.log)
	return slices.Clone(f.log)
}

// after answers after a delay.
func after(d time.Duration, peers ...string) func(context.Context, Request) (Response, error) {
	return func(ctx context.Context, _ Request) (Response, error) {
		select {
		case <-time.After(d):
			return Response{Interval: 30 * time.Minute, Peers: addrs(peers...), Seeders: 1}, nil
		case <-ctx.Done():
			return Response{}, ctx.Err()
		}
	}
}

func refuses(context.Context, Request) (Response, error) { return Response{}, errNet }

// only answers one event and leaves the others hanging.
func only(ev Event) func(context.Context, Request) (Response, error) {
	return func(ctx context.Context, r Request) (Response, error) {
		if r.Event == ev {
			return halfHour, nil
		}
		<-ctx.Done()
		return Response{}, ctx.Err()
	}
}

func urls(hosts ...string) (out []string) {
	for _, h := range hosts {
		out = append(out, "http://"+h+"/announce")
	}
	return out
}

// run starts trackers in a bubble and returns them with what ends and awaits them.
func (f *fake) run(t *testing.T, cfg TiersConfig) (tr *Tiers, stop func() (took time.Duration)) {
	f.start, f.left = time.Now(), 10
	cfg.Rand, cfg.Announce, cfg.Request = rng(), f.announce, f.request
	if cfg.Found == nil {
		cfg.Found = func(string, Response) {}
	}
	tr = NewTiers(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tr.Run(ctx)
	}()
	return tr, func() time.Duration {
		synctest.Wait()
		begin := time.Now()
		cancel()
		<-done
		return time.Since(begin)
	}
}

func TestAllTiersAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){
			"a": after(time.Hour), "b": refuses, "c": after(time.Second, "1.2.3.4:5"),
		}}
		var found []string
		var mu sync.Mutex
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a"), urls("b"), urls("c")}, Found: func(url string, r Response) {
			mu.Lock()
			found = append(found, fmt.Sprint(url, r.Peers))
			mu.Unlock()
		}})
		time.Sleep(14 * time.Second)
		if got, want := f.logged(), []string{"0s a started 10", "0s b started 10", "0s c started 10", "5s b started 10"}; !slices.Equal(got, want) {
			t.Errorf("asked %v, want %v", got, want)
		}
		if want := []string{"http://c/announce[1.2.3.4:5]"}; !slices.Equal(found, want) {
			t.Errorf("found %v, want %v", found, want)
		}
		st := tr.Status()
		if len(st) != 3 || st[0].Failures != 0 || st[1].Failures != 2 || st[1].Err == nil || st[2].Peers != 1 || st[2].Seeders != 1 || st[0].Seeders != -1 ||
			st[2].Next.Sub(f.start) != 30*time.Minute+time.Second || st[1].Next.Sub(f.start) != 15*time.Second || !st[0].Next.IsZero() {
			t.Errorf("status %+v", st)
		}
		if took := stop(); took != time.Second {
			t.Errorf("stopped after %v, want the second that c takes", took)
		}
		if got := f.logged(); !slices.Contains(got, "14s c stopped 10") || len(got) != 5 {
			t.Errorf("asked %v; want stopped at c, and nowhere else", got)
		}
	})
}

func TestCompletedThenStopped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": after(100 * time.Millisecond)}}
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a")}})
		time.Sleep(10 * time.Second)
		f.setLeft(0)
		tr.Completed() // and the end comes before anybody has acted on it
		took := stop()
		if want := []string{"0s a started 10", "10.1s a stopped 0", "10s a completed 0"}; !slices.Equal(f.logged(), want) || took != 200*time.Millisecond {
			t.Errorf("asked %v in %v, want %v", f.logged(), took, want)
		}
	})
}

func TestCompletedWhileSeeding(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": after(0)}}
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a")}})
		time.Sleep(10 * time.Second)
		f.setLeft(0)
		tr.Completed()
		time.Sleep(31 * time.Minute)
		tr.Completed() // once is enough
		stop()
		if want := []string{"0s a started 10", "10s a completed 0", "30m10s a  0", "31m10s a stopped 0"}; !slices.Equal(f.logged(), want) {
			t.Errorf("asked %v, want %v", f.logged(), want)
		}
	})
}

// The farewell: dead trackers never hold the exit for longer than the budget, and live ones are not held up by them.
func TestFarewellBudget(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){
			"live": after(0), "dying": only(Started), "dead": refuses, "silent": after(time.Hour),
		}}
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("live"), urls("dying"), urls("dead"), urls("silent")}})
		time.Sleep(time.Second)
		f.setLeft(0)
		tr.Completed()
		if took := stop(); took != 2*time.Second {
			t.Errorf("took %v, want the budget of 2 s", took)
		}
		want := []string{"0s dead started 10", "0s dying started 10", "0s live started 10", "0s silent started 10",
			"1s dying completed 0", "1s live completed 0", "1s live stopped 0", "2s dying stopped 0"}
		if got := f.logged(); !slices.Equal(got, want) {
			t.Errorf("asked %v\nwant %v", got, want)
		}
	})
}

// A "completed" that is under way when the end comes is waited for, and not sent twice.
func TestCompletedIsSentOnce(t *testing.T) {
	for _, tt := range []struct {
		name      string
		completed time.Duration // that its answer takes
		want      string        // when stopped is sent
	}{{"answered", 500 * time.Millisecond, "1.5s a stopped 0"}, {"hanging", time.Hour, "2s a stopped 0"}} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": func(ctx context.Context, r Request) (Response, error) {
					if r.Event == Completed {
						return after(tt.completed)(ctx, r)
					}
					return halfHour, nil
				}}}
				tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a")}})
				time.Sleep(time.Second)
				f.setLeft(0)
				tr.Completed()
				synctest.Wait()
				stop()
				want := []string{"0s a started 10", tt.want, "1s a completed 0"}
				if slices.Sort(want); !slices.Equal(f.logged(), want) {
					t.Errorf("asked %v, want %v", f.logged(), want)
				}
			})
		})
	}
}

func TestSeedFromTheStartSendsNoCompleted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": after(0)}}
		_, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a")}})
		f.setLeft(0)
		stop()
		if got := f.logged(); len(got) != 2 || strings.Contains(fmt.Sprint(got), "completed") {
			t.Errorf("asked %v", got)
		}
	})
}

func TestExhaustedAndBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		down := true
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": func(context.Context, Request) (Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return Response{}, errNet
			}
			return halfHour, nil
		}}}
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a"), {"wss://x"}}})
		for _, tt := range []struct {
			sleep time.Duration
			want  bool
		}{{time.Second, false}, {5 * time.Second, false}, {10 * time.Second, true}} {
			time.Sleep(tt.sleep)
			synctest.Wait()
			if got := tr.Exhausted(); got != tt.want {
				t.Errorf("exhausted %v after %v", got, time.Since(f.start))
			}
		}
		time.Sleep(10 * time.Minute)
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(time.Minute) // the network's return is noticed within a minute
		synctest.Wait()
		if tr.Exhausted() || tr.Status()[0].LastOK.IsZero() {
			t.Error("the return of the network was not noticed within a minute")
		}
		stop()
	})
	if !NewTiers(TiersConfig{Rand: rng()}).Exhausted() {
		t.Error("no trackers are not exhausted")
	}
}

func TestWishes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"a": after(0)}}
		tr, stop := f.run(t, TiersConfig{URLs: [][]string{urls("a")}})
		time.Sleep(10 * time.Second)
		tr.NeedPeers()
		time.Sleep(6 * time.Minute)
		tr.NetworkBack()
		time.Sleep(time.Second)
		stop()
		if want := []string{"0s a started 10", "5m0s a  10", "6m10s a  10", "6m11s a stopped 10"}; !slices.Equal(f.logged(), want) {
			t.Errorf("asked %v, want %v", f.logged(), want)
		}
	})
}

func TestManyTrackers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &fake{behaves: make(map[string]func(context.Context, Request) (Response, error))}
		var tiers [][]string
		for i := range 200 {
			host := fmt.Sprint("h", i)
			f.behaves[host] = after(time.Second)
			tiers = append(tiers, urls(host))
		}
		reports := 0
		_, stop := f.run(t, TiersConfig{URLs: tiers, Report: func(Status) { reports++ }})
		time.Sleep(time.Minute)
		if len(f.logged()) != 200 || f.most != parallel {
			t.Errorf("%d announces, %d at once; want 200 and %d", len(f.log), f.most, parallel)
		}
		stop()
		if len(f.logged()) <= 200+parallelBye || f.most > parallelBye || reports != 200 {
			t.Errorf("%d announces, %d at once, %d reports", len(f.log), f.most, reports)
		}
	})
}

// However many trackers take their time to fail, each gets its turn.
func TestSilentTiersDoNotKeepTheOthersOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const limit, dead = 30 * time.Second, 6 * parallel
		f := &fake{behaves: map[string]func(context.Context, Request) (Response, error){"last": after(time.Second)}}
		var tiers [][]string
		for i := range dead {
			host := fmt.Sprint("h", i)
			f.behaves[host] = func(ctx context.Context, r Request) (Response, error) {
				ctx, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				return after(time.Hour)(ctx, r)
			}
			tiers = append(tiers, urls(host))
		}
		tr, stop := f.run(t, TiersConfig{URLs: append(tiers, urls("last"))})
		time.Sleep(dead/parallel*limit + 2*time.Second)
		if !slices.Contains(f.logged(), "3m0s last started 10") {
			t.Error("the last tier was not asked after one round of the others")
		}
		time.Sleep(2 * dead / parallel * limit)
		for _, s := range tr.Status() {
			if s.Failures < 3 && s.URL != urls("last")[0] {
				t.Errorf("%s has failed %d times, want 3", s.URL, s.Failures)
			}
		}
		stop()
	})
}

// The whole chain in one: tiers over a Client over a UDP tracker in memory.
func TestTiersOverClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log []string
		c := &Client{NoIPv6: true, DialUDP: packets(logged(&log, friendly))}
		defer c.Close()
		var got []netip.AddrPort
		tr := NewTiers(TiersConfig{URLs: [][]string{{udpURL}}, Rand: rng(), Announce: c.AnnounceEach,
			Request: func() Request { return request }, Found: func(_ string, r Response) { got = append(got, r.Peers...) }})
		ctx, cancel := context.WithTimeout(t.Context(), 31*time.Minute)
		defer cancel()
		tr.Run(ctx)
		synctest.Wait()
		if want := []string{"0 0", "0 1", "1800 0", "1800 1", "1860 0", "1860 1"}; !slices.Equal(log, want) {
			t.Errorf("sent %v, want %v", log, want)
		}
		if !slices.Equal(got, addrs("1.2.3.4:5", "1.2.3.4:5")) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("found %v", got)
		}
	})
}
