//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// A fate is what must become of a peer that did its deed.
type fate int

const (
	spared  fate = iota // it may stay or go
	dropped             // the command closes the connection at once
	banned              // and never calls the peer again
)

// hostilePeers are the misdeeds of a peer that the command itself connects to. Each does its deed
// while an honest seed beside it holds back the end of the content.
var hostilePeers = []struct {
	name   string
	script script
	fate   fate
}{
	// Framing.
	{"length prefix 0xFFFFFFFF", greets(sends(u32(0xffffffff))), dropped},
	{"length prefix 0xFFFFFFFF and what follows", greets(sends(u32(0xffffffff), []byte{msgPiece}, make([]byte, 100_000))), dropped},
	{"length prefix of 2 MiB for a have", greets(sends(u32(2*mib), []byte{msgHave})), dropped},
	{"piece message of 1 MiB", greets((*link).bitfield, sends(u32(9+mib), []byte{msgPiece}, u32(0, 0))), dropped},
	{"piece message too short for its header", greets((*link).bitfield, sends(u32(5), []byte{msgPiece}, u32(0))), dropped},
	{"choke with a payload", greets((*link).bitfield, says(msgChoke, []byte{1, 2, 3})), dropped},
	{"request of 12 bytes", greets((*link).bitfield, says(msgRequest, u32(0, 0, blockSize)[:11])), dropped},
	{"unknown message", greets((*link).bitfield, says(77, make([]byte, 1000))), spared},
	{"500,000 keep-alives", greets((*link).bitfield, sends(make([]byte, 4*500_000))), dropped},
	{"10,000 unknown messages", greets((*link).bitfield, sends(bytes.Repeat(slices.Concat(u32(2), []byte{77, 0}), 10_000))), dropped},

	// Handshake.
	{"another info-hash", hellos(func(l *link) error { return l.shakeAs([20]byte{1, 2, 3}, l.peer.script.id) }), dropped},
	{"our own peer id", hellos(func(l *link) error { return l.shakeAs(l.peer.x.hash, [20]byte(l.in[48:])) }), dropped},
	{"an HTTP answer", hellos(sends([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" + strings.Repeat("x", 200)))), dropped},
	{"random bytes", hellos(sends(bytes.Repeat([]byte{0x93, 0x5e, 0x07}, 200))), dropped},

	// Bitfield and have.
	{"bitfield one byte short", greets(func(l *link) error { b := l.peer.bits(); return l.send(msgBitfield, b[:len(b)-1]) }), dropped},
	{"bitfield one byte long", greets(func(l *link) error { return l.send(msgBitfield, l.peer.bits(), []byte{0}) }), dropped},
	{"bitfield with spare bits", greets(func(l *link) error {
		b := l.peer.bits()
		b[len(b)-1] |= 1
		return l.send(msgBitfield, b)
	}), dropped},
	// BEP 3 wants the bitfield first and once, but aria2c sends one later in place of many haves.
	{"bitfield twice", greets((*link).bitfield, (*link).bitfield), spared},
	{"bitfield late", greets(says(msgUnchoke), says(msgHave, u32(0)), (*link).bitfield), spared},
	{"bitfield late and short", greets(says(msgUnchoke), (*link).bitfield, says(msgBitfield, []byte{1})), dropped},
	{"bitfield 10,000 times", greets(func(l *link) error {
		b := l.peer.bits()
		return l.raw(bytes.Repeat(slices.Concat(u32(uint32(1+len(b))), []byte{msgBitfield}, b), 10_000))
	}), dropped},
	{"have just out of range", greets((*link).bitfield, func(l *link) error { return l.send(msgHave, u32(uint32(l.peer.x.pieces()))) }), dropped},
	{"have far out of range", greets((*link).bitfield, says(msgHave, u32(0xffffffff))), dropped},
	{"100,000 haves", greets(sends(bytes.Repeat(slices.Concat(u32(5), []byte{msgHave}, u32(7)), 100_000))), dropped},
	{"have all that was never agreed on", greets(says(msgHaveAll)), dropped},

	// Pieces.
	{"piece never asked for", greets((*link).bitfield, says(msgUnchoke), func(l *link) error {
		return l.sendPiece(block{piece: 3}, make([]byte, blockSize))
	}), spared},
	{"piece out of range", greets((*link).bitfield, func(l *link) error {
		return l.sendPiece(block{piece: 1 << 30, begin: 1 << 30}, make([]byte, blockSize))
	}), spared},
	{"piece that overlaps the one asked for", serves(func(l *link, b block) error {
		return l.sendPiece(block{piece: b.piece, begin: b.begin + blockSize/2}, make([]byte, blockSize))
	}), spared},
	{"piece of no bytes", serves(func(l *link, b block) error { return l.sendPiece(b, nil) }), spared},
	{"piece one byte short", serves(func(l *link, b block) error { return l.sendPiece(b, make([]byte, b.length-1)) }), spared},
	{"each block ten times", serves(func(l *link, b block) error {
		for range 10 {
			if err := l.honest(b); err != nil {
				return err
			}
		}
		return nil
	}), dropped},
	{"30 % corrupt blocks", script{serve: func(l *link, b block) error {
		h := fnv.New32a()
		h.Write(u32(b.piece, b.begin))
		if h.Sum32()%10 < 3 {
			return l.corrupt(b)
		}
		return l.honest(b)
	}}, spared},
	{"nothing but corrupt blocks", script{serve: (*link).corrupt}, banned},
	{"leaves in the middle of a block", serves(func(l *link, b block) error {
		l.raw(u32(9+b.length), []byte{msgPiece}, u32(b.piece, b.begin), make([]byte, 5000))
		return errLeave
	}), spared},
	{"unchokes and never serves", serves(func(l *link, _ block) error { <-l.done; return errLeave }), spared},
	{"a byte a second", serves(drip), spared},

	// Requests.
	{"request for a piece out of range", greets((*link).bitfield, says(msgRequest, u32(1<<31, 0, blockSize))), dropped},
	{"request over the end of a piece", greets((*link).bitfield, says(msgRequest, u32(0, 64*kib-1, blockSize))), dropped},
	{"request that wraps", greets((*link).bitfield, says(msgRequest, u32(0, 0xffffffff, blockSize))), dropped},
	{"request of no bytes", greets((*link).bitfield, says(msgRequest, u32(0, 0, 0))), dropped},
	{"request over 128 KiB", greets((*link).bitfield, says(msgRequest, u32(0, 0, 256*kib))), dropped},
	{"choke and unchoke 10,000 times", greets((*link).bitfield,
		sends(bytes.Repeat([]byte{0, 0, 0, 1, msgChoke, 0, 0, 0, 1, msgUnchoke}, 10_000))), dropped},
	{"interested and not 10,000 times", greets((*link).bitfield,
		sends(bytes.Repeat([]byte{0, 0, 0, 1, msgInterested, 0, 0, 0, 1, msgInterested + 1}, 10_000))), dropped},
	{"10,000 requests while choked", greets((*link).bitfield,
		sends(bytes.Repeat(slices.Concat(u32(13), []byte{msgRequest}, u32(0, 0, blockSize)), 10_000))), dropped},
	{"10,000 cancels of nothing", greets((*link).bitfield,
		sends(bytes.Repeat(slices.Concat(u32(13), []byte{msgCancel}, u32(0, 0, blockSize)), 10_000))), dropped},

	// Extension handshake.
	{"extension handshake a million levels deep", greets((*link).bitfield, says(msgExtended, []byte{0}, bytes.Repeat([]byte("l"), 900*kib))), spared},
	{"extension handshake of the wrong types", greets((*link).bitfield,
		says(msgExtended, []byte("\x00d1:mi1e13:metadata_sizei-5e1:pi-1e4:reqqi-9e1:vi0e6:yourip3:abce"))), spared},
	{"extension handshake with a string of 4 GiB", greets((*link).bitfield, says(msgExtended, []byte("\x00d1:v4294967295:"))), spared},
	{"10,000 extension handshakes", greets((*link).bitfield,
		sends(bytes.Repeat(slices.Concat(u32(4), []byte{msgExtended, 0}, []byte("de")), 10_000))), dropped},
	{"extension ids out of range", greets((*link).bitfield,
		says(msgExtended, []byte("\x00d1:md6:ut_pexi99999e11:ut_metadatai-1eee"))), spared},
	{"empty extended message", greets((*link).bitfield, says(msgExtended)), spared},
	{"reqq of one", greets((*link).bitfield, says(msgExtended, []byte("\x00d1:md6:ut_pexi0ee4:reqqi1ee"))), spared},
}

// hellos is a script whose deed is its handshake.
func hellos(deed func(*link) error) script {
	return script{hello: func(l *link) error { return l.deed(deed) }}
}

// greets is a script that takes the steps in place of a bitfield; the last is the deed.
func greets(steps ...func(*link) error) script {
	return script{greet: func(l *link) error { return l.deed(steps...) }}
}

// serves is a script whose deed is what it answers to requests.
func serves(deed func(*link, block) error) script {
	return script{serve: func(l *link, b block) error {
		l.peer.strike()
		return deed(l, b)
	}}
}

// deed takes the steps and says so. A write that fails is no error: the command may have seen
// enough before the end.
func (l *link) deed(steps ...func(*link) error) error {
	defer l.peer.strike()
	for _, step := range steps {
		if step(l) != nil {
			return nil
		}
	}
	return nil
}

// sends is a step that writes bytes as they are.
func sends(parts ...[]byte) func(*link) error {
	return func(l *link) error { return l.raw(parts...) }
}

// says is a step that sends one message.
func says(id byte, body ...[]byte) func(*link) error {
	return func(l *link) error { return l.send(id, body...) }
}

// drip serves a block at a byte a second.
func drip(l *link, b block) error {
	data, ok := l.peer.x.block(b)
	if !ok {
		return fmt.Errorf("asked for %+v", b)
	}
	if err := l.raw(u32(9+b.length), []byte{msgPiece}, u32(b.piece, b.begin)); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range data {
		select {
		case <-tick.C:
		case <-l.done:
			return io.ErrClosedPipe
		}
		if err := l.raw(data[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// TestHostilePeer runs each misdeed beside an honest seed: the download completes, in little memory.
func TestHostilePeer(t *testing.T) {
	for _, tt := range hostilePeers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture("payload", 61*64*kib-5000, 64*kib) // 61 pieces: three spare bits
			honest := newPeer(t, x, "127.0.0.1", script{quota: x.blocks() / 2})
			bad := newPeer(t, x, "127.0.0.2", tt.script)
			dir := t.TempDir()
			get := run(t, "get", x.torrent(t), "-d", dir, "--peer", honest.addr.String(), "--peer", bad.addr.String())
			closes(t, bad.struck, 10*time.Second, "the misdeed")
			if tt.fate >= dropped {
				closes(t, bad.dropped, 10*time.Second, "the command drops the peer")
			}
			if tt.fate == banned {
				<-time.After(2500 * time.Millisecond) // a peer of --peer is otherwise called again after a second
				if n := bad.met(); n != 1 {
					t.Errorf("a liar was called %d times, want once", n)
				}
			}
			honest.release()
			get.exits(t, 0, 60*time.Second)
			x.isAloneIn(t, dir)
			if b, n := bad.mostAsked(); n > 3 {
				t.Errorf("%+v was asked for %d times", b, n)
			}
		})
	}
}

// TestHostileOnlyCorrupt: where nothing but bad data exists the command never says that it is
// complete, asks for less than three times the content, and keeps no bad byte under the final name.
func TestHostileOnlyCorrupt(t *testing.T) {
	t.Parallel()
	x := newFixture("payload", 2*mib, 64*kib)
	dir := t.TempDir()
	args := []string{"get", x.torrent(t), "-d", dir, "--stall-timeout", "2s", "--max-time", "20s"}
	var liars []*peer
	for i := range 3 {
		p := newPeer(t, x, fmt.Sprintf("127.0.0.%d", 2+i), script{serve: (*link).corrupt})
		liars = append(liars, p)
		args = append(args, "--peer", p.addr.String())
	}
	get := run(t, args...)
	if code := get.wait(t, 30*time.Second); code != 4 && code != 5 {
		t.Errorf("exit status %d, want 4 or 5", code)
	}
	var asked int64
	for _, p := range liars {
		asked += p.bytesAsked()
	}
	if asked >= 3*int64(len(x.data)) {
		t.Errorf("asked for %d bytes of %d, want less than three times", asked, len(x.data))
	}
	absent(t, dir, "payload")
}
