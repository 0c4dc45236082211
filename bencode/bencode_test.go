package bencode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Which inputs each mode takes. canonical implies tolerant.
func TestModes(t *testing.T) {
	const canonical, tolerant, neither = 2, 1, 0
	for _, tt := range []struct {
		name, in string
		want     int
	}{
		{"zero", "i0e", canonical},
		{"negative", "i-7e", canonical},
		{"greatest", "i9223372036854775807e", canonical},
		{"least", "i-9223372036854775808e", canonical},
		{"above the greatest", "i9223372036854775808e", neither},
		{"below the least", "i-9223372036854775809e", neither},
		{"wraps 64 bits", "i18446744073709551617e", neither},
		{"forty digits", "i" + strings.Repeat("1", 40) + "e", neither},
		{"minus zero", "i-0e", tolerant},
		{"leading zero", "i03e", tolerant},
		{"leading zero behind a minus", "i-03e", tolerant},
		{"no digits", "ie", neither},
		{"only a minus", "i-e", neither},
		{"two minuses", "i--1e", neither},
		{"plus", "i+1e", neither},
		{"blank", "i 1e", neither},
		{"fraction", "i1.5e", neither},
		{"integer without end", "i12", neither},
		{"integer cut behind i", "i", neither},
		{"empty string", "0:", canonical},
		{"string", "4:spam", canonical},
		{"string of any bytes", "3:\x00\xff:", canonical},
		{"string too short", "5:spam", neither},
		{"length with a leading zero", "04:spam", neither},
		{"two zeros", "00:", neither},
		{"negative length", "-1:a", neither},
		{"length without colon", "4spam", neither},
		{"length alone", "4", neither},
		{"length of 2 GiB", "2147483648:a", neither},
		{"length that wraps 32 bits", "4294967297:a", neither},
		{"length that wraps 64 bits", "18446744073709551617:a", neither},
		{"length of forty digits", strings.Repeat("9", 40) + ":a", neither},
		{"greatest length", "9223372036854775807:", neither},
		{"empty list", "le", canonical},
		{"list", "l4:spami3elee", canonical},
		{"list without end", "l4:spam", neither},
		{"only an end", "e", neither},
		{"empty dictionary", "de", canonical},
		{"dictionary", "d3:cow3:moo4:spam4:eggse", canonical},
		{"empty key", "d0:i1e1:ai2ee", canonical},
		{"key that is a prefix", "d1:ai1e2:abi2ee", canonical},
		{"unsorted", "d4:spam4:eggs3:cow3:mooe", tolerant},
		{"key twice", "d1:ai1e1:ai2ee", tolerant},
		{"empty key twice", "d0:i1e0:i2ee", tolerant},
		{"unsorted further in", "ld1:bi1e1:ai2eee", tolerant},
		{"key without value", "d1:ae", neither},
		{"integer as key", "di1ei2ee", neither},
		{"list as key", "dlei2ee", neither},
		{"dictionary without end", "d1:ai1e", neither},
		{"nothing", "", neither},
		{"newline", "i1e\n", tolerant},
		{"newline of Windows", "i1e\r\n", tolerant},
		{"two newlines", "i1e\n\n", neither},
		{"carriage return", "i1e\r", neither},
		{"newline before", "\ni1e", neither},
		{"two values", "i1ei2e", neither},
		{"page", "<!DOCTYPE html><html></html>", neither},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00", neither},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := neither
			_, errT := DecodeTolerant([]byte(tt.in), Limits{})
			_, errC := Decode([]byte(tt.in))
			if errT == nil {
				got = tolerant
			}
			if errC == nil {
				got++
			}
			if got != tt.want || (errC == nil && errT != nil) {
				t.Errorf("%q: canonical %v, tolerant %v; want mode %d", tt.in, errC, errT, tt.want)
			}
			for _, err := range []error{errT, errC} {
				if se := (*SyntaxError)(nil); err != nil && (!errors.As(err, &se) || se.Offset < 0 || se.Offset > int64(len(tt.in))) {
					t.Errorf("%q: error %#v is no SyntaxError inside the input", tt.in, err)
				}
			}
		})
	}
}

