package storage

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// crashEnv, when set, makes TestCrash the process that is killed: it holds the target folder.
const crashEnv = "STORAGE_CRASH_DIR"

func crashFiles() []File {
	return []File{file("T/a", 700*kib), file("T/b", 900*kib+1), file("T/e", 0), file("T/c", 400*kib)}
}

// TestCrash kills a process that downloads, at random moments, until the download is complete.
// What it had reported as verified is there in the next run, and the lock does not stay.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crashChild(t, dir)
		return
	}
	r := newRig(t, "disk", 32*kib, crashFiles()...)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		verified := r.killChild(rng.IntN(14))
		s := r.open(nil)
		have := s.Have()
		for _, p := range verified {
			if !have.Has(p) {
				t.Errorf("round %d: piece %d was verified and is lost", round, p)
			}
		}
		r.kill(s) // so that no record helps
	}
	s := r.open(nil)
	r.complete(s)
	r.close(s)
	for i := range r.cfg.Files {
		r.wantContent(i)
	}
	r.wantNames("T/a", "T/b", "T/c", "T/e")
}

// killChild runs a download in a process of its own and kills it after so many pieces, which
// it returns.
func (r *rig) killChild(after int) (verified []int) {
	r.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), crashEnv+"="+r.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for range after + 1 {
		var p int
		if _, err := fmt.Fscanf(out, "verified %d\n", &p); err != nil {
			break // it is done already
		}
		verified = append(verified, p)
	}
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()         // with that signal
	return verified
}

// crashChild downloads in random order and says which pieces are verified.
func crashChild(t *testing.T, dir string) {
	r := newRig(t, "disk", 32*kib, crashFiles()...)
	r.dir, r.cfg.Dir = dir, dir
	s := r.open(func(c *Config) {
		c.Notify = func(e Event) {
			r.evs.add(e)
			if e.Op == Verified {
				fmt.Fprintf(os.Stdout, "verified %d\n", e.Piece)
			}
		}
	})
	rest := r.rest(s)
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for group := range slices.Chunk(rest, 3) {
		r.giveAndWait(s, group...)
	}
	r.kill(s)
}

// TestStatusNames: the words are a contract with scripts.
func TestStatusNames(t *testing.T) {
	got := strings.Trim(fmt.Sprint([]Status{OK, Missing, Corrupt, Short, Long, Long + 1}), "[]")
	if want := "ok missing corrupt short long Status(5)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
