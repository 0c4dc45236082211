package app

import (
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bittern/cmd/internal/sockets"
	"bittern/piece/metainfo"
)

func TestAllLoopback(t *testing.T) {
	for _, tt := range []struct {
		nodes []string
		want  bool
	}{
		{[]string{"127.0.0.1:1"}, true},
		{[]string{"127.9.9.9:1", "[::1]:2", "localhost:3"}, true},
		{[]string{"127.0.0.1:1", "192.168.1.1:1"}, false},
		{[]string{"localhost.example:1"}, false},
		{[]string{"127.0.0.1"}, false},
	} {
		if got := allLoopback(tt.nodes); got != tt.want {
			t.Errorf("%q: %v", tt.nodes, got)
		}
	}
}

// Whoever has no home has no cache, and that is no error.
func TestDHTCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/c")
	t.Setenv("LocalAppData", "/c")
	if got := dhtCache(); got == "" || filepath.Base(got) != "dht-nodes" {
		t.Errorf("cache at %q", got)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(name, "")
	}
	if got := dhtCache(); got != "" {
		t.Errorf("without a home at %q", got)
	}
}

// The DHT is there unless the user or the torrent forbids it; the UDP port is that of TCP.
func TestDHTAllowed(t *testing.T) {
	for _, tt := range []struct{ on, private, want bool }{{true, false, true}, {false, false, false}, {true, true, false}} {
		n := Network{DHT: tt.on, DHTBootstrap: []string{"127.0.0.1:1"}, Interface: netip.MustParseAddr("127.0.0.1")}
		x, err := newTransfer(&known{t: &metainfo.Torrent{Private: tt.private}}, n, slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := x.listen(); err != nil {
			t.Fatal(err)
		}
		taken, err := sockets.ListenBoth(x.policy, sockets.Ports{Low: x.port(), High: x.port()})
		if err == nil {
			t.Errorf("%+v: port %d is free", tt, taken.Port())
		}
		x.makeTrackers()
		x.makeDHT()
		if got := x.dht != nil; got != tt.want || len(x.found()) != map[bool]int{true: 3, false: 2}[tt.want] {
			t.Errorf("%+v: DHT %v, %d sources", tt, got, len(x.found()))
		}
		if x.dht != nil {
			if got := x.sources(); !slices.Equal(got, []string{"DHT 0 nodes"}) {
				t.Errorf("peers are looked for with %q", got)
			}
			if why := x.whyDHT(); why != "no node of the DHT answers yet" {
				t.Errorf("nobody because %q", why)
			}
			if x.offline() {
				t.Error("it takes itself for offline")
			}
		}
		x.client.Close()
		if err := x.close(); err != nil {
			t.Error(err)
		}
	}
}
