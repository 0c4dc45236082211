package metainfo

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

const (
	hexHash    = "0123456789abcdef0123456789ABCDEF01234567"
	base32Hash = "aerukz4jvpg66ajdivtytk6n54asgrlh" // the same
	sha256Hash = "1220" + "ab" + "0000000000000000000000000000000000000000000000000000000000cd" + "ef"
)

var testHash = [20]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67}

func TestParseMagnet(t *testing.T) {
	const xt = "magnet:?xt=urn:btih:" + hexHash
	for _, tt := range []struct {
		name, link string
		want       Magnet // but for the hash
	}{
		{"hexadecimal", xt, Magnet{}},
		{"base32", "magnet:?xt=urn:btih:" + base32Hash, Magnet{}},
		{"in capitals", strings.ToUpper("magnet:?xt=urn:btih:" + base32Hash), Magnet{}},
		{"bare", hexHash, Magnet{}},
		{"bare base32", strings.ToUpper(base32Hash), Magnet{}},
		{"escaped", "magnet:?xt=urn%3Abtih%3a" + hexHash, Magnet{}},
		{"numbered", "magnet:?xt.1=urn:sha1:X&xt.2=urn:btih:" + hexHash, Magnet{}},
		{"the last of two", "magnet:?xt=urn:btih:" + strings.Repeat("0", 40) + "&xt=urn:btih:" + hexHash, Magnet{}},
		{"other networks", "magnet:?xt=urn:tree:tiger:X&xt=urn:btih:" + hexHash + "&xt=urn:ed2k:Y", Magnet{}},
		{"hybrid", xt + "&xt=urn:btmh:" + sha256Hash, Magnet{InfoHashV2: [32]byte{0xab, 30: 0xcd, 31: 0xef}}},
		{"unknown and empty parts", xt + "&&=&xl=10&kt=a+b&dn&tr=&x.pe=&so=&ws=#", Magnet{}},
		{"name", xt + "&dn=a+b%2Bc%26%C3%A9", Magnet{Name: "a b+c&é"}},
		{"name not escaped", xt + "&dn=100% true%2&dn=other", Magnet{Name: "100% true%2"}},
		{"name that is a path", xt + "&dn=..%2F..%2Fetc%2Fpasswd", Magnet{Name: "../../etc/passwd"}}, // a label only
		{"long name", xt + "&dn=" + strings.Repeat("x", maxText+1), Magnet{Name: strings.Repeat("x", maxText)}},
		{"trackers", xt + "&tr=http%3A%2F%2Fa%2F%3Fx%3D1%26y%3D2&tr.1=udp://b:1/a+b&tr.x=http://no/&tr=udp://b:1/a+b&tr=dht://c&tr=udp://noport/&TR=https://d/",
			Magnet{Trackers: [][]string{{"http://a/?x=1&y=2"}, {"udp://b:1/a+b"}, {"https://d/"}}}},
		{"peers", xt + "&x.pe=1.2.3.4:5&x.pe=%5B2001:db8::1%5D%3A65535&x.pe=host.example:1&x.pe=1.2.3.4:5",
			Magnet{Peers: []string{"1.2.3.4:5", "[2001:db8::1]:65535", "host.example:1"}}},
		{"odd peers", xt + odd("x.pe", "", ":", ":1", "a", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a:1:2", "::1:5", "[::1]", "[::1]5", "[a]:1", "[1.2.3.4]:5",
			"[::1:5", "::1]:5", "[fe80::1%25%0D%0A]:1", "a%0D%0A:1", "a%00:1", "a/b:1", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1", "[::ffff:0.0.0.0]:1",
			strings.Repeat("a", 254)+":1", "a:99999999999999999999"), Magnet{}},
		{"web seeds", xt + "&ws=http://a/x%20y&ws=ftp://b/&ws=https://c/", Magnet{WebSeeds: []string{"http://a/x%20y", "https://c/"}}},
		{"torrents", xt + "&as=https://a/x.torrent&xs=dchub://b&xs=urn:sha1:X&xs=http://127.0.0.1/x.torrent",
			Magnet{Torrents: []string{"https://a/x.torrent", "http://127.0.0.1/x.torrent"}}},
		{"files", xt + "&so=0,2,4,6-8", Magnet{Select: []FileRange{{0, 0}, {2, 2}, {4, 4}, {6, 8}}}},
		{"files out of order", xt + "&so=9,,5-7,0007-8&so=0", Magnet{Select: []FileRange{{0, 0}, {5, 9}}}},
		{"all the files there can be", xt + "&so=0-4294967295,7", Magnet{Select: []FileRange{{0, number("4294967295")}}}},
		{"more files than a number can say", xt + "&so=1,3-99999999999999999999", Magnet{Select: []FileRange{{1, 1}, {3, number("99999999999999999999")}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseMagnet(tt.link)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.InfoHash = testHash
			if !reflect.DeepEqual(*m, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *m, tt.want)
			}
			if again, err := ParseMagnet(m.Link()); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("%s\nbecame %+v\nfrom   %+v: %v", m.Link(), again, m, err)
			}
		})
	}
}

