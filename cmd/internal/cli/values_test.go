package cli

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64 // -1 for an error
	}{
		{"0", 0}, {"1", 1}, {"512", 512}, {"512B", 512}, {"512 b", 512},
		{"1K", 1 << 10}, {"1k", 1 << 10}, {"1KB", 1 << 10}, {"1KiB", 1 << 10}, {"16 KiB", 16 << 10},
		{"1M", 1 << 20}, {"2MiB", 2 << 20}, {"1.5G", 3 << 29}, {"1T", 1 << 40}, {".5K", 512},
		{"", -1}, {"K", -1}, {"-1", -1}, {"+1", -1}, {"1X", -1}, {"1iB", 1}, {"1KK", -1}, {"1Kib/s", -1},
		{"0x10", -1}, {"1e3", -1}, {"1_000", -1}, {"inf", -1}, {"nan", -1}, {"9999999999T", -1}, {"1 2", -1},
	} {
		got, err := parseSize(tt.in)
		if err != nil {
			got = -1
		}
		if got != tt.want {
			t.Errorf("%q: got %d (%v), want %d", tt.in, got, err, tt.want)
		}
	}
}

func TestParseRate(t *testing.T) {
	for _, tt := range []struct {
		in       string
		down, up int64 // -2 for an error
	}{
		{"0", 0, 0}, {"0K", 0, 0}, {"1K", 1 << 10, 1 << 10}, {"500k", 500 << 10, 500 << 10}, {"2MiB", 2 << 20, 2 << 20}, {"1.5G", 3 << 29, 3 << 29},
		{"2048", 2048, 2048}, {"off", -2, -1}, {"Off", -2, -2}, {"100", -2, -2}, {"-1", -2, -2}, {"", -2, -2}, {"fast", -2, -2}, {"1M/s", -2, -2},
		{"0.1", -2, -2}, {"0.0001K", -2, -2}, {"0.0", 0, 0},
	} {
		for _, parse := range []struct {
			name string
			of   func(string) (int64, error)
			want int64
		}{{"down", parseRate, tt.down}, {"up", parseUploadRate, tt.up}} {
			got, err := parse.of(tt.in)
			if err != nil {
				got = -2
			}
			if got != parse.want {
				t.Errorf("%q %s: got %d (%v), want %d", tt.in, parse.name, got, err, parse.want)
			}
		}
	}
}

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration // -1 for an error
	}{
		{"90s", 90 * time.Second}, {"5m", 5 * time.Minute}, {"1h30m", 90 * time.Minute}, {"0", 0}, {"90", 90 * time.Second},
		{"1.5", 1500 * time.Millisecond}, {"-1s", -1}, {"-1", -1}, {"", -1}, {"soon", -1}, {"1d", -1}, {"1e300", -1}, {"NaN", -1},
	} {
		got, err := parseDuration(tt.in)
		if err != nil {
			got = -1
		}
		if got != tt.want {
			t.Errorf("%q: got %v (%v), want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, in := range []string{"0", "-1", "x", "", "NaN", "Inf"} {
		if _, err := parseRatio(in); err == nil {
			t.Errorf("ratio %q accepted", in)
		}
		if _, err := parseCount(in); err == nil {
			t.Errorf("count %q accepted", in)
		}
	}
	if r, err := parseRatio("1.5"); err != nil || math.Abs(r-1.5) > 1e-9 {
		t.Errorf("ratio 1.5: %v, %v", r, err)
	}
	if n, err := parseCount("7"); err != nil || n != 7 {
		t.Errorf("count 7: %v, %v", n, err)
	}
}

// TestForms checks what is only checked, not changed.
func TestForms(t *testing.T) {
	listen := func(s string) error { _, err := parseListen(s); return err }
	addr := func(s string) error { _, err := parseInterface(s); return err }
	for _, tt := range []struct {
		name      string
		check     func(string) error
		good, bad string // separated by blanks
	}{
		{"peer", checkPeer, "127.0.0.1:1 [::1]:65535 host.example:6881", "127.0.0.1 ::1:5 :6881 host:0 host:65536 host:http [::1]"},
		{"tracker", checkTracker, "http://a/announce https://a:1/x?y UDP://a:6969", "a ftp://a http:a http:// http:///x file:///x udp://a:1/\x1b udp://a http://a:0 https://a:99999 udp://:1"},
		{"web seed", checkWebSeed, "http://a/ https://a/b", "a udp://a ftp://a/c http://"},
		{"listen", listen, ":0 127.0.0.1:6969 [::]:1 host:80", "80 127.0.0.1 :x :1-2 :70000"},
		{"interface", addr, "127.0.0.1 ::1 fe80::1%lo", "eth0 127.0.0.1:1 1.2.3"},
	} {
		for _, in := range strings.Fields(tt.good) {
			if err := tt.check(in); err != nil {
				t.Errorf("%s %q: %v", tt.name, in, err)
			}
		}
		for _, in := range append(strings.Split(tt.bad, " "), "") {
			if tt.check(in) == nil {
				t.Errorf("%s %q accepted", tt.name, in)
			}
		}
	}
}

// FuzzParseSize: a size that is accepted is not negative, and the same with its unit written out.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"16K", "1.5GiB", "1 b", "9999999999T"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Errorf("%q is %d bytes", s, n)
		}
		if strings.HasSuffix(s, "K") {
			if m, err := parseSize(s + "iB"); err != nil || m != n {
				t.Errorf("%q is %d bytes, with iB %d (%v)", s, n, m, err)
			}
		}
	})
}
