package wire

import (
	"fmt"
	"math"

	"bittern/bencode"
)

// MetadataPiece is the size of a piece of the info dictionary, in bytes: "All blocks are 16KiB
// except the last block which may be smaller" (BEP 9).
const MetadataPiece = 16 << 10

// ErrMetadata says that a message of ut_metadata is none that BEP 9 knows. It matches [ErrProtocol].
var ErrMetadata = fmt.Errorf("wire: not a metadata message: %w", ErrProtocol)

// A MetadataType tells what a [Metadata] message is.
type MetadataType uint8

// The types of BEP 9.
const (
	MetadataRequest MetadataType = 0
	MetadataData    MetadataType = 1
	MetadataReject  MetadataType = 2

	// MetadataUnknown stands for every other: "an unrecognized message ID MUST be ignored".
	MetadataUnknown MetadataType = 0xFF
)

// A Metadata is a message of ut_metadata (BEP 9), the payload of an extended message.
type Metadata struct {
	Type  MetadataType
	Piece int // index of a piece of the info dictionary; from a peer 0 to 2^31-1, as it claims

	// Of a data message only:
	TotalSize int64  // bytes of the info dictionary; from a peer never negative, 0 if not given, else as it claims
	Data      []byte // the piece; from a peer 1 to MetadataPiece bytes, which alias the payload
}

// AppendMetadata appends the payload of a request, data or reject message to dst.
func AppendMetadata(dst []byte, m Metadata) []byte {
	dst = append(dst, 'd')
	dst = bencode.AppendInt(bencode.AppendString(dst, "msg_type"), int64(m.Type))
	dst = bencode.AppendInt(bencode.AppendString(dst, "piece"), int64(m.Piece))
	if m.Type == MetadataData {
		dst = bencode.AppendInt(bencode.AppendString(dst, "total_size"), m.TotalSize)
	}
	return append(append(dst, 'e'), m.Data...)
}

// ParseMetadata reads the payload of an extended message of our id for ut_metadata, copying
// nothing. The only error is [ErrMetadata]: no dictionary, no type, a piece that cannot be, or data
// that is none or more than a piece. Of a message of unknown type nothing but that is read. Bytes
// behind a message that carries none are ignored.
func ParseMetadata(payload []byte) (Metadata, error) {
	d, rest, err := bencode.DecodePrefix(payload, bencode.Limits{Depth: 20, Tokens: 1000})
	if err != nil {
		return Metadata{}, ErrMetadata
	}
	kind, ok := d.Get("msg_type").Int()
	if !ok {
		return Metadata{}, ErrMetadata
	}
	if kind < int64(MetadataRequest) || kind > int64(MetadataReject) {
		return Metadata{Type: MetadataUnknown}, nil
	}
	index, ok := d.Get("piece").Int()
	if !ok || index < 0 || index > math.MaxInt32 {
		return Metadata{}, ErrMetadata
	}
	m := Metadata{Type: MetadataType(kind), Piece: int(index)}
	if m.Type == MetadataData {
		if len(rest) == 0 || len(rest) > MetadataPiece {
			return Metadata{}, ErrMetadata
		}
		size, _ := d.Get("total_size").Int()
		m.TotalSize, m.Data = max(size, 0), rest
	}
	return m, nil
}