// odd returns a parameter for each of the values.
func odd(key string, values ...string) (link string) {
	for _, v := range values {
		link += "&" + key + "=" + v
	}
	return link
}

// What is no magnet link of a torrent is refused, and the error says which part is wrong.
func TestMagnetRefused(t *testing.T) {
	const xt = "magnet:?xt=urn:btih:" + hexHash
	junk := strings.Repeat("z", 40)
	for _, tt := range []struct{ name, link, reason string }{
		{"empty", "", `"" is not a magnet link`},
		{"no query", "magnet:xt=urn:btih:" + hexHash, "is not a magnet link"},
		{"another scheme", "maggot:?xt=urn:btih:" + hexHash, `"maggot:`},
		{"bare, too short", hexHash[1:], "is not a magnet link"},
		{"no xt", "magnet:?", "names no torrent"},
		{"only a name", "magnet:?dn=a", "names no torrent"},
		{"empty xt", "magnet:?xt=", "names no torrent"},
		{"no hash", "magnet:?xt=urn:btih:", `the info-hash ""`},
		{"40 that are not hexadecimal", "magnet:?xt=urn:btih:" + junk, `the info-hash "` + junk + `"`},
		{"32 that are not base32", "magnet:?xt=urn:btih:" + strings.Repeat("1", 32), `the info-hash "1111`},
		{"base32 with line ends", "magnet:?xt=urn:btih:" + strings.Repeat("a", 24) + "%0a%0a%0a%0a%0a%0a%0a%0a", `the info-hash "aaa`},
		{"base32 padded", "magnet:?xt=urn:btih:" + strings.Repeat("a", 26) + "======", `the info-hash "aaa`},
		{"too long", xt + "0", "the info-hash"},
		{"too short", xt[:len(xt)-1], "the info-hash"},
		{"NUL", xt[:len(xt)-1] + "%00", `\x00" in the magnet link`},
		{"NUL behind", xt + "%00", `\x00" in the magnet link`},
		{"an escape that is none", xt[:len(xt)-2] + "%zz", "the info-hash"},
		{"a good and a bad one", xt + "&xt=urn:btih:x", `the info-hash "x"`},
		{"bidi marks", "magnet:?xt=urn:btih:%E2%80%AE", `the info-hash "\u202e"`},
		{"very long", "magnet:?xt=urn:btih:" + strings.Repeat("\x1b", 1<<20), `the info-hash "\x1b`},
		{"another urn", "magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C", `the magnet link is for "urn:sha1:YNCK`},
		{"no urn", "magnet:?xt=" + hexHash, `is for "` + hexHash[:10]},
		{"wrong multihash", xt + "&xt=urn:btmh:1114" + strings.Repeat("0", 40), `the hash "1114`},
		{"short multihash", xt + "&xt=urn:btmh:1220ab", `the hash "1220ab"`},
		{"long multihash", xt + "&xt=urn:btmh:" + sha256Hash + "00", `the hash "1220`},
		{"multihash not hexadecimal", xt + "&xt=urn:btmh:1220" + strings.Repeat("x", 64), `the hash "1220xx`},
		{"files that are no numbers", xt + "&so=1,a", `"a" in the magnet link`},
		{"negative file", xt + "&so=-1", `"-1"`},
		{"open range", xt + "&so=1-", `"1-"`},
		{"backward range", xt + "&so=8-6", `"8-6"`},
		{"files with junk", xt + "&so=1%1b[0m", `"1\x1b[0m"`},
		{"countless ranges", xt + "&so=" + strings.Repeat("1,", maxRanges+1), "more than 65536 ranges"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseMagnet(tt.link)
			if err == nil {
				t.Fatalf("accepted: %+v", m)
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %q, want one with %q", err, tt.reason)
			}
			if Printable(err.Error()) != err.Error() || len(err.Error()) > 1000 {
				t.Errorf("error not fit to print: %q", err)
			}
		})
	}
	if _, err := ParseMagnet("magnet:?xt=urn:btmh:" + sha256Hash); !errors.Is(err, ErrV2Only) {
		t.Errorf("of a v2 hash alone: %v", err)
	}
}

