package tracker

import (
	"encoding/binary"
	"net/netip"

	"bittern/peer/compact"
)

// The UDP tracker protocol's numbers (BEP 15).
const (
	protocolID = 0x41727101980 // "magic constant"

	actionConnect  = 0
	actionAnnounce = 1
	actionScrape   = 2
	actionError    = 3

	connectLen  = 16
	announceLen = 98
	maxScrape   = 74 // "Up to about 74 torrents can be scraped at once."

	optionURL   = 2        // BEP 41 URLData
	maxURLData  = 1024     // bytes of path and query that we send, so that the packet is never fragmented
	maxDatagram = 16 << 10 // bytes of an answer that are read; of a longer list the whole entries in front are kept
)

var be = binary.BigEndian

// appendConnect appends a request for a connection id.
func appendConnect(dst []byte, tid uint32) []byte {
	dst = be.AppendUint64(dst, protocolID)
	dst = be.AppendUint32(dst, actionConnect)
	return be.AppendUint32(dst, tid)
}

// appendAnnounce appends an announce with the URL's path and query as options (BEP 41).
func appendAnnounce(dst []byte, conn uint64, tid uint32, r Request, urlData string) []byte {
	dst = be.AppendUint64(dst, conn)
	dst = be.AppendUint32(dst, actionAnnounce)
	dst = be.AppendUint32(dst, tid)
	dst = append(dst, r.InfoHash[:]...)
	dst = append(dst, r.PeerID[:]...)
	dst = be.AppendUint64(dst, uint64(r.Downloaded))
	dst = be.AppendUint64(dst, uint64(r.Left))
	dst = be.AppendUint64(dst, uint64(r.Uploaded))
	dst = be.AppendUint32(dst, uint32(r.udpEvent()))
	dst = be.AppendUint32(dst, 0) // IP address: the one we send from
	dst = be.AppendUint32(dst, r.Key)
	want := int32(-1)
	if n, said := r.wanted(); said {
		want = int32(n)
	}
	dst = be.AppendUint32(dst, uint32(want))
	dst = be.AppendUint16(dst, r.Port)
	for len(urlData) > 0 {
		n := min(len(urlData), 255)
		dst = append(dst, optionURL, byte(n))
		dst, urlData = append(dst, urlData[:n]...), urlData[n:]
	}
	return dst
}

// udpEvent returns the event of a UDP announce. BEP 15 has no number for that of a partial seed, who must not say "completed" though.
func (r Request) udpEvent() Event {
	if r.Partial && r.Event == Completed {
		return None
	}
	return r.Event
}

// appendScrape appends a scrape of at most maxScrape torrents.
func appendScrape(dst []byte, conn uint64, tid uint32, hashes [][20]byte) []byte {
	dst = be.AppendUint64(dst, conn)
	dst = be.AppendUint32(dst, actionScrape)
	dst = be.AppendUint32(dst, tid)
	for _, h := range hashes {
		dst = append(dst, h[:]...)
	}
	return dst
}

// wanted returns how many peers to ask for, and whether to name a number at all.
func (r Request) wanted() (n int, said bool) {
	if r.Event == Stopped || r.Event == Completed {
		return 0, true
	}
	return min(r.NumWant, maxPeers), r.NumWant > 0
}

// A match says which packet answers a request.
type match struct {
	action, tid uint32
	least       int // bytes, head included
}

// answer returns the body behind the eight-byte head of a packet that matches, or the tracker's refusal.
// ok is false for any other packet: it is to be ignored, it may be forged or late.
func (m match) answer(packet []byte) (body []byte, refusal *FailureError, ok bool) {
	if len(packet) < 8 || be.Uint32(packet[4:]) != m.tid {
		return nil, nil, false
	}
	switch be.Uint32(packet) {
	case actionError:
		return nil, &FailureError{Reason: printable(string(packet[8:]))}, true
	case m.action:
		return packet[8:], nil, len(packet) >= m.least
	}
	return nil, nil, false
}

// parseUDPAnnounce reads the body of an announce's answer, at least 12 bytes. The entry size follows from the family of the packet:
// "packets from a v4 address use the v4 format, those from a v6 address use the v6 format".
func parseUDPAnnounce(body []byte, six bool) Response {
	r := Response{
		Interval: clampSeconds(int64(int32(be.Uint32(body)))),
		Leechers: int(min(be.Uint32(body[4:]), 1<<30)),
		Seeders:  int(min(be.Uint32(body[8:]), 1<<30)),
	}
	var all []netip.AddrPort
	if six {
		all = compact.Parse6(clip(body[12:], compact.Size6))
	} else {
		all = compact.Parse4(clip(body[12:], compact.Size4))
	}
	r.Peers = usable(nil, all)
	return r
}

// parseUDPScrape reads the body of a scrape's answer: one entry for each torrent asked for, in order; what is missing is left out.
func parseUDPScrape(body []byte, hashes [][20]byte, out map[[20]byte]Counts) {
	for _, h := range hashes {
		if len(body) < 12 {
			return
		}
		out[h] = Counts{
			Seeders:    int(min(be.Uint32(body), 1<<30)),
			Downloaded: int64(be.Uint32(body[4:])),
			Leechers:   int(min(be.Uint32(body[8:]), 1<<30)),
		}
		body = body[12:]
	}
}
