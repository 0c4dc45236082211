//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFaultFileTooLarge: a limit of the file system or the user ends the download with exit status 6
// and the path; once it is lifted the same command goes on.
func TestFaultFileTooLarge(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 4*mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
	get := limited(t, "-f 2048", args...) // 1 MiB: sh counts in blocks of 512 bytes
	get.exits(t, 6, 10*time.Second)
	if s := lastLine(get.err.String()); !strings.Contains(s, "payload") {
		t.Errorf("the error does not name the file: %q", s)
	}
	run(t, args...).exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
}

// TestFaultVanished: a file that is taken away, cut short or replaced while it is written is an
// error, never a success.
func TestFaultVanished(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(part string) error
	}{
		{"removed", os.Remove},
		{"emptied", func(part string) error { return os.Truncate(part, 0) }},
		{"replaced", func(part string) error {
			if err := os.Rename(part, part+".old"); err != nil {
				return err
			}
			return os.WriteFile(part, nil, 0o644)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 4*mib, 64*kib)
			p := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
			dir := t.TempDir()
			args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
			get := run(t, args...)
			part := filepath.Join(dir, "payload.part")
			await(t, 10*time.Second, "half of the content", func() bool {
				_, err := os.Stat(part)
				return err == nil && p.blocksServed() == x.blocks()/2
			})
			if err := tt.damage(part); err != nil {
				t.Fatal(err)
			}
			p.release()
			get.exits(t, 6, 20*time.Second)
			absent(t, dir, "payload")
			run(t, args...).exits(t, 0, 20*time.Second)
			x.isIn(t, dir)
		})
	}
}

// TestFaultFullDisk: on a full disk the download ends within seconds with exit status 6 and the
// path; once there is room the same command goes on without fetching again what it has.
func TestFaultFullDisk(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := newFixture("payload", 8*mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	dir := t.TempDir()
	mount(t, dir, "-t", "tmpfs", "-o", "size=4m", "none")
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() }) // it is gone with the namespace at the latest
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String()}
	get := run(t, args...)
	get.exits(t, 6, 10*time.Second)
	if s := lastLine(get.err.String()); !strings.Contains(s, "payload") || !strings.Contains(s, "space") {
		t.Errorf("the error does not say what is wrong where: %q", s)
	}
	absent(t, dir, "payload")
	full := p.blocksServed()
	mount(t, dir, "-o", "remount,size=32m", "none")
	run(t, args...).exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
	// All but the last megabyte of the four that had room must have been kept.
	if more := p.blocksServed() - full; more > x.blocks()*5/8 {
		t.Errorf("%d of %d blocks were fetched after there was room", more, x.blocks())
	}
}

// TestFaultReadOnlyDisk: a target that cannot be written is exit status 6 before a peer is asked
// for anything.
func TestFaultReadOnlyDisk(t *testing.T) {
	if !isolated(t) {
		return
	}
	x := newFixture("payload", mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{})
	dir := t.TempDir()
	mount(t, dir, "-t", "tmpfs", "-o", "ro", "none")
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() }) // as above
	get := run(t, "get", x.torrent(t), "-d", dir, "--peer", p.addr.String())
	get.exits(t, 6, 10*time.Second)
	if s := lastLine(get.err.String()); !strings.Contains(s, "read-only") {
		t.Errorf("the error does not say why: %q", s)
	}
}

// mount runs mount with dir as its last argument.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
}
