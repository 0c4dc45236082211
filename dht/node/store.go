package node

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bittern/dht/krpc"
)

// Limits of what is stored for others.
const (
	maxTorrents   = 2000
	maxPeers      = 100 // of one torrent
	announceHolds = 30 * time.Minute
)

// A store holds the announces of others. It is bounded; what is old is forgotten.
type store struct {
	torrents []torrent // by info-hash
}

type torrent struct {
	hash  krpc.ID
	peers []announced // at least one; the oldest first
}

type announced struct {
	addr netip.AddrPort
	seed bool
	at   time.Time
}

func newStore() store { return store{} }

func (s *store) find(hash krpc.ID) (int, bool) {
	return slices.BinarySearchFunc(s.torrents, hash, func(t torrent, h krpc.ID) int { return slices.Compare(t.hash[:], h[:]) })
}

// expire drops what is too old of the torrent at i, and reports whether peers are left. One without any goes.
func (s *store) expire(now time.Time, i int) bool {
	t := &s.torrents[i]
	t.peers = slices.DeleteFunc(t.peers, func(p announced) bool { return now.Sub(p.at) >= announceHolds })
	if len(t.peers) == 0 {
		s.torrents = slices.Delete(s.torrents, i, i+1)
		return false
	}
	return true
}

// sweep drops the torrents whose peers are all too old.
func (s *store) sweep(now time.Time) {
	s.torrents = slices.DeleteFunc(s.torrents, func(t torrent) bool { return now.Sub(t.peers[len(t.peers)-1].at) >= announceHolds })
}

// put stores a peer: one for an address (BEP 33, "sets of unique IPs"). When all places are taken the torrent
// farthest from our id goes, for it is the one that others are least likely to ask us for.
func (s *store) put(now time.Time, self, hash krpc.ID, addr netip.AddrPort, seed bool) {
	i, ok := s.find(hash)
	if !ok {
		if len(s.torrents) >= maxTorrents && !s.makeRoom(now, self, hash) {
			return
		}
		i, _ = s.find(hash) // again: room was made
		s.torrents = slices.Insert(s.torrents, i, torrent{hash: hash})
	}
	t := &s.torrents[i]
	t.peers = slices.DeleteFunc(t.peers, func(p announced) bool {
		return p.addr.Addr() == addr.Addr() && (!krpc.Local(addr.Addr()) || p.addr == addr)
	})
	if len(t.peers) >= maxPeers {
		t.peers = slices.Delete(t.peers, 0, 1)
	}
	t.peers = append(t.peers, announced{addr, seed, now})
}

func (s *store) makeRoom(now time.Time, self, hash krpc.ID) bool {
	s.sweep(now)
	if len(s.torrents) < maxTorrents {
		return true
	}
	far := 0
	for i := range s.torrents {
		if self.Closer(s.torrents[far].hash, s.torrents[i].hash) {
			far = i
		}
	}
	if !self.Closer(hash, s.torrents[far].hash) {
		return false
	}
	s.torrents = slices.Delete(s.torrents, far, far+1)
	return true
}

