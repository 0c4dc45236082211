//go:build linux

// The black-box suites run the built command as a user would, and look at nothing but its exit
// code, its output, its files, its memory and what it says on the wire. The other ends are fake
// peers and trackers written here with plain code of their own, so that a mistake in the command's
// codecs cannot hide in its mirror image, or real clients (the interop files).
package main_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	blockSize = 16 * kib // bytes a request asks for (BEP 3)

	// memoryLimit is what the command may take at its peak, whatever the other ends do.
	memoryLimit = 64 * mib
)

// underTest names the variable by which a test tells its copy in a namespace (see isolated) which
// binary to run.
const underTest = "BITTERN_UNDER_TEST"

// built is the command under test, built once, plain: the race detector would take many times the
// memory that is measured here. The file is unlinked while open, so that nothing is left behind
// however the tests end; the kernel still runs it through the descriptor's name.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(underTest); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "bittern-under-test-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bittern")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
})

// bittern is the path of the command under test.
func bittern(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A command says what to run.
type command struct {
	name string // for messages; "" means the first argument
	argv []string
	dir  string   // working directory; "" means the test's
	env  []string // added to a bare environment, in which bittern leaves the local network alone
}

// A process is a running command under watch. It is killed when its test ends.
type process struct {
	name     string
	cmd      *exec.Cmd
	out, err output
	done     chan struct{} // closed once it has ended and its output is whole
	peak     atomic.Int64  // bytes, resident memory at its highest
}

// run starts the command under test with a home of its own. Whatever the test is about, it fails if
// the command takes more memory than it may.
func run(t *testing.T, args ...string) *process {
	t.Helper()
	return frugal(t, spawn(t, command{name: "bittern", argv: append([]string{bittern(t)}, args...)}))
}

// limited is run with the shell's limits in force, such as "-n 40" (open files).
func limited(t *testing.T, ulimit string, args ...string) *process {
	t.Helper()
	script := "ulimit " + ulimit + ` && exec "$@"`
	return frugal(t, spawn(t, command{name: "bittern", argv: append([]string{"sh", "-c", script, "sh", bittern(t)}, args...)}))
}

// spawn starts c. What it wrote is shown if the test fails.
func spawn(t *testing.T, c command) *process {
	t.Helper()
	if c.name == "" {
		c.name = filepath.Base(c.argv[0])
	}
	p := &process{name: c.name, cmd: exec.Command(c.argv[0], c.argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = c.dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "BITTERN_NO_DHT=1", "BITTERN_NO_LSD=1"}, c.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 2 * time.Second // for what still holds its output
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go p.watch()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s: %s\nstdout: %s\nstderr: %s", p.name, p.cmd.ProcessState, p.out.tail(), p.err.tail())
		}
	})
	return p
}

// watch samples the peak of resident memory until the process ends. The rusage of wait4 would not
// do: a child begins its life in the memory of the process that forked it, and that counts there.
func (p *process) watch() {
	ended := make(chan struct{})
	go func() {
		p.cmd.Wait() // the state, not the error, is what the tests look at
		close(ended)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	defer close(p.done)
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			p.peak.Store(max(p.peak.Load(), residentPeak(p.cmd.Process.Pid)))
		}
	}
}

// residentPeak is the VmHWM of a process in bytes, 0 when it is gone.
func residentPeak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	if !found {
		return 0
	}
	n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n * kib
}

// patience multiplies what the tests wait at most. The time limits in them suit a machine with nothing else
// to do; CI runs all packages at once under the race detector and says so in BITTERN_TEST_PATIENCE.
var patience = func() time.Duration {
	n, err := strconv.Atoi(os.Getenv("BITTERN_TEST_PATIENCE"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}()

// wait returns the exit code, -1 for a death by signal, and fails the test when it takes too long.
func (p *process) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	within *= patience
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.cmd.Process.Signal(syscall.SIGQUIT) // Go's runtime answers with every goroutine's stack
		t.Fatalf("%s did not end within %v", p.name, within)
		return 0
	}
}

// exits waits for the process and compares its exit code.
func (p *process) exits(t *testing.T, code int, within time.Duration) {
	t.Helper()
	if got := p.wait(t, within); got != code {
		t.Fatalf("%s ended with %v, want exit status %d", p.name, p.cmd.ProcessState, code)
	}
}

// kill ends the process with no chance to tidy up, and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// frugal makes the test fail if, when it ends, the process has taken more memory than the command may.
func frugal(t *testing.T, p *process) *process {
	t.Helper()
	t.Cleanup(func() {
		if peak := p.peak.Load(); peak > memoryLimit {
			t.Errorf("%s took %d MiB at its peak, want at most %d", p.name, peak/mib, memoryLimit/mib)
		}
	})
	return p
}

// An output keeps what a process wrote. Safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// tail is the end of it, enough to see what went wrong.
func (o *output) tail() string {
	s := o.String()
	return s[max(0, len(s)-6000):]
}

