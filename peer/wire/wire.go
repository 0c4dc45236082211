// Package wire is the codec of the messages that two peers exchange: the handshake and the
// messages of BEP 3, the fast extension (BEP 6), the extension protocol's frame and handshake
// (BEP 10, with BEP 21's upload_only) and its messages for metadata (BEP 9) and peer exchange
// (BEP 11), and two formulas that both ends of a connection must work out alike: the canonical peer
// priority (BEP 40) and the allowed fast set (BEP 6).
//
// A message on the wire is a length prefix of four bytes, an id of one byte and a body. A reader
// asks [Limits.Check] as soon as prefix and id are in, before it reads or allocates anything for
// the body, and hands the body to [Parse]. A writer uses [Append]. The bytes of a block never pass
// through this package: [Parse] and [Append] see the head of a piece message only.
//
// The package is pure and keeps no state. What it returns aliases what it was given, so nothing
// is allocated for the messages that are sent and received by the thousand.
package wire

import (
	"errors"
	"fmt"
)

// An ID tells what a message is; it is the byte behind the length prefix.
type ID uint8

// Ids of BEP 3, BEP 5 (Port), BEP 6 (Suggest to AllowedFast) and BEP 10 (Extended).
const (
	Choke         ID = 0
	Unchoke       ID = 1
	Interested    ID = 2
	NotInterested ID = 3
	Have          ID = 4
	Bitfield      ID = 5
	Request       ID = 6
	Piece         ID = 7
	Cancel        ID = 8
	Port          ID = 9
	Suggest       ID = 13
	HaveAll       ID = 14
	HaveNone      ID = 15
	Reject        ID = 16
	AllowedFast   ID = 17
	Extended      ID = 20

	// KeepAlive is no id of the protocol: it stands for the message of length zero, which has none.
	KeepAlive ID = 0xFF
)

var names = [...]string{
	Choke: "choke", Unchoke: "unchoke", Interested: "interested", NotInterested: "not interested",
	Have: "have", Bitfield: "bitfield", Request: "request", Piece: "piece", Cancel: "cancel",
	Port: "port", Suggest: "suggest piece", HaveAll: "have all", HaveNone: "have none",
	Reject: "reject request", AllowedFast: "allowed fast", Extended: "extended",
}

// String returns the BEP's name for the message.
func (id ID) String() string {
	switch {
	case int(id) < len(names) && names[id] != "":
		return names[id]
	case id == KeepAlive:
		return "keep-alive"
	}
	return fmt.Sprintf("message %d", uint8(id))
}

// Sizes in bytes, and counts, that bound what a peer may send.
const (
	// MaxBlock is the longest block we ask for and so the longest that may come. BEP 3: "All
	// current implementations use 2^14 (16 kiB)".
	MaxBlock = 16 << 10
	// MaxPieces bounds a bitfield that comes before we know how many pieces there are.
	MaxPieces = 1 << 21
	// MaxExtended bounds the body of an extended message. The largest that peers send are a
	// metadata piece (BEP 9: 16 KiB and a small dictionary) and a long list of peers (BEP 11).
	MaxExtended = 128 << 10
	// MaxUnknown bounds a message whose id we do not know, and which is skipped.
	MaxUnknown = 1 << 20

	// PrefixLen is the size of the length prefix, HeadLen that of prefix and id, and PieceHeadLen
	// that of all that stands before the data of a piece message.
	PrefixLen    = 4
	HeadLen      = 5
	PieceHeadLen = 13
)

// ErrProtocol matches, by errors.Is, every way a remote can break the protocol once the
// handshake is over. It is reason to close the connection, not to ban: only corrupt data is that.
var ErrProtocol = errors.New("peer wire protocol violation")

// A MessageError reports a message that no conforming peer sends. It matches [ErrProtocol].
type MessageError struct {
	ID     ID
	Length uint32 // length prefix in bytes, the id included
	Reason string // lower case, no full stop
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("wire: %v of %d bytes: %s", e.ID, e.Length, e.Reason)
}

// Unwrap returns [ErrProtocol].
func (e *MessageError) Unwrap() error { return ErrProtocol }

// Limits is what was agreed with a peer, and so what it may send. The zero value is a peer
// without extensions, of a torrent whose number of pieces is not known yet.
type Limits struct {
	Pieces int  // pieces of the torrent; 0 means not known yet
	Fast   bool // both ends set the bit of the fast extension (BEP 6)
	Ext    bool // both ends set the bit of the extension protocol (BEP 10)
}

// body lengths of the messages that have a fixed one; variable and unknown otherwise.
const (
	variable = -1
	unknown  = -2
)

func bodyLen(id ID) int {
	switch id {
	case Choke, Unchoke, Interested, NotInterested, HaveAll, HaveNone:
		return 0
	case Port:
		return 2
	case Have, Suggest, AllowedFast:
		return 4
	case Request, Cancel, Reject:
		return 12
	case Bitfield, Piece, Extended:
		return variable
	}
	return unknown
}

// fast reports whether the message exists only with the fast extension.
func (id ID) fast() bool { return id >= Suggest && id <= AllowedFast }

// Knows reports whether [Parse] reads messages of this id. Those that it does not know are to be
// skipped: "unknown" is how a later extension looks to us. An extended message that was not
// agreed on is one of them.
func (l Limits) Knows(id ID) bool {
	return bodyLen(id) != unknown && (id != Extended || l.Ext)
}

// Check reports whether a message of this id may have this length prefix, in bytes with the id
// counted. It needs five bytes of a message and is to be asked before anything is read or
// allocated for the rest. The error is a [*MessageError].
func (l Limits) Check(id ID, length uint32) error {
	if reason := l.refuse(id, length); reason != "" {
		return &MessageError{ID: id, Length: length, Reason: reason}
	}
	return nil
}

// CheckPrefix reports whether any message at all may have this length prefix. It is for a peer that has
// sent no more of one than that. The error is a [*MessageError].
func CheckPrefix(length uint32) error {
	if reason := above(int64(length)-1, MaxUnknown); reason != "" {
		return &MessageError{ID: KeepAlive, Length: length, Reason: reason}
	}
	return nil
}

// refuse returns why the message cannot be, or nothing. Only a violation costs an allocation.
func (l Limits) refuse(id ID, length uint32) string {
	if length == 0 {
		return "no room for an id"
	}
	body := int64(length) - 1
	switch want := bodyLen(id); {
	case id.fast() && !l.Fast:
		// BEP 6: "When the fast extension is disabled, if a peer receives [one] then the peer
		// MUST close the connection."
		return "fast extension not agreed"
	case !l.Knows(id):
		return above(body, MaxUnknown)
	case want >= 0 && body != int64(want):
		return "wrong length"
	case id == Bitfield && l.Pieces > 0 && body != (int64(l.Pieces)+7)/8:
		return "not one bit a piece"
	case id == Bitfield:
		return above(body, MaxPieces/8)
	case id == Piece && body < 8+1:
		return "no data"
	case id == Piece:
		return above(body, 8+MaxBlock)
	case id == Extended && body < 1:
		return "no extended id"
	case id == Extended:
		return above(body, 1+MaxExtended)
	}
	return ""
}

func above(n, limit int64) string {
	if n > limit {
		return "too long"
	}
	return ""
}
