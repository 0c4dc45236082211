package metainfo

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTrackers(t *testing.T) {
	for _, tt := range []struct {
		name           string
		announce, list any
		want           [][]string
	}{
		{"none", nil, nil, nil},
		{"announce", "http://a/", nil, [][]string{{"http://a/"}}},
		{"list instead of announce", "http://a/", []any{[]any{"http://b/", "udp://c:1"}, []any{"https://d/"}},
			[][]string{{"http://b/", "udp://c:1"}, {"https://d/"}}},
		{"empty list", "http://a/", []any{}, [][]string{{"http://a/"}}},
		{"list of nothing usable", "http://a/", []any{[]any{"dht://x"}, []any{}}, [][]string{{"http://a/"}}},
		{"flat list", nil, []any{"http://b/", 5, "http://c/"}, [][]string{{"http://b/"}, {"http://c/"}}},
		{"string", "http://a/", "http://b/", [][]string{{"http://a/"}}},
		{"once only", nil, []any{[]any{"http://b/", "http://b/"}, []any{"http://b/"}, []any{"http://c/"}},
			[][]string{{"http://b/"}, {"http://c/"}}},
		{"junk between", nil, []any{1, []any{1, dict{}, "http://b/"}, dict{"http://c/": 1}}, [][]string{{"http://b/"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tor := parseOK(t, single(func(top, _ dict) {
				if tt.announce != nil {
					top["announce"] = tt.announce
				}
				if tt.list != nil {
					top["announce-list"] = tt.list
				}
			}))
			if !reflect.DeepEqual(tor.Trackers, tt.want) {
				t.Errorf("got %q, want %q", tor.Trackers, tt.want)
			}
		})
	}
}

// Only what can be asked for counts as a URL, and nothing in it can end a line.
func TestUsableURL(t *testing.T) {
	all := []string{"http", "https", "udp"}
	for in, want := range map[string]string{
		"http://a/announce?key=1":    "http://a/announce?key=1",
		"HTTPS://a:443/x":            "HTTPS://a:443/x",
		"udp://a:80/announce":        "udp://a:80/announce",
		"udp://[2001:db8::1]:80":     "udp://[2001:db8::1]:80",
		" http://a/ \n":              "http://a/",
		"http://a/b c":               "http://a/b%20c",
		"http://a/ü":                 "http://a/%C3%BC",
		"udp://a/announce":           "",
		"udp://a:0":                  "",
		"udp://a:65536":              "",
		"http://a:b/":                "",
		"http:///announce":           "",
		"http://":                    "",
		"http:a":                     "",
		"a":                          "",
		"":                           "",
		"file:///etc/passwd":         "",
		"javascript://a/%0aalert(1)": "",
		"ftp://a/":                   "",
		"wss://a/":                   "",
		"http://a/\r\nHost: b":       "",
		"http://a/\x00":              "",
		"http://a/\x1b[0m":           "",
		"http://a/\x7f":              "",
		"http://a b/":                "",
		"http://[::1/":               "",
		"http://a/%zz":               "",
		"http://%0d%0a/":             "",
	} {
		got, ok := usableURL(in, all)
		if got != want || ok != (want != "") {
			t.Errorf("%q became %q, %v; want %q", in, got, ok, want)
		}
	}
}

// FuzzURL: a usable URL is visible ASCII, parses, has one of the schemes and is kept as it is.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://a/", "udp://a:1", "http://a/ü b", "http://[::1]:1/%20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := usableURL(s, []string{"http", "udp"})
		if !ok {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "udp" {
			t.Errorf("%q became %q: %v", s, got, err)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q became %q", s, got)
		}
		if again, ok := usableURL(got, []string{"http", "udp"}); !ok || again != got {
			t.Errorf("%q became %q and then %q", s, got, again)
		}
	})
}

func TestWebSeeds(t *testing.T) {
	tor := parseOK(t, single(func(top, _ dict) {
		top["url-list"] = []any{"http://a/my file", "ftp://b/", 1, "http://a/my file", "https://c/"}
		top["httpseeds"] = "http://d/seed.php"
	}))
	if got := fmt.Sprint(tor.WebSeeds, tor.HTTPSeeds); got != "[http://a/my%20file https://c/] [http://d/seed.php]" {
		t.Error(got)
	}
	one := parseOK(t, single(func(top, _ dict) { top["url-list"] = "http://a/" }))
	if fmt.Sprint(one.WebSeeds) != "[http://a/]" {
		t.Error(one.WebSeeds)
	}
}

func TestNodes(t *testing.T) {
	node := func(v ...any) any { return v }
	tor := parseOK(t, single(func(top, _ dict) {
		top["nodes"] = []any{node("127.0.0.1", 6881), node("router.test", 1), node("2001:db8::1", 65535), node("::ffff:1.2.3.4", 2),
			node("a", 0), node("a", 65536), node("a", -1), node("", 1), node("a/b", 1), node("a:b", 1), node("a\r\n", 1),
			node("a b", 1), node("fe80::1%\r\n", 1), node("é", 1), node(1, 2), node("a"), node("a", 1, 2), node(strings.Repeat("a", 254), 1), "a:1", 5}
	}))
	if got, want := fmt.Sprint(tor.Nodes), "[127.0.0.1:6881 router.test:1 [2001:db8::1]:65535 [::ffff:1.2.3.4]:2]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// However many there are, a bounded number is kept, in little time.
func TestManyURLs(t *testing.T) {
	var tiers, seeds, nodes []any
	for i := range 100_000 {
		u := fmt.Sprintf("http://tracker.test/%d", i)
		tiers, seeds = append(tiers, []any{u, "junk"}), append(seeds, u)
		nodes = append(nodes, []any{"a", 1 + i%60000})
	}
	in := single(func(top, _ dict) {
		top["announce-list"], top["url-list"], top["httpseeds"], top["nodes"] = tiers, seeds, seeds, nodes
		top["announce"] = "http://a/" + strings.Repeat("x", 1<<20)
	})
	start := time.Now()
	tor := parseOK(t, in)
	if d := time.Since(start); d > slack*5*time.Second {
		t.Errorf("took %v", d)
	}
	if len(tor.Trackers) != MaxTrackers || len(tor.WebSeeds) != MaxWebSeeds || len(tor.HTTPSeeds) != MaxWebSeeds || len(tor.Nodes) != MaxNodes {
		t.Errorf("%d tiers, %d and %d seeds, %d nodes", len(tor.Trackers), len(tor.WebSeeds), len(tor.HTTPSeeds), len(tor.Nodes))
	}
	if len(tor.Warnings) != 1 || !strings.Contains(tor.Warnings[0], "first 256") {
		t.Errorf("warnings %q", tor.Warnings)
	}
	long := parseOK(t, single(func(top, _ dict) { top["announce"] = "http://a/" + strings.Repeat("x", 1<<20) }))
	if len(long.Trackers) != 0 {
		t.Error("a URL of 1 MiB was kept")
	}
}
