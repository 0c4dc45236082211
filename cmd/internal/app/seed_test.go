package app

import (
	"net/netip"
	"testing"

	"bittern/cmd/internal/sockets"
)

// TestTrackerAddress: the embedded tracker listens where --interface and -4 let it, unless told where.
func TestTrackerAddress(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		address string
		policy  sockets.Policy
		want    string
	}{
		{":6969", sockets.Policy{}, ":6969"},
		{":6969", sockets.Policy{Interface: four}, "192.0.2.1:6969"},
		{":0", sockets.Policy{Interface: six}, "[2001:db8::1]:0"},
		{":6969", sockets.Policy{Only4: true}, "0.0.0.0:6969"},
		{"127.0.0.1:0", sockets.Policy{Interface: four}, "127.0.0.1:0"},
		{"[::]:1", sockets.Policy{}, "[::]:1"},
	} {
		if got := trackerAddress(tt.address, tt.policy); got != tt.want {
			t.Errorf("%s with %+v: got %s, want %s", tt.address, tt.policy, got, tt.want)
		}
	}
}
