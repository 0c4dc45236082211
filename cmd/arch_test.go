// Package cmd_test holds the architecture to its word: who may import whom, which packages are pure,
// and what stands at the top level. A new edge means a line in the table below and, there, the reason.
package cmd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "bittern"

// A rule is what one package may do.
type rule struct {
	imports string // packages of the module and third-party modules that it may import, by blanks
	tests   string // what its tests may import besides that and itself
	pure    bool   // no I/O, goroutine, lock, clock or global random source
}

const (
	cobra       = "github.com/spf13/cobra github.com/spf13/pflag" // pflag is cobra's own flag package
	testscript  = "github.com/rogpeppe/go-internal/testscript"
	oracle      = "github.com/jackpal/bencode-go" // only ever sees what our own decoder has accepted
	progressbar = "github.com/schollz/progressbar/v3"
	humanize    = "github.com/dustin/go-humanize"
	term        = "golang.org/x/term" // what progressbar itself asks for the width
	// Which names are one name on some file system is Unicode's to say, and globs with ** and {} are a
	// language that users know from elsewhere.
	names = "golang.org/x/text/cases golang.org/x/text/unicode/norm github.com/bmatcuk/doublestar/v4"
	leaks = "go.uber.org/goleak" // finds goroutines that a package's tests leave behind
	// The standard library joins a group on one interface only, and cannot choose the one to send from.
	multicast = "golang.org/x/net/ipv4 golang.org/x/net/ipv6"
	// The standard library sets no option that bounds what waits unsent in the kernel.
	unix = "golang.org/x/sys/unix"
	// The standard library has no file locks, and syscall is frozen.
	windows = "golang.org/x/sys/windows"
)

// rules is the import table. The standard library is open to all but the pure.
var rules = map[string]rule{
	"bencode":        {pure: true, tests: oracle},
	"piece":          {pure: true},
	"piece/metainfo": {pure: true, imports: "bencode piece " + names},
	"piece/merkle":   {pure: true},
	"piece/storage":  {imports: "piece " + windows, tests: leaks},

	"peer/compact": {pure: true},
	"peer/wire":    {pure: true, imports: "bencode peer/compact"},
	"peer/choke":   {pure: true},
	"peer/rate":    {pure: true},
	"peer/pool":    {},
	"peer/mse":     {},
	"peer/utp":     {},
	"peer/webseed": {},
	"peer":         {imports: "peer/wire peer/pool peer/mse", tests: "peer/simnet " + leaks},
	"peer/simnet":  {},

	"tracker": {imports: "bencode peer/compact", tests: leaks},

	"dht/krpc": {pure: true, imports: "bencode peer/compact"},
	// What names a node (an id, an address, the distance between two) is one thing in all of the DHT.
	"dht/table":  {pure: true, imports: "dht/krpc"},
	"dht/lookup": {pure: true, imports: "dht/krpc"},
	// The node is a value like the core, so that the simulator drives what is shipped; dht is its shell.
	"dht/node": {pure: true, imports: "dht/krpc dht/table dht/lookup peer/compact peer/rate"},
	// It keeps the nodes that it knows in a bencoded file.
	"dht": {imports: "bencode dht/krpc dht/node peer/compact", tests: "peer/simnet " + leaks},

	// Whether an address can be a peer's at all is judged in one place, compact.Usable.
	"cmd/internal/swarm/core": {pure: true, imports: "piece peer/wire peer/compact peer/choke peer/rate"},
	"cmd/internal/swarm": {
		imports: "cmd/internal/swarm/core piece piece/metainfo piece/storage peer peer/wire peer/pool",
		tests:   "peer/simnet " + leaks,
	},
	"cmd/internal/sim": {
		imports: "cmd/internal/swarm/core piece peer/wire peer/choke peer/rate",
	},
	// What prints the simulator's tables is a program of its own, with flags of its own.
	"cmd/internal/sim/tables": {imports: "cmd/internal/sim"},
	"cmd/internal/discover":   {imports: "tracker dht", tests: "peer/simnet " + leaks},
	"cmd/internal/sockets":    {imports: "peer/utp " + multicast + " " + unix, tests: leaks},
	"cmd/internal/ui":         {imports: progressbar + " " + humanize + " " + term},
	"cmd/internal/app": {imports: "bencode piece piece/metainfo piece/storage peer peer/wire peer/pool tracker dht " +
		"cmd/internal/swarm cmd/internal/swarm/core cmd/internal/discover cmd/internal/sockets cmd/internal/ui"},
	"cmd/internal/cli": {imports: "cmd/internal/app " + cobra},
	// The generator of the man pages is a program of its own, so that cobra/doc is not in bittern.
	"cmd/internal/manpages": {imports: "cmd/internal/cli github.com/spf13/cobra github.com/spf13/cobra/doc github.com/spf13/pflag"},
	"cmd/bittern":           {imports: "cmd/internal/cli", tests: testscript},
	"cmd":                   {}, // this test
}

