package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/simnet"
	"bittern/peer/wire"
	"bittern/piece/storage"
)

// newIdle returns a node that is not running yet.
func newIdle(t *testing.T) *node {
	return (&node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 64*kib), n: 1}).open()
}

// A cracked is a connection that panics once so many bytes were read or written.
type cracked struct {
	net.Conn
	reads, writes int // bytes left
}

func (c *cracked) Read(b []byte) (int, error) {
	if c.reads <= 0 {
		panic("cracked at reading")
	}
	n, err := c.Conn.Read(b[:min(len(b), c.reads)])
	c.reads -= n
	return n, err
}

func (c *cracked) Write(b []byte) (int, error) {
	if c.writes -= len(b); c.writes < 0 {
		panic("cracked at writing")
	}
	return c.Conn.Write(b)
}

// bug checks that a panic has ended the node's swarm, and that nothing is left of it.
func (d *node) bug(want any) {
	d.t.Helper()
	_, err := d.end()
	bug, ok := errors.AsType[*PanicError](err)
	if !ok || bug.Value != want || len(bug.Stack) == 0 || bug.Error() == "" {
		d.t.Errorf("Run = %v, want a panic with %v and a stack", err, want)
	}
}

// TestPanicConn has the goroutines of connections and handshakes panic.
func TestPanicConn(t *testing.T) {
	const shaken = wire.HandshakeLen
	for _, tt := range []struct {
		name          string
		reads, writes int
		want          string
	}{
		{"reader", shaken + 100, mib, "cracked at reading"},
		{"writer", mib, shaken + 1, "cracked at writing"},
		{"handshake read", 10, mib, "cracked at reading"},
		{"handshake write", mib, 10, "cracked at writing"},
	} {
		t.Run("accepted "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net0, o := simnet.New(1), newTorrent(t, mib, 64*kib)
				a := seed(t, net0, o, 1)
				a.wrap = func(nc net.Conn) net.Conn { return &cracked{nc, tt.reads, tt.writes} }
				a.start()
				b := (&node{t: t, net: net0, o: o, n: 2}).start(1)
				a.bug(tt.want)
				b.stop()
			})
		})
		t.Run("dialed "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net0, o := simnet.New(1), newTorrent(t, mib, 64*kib)
				a := seed(t, net0, o, 1).start()
				b := &node{t: t, net: net0, o: o, n: 2}
				b.config = func(c *Config) {
					dial := c.Dial
					c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
						nc, err := dial(ctx, to)
						return &cracked{nc, tt.reads, tt.writes}, err
					}
				}
				b.start(1)
				b.bug(tt.want)
				a.until("the peer is gone", func(s core.Snapshot) bool { return s.Peers == 0 })
				a.stop()
			})
		})
	}
}

// TestPanicDial has the dial itself panic.
func TestPanicDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &node{t: t, net: simnet.New(1), o: newTorrent(t, mib, 64*kib), n: 1}
		d.config = func(c *Config) {
			c.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { panic("no dial") }
		}
		d.start(2)
		d.bug("no dial")
	})
}

// TestPanicLoop has the loop panic in the middle of a batch of blocks, and elsewhere.
func TestPanicLoop(t *testing.T) {
	t.Run("completed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			net, o := simnet.New(1), newTorrent(t, mib, 64*kib)
			a := seed(t, net, o, 1).start()
			b := &node{t: t, net: net, o: o, n: 2, core: forever}
			b.config = func(c *Config) { c.Completed = func() { panic("at the end") } }
			b.start(1)
			b.bug("at the end")
			a.stop()
		})
	})
	t.Run("batch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newIdle(t).start()
			var batch peer.Batch // without a connection: the loop meets a nil
			for range 10 {
				batch.Msgs = append(batch.Msgs, peer.Received{Buf: d.s.blocks.TryGet()})
			}
			d.s.in.post(message{batch: &batch})
			if _, err := d.end(); err == nil {
				t.Error("Run has met a batch without a connection and says nothing")
			}
		})
	})
	t.Run("block", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newIdle(t)
			d.s.content.Store = nil // the first block that is to be written meets a nil
			a := seed(t, d.net, d.o, 2).start()
			d.start(2)
			if _, err := d.end(); err == nil {
				t.Error("Run has written to a nil store and says nothing")
			}
			a.stop()
		})
	})
	t.Run("start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newIdle(t)
			d.s.content.Core.Rand = nil
			d.start()
			if _, err := d.end(); err == nil {
				t.Error("Run has started without luck and says nothing")
			}
		})
	})
}

// TestFirstError checks that a later error does not hide the first one.
func TestFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newIdle(t)
		first := errors.New("first")
		d.s.in.Storage(storage.Event{Op: storage.Fault, Err: first})
		d.s.in.Panicked("second", []byte("stack"))
		d.start()
		if _, err := d.end(); err != first {
			t.Errorf("Run = %v, want the first error", err)
		}
	})
}
