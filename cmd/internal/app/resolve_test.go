package app

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/piece/metainfo"
)

// TestTorrentFrom: metadata must fit each hash of the link, and what else is wrong with it is bad input too.
func TestTorrentFrom(t *testing.T) {
	data, _ := made(t, map[string]string{"a": "some content"})
	tor, err := metainfo.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	right := sha256.Sum256(tor.Info)
	for _, tt := range []struct {
		name string
		v2   [32]byte
		info []byte
		ok   bool
	}{
		{"one hash", [32]byte{}, tor.Info, true},
		{"both hashes", right, tor.Info, true},
		{"another version 2 hash", [32]byte{1}, tor.Info, false},
		{"no info dictionary", [32]byte{}, []byte("de"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &metainfo.Magnet{InfoHash: tor.InfoHash, InfoHashV2: tt.v2, Trackers: [][]string{{"http://a.example/announce"}}}
			got, err := torrentFrom(slog.New(slog.DiscardHandler), m, tt.info)
			if (err == nil) != tt.ok {
				t.Fatalf("torrentFrom = %v, want success: %v", err, tt.ok)
			}
			if err != nil && ClassOf(err) != ClassBadInput {
				t.Errorf("class %v, want %v", ClassOf(err), ClassBadInput)
			}
			if err == nil && len(got.Trackers) != 1 {
				t.Errorf("trackers %v, want the link's", got.Trackers)
			}
		})
	}
}

// TestWhyNoMetadata: of peers that came and went it is not said that they never answered.
func TestWhyNoMetadata(t *testing.T) {
	y := &meeting{session: &session{names: []string{"192.0.2.1:1"}}}
	for _, tt := range []struct {
		s    core.Snapshot
		want string
	}{
		{core.Snapshot{Met: 1}, "1 peer met, none is left"},
		{core.Snapshot{Met: 2, Peers: 2}, "2 peers, none gives it"},
		{core.Snapshot{Met: 3, Peers: 2, Liars: 1}, "2 peers, and 1 other banned for sending what is not the torrent's"},
	} {
		if got := y.whyNoMetadata(tt.s); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.s, got, tt.want)
		}
	}
}

func TestSome(t *testing.T) {
	if got := some([]string{"a", "b", "c"}) + "; " + some([]string{"a", "b", "c", "d", "e"}); got != "a, b, c; a, b, c and 2 more" {
		t.Error(got)
	}
}

// TestLimited: a time limit that ends before peers are met is told from one that ends with them.
func TestLimited(t *testing.T) {
	for met, want := range map[bool]Class{false: ClassNoPeers, true: ClassMaxTime} {
		ctx, cancel := limited(t.Context(), time.Now().Add(-time.Hour), time.Minute, met, "still at it")
		defer cancel()
		if got := ClassOf(context.Cause(ctx)); got != want {
			t.Errorf("met %v: class %v, want %v", met, got, want)
		}
	}
}
