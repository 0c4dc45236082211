package swarm

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer/simnet"
)

// Two peers that run DHT nodes tell each other where; one that runs none tells nobody, and is not told.
func TestNodesOfPeers(t *testing.T) { synctest.Test(t, testNodesOfPeers) }

func testNodesOfPeers(t *testing.T) {
	net, o := simnet.New(1), newTorrent(t, 1*mib, 128*kib)
	var heard [3][]netip.AddrPort // by a node's number; its loop writes it
	with := func(n *node, port uint16) *node {
		set := n.core
		n.core = func(c *core.Config) {
			if set != nil {
				set(c)
			}
			c.DHTPort = port
		}
		n.config = func(c *Config) {
			c.Node = func(at netip.AddrPort) { heard[n.n] = append(heard[n.n], at) }
		}
		return n
	}
	a := with(seed(t, net, o, 1), 7001).start()
	b := with(&node{t: t, net: net, o: o, n: 2}, 7002).start(1)
	b.complete()
	c := (&node{t: t, net: net, o: o, n: 3}).start(1)
	c.complete()
	a.stop()
	if want := []netip.AddrPort{netip.AddrPortFrom(host(2).Addr(), 7002)}; !slices.Equal(heard[1], want) {
		t.Errorf("the seed heard of %v, want %v", heard[1], want)
	}
	if want := []netip.AddrPort{netip.AddrPortFrom(host(1).Addr(), 7001)}; !slices.Equal(heard[2], want) {
		t.Errorf("the other heard of %v, want %v", heard[2], want)
	}
}
