package compact

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func addrs(in ...string) []netip.AddrPort {
	out := []netip.AddrPort{}
	for _, s := range in {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     []netip.AddrPort
		v4, v6 string
	}{
		{"nothing", nil, "", ""},
		{"one of each", addrs("1.2.3.4:258", "[2001:db8::1]:6881"), "\x01\x02\x03\x04\x01\x02",
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1"},
		{"mapped counts as IPv4", addrs("[::ffff:9.8.7.6]:1"), "\x09\x08\x07\x06\x00\x01", ""},
		{"zone is dropped", addrs("[fe80::1%eth0]:2"), "", "\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02"},
		{"invalid is left out", []netip.AddrPort{{}}, "", ""},
		{"order is kept", addrs("2.2.2.2:2", "1.1.1.1:1"), "\x02\x02\x02\x02\x00\x02\x01\x01\x01\x01\x00\x01", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Append4([]byte("x"), tt.in...); string(got) != "x"+tt.v4 {
				t.Errorf("Append4 = %q, want %q", got, "x"+tt.v4)
			}
			if got := Append6([]byte("x"), tt.in...); string(got) != "x"+tt.v6 {
				t.Errorf("Append6 = %q, want %q", got, "x"+tt.v6)
			}
		})
	}
}

func TestParseKeepsWholeEntries(t *testing.T) {
	four := addrs("1.2.3.4:5", "255.255.255.255:65535", "0.0.0.0:0")
	six := addrs("[2001:db8::1]:6881", "[::]:0")
	raw4, raw6 := Append4(nil, four...), Append6(nil, six...)
	for cut := range len(raw4) + 1 {
		if got := Parse4(raw4[:cut]); !slices.Equal(got, four[:cut/Size4]) {
			t.Errorf("Parse4 of %d bytes = %v", cut, got)
		}
	}
	for cut := range len(raw6) + 1 {
		if got := Parse6(raw6[:cut]); !slices.Equal(got, six[:cut/Size6]) {
			t.Errorf("Parse6 of %d bytes = %v", cut, got)
		}
	}
}

func TestParse6Unmaps(t *testing.T) {
	raw := append(slices.Repeat([]byte{0}, 10), 0xff, 0xff, 1, 2, 3, 4, 0, 9)
	if got, want := Parse6(raw), addrs("1.2.3.4:9"); !slices.Equal(got, want) {
		t.Errorf("Parse6 = %v, want %v", got, want)
	}
}

func TestUsable(t *testing.T) {
	for in, want := range map[string]bool{
		"1.2.3.4:1": true, "127.0.0.1:80": true, "10.0.0.1:65535": true, "[2001:db8::1]:1": true, "[::1]:9": true,
		"1.2.3.4:0": false, "0.0.0.0:1": false, "0.1.2.3:1": false, "224.0.0.1:1": false, "255.255.255.255:1": false,
		"[::]:1": false, "[ff02::1]:1": false, "[::ffff:0.0.0.0]:1": false, "[::ffff:224.0.0.9]:1": false,
	} {
		if got := Usable(netip.MustParseAddrPort(in)); got != want {
			t.Errorf("Usable(%s) = %v, want %v", in, got, want)
		}
	}
	if Usable(netip.AddrPort{}) {
		t.Error("the zero AddrPort is usable")
	}
}

// FuzzParse: what is parsed packs again to the bytes it came from, whole entries only.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07"))
	f.Add(bytes.Repeat([]byte{0xfe}, 40))
	f.Add(append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4, 0, 9))
	f.Fuzz(func(t *testing.T, in []byte) {
		if out := Append4(nil, Parse4(in)...); !bytes.Equal(out, in[:len(in)/Size4*Size4]) {
			t.Errorf("IPv4: %x became %x", in, out)
		}
		got := Parse6(in)
		if len(got) != len(in)/Size6 {
			t.Errorf("%d entries of %d bytes", len(got), len(in))
		}
		for i, a := range got {
			entry := in[i*Size6 : (i+1)*Size6]
			if a.Addr().Is4() { // mapped: comes back in its one form
				if out := Append4(nil, a); !bytes.Equal(out, entry[12:]) {
					t.Errorf("mapped: %x became %x", entry, out)
				}
			} else if out := Append6(nil, a); !bytes.Equal(out, entry) {
				t.Errorf("IPv6: %x became %x", entry, out)
			}
		}
	})
}

func BenchmarkParse4(b *testing.B) {
	raw := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6}, 200)
	b.ReportAllocs()
	for b.Loop() {
		Parse4(raw)
	}
}
