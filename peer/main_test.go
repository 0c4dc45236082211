package peer

import (
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// TestMain fails when a test has left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a Conn whose owner and whose peer are the test.
type rig struct {
	t      *testing.T
	c      *Conn
	theirs net.Conn
	in     chan *Batch // what was delivered; unbuffered unless the test says otherwise
	pool   *pool.Pool
}

var plain = wire.Limits{Pieces: 100, Fast: true, Ext: true}

// newRig starts a Conn over an unbuffered pipe. change, if not nil, changes its Config.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	ours, theirs := net.Pipe()
	r := &rig{t: t, theirs: theirs, in: make(chan *Batch), pool: pool.New(wire.MaxBlock, 8)}
	cfg := Config{ID: 7, Limits: plain, Blocks: r.pool, Deliver: func(b *Batch) { r.in <- b }}
	if change != nil {
		change(&cfg)
	}
	r.pool = cfg.Blocks
	r.c = Start(ours, Remote{Addr: addrOf(ours)}, cfg)
	return r
}

// drain reads and ignores what we send to the peer, keep-alives at least.
func (r *rig) drain() { go io.Copy(io.Discard, r.theirs) }

// write sends what the peer says; it returns when all was read.
func (r *rig) write(b []byte) {
	r.t.Helper()
	if _, err := r.theirs.Write(b); err != nil {
		r.t.Errorf("peer cannot write: %v", err)
	}
}

// end waits for the last batch, releases what comes before, and returns the cause.
func (r *rig) end() error {
	r.t.Helper()
	for b := range r.in {
		err := b.Err
		b.ReleaseAll()
		b.Recycle()
		if err != nil {
			_ = r.theirs.Close()
			r.idle()
			return err
		}
	}
	return nil
}

// idle checks that no buffer is missing.
func (r *rig) idle() {
	r.t.Helper()
	if n := r.pool.Outstanding(); n != 0 {
		r.t.Errorf("%d buffers are lent at the end", n)
	}
}

// block returns a piece message and its data.
func block(index, begin uint32, n int) (msg, data []byte) {
	data = make([]byte, n)
	for i := range data {
		data[i] = byte(int(index) + i*7 + i>>8)
	}
	return append(wire.AppendPiece(nil, index, begin, n), data...), data
}

func msg(m wire.Message) []byte { return wire.Append(nil, m) }
