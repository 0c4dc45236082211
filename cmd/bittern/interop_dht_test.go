//go:build linux

package main_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// dhtNodes is how many nodes of bittern the DHT of the lab has: transmission searches for nothing while it knows
	// fewer than nine.
	dhtNodes = 20

	// slowDHT is for how long to wait for a client that comes to know the DHT. libtorrent takes a second, aria2 half a minute,
	// transmission, which searches for nothing before four nodes have answered it and asks one in 5 to 25 seconds, a minute.
	slowDHT = 4 * time.Minute
)

var networks atomic.Uint32

// newNetwork is an address of the lab in a /24 of its own: nodes of the DHT limit how many of one network they
// take (libtorrent: one).
func newNetwork() string { return fmt.Sprintf("198.18.%d.1", 100+networks.Add(1)) }

// withDHT is the environment in which bittern takes part in the DHT.
var withDHT = []string{"BITTERN_NO_DHT="}

// A labDHT is a DHT that begins from its first node.
type labDHT struct {
	nodes  []netip.AddrPort // those of bittern
	others []*share         // nodes of libtorrent and transmission
}

// newDHT runs the nodes of the DHT until the test ends: seeds of bittern, each with a torrent of its own, and one of
// libtorrent and one of transmission.
func newDHT(t *testing.T) *labDHT {
	t.Helper()
	d := new(labDHT)
	for range dhtNodes {
		d.nodes = append(d.nodes, freePort(t, newNetwork()))
	}
	dir := t.TempDir()
	for i, at := range d.nodes {
		name := fmt.Sprintf("of node %d", i)
		write(t, name, dir, name)
		d.seed(t, at, filepath.Join(dir, name))
	}
	for _, c := range []client{libtorrent, transmission} {
		x := newFixture("of the node of "+c.name, 1, 16*kib)
		x.lay(t, dir)
		d.others = append(d.others, c.shareInDHT(t, newNetwork(), d.nodes[:1], x.torrent(t), dir))
	}
	return d
}

// known are the nodes that the real clients begin from, so many that transmission need not find them for itself.
func (d *labDHT) known() []netip.AddrPort { return d.nodes[:4] }

// seed runs bittern seed as a node of the DHT.
func (d *labDHT) seed(t *testing.T, at netip.AddrPort, args ...string) {
	t.Helper()
	seedAt(t, at, withDHT, append([]string{"--dht-bootstrap", d.nodes[0].String()}, args...)...)
}

// get starts bittern get, which knows nothing but the DHT.
func (d *labDHT) get(t *testing.T, link, dir string) *process {
	t.Helper()
	return frugal(t, spawn(t, command{name: "bittern", env: withDHT, argv: []string{bittern(t), "get", link, "-d", dir,
		"--interface", newNetwork(), "--dht-bootstrap", d.nodes[0].String(), "--no-trackers", "--no-lsd", "--no-pex"}}))
}

// awaitAnnounced waits until one of bittern's nodes stores the announce of a peer: until it names it when it is
// asked for the peers of the torrent (BEP 5 get_peers).
func (d *labDHT) awaitAnnounced(t *testing.T, hash [20]byte, peer netip.AddrPort) {
	t.Helper()
	query := func() string { return "9:info_hash20:" + string(hash[:]) + "e1:q9:get_peers" }
	d.awaitAnswer(t, peer.String()+" is announced", query, bstring(compactAddr(peer)))
}

// awaitNode waits until one of bittern's nodes has another node in its table: until it names it when it is asked for nodes
// near to any id (BEP 5 find_node).
func (d *labDHT) awaitNode(t *testing.T, node netip.AddrPort) {
	t.Helper()
	query := func() string {
		var target [20]byte
		rand.Read(target[:]) // never fails
		return "6:target20:" + string(target[:]) + "e1:q9:find_node"
	}
	d.awaitAnswer(t, node.String()+" is in a table", query, compactAddr(node))
}

// compactAddr is an IPv4 address in the six bytes of BEP 5.
func compactAddr(at netip.AddrPort) string {
	ip := at.Addr().As4()
	return string(binary.BigEndian.AppendUint16(ip[:], at.Port()))
}

// awaitAnswer asks bittern's nodes again and again, as a read-only node (BEP 43), until an answer holds what is wanted. query
// is the middle of the message: what follows our id among the arguments, and the method.
func (d *labDHT) awaitAnswer(t *testing.T, what string, query func() string, want string) {
	t.Helper()
	c, err := net.ListenPacket("udp", net.JoinHostPort(newNetwork(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2*kib)
	await(t, slowDHT, what, func() bool {
		for _, node := range d.nodes {
			message := "d1:ad2:id20:" + strings.Repeat("q", 20) + query() + "2:roi1e1:t2:aa1:y1:qe"
			if _, err := c.WriteTo([]byte(message), net.UDPAddrFromAddrPort(node)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return false // no more answers
			}
			if strings.Contains(string(buf[:n]), want) {
				return true
			}
		}
	})
}

// A trial is what a real client is to do in the DHT: seed one torrent to bittern, and get another from it.
type trial struct {
	client
	seeds, gets  *fixture
	seed, getter *share
	at           netip.AddrPort // of bittern, which seeds what the client gets
}

// TestInteropDHT resolves and downloads magnet links by nothing but a DHT of bittern, libtorrent and transmission. All
// of its nodes stay until the end: transmission waits half a minute for one that is gone.
func TestInteropDHT(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDHT(t)
	var trials []*trial
	for _, c := range []client{transmission, aria2, libtorrent} { // the slowest first
		r := &trial{client: c, at: freePort(t, newNetwork())}
		r.seeds, r.gets = newMagnetFixture("from "+c.name), newMagnetFixture("to "+c.name)
		trials = append(trials, r)
		dir := t.TempDir()
		r.seeds.lay(t, dir)
		r.gets.lay(t, dir)
		r.seed = c.shareInDHT(t, newNetwork(), d.known(), r.seeds.torrent(t), dir)
		d.seed(t, r.at, r.gets.torrent(t), "-d", dir, "--no-trackers", "--no-lsd", "--no-pex")
	}
	for _, r := range trials {
		d.awaitAnnounced(t, r.gets.hash, r.at)
		r.getter = r.shareInDHT(t, newNetwork(), d.known(), r.gets.magnet(), t.TempDir())
	}
	for _, o := range d.others {
		t.Run("the node of "+o.client.name, func(t *testing.T) {
			t.Parallel()
			d.awaitNode(t, o.job.at)
		})
	}
	for _, r := range trials {
		t.Run("get from "+r.name, func(t *testing.T) {
			t.Parallel()
			d.awaitAnnounced(t, r.seeds.hash, r.seed.job.at)
			dir := t.TempDir()
			d.get(t, r.seeds.magnet(), dir).exits(t, 0, 60*time.Second)
			r.seeds.isAloneIn(t, dir)
		})
		t.Run("seed to "+r.name, func(t *testing.T) {
			t.Parallel()
			r.getter.completes(t, slowDHT)
			r.gets.isIn(t, r.getter.job.dir)
		})
	}
}
