package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bittern/bencode"
	"bittern/peer/compact"
)

func enc(kv ...any) string {
	m := make(map[string]any)
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return string(bencode.Append(nil, m))
}

func TestParseAnnounce(t *testing.T) {
	plain := Response{Interval: defaultInterval, Seeders: -1, Leechers: -1}
	with := func(change func(*Response)) Response { r := plain; change(&r); return r }
	dict := func(ip, port any) any { return map[string]any{"ip": ip, "port": port} }
	for _, tt := range []struct {
		name, body string
		want       Response
	}{
		{"empty dictionary", "de", plain},
		{"trailing line break", "de\r\n", plain},
		{"counts", enc("complete", 3, "incomplete", 4), with(func(r *Response) { r.Seeders, r.Leechers = 3, 4 })},
		{"negative counts", enc("complete", -3, "incomplete", "x"), plain},
		{"interval 0", enc("interval", 0), with(func(r *Response) { r.Interval = time.Minute })},
		{"interval negative", enc("interval", int64(-1)<<62), with(func(r *Response) { r.Interval = time.Minute })},
		{"interval 2^62", enc("interval", int64(1)<<62), with(func(r *Response) { r.Interval = 24 * time.Hour })},
		{"interval as text", enc("interval", "5"), plain},
		{"min interval clamped", enc("min interval", 1), with(func(r *Response) { r.MinInterval = time.Minute })},
		{"min interval 2^62", enc("min interval", int64(1)<<62), with(func(r *Response) { r.MinInterval = 24 * time.Hour })},
		{"warning is escaped", enc("warning message", "\x1b[2Jhi\u202e"), with(func(r *Response) { r.Warning = `\x1b[2Jhi\u202e` })},
		{"tracker id", enc("tracker id", "a&b"), with(func(r *Response) { r.trackerID = "a&b" })},
		{"tracker id too long", enc("tracker id", strings.Repeat("x", 300)), plain},
		{"external ip", enc("external ip", "\x01\x02\x03\x04"), with(func(r *Response) { r.ExternalIP = netip.MustParseAddr("1.2.3.4") })},
		{"external ip of 5 bytes", enc("external ip", "12345"), plain},
		{"compact", enc("peers", "\x01\x02\x03\x04\x00\x05"), with(func(r *Response) { r.Peers = addrs("1.2.3.4:5") })},
		{"compact with a rest", enc("peers", "\x01\x02\x03\x04\x00\x05\x06"), with(func(r *Response) { r.Peers = addrs("1.2.3.4:5") })},
		{"compact port 0 and multicast", enc("peers", "\x01\x02\x03\x04\x00\x00\xe0\x00\x00\x01\x00\x05"), plain},
		{"peers6", enc("peers", "", "peers6", string(compact.Append6(nil, addrs("[2001:db8::1]:6")...))+"rest"),
			with(func(r *Response) { r.Peers = addrs("[2001:db8::1]:6") })},
		{"dictionaries", enc("peers", []any{dict("1.2.3.4", 5), dict("2001:db8::1", 6), dict("::ffff:5.6.7.8", 7)}),
			with(func(r *Response) { r.Peers = addrs("1.2.3.4:5", "[2001:db8::1]:6", "5.6.7.8:7") })},
		{"dictionaries of nonsense", enc("peers", []any{dict("host.example", 5), dict("1.2.3.4", 0), dict("1.2.3.4", 65536),
			dict("1.2.3.4", "80"), dict(7, 7), 5, "x", []any{}, dict("0.0.0.0", 4)}), plain},
		{"peers of a wrong type", enc("peers", 5, "peers6", []any{1}), plain},
		{"our info_hash", enc("info_hash", hashA[:]), plain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAnnounce([]byte(tt.body), hashA)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseAnnounceRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "html": "<html>", "a list": "le", "cut short": "d8:interval", "nested": strings.Repeat("l", 1000) + strings.Repeat("e", 1000),
		"2 GiB string": "d5:peers2147483648:", "another info-hash": enc("info_hash", hashB[:], "peers", "\x01\x02\x03\x04\x00\x05"),
	} {
		if got, err := parseAnnounce([]byte(body), hashA); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: got %+v, %v; want ErrAnswer", name, got, err)
		}
	}
}

func TestAnswerKeepsAtMostSoManyPeers(t *testing.T) {
	var list []any
	for i := range 10_000 {
		list = append(list, map[string]any{"ip": "1.2.3.4", "port": 1 + i})
	}
	for name, body := range map[string]string{
		"compact":      enc("peers", strings.Repeat("\x01\x02\x03\x04\x00\x05", 150_000), "peers6", strings.Repeat("\x20abcdefghijklmnopq", 2000)),
		"dictionaries": enc("peers", list),
	} {
		r, err := parseAnnounce([]byte(body), hashA)
		if err != nil || len(r.Peers) != maxPeers {
			t.Errorf("%s: %d peers, %v; want %d", name, len(r.Peers), err, maxPeers)
		}
	}
}