// await polls until cond holds; what says what was waited for.
func await(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	within *= patience
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("within %v: not seen: %s", within, what)
		case <-tick.C:
		}
	}
}

// closes waits for a channel to be closed; what says what that means.
func closes(t *testing.T, c <-chan struct{}, within time.Duration, what string) {
	t.Helper()
	within *= patience
	select {
	case <-c:
	case <-time.After(within):
		t.Fatalf("within %v: not seen: %s", within, what)
	}
}

// A file is one file of a fixture.
type file struct {
	path string // slash separated, the root folder left out; "" for the one file of a single-file torrent
	size int
}

// A fixture is a torrent with its content in memory: what the fake peers serve.
type fixture struct {
	name  string // of the file or root folder
	files []file
	piece int // bytes
	data  []byte
	info  string // bencoded
	hash  [20]byte
}

// newFixture makes a single-file torrent.
func newFixture(name string, size, piece int) *fixture {
	return newFolder(name, piece, file{size: size})
}

// newFolder makes a torrent of the given files; its content depends on nothing but its name and size.
func newFolder(name string, piece int, files ...file) *fixture {
	x := &fixture{name: name, files: files, piece: piece}
	total := 0
	for _, f := range files {
		total += f.size
	}
	x.data = make([]byte, total)
	rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(x.data)
	var sums strings.Builder
	for i := range x.pieces() {
		sum := sha1.Sum(x.pieceData(i))
		sums.Write(sum[:])
	}
	shape := fmt.Sprintf("6:lengthi%de", total)
	if files[0].path != "" {
		shape = "5:filesl"
		for _, f := range files {
			shape += fmt.Sprintf("d6:lengthi%de4:pathl", f.size)
			for part := range strings.SplitSeq(f.path, "/") {
				shape += bstring(part)
			}
			shape += "ee"
		}
		shape += "e"
	}
	x.info = "d" + shape + "4:name" + bstring(name) + fmt.Sprintf("12:piece lengthi%de", piece) + "6:pieces" + bstring(sums.String()) + "e"
	x.hash = sha1.Sum([]byte(x.info))
	return x
}

// private makes the torrent a private one (BEP 27), before it is used.
func (x *fixture) private() *fixture {
	x.info = strings.TrimSuffix(x.info, "e") + "7:privatei1ee"
	x.hash = sha1.Sum([]byte(x.info))
	return x
}

// bstring is a bencoded string.
func bstring(s string) string { return strconv.Itoa(len(s)) + ":" + s }

func (x *fixture) pieces() int { return (len(x.data) + x.piece - 1) / x.piece }

func (x *fixture) blocks() int {
	n := 0
	for i := range x.pieces() {
		n += (len(x.pieceData(i)) + blockSize - 1) / blockSize
	}
	return n
}

func (x *fixture) pieceData(i int) []byte {
	return x.data[i*x.piece : min(len(x.data), (i+1)*x.piece)]
}

// torrent writes the .torrent, each tracker a tier of its own, and returns its path.
func (x *fixture) torrent(t *testing.T, trackers ...string) string {
	t.Helper()
	s := "d"
	if len(trackers) > 0 {
		s += "8:announce" + bstring(trackers[0]) + "13:announce-listl"
		for _, url := range trackers {
			s += "l" + bstring(url) + "e"
		}
		s += "e"
	}
	path := filepath.Join(t.TempDir(), "made.torrent") // plain: rtorrent loads no other name
	if err := os.WriteFile(path, []byte(s+"4:info"+x.info+"e"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// each calls f with the path of every file below dir and its content.
func (x *fixture) each(dir string, f func(path string, data []byte)) {
	at := 0
	for _, e := range x.files {
		f(filepath.Join(dir, x.name, filepath.FromSlash(e.path)), x.data[at:at+e.size])
		at += e.size
	}
}

// lay writes the content below dir, as if it had been downloaded.
func (x *fixture) lay(t *testing.T, dir string) {
	t.Helper()
	x.each(dir, func(path string, data []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// isIn fails the test unless the whole content stands below dir.
func (x *fixture) isIn(t *testing.T, dir string) {
	t.Helper()
	x.each(dir, func(path string, want []byte) {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(want) {
			t.Errorf("%s: %d bytes that are not the content's %d", path, len(got), len(want))
		}
	})
}

// isAloneIn fails the test unless the whole content stands below dir, and nothing else: no padding, no
// unfinished file, no folder without a file.
func (x *fixture) isAloneIn(t *testing.T, dir string) {
	t.Helper()
	x.isIn(t, dir)
	known := map[string]bool{dir: true}
	x.each(dir, func(path string, _ []byte) {
		for ; !known[path]; path = filepath.Dir(path) {
			known[path] = true
		}
	})
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if !known[path] {
			t.Errorf("left beside the content: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// absent fails the test if something stands at the path, a link to nowhere included.
func absent(t *testing.T, path ...string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(path...)); !os.IsNotExist(err) {
		t.Errorf("%s is there (%v)", filepath.Join(path...), err)
	}
}
