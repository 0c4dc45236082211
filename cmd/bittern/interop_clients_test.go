//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A job is what a client is to do: share a torrent, what of it lies in dir already and the rest
// downloaded, and go on seeding.
type job struct {
	source string // path of a .torrent; aria2, transmission and libtorrent take a magnet link, too
	dir    string
	home   string // for the client's own files
	at     netip.AddrPort
	mark   string           // a program that the client runs when it is complete, if it has no other way to tell
	lsd    bool             // it is to look for peers on the local network
	dht    []netip.AddrPort // nodes from which it is to begin the DHT, of which all but transmission take one; empty: no DHT
}

// magnet reports whether the source is a magnet link.
func (j job) magnet() bool { return strings.HasPrefix(j.source, "magnet:") }

// A client is a real BitTorrent program.
type client struct {
	name     string
	binary   string
	launch   func(t *testing.T, j job) command
	complete func(j job, p *process) bool
}

// Encryption, uTP and port mapping are off wherever they can be, local discovery and DHT if they are not asked for.
var (
	aria2 = client{"aria2c", "aria2c", func(_ *testing.T, j job) command {
		dht := []string{"--enable-dht=false"}
		if len(j.dht) > 0 {
			dht = []string{"--enable-dht=true", "--dht-entry-point=" + j.dht[0].String(), fmt.Sprintf("--dht-listen-port=%d", j.at.Port())}
		}
		return command{argv: slices.Concat([]string{
			"aria2c", "--no-conf", "--dir=" + j.dir, "--interface=" + j.at.Addr().String(),
			fmt.Sprintf("--listen-port=%d", j.at.Port()), "--enable-dht6=false",
			fmt.Sprintf("--disable-ipv6=%t", j.at.Addr().Is4()), fmt.Sprintf("--bt-enable-lpd=%t", j.lsd), "--bt-max-peers=0",
			"--check-integrity=true", "--file-allocation=none", "--seed-ratio=0", "--summary-interval=0",
			"--on-bt-download-complete=" + j.mark,
		}, dht, []string{j.source})}
	}, marked}

	// The daemon takes a magnet link by its remote control only, the command line program none but its argument.
	transmission = client{"transmission", "transmission-daemon", func(t *testing.T, j job) command {
		watch := filepath.Join(j.home, "watch")
		settings := map[string]any{
			"dht-enabled": len(j.dht) > 0, "lpd-enabled": j.lsd, "utp-enabled": false, "port-forwarding-enabled": false,
			"rpc-enabled": false, "encryption": 0, "peer-port": j.at.Port(), "download-dir": j.dir,
			"watch-dir": watch, "watch-dir-enabled": true, "ratio-limit-enabled": false,
			"script-torrent-done-enabled": true, "script-torrent-done-filename": j.mark,
		}
		if j.at.Addr().Is4() {
			settings["bind-address-ipv4"] = j.at.Addr().String()
		} else {
			settings["bind-address-ipv6"] = j.at.Addr().String()
		}
		text, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		write(t, string(text), j.home, "settings.json")
		var nodes strings.Builder
		for _, at := range j.dht {
			fmt.Fprintf(&nodes, "%s %d\n", at.Addr(), at.Port())
		}
		write(t, nodes.String(), j.home, "dht.bootstrap")
		if j.magnet() {
			return command{argv: []string{"transmission-cli", "-g", j.home, "-w", j.dir, "-p", strconv.Itoa(int(j.at.Port())),
				"-M", "-et", "-f", j.mark, j.source}}
		}
		torrent, err := os.ReadFile(j.source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, string(torrent), watch, "x.torrent")
		return command{argv: []string{"transmission-daemon", "-f", "-g", j.home}}
	}, marked}

	libtorrent = client{"libtorrent", "python3", func(t *testing.T, j job) command {
		argv := libtorrentScript(t, "share", j.at.Addr().String(), strconv.Itoa(int(j.at.Port())), j.source, j.dir)
		env := []string{fmt.Sprintf("LSD=%t", j.lsd)}
		if len(j.dht) > 0 {
			env = append(env, "DHT="+j.dht[0].String())
		}
		return command{name: "libtorrent", argv: argv, env: env}
	}, func(_ job, p *process) bool { return strings.Contains(p.out.String(), "has everything\n") }}

	rtorrent = client{"rtorrent", "rtorrent", func(t *testing.T, j job) command {
		session := filepath.Join(j.home, "session")
		if err := os.MkdirAll(session, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, fmt.Sprintf(`system.daemon.set = true
network.bind_address.set = %s
network.port_range.set = %d-%d
network.port_random.set = no
protocol.encryption.set = none
protocol.pex.set = no
dht.mode.set = disable
directory.default.set = %s
session.path.set = %s
method.set_key = event.download.finished,mark,"execute.nothrow=%s"
schedule2 = load,0,0,"load.start=%s"
`, j.at.Addr(), j.at.Port(), j.at.Port(), j.dir, session, j.mark, j.source), j.home, "rc")
		return command{argv: []string{"rtorrent", "-n", "-o", "import=" + filepath.Join(j.home, "rc")}, env: []string{"TERM=xterm"}}
	}, marked}

	ctorrent = client{"ctorrent", "ctorrent", func(_ *testing.T, j job) command {
		return command{dir: j.dir, argv: []string{"ctorrent", "-i", j.at.Addr().String(), "-I", j.at.Addr().String(),
			"-p", strconv.Itoa(int(j.at.Port())), "-e", "72", "-X", j.mark, j.source}}
	}, marked}
)

