package tracker

import (
	"net/netip"
	"time"

	"bittern/bencode"
	"bittern/peer/compact"
)

// answerLimits bound the nesting and size of an HTTP tracker's answer: 40,000 peers as dictionaries still fit.
var answerLimits = bencode.Limits{Depth: 10, Tokens: 300_000}

// parseAnswer reads the bencoded dictionary that an HTTP tracker sends. Whatever follows it is ignored: some
// trackers end with a line break. A refusal comes back as *FailureError.
func parseAnswer(body []byte) (bencode.Value, error) {
	v, _, err := bencode.DecodePrefix(body, answerLimits)
	if err != nil {
		return bencode.Value{}, badAnswer("%v", err)
	}
	if v.Kind() != bencode.Dict {
		return bencode.Value{}, badAnswer("not a dictionary")
	}
	if reason := v.Get("failure reason"); reason.Kind() != bencode.Invalid {
		return bencode.Value{}, failure(reason, v.Get("retry in"))
	}
	return v, nil
}

// failure reads BEP 31's "retry in": "either a positive integer or the value "never"", in minutes. The
// BEP's examples write the integer as a string, so both are taken.
func failure(reason, retry bencode.Value) *FailureError {
	text, _ := reason.Text()
	if text == "" {
		text = "no reason given"
	}
	e := &FailureError{Reason: printable(text)}
	minutes, ok := retry.Int()
	if s, isText := retry.Text(); isText {
		e.Never = s == "never"
		minutes, ok = decimal(s)
	}
	if ok && minutes > 0 {
		e.RetryIn = clampSeconds(min(minutes, 1<<32) * 60)
	}
	return e
}

// decimal reads a short unsigned number.
func decimal(s string) (n int64, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || len(s) > 12 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, s != ""
}

// parseAnnounce reads an announce's answer. Fields of a wrong type count as absent.
func parseAnnounce(body []byte, hash [20]byte) (Response, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return Response{}, err
	}
	// No tracker needs to name the torrent; one that names another answers somebody else.
	if other, ok := v.Get("info_hash").Bytes(); ok && string(other) != string(hash[:]) {
		return Response{}, badAnswer("it is about another info-hash")
	}
	r := Response{Interval: defaultInterval, Seeders: count(v.Get("complete")), Leechers: count(v.Get("incomplete"))}
	if n, ok := v.Get("interval").Int(); ok {
		r.Interval = clampSeconds(n)
	}
	if n, ok := v.Get("min interval").Int(); ok {
		r.MinInterval = clampSeconds(n)
	}
	if s, ok := v.Get("warning message").Text(); ok {
		r.Warning = printable(s)
	}
	if s, ok := v.Get("tracker id").Text(); ok && len(s) <= maxText {
		r.trackerID = s
	}
	if raw, ok := v.Get("external ip").Bytes(); ok {
		if ip, ok := netip.AddrFromSlice(raw); ok {
			r.ExternalIP = ip.Unmap()
		}
	}
	r.Peers = peers(v.Get("peers"), v.Get("peers6"))
	return r, nil
}

// count reads a number of peers; -1 when there is none.
func count(v bencode.Value) int {
	n, ok := v.Int()
	if !ok || n < 0 {
		return -1
	}
	return int(min(n, 1<<30))
}

// peers reads both forms of "peers", a list of dictionaries (BEP 3) and a packed string (BEP 23), and "peers6" (BEP 7).
func peers(v4, v6 bencode.Value) []netip.AddrPort {
	var out []netip.AddrPort
	if raw, ok := v4.Bytes(); ok {
		out = usable(out, compact.Parse4(clip(raw, compact.Size4)))
	}
	for p := range v4.List() {
		if len(out) == maxPeers {
			break
		}
		if a, ok := dictionaryPeer(p); ok {
			out = usable(out, []netip.AddrPort{a})
		}
	}
	if raw, ok := v6.Bytes(); ok {
		out = usable(out, compact.Parse6(clip(raw, compact.Size6)))
	}
	return out
}

// dictionaryPeer reads {"ip": text, "port": number}. BEP 3 allows a DNS name as "ip"; names are left out,
// because looking up whatever a stranger lists would let it aim our resolver.
func dictionaryPeer(p bencode.Value) (netip.AddrPort, bool) {
	text, _ := p.Get("ip").Text()
	port, ok := p.Get("port").Int()
	if !ok || port < 1 || port > 65535 || len(text) > 45 {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(text)
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(port)), err == nil
}

// clip bounds a packed list to what is kept of it.
func clip(raw []byte, size int) []byte { return raw[:min(len(raw), maxPeers*size)] }

// usable appends those of more that can be a peer, to at most maxPeers.
func usable(out, more []netip.AddrPort) []netip.AddrPort {
	for _, a := range more {
		if len(out) < maxPeers && compact.Usable(a) {
			out = append(out, a)
		}
	}
	return out
}

// parseScrape reads a scrape's answer (BEP 48). Only the torrents asked for are looked at; those that the tracker
// does not know are absent from the map.
func parseScrape(body []byte, hashes [][20]byte) (map[[20]byte]Counts, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	files := v.Get("files")
	if files.Kind() != bencode.Dict {
		return nil, badAnswer("no files in a scrape")
	}
	out := make(map[[20]byte]Counts, len(hashes))
	for _, h := range hashes {
		f := files.Get(string(h[:]))
		if f.Kind() != bencode.Dict {
			continue
		}
		n, _ := f.Get("downloaded").Int()
		out[h] = Counts{Seeders: max(0, count(f.Get("complete"))), Leechers: max(0, count(f.Get("incomplete"))), Downloaded: max(0, n)}
	}
	return out, nil
}

// retryAfter reads the seconds form of HTTP's Retry-After.
func retryAfter(header string) time.Duration {
	if n, ok := decimal(header); ok && n > 0 {
		return clampSeconds(n)
	}
	return 0
}
