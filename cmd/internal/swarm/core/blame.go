package core

import (
	"slices"
	"time"

	"bittern/peer/choke"
	"bittern/piece"
)

// blameState remembers who sent which block of the pieces that are not verified yet, and of the
// pieces that failed. A peer that sent a whole bad piece is a liar and banned at once. Of several
// none is accused: the piece is fetched again, from one peer alone, and when it is good every
// block whose sum differs from the bad version names its sender.
//
// A liar has mostly sent something of other pieces, too, which would fail in their turn. What a proven one has sent
// is forgotten. While several are under suspicion they wait, and so do the pieces that they had a part in: see [trial].
type blameState struct {
	open   map[int]*senders // look-up only
	order  []*senders       // the same: what is ranged over
	free   []*senders
	trials []*trial // oldest first
	weigh  bool     // who waits is to be worked out again
	round  int      // of that; see link.suspectIn

	liars int // convicted so far
}

// senders holds the sender of each block of one piece; nil where none is stored.
type senders struct {
	piece   int
	by      []*link
	missing int  // blocks that are not stored
	at      int  // index in blameState.order
	held    bool // the piece waits for a trial
}

// A trial is about a piece that failed and that several have sent. Until it is good, or has failed again by one peer
// alone, nothing is asked of its suspects, and no other piece that they had a part in is completed: so no liar
// spoils a second one. The piece is fetched by somebody who is no suspect or, if nobody else can and others have nothing to give or it
// takes too long, by the suspect that has sent most good blocks.
type trial struct {
	piece    int
	since    time.Time // of the last failure
	retrier  *link     // the suspect that fetches it again; nil means that others do
	retrying time.Time // since when that one does
	worth    float64   // what its first suspects gave lately when it began, bytes/s
	over     bool      // its suspects wait no longer
	versions []version
}

// A version is one failed try at a piece.
type version struct {
	by   []*link
	sums [][20]byte
}

const (
	// trialTime is how long suspects wait for a piece to be fetched again by others, whatever they were worth. Then they wait as long as
	// the others give more than they gave: what an honest one could send is worth more than another bad piece. But after mostTrial they
	// are asked for the piece themselves, one after the other for trialTime, for they may be worth more than they have shown. What is
	// known of the piece is kept.
	trialTime = 30 * time.Second
	mostTrial = 2 * time.Minute

	// manyGood is how many blocks of good pieces a peer must have sent to be trusted rather than one that has not: 768 KiB,
	// which somebody who lies in every tenth block manages in one of 150 cases.
	manyGood = 48

	maxVersions = 8  // failed versions kept of one piece
	maxTrials   = 32 // pieces of which failed versions are kept
	maxUnclear  = 3  // bad pieces without proof that a peer may have had a part in
)

// note remembers that l sent b.
func (s *blameState) note(layout *piece.Layout, b piece.Block, l *link) *senders {
	p := s.open[int(b.Piece)]
	if p == nil {
		p = s.take(layout.Blocks(int(b.Piece)))
		p.piece, p.at = int(b.Piece), len(s.order)
		if s.open == nil {
			s.open = make(map[int]*senders)
		}
		s.open[p.piece] = p
		s.order = append(s.order, p)
	}
	p.by[layout.Number(b)] = l
	p.missing--
	return p
}

// take returns an empty record for n blocks, a used one if there is one.
func (s *blameState) take(n int) *senders {
	p := &senders{}
	if k := len(s.free) - 1; k >= 0 {
		p, s.free = s.free[k], s.free[:k]
	}
	*p = senders{by: slices.Grow(p.by[:0], n)[:n], missing: n}
	clear(p.by)
	return p
}

// close ends the record of a piece whose hash is known, or of which nothing is stored any more.
func (s *blameState) close(i int) *senders {
	p := s.open[i]
	if p == nil {
		return nil
	}
	delete(s.open, i)
	last := s.order[len(s.order)-1]
	s.order[p.at], last.at = last, p.at
	s.order = s.order[:len(s.order)-1]
	return p
}

// reuse keeps a closed record that nobody looks at any more for the next piece.
func (s *blameState) reuse(p *senders) {
	clear(p.by)
	s.free = append(s.free, p)
}

