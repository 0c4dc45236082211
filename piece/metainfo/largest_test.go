//go:build !race

package metainfo

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/bencode"
)

// Large torrents are loaded or refused within 5 s and 512 MiB; really within far less. It is one goroutine, of which the race
// detector would have nothing to say for minutes.
func TestScale(t *testing.T) {
	one := func(int) []string { return []string{"same"} }
	for _, tt := range []struct {
		name   string
		in     []byte
		reason string // why it is refused; "" if it is not
	}{
		{"200,000 files", manyFiles(200_000, usual), ""},
		{"200,000 files in one folder", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprint(i)} }), ""},
		{"200,000 folders", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprint(i), "a"} }), ""},
		{"two million folders below one another", manyFiles(25_000, func(i int) []string { return slices.Repeat([]string{fmt.Sprint(i)}, 90) }), "too many folders"},
		{"long folders below one another", manyFiles(20_000, func(i int) []string {
			return slices.Repeat([]string{fmt.Sprint(strings.Repeat("x", 220), i)}, 13)
		}), "too many folders"},
		{"200,000 names of Unicode", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprintf("Größe É 日本 %d", i)} }), ""},
		{"200,000 long names of Unicode", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprint(strings.Repeat("\u1f88", 70), i)} }), ""},
		{"500 duplicates of one name", manyFiles(500, one), ""},
		{"501 duplicates of one name", manyFiles(501, one), `more than 500 files are named "same"`},
		{"16,384 duplicates of one name", manyFiles(16_384, one), "more than 500"},
		{"16,384 duplicates of 40 names", manyFiles(16_384, func(i int) []string { return []string{fmt.Sprintf("name %d", i%40)} }), ""},
		{"200,000 duplicates of 400 names", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprint(i % 400)} }), ""},
		{"200,000 duplicates of parts", manyFiles(200_000, func(i int) []string {
			if i < 400 {
				return []string{fmt.Sprint(i, ".part")}
			}
			return []string{fmt.Sprint(i%400, "")}
		}), ""},
		{"200,000 names to be changed", manyFiles(200_000, func(i int) []string { return []string{fmt.Sprintf("\x1b\xff%d", i)} }), ""},
		{"2,000,000 pieces", manyPieces(2_000_000), ""},
		{"2,097,152 pieces", manyPieces(2_097_152), ""},
		{"2,097,153 pieces", manyPieces(2_097_153), "more than 2097152"},
		{"a million empty dictionaries", single(func(_, i dict) { delete(i, "length"); i["files"] = empties(1_000_000) }), "file 1: the length"},
		{"more tokens than the limit", single(func(top, _ dict) { top["x"] = empties(3_000_000) }), "too many elements"},
		{"a million folders deep in a file tree", single(func(_, i dict) {
			i["meta version"], i["piece length"], i["pieces"], i["file tree"] = 2, 16384, make([]byte, 20), deep(90, 1_000_000)
		}), "fewer files"},
		{"a name of 40 MB", single(func(_, i dict) { i["name"] = strings.Repeat("é\x1b", 13<<20) }), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			tor, err := Parse(tt.in)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if tt.reason == "" && err != nil || tt.reason != "" && (err == nil || !strings.Contains(err.Error(), tt.reason)) {
				t.Errorf("got %v, want %q", err, tt.reason)
			}
			if n := after.TotalAlloc - before.TotalAlloc; took > slack*5*time.Second || n > 512<<20 {
				t.Errorf("took %v and %d MiB", took, n>>20)
			}
			switch {
			case err != nil:
			case len(tor.Files) < 50_000:
				checkLaws(t, tor)
			default: // that would take longer than parsing
				all := paths(tor)
				slices.Sort(all)
				if n := len(slices.Compact(all)); n != len(tor.Files) {
					t.Errorf("%d paths for %d files", n, len(tor.Files))
				}
			}
		})
	}
}

// empties returns n empty dictionaries, encoded.
func empties(n int) bencode.Value {
	list := "l" + strings.Repeat("de", n) + "e"
	v, err := bencode.DecodeTolerant([]byte(list), bencode.Limits{Tokens: n + 1})
	if err != nil {
		panic(err)
	}
	return v
}

// deep returns a dictionary depth levels deep with n empty ones at the bottom, in an order
// that must be sorted to find that none stands there twice.
func deep(depth, n int) bencode.Value {
	in := []byte(strings.Repeat("d1:a", depth) + "d")
	for i := n; i > 0; i-- {
		in = append(bencode.AppendString(in, fmt.Sprint(i)), "de"...)
	}
	v, err := bencode.DecodeTolerant(append(in, strings.Repeat("e", depth+1)...), bencode.Limits{})
	if err != nil {
		panic(err)
	}
	return v
}
