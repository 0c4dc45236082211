//go:build linux

package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
)

// Messages (BEP 3, 6 and 10).
const (
	msgChoke         = 0
	msgUnchoke       = 1
	msgInterested    = 2
	msgHave          = 4
	msgBitfield      = 5
	msgRequest       = 6
	msgPiece         = 7
	msgCancel        = 8
	msgHaveAll       = 14
	msgHaveNone      = 15
	msgRejectRequest = 16
	msgExtended      = 20
)

// protocol is how each handshake begins.
const protocol = "\x13BitTorrent protocol"

// errLeave makes a script close the connection without a complaint.
var errLeave = errors.New("the script says so")

// A block is the range a request names.
type block struct{ piece, begin, length uint32 }

// A link is one connection of a fake peer.
type link struct {
	net.Conn
	peer *peer
	in   []byte // the other end's handshake
	done chan struct{}
	sync.Mutex
	queue         []block       // asked for and not served yet
	more          chan struct{} // one slot: the queue has grown
	theirMetadata byte          // the other end's id of ut_metadata
}

func (l *link) speak(dialed bool) error {
	hello := l.peer.script.hello
	if hello == nil {
		hello = (*link).shake
	}
	if dialed {
		if err := hello(l); err != nil {
			return err
		}
	}
	l.in = make([]byte, 68)
	if _, err := io.ReadFull(l, l.in); err != nil {
		return err
	}
	if string(l.in[:20]) != protocol || !bytes.Equal(l.in[28:48], l.peer.x.hash[:]) {
		return errors.New("not a plain handshake for this torrent")
	}
	if !dialed {
		if err := hello(l); err != nil {
			return err
		}
	}
	l.peer.count(func() { l.peer.links++ })
	greet := l.peer.script.greet
	if greet == nil {
		greet = (*link).bitfield
	}
	if err := greet(l); err != nil {
		return err
	}
	if o := l.peer.script.offer; o != nil {
		hello := fmt.Sprintf("d1:md11:ut_metadatai%dee13:metadata_sizei%dee", ourMetadata, o.size)
		if err := l.send(msgExtended, []byte{0}, []byte(hello)); err != nil {
			return err
		}
	}
	l.peer.going.Go(l.serveAll)
	for {
		id, body, err := l.receive()
		if err == nil {
			err = l.handle(id, body)
		}
		if err != nil {
			return err
		}
	}
}

// shake sends the handshake.
func (l *link) shake() error { return l.shakeAs(l.peer.x.hash, l.peer.script.id) }

// shakeAs sends a handshake for another torrent or in another's name.
func (l *link) shakeAs(hash, id [20]byte) error {
	return l.raw([]byte(protocol), []byte{0, 0, 0, 0, 0, 0x10, 0, 0}, hash[:], id[:])
}

// bitfield says what the script has, the way of BEP 3.
func (l *link) bitfield() error { return l.send(msgBitfield, l.peer.bits()) }