// forbidden are the packages that no pure package imports (net/netip is fine).
var forbidden = []string{"net", "os", "sync", "sync/atomic", "context", "log/slog", "crypto/rand"}

// topLevel is what may stand at the top, besides hidden files.
var topLevel = []string{
	"cmd", "bencode", "peer", "piece", "tracker", "dht", "testdata",
	"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
}

// ignored are what builds and profiles leave at the top; .gitignore names the same.
var ignored = []string{"bin", "*.test", "*.out", "*.prof"}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		built := slices.ContainsFunc(ignored, func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		})
		if !strings.HasPrefix(name, ".") && !built && !slices.Contains(topLevel, name) {
			t.Errorf("%s stands at the top level, where the layout has no place for it", name)
		}
	}
}

func TestImportsAndPurity(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && file != ".."
			if hidden || d.Name() == "testdata" || d.Name() == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		seen++
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		for _, complaint := range check(filepath.ToSlash(rel), src) {
			t.Error(complaint)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("only %d Go files seen: the walk is broken", seen)
	}
}

// TestTable checks the table itself: a pure package may import only pure ones.
func TestTable(t *testing.T) {
	for name, r := range rules {
		for _, imp := range strings.Fields(r.imports) {
			to, known := rules[imp]
			switch {
			case strings.Contains(imp, "."): // another module's; whether it is pure is for the one who adds it
			case !known:
				t.Errorf("%s may import %s, which has no line", name, imp)
			case r.pure && !to.pure:
				t.Errorf("%s is pure and may import %s, which is not", name, imp)
			}
		}
	}
}

// check returns what is wrong with one file, given by its slash-separated path from the top.
func check(file string, src []byte) (complaints []string) {
	pkg := path.Dir(file)
	r, known := rules[pkg]
	if !known {
		return []string{fmt.Sprintf("%s: package %s has no line in the table", file, pkg)}
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	test := strings.HasSuffix(file, "_test.go")
	say := func(pos token.Pos, format string, args ...any) {
		complaints = append(complaints, fmt.Sprintf("%s: %s", fset.Position(pos), fmt.Sprintf(format, args...)))
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			say(spec.Pos(), "%v", err)
			continue
		}
		if !mayImport(pkg, r, imp, test) {
			say(spec.Pos(), "%s may not import %s", pkg, strings.TrimPrefix(imp, module+"/"))
		}
		if r.pure && !test && spec.Name != nil && spec.Name.Name == "." {
			say(spec.Pos(), "a pure package imports %s without a name, which hides its uses", imp)
		}
		if r.pure && !test && slices.Contains(forbidden, imp) {
			say(spec.Pos(), "%s is pure and imports %s", pkg, imp)
		}
	}
	if r.pure && !test {
		impurities(f, say)
	}
	return complaints
}

// mayImport applies the table to one import.
func mayImport(pkg string, r rule, imp string, test bool) bool {
	first, _, _ := strings.Cut(imp, "/")
	if first != module && !strings.Contains(first, ".") {
		return true // the standard library
	}
	imp = strings.TrimPrefix(imp, module+"/")
	allowed := strings.Fields(r.imports)
	if test {
		allowed = append(allowed, pkg)
		allowed = append(allowed, strings.Fields(r.tests)...)
	}
	return slices.Contains(allowed, imp)
}

