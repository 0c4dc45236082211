package tracker

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(in ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range in {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

var hashA, hashB = [20]byte{1, 2, 0xff, ' ', '+', '&', '\n'}, [20]byte{9}
