package core

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A rig drives one core by hand: the test is the shell and all the peers. Effects are written as
// short words, so that a test reads like a log.
type rig struct {
	t        *testing.T
	c        *Core
	now      time.Time
	got      []string       // effects since the last want
	keep     []string       // set aside by failAll
	count    map[uint32]int // written blocks of each piece, of lie
	asks     []piece.Block  // requests we sent, of all links, in order
	requests []Effect       // the same, with whom they went to
	exts     []Effect       // extended messages we sent, but for handshakes
	see      func(Effect)   // looks at every effect; may be nil
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func layoutOf(t testing.TB, total, pieceLength int64) piece.Layout {
	t.Helper()
	l, err := piece.NewLayout(total, pieceLength)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	if cfg.Layout.Pieces() == 0 {
		cfg.Layout = layoutOf(t, mib, 64*kib)
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(1, 2))
	}
	if cfg.SuperSeed == SuperAuto {
		cfg.SuperSeed = SuperNever // most tests are about an ordinary seed
	}
	copy(cfg.PeerID[:], "-BN0000-mmmmmmmmmmmm")
	r := &rig{t: t, now: epoch}
	r.c = New(r.now, cfg)
	return r
}

// handle hands an event to the core and keeps what it does.
func (r *rig) handle(ev Event) {
	for _, e := range r.c.Handle(r.now, ev) {
		if r.see != nil {
			r.see(e)
		}
		if e.Op == Send && e.Msg.ID == wire.Request {
			r.requests = append(r.requests, e)
			r.asks = append(r.asks, piece.Block{Piece: e.Msg.Index, Begin: e.Msg.Begin, Length: e.Msg.Length})
		}
		if e.Op == Send && e.Msg.ID == wire.Extended && e.Msg.ExtID != 0 {
			r.exts = append(r.exts, e)
		}
		r.got = append(r.got, word(e))
	}
}

// word names an effect.
func word(e Effect) string {
	switch e.Op {
	case Send:
		return fmt.Sprintf("%d:%v", e.Link, e.Msg.ID)
	case Write:
		return "write"
	case Forget:
		return "forget"
	case Explain:
		return "note"
	case Release:
		return "release"
	case ReadBlock:
		return fmt.Sprintf("%d:read", e.Link)
	case Dial:
		return "dial " + e.Addr.String()
	case Node:
		return "node " + e.Addr.String()
	case Drop:
		return fmt.Sprintf("%d:drop %v", e.Link, e.Err)
	case Done:
		return "done " + e.Outcome.String()
	case Completed:
		return "completed"
	}
	return "?"
}

// want checks the effects since the last want: "3x 1:request" is three in a row, and the words
// are separated by commas.
func (r *rig) want(why, words string) {
	r.t.Helper()
	got := squeeze(r.got)
	r.got = nil
	if got != words {
		r.t.Errorf("%s:\n got %s\nwant %s", why, got, words)
	}
}

// squeeze writes runs of the same word once.
func squeeze(words []string) string {
	var out []string
	for i := 0; i < len(words); {
		n := i
		for n < len(words) && words[n] == words[i] {
			n++
		}
		w := words[i]
		if n-i > 1 {
			w = fmt.Sprintf("%dx %s", n-i, w)
		}
		out = append(out, w)
		i = n
	}
	return strings.Join(out, ", ")
}

func (r *rig) forget() { r.got = nil }

// tick lets time pass, with a Tick whenever the core wants one.
func (r *rig) tick(d time.Duration) {
	end := r.now.Add(d)
	for {
		next := r.c.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(r.now) {
			r.now = next
		}
		r.handle(Event{Op: Tick})
		if again := r.c.Next(); again.Equal(next) {
			r.t.Fatalf("tick at %v did nothing about what was due", next.Sub(epoch))
		}
	}
	r.now = end
}

// remote describes the peer behind link id, at an address of its own.
func remote(id LinkID) *Remote {
	r := &Remote{Addr: addr(int(id)), Outgoing: true}
	copy(r.ID[:], fmt.Sprintf("-XX0000-%012d", id))
	return r
}

func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 6881)
}

func (r *rig) join(id LinkID) { r.handle(Event{Op: Joined, Link: id, Remote: remote(id)}) }

func (r *rig) msg(id LinkID, m wire.Message) { r.handle(Event{Op: Message, Link: id, Msg: m}) }

func (r *rig) say(id LinkID, m wire.ID) { r.msg(id, wire.Message{ID: m}) }

// seed joins a peer that has everything and unchokes us.
func (r *rig) seed(id LinkID) {
	r.join(id)
	all := piece.NewBitfield(r.c.cfg.Layout.Pieces())
	for i := range all.Len() {
		all.Set(i)
	}
	r.msg(id, wire.Message{ID: wire.Bitfield, Payload: all.Bytes()})
	r.say(id, wire.Unchoke)
}

// block delivers a block.
func (r *rig) block(id LinkID, b piece.Block) {
	r.handle(Event{Op: BlockIn, Link: id, Msg: wire.Message{ID: wire.Piece, Index: b.Piece, Begin: b.Begin, Length: b.Length}})
}

// takeAsks returns and forgets the requests sent so far.
func (r *rig) takeAsks() []piece.Block {
	asks := r.asks
	r.asks = nil
	return asks
}

// all returns every block of a piece.
func (r *rig) all(i int) (bs []piece.Block) {
	for n := range r.c.cfg.Layout.Blocks(i) {
		bs = append(bs, r.c.cfg.Layout.BlockAt(i, n))
	}
	return bs
}

// has reports whether a word is among the effects since the last want.
func (r *rig) has(w string) bool { return slices.Contains(r.got, w) }
