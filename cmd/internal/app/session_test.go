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
