package core

import (
	"slices"

	"bittern/piece"
)

// blameState remembers who sent which block of the pieces that are not verified yet, and of the
// pieces that failed. A peer that sent a whole bad piece is a liar and banned at once. Of several
// none is accused: the piece is fetched again, from one peer at a time, and when it is good every
// block whose sum differs from the bad version names its sender. Where there is nothing to compare, a peer
// that had a part in several bad pieces is banned without proof.
type blameState struct {
	open map[int]*senders // look-up only
	free []*senders
	bad  map[int][]version // failed versions of a piece, look-up only

	liars int // convicted so far
}

// senders holds the sender of each block of one piece; nil where none has come.
type senders struct{ by []*link }

// A version is one failed try at a piece.
type version struct {
	by   []*link
	sums [][20]byte
}

const (
	maxVersions = 8 // failed versions kept of one piece
	maxUnproven = 3 // bad pieces without proof that a peer may have had a part in
)

// note remembers that l sent b.
func (s *blameState) note(layout *piece.Layout, b piece.Block, l *link) {
	p := s.open[int(b.Piece)]
	if p == nil {
		p = s.take(layout.Blocks(int(b.Piece)))
		if s.open == nil {
			s.open = make(map[int]*senders)
		}
		s.open[int(b.Piece)] = p
	}
	p.by[layout.Number(b)] = l
}

// take returns an empty record for n blocks, a used one if there is one.
func (s *blameState) take(n int) *senders {
	if k := len(s.free) - 1; k >= 0 {
		p := s.free[k]
		s.free = s.free[:k]
		p.by = slices.Grow(p.by[:0], n)[:n]
		clear(p.by)
		return p
	}
	return &senders{by: make([]*link, n)}
}

// close ends the record of a piece whose hash is known.
func (s *blameState) close(i int) *senders {
	p := s.open[i]
	delete(s.open, i)
	return p
}

// blameFor finds who is guilty of a failed piece, now or later.
func (c *Core) blameFor(i int, sums [][20]byte) {
	p := c.blame.close(i)
	if p == nil {
		return
	}
	if who := sole(p.by); who != nil {
		c.convict(who, i)
		return
	}
	if len(sums) != len(p.by) || len(c.blame.bad[i]) == maxVersions {
		c.suspect(p.by, i)
		return
	}
	if c.blame.bad == nil {
		c.blame.bad = make(map[int][]version)
	}
	c.blame.bad[i] = append(c.blame.bad[i], version{by: p.by, sums: slices.Clone(sums)})
}

// suspect counts a failed piece that proves nothing against those who sent it.
func (c *Core) suspect(by []*link, i int) {
	for n, l := range by {
		if l == nil || slices.Contains(by[:n], l) {
			continue
		}
		if l.unproven++; l.unproven == maxUnproven {
			c.convict(l, i)
		}
	}
}

// acquit compares a good piece with its failed versions and convicts who differed.
func (c *Core) acquit(i int, sums [][20]byte) {
	if p := c.blame.close(i); p != nil {
		clear(p.by)
		c.blame.free = append(c.blame.free, p)
	}
	versions := c.blame.bad[i]
	if versions == nil {
		return
	}
	delete(c.blame.bad, i)
	for _, v := range versions {
		for n, sum := range v.sums {
			if n < len(sums) && sum != sums[n] && v.by[n] != nil {
				c.convict(v.by[n], i)
			}
		}
	}
}

// sole returns the only sender of a piece, or nil if there were several.
func sole(by []*link) *link {
	for _, l := range by[1:] {
		if l != by[0] {
			return nil
		}
	}
	return by[0]
}

// convict bans a proven liar, connected or not, and with it whoever else is at its address.
func (c *Core) convict(l *link, i int) {
	if l.liar {
		return
	}
	l.liar = true
	c.blame.liars++
	c.dialing.ban(&l.contact)
	c.copies.remove(&l.remote)
	if c.byID[l.id] == l {
		c.drop(l, &Misdeed{What: "sent corrupt data in piece " + itoa(i), Ban: true})
	}
	for k := len(c.links) - 1; k >= 0; k-- { // backwards: they leave on the way
		if o := c.links[k]; c.dialing.banned(&o.remote) {
			c.drop(o, errBanned)
		}
	}
}
