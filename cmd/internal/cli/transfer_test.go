package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

// environ is an environment for tests.
type environ map[string]string

func (e environ) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// replace puts a command in the place of the one of its name.
func replace(root, with *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() == with.Name() {
			root.RemoveCommand(cmd)
		}
	}
	root.AddCommand(with)
}

// parseGet runs a command line of `get` up to where the work would begin.
func parseGet(vars environ, args ...string) (o app.GetOptions, stderr string, code int) {
	var errs bytes.Buffer
	e := env{Streams: app.Streams{In: strings.NewReader(""), Out: new(bytes.Buffer), Err: &errs}, Getenv: vars.lookup}
	root := newRoot(e)
	replace(root, newGet(e, func(_ context.Context, _ app.Streams, got app.GetOptions) error {
		o = got
		return nil
	}))
	code = runRoot(context.Background(), e, root, append([]string{"get"}, args...))
	return o, errs.String(), code
}

func TestGetDefaults(t *testing.T) {
	got, errs, code := parseGet(nil, "x.torrent")
	want := app.GetOptions{Source: "x.torrent", Dir: ".", Network: app.Network{Version: Version(), MaxPeers: 80, DHT: true, LSD: true, PEX: true, MetadataTimeout: 2 * time.Minute}}
	if code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("code %d, %s\ngot  %+v\nwant %+v", code, errs, got, want)
	}
}

func TestGetFlags(t *testing.T) {
	got, errs, code := parseGet(nil, "-d", "D", "-o", "N", "-s", "1,3-5", "-x", "*.txt", "-l", "--overwrite",
		"-p", "6881-6889", "--peer", "127.0.0.1:1", "--peer", "[::1]:2", "-t", "udp://a:1", "-t", "http://b/", "--no-trackers", "--no-pex", "--no-lsd",
		"--max-peers", "7", "--no-dht", "--dht-bootstrap", "[::1]:3", "--dht-bootstrap", "a.example:4", "--metadata-timeout", "1s", "--save-torrent", "S", "--metadata-only", "-m", "1h", "--stall-timeout", "90", "--seed-ratio", "1.5", "--seed-time", "5m", "--until-copies", "3", "--seed", "--super-seed",
		"--sequential", "--interface", "127.0.0.2", "-4", "-qq", "-v", "--log", "L", "--json", "--progress", "none", "x.torrent")
	ports, err := app.ParsePorts("6881-6889")
	if err != nil {
		t.Fatal(err)
	}
	want := app.GetOptions{
		Source: "x.torrent", Dir: "D", Output: "N", Select: "1,3-5", Exclude: "*.txt", List: true, Overwrite: true,
		Sequential: true, SaveTorrent: "S", MetadataOnly: true, MaxTime: time.Hour, StallTimeout: 90 * time.Second,
		SuperSeed: app.SuperAlways,
		Network: app.Network{
			Version: Version(), Ports: ports, Interface: netip.MustParseAddr("127.0.0.2"), Only4: true, MaxPeers: 7, MetadataTimeout: time.Second,
			Trackers: []string{"udp://a:1", "http://b/"}, NoTrackers: true, Peers: []string{"127.0.0.1:1", "[::1]:2"},
			DHTBootstrap: []string{"[::1]:3", "a.example:4"},
		},
		SeedUntil: app.SeedUntil{Forever: true, Ratio: 1.5, Time: 5 * time.Minute, Copies: 3},
		Shown:     app.Shown{JSON: true, Quiet: 2, Verbose: 1, Log: "L"},
	}
	want.Mode, _ = app.ParseProgress("none") // a name that is known
	if code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("code %d, %s\ngot  %+v\nwant %+v", code, errs, got, want)
	}
}

func TestGetEnvironment(t *testing.T) {
	vars := environ{
		"BITTERN_DIR": "D", "BITTERN_MAX_PEERS": "9", "BITTERN_TRACKER": "http://a/ http://b/", "BITTERN_QUIET": "2",
		"BITTERN_SEQUENTIAL": "true", "BITTERN_MAX_TIME": "1m", "BITTERN_OUTPUT": "", "BITTERN_UNKNOWN": "x",
		"BITTERN_NO_DHT": "1", "BITTERN_DHT_BOOTSTRAP": "127.0.0.1:1 127.0.0.1:2",
	}
	got, errs, code := parseGet(vars, "--max-peers", "3", "x")
	want := app.GetOptions{
		Source: "x", Dir: "D", Sequential: true, MaxTime: time.Minute,
		Network: app.Network{Version: Version(), MaxPeers: 3, MetadataTimeout: 2 * time.Minute, Trackers: []string{"http://a/", "http://b/"}, LSD: true, PEX: true, DHTBootstrap: []string{"127.0.0.1:1", "127.0.0.1:2"}},
		Shown:   app.Shown{Quiet: 2},
	}
	if code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("code %d, %s\ngot  %+v\nwant %+v", code, errs, got, want)
	}
}

func TestGetUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars environ
		args []string
		want string // in the line on stderr
	}{
		{"no source", nil, nil, "which SOURCE?"},
		{"two sources", nil, []string{"a", "b"}, "want one SOURCE, not also b"},
		{"a flag's value for a source", nil, []string{"a", "--super-seed", "false"}, "not also false (behind a flag, with =: --flag=false)"},
		{"empty source", nil, []string{""}, "an empty SOURCE"},
		{"unknown flag", nil, []string{"--nope", "a"}, "unknown flag: --nope"},
		{"bad duration", nil, []string{"-m", "soon", "a"}, "want a duration like 90s"},
		{"bad port", nil, []string{"-p", "70000", "a"}, "want a port"},
		{"bad peer", nil, []string{"--peer", "nowhere", "a"}, "want HOST:PORT"},
		{"bad tracker", nil, []string{"-t", "gopher://a", "a"}, "want the URL of a tracker"},
		{"bad progress", nil, []string{"--progress", "loud", "a"}, "want auto, bar, lines or none"},
		{"both families", nil, []string{"-4", "-6", "a"}, "--ipv4 and --ipv6 leave no address"},
		{"content to stdout", nil, []string{"-o", "-", "a"}, "not supported yet"},
		{"bad variable", environ{"BITTERN_MAX_PEERS": "many"}, []string{"a"}, `BITTERN_MAX_PEERS: invalid value "many": want a whole`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, errs, code := parseGet(tt.vars, tt.args...)
			if code != exitUsage || !strings.HasPrefix(errs, "bittern: ") || !strings.Contains(errs, tt.want) ||
				strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "(see 'bittern get --help')") {
				t.Errorf("code %d, stderr %q; want code 2 and one line with %q", code, errs, tt.want)
			}
		})
	}
}

// TestEnvironmentOfErrors: how an error is told may stand in the environment, whatever the error is.
func TestEnvironmentOfErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars environ
		args []string
	}{
		{"no source", environ{}, nil},
		{"unknown flag", environ{}, []string{"--nope", "x"}},
		{"another variable", environ{"BITTERN_DIR": "D", "BITTERN_MAX_PEERS": "many"}, []string{"x"}},
	} {
		tt.vars["BITTERN_QUIET"], tt.vars["BITTERN_JSON"] = "2", "1"
		var out, errs bytes.Buffer
		e := env{Streams: app.Streams{Out: &out, Err: &errs}, Getenv: tt.vars.lookup}
		code := runRoot(t.Context(), e, newRoot(e), append([]string{"get"}, tt.args...))
		if code != exitUsage || errs.Len() > 0 || !strings.Contains(out.String(), `"event":"error"`) {
			t.Errorf("%s: code %d, stdout %q, stderr %q; want code 2 told by an event alone", tt.name, code, out.String(), errs.String())
		}
	}
}

func TestSeedFlags(t *testing.T) {
	for _, tt := range []struct {
		args         []string
		source, addr string
	}{
		{[]string{"x"}, "x", ""},
		{[]string{"x", "--serve-tracker"}, "x", ":6969"},
		{[]string{"--serve-tracker", "x"}, "x", ":6969"},
		{[]string{"--serve-tracker", "127.0.0.1:0", "x"}, "x", "127.0.0.1:0"},
		{[]string{"x", "--serve-tracker", "127.0.0.1:0"}, "x", "127.0.0.1:0"},
		{[]string{"x", "--serve-tracker=[::1]:5"}, "x", "[::1]:5"},
		{[]string{"--serve-tracker", "--", "host:80"}, "host:80", ":6969"},
	} {
		var got app.SeedOptions
		var errs bytes.Buffer
		e := env{Streams: app.Streams{Err: &errs, Out: new(bytes.Buffer)}, Getenv: environ{}.lookup}
		root := newRoot(e)
		replace(root, newSeed(e, func(_ context.Context, _ app.Streams, o app.SeedOptions) error {
			got = o
			return nil
		}))
		code := runRoot(context.Background(), e, root, append([]string{"seed"}, tt.args...))
		want := app.SeedOptions{Source: tt.source, Dir: ".", ServeTracker: tt.addr, Network: app.Network{Version: Version(), MaxPeers: 80, DHT: true, LSD: true, PEX: true, MetadataTimeout: 2 * time.Minute}}
		if code != 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: code %d %s\ngot  %+v\nwant %+v", tt.args, code, errs.String(), got, want)
		}
	}
}

