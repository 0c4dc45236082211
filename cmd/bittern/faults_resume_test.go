//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFaultSelectMore: run again with another choice of files, the command adds them to those that
// are there, of which nothing is fetched again.
func TestFaultSelectMore(t *testing.T) {
	t.Parallel()
	const piece = 64 * kib
	x := newFolder("album", piece, file{"one", 5 * piece}, file{"two", 5*piece + 100}, file{"three", 6 * piece})
	p := newPeer(t, x, "127.0.0.1", script{})
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
	run(t, append(args, "--select", "one")...).exits(t, 0, 10*time.Second)
	if n := len(p.piecesAsked()); n != 5 {
		t.Errorf("%d pieces were fetched for the first file, want 5", n)
	}
	absent(t, dir, "album", "two")
	absent(t, dir, "album", "three")
	run(t, append(args, "--select", "3")...).exits(t, 0, 10*time.Second)
	if n := len(p.piecesAsked()); n != 7 { // six, begun inside the last of the second file
		t.Errorf("%d pieces were fetched for the third file, want 7", n)
	}
	absent(t, dir, "album", "two")
	run(t, args...).exits(t, 0, 10*time.Second)
	again := p.piecesAsked()
	if n := len(again); n < 5 || n > 6 { // the piece it shares is there already, beside the files
		t.Errorf("%d pieces were fetched for the second file, want 5 or 6", n)
	}
	for i := range again {
		if i < 5 || i > 10 {
			t.Errorf("piece %d was fetched again", i)
		}
	}
	x.isAloneIn(t, dir)
}

// TestFaultResumeRecord: a resume record that is broken is not believed, whether or not the content
// changed with it.
func TestFaultResumeRecord(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(record []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut short", func(b []byte) []byte { return b[:len(b)/2] }},
		{"one bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"says that it has the rest", func(b []byte) []byte { // the bits of 32 pieces stand before a checksum
			for i := range 4 {
				b[len(b)-24+i] ^= 0xff
			}
			return b
		}},
		{"noise", func([]byte) []byte { return bytes.Repeat([]byte{0x93, 'd', 'l'}, 1000) }},
	} {
		for _, spoiled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, content spoiled: %t", tt.name, spoiled), func(t *testing.T) {
				t.Parallel()
				x := newFixture("payload", 2*mib, 64*kib)
				p := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
				dir := t.TempDir()
				args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
				get := run(t, args...)
				await(t, 20*time.Second, "half of the content", func() bool { return p.blocksServed() == x.blocks()/2 })
				get.cmd.Process.Signal(syscall.SIGINT)
				get.exits(t, 130, 3*time.Second)
				path := filepath.Join(dir, ".payload.bittern-resume")
				record, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, string(tt.change(record)), path)
				if spoiled {
					spoil(t, filepath.Join(dir, "payload.part"), 1000)
				}
				p.release()
				run(t, args...).exits(t, 0, 30*time.Second)
				x.isAloneIn(t, dir)
			})
		}
	}
}