// However much a link says, a bounded part of it is kept.
func TestLargeMagnet(t *testing.T) {
	var b strings.Builder
	b.WriteString("magnet:?xt=urn:btih:" + hexHash + "&so=0-4294967295")
	for i := range 2000 {
		fmt.Fprintf(&b, "&tr=http://tracker.test/%d&ws=http://seed.test/%[1]d&xs=http://file.test/%[1]d&x.pe=10.0.%d.%d:1", i, i/256, i%256)
	}
	b.WriteString("&tr=http://a/" + strings.Repeat("x", 1<<20))
	link := b.String()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := ParseMagnet(link)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Trackers) != MaxTrackers || len(m.Peers) != MaxPeers || len(m.WebSeeds) != MaxWebSeeds || len(m.Torrents) != MaxTorrentURLs || len(m.Select) != 1 {
		t.Errorf("%d trackers, %d peers, %d seeds, %d torrents, %d ranges", len(m.Trackers), len(m.Peers), len(m.WebSeeds), len(m.Torrents), len(m.Select))
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("allocated %d KiB", n>>10)
	}
	// What is written down escaped is longer than it was, and must fit all the same.
	long, err := ParseMagnet("magnet:?xt=urn:btih:" + hexHash + "&tr=http://a/" + strings.Repeat("é", maxURL/3))
	if err != nil || len(long.Trackers) != 0 {
		t.Errorf("kept %v: %v", long, err)
	}
}

// so counts every entry of the torrent's list (BEP 53), of which Files holds neither links nor, as
// files to choose, padding.
func TestSelected(t *testing.T) {
	link := dict{"length": 0, "path": []string{"l"}, "attr": "l", "symlink path": []string{"a"}}
	pad := dict{"length": 5, "path": []string{".pad", "5"}, "attr": "p"}
	tor := parseOK(t, folderOf(link, file(1, "a"), pad, file(2, "b"), link, link, file(3, "c"))) // 1, 3 and 6 can be chosen
	for so, want := range map[string]string{
		"": "[]", "1": "[true false false false]", "3": "[false false true false]", "6": "[false false false true]",
		"0-3": "[true false true false]", "2,4-4294967295": "[false false false true]", "0-99999999999999999999": "[true false true true]",
		"0": "error", "2": "error", "4-5": "error", "7-2000000000": "error",
	} {
		m, err := ParseMagnet("magnet:?xt=urn:btih:" + hexHash + "&so=" + so)
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := m.Selected(tor)
		got := fmt.Sprint(chosen)
		if err != nil {
			got = "error"
			if !errors.Is(err, ErrNoMatch) || !strings.Contains(err.Error(), so) {
				t.Errorf("so=%s: %v", so, err)
			}
		}
		if got != want {
			t.Errorf("so=%s: %s, want %s", so, got, want)
		}
	}
}

// FuzzMagnet: what is read of a link is bounded, and what is written of it is read as the same.
func FuzzMagnet(f *testing.F) {
	const xt = "magnet:?xt=urn:btih:" + hexHash
	for _, s := range []string{hexHash, base32Hash, xt, xt + "&xt=urn:btmh:" + sha256Hash, xt + "&dn=a+b%zz\xff&tr.1=http%3A%2F%2Fa%2F%c3&so=1,3-5,4-9",
		xt + "&x.pe=[::1]:2&x.pe=a:1&ws=http://a/&as=https://b/c.torrent"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMagnet(s)
		if err != nil {
			if m != nil || !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrV2Only) || Printable(err.Error()) != err.Error() || len(err.Error()) > 1000 {
				t.Errorf("%q: %+v, %q", s, m, err)
			}
			return
		}
		if len(m.Name) > maxText || len(m.Trackers) > MaxTrackers || len(m.Peers) > MaxPeers || len(m.WebSeeds) > MaxWebSeeds || len(m.Torrents) > MaxTorrentURLs {
			t.Errorf("%q: unbounded: %+v", s, m)
		}
		for i, r := range m.Select {
			if r.Last < r.First || i > 0 && r.First-1 <= m.Select[i-1].Last {
				t.Errorf("%q: ranges %v", s, m.Select)
			}
		}
		link := m.Link()
		if strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q became %q", s, link)
		}
		if again, err := ParseMagnet(link); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%q\nbecame %+v\nfrom   %+v: %v", link, again, m, err)
		}
	})
}

func TestTorrentMagnet(t *testing.T) {
	tor := Torrent{Name: "a b&c+é\r\n", InfoHash: [20]byte{0xab, 19: 0x01}, Trackers: [][]string{{"http://a/?x=1&y=2"}, {"udp://b:1"}}}
	want := "magnet:?xt=urn:btih:ab00000000000000000000000000000000000001&dn=a%20b%26c%2B%C3%A9%0D%0A" +
		"&tr=http%3A%2F%2Fa%2F%3Fx%3D1%26y%3D2&tr=udp%3A%2F%2Fb%3A1"
	if got := tor.Magnet(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	tor.InfoHashV2[31] = 0xcd
	u, err := url.Parse(tor.Magnet())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if got := fmt.Sprint(q["xt"]); got != "[urn:btih:ab00000000000000000000000000000000000001 urn:btmh:1220"+strings.Repeat("0", 62)+"cd]" {
		t.Error(got)
	}
	if q.Get("dn") != tor.Name || fmt.Sprint(q["tr"]) != "[http://a/?x=1&y=2 udp://b:1]" {
		t.Errorf("name %q, trackers %q", q.Get("dn"), q["tr"])
	}
}