// Truncated anywhere, a document is refused, and the offset says where it ends or which
// string is too long for it.
func TestTruncated(t *testing.T) {
	whole := []byte("d8:announce10:http://a/b4:infod5:filesld6:lengthi12eee4:name1:xe4:numsli1ei-2eee")
	if _, err := Decode(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		for mode, decode := range map[string]func([]byte) error{
			"canonical": func(in []byte) error { _, err := Decode(in); return err },
			"tolerant":  func(in []byte) error { _, err := DecodeTolerant(in, Limits{}); return err },
		} {
			if err := decode(whole[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d were accepted", mode, n, len(whole))
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := Decode([]byte("d1:ai1e1:ai2ee"))
	if got, want := fmt.Sprint(err), "bencode: byte 7: keys not sorted, or one twice"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = Decode([]byte("i1ex"))
	if got, want := fmt.Sprint(err), "bencode: byte 3: data after the value"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("l", n) + strings.Repeat("e", n) }
	for _, tt := range []struct {
		name string
		in   string
		lim  Limits
		ok   bool
	}{
		{"default depth", nest(DefaultDepth), Limits{}, true},
		{"one deeper", nest(DefaultDepth + 1), Limits{}, false},
		{"dictionaries count too", strings.Repeat("d0:", 101) + "0:" + strings.Repeat("e", 101), Limits{}, false},
		{"own depth", nest(10), Limits{Depth: 10}, true},
		{"own depth, one deeper", nest(11), Limits{Depth: 10}, false},
		{"depth is of nesting, not of lists", "l" + strings.Repeat("le", 500) + "e", Limits{Depth: 2}, true},
		{"depth has a ceiling", nest(maxDepth), Limits{Depth: 1 << 30}, true},
		{"above the ceiling", nest(maxDepth + 1), Limits{Depth: 1 << 30}, false},
		{"a million lists, unclosed", strings.Repeat("l", 1e6), Limits{Depth: 1 << 30}, false},
		{"a million dictionaries, unclosed", strings.Repeat("d0:", 1e6), Limits{}, false},
		{"a million lists in a dictionary", "d1:a" + nest(1e6) + "e", Limits{}, false},
		{"a token each", "li1ei2e1:ae", Limits{Tokens: 4}, true},
		{"one token too many", "li1ei2e1:ae", Limits{Tokens: 3}, false},
		{"keys are tokens", "d1:ai1ee", Limits{Tokens: 3}, true},
		{"keys are tokens, one too many", "d1:ai1ee", Limits{Tokens: 2}, false},
		{"key that is one too many", "d1:ai1ee", Limits{Tokens: 1}, false},
		{"default tokens", "l" + strings.Repeat("0:", DefaultTokens-1) + "e", Limits{}, true},
		{"above the default tokens", "l" + strings.Repeat("0:", DefaultTokens) + "e", Limits{}, false},
		{"size", "4:spam", Limits{Size: 6}, true},
		{"size, newline apart", "4:spam\n", Limits{Size: 6}, true},
		{"one byte too large", "4:spam", Limits{Size: 5}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := DecodeTolerant([]byte(tt.in), tt.lim)
			if (err == nil) != tt.ok {
				t.Errorf("error %v, want accepted = %v", err, tt.ok)
			}
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	if _, err := Decode(AppendString(nil, make([]byte, DefaultSize))); err == nil {
		t.Error("a value above the default size was accepted")
	}
}

func TestDecodePrefix(t *testing.T) {
	in := []byte("d8:msg_typei1e5:piecei0eeDATA\n")
	v, rest, err := DecodePrefix(in, Limits{})
	if err != nil || string(rest) != "DATA\n" || string(v.Raw()) != "d8:msg_typei1e5:piecei0ee" {
		t.Fatalf("got %q, rest %q, %v", v.Raw(), rest, err)
	}
	if cap(v.Raw()) != len(v.Raw()) {
		t.Error("appending to the raw span would overwrite what follows it")
	}
	if _, rest, err = DecodePrefix([]byte("x"), Limits{}); err == nil || rest != nil {
		t.Errorf("rest %q, %v; want an error and no rest", rest, err)
	}
	if _, _, err = DecodePrefix([]byte("4:spammm"), Limits{Size: 5}); err == nil {
		t.Error("a value above the size limit was accepted")
	}
}

// A length is never trusted: what a refused document costs does not depend on what it claims.
func TestRefusalIsCheap(t *testing.T) {
	for _, in := range []string{"9223372036854775807:", "1099511627776:", "l2147483647:", strings.Repeat("l", 1e6)} {
		doc := []byte(in)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeTolerant(doc, Limits{})
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.20q was accepted", in)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("%.20q took %d bytes to refuse", in, n)
		}
	}
}

// What trackers, routers and other clients have really sent or shipped.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/*.ben")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		in, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := DecodeTolerant(in, Limits{})
		_, errC := Decode(in)
		bad := strings.HasPrefix(filepath.Base(name), "bad-")
		odd := strings.HasPrefix(filepath.Base(name), "odd-")
		if (err != nil) != bad {
			t.Errorf("%s: tolerant says %v", name, err)
		}
		if (errC != nil) != (bad || odd) {
			t.Errorf("%s: canonical says %v", name, errC)
		}
		if err == nil && !bytes.HasPrefix(in, v.Raw()) {
			t.Errorf("%s: the raw span is not what stands in the file", name)
		}
	}
}
