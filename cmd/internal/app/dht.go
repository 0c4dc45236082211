package app

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"bittern/cmd/internal/discover"
	"bittern/cmd/internal/swarm/core"
	"bittern/dht"
)

// dhtReadOnly is for how long a node that is there to fetch one torrent answers no queries (BEP 43): most are gone by then.
const dhtReadOnly = 10 * time.Minute

// makeDHT builds the node and the source that searches through it, on the UDP sockets that listen opened. Without any there
// is no DHT.
func (x *session) makeDHT() {
	if x.listener == nil {
		return
	}
	ipv4, ipv6 := x.listener.TakeUDP()
	if ipv4 == nil && ipv6 == nil {
		return
	}
	own := len(x.net.DHTBootstrap) > 0
	cfg := dht.Config{
		IPv4: ipv4, IPv6: ipv6, Bootstrap: x.net.DHTBootstrap, Named: x.nodes, Lookup: x.policy.Resolver().LookupNetIP,
		Version: [4]byte{'B', 'N', 0, 1}, Log: x.log, OnPanic: x.inbox.Panicked,
	}
	if !x.serves {
		cfg.ReadOnly = dhtReadOnly
	}
	if own {
		cfg.Loopback = allLoopback(x.net.DHTBootstrap)
	} else { // nodes of the user's own DHT have no business in the public one, nor the other way round
		cfg.Bootstrap, cfg.Cache = dht.Bootstrap(), dhtCache()
	}
	x.node = dht.New(cfg)
	x.dht = discover.NewDHT(discover.DHTConfig{
		Node: x.node, InfoHash: x.hash, Loopback: cfg.Loopback, Log: x.log, Patient: x.resolving.Load,
		Announce: func() dht.Announce {
			return dht.Announce{Port: x.port(), Seed: x.inbox.Snapshot().Seeding}
		},
		Emit: func(f discover.Found) {
			src := core.SourceDHT
			if f.Loopback {
				src = core.SourceLocalDHT
			}
			x.inbox.Found(f.Addrs, src)
		},
	})
}

// dhtCache is the file that keeps nodes of the DHT between runs, "" where the user has no place for such a file.
func dhtCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "bittern", "dht-nodes")
}

// allLoopback reports whether every HOST:PORT is on this machine's loopback, by number or by its usual name: then the DHT
// is one of this machine alone.
func allLoopback(nodes []string) bool {
	for _, n := range nodes {
		host, _, err := net.SplitHostPort(n)
		if err != nil {
			return false
		}
		if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// whyDHT says in a few words why the DHT has brought nobody.
func (x *session) whyDHT() string {
	s := x.node.Status()
	if n := s.IPv4 + s.IPv6; n > 0 {
		return fmt.Sprintf("DHT %s, none knows a peer yet", plural(n, "node"))
	}
	return "no node of the DHT answers yet"
}
