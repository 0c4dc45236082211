package bencode

import (
	"fmt"
	"testing"
)

// torrent is a document with the shape of a torrent of n files.
func torrent(n int) []byte {
	in := []byte("d8:announce23:http://tracker.test/ann4:infod5:filesl")
	for i := range n {
		in = AppendInt(append(in, "d6:length"...), int64(i))
		in = AppendString(append(in, "4:pathl"...), fmt.Sprintf("folder %d", i/100))
		in = append(AppendString(in, fmt.Sprintf("file %d", i)), "ee"...)
	}
	in = append(in, "e4:name4:root12:piece lengthi16384e6:pieces"...)
	return append(AppendString(in, make([]byte, 20*n)), "ee"...)
}

func BenchmarkDecode(b *testing.B) {
	query := []byte("d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe")
	for _, bb := range []struct {
		name string
		in   []byte
	}{{"query", query}, {"files=100", torrent(100)}, {"files=100000", torrent(100_000)}} {
		b.Run("canonical/"+bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(bb.in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("tolerant/"+bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeTolerant(bb.in, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	in := torrent(10_000)
	v, err := Decode(in)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		walk(v)
	}
}

func BenchmarkAppend(b *testing.B) {
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = AppendString(AppendInt(buf[:0], 123456), "a short string")
	}
}

// Decoding and walking a sorted document allocate nothing.
func TestNoAllocation(t *testing.T) {
	in := torrent(50)
	for name, f := range map[string]func(){
		"canonical": func() { Decode(in) },
		"tolerant":  func() { DecodeTolerant(in, Limits{}) },
		"walk": func() {
			v, _, _ := DecodePrefix(in, Limits{})
			files := v.Get("info").Get("files")
			for file := range files.List() {
				for _, e := range file.Dict() {
					e.Int()
					e.Bytes()
				}
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
