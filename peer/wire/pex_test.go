package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addrPorts(in ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range in {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func equalPex(a, b Pex) bool {
	return slices.Equal(a.Added, b.Added) && bytes.Equal(a.Flags, b.Flags) && slices.Equal(a.Dropped, b.Dropped)
}

const (
	raw6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1" // [2001:db8::1]:6881
	raw6b = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x07" // [2001:db8::2]:7
)

var pexExamples = []struct {
	name string
	p    Pex
	raw  string
}{
	{"empty", Pex{}, "de"},
	{"one added", Pex{Added: addrPorts("1.2.3.4:258"), Flags: []byte{PexSeed | PexReachable}},
		"d5:added6:\x01\x02\x03\x04\x01\x027:added.f1:\x12e"},
	{"only dropped", Pex{Dropped: addrPorts("1.2.3.4:5")}, "d7:dropped6:\x01\x02\x03\x04\x00\x05e"},
	{"everything", Pex{
		Added: addrPorts("1.2.3.4:5", "5.6.7.8:9", "[2001:db8::1]:6881"), Flags: []byte{PexEncryption, 0, PexUTP | PexHolepunch},
		Dropped: addrPorts("9.9.9.9:9", "[2001:db8::2]:7"),
	}, "d5:added12:\x01\x02\x03\x04\x00\x05\x05\x06\x07\x08\x00\x097:added.f2:\x01\x00" +
		"6:added618:" + raw6 + "8:added6.f1:\x0c7:dropped6:\x09\x09\x09\x09\x00\x098:dropped618:" + raw6b + "e"},
}

func TestPex(t *testing.T) {
	for _, tt := range pexExamples {
		if got := AppendPex([]byte("x"), tt.p); string(got) != "x"+tt.raw {
			t.Errorf("%s: appended %q, want %q", tt.name, got, "x"+tt.raw)
		}
		if got, err := ParsePex([]byte(tt.raw)); err != nil || !equalPex(got, tt.p) {
			t.Errorf("%s: parsed %+v, %v; want %+v", tt.name, got, err, tt.p)
		}
	}
}

func TestAppendPexSortsFamilies(t *testing.T) {
	p := Pex{Added: append(addrPorts("[2001:db8::1]:6881", "[::ffff:1.2.3.4]:258"), netip.AddrPort{}), Flags: []byte{1, 2, 4}}
	want := "d5:added6:\x01\x02\x03\x04\x01\x027:added.f1:\x026:added618:" + raw6 + "8:added6.f1:\x01e"
	if got := AppendPex(nil, p); string(got) != want {
		t.Errorf("appended %q, want %q", got, want)
	}
}

func TestParsePex(t *testing.T) {
	deep := strings.Repeat("l", 50_000) + strings.Repeat("e", 50_000)
	for _, tt := range []struct {
		name string
		raw  string
		want Pex
		err  error
	}{
		{"no flags", "d5:added6:\x01\x02\x03\x04\x01\x02e", Pex{Added: addrPorts("1.2.3.4:258"), Flags: []byte{0}}, nil},
		{"too few flags", "d5:added12:\x01\x02\x03\x04\x01\x02\x01\x02\x03\x05\x01\x027:added.f1:\x02e",
			Pex{Added: addrPorts("1.2.3.4:258", "1.2.3.5:258"), Flags: []byte{2, 0}}, nil},
		{"too many flags", "d5:added6:\x01\x02\x03\x04\x01\x027:added.f3:\x02\x04\x08e",
			Pex{Added: addrPorts("1.2.3.4:258"), Flags: []byte{2}}, nil},
		{"flags without contacts", "d7:added.f3:\x02\x04\x08e", Pex{}, nil},
		{"cut off entries", "d5:added8:\x01\x02\x03\x04\x01\x02\x01\x026:added617:" + raw6[:17] + "7:dropped1:\x01e",
			Pex{Added: addrPorts("1.2.3.4:258"), Flags: []byte{0}}, nil},
		{"wrong types", "d5:addedi1e7:added.fle6:added6de7:droppedli1ee8:dropped6i0ee", Pex{}, nil},
		{"mapped comes back plain", "d6:added618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x01\x02e",
			Pex{Added: addrPorts("1.2.3.4:258"), Flags: []byte{0}}, nil},
		{"keys that we do not know", "d1:xle7:dropped6:\x01\x02\x03\x04\x00\x05e", Pex{Dropped: addrPorts("1.2.3.4:5")}, nil},
		{"empty", "", Pex{}, ErrPex},
		{"a list", "le", Pex{}, ErrPex},
		{"cut off", "d5:added6:\x01", Pex{}, ErrPex},
		{"deep", "d1:x" + deep + "e", Pex{}, ErrPex},
		{"many elements", "d1:xl" + strings.Repeat("le", 2000) + "ee", Pex{}, ErrPex},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParsePex([]byte(tt.raw))
			if !errors.Is(err, tt.err) || !equalPex(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
	if !errors.Is(ErrPex, ErrProtocol) {
		t.Error("ErrPex is no protocol error")
	}
}

func TestParsePexIsBounded(t *testing.T) {
	var many Pex
	for i := range 5000 {
		many.Added = append(many.Added, netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), 1))
	}
	many.Flags = make([]byte, len(many.Added))
	many.Added = append(many.Added, addrPorts("[2001:db8::1]:6881")...)
	many.Flags = append(many.Flags, 0)
	many.Dropped = many.Added
	raw := AppendPex(nil, many)
	got, err := ParsePex(raw)
	if err != nil || !slices.Equal(got.Added, many.Added[:MaxPex]) || !slices.Equal(got.Dropped, many.Added[:MaxPex]) {
		t.Errorf("%d added, %d dropped, %v; want the first %d of each", len(got.Added), len(got.Dropped), err, MaxPex)
	}
	few := AppendPex(nil, Pex{Added: many.Added[:1], Flags: []byte{0}, Dropped: many.Added[:1]})
	most := testing.AllocsPerRun(10, func() { ParsePex(few) })
	if n := testing.AllocsPerRun(10, func() { ParsePex(raw) }); n > most {
		t.Errorf("%v allocations for %d entries, %v for one", n, len(many.Added), most)
	}
}

// FuzzPex: what is accepted keeps to its bounds and is valid to be sent; what is sent reads back the
// same, and is the only spelling of it.
func FuzzPex(f *testing.F) {
	for _, e := range pexExamples {
		f.Add([]byte(e.raw))
	}
	f.Add([]byte("d6:added618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x01\x02e"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParsePex(in)
		if err != nil {
			return
		}
		if len(p.Added) > MaxPex || len(p.Dropped) > MaxPex || len(p.Flags) != len(p.Added) {
			t.Errorf("%q gave %d added, %d flags, %d dropped", in, len(p.Added), len(p.Flags), len(p.Dropped))
		}
		out := AppendPex(nil, p)
		again, err := ParsePex(out)
		if err != nil || len(again.Added) != len(p.Added) || len(again.Dropped) != len(p.Dropped) {
			t.Fatalf("%q gave %+v, then %+v, %v", in, p, again, err)
		}
		if once := AppendPex(nil, again); !bytes.Equal(once, out) {
			t.Errorf("%q became %q, then %q", in, out, once)
		}
	})
}
