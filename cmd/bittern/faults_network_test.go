//go:build linux

package main_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestFaultLatePeer: a peer from the command line that is not there yet is called again until it is.
func TestFaultLatePeer(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	gone, err := net.Listen("tcp", "127.0.0.77:0")
	if err != nil {
		t.Fatal(err)
	}
	at := gone.Addr().(*net.TCPAddr).AddrPort()
	gone.Close()
	dir := t.TempDir()
	get := run(t, "get", x.torrent(t), "-d", dir, "--peer", at.String())
	<-time.After(time.Second) // it has been refused at least once
	newPeerAt(t, x, at, script{})
	get.exits(t, 0, 10*time.Second)
	x.isAloneIn(t, dir)
}

// TestFaultNoNetwork: without a network at the start, and when it goes away on the way, the command
// keeps trying and completes once it is back.
func TestFaultNoNetwork(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := newFixture("payload", 4*mib, 64*kib)
	p := newPeer(t, x, newHost(), script{quota: x.blocks() / 2})
	k := newTrackerAt(t, newHost(), p.addr)
	network := func(state string) {
		succeeds(t, "ip", "link", "set", "lo", state)
		if state == "up" {
			return
		}
		p.hangUp() // what a router does with old connections sooner or later
	}
	network("down")
	dir := t.TempDir()
	get := run(t, "get", x.torrent(t, k.url), "-d", dir, "--peer", p.addr.String())
	<-time.After(1500 * time.Millisecond)
	if get.ended() {
		t.Fatal("gave up at once")
	}
	network("up")
	await(t, 30*time.Second, "half of the content", func() bool { return p.blocksServed() == x.blocks()/2 })
	network("down")
	<-time.After(1500 * time.Millisecond)
	if get.ended() {
		t.Fatal("gave up when the network went away")
	}
	p.release()
	network("up")
	get.exits(t, 0, 60*time.Second)
	x.isAloneIn(t, dir)
}

// hangUp closes every connection.
func (p *peer) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.live {
		l.Close()
	}
}

// TestFaultPortTaken: a port that somebody else has is a failure to set up the network, and is named.
func TestFaultPortTaken(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	taken := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.78"), p.addr.Port())
	ln, err := net.Listen("tcp", taken.String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := strings.Cut(taken.String(), ":")
	get := run(t, "get", x.torrent(t), "-d", t.TempDir(), "--interface", "127.0.0.78", "--port", port, "--peer", p.addr.String())
	get.exits(t, 9, 10*time.Second)
	if s := lastLine(get.err.String()); !strings.Contains(s, port) {
		t.Errorf("the error does not name the port: %q", s)
	}
}

// TestFaultBareEnvironment: no home, no standard input, and nobody who reads what it says: the
// content comes all the same.
func TestFaultBareEnvironment(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	dir := t.TempDir()
	sh := `exec env -i "$@" --no-lsd <&- 2>&-`
	get := frugal(t, spawn(t, command{argv: []string{"sh", "-c", sh, "sh", bittern(t), "get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}}))
	get.exits(t, 0, 10*time.Second)
	x.isAloneIn(t, dir)
}
