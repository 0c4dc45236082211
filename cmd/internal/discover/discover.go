// Package discover finds addresses of peers. Each [Source] runs by itself, hands over what it finds as [Found], and reports failures
// as values: a dead tracker or an unknown name never ends a download.
//
// Sources only emit. Which addresses are dialed, and when again, is decided by who receives them.
package discover

import (
	"context"
	"net/netip"
)

// Found is a list of addresses from one source.
type Found struct {
	Addrs  []netip.AddrPort // not empty; each has a port and a unicast address; may hold our own
	Source string           // for people: "tracker udp://host:port", "--peer", "DHT"
	// Loopback says that the source itself is on this machine's loopback, so that loopback addresses from it make sense.
	Loopback bool
}

// A Source finds peers.
type Source interface {
	// Run looks for peers until ctx ends, and returns soon after: trackers are told goodbye first, within two seconds.
	Run(ctx context.Context)
	// Exhausted reports whether everything this source can try has failed three times and nothing has worked since. It may turn
	// false again. It is safe for concurrent use.
	Exhausted() bool
}

// Exhausted reports whether all sources are, which is so when there is none.
func Exhausted(sources ...Source) bool {
	for _, s := range sources {
		if !s.Exhausted() {
			return false
		}
	}
	return true
}
