package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// The tests wait for other processes, and for time to pass, more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil { // the command line, read later, prevails
		panic(err)
	}
	testscript.Main(m, map[string]func(){"bittern": main})
}

// TestScript runs the scripts of testdata/script, each in a folder of its own and with the commands
// below besides bittern.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   filepath.Join("testdata", "script"),
		Setup: keepHere,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "fill": fill, "unix-socket": unixSocket, "seed": seed, "json": jsonHas,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// stayHere is the environment in which nothing that bittern sends leaves this machine.
var stayHere = []string{"BITTERN_NO_DHT=1", "BITTERN_NO_LSD=1"}

// keepHere has a script run so.
func keepHere(env *testscript.Env) error {
	env.Vars = append(env.Vars, stayHere...)
	return nil
}

// serve runs a web server on loopback until the script ends and puts its address into $URL. It serves
// the script's folder at /files/, and at /redirect/N what N redirects lead to.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: serve")
	}
	mux := http.NewServeMux()
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServer(http.Dir(ts.MkAbs(".")))))
	mux.HandleFunc("/redirect/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		if _, err := fmt.Sscan(r.PathValue("n"), &n); err != nil {
			http.NotFound(w, r)
			return
		}
		to := "/files/a.torrent"
		if n > 1 {
			to = fmt.Sprintf("/redirect/%d", n-1)
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	ts.Defer(srv.Close)
	ts.Setenv("URL", srv.URL)
}

// fill writes files of so many KiB whose bytes depend on nothing but the size.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fill KIB FILE...")
	}
	var kib int
	_, err := fmt.Sscan(args[0], &kib)
	ts.Check(err)
	data := make([]byte, kib<<10)
	state := uint64(kib)
	for i := range data {
		state = state*6364136223846793005 + 1442695040888963407
		data[i] = byte(state >> 56)
	}
	for _, name := range args[1:] {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(name)), 0o777))
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o666))
	}
}

// unixSocket leaves a socket behind.
func unixSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unix-socket NAME")
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { ts.Check(l.Close()) })
}

// seed runs `bittern seed --json ARGS...` on loopback until the script ends. When it is ready, $PEER is
// where peers reach it and $TRACKER the URL of its tracker, if it runs one. Its end must be that of a
// seed without a stop condition: 143.
func seed(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: seed ARGS...")
	}
	bin := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, "bittern"); bin == "" {
			if _, err := os.Stat(path); err == nil {
				bin = path
			}
		}
	}
	cmd := exec.Command(bin, append([]string{"seed", "--json", "--interface", "127.0.0.1"}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append([]string{"HOME=" + ts.MkAbs(".")}, stayHere...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // it says that the process failed, which it should; the code counts
		if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGTERM) {
			ts.Fatalf("seed ended with %d: %s", code, stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e struct {
			Event      string
			TrackerURL string `json:"tracker_url"`
			Port       int
		}
		ts.Check(json.Unmarshal(lines.Bytes(), &e))
		if e.Event == "seeding" {
			ts.Setenv("TRACKER", e.TrackerURL)
			ts.Setenv("PEER", fmt.Sprintf("127.0.0.1:%d", e.Port))
			go io.Copy(io.Discard, out) // until it ends
			return
		}
	}
	ts.Fatalf("seed is not ready: %v %s", lines.Err(), stderr.String())
}

// jsonHas checks that every line of the last stdout is an object, that the events come in the order
// given, others between them, and that each has a time.
func jsonHas(ts *testscript.TestScript, neg bool, want []string) {
	if neg {
		ts.Fatalf("usage: json EVENT...")
	}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var e struct {
			Event string
			Time  time.Time
		}
		ts.Check(json.Unmarshal([]byte(line), &e))
		if e.Event == "" || e.Time.IsZero() {
			ts.Fatalf("not an event with its time: %s", line)
		}
		if len(want) > 0 && e.Event == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		ts.Fatalf("no event %s, or not in its place", want[0])
	}
}

// TestReadme runs the console examples of the README, one block after another in one folder: what
// stands behind "$ " must succeed and print what follows, where a line of "..." stands for anything.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("fill 3000 holiday.mp4\n")
	commands, inside := 0, false
	for line := range strings.Lines(string(readme)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside || line == "..." || line == "":
		case strings.HasPrefix(line, "$ "):
			commands++
			fmt.Fprintf(&script, "exec %s\n", line[2:])
		default:
			fmt.Fprintf(&script, "stdout '^%s$'\n", quoteMeta(line))
		}
	}
	if commands < 3 {
		t.Fatalf("only %d commands found", commands)
	}
	file := filepath.Join(t.TempDir(), "readme.txtar")
	if err := os.WriteFile(file, []byte(script.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file}, Setup: keepHere, Cmds: map[string]func(*testscript.TestScript, bool, []string){"fill": fill},
	})
}

// quoteMeta is a line as a regular expression in the quotes of a script.
func quoteMeta(line string) string {
	line = strings.NewReplacer(`\`, `\\`, ".", `\.`, "?", `\?`, "*", `\*`, "+", `\+`, "(", `\(`, ")", `\)`, "[", `\[`, "]", `\]`,
		"|", `\|`, "^", `\^`, "$", `\$`, "{", `\{`, "}", `\}`).Replace(line)
	return strings.ReplaceAll(line, "'", "''")
}