// impurities reports, by syntax, what a pure package must not do.
func impurities(f *ast.File, say func(token.Pos, string, ...any)) {
	names := importNames(f)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n.Pos(), "a pure package starts a goroutine")
		case *ast.ChanType:
			say(n.Pos(), "a pure package has a channel")
		case *ast.SelectStmt:
			say(n.Pos(), "a pure package selects")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && impureFunc(names[x.Name], n.Sel.Name) {
				say(n.Pos(), "a pure package uses %s.%s", names[x.Name], n.Sel.Name)
			}
		}
		return true
	})
}

// importNames maps the name by which a file knows a package to its path.
func importNames(f *ast.File) map[string]string {
	names := make(map[string]string)
	for _, spec := range f.Imports {
		imp := strings.Trim(spec.Path.Value, "`\"")
		name := strings.TrimSuffix(imp, "/v2")
		name = path.Base(name)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imp
	}
	return names
}

// impureFunc reports whether imp.name reads the clock, waits, or draws from the global source.
func impureFunc(imp, name string) bool {
	switch imp {
	case "time":
		return slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "Sleep"}, name) ||
			strings.HasPrefix(name, "New")
	case "math/rand", "math/rand/v2":
		types := []string{"Rand", "Source", "Source64", "PCG", "ChaCha8", "Zipf"}
		return !slices.Contains(types, name) && !strings.HasPrefix(name, "New")
	}
	return false
}

// TestCheck proves that the checker sees what it is there for.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, file, src string
		want            string // part of the one complaint; empty for none
	}{
		{"unknown package", "bencode/extra/x.go", "package extra", "has no line"},
		{"allowed edge", "piece/metainfo/x.go", `package metainfo; import _ "bittern/bencode"`, ""},
		{"forbidden edge", "bencode/x.go", `package bencode; import _ "bittern/piece"`, "may not import piece"},
		{"sibling protocol", "tracker/x.go", `package tracker; import _ "bittern/peer/wire"`, "may not import peer/wire"},
		{"own package in a test", "piece/x_test.go", `package piece_test; import _ "bittern/piece"`, ""},
		{"third party", "tracker/x.go", `package tracker; import _ "golang.org/x/net/proxy"`, "may not import"},
		{"test oracle in a test", "bencode/x_test.go", `package bencode; import _ "github.com/jackpal/bencode-go"`, ""},
		{"test oracle in code", "bencode/x.go", `package bencode; import _ "github.com/jackpal/bencode-go"`, "may not import"},
		{"net in pure", "peer/wire/x.go", `package wire; import _ "net"`, "imports net"},
		{"netip in pure", "peer/wire/x.go", `package wire; import _ "net/netip"`, ""},
		{"net in a pure package's test", "peer/wire/x_test.go", `package wire; import _ "net"`, ""},
		{"goroutine", "piece/x.go", "package piece; func f() { go f() }", "goroutine"},
		{"channel", "piece/x.go", "package piece; var c chan int", "channel"},
		{"clock", "piece/x.go", `package piece; import "time"; var t = time.Now()`, "time.Now"},
		{"timer", "piece/x.go", `package piece; import "time"; var t = time.NewTimer(1)`, "time.NewTimer"},
		{"clock renamed", "piece/x.go", `package piece; import c "time"; var t = c.Since(c.Time{})`, "time.Since"},
		{"clock without a name", "piece/x.go", `package piece; import . "time"; var t = Now()`, "without a name"},
		{"duration", "piece/x.go", `package piece; import "time"; var d = time.Second`, ""},
		{"global random", "piece/x.go", `package piece; import "math/rand/v2"; var n = rand.IntN(3)`, "rand/v2.IntN"},
		{"random passed in", "piece/x.go", `package piece; import "math/rand/v2"; func f(r *rand.Rand) int { return r.IntN(3) }`, ""},
		{"not Go", "piece/x.go", "package", "expected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := check(tt.file, []byte(tt.src))
			if tt.want == "" && len(got) != 0 {
				t.Errorf("complaints %q, want none", got)
			}
			if tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("complaints %q, want one with %q", got, tt.want)
			}
		})
	}
}
