package app

import (
	"log/slog"
	"testing"
	"time"

	"bittern/piece/metainfo"
)

// Who is asked for peers: of a private torrent its trackers only (BEP 27), else the local network too
// unless that is not wanted, and whom a magnet link names.
func TestSources(t *testing.T) {
	magnet := &metainfo.Magnet{Peers: []string{"192.0.2.1:1"}}
	for _, tt := range []struct {
		name         string
		k            known
		n            Network
		lsd, invited bool
	}{
		{"a torrent", known{t: &metainfo.Torrent{}}, Network{LSD: true}, true, false},
		{"without the local network", known{t: &metainfo.Torrent{}}, Network{}, false, false},
		{"a magnet link", known{t: &metainfo.Torrent{}, magnet: magnet}, Network{LSD: true}, true, true},
		{"a private torrent", known{t: &metainfo.Torrent{Private: true}}, Network{LSD: true}, false, false},
		{"a private torrent of a magnet link", known{t: &metainfo.Torrent{Private: true}, magnet: magnet}, Network{LSD: true}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := newTransfer(&tt.k, tt.n, slog.New(slog.DiscardHandler), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if (x.lsd != nil) != tt.lsd || (x.invited != nil) != tt.invited {
				t.Errorf("local network %v, peers of the link %v", x.lsd != nil, x.invited != nil)
			}
		})
	}
}

// TestInvite: of the peers that a magnet link names those are asked that can be, and their silence is told.
func TestInvite(t *testing.T) {
	for _, tt := range []struct {
		name  string
		peers []string
		n     Network
		want  string // whom nobody heard from
	}{
		{"usable", []string{"192.0.2.1:1", "host.example:2", "[2001:db8::1]:3"}, Network{}, "192.0.2.1:1, host.example:2, [2001:db8::1]:3"},
		{"on this machine", []string{"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"}, Network{}, ""},
		{"of a family left out", []string{"192.0.2.1:1", "[2001:db8::1]:3"}, Network{Only6: true}, "[2001:db8::1]:3"},
		{"after the user's own", []string{"192.0.2.1:1"}, Network{Peers: []string{"127.0.0.1:2"}}, "127.0.0.1:2, 192.0.2.1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := newSession([20]byte{}, nil, tt.n, slog.New(slog.DiscardHandler), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			x.invite(tt.peers)
			x.makeTrackers()
			defer x.client.Close()
			want := tt.want
			if want != "" {
				want = "no answer from " + want
			}
			if got := x.whyTrackers(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
