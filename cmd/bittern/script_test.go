package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bittern": main})
}

// TestScript runs the scripts of testdata/script, each in a folder of its own and with the commands
// below besides bittern.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "fill": fill, "unix-socket": unixSocket,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
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
		Files: []string{file}, Cmds: map[string]func(*testscript.TestScript, bool, []string){"fill": fill},
	})
}

// quoteMeta is a line as a regular expression in the quotes of a script.
func quoteMeta(line string) string {
	line = strings.NewReplacer(`\`, `\\`, ".", `\.`, "?", `\?`, "*", `\*`, "+", `\+`, "(", `\(`, ")", `\)`, "[", `\[`, "]", `\]`,
		"|", `\|`, "^", `\^`, "$", `\$`, "{", `\{`, "}", `\}`).Replace(line)
	return strings.ReplaceAll(line, "'", "''")
}
