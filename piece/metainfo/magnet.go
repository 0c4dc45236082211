package metainfo

import (
	"cmp"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of what is kept of a magnet link; what follows is left out.
const (
	MaxPeers       = 100     // of x.pe
	MaxTorrentURLs = 16      // of xs and as together
	maxRanges      = 1 << 16 // of so; more are refused, for to leave some out is to fetch something else
)

// A Magnet is what a magnet link says (BEP 9, BEP 53). Of it only the info-hashes can be trusted: all
// else comes from whoever wrote the link, and its slices are bounded. They must not be changed.
type Magnet struct {
	InfoHash   [20]byte
	InfoHashV2 [32]byte // of a hybrid, else zero
	Name       string   // dn: a label to show until the torrent is known, never a path; may be ""

	// Trackers are the http, https and udp URLs of tr, at most MaxTrackers, in the form of
	// [Torrent.Trackers]: each is a tier of its own.
	Trackers [][]string
	Peers    []string // x.pe as host:port, at most MaxPeers
	WebSeeds []string // http and https URLs of ws, at most MaxWebSeeds
	Torrents []string // http and https URLs of xs and as, where the .torrent may be had; at most MaxTorrentURLs

	// Select are the files to download (so, BEP 53), in ascending order with gaps between; none means
	// all. See [Magnet.Selected].
	Select []FileRange
}

// A FileRange is the files from First to Last, both included, numbered from 0.
type FileRange struct{ First, Last int }

// ParseMagnet reads a magnet link or a bare info-hash. What cannot be used of the optional parts is
// left out, but for so: a slip there must not turn one file into all of them.
//
// The error matches ErrInvalid and names what it is about, or is ErrV2Only for a link that has the
// version 2 hash only. Of two version 1 hashes the last counts, as in libtorrent and Transmission: one
// link should lead to one torrent whoever follows it.
func ParseMagnet(s string) (*Magnet, error) {
	if hash, ok := ParseInfoHash(s); ok {
		return &Magnet{InfoHash: hash}, nil
	}
	scheme, query, ok := strings.Cut(s, "?")
	if !ok || !strings.EqualFold(scheme, "magnet:") {
		return nil, invalid("%s is not a magnet link (magnet:?xt=urn:btih:...)", quote(s))
	}
	p := newMagnetParser()
	for parameter := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(parameter, "=")
		// Where there are several, many writers number them: tr.1, tr.2.
		if name, n, ok := strings.Cut(key, "."); ok && digits(n) {
			key = name
		}
		if err := p.parameter(strings.ToLower(key), value); err != nil {
			return nil, err
		}
	}
	return p.magnet()
}

// ParseInfoHash reads a version 1 info-hash: 40 hexadecimal digits or 32 of base32, in any case (BEP 9).
func ParseInfoHash(s string) (hash [20]byte, ok bool) {
	var err error
	switch len(s) {
	case hex.EncodedLen(len(hash)):
		_, err = hex.Decode(hash[:], []byte(s))
	case base32.StdEncoding.EncodedLen(len(hash)):
		var n int
		// The decoder skips line ends, and then there are too few bytes.
		n, err = base32.StdEncoding.Decode(hash[:], []byte(strings.ToUpper(s)))
		if n != len(hash) {
			return [20]byte{}, false
		}
	default:
		return hash, false
	}
	if err != nil {
		return [20]byte{}, false
	}
	return hash, true
}

// A magnetParser fills in a Magnet.
type magnetParser struct {
	Magnet
	v1, v2                       bool   // the hash is there
	other                        string // an xt that is no torrent's
	trackers, webSeeds, torrents collector
}

func newMagnetParser() *magnetParser {
	web := []string{"http", "https"}
	return &magnetParser{
		trackers: newCollector(MaxTrackers, "http", "https", "udp"),
		webSeeds: newCollector(MaxWebSeeds, web...),
		torrents: newCollector(MaxTorrentURLs, web...),
	}
}

// parameter takes over one parameter of the link, whose key is in lower case.
func (p *magnetParser) parameter(key, value string) error {
	switch key {
	case "xt":
		return p.topic(unescape(value))
	case "dn":
		if p.Name == "" {
			name := unescape(strings.ReplaceAll(value, "+", " ")) // in a name, as HTML forms write it
			p.Name = name[:min(len(name), maxText)]
		}
	case "tr":
		p.trackers.take(unescape(value))
	case "x.pe":
		p.peer(unescape(value))
	case "ws":
		p.webSeeds.take(unescape(value))
	case "xs", "as":
		p.torrents.take(unescape(value))
	case "so":
		return p.ranges(unescape(value))
	}
	return nil
}

// topic takes over an xt. Links that serve several networks have some that are not for us.
func (p *magnetParser) topic(urn string) error {
	const prefix = len("urn:btih:")
	kind, hash := urn, ""
	if len(urn) >= prefix {
		kind, hash = strings.ToLower(urn[:prefix]), urn[prefix:]
	}
	switch kind {
	case "urn:btih:":
		if p.InfoHash, p.v1 = ParseInfoHash(hash); !p.v1 {
			return invalid("the info-hash %s in the magnet link is not 40 hexadecimal or 32 base32 digits", quote(hash))
		}
	case "urn:btmh:":
		// The multihash of a SHA-256 sum: code 0x12, length 0x20.
		digits, ok := strings.CutPrefix(hash, "1220")
		if ok = ok && len(digits) == hex.EncodedLen(len(p.InfoHashV2)); ok {
			_, err := hex.Decode(p.InfoHashV2[:], []byte(digits))
			ok = err == nil
		}
		if p.v2 = ok; !ok {
			return invalid("the hash %s in the magnet link is not 1220 and 64 hexadecimal digits", quote(hash))
		}
	default:
		p.other = urn
	}
	return nil
}

