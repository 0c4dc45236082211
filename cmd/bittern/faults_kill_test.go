//go:build linux

package main_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// heard is the pieces that the other end says it has.
func (p *peer) heard() map[int]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.haves)
}

// piecesAsked is which pieces were asked for since the last call.
func (p *peer) piecesAsked() map[int]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pieces := map[int]bool{}
	for b := range p.asked {
		pieces[int(b.piece)] = true
	}
	clear(p.asked)
	return pieces
}

// newWitness is a peer that has nothing, so that the command tells it of each piece it verified.
func newWitness(t *testing.T, x *fixture, ip string) *peer {
	t.Helper()
	return newPeer(t, x, ip, script{has: func(int) bool { return false }})
}

// TestFaultKill kills a download at 20 random moments. Run again, it goes on: no piece that it once
// said to have is asked for again, and what each kill costs is bounded.
func TestFaultKill(t *testing.T) {
	t.Parallel()
	const (
		kills = 20
		// lost is how many blocks a kill may cost: four open pieces of four blocks, a slab of 256 KiB
		// for each of four shards, and half a megabyte on its way through the sockets.
		lost = 4*4 + 4*16 + 32
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("random moments from seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := newFixture("payload", 32*mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{quota: 1})
	witness := newWitness(t, x, "127.0.0.2")
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String(), "--peer", witness.addr.String()}
	verified := map[int]bool{}
	again := func() {
		t.Helper()
		for i := range p.piecesAsked() {
			if verified[i] {
				t.Errorf("piece %d was fetched again", i)
			}
		}
		verified = witness.heard()
	}
	for range kills {
		get := run(t, args...)
		more := 20 + rng.IntN(80) // 20 times the most is less than all there is
		goal := p.blocksServed() + more
		p.allow(more)
		await(t, 20*time.Second, "the blocks of this run", func() bool { return p.blocksServed() >= goal })
		<-time.After(time.Duration(rng.IntN(20_000)) * time.Microsecond) // the random moment
		get.kill()
		await(t, 10*time.Second, "its connections are gone", func() bool { return p.open()+witness.open() == 0 })
		again()
	}
	p.release()
	run(t, args...).exits(t, 0, 60*time.Second)
	again()
	x.isAloneIn(t, dir)
	if twice := p.blocksServed() - x.blocks(); twice > kills*lost {
		t.Errorf("%d blocks were served twice, want at most %d a kill", twice, lost)
	}
	t.Logf("%d pieces verified; %d blocks of %d served twice", len(verified), p.blocksServed()-x.blocks(), x.blocks())
}

// TestFaultCorruptedBetweenRuns: a verified range that changed on the disk is not trusted but
// fetched again, whatever way the first run ended.
func TestFaultCorruptedBetweenRuns(t *testing.T) {
	for _, tt := range []struct {
		name string
		sig  syscall.Signal
		code int
	}{{"interrupted", syscall.SIGINT, 130}, {"killed", syscall.SIGKILL, -1}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 4*mib, 64*kib)
			p := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
			witness := newWitness(t, x, "127.0.0.2")
			dir := t.TempDir()
			args := []string{"get", x.torrent(t), "-d", dir, "--peer", p.addr.String(), "--peer", witness.addr.String()}
			get := run(t, args...)
			await(t, 20*time.Second, "20 verified pieces", func() bool { return len(witness.heard()) >= 20 })
			get.cmd.Process.Signal(tt.sig)
			get.exits(t, tt.code, 5*time.Second)
			absent(t, dir, "payload")

			var broken int
			for broken = range witness.heard() {
				break
			}
			spoil(t, filepath.Join(dir, "payload.part"), int64(broken*x.piece+1000))
			p.piecesAsked()
			p.release()
			run(t, args...).exits(t, 0, 30*time.Second)
			x.isAloneIn(t, dir)
			if !p.piecesAsked()[broken] {
				t.Errorf("piece %d was not fetched again", broken)
			}
		})
	}
}

// spoil changes one byte of a file.
func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestFaultInterrupt: SIGINT and SIGTERM end a download within three seconds, the tracker is told,
// and the same command goes on from there.
func TestFaultInterrupt(t *testing.T) {
	for _, tt := range []struct {
		sig  syscall.Signal
		code int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}} {
		t.Run(tt.sig.String(), func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 4*mib, 64*kib)
			p := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
			k := newTracker(t, p.addr)
			dir := t.TempDir()
			args := []string{"get", x.torrent(t, k.url), "-d", dir}
			get := run(t, args...)
			await(t, 20*time.Second, "half of the content", func() bool { return p.blocksServed() == x.blocks()/2 })
			get.cmd.Process.Signal(tt.sig)
			get.exits(t, tt.code, 3*time.Second)
			k.awaits(t, "started", time.Second).counts(t, 0, len(x.data))
			stopped := k.awaits(t, "stopped", time.Second)
			had := len(x.data) - stopped.number(t, "left")
			if had <= 0 || had > len(x.data)/2 {
				t.Errorf("%d bytes verified when it stopped, of %d sent", had, len(x.data)/2)
			}
			if s := get.out.String(); s != "" {
				t.Errorf("stdout says %q", s)
			}
			p.release()
			get = run(t, args...)
			get.exits(t, 0, 30*time.Second)
			x.isAloneIn(t, dir)
			completed := k.awaits(t, "completed", time.Second)
			completed.counts(t, -1, 0)
			if n := completed.number(t, "downloaded"); n < len(x.data)/2 || n > len(x.data)-had {
				t.Errorf("%d bytes downloaded in the second run; %d were left, %d never sent", n, len(x.data)-had, len(x.data)/2)
			}
			if twice := p.blocksServed() - x.blocks(); twice > x.blocks()/4 {
				t.Errorf("%d of %d blocks were served twice", twice, x.blocks())
			}
		})
	}
}

// TestFaultInterruptSeed: a seed ends the same way.
func TestFaultInterruptSeed(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", mib, 64*kib)
	k := newTracker(t)
	dir := t.TempDir()
	x.lay(t, dir)
	was := states(t, dir)
	seed := run(t, "seed", x.torrent(t, k.url), "-d", dir)
	to := k.awaits(t, "started", 10*time.Second).listens(t)
	if err := leech(t.Context(), x, "127.0.0.1", to, 64); err != nil {
		t.Fatal(err)
	}
	seed.cmd.Process.Signal(syscall.SIGINT)
	seed.exits(t, 130, 3*time.Second)
	stopped := k.awaits(t, "stopped", time.Second)
	stopped.counts(t, 0, 0)
	if n := stopped.number(t, "uploaded"); n != len(x.data) {
		t.Errorf("%d bytes uploaded, want %d", n, len(x.data))
	}
	if now := states(t, dir); now != was {
		t.Errorf("was\n%snow\n%s", was, now)
	}
}

// TestFaultInterruptTwice: a second signal ends the command at once, though the tracker holds its
// farewell up.
func TestFaultInterruptTwice(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 4*mib, 64*kib)
	p := newPeer(t, x, "127.0.0.1", script{quota: 8})
	get := run(t, "get", x.torrent(t), "-d", t.TempDir(), "--peer", p.addr.String())
	await(t, 20*time.Second, "some blocks", func() bool { return p.blocksServed() == 8 })
	get.cmd.Process.Signal(syscall.SIGINT)
	get.cmd.Process.Signal(syscall.SIGINT)
	if code := get.wait(t, 3*time.Second); code != 130 && code != -1 {
		t.Errorf("exit status %d, want 130 or death by the signal", code)
	}
}
