package metainfo

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"bittern/bencode"
)

// manyFiles returns a torrent of n files, a hundred to a folder, of 100 bytes each.
func manyFiles(n int, name func(i int) []string) []byte {
	in := []byte("d4:infod5:filesl")
	for i := range n {
		in = append(in, "d6:lengthi100e4:path"...)
		in = append(bencode.Append(in, name(i)), 'e')
	}
	pieces := (n*100-1)>>14 + 1
	in = append(in, "e4:name4:root12:piece lengthi16384e6:pieces"...)
	return append(bencode.AppendString(in, make([]byte, 20*pieces)), "ee"...)
}

func usual(i int) []string {
	return []string{fmt.Sprintf("folder %d", i/100), fmt.Sprintf("track number %d.flac", i)}
}

// manyPieces returns a torrent of n pieces.
func manyPieces(n int) []byte {
	return single(func(_, info dict) {
		info["length"], info["piece length"], info["pieces"] = int64(n)<<20, 1<<20, make([]byte, 20*n)
	})
}

// What is kept of 100,000 files: 40 bytes a File, its path, and no table.
func TestMemoryOfManyFiles(t *testing.T) {
	in := manyFiles(100_000, usual)
	pathBytes := 0
	for i := range 100_000 {
		pathBytes += len("root/") + len(strings.Join(usual(i), "/"))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tor, err := Parse(in)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 24<<20 {
		t.Errorf("allocated %d KiB in all, want at most 24 MiB", n>>10)
	}
	if n := after.Mallocs - before.Mallocs; n > 20_000 {
		t.Errorf("%d allocations for 100,000 files", n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int(after.HeapAlloc) - int(before.HeapAlloc); kept > 100_000*40+pathBytes+(1<<20) {
		t.Errorf("kept %d KiB, of which paths are %d KiB", kept>>10, pathBytes>>10)
	}
	runtime.KeepAlive(tor)
	runtime.KeepAlive(in)
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct {
		name string
		in   []byte
	}{
		{"files=100000", manyFiles(100_000, usual)},
		{"unicode=100000", manyFiles(100_000, func(i int) []string { return []string{"Größe", fmt.Sprintf("日本語 %d.flac", i)} })},
		{"pieces=262144", manyPieces(262_144)},
		{"single", single(nil)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.in)))
			for b.Loop() {
				if _, err := Parse(bb.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
