package metainfo

import (
	"strings"

	"bittern/bencode"
)

// What is left for a [wrapping] within the limits of [Parse].
const (
	wrapSize   = 4 << 20 // bytes
	wrapTokens = 4096
	wrapDepth  = 1
)

// FromInfo makes a Torrent of an info dictionary alone, which is what peers send as metadata (BEP 9),
// by the checks of [Parse]. The Torrent aliases info and the other arguments, which must not be changed
// afterwards; trackers and web seeds are those of a [Magnet] or another Torrent and taken as they are.
//
// That it is the torrent that was asked for is the caller's to check: InfoHash is over info as it
// stands. The error is ErrV2Only or matches ErrInvalid.
func FromInfo(info []byte, trackers [][]string, webSeeds []string) (*Torrent, error) {
	if len(info) > MaxSize-wrapSize {
		return nil, invalid("an info dictionary larger than %d MiB", (MaxSize-wrapSize)>>20)
	}
	lim := bencode.Limits{Depth: bencode.DefaultDepth - wrapDepth, Tokens: bencode.DefaultTokens - wrapTokens}
	v, rest, err := bencode.DecodePrefix(info, lim)
	switch {
	case err != nil:
		return nil, &InvalidError{Reason: "not an info dictionary", Err: err}
	case v.Kind() != bencode.Dict || len(rest) > 0:
		return nil, invalid("not an info dictionary")
	}
	p := parser{Torrent: &Torrent{Info: info, Trackers: trackers, WebSeeds: webSeeds}, rules: systemRules(), bare: true}
	if err := p.info(v, bencode.Value{}); err != nil {
		return nil, err
	}
	p.Warnings = p.lines()
	return p.Torrent, nil
}

// AppendTorrent appends t as a .torrent file to dst. The info dictionary is copied as it is, because a
// canonical spelling of it would be another torrent; what stands around it is canonical. The piece
// layers of a hybrid (BEP 52) are not kept.
func (t *Torrent) AppendTorrent(dst []byte) []byte {
	w := wrapping{
		trackers: t.Trackers, webSeeds: t.WebSeeds, httpSeeds: t.HTTPSeeds, nodes: t.Nodes,
		comment: t.Comment, createdBy: t.CreatedBy, creationDate: t.CreationDate,
	}
	return w.end(append(w.begin(dst), t.Info...))
}

// A wrapping is what stands around the info dictionary of a .torrent file. Empty parts are left out.
type wrapping struct {
	trackers            [][]string
	webSeeds, httpSeeds []string
	nodes               []string // host:port
	comment, createdBy  string
	creationDate        int64
}

// begin appends the keys before the info dictionary and the key of that, which is to follow.
func (w wrapping) begin(out []byte) []byte {
	out = append(out, 'd')
	if tiers := w.trackers; len(tiers) > 0 {
		out = bencode.AppendString(bencode.AppendString(out, "announce"), tiers[0][0])
		if len(tiers) > 1 || len(tiers[0]) > 1 {
			out = bencode.Append(bencode.AppendString(out, "announce-list"), tiers)
		}
	}
	out = optional(out, "comment", w.comment)
	out = optional(out, "created by", w.createdBy)
	if w.creationDate != 0 {
		out = bencode.AppendInt(bencode.AppendString(out, "creation date"), w.creationDate)
	}
	if len(w.httpSeeds) > 0 {
		out = bencode.Append(bencode.AppendString(out, "httpseeds"), w.httpSeeds)
	}
	return bencode.AppendString(out, "info")
}

// end appends what comes after the info dictionary.
func (w wrapping) end(out []byte) []byte {
	if len(w.nodes) > 0 {
		out = append(bencode.AppendString(out, "nodes"), 'l')
		for _, address := range w.nodes {
			at := strings.LastIndexByte(address, ':')
			out = bencode.AppendString(append(out, 'l'), strings.Trim(address[:at], "[]"))
			out = append(bencode.AppendInt(out, int64(number(address[at+1:]))), 'e')
		}
		out = append(out, 'e')
	}
	switch len(w.webSeeds) {
	case 0:
	case 1: // not every client reads a list
		out = optional(out, "url-list", w.webSeeds[0])
	default:
		out = bencode.Append(bencode.AppendString(out, "url-list"), w.webSeeds)
	}
	return append(out, 'e')
}

// optional appends a key and its string, or nothing when that is empty.
func optional(out []byte, key, s string) []byte {
	if s == "" {
		return out
	}
	return bencode.AppendString(bencode.AppendString(out, key), s)
}
