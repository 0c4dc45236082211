package discover

import (
	"reflect"
	"strings"
	"testing"
)

const (
	hashText = "0123456789abcdef0123456789ABCDEF01234567"
	search   = "BT-SEARCH * HTTP/1.1\r\n"
	group    = "239.192.152.143:6771"
)

var hash = [20]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67}

func TestAnnouncementAppend(t *testing.T) {
	a := announcement{port: 6881, hashes: [][20]byte{hash, {}}, cookie: "c"}
	want := search + "Host: " + group + "\r\nPort: 6881\r\nInfohash: " + strings.ToLower(hashText) +
		"\r\nInfohash: " + strings.Repeat("0", 40) + "\r\ncookie: c\r\n\r\n\r\n"
	if got := string(a.append(nil, group)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	a = announcement{port: 65535, hashes: make([][20]byte, maxHashes), cookie: strings.Repeat("c", maxCookie)}
	if n := len(a.append(nil, lsdGroups[1].String())); n > maxAnnouncement {
		t.Errorf("the largest has %d bytes", n)
	}
}

func TestParseAnnouncement(t *testing.T) {
	one := [][20]byte{hash}
	ih := "Infohash: " + hashText + "\r\n"
	for _, tt := range []struct {
		name, in string
		want     announcement // zero: refused
	}{
		{"libtorrent", search + "Host: " + group + "\r\nPort: 6881\r\n" + ih + "cookie: 1a2b\r\n\r\n\r\n", announcement{6881, one, "1a2b"}},
		{"without a cookie", search + "Host: " + group + "\r\nPort: 6881\r\n" + ih + "\r\n\r\n", announcement{6881, one, ""}},
		{"several hashes", search + "Port: 1\r\n" + ih + ih + "\r\n\r\n", announcement{1, [][20]byte{hash, hash}, ""}},
		{"bare line ends, other case, other order", "bt-search * HTTP/1.1\nINFOHASH:" + hashText + "\nX: y\nport:7", announcement{7, one, ""}},
		{"junk headers", search + "Port: 1\r\njunk\r\n: x\r\nInfohash: x\r\n" + ih, announcement{1, one, ""}},
		{"too many hashes", search + "Port: 1\n" + strings.Repeat("Infohash:"+hashText+"\n", 26), announcement{1, repeat(hash, maxHashes), ""}},
		{"a long cookie", search + "Port: 1\r\n" + ih + "cookie: " + strings.Repeat("c", maxCookie+1) + "\r\n\r\n", announcement{1, one, ""}},
		{"something behind the end", search + "Port: 1\r\n" + ih + "\r\nPort: 2\r\n", announcement{1, one, ""}},
		{"empty", "", announcement{}},
		{"another method", "NOTIFY * HTTP/1.1\r\nPort: 1\r\n" + ih, announcement{}},
		{"no port", search + ih, announcement{}},
		{"port 0", search + "Port: 0\r\n" + ih, announcement{}},
		{"port too large", search + "Port: 65536\r\n" + ih, announcement{}},
		{"negative port", search + "Port: -1\r\n" + ih, announcement{}},
		{"no hash", search + "Port: 1\r\n\r\n", announcement{}},
		{"short hash", search + "Port: 1\r\nInfohash: " + hashText[1:] + "\r\n", announcement{}},
		{"not hexadecimal", search + "Port: 1\r\nInfohash: " + strings.Repeat("x", 40) + "\r\n", announcement{}},
		{"too long", search + "Port: 1\r\n" + ih + strings.Repeat("x", maxAnnouncement), announcement{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseAnnouncement([]byte(tt.in))
			if want := tt.want.port != 0; ok != want {
				t.Fatalf("ok %v", ok)
			}
			if ok && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func repeat(hash [20]byte, n int) (out [][20]byte) {
	for range n {
		out = append(out, hash)
	}
	return out
}

// FuzzAnnouncement: what is read of a datagram is bounded, and what is written of it is read as the same.
func FuzzAnnouncement(f *testing.F) {
	f.Add([]byte(search + "Host: " + group + "\r\nPort: 6881\r\nInfohash: " + hashText + "\r\ncookie: 1a2b\r\n\r\n\r\n"))
	f.Add([]byte("bt-search\nport:1\ninfohash:" + hashText + "\ninfohash:" + hashText))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, ok := parseAnnouncement(in)
		if !ok {
			return
		}
		if a.port == 0 || len(a.hashes) == 0 || len(a.hashes) > maxHashes || len(a.cookie) > maxCookie {
			t.Errorf("%q became %+v", in, a)
		}
		out := a.append(nil, lsdGroups[1].String())
		if again, ok := parseAnnouncement(out); !ok || !reflect.DeepEqual(again, a) {
			t.Errorf("%q became %+v and then %+v", in, a, again)
		}
	})
}
