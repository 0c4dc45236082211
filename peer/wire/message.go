package wire

import "encoding/binary"

// A Message is any message of the protocol, flat. Which fields count depends on ID:
//
//	Have, Suggest, AllowedFast   Index
//	Request, Cancel, Reject      Index, Begin, Length
//	Piece                        Index, Begin, Length; the data is elsewhere
//	Bitfield                     Payload: the raw bits
//	Extended                     ExtID, Payload
//	Port                         Index: the UDP port of the sender's DHT node (BEP 5)
//
// The others have none. Nothing but lengths has been checked: indices may be out of range.
type Message struct {
	ID      ID
	ExtID   byte   // 0 is the extension handshake, others as the receiver's handshake named them
	Index   uint32 // of a piece
	Begin   uint32 // offset in the piece, bytes
	Length  uint32 // of the block, bytes
	Payload []byte // aliases the body that was parsed
}

// Parse reads the body of a message: what follows the id, or, for a piece, at least the eight
// bytes before the data. Of a piece's body all that follows them counts as data, so to parse a head
// alone set Length from the prefix. The error, for a wrong length or an id that [Limits.Knows]
// denies, is a [*MessageError].
func Parse(id ID, body []byte) (Message, error) {
	m := Message{ID: id}
	want := bodyLen(id)
	switch {
	case want >= 0 && len(body) != want:
		return Message{}, parseError(id, body, "wrong length")
	case want == unknown:
		return Message{}, parseError(id, body, "unknown")
	}
	switch id {
	case Have, Suggest, AllowedFast:
		m.Index = binary.BigEndian.Uint32(body)
	case Request, Cancel, Reject:
		m.Index = binary.BigEndian.Uint32(body)
		m.Begin = binary.BigEndian.Uint32(body[4:])
		m.Length = binary.BigEndian.Uint32(body[8:])
	case Port:
		m.Index = uint32(binary.BigEndian.Uint16(body))
	case Bitfield:
		m.Payload = body
	case Piece:
		if len(body) < 8 {
			return Message{}, parseError(id, body, "no data")
		}
		m.Index = binary.BigEndian.Uint32(body)
		m.Begin = binary.BigEndian.Uint32(body[4:])
		m.Length = uint32(len(body) - 8)
	case Extended:
		if len(body) < 1 {
			return Message{}, parseError(id, body, "no extended id")
		}
		m.ExtID, m.Payload = body[0], body[1:]
	}
	return m, nil
}

func parseError(id ID, body []byte, reason string) error {
	return &MessageError{ID: id, Length: uint32(len(body)) + 1, Reason: reason}
}

// Append appends the whole message to dst; of a piece the head, behind which m.Length bytes of
// data must follow. It panics on an id that the protocol does not have: that is our bug.
func Append(dst []byte, m Message) []byte {
	switch want := bodyLen(m.ID); {
	case m.ID == KeepAlive:
		return append(dst, 0, 0, 0, 0)
	case want >= 0:
		dst = appendHead(dst, m.ID, want)
	case m.ID == Bitfield:
		dst = appendHead(dst, m.ID, len(m.Payload))
	case m.ID == Extended:
		dst = appendHead(dst, m.ID, 1+len(m.Payload))
	case m.ID == Piece:
		return AppendPiece(dst, m.Index, m.Begin, int(m.Length))
	default:
		panic("wire: append of an unknown message")
	}
	switch m.ID {
	case Have, Suggest, AllowedFast:
		dst = binary.BigEndian.AppendUint32(dst, m.Index)
	case Request, Cancel, Reject:
		dst = binary.BigEndian.AppendUint32(dst, m.Index)
		dst = binary.BigEndian.AppendUint32(dst, m.Begin)
		dst = binary.BigEndian.AppendUint32(dst, m.Length)
	case Port:
		dst = binary.BigEndian.AppendUint16(dst, uint16(m.Index))
	case Bitfield:
		dst = append(dst, m.Payload...)
	case Extended:
		dst = append(append(dst, m.ExtID), m.Payload...)
	}
	return dst
}

// Len returns the bytes of the whole message on the wire; of a piece with its data.
func (m Message) Len() int {
	switch m.ID {
	case KeepAlive:
		return PrefixLen
	case Bitfield:
		return HeadLen + len(m.Payload)
	case Extended:
		return HeadLen + 1 + len(m.Payload)
	case Piece:
		return PieceHeadLen + int(m.Length)
	}
	return HeadLen + max(bodyLen(m.ID), 0)
}

// AppendPiece appends the [PieceHeadLen] bytes that stand before n bytes of data.
func AppendPiece(dst []byte, index, begin uint32, n int) []byte {
	dst = appendHead(dst, Piece, 8+n)
	dst = binary.BigEndian.AppendUint32(dst, index)
	return binary.BigEndian.AppendUint32(dst, begin)
}

// appendHead appends the length prefix and the id of a message whose body has n bytes.
func appendHead(dst []byte, id ID, n int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(n)+1), byte(id))
}
