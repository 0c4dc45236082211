package discover

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
)

// Limits of an announcement. One of the most hashes and the longest cookie is no larger than the most bytes.
const (
	maxAnnouncement = 1400 // bytes: "the packet length should not exceed 1400 bytes" (BEP 14)
	maxHashes       = 24   // what follows is not looked at
	maxCookie       = 64   // bytes; a longer one is not ours
)

// An announcement says that a peer takes part in some swarms (BEP 14).
type announcement struct {
	port   uint16     // TCP port where the peer listens; not 0
	hashes [][20]byte // info-hashes, 1 to maxHashes
	cookie string     // by which a sender knows its own; "" if there is none
}

// append appends the datagram that says a to the group with this address and port.
func (a announcement) append(dst []byte, group string) []byte {
	dst = append(dst, "BT-SEARCH * HTTP/1.1\r\nHost: "+group+"\r\nPort: "...)
	dst = strconv.AppendUint(dst, uint64(a.port), 10)
	for _, hash := range a.hashes {
		dst = append(dst, "\r\nInfohash: "...)
		dst = hex.AppendEncode(dst, hash[:])
	}
	if a.cookie != "" {
		dst = append(dst, "\r\ncookie: "+a.cookie...)
	}
	return append(dst, "\r\n\r\n\r\n"...)
}

// parseAnnouncement reads a datagram, of which ok says whether it is one. It takes names in any case and
// lines that end with LF alone, and does without the Host and the blank lines at the end: "any
// additional headers that not understood by a client should be ignored".
func parseAnnouncement(b []byte) (a announcement, ok bool) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	method, _, _ := strings.Cut(string(line[:min(len(line), 80)]), " ")
	if len(b) > maxAnnouncement || !strings.EqualFold(method, "BT-SEARCH") {
		return announcement{}, false
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		name, value, found := strings.Cut(string(line), ":")
		if strings.TrimSpace(name) == "" && !found {
			break // the end of the headers
		}
		a.header(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	return a, a.port != 0 && len(a.hashes) > 0
}

// header takes over a header, whose name is in lower case, if its value is one that can be.
func (a *announcement) header(name, value string) {
	switch name {
	case "port":
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			a.port = uint16(n)
		}
	case "infohash":
		var hash [20]byte
		if len(value) != hex.EncodedLen(len(hash)) || len(a.hashes) == maxHashes {
			return
		}
		if _, err := hex.Decode(hash[:], []byte(value)); err == nil {
			a.hashes = append(a.hashes, hash)
		}
	case "cookie":
		if len(value) <= maxCookie {
			a.cookie = value
		}
	}
}
