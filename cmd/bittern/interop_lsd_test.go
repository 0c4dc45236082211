//go:build linux

package main_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A neighbour is a network namespace on the bridge of the lab, as a machine is on a local network.
type neighbour struct {
	pid int    // of a process that is there
	ip  string // its address in IPv4
}

// newNeighbours joins n namespaces by a bridge that leads nowhere else. They have the addresses
// 10.77.0.1, 10.77.0.2 and so on, and the same ends in fd77::/64.
func newNeighbours(t *testing.T, n int) []neighbour {
	t.Helper()
	ip := func(args ...string) { succeeds(t, append([]string{"ip"}, args...)...) }
	ip("link", "add", "lan", "type", "bridge")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "lan").Run() }) // it is gone with the lab at the latest
	ip("link", "set", "lan", "up")
	var all []neighbour
	for i := range n {
		holder := exec.Command("cat") // which waits for input that never comes
		in, err := holder.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); holder.Wait() }) // its end is all that matters
		b := neighbour{holder.Process.Pid, fmt.Sprintf("10.77.0.%d", i+1)}
		port := fmt.Sprintf("lan%d", i)
		ip("link", "add", port, "master", "lan", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(b.pid))
		ip("link", "set", port, "up")
		for _, args := range []string{
			"link set lo up", "addr add " + b.ip + "/24 dev eth0",
			fmt.Sprintf("addr add fd77::%d/64 dev eth0 nodad", i+1), "link set eth0 up",
			"route add default via 10.77.0.254", // which is not there; some clients join groups where it leads
		} {
			succeeds(t, b.within(append([]string{"ip"}, strings.Fields(args)...)...)...)
		}
		all = append(all, b)
	}
	return all
}

// within is a command line that runs another one there.
func (b neighbour) within(argv ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", b.pid), "--"}, argv...)
}

// run starts the command under test there, which looks at the local network.
func (b neighbour) run(t *testing.T, args ...string) *process {
	t.Helper()
	return frugal(t, spawn(t, command{name: "bittern", argv: b.within(append([]string{bittern(t)}, args...)...), env: []string{"BITTERN_NO_LSD="}}))
}

// share starts a real client there, which looks at the local network.
func (b neighbour) share(t *testing.T, c client, torrent, dir string) *share {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(b.ip), 6881) // which is free: nobody else is there
	return c.shareAs(t, job{source: torrent, dir: dir, at: at, lsd: true}, func(argv []string) []string { return b.within(argv...) })
}

// TestInteropLSD: two machines on one network find each other by nothing else, whoever comes first,
// with a torrent and with an info-hash alone.
func TestInteropLSD(t *testing.T) {
	if !isolated(t) {
		return
	}
	all := newNeighbours(t, 2)
	seeder, getter := all[0], all[1]
	for _, family := range []string{"-4", "-6"} {
		x := newFixture("payload "+family, 4*mib, 64*kib)
		torrent := x.torrent(t)
		from, to, again := t.TempDir(), t.TempDir(), t.TempDir()
		x.lay(t, from)
		t.Run(family+" the seed comes second", func(t *testing.T) {
			get := getter.run(t, "get", torrent, "-d", to, "--no-trackers", family)
			<-time.After(2 * time.Second) // its first announce has not been heard
			seed := seeder.run(t, "seed", torrent, "-d", from, family)
			get.exits(t, 0, 20*time.Second)
			x.isAloneIn(t, to)
			seed.kill()
		})
		t.Run(family+" the seed comes first", func(t *testing.T) {
			seed := seeder.run(t, "seed", torrent, "-d", from, family)
			await(t, 20*time.Second, "the seed is ready", func() bool { return strings.Contains(seed.out.String(), "magnet:") })
			<-time.After(2 * time.Second) // as above
			get := getter.run(t, "get", fmt.Sprintf("%x", x.hash), "-d", again, family)
			get.exits(t, 0, 20*time.Second)
			x.isAloneIn(t, again)
			seed.kill()
		})
	}
}

// TestInteropLSDClients: it finds the real clients, and they it.
func TestInteropLSDClients(t *testing.T) {
	if !isolated(t) {
		return
	}
	all := newNeighbours(t, 2)
	for _, c := range []client{libtorrent, transmission, aria2} {
		x := newFixture("payload of "+c.name, 4*mib, 64*kib)
		torrent := x.torrent(t)
		from, to, again := t.TempDir(), t.TempDir(), t.TempDir()
		x.lay(t, from)
		t.Run("seed to "+c.name, func(t *testing.T) {
			seed := all[0].run(t, "seed", torrent, "-d", from, "-4")
			s := all[1].share(t, c, torrent, to)
			s.completes(t, 60*time.Second)
			x.isIn(t, to)
			s.kill()
			seed.kill()
		})
		t.Run("get from "+c.name, func(t *testing.T) {
			s := all[1].share(t, c, torrent, from)
			get := all[0].run(t, "get", torrent, "-d", again, "-4")
			get.exits(t, 0, 60*time.Second)
			x.isAloneIn(t, again)
			s.kill()
		})
	}
}

// TestInteropLSDPrivate: peers of a private torrent come from its trackers only (BEP 27), and without
// these there is nobody to wait for.
func TestInteropLSDPrivate(t *testing.T) {
	if !isolated(t) {
		return
	}
	all := newNeighbours(t, 2)
	from := t.TempDir()
	x := newFixture("payload", mib, 64*kib)
	x.lay(t, from)
	torrent := t.TempDir() + "/private.torrent"
	succeeds(t, bittern(t), "create", from+"/payload", "-o", torrent, "--private")
	all[0].run(t, "seed", torrent, "-d", from)
	get := all[1].run(t, "get", torrent, "-d", t.TempDir(), "--no-trackers", "-v")
	get.exits(t, 4, 20*time.Second)
	if strings.Contains(get.err.String(), "local network") {
		t.Errorf("it looked around: %s", get.err.String())
	}
}
