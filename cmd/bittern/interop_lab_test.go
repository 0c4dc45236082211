//go:build linux

package main_test

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// interop is the variable that switches on the tests with real clients, and those of the others that
// need root or long. Where it is set, something missing is a failure.
const interop = "BITTERN_INTEROP"

// inLab marks the copy of the test binary that runs in a namespace of its own.
const inLab = "BITTERN_IN_LAB"

// The addresses of the lab: all of 198.18.0.0/16 (set aside for benchmarks by RFC 2544) is local
// there, because real clients treat 127/8 and the private ranges specially: transmission refuses
// such peers, libtorrent lifts its limits for them. Of 2001:2::/48, their like in IPv6 (RFC 5180),
// a few are.
const (
	labNet   = "198.18.0.1/16"
	labNet6  = "2001:2::%d/64"
	labHosts = 19 // in IPv6
)

// labs has room for those that may run at once: each is full of clients that want a core.
var labs = make(chan struct{}, 3)

// isolated reports whether the test runs in the lab: a network namespace of its own that has nothing
// but a loopback, so that no packet can leave the machine, and a mount namespace. In any other place
// it runs itself there, in parallel with others, takes over the outcome, and returns false: the
// caller returns at once.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inLab) == t.Name() {
		if err := lab(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Getenv(interop) == "" {
		t.Skipf("needs real clients or a namespace: set %s=1", interop)
	}
	t.Parallel()
	labs <- struct{}{}
	defer func() { <-labs }()
	pattern := "^" + t.Name() + "$"
	if _, sub, found := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); found {
		pattern += "/" + sub
	}
	args := []string{"-test.run=" + pattern, "-test.v", "-test.parallel=6"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-5*time.Second).String())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), inLab+"="+t.Name(), underTest+"="+bittern(t))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("in the lab: %v", err)
	}
	return false
}

// lab sets the namespace up, once.
var lab = sync.OnceValue(func() error {
	steps := [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", labNet, "dev", "lo"},
		{"mount", "--make-rprivate", "/"}, // what the tests mount stays here
	}
	for i := range labHosts {
		steps = append(steps, []string{"ip", "-6", "addr", "add", fmt.Sprintf(labNet6, i+1), "dev", "lo", "nodad"})
	}
	for _, argv := range steps {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", argv, err, out)
		}
	}
	return nil
})

var hosts, hosts6 atomic.Uint32

// newHost is an address of the lab that nobody else uses.
func newHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("198.18.%d.%d", 1+n/200, 1+n%200)
}

// newHost6 is the same in IPv6, for the first few who ask.
func newHost6() string { return fmt.Sprintf("2001:2::%d", hosts6.Add(1)) }

// freePort is a TCP port at an address that nobody listens on. The caller has the address for
// itself, so nobody else will take it.
func freePort(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}
