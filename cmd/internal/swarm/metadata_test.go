package swarm

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer/simnet"
)

// TestMagnet: a node that knows an info-hash alone gets the metadata and then, over the same connection, the content.
func TestMagnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, o := simnet.New(1), newTorrent(t, mib, 64*kib)
		s := seed(t, net, o, 1).start()
		leech := (&node{t: t, net: net, o: o, n: 2, magnet: true}).start(1)
		leech.complete()
		s.stop()
		if n := strings.Count(s.log.String(), "peer joined"); n != 1 {
			t.Errorf("%d connections, want one", n)
		}
	})
}

// TestMagnets: peers that came by a magnet link give each other metadata and content.
func TestMagnets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, o := simnet.New(1), newTorrent(t, mib, 64*kib)
		s := seed(t, net, o, 1).start()
		var leeches []*node
		for n := 2; n < 7; n++ {
			leeches = append(leeches, (&node{t: t, net: net, o: o, n: n, magnet: true}).start(1, 2, 3, 4, 5, 6))
		}
		for _, d := range leeches {
			d.complete()
		}
		s.stop()
	})
}

// TestMagnetOfNobody: without metadata the swarm ends and says why.
func TestMagnetOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, o := simnet.New(1), newTorrent(t, mib, 64*kib)
		other := (&node{t: t, net: net, o: o, n: 1, magnet: true}).start()
		d := &node{t: t, net: net, o: o, n: 2, magnet: true}
		d.open()
		d.s.fetch.Timeout = time.Minute
		begin := time.Now()
		d.start(1)
		out, err := d.end()
		if out != core.NoMetadata || err != nil || time.Since(begin) != time.Minute {
			t.Errorf("%v, %v after %v", out, err, time.Since(begin))
		}
		other.stop()
	})
}