// trial returns the trial about a piece, or nil.
func (s *blameState) trial(i int) *trial {
	for _, t := range s.trials {
		if t.piece == i {
			return t
		}
	}
	return nil
}

// suspected reports whether l is one of several of whom one has lied, and who wait until it is known which.
func (s *blameState) suspected(l *link) bool { return l.suspectIn == s.round && s.round > 0 }

// unwelcome reports whether b comes at the wrong time: it is of a piece that is on trial, and not from somebody who is to
// fetch that again; or it is the last block of a piece that a suspect has had a part in, or would have. Then it
// counts as not received.
func (c *Core) unwelcome(l *link, b piece.Block) bool {
	s := &c.blame
	if len(s.trials) == 0 {
		return false
	}
	if t := s.trial(int(b.Piece)); t != nil {
		return s.suspected(l) && t.retrier != l
	}
	p := s.open[int(b.Piece)]
	if p == nil {
		return s.suspected(l) && c.cfg.Layout.Blocks(int(b.Piece)) == 1
	}
	return p.missing == 1 && p.by[c.cfg.Layout.Number(b)] == nil && (p.held || s.suspected(l))
}

// leaveOut throws away the block of this event, which is unwelcome.
func (c *Core) leaveOut(l *link, b piece.Block) {
	c.explain(Note{What: "leave out a block", Why: "its piece is on trial, or waits for one and would be complete", Link: l.id, Piece: int(b.Piece) + 1, Blocks: 1})
	c.pick.sched.Return(l.sched, b)
	c.waste(int(b.Length))
}

// stored takes note of who sent a block that is stored.
func (c *Core) stored(l *link, b piece.Block) {
	p := c.blame.note(&c.cfg.Layout, b, l)
	if !p.held && c.blame.suspected(l) && c.blame.trial(p.piece) == nil {
		c.hold(p, true)
	}
}

// hold lets a piece wait for a trial, or go on.
func (c *Core) hold(p *senders, on bool) {
	p.held = on
	what := "go on with a piece"
	if on {
		what = "hold a piece"
	}
	c.explain(Note{What: what, Why: "a suspect had a part in it", Piece: p.piece + 1, Blocks: len(p.by) - p.missing})
	c.pick.sched.Hold(p.piece, on)
}

// blameFor finds who is guilty of a failed piece, now or later.
func (c *Core) blameFor(i int, sums [][20]byte) {
	p := c.blame.close(i)
	if p == nil {
		return
	}
	c.blame.weigh = true
	if t := c.blame.trial(i); t != nil {
		t.since, t.retrier, t.over = c.now, nil, false
	}
	who := sole(p.by)
	switch {
	case who != nil:
		c.explain(Note{What: "bad piece", Why: "of one peer alone", Link: who.id, Piece: i + 1})
		c.convict(who, i)
	case len(sums) != len(p.by) || !c.blame.accuse(c.now, i, version{by: p.by, sums: slices.Clone(sums)}):
		c.suspect(p.by, i)
	default:
		c.explainTrial(p.by, i)
	}
}

// explainTrial tells who had a part in a bad piece.
func (c *Core) explainTrial(by []*link, i int) {
	if !c.peering.Explain {
		return
	}
	for _, l := range parties(by) {
		blocks := 0
		for _, o := range by {
			if o == l {
				blocks++
			}
		}
		c.explain(Note{What: "bad piece", Why: "of several peers, of which this is one", Link: l.id, Piece: i + 1, Blocks: blocks, Times: l.proven})
	}
}

// parties returns those who sent the blocks of a piece, each once.
func parties(by []*link) (ls []*link) {
	for n, l := range by {
		if l != nil && !slices.Contains(by[:n], l) {
			ls = append(ls, l)
		}
	}
	return ls
}

// accuse keeps a failed version of a piece. It reports false if there are too many of them.
func (s *blameState) accuse(now time.Time, i int, v version) bool {
	t := s.trial(i)
	switch {
	case t == nil && len(s.trials) == maxTrials, t != nil && len(t.versions) == maxVersions:
		return false
	case t == nil:
		t = &trial{piece: i, since: now}
		for _, l := range parties(v.by) {
			t.worth += l.gave.Rate(now)
		}
		s.trials = append(s.trials, t)
	}
	t.versions = append(t.versions, v)
	return true
}

