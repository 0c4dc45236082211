package ui

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A screen records what was written, safely for several goroutines.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// take returns what was written since the last call.
func (s *screen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.buf.Reset()
	return s.buf.String()
}

// run starts d.Run in the bubble and returns what ends it and waits.
func run(t *testing.T, d *Display, snap func() Snapshot) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx, snap) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestLinesTiming(t *testing.T) { synctest.Test(t, testLinesTiming) }

func testLinesTiming(t *testing.T) {
	var out screen
	var done atomic.Int64
	d := New(Config{Err: &out})
	stop := run(t, d, func() Snapshot {
		return Snapshot{State: "downloading", Done: done.Load(), Total: 4 << 20, Peers: 2}
	})
	defer stop()
	time.Sleep(linesFirst - time.Millisecond)
	synctest.Wait()
	if got := out.take(); got != "" {
		t.Fatalf("a line before the first second: %q", got)
	}
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
	if got, want := out.take(), "downloading 0% (0 B of 4.0 MiB), 2 peers\n"; got != want {
		t.Fatalf("first line %q, want %q", got, want)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if got := out.take(); got != "" {
		t.Fatalf("nothing changed, yet %q", got)
	}
	for range 9 { // changes every second: still a line in ten at most
		done.Add(1 << 18)
		time.Sleep(time.Second)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if got := out.take(); strings.Count(got, "\n") != 1 {
		t.Fatalf("in ten seconds: %q, want one line", got)
	}
}

func TestQuickCommandPrintsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		stop := run(t, New(Config{Err: &out}), func() Snapshot { return Snapshot{State: "checking"} })
		time.Sleep(500 * time.Millisecond)
		stop()
		if got := out.String(); got != "" {
			t.Errorf("printed %q", got)
		}
	})
}

func TestBarOffTerminalHasNoEscapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		var done atomic.Int64
		d := New(Config{Err: &out, Mode: Bar})
		stop := run(t, d, func() Snapshot {
			return Snapshot{State: "downloading", Done: done.Add(1 << 20), Total: 10 << 20, DownRate: 1 << 20, Peers: 1}
		})
		time.Sleep(time.Second)
		if _, err := d.Write([]byte("a log line\n")); err != nil {
			t.Error(err)
		}
		stop()
		got := out.String()
		if strings.Contains(got, "\x1b") {
			t.Errorf("escape codes in %q", got)
		}
		if !strings.HasSuffix(got, "\n") || !strings.Contains(got, " \ra log line\n") {
			t.Errorf("the log line or the end is not on a line of its own: %q", got)
		}
	})
}

func TestBarIsNotRedrawnUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out screen
		stop := run(t, New(Config{Err: &out, Mode: Bar}), func() Snapshot { return Snapshot{State: "waiting", Peers: -1} })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := out.take(), "waiting"; got != want {
			t.Errorf("in ten idle seconds %q, want %q", got, want)
		}
		stop()
		if got, want := out.take(), "\n"; got != want {
			t.Errorf("at the end %q, want %q", got, want)
		}
	})
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		want Mode
	}{
		{"not a terminal", Config{}, Lines},
		{"asked for", Config{Mode: Bar}, Bar},
		{"none", Config{Mode: None}, None},
		{"quiet", Config{Mode: Bar, Quiet: 1}, None},
		{"JSON and progress are apart", Config{JSON: true}, Lines},
	} {
		tt.c.Err = new(bytes.Buffer)
		if got := New(tt.c).mode; got != tt.want {
			t.Errorf("%s: mode %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestEraseAfterShrinking: a bar of 79 columns stands on two rows of a terminal of 40.
func TestEraseAfterShrinking(t *testing.T) {
	for _, tt := range []struct {
		drawn, width int
		want         string
	}{
		{79, 80, "\r\x1b[K"},
		{80, 80, "\r\x1b[K"},
		{79, 40, "\x1b[1A\r\x1b[J"},
		{79, 20, "\x1b[3A\r\x1b[J"},
		{39, 80, "\r\x1b[K"},
		{0, 80, ""},
	} {
		d := &Display{escape: true, drawn: strings.Repeat("x", tt.drawn)}
		if got := d.erase(tt.width); got != tt.want {
			t.Errorf("%d columns drawn, %d wide: %q, want %q", tt.drawn, tt.width, got, tt.want)
		}
	}
}

func TestLogLineKeepsTheBar(t *testing.T) {
	var out bytes.Buffer
	d := New(Config{Err: &out, Mode: Bar, Width: func() int { return 60 }})
	d.escape = true
	d.draw(Snapshot{State: "downloading", Done: 1, Total: 2, Peers: -1})
	bar := out.String()
	out.Reset()
	if _, err := d.Write([]byte("bittern: x\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\r\x1b[Kbittern: x\n"+bar; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// brokenWriter is a stderr or stdout that has gone away.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenStreamsEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		d := New(Config{Err: brokenWriter{}, Out: brokenWriter{}, Mode: Bar, JSON: true})
		stop := run(t, d, func() Snapshot { return Snapshot{State: "downloading", Done: asked.Add(1), Total: 100} })
		time.Sleep(3 * time.Second)
		d.Logger(0, nil).Error("x")
		stop()
		if asked.Load() < 10 {
			t.Errorf("%d snapshots: it gave up", asked.Load())
		}
	})
}

// The bar makes way for a result on the same screen, and comes back behind it.
func TestResultTakesTheBarAway(t *testing.T) {
	var out screen
	d := New(Config{Out: &out, Err: &out, Mode: Bar, Width: func() int { return 40 }})
	d.sameScreen, d.escape = true, true
	d.draw(Snapshot{State: "checking", Peers: -1})
	out.take()
	if err := d.Result([]byte("magnet:?x\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := out.take(), "\r\x1b[Kmagnet:?x\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	d.draw(Snapshot{State: "checking", Peers: -1})
	if got := out.take(); !strings.HasPrefix(got, "checking") {
		t.Errorf("the bar came back as %q", got)
	}
}