// bits is the bitfield of what the script has.
func (p *peer) bits() []byte {
	b := make([]byte, (p.x.pieces()+7)/8)
	for i := range p.x.pieces() {
		if p.script.has == nil || p.script.has(i) {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	return b
}

// raw writes bytes as they are.
func (l *link) raw(parts ...[]byte) error {
	l.Lock()
	defer l.Unlock()
	_, err := l.Write(bytes.Join(parts, nil))
	return err
}

// send writes one message.
func (l *link) send(id byte, body ...[]byte) error {
	payload := bytes.Join(body, nil)
	return l.raw(u32(uint32(1+len(payload))), []byte{id}, payload)
}

// sendPiece writes a piece message with any data.
func (l *link) sendPiece(b block, data []byte) error {
	return l.send(msgPiece, u32(b.piece, b.begin), data)
}

// u32 is the big-endian form of the integers.
func u32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// receive reads one message; a keep-alive comes as ID 0xff.
func (l *link) receive() (id byte, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(l, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return 0xff, nil, nil
	}
	if n > mib {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(l, body); err != nil {
		return 0, nil, err
	}
	return body[0], body[1:], nil
}

// handle answers one message as an honest peer does.
func (l *link) handle(id byte, body []byte) error {
	switch id {
	case msgInterested:
		return l.send(msgUnchoke)
	case msgHave:
		i := int(binary.BigEndian.Uint32(body))
		l.peer.count(func() { l.peer.haves[i] = true })
	case msgExtended:
		return l.extended(body)
	case msgRequest:
		b := block{binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint32(body[8:])}
		l.peer.count(func() { l.peer.asked[b]++ })
		l.Lock()
		l.queue = append(l.queue, b)
		l.Unlock()
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
	return nil // a cancel is no duty (BEP 3): the block may be on its way
}

// ourMetadata is the fake peers' id of ut_metadata.
const ourMetadata = 5

var (
	theirID  = regexp.MustCompile(`11:ut_metadatai(\d+)e`)
	askedFor = regexp.MustCompile(`8:msg_typei0e5:piecei(\d+)e`)
)

// extended takes an extended message: the other end's handshake, or a request for metadata.
func (l *link) extended(body []byte) error {
	switch m := theirID.FindSubmatch(body); {
	case body[0] == 0 && m != nil:
		n, err := strconv.Atoi(string(m[1]))
		l.theirMetadata = byte(n)
		return err
	case body[0] == ourMetadata && l.peer.script.offer != nil:
		m := askedFor.FindSubmatch(body)
		if m == nil {
			return fmt.Errorf("message of ut_metadata %q", body[1:])
		}
		i, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return err
		}
		l.peer.count(func() { l.peer.told++ })
		return l.peer.script.offer.give(l, i)
	}
	return nil
}

// sendMetadata writes a piece of metadata with any data.
func (l *link) sendMetadata(i int, size int64, data []byte) error {
	head := fmt.Sprintf("d8:msg_typei1e5:piecei%de10:total_sizei%dee", i, size)
	return l.send(msgExtended, []byte{l.theirMetadata}, []byte(head), data)
}

// serveAll answers requests in their order, as fast as the quota lets it.
func (l *link) serveAll() {
	serve := l.peer.script.serve
	if serve == nil {
		serve = (*link).honest
	}
	for {
		b, ok := l.next()
		if !ok {
			return
		}
		select {
		case <-l.peer.quota:
		case <-l.done:
			return
		}
		if err := serve(l, b); err != nil {
			l.Close() // the reader sees it and says why
			return
		}
	}
}

// next is the oldest request; false once the connection has ended.
func (l *link) next() (block, bool) {
	for {
		l.Lock()
		if len(l.queue) > 0 {
			b := l.queue[0]
			l.queue = l.queue[1:]
			l.Unlock()
			return b, true
		}
		l.Unlock()
		select {
		case <-l.more:
		case <-l.done:
			return block{}, false
		}
	}
}

// honest sends the block that was asked for.
func (l *link) honest(b block) error {
	data, ok := l.peer.x.block(b)
	if !ok {
		return fmt.Errorf("asked for %+v", b)
	}
	if err := l.sendPiece(b, data); err != nil {
		return err
	}
	l.peer.count(func() { l.peer.served[b]++ })
	return nil
}

// corrupt sends the block with one byte wrong.
func (l *link) corrupt(b block) error {
	data, ok := l.peer.x.block(b)
	if !ok {
		return fmt.Errorf("asked for %+v", b)
	}
	wrong := bytes.Clone(data)
	wrong[len(wrong)/2] ^= 0x40
	l.peer.strike()
	return l.sendPiece(b, wrong)
}

// block is the content of a range, false if it does not lie in one piece.
func (x *fixture) block(b block) ([]byte, bool) {
	if int64(b.piece) >= int64(x.pieces()) {
		return nil, false
	}
	data := x.pieceData(int(b.piece))
	if int64(b.begin)+int64(b.length) > int64(len(data)) {
		return nil, false
	}
	return data[b.begin : b.begin+b.length], true
}