// TestExitCodes: each way a command can fail has its code, its line and its event.
func TestExitCodes(t *testing.T) {
	cancelled := context.Canceled
	for _, tt := range []struct {
		err    error
		cause  error // of the command's context
		code   int
		reason string
	}{
		{errors.New("x"), nil, 1, "other"},
		{&app.Error{Class: app.ClassUsage}, nil, 2, "usage"},
		{&app.Error{Class: app.ClassBadInput}, nil, 3, "bad-input"},
		{&app.Error{Class: app.ClassNoPeers}, nil, 4, "no-peers"},
		{&app.Error{Class: app.ClassNoMetadata}, nil, 4, "no-metadata"},
		{&app.Error{Class: app.ClassStalled}, nil, 5, "stalled"},
		{&app.Error{Class: app.ClassMaxTime}, nil, 5, "max-time"},
		{&app.Error{Class: app.ClassDisk}, nil, 6, "disk"},
		{&app.Error{Class: app.ClassConflict}, nil, 7, "conflict"},
		{&app.Error{Class: app.ClassCorrupt}, nil, 8, "corrupt"},
		{&app.Error{Class: app.ClassNetwork}, nil, 9, "network"},
		{&app.Error{Class: app.ClassHook}, nil, 10, "hook"},
		{&app.BugError{Value: "x"}, nil, 70, "other"},
		{app.SignalError{Sig: syscall.SIGINT}, nil, 130, "interrupted"},
		{app.SignalError{Sig: syscall.SIGTERM}, nil, 143, "interrupted"},
		{cancelled, app.SignalError{Sig: syscall.SIGINT}, 130, "interrupted"},
		{&app.Error{Class: app.ClassBadInput, Err: cancelled}, app.SignalError{Sig: os.Interrupt}, 130, "interrupted"},
	} {
		var out, errs bytes.Buffer
		e := env{Streams: app.Streams{Out: &out, Err: &errs}, Getenv: environ{}.lookup}
		root := newRoot(e)
		replace(root, newGet(e, func(context.Context, app.Streams, app.GetOptions) error { return tt.err }))
		ctx, cancel := context.WithCancelCause(t.Context())
		if tt.cause != nil {
			cancel(tt.cause)
		}
		code := runRoot(ctx, e, root, []string{"get", "--json", "x"})
		cancel(nil)
		if code != tt.code {
			t.Errorf("%v: code %d, want %d", tt.err, code, tt.code)
		}
		if !strings.Contains(out.String(), `"event":"error"`) || !strings.Contains(out.String(), `"reason":"`+tt.reason+`"`) {
			t.Errorf("%v: events %s, want an error with reason %s", tt.err, out.String(), tt.reason)
		}
		if !strings.HasPrefix(strings.TrimLeft(errs.String(), "\n"), "bittern: ") {
			t.Errorf("%v: stderr %q", tt.err, errs.String())
		}
	}
}

// TestPanicIsABug: 70, the stack, and the line, even with -qq.
func TestPanicIsABug(t *testing.T) {
	var errs bytes.Buffer
	e := env{Streams: app.Streams{Out: new(bytes.Buffer), Err: &errs}, Getenv: environ{}.lookup}
	root := newRoot(e)
	replace(root, newGet(e, func(context.Context, app.Streams, app.GetOptions) error { panic("oops") }))
	if code := runRoot(t.Context(), e, root, []string{"get", "-qq", "x"}); code != exitBug {
		t.Errorf("code %d, want 70", code)
	}
	if s := errs.String(); !strings.Contains(s, "goroutine ") || !strings.Contains(s, "bittern: this is a bug in bittern: oops\n") {
		t.Errorf("stderr %q", s)
	}
}

// TestErrorIsPrintable: what others wrote, such as the names in a server's certificate, reaches no terminal
// as it is.
func TestErrorIsPrintable(t *testing.T) {
	var errs bytes.Buffer
	e := env{Streams: app.Streams{Out: new(bytes.Buffer), Err: &errs}, Getenv: environ{}.lookup}
	root := newRoot(e)
	replace(root, newGet(e, func(context.Context, app.Streams, app.GetOptions) error {
		return errors.New("valid for \x1b[2Jx\u202e, not y\nand \\x1b is said already")
	}))
	runRoot(t.Context(), e, root, []string{"get", "x"})
	if got, want := errs.String(), `bittern: valid for \x1b[2Jx\u202e, not y and \x1b is said already`+"\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

func TestQuietness(t *testing.T) {
	for _, tt := range []struct {
		flag string
		want bool // whether the error is printed
	}{{"-q", true}, {"-qq", false}, {"-v", true}} {
		var errs bytes.Buffer
		e := env{Streams: app.Streams{Out: new(bytes.Buffer), Err: &errs}, Getenv: environ{}.lookup}
		root := newRoot(e)
		replace(root, newGet(e, func(context.Context, app.Streams, app.GetOptions) error { return errors.New("no\n way") }))
		runRoot(t.Context(), e, root, []string{"get", tt.flag, "x"})
		want := ""
		if tt.want {
			want = "bittern: no way\n"
		}
		if errs.String() != want {
			t.Errorf("%s: stderr %q, want %q", tt.flag, errs.String(), want)
		}
	}
}

// TestHelpNamesExitCodes: every code that a command of this version can end with is in the help.
func TestHelpNamesExitCodes(t *testing.T) {
	help := Root().Long
	named := map[int]bool{exitBug: true, exitSignal + 2: true, exitSignal + 15: true}
	for _, code := range codes {
		named[code] = code != exitHook // there are no hooks yet
	}
	for code, want := range named {
		if got := regexp.MustCompile(fmt.Sprintf(`\b%d\b`, code)).MatchString(help); got != want {
			t.Errorf("code %d in the help: %v, want %v", code, got, want)
		}
	}
}