// suspect counts a failed piece that proves nothing against those who sent it. Who had a part in several, and in few good
// ones, is banned all the same; there are more pieces on trial than we can keep, and so no lack of liars.
func (c *Core) suspect(by []*link, i int) {
	for _, l := range parties(by) {
		l.unclear++
		c.explain(Note{What: "bad piece", Why: "of several peers, and too many are on trial", Link: l.id, Piece: i + 1, Times: l.unclear})
		if l.unclear >= maxUnclear && unproven(l) {
			c.convict(l, i)
		}
	}
}

// acquit compares a good piece with its failed versions and convicts who differed.
func (c *Core) acquit(i int, sums [][20]byte) {
	s := &c.blame
	if p := s.close(i); p != nil {
		for _, l := range p.by {
			if l != nil {
				l.proven++
			}
		}
		s.reuse(p)
	}
	t := s.trial(i)
	if t == nil {
		return
	}
	s.trials = slices.DeleteFunc(s.trials, func(o *trial) bool { return o == t })
	s.weigh = true
	for _, v := range t.versions {
		for n, sum := range v.sums {
			if n < len(sums) && sum != sums[n] && v.by[n] != nil && !v.by[n].liar {
				c.explain(Note{What: "found a liar", Why: "its block differs from the good one", Link: v.by[n].id, Piece: i + 1})
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
	c.blame.weigh = true
	c.distrust(l, -1)
	c.dialing.ban(&l.contact)
	c.copies.remove(&l.contact)
	if c.byID[l.id] == l {
		c.drop(l, &Misdeed{What: "sent corrupt data in piece " + itoa(i), Ban: true})
	}
	for k := len(c.links) - 1; k >= 0; k-- { // backwards: they leave on the way
		if o := c.links[k]; c.dialing.banned(&o.remote) {
			c.drop(o, errBanned)
		}
	}
}

// distrust makes what a peer has sent of piece i, or of any if i is negative, missing again. Where all of a piece has
// come the verdict is on its way, and speaks for itself.
func (c *Core) distrust(l *link, i int) {
	for k := len(c.blame.order) - 1; k >= 0; k-- { // backwards: they close on the way
		p := c.blame.order[k]
		if i >= 0 && p.piece != i {
			continue
		}
		for n := range p.by {
			b := c.cfg.Layout.BlockAt(p.piece, n)
			if p.by[n] != l || !c.pick.sched.Forget(b) {
				continue
			}
			p.by[n] = nil
			p.missing++
			c.wasted += int64(b.Length)
			c.emit(Effect{Op: Forget, Block: b})
		}
		if p.missing == len(p.by) {
			if p.held {
				c.hold(p, false) // it may be open still, for what is in flight
			}
			c.blame.reuse(c.blame.close(p.piece))
		}
	}
	c.pick.freed = true
}

// weighTrials works out who waits for a trial, and which pieces do.
func (c *Core) weighTrials() {
	s := &c.blame
	if !s.weigh {
		return
	}
	s.weigh = false
	s.round++
	others := 0.0 // what they give, in bytes/s
	for _, l := range c.links {
		if !l.suspended {
			others += l.gave.Rate(c.now)
		}
	}
	for _, t := range s.trials {
		if t.over = t.over || others <= t.worth && c.now.Sub(t.since) >= trialTime; !t.over {
			c.accusedIn(t)
		}
	}
	for _, t := range s.trials {
		c.appoint(t)
	}
	for _, l := range c.links {
		c.suspend(l, s.suspected(l))
	}
	for _, t := range s.trials {
		c.forgetSuspects(t)
	}
	for _, p := range s.order {
		on := p.missing > 0 && s.trial(p.piece) == nil && slices.ContainsFunc(p.by, func(l *link) bool { return l != nil && s.suspected(l) })
		if on != p.held {
			c.hold(p, on)
		}
	}
	c.pick.freed = true
}

// forgetSuspects forgets what suspects have sent of the piece of a trial since it failed, but for the one that is to
// fetch it: together with what others send it would prove nothing.
func (c *Core) forgetSuspects(t *trial) {
	p := c.blame.open[t.piece]
	if p == nil {
		return
	}
	for n := 0; n < len(p.by); n++ {
		if l := p.by[n]; l != nil && l != t.retrier && c.blame.suspected(l) {
			c.distrust(l, t.piece)
		}
	}
}

// suspend lets a peer wait for a trial, or ends that.
func (c *Core) suspend(l *link, on bool) {
	only := -1
	if on {
		only = c.blame.retries(l)
	}
	c.pick.sched.Restrict(l.sched, only)
	if l.suspended == on {
		return
	}
	l.suspended = on
	what := "ask a peer again"
	if on {
		c.pick.sched.Relieve(l.sched)
		what = "ask a peer nothing"
	}
	c.explain(Note{What: what, Why: "it may have sent a bad piece", Link: l.id, Blocks: l.asked.live, Rate: l.down.Rate(c.now)})
}

// accusedIn marks those who may have lied in a trial. A version that a proven liar had a part in explains itself. If some
// have sent much that was good and others have not, it is rather one of the others.
func (c *Core) accusedIn(t *trial) {
	s := &c.blame
	for _, v := range t.versions {
		if slices.ContainsFunc(v.by, func(l *link) bool { return l != nil && l.liar }) {
			continue
		}
		newcomer := slices.ContainsFunc(v.by, unproven)
		for _, l := range v.by {
			if l != nil && l.suspectIn != s.round && (!newcomer || unproven(l)) {
				l.suspectIn = s.round
				c.suspectTwins(l)
			}
		}
	}
}

// suspectTwins marks with a suspect those who may be the same peer: it does not get rid of us by coming back.
func (c *Core) suspectTwins(l *link) {
	for _, o := range c.links {
		if o.remote.ID == l.remote.ID || o.remote.Addr.Addr() == l.remote.Addr.Addr() && !l.remote.Addr.Addr().IsLoopback() {
			o.suspectIn = l.suspectIn
		}
	}
}

// appoint finds the suspect that is to fetch the piece of a trial again. It stays the one while it can, but not for ever: a liar
// may take its time.
func (c *Core) appoint(t *trial) {
	old := t.retrier
	if old != nil && c.byID[old.id] == old && c.blame.suspected(old) && c.canRetry(old, t) && c.now.Sub(t.retrying) < trialTime {
		return
	}
	t.retrier, t.retrying = c.retrier(t), c.now
	if old != nil && c.blame.suspected(old) {
		c.pick.sched.Relieve(old.sched)
	}
	if l := t.retrier; l != nil {
		c.explain(Note{What: "ask a suspect", Why: "nobody else can send the bad piece again", Link: l.id, Piece: t.piece + 1, Times: l.proven})
	}
}

// canRetry reports whether l would answer requests for the piece of a trial.
func (c *Core) canRetry(l *link, t *trial) bool {
	return !l.choked && !l.snubbed && c.pick.sched.Has(l.sched, t.piece)
}

// unproven reports whether little that l has sent was good.
func unproven(l *link) bool { return l != nil && l.proven < manyGood }

// retrier returns the suspect to fetch the piece of a trial again: of those that have not just had their chance, the one that has sent
// most good blocks. It is nil if somebody else can or, for a while, may be about to be allowed to; and for a longer while as long as
// others have anything else to give: of those, one may come to have the piece, too.
func (c *Core) retrier(t *trial) (best *link) {
	soon, patient := c.now.Sub(t.since) < choke.Every, c.now.Sub(t.since) < mostTrial
	for _, l := range c.links {
		able := c.canRetry(l, t)
		switch {
		case !c.blame.suspected(l):
			if able || soon && c.pick.sched.Has(l.sched, t.piece) || patient && l.gave.Rate(c.now) > 0 {
				return nil
			}
		case able && (best == nil || best == t.retrier || l != t.retrier && l.proven > best.proven):
			best = l
		}
	}
	return best
}

// retries returns the piece that l, though suspect, is to fetch again, or -1.
func (s *blameState) retries(l *link) int {
	for _, t := range s.trials {
		if t.retrier == l {
			return t.piece
		}
	}
	return -1
}
