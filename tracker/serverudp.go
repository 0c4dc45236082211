package tracker

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"time"

	"bittern/peer/compact"
)

// Peers in one UDP answer: with its 20 bytes of head it must fit a packet that is not fragmented.
const (
	udpWant4 = maxNumWant
	udpWant6 = 1400 / compact.Size6
)

// serveUDP answers UDP until the socket is closed, and says why it ended. It keeps no state of those who ask: a connection id proves by itself
// that its holder receives at the address it sends from. Before that proof no answer is larger than the question.
func (s *Server) serveUDP() error {
	in, out := make([]byte, 2048), make([]byte, 0, 2048)
	for failures := 0; ; {
		n, from, err := s.udp.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // some systems report the fate of an earlier answer here
			if failures++; failures == 100 {
				return err
			}
			continue
		}
		failures = 0
		out = out[:0]
		guard(s.onPanic, func() { out = s.udpAnswer(out, in[:n], from.Addr().Unmap()) })
		if len(out) > 0 {
			s.udp.WriteToUDPAddrPort(out, from) // lost packets are the client's to repeat
		}
	}
}

// udpAnswer appends the answer to a packet from host; nothing when there is none.
func (s *Server) udpAnswer(dst, packet []byte, host netip.Addr) []byte {
	if len(packet) < connectLen {
		return dst
	}
	id, action, tid := be.Uint64(packet), be.Uint32(packet[8:]), be.Uint32(packet[12:])
	if action == actionConnect {
		if id != protocolID {
			return dst
		}
		dst = be.AppendUint32(dst, actionConnect)
		dst = be.AppendUint32(dst, tid)
		return be.AppendUint64(dst, s.connectionID(host, s.now()))
	}
	if !s.ownID(id, host) { // "The tracker verifies the connection_id and ignores the request if it doesn't match."
		return dst
	}
	switch action {
	case actionAnnounce:
		return s.udpAnnounce(dst, packet, tid, host)
	case actionScrape:
		return s.udpScrape(dst, packet[connectLen:], tid)
	}
	return appendUDPError(dst, tid, "unknown action")
}

// connectionID returns the id for host: a keyed hash of its address and the minute.
func (s *Server) connectionID(host netip.Addr, now time.Time) uint64 {
	mac := hmac.New(sha256.New, s.secret[:])
	ip := host.As16()
	mac.Write(be.AppendUint64(ip[:], uint64(now.Unix()/60)))
	return be.Uint64(mac.Sum(nil))
}

// ownID reports whether id was given to host in this minute or the two before: "Trackers should accept the connection ID
// until two minutes after it has been send."
func (s *Server) ownID(id uint64, host netip.Addr) bool {
	now := s.now()
	for age := range 3 {
		want := be.AppendUint64(nil, s.connectionID(host, now.Add(-time.Duration(age)*time.Minute)))
		if hmac.Equal(want, be.AppendUint64(nil, id)) {
			return true
		}
	}
	return false
}

func (s *Server) udpAnnounce(dst, packet []byte, tid uint32, host netip.Addr) []byte {
	if len(packet) < announceLen {
		return appendUDPError(dst, tid, "announce too short")
	}
	r := parseAnnouncePacket(packet)
	fits := netip.Addr.Is4
	if host.Is6() {
		fits, r.NumWant = netip.Addr.Is6, min(want(r.NumWant), udpWant6)
	}
	out, ok := s.announce(r, host.WithZone(""), fits, func() netip.Addr { return towards(host) })
	if !ok {
		return appendUDPError(dst, tid, "this torrent is not served here")
	}
	dst = be.AppendUint32(dst, actionAnnounce)
	dst = be.AppendUint32(dst, tid)
	dst = be.AppendUint32(dst, uint32(s.interval/time.Second))
	dst = be.AppendUint32(dst, uint32(out.counts.Leechers))
	dst = be.AppendUint32(dst, uint32(out.counts.Seeders))
	if host.Is6() {
		return compact.Append6(dst, out.peers...)
	}
	return compact.Append4(dst, out.peers...)
}

// parseAnnouncePacket reads an announce of at least 98 bytes. Options behind it (BEP 41) say nothing to us.
func parseAnnouncePacket(p []byte) Request {
	r := Request{
		InfoHash: [20]byte(p[16:]), PeerID: [20]byte(p[36:]),
		Downloaded: int64(be.Uint64(p[56:])), Left: int64(be.Uint64(p[64:])), Uploaded: int64(be.Uint64(p[72:])),
		Key: be.Uint32(p[88:]), NumWant: int(int32(be.Uint32(p[92:]))), Port: be.Uint16(p[96:]),
	}
	if ev := be.Uint32(p[80:]); ev <= uint32(Stopped) {
		r.Event = Event(ev)
	}
	if r.Left < 0 {
		r.Left = 1 // not known to the client
	}
	return r
}

func (s *Server) udpScrape(dst, hashes []byte, tid uint32) []byte {
	dst = be.AppendUint32(dst, actionScrape)
	dst = be.AppendUint32(dst, tid)
	for n := 0; len(hashes) >= 20 && n < maxScrape; n++ {
		c, _ := s.scrape([20]byte(hashes)) // one that is not served counts nothing: the format has no gaps
		dst = be.AppendUint32(dst, uint32(c.Seeders))
		dst = be.AppendUint32(dst, uint32(min(c.Downloaded, 1<<31)))
		dst = be.AppendUint32(dst, uint32(c.Leechers))
		hashes = hashes[20:]
	}
	return dst
}

func appendUDPError(dst []byte, tid uint32, reason string) []byte {
	dst = be.AppendUint32(dst, actionError)
	dst = be.AppendUint32(dst, tid)
	return append(dst, reason...)
}

// towards returns the address this machine would send from to host. Connecting a UDP socket sends nothing.
func towards(host netip.Addr) netip.Addr {
	nc, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer nc.Close()
	return nc.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