// peers returns the stored peers of a family in random order; nil if there are none.
func (s *store) peers(now time.Time, hash krpc.ID, v6, noSeed bool, random *rand.Rand) []netip.AddrPort {
	i, ok := s.find(hash)
	if !ok || !s.expire(now, i) {
		return nil
	}
	var out []netip.AddrPort
	for _, p := range s.torrents[i].peers {
		if p.addr.Addr().Is4() != v6 && !(noSeed && p.seed) {
			out = append(out, p.addr)
		}
	}
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// scrape returns the filters of BEP 33; nil if nothing is stored.
func (s *store) scrape(now time.Time, hash krpc.ID) (seeds, peers *krpc.Bloom) {
	i, ok := s.find(hash)
	if !ok || !s.expire(now, i) {
		return nil, nil
	}
	seeds, peers = &krpc.Bloom{}, &krpc.Bloom{}
	for _, p := range s.torrents[i].peers {
		if p.seed {
			seeds.Add(p.addr.Addr())
		} else {
			peers.Add(p.addr.Addr())
		}
	}
	return seeds, peers
}

// sample returns up to n of the info-hashes, 20 bytes each; never nil.
func (s *store) sample(now time.Time, n int, random *rand.Rand) []byte {
	s.sweep(now)
	out := []byte{}
	for _, i := range random.Perm(len(s.torrents))[:min(n, len(s.torrents))] {
		out = append(out, s.torrents[i].hash[:]...)
	}
	return out
}

// tokenLife is how often the secret behind the tokens is changed; the one before holds too (BEP 5: "a secret that changes
// every five minutes and tokens up to ten minutes old are accepted").
const tokenLife = 5 * time.Minute

const tokenLen = 8

// tokens are what an announce must bring, to show that its sender is where it says.
type tokens struct {
	random      *rand.Rand
	secret, old [32]byte
	turned      time.Time
}

func newTokens(random *rand.Rand) tokens {
	t := tokens{random: random}
	t.secret, t.old = t.draw(), t.draw()
	return t
}

func (t *tokens) draw() (s [32]byte) {
	for i := 0; i < len(s); i += 8 {
		binary.LittleEndian.PutUint64(s[i:], t.random.Uint64())
	}
	return s
}

func (t *tokens) turn(now time.Time) {
	switch {
	case t.turned.IsZero():
		t.turned = now
	case now.Sub(t.turned) >= 2*tokenLife:
		t.secret, t.old, t.turned = t.draw(), t.draw(), now
	case now.Sub(t.turned) >= tokenLife:
		t.secret, t.old, t.turned = t.draw(), t.secret, now
	}
}

func token(secret [32]byte, ip netip.Addr) []byte {
	h := hmac.New(sha1.New, secret[:])
	h.Write(ip.AsSlice())
	return h.Sum(nil)[:tokenLen]
}

func (t *tokens) issue(now time.Time, ip netip.Addr) []byte {
	t.turn(now)
	return token(t.secret, ip)
}

func (t *tokens) valid(now time.Time, ip netip.Addr, got []byte) bool {
	t.turn(now)
	return hmac.Equal(got, token(t.secret, ip)) || hmac.Equal(got, token(t.old, ip))
}

// Limits of what one address may send.
const (
	floodRate  = 5 // queries a second, counted over floodOver
	floodOver  = 10 * time.Second
	floodBlock = 5 * time.Minute
	maxCallers = 1024 // addresses that are watched
)

// floods watches who asks too much; such a one is not answered for a while, as in libtorrent.
type floods struct {
	callers []caller // in the order they were first seen
}

type caller struct {
	who   netip.AddrPort // port 0, but in ranges where one address is many hosts; of IPv6 the first of the /64, which one host may have
	count int
	since time.Time
	until time.Time // blocked
}

// allow counts a query and reports whether it may be answered. Callers beyond the number that can be watched push out the
// one seen first, blocked or not: there is no more room for memory than that.
func (f *floods) allow(now time.Time, from netip.AddrPort) bool {
	who := netip.AddrPortFrom(from.Addr(), 0)
	switch {
	case krpc.Local(from.Addr()):
		who = from
	case from.Addr().Is6():
		who = netip.AddrPortFrom(krpc.Network(from.Addr()).Addr(), 0)
	}
	i := slices.IndexFunc(f.callers, func(c caller) bool { return c.who == who })
	if i < 0 {
		if len(f.callers) >= maxCallers {
			f.callers = slices.Delete(f.callers, 0, 1)
		}
		f.callers = append(f.callers, caller{who: who, since: now})
		i = len(f.callers) - 1
	}
	c := &f.callers[i]
	if now.Before(c.until) {
		return false
	}
	if now.Sub(c.since) >= floodOver {
		c.count, c.since = 0, now
	}
	c.count++
	if c.count > floodRate*int(floodOver/time.Second) {
		c.until = now.Add(floodBlock)
		return false
	}
	return true
}