// marked reports whether the client ran the program that it runs when it is complete.
func marked(j job, _ *process) bool {
	_, err := os.Stat(j.mark + ".ran")
	return err == nil
}

// libtorrentScript is the command line of testdata/interop/share.py under a Python that has the
// library: Debian's.
func libtorrentScript(t *testing.T, args ...string) []string {
	t.Helper()
	script, err := filepath.Abs("testdata/interop/share.py")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"/usr/bin/python3", script}, args...)
}

// A share is a client at its job.
type share struct {
	*process
	client client
	job    job
}

// share starts the client at an address of its own.
func (c client) share(t *testing.T, host, source, dir string) *share {
	t.Helper()
	return c.shareInDHT(t, host, nil, source, dir)
}

// shareInDHT is the same with a DHT that it begins from some nodes.
func (c client) shareInDHT(t *testing.T, host string, dht []netip.AddrPort, source, dir string) *share {
	t.Helper()
	j := job{source: source, dir: dir, at: freePort(t, host), dht: dht}
	return c.shareAs(t, j, func(argv []string) []string { return argv })
}

// shareAs starts the client at a job, of which it fills in the rest, with the command line that becomes of its own.
func (c client) shareAs(t *testing.T, j job, become func(argv []string) []string) *share {
	t.Helper()
	j.home = t.TempDir()
	j.mark = filepath.Join(j.home, "mark")
	write(t, "#!/bin/sh\n: > "+j.mark+".ran\n", j.mark)
	if err := os.Chmod(j.mark, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := c.launch(t, j)
	cmd.argv, cmd.env = become(cmd.argv), append(cmd.env, "HOME="+j.home)
	return &share{spawn(t, cmd), c, j}
}

// completes waits until the client says that it has everything.
func (s *share) completes(t *testing.T, within time.Duration) {
	t.Helper()
	await(t, within, s.client.name+" is complete", func() bool {
		if s.ended() {
			t.Fatalf("%s has ended", s.client.name)
		}
		return s.client.complete(s.job, s.process)
	})
}

// seeds waits until the client serves: until it says, on a connection of the test's own, that it
// has every piece.
func (s *share) seeds(t *testing.T, hash [20]byte, pieces int) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("%s does not seed yet: %v", s.client.name, err)
		}
	}()
	await(t, 60*time.Second, s.client.name+" seeds", func() bool {
		if s.ended() {
			t.Fatalf("%s has ended", s.client.name)
		}
		err = probe(s.job.at, hash, pieces)
		return err == nil
	})
}

// probe connects to a peer and reads what it has; an error unless that is everything.
func probe(at netip.AddrPort, hash [20]byte, pieces int) error {
	c, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	l := &link{Conn: c}
	if err := l.raw([]byte(protocol), make([]byte, 8), hash[:], []byte("-TP0001-probeprobepr")); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 68)); err != nil {
		return err
	}
	has := 0
	for has < pieces {
		id, body, err := l.receive()
		if err != nil {
			return fmt.Errorf("%d of %d pieces: %w", has, pieces, err)
		}
		switch id {
		case msgBitfield:
			for i := range pieces {
				has += int(body[i/8] >> (7 - i%8) & 1)
			}
		case msgHave:
			has++
		}
	}
	return nil
}

