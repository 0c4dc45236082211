package wire

import (
	"encoding/binary"
	"fmt"
)

// ErrDontHave says that an lt_donthave message is not the index of a piece. It matches [ErrProtocol].
var ErrDontHave = fmt.Errorf("wire: lt_donthave is not the index of a piece: %w", ErrProtocol)

// ParseDontHave returns the piece that the sender of an lt_donthave message no longer has, from the payload behind the
// extended id (BEP 54). Whether there is such a piece is for the caller to check. The only error is [ErrDontHave].
func ParseDontHave(payload []byte) (piece uint32, err error) {
	if len(payload) != 4 {
		return 0, ErrDontHave
	}
	return binary.BigEndian.Uint32(payload), nil
}

// AppendDontHave appends the payload of an lt_donthave message to dst.
func AppendDontHave(dst []byte, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(dst, piece)
}
