package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, tt := range []struct {
		e    Event
		want string
	}{
		{Start{Source: "a&b.torrent"}, `{"event":"start","time":"2026-01-02T03:04:05Z","source":"a&b.torrent"}`},
		{Metadata{"n", "00", 5, 1, 2}, `{"event":"metadata","time":"2026-01-02T03:04:05Z","name":"n","infohash":"00","size":5,"files":1,"pieces":2}`},
		{Progress{"s", 1, 2, 3, 4, 5, 6, 7, "n"}, `{"event":"progress","time":"2026-01-02T03:04:05Z","state":"s","done":1,"total":2,"down_rate":3,"up_rate":4,"peers":5,"seeds":6,"eta_seconds":7,"note":"n"}`},
		{Progress{}, `{"event":"progress","time":"2026-01-02T03:04:05Z","state":"","done":0,"total":0,"down_rate":0,"up_rate":0,"peers":0,"seeds":0}`},
		{SeedProgress{1, 2, 3, 4}, `{"event":"progress","time":"2026-01-02T03:04:05Z","up_rate":1,"uploaded":2,"peers":3,"copies":4}`},
		{Complete{"p", 1.5, 2, 3, 4, 0, ""}, `{"event":"complete","time":"2026-01-02T03:04:05Z","path":"p","seconds":1.5,"downloaded":2,"uploaded":3,"wasted":4}`},
		{Complete{"p", 1.5, 2, 3, 4, 5, "time"}, `{"event":"complete","time":"2026-01-02T03:04:05Z","path":"p","seconds":1.5,"downloaded":2,"uploaded":3,"wasted":4,"copies":5,"reason":"time"}`},
		{Seeded{"ratio", 1.5, 2, 0}, `{"event":"seeded","time":"2026-01-02T03:04:05Z","reason":"ratio","seconds":1.5,"uploaded":2,"copies":0}`},
		{Seeding{"00", "magnet:?a&b", "http://x/announce", 9}, `{"event":"seeding","time":"2026-01-02T03:04:05Z","infohash":"00","magnet":"magnet:?a&b","tracker_url":"http://x/announce","port":9}`},
		{Failure{3, "bad-input", "no\nway"}, `{"event":"error","time":"2026-01-02T03:04:05Z","code":3,"reason":"bad-input","message":"no\nway"}`},
	} {
		got := string(eventLine(tt.e, now))
		if got != tt.want+"\n" {
			t.Errorf("got  %swant %s", got, tt.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("not JSON: %s", got)
		}
	}
}

func TestEmitOnlyWhenAsked(t *testing.T) {
	var out bytes.Buffer
	New(Config{Out: &out, Err: &out}).Emit(Start{Source: "x"})
	if out.Len() != 0 {
		t.Errorf("wrote %q without JSON", out.String())
	}
}

func TestProgressEvents(t *testing.T) { synctest.Test(t, testProgressEvents) }

func testProgressEvents(t *testing.T) {
	var out, err screen
	calls := 0
	d := New(Config{Out: &out, Err: &err, JSON: true, Mode: None})
	stop := run(t, d, func() Snapshot {
		calls++
		return Snapshot{State: "downloading", Done: int64(min(calls, 3)), Total: 3, ETA: 1500 * time.Millisecond, Peers: -1}
	})
	time.Sleep(10*time.Second + time.Millisecond)
	stop()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 { // the other seven seconds had nothing new
		t.Fatalf("%d events, want 3: %q", len(lines), lines)
	}
	if !strings.Contains(lines[2], `"state":"downloading","done":3`) || !strings.Contains(lines[0], `"eta_seconds":2`) || !strings.Contains(lines[0], `"peers":0`) {
		t.Errorf("events %q", lines)
	}
	if err.String() != "" {
		t.Errorf("progress none, yet stderr has %q", err.String())
	}
}
