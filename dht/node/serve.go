package node

import (
	"errors"
	"net/netip"
	"time"

	"bittern/dht/krpc"
)

const (
	// amplify bounds an answer to an address that has proved nothing: it may be forged, and its owner is not to
	// be hit by more than a few times what somebody else sent.
	amplify = 3

	sampleEvery = 10 * time.Minute // how long a sample of info-hashes holds (BEP 51 interval)
	sampleSize  = 20
)

// A sample is what sample_infohashes is answered with; it stays the same for a while, so that asking again is in vain.
type sample struct {
	hashes []byte
	until  time.Time
}

// serve answers a query. err is what Parse said of it.
func (n *Node) serve(now time.Time, f *family, from netip.AddrPort, m *krpc.Message, err error, size int) {
	if n.opt.ReadOnly || !n.floods.allow(now, from) || n.answers.Ready(now).After(now) {
		return
	}
	fault, malformed := errors.AsType[*krpc.Error](err)
	if err != nil && !malformed {
		return
	}
	out := &krpc.Message{Kind: krpc.IsReply, T: m.T, IP: from}
	if !malformed {
		fault = n.answer(now, f, from, m, &out.Reply)
	}
	if fault != nil {
		out.Kind, out.Error = krpc.IsError, *fault
	} else if !m.ReadOnly {
		f.table.Asked(now, krpc.Contact{ID: m.Query.ID, Addr: from})
	}
	limit := krpc.MaxPacket
	if !f.table.Knows(from) && m.Query.Method != krpc.AnnouncePeer {
		limit = min(limit, amplify*size)
	}
	if n.fit(out, limit) {
		n.answers.Take(now, n.packet(from, out))
	}
}

// answer works out the reply to a query, or the error.
func (n *Node) answer(now time.Time, f *family, from netip.AddrPort, m *krpc.Message, r *krpc.Reply) *krpc.Error {
	q := &m.Query
	r.ID = f.table.Self()
	switch q.Method {
	case krpc.Ping:
	case krpc.FindNode:
		n.nodes(now, f, q, r)
	case krpc.SampleInfohashes:
		n.nodes(now, f, q, r)
		if !now.Before(n.sample.until) {
			n.sample = sample{hashes: n.store.sample(now, sampleSize, n.opt.Random), until: now.Add(sampleEvery)}
		}
		r.Samples, r.Num, r.Interval = n.sample.hashes, int64(len(n.store.torrents)), int64(sampleEvery/time.Second)
	case krpc.GetPeers:
		n.nodes(now, f, q, r)
		r.Token = n.tokens.issue(now, from.Addr())
		r.Values = n.store.peers(now, q.Target, f.v6, q.NoSeed, n.opt.Random)
		if q.Scrape {
			r.Seeds, r.Peers = n.store.scrape(now, q.Target)
		}
	case krpc.AnnouncePeer:
		if !n.tokens.valid(now, from.Addr(), q.Token) {
			return &krpc.Error{Code: krpc.ProtocolError, Text: "bad token"}
		}
		port := q.Port
		if q.ImpliedPort {
			port = from.Port()
		}
		n.store.put(now, f.table.Self(), q.Target, netip.AddrPortFrom(from.Addr(), port), q.Seed)
	default:
		return &krpc.Error{Code: krpc.MethodUnknown, Text: "method unknown"}
	}
	return nil
}

// nodes names the nodes nearest to the target, of the families that the query wants (BEP 32).
func (n *Node) nodes(now time.Time, f *family, q *krpc.Query, r *krpc.Reply) {
	for _, o := range n.families {
		wanted := q.Want.N6 && o.v6 || q.Want.N4 && !o.v6
		if q.Want == (krpc.Want{}) {
			wanted = o == f
		}
		if !wanted {
			continue
		}
		nodes := o.table.Closest(make([]krpc.Contact, 0, krpc.K), now, q.Target, krpc.K)
		if o.v6 {
			r.Nodes6 = nodes
		} else {
			r.Nodes = nodes
		}
	}
}

// fit cuts a message down to limit bytes, and reports whether that can be done. What goes first is what the asker can
// best do without: the filters of a scrape in a small answer, some of the peers if there are many, then the far nodes, then
// the other peers.
func (n *Node) fit(m *krpc.Message, limit int) bool {
	m.V = n.opt.Version[:]
	r := &m.Reply
	for {
		over := len(krpc.Append(nil, m)) - limit
		switch {
		case over <= 0:
			return true
		case m.Kind != krpc.IsReply:
			return false
		case r.Seeds != nil && limit < krpc.MaxPacket: // they would be most of it
			r.Seeds, r.Peers = nil, nil
		case len(r.Values) > krpc.K:
			r.Values = r.Values[:max(krpc.K, len(r.Values)-(over+7)/8)] // 8 bytes each, or 21
		case len(r.Nodes6) > 0:
			r.Nodes6 = r.Nodes6[:len(r.Nodes6)-1]
		case len(r.Nodes) > 0:
			r.Nodes = r.Nodes[:len(r.Nodes)-1]
		case len(r.Values) > 0:
			r.Values = r.Values[:len(r.Values)-1]
		case len(r.Samples) > 0:
			r.Samples = r.Samples[:len(r.Samples)-20]
		default:
			return false
		}
	}
}
