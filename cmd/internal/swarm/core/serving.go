package core

import (
	"slices"

	"bittern/peer/wire"
	"bittern/piece"
)

// serveState is the upload side. A request waits in its peer's queue until there is room for its
// block in the writer's hands, so a choke or a cancel still stops what has not been read, and
// nothing is read from the disk before the socket can take it.
type serveState struct {
	reading int     // bytes of all links being read or in writers' hands
	writing []*link // links with some of these, in no order, so that only they need be looked at
	asking  int     // links with requests that wait, so that nobody need be looked at while there are none
}

const (
	// maxQueue is how many requests of a peer wait; it is what we announce as reqq. Above it they
	// are rejected, or ignored where the peer does not speak the fast extension.
	maxQueue = 250

	// readCredit is how many bytes of all peers together may be read or in their writers' hands; it bounds the upload
	// buffers.
	readCredit = 8 << 20
)

// MaxQueue is the number of requests we queue for a peer: what our extension handshake says as
// reqq (BEP 10).
const MaxQueue = maxQueue

// ReadCredit is the most bytes that ReadBlock effects ever ask to have in memory at once.
const ReadCredit = readCredit

// leave gives up what a link's writer held; its buffers are released by the shell.
func (s *serveState) leave(l *link) {
	s.reading -= l.upload.inFlight
	l.upload.inFlight = 0
	s.written(l)
	s.queue(l, nil)
}

// handOut counts n bytes that are to be read for a link.
func (s *serveState) handOut(l *link, n int) {
	if l.upload.inFlight == 0 {
		s.writing = append(s.writing, l)
	}
	l.upload.inFlight += n
	s.reading += n
}

// written strikes a link from those that are being written to, if nothing of it is in flight any more.
func (s *serveState) written(l *link) {
	if l.upload.inFlight > 0 {
		return
	}
	if i := slices.Index(s.writing, l); i >= 0 {
		last := len(s.writing) - 1
		s.writing[i], s.writing[last] = s.writing[last], nil
		s.writing = s.writing[:last]
	}
}

// queue sets what waits of a link's requests.
func (s *serveState) queue(l *link, blocks []piece.Block) {
	if asks(l) {
		s.asking--
	}
	if l.queue = blocks; asks(l) {
		s.asking++
	}
}

// asks reports whether a link has requests that wait.
func asks(l *link) bool { return len(l.queue) > 0 }

// request takes a request for a block of ours.
func (c *Core) request(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	if !c.cfg.Layout.Fits(b) {
		c.drop(l, misdeed("asks for bytes that do not exist"))
		return
	}
	if why := c.whyNot(l, b); why != "" {
		c.refuseRequest(l, b, why)
		return
	}
	switch {
	case l.amChoking:
		l.fast.left -= int64(b.Length)
	case b.Begin == 0:
		c.suggest(l, 1) // for when it has asked for all of this one
	}
	begins := !asks(l)
	if begins {
		c.begins(l)
	}
	c.serving.queue(l, append(l.queue, b))
	if l.asksAt = c.now; begins {
		c.resumes(l)
	}
}

// whyNot says why a request is refused; "" if it is not.
func (c *Core) whyNot(l *link, b piece.Block) string {
	switch i := int(b.Piece); {
	case l.amChoking && !c.servesChoked(l, b):
		return "it is choked"
	case len(l.queue) >= maxQueue:
		return "it waits for too much already"
	case !c.pick.sched.HavePieces().Has(i):
		return "we do not have the piece"
	case !l.sees(i):
		return "it was not shown the piece"
	case slices.Contains(l.queue, b): // twice the same is of no use to anybody
		return "it has asked for it before"
	}
	return ""
}

// reject tells a peer that a request will not be served, if it understands that (BEP 6).
func (c *Core) reject(l *link, b piece.Block) {
	if l.remote.Fast {
		c.send(&l.contact, wire.Message{ID: wire.Reject, Index: b.Piece, Begin: b.Begin, Length: b.Length})
	}
}

// refuseRequest rejects a request for a reason that is the peer's own: it is choked, asks for more than we queue, or has
// taken the request back. One that will not learn is dropped: rejects that it does not read wait in our memory.
func (c *Core) refuseRequest(l *link, b piece.Block, why string) {
	c.explain(Note{What: "refuse a request", Why: why, Link: l.id, Piece: int(b.Piece) + 1, Blocks: 1})
	c.reject(l, b)
	if !c.bears(&l.contact, costRefused) {
		c.drop(l, errInsists)
	}
}

// cancel takes a request back. What has been read is sent all the same.
func (c *Core) cancel(l *link, m wire.Message) {
	b := piece.Block{Piece: m.Index, Begin: m.Begin, Length: m.Length}
	if i := slices.Index(l.queue, b); i >= 0 {
		c.serving.queue(l, slices.Delete(l.queue, i, i+1))
		c.refuseRequest(l, b, "it has taken it back") // BEP 6: every request is answered, a cancelled one too
		return
	}
	c.bothers(l, costIdle)
}

// sent takes back credit for n bytes that went to the kernel. Reports of links that are gone come
// late: their credit came back when they left.
func (c *Core) sent(l *link, n int) {
	c.uploaded += int64(n)
	c.up.Add(c.now, n)
	if l == nil {
		return
	}
	l.up.Add(c.now, n)
	if n > 0 {
		l.exchanged, l.useful = c.now, true
	}
	l.patience.Give(worthBlock * n / piece.BlockSize)
	n = min(n, l.upload.inFlight) // whatever the shell says, nobody gets credit that was not given
	c.serving.reading -= n
	l.upload.took(c.now, n)
	c.resumes(l)
	c.serving.written(l)
	l.balance -= float64(n)
	c.overdraws(l)
}

// dismiss empties the queue of a peer we have just choked (BEP 3; BEP 6 wants each one rejected but those that it is
// allowed).
func (c *Core) dismiss(l *link) {
	c.serving.queue(l, slices.DeleteFunc(l.queue, func(b piece.Block) bool {
		if c.servesChoked(l, b) {
			l.fast.left -= int64(b.Length)
			return false
		}
		c.reject(l, b)
		return true
	}))
}