// peer takes over an x.pe: "hostname:port, ipv4-literal:port or [ipv6-literal]:port" (BEP 9).
func (p *magnetParser) peer(s string) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 || !digits(s[at+1:]) || len(p.Peers) >= MaxPeers {
		return
	}
	host := s[:at]
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.Contains(bare, ":") != (len(host) == len(bare)+2) {
		return // brackets are for IPv6, which cannot do without
	}
	if ip, err := netip.ParseAddr(bare); err == nil && (ip.Unmap().IsUnspecified() || ip.Unmap().IsMulticast()) {
		return
	}
	if address, ok := hostPort(bare, int64(number(s[at+1:]))); ok && !slices.Contains(p.Peers, address) {
		p.Peers = append(p.Peers, address)
	}
}

// ranges takes over a so, as in "0,2,4,6-8". Nothing is expanded: how many files there are is not known.
func (p *magnetParser) ranges(s string) error {
	for item := range strings.SplitSeq(s, ",") {
		if item == "" {
			continue
		}
		first, last, ok := span(item)
		if !ok || last < first {
			return invalid("%s in the magnet link is not a file number or range", quote(item))
		}
		if len(p.Select) == maxRanges {
			return invalid("the magnet link chooses more than %d ranges of files", maxRanges)
		}
		p.Select = append(p.Select, FileRange{first, last})
	}
	return nil
}

// magnet returns what has been gathered.
func (p *magnetParser) magnet() (*Magnet, error) {
	switch {
	case p.v1:
	case p.v2:
		return nil, ErrV2Only
	case p.other != "":
		return nil, invalid("the magnet link is for %s, which is no torrent (urn:btih:...)", quote(p.other))
	default:
		return nil, invalid("the magnet link names no torrent (xt=urn:btih:...)")
	}
	for i := range p.trackers.urls { // clipped, so that no tier grows into the next
		p.Trackers = append(p.Trackers, p.trackers.urls[i:i+1:i+1])
	}
	m := p.Magnet
	m.WebSeeds, m.Torrents, m.Select = p.webSeeds.urls, p.torrents.urls, merge(p.Select)
	return &m, nil
}

// merge sorts ranges and makes one of those that touch.
func merge(rs []FileRange) []FileRange {
	slices.SortFunc(rs, func(a, b FileRange) int { return cmp.Compare(a.First, b.First) })
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && r.First-1 <= out[n-1].Last {
			out[n-1].Last = max(out[n-1].Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// Selected returns which of t's files the link chooses: one bool for each of [Torrent.Files], or nil
// when the link makes no choice, which means all. BEP 53 says no more than "Files are zero-indexed",
// so everything in the torrent's list counts, as in libtorrent: padding, and the symbolic links that
// are not in Files. Padding is never chosen. The error matches [ErrNoMatch].
func (m *Magnet) Selected(t *Torrent) ([]bool, error) {
	if len(m.Select) == 0 {
		return nil, nil
	}
	chosen, found := make([]bool, len(t.Files)), false
	rest, links, number := m.Select, t.links, 0
	for i := range t.Files {
		for ; len(links) > 0 && links[0] == number; number++ {
			links = links[1:]
		}
		for len(rest) > 0 && rest[0].Last < number {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].First <= number && !t.Files[i].Pad {
			chosen[i], found = true, true
		}
		number++
	}
	if !found {
		return nil, fmt.Errorf("metainfo: %w the magnet link's %s", ErrNoMatch, quote("so="+spans(m.Select)))
	}
	return chosen, nil
}

// spans writes ranges as so does.
func spans(rs []FileRange) string {
	var b []byte
	for i, r := range rs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.First), 10)
		if r.Last != r.First {
			b = strconv.AppendInt(append(b, '-'), int64(r.Last), 10)
		}
	}
	return string(b)
}

// Link returns m as a magnet link. [ParseMagnet] makes the same Magnet of it.
func (m *Magnet) Link() string {
	var b strings.Builder
	b.WriteString("magnet:?xt=urn:btih:" + hex.EncodeToString(m.InfoHash[:]))
	if m.InfoHashV2 != [32]byte{} {
		b.WriteString("&xt=urn:btmh:1220" + hex.EncodeToString(m.InfoHashV2[:]))
	}
	if m.Name != "" {
		b.WriteString("&dn=" + escape(m.Name))
	}
	for _, tier := range m.Trackers {
		for _, u := range tier {
			b.WriteString("&tr=" + escape(u))
		}
	}
	for _, p := range m.Peers {
		b.WriteString("&x.pe=" + p) // libtorrent does not unescape this, nor so
	}
	for _, u := range m.WebSeeds {
		b.WriteString("&ws=" + escape(u))
	}
	for _, u := range m.Torrents {
		b.WriteString("&xs=" + escape(u))
	}
	if len(m.Select) > 0 {
		b.WriteString("&so=" + spans(m.Select))
	}
	return b.String()
}

// Magnet returns the magnet link of t: its info-hashes, name and trackers.
func (t *Torrent) Magnet() string {
	m := Magnet{InfoHash: t.InfoHash, InfoHashV2: t.InfoHashV2, Name: t.Name, Trackers: t.Trackers}
	return m.Link()
}

// escape is url.QueryEscape with blanks as %20: many clients leave a plus as it is.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// unescape undoes percent-encoding. What is none stays: names like "100% true" are often written as
// they are.
func unescape(s string) string {
	at := strings.IndexByte(s, '%')
	if at < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)), s[:at]...)
	for i := at; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(c))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}