// A maker is a program that makes a .torrent of root, for one tracker.
type maker struct {
	name string
	argv func(t *testing.T, root, to string, piece int, tracker string) []string
}

var (
	mktorrent = maker{"mktorrent", func(_ *testing.T, root, to string, piece int, tracker string) []string {
		exponent := 0
		for 1<<exponent < piece {
			exponent++
		}
		return []string{"mktorrent", "-a", tracker, "-l", strconv.Itoa(exponent), "-o", to, root}
	}}
	transmissionCreate = maker{"transmission-create", func(_ *testing.T, root, to string, piece int, tracker string) []string {
		return []string{"transmission-create", "-t", tracker, "-s", strconv.Itoa(piece / kib), "-o", to, root}
	}}
	libtorrentV1 = maker{"libtorrent v1", func(t *testing.T, root, to string, piece int, tracker string) []string {
		return libtorrentScript(t, "create", "v1", strconv.Itoa(piece), tracker, root, to)
	}}
	libtorrentHybrid = maker{"libtorrent hybrid", func(t *testing.T, root, to string, piece int, tracker string) []string {
		return libtorrentScript(t, "create", "hybrid", strconv.Itoa(piece), tracker, root, to)
	}}
	bitternCreate = maker{"bittern create", func(t *testing.T, root, to string, piece int, tracker string) []string {
		return []string{bittern(t), "create", root, "-o", to, "-l", strconv.Itoa(piece), "-t", tracker}
	}}
)

// A made is a .torrent that a program made, as libtorrent reads it.
type made struct {
	path   string
	hash   [20]byte // v1
	pieces int
}

// torrent makes a .torrent of a file or folder.
func (m maker) torrent(t *testing.T, root string, piece int, tracker string) made {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.torrent")
	succeeds(t, m.argv(t, root, path, piece, tracker)...)
	return readTorrent(t, path)
}

// readTorrent lets libtorrent read a .torrent.
func readTorrent(t *testing.T, path string) made {
	t.Helper()
	m := made{path: path}
	var digits []byte
	if _, err := fmt.Sscanf(succeeds(t, libtorrentScript(t, "show", path)...), "%x %d", &digits, &m.pieces); err != nil {
		t.Fatal(err)
	}
	if n := copy(m.hash[:], digits); n != len(m.hash) {
		t.Fatalf("an info-hash of %d bytes", n)
	}
	return m
}

// succeeds runs a command to its end and returns its stdout.
func succeeds(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "BITTERN_NO_LSD=1")
	var out, diag strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s%s", argv, err, out.String(), diag.String())
	}
	return out.String()
}

// startOpentracker starts that tracker, at one port for HTTP and UDP, for the given torrents: Debian's build serves none that it was not told of.
func startOpentracker(t *testing.T, at netip.AddrPort, hashes ...[20]byte) {
	t.Helper()
	dir, err := os.MkdirTemp("", "opentracker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // it gives up root before it reads the list
		t.Fatal(err)
	}
	var list strings.Builder
	for _, h := range hashes {
		fmt.Fprintf(&list, "%x\n", h)
	}
	write(t, list.String(), dir, "whitelist")
	port := strconv.Itoa(int(at.Port()))
	p := spawn(t, command{argv: []string{"opentracker", "-i", at.Addr().String(), "-p", port, "-P", port, "-d", dir, "-w", "whitelist"}})
	await(t, 10*time.Second, "opentracker answers", func() bool {
		if p.ended() {
			t.Fatal("opentracker has ended")
		}
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// awaitSeeds waits until opentracker knows n seeds of a torrent, which it tells by HTTP (BEP 48).
func awaitSeeds(t *testing.T, at netip.AddrPort, hash [20]byte, n int) {
	t.Helper()
	scrape := "http://" + at.String() + "/scrape?info_hash=" + url.QueryEscape(string(hash[:]))
	await(t, 60*time.Second, fmt.Sprintf("the tracker knows %d seeds", n), func() bool {
		r, err := http.Get(scrape)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(body), "8:completei")
		digits, _, _ := strings.Cut(rest, "e")
		known, err := strconv.Atoi(digits)
		return err == nil && known >= n
	})
}