func TestFailure(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       FailureError
	}{
		{"plain", enc("failure reason", "no"), FailureError{Reason: "no"}},
		{"retry as text", enc("failure reason", "busy", "retry in", "5"), FailureError{Reason: "busy", RetryIn: 5 * time.Minute}},
		{"retry as integer", enc("failure reason", "busy", "retry in", 7), FailureError{Reason: "busy", RetryIn: 7 * time.Minute}},
		{"never", enc("failure reason", "gone", "retry in", "never"), FailureError{Reason: "gone", Never: true}},
		{"2^62 minutes", enc("failure reason", "busy", "retry in", int64(1)<<62), FailureError{Reason: "busy", RetryIn: 24 * time.Hour}},
		{"40 digits", enc("failure reason", "busy", "retry in", strings.Repeat("9", 40)), FailureError{Reason: "busy"}},
		{"negative", enc("failure reason", "busy", "retry in", -5), FailureError{Reason: "busy"}},
		{"not text", enc("failure reason", 5), FailureError{Reason: "no reason given"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseAnnounce([]byte(tt.body), hashA)
			if f, ok := errors.AsType[*FailureError](err); !ok || *f != tt.want {
				t.Errorf("got %+v, want %+v", err, tt.want)
			}
		})
	}
}

func TestLongFailureReason(t *testing.T) {
	for _, unit := range []string{"x", "\x00", "\xff", "\u202e", "é", "\n"} {
		_, err := parseAnnounce([]byte(enc("failure reason", strings.Repeat(unit, 700_000/len(unit)))), hashA)
		f, ok := errors.AsType[*FailureError](err)
		if !ok || len(f.Reason) > maxText || strings.ContainsAny(f.Reason, "\x00\x1b\n") || !utf8.ValidString(f.Reason) || !strings.HasSuffix(f.Reason, "...") {
			t.Errorf("%q: %q", unit, err)
		}
	}
}

func TestParseScrape(t *testing.T) {
	body := enc("files", map[string]any{
		string(hashA[:]): map[string]any{"complete": 11, "downloaded": 13772, "incomplete": 19},
		string(hashB[:]): map[string]any{"complete": -1, "downloaded": "x"},
		"short":          map[string]any{"complete": 1},
	})
	got, err := parseScrape([]byte(body), [][20]byte{hashA, hashB, {7}})
	want := map[[20]byte]Counts{hashA: {11, 19, 13772}, hashB: {}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	// An answer that is only about other torrents is as good as none.
	if got, err = parseScrape([]byte(body), [][20]byte{{7}}); err != nil || len(got) != 0 {
		t.Errorf("another torrent: got %v, %v", got, err)
	}
	if _, err = parseScrape([]byte("de"), [][20]byte{hashA}); !errors.Is(err, ErrAnswer) {
		t.Errorf("no files: %v", err)
	}
}

// FuzzAnnounce: whatever a tracker says, what comes out of it is within its bounds.
func FuzzAnnounce(f *testing.F) {
	f.Add([]byte(enc("interval", 1800, "peers", "\x01\x02\x03\x04\x00\x05", "peers6", "123456789012345678", "tracker id", "x")))
	f.Add([]byte(enc("failure reason", "\x1b]0;x\a", "retry in", "never")))
	f.Add([]byte(enc("peers", []any{map[string]any{"ip": "::1", "port": 6881}}, "warning message", "\u202e")))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseAnnounce(in, hashA)
		if fail, ok := errors.AsType[*FailureError](err); ok {
			checkText(t, fail.Reason)
			if fail.RetryIn != 0 && (fail.RetryIn < minInterval || fail.RetryIn > maxInterval) {
				t.Errorf("retry in %v", fail.RetryIn)
			}
		}
		if err != nil {
			return
		}
		checkText(t, r.Warning)
		if r.Interval < minInterval || r.Interval > maxInterval || r.MinInterval != 0 && (r.MinInterval < minInterval || r.MinInterval > maxInterval) {
			t.Errorf("intervals %v and %v", r.Interval, r.MinInterval)
		}
		if len(r.Peers) > maxPeers || slices.ContainsFunc(r.Peers, func(a netip.AddrPort) bool { return !compact.Usable(a) }) {
			t.Errorf("peers %v", r.Peers)
		}
	})
}

func checkText(t *testing.T, s string) {
	t.Helper()
	if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' }) {
		t.Errorf("unfit to be printed: %q", s)
	}
}
