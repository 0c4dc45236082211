package core

import (
	"fmt"
	"testing"

	"bittern/peer/wire"
)

// A phase is a core or a fetch, driven by hand.
type phase struct {
	handle func(Event)
	want   func(why, words string)
}

// phases returns both with the port of a DHT node of ours.
func phases(t *testing.T, port uint16) []phase {
	var c Config
	c.DHTPort = port
	var f FetchConfig
	f.DHTPort = port
	core, fetch := newRig(t, c), newFetchRig(t, 1, f)
	return []phase{{core.handle, core.want}, {fetch.handle, fetch.want}}
}

// Peers that run DHT nodes are told where ours is, behind what must come first, and ours hears where theirs are (BEP 5).
func TestNodesOfPeers(t *testing.T) {
	for _, p := range phases(t, 7000) {
		who := remote(1)
		who.DHT, who.Fast, who.Ext = true, true, true
		p.handle(Event{Op: Joined, Link: 1, Remote: who})
		p.want("told", "1:have none, 1:extended, 1:port")
		p.handle(Event{Op: Joined, Link: 2, Remote: remote(2)})
		p.want("has none", "")
		port := func(id LinkID, n uint32) Event {
			return Event{Op: Message, Link: id, Msg: wire.Message{ID: wire.Port, Index: n}}
		}
		p.handle(port(1, 0))
		p.handle(port(1, 0x10000))
		p.want("no ports", "")
		p.handle(port(1, 9))
		p.want("its node", fmt.Sprintf("node %v:9", addr(1).Addr()))
		for n := range uint32(100) {
			p.handle(port(1, 100+n))
		}
		p.want("once is enough", "")
		p.handle(port(2, 9))
		p.want("not announced, but said", fmt.Sprintf("node %v:9", addr(2).Addr()))
	}
	for _, p := range phases(t, 0) { // without a node
		who := remote(1)
		who.DHT = true
		p.handle(Event{Op: Joined, Link: 1, Remote: who})
		p.handle(Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Port, Index: 9}})
		p.want("nothing of it matters", "")
	}
}
