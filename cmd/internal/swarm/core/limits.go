package core

import (
	"slices"
	"time"

	"bittern/peer/rate"
	"bittern/peer/wire"
	"bittern/piece"
)

// limits holds the bytes of all connections to the rates that the user set, each direction by a bucket of its own.
// Everything that the peers' protocol puts on the wire counts: handshakes, messages, heads and blocks; the headers of
// packets do not, nor do the keep-alives that we send, one in two minutes, of which the core does not hear.
//
// Only blocks wait, and the metadata of a [Fetch]. A message is never held back, lest an unchoke or a request come late
// because of a limit, but it puts the bucket into debt, and the next block waits until that is paid. Peers are asked for
// blocks one at a time and in turn, so that each has the same share, however much its window takes. Whose blocks go out
// first is for turnState.
//
// We cannot hold back what a peer sends, only what we ask for. So a request reserves the bytes that answer it, and gives
// them back when it is given up; what comes without a request is charged when it comes.
type limits struct {
	up, down rate.Bucket
	any      bool // there is a limit
	turn     int  // of asking: whose it is

	upBinds, downBinds bool // somebody waits for it, as the log was told

	upSince time.Time // when the uploading began that goes on; zero while there is none
	peak    float64   // bytes/s: see uploadCapacity
}

// NoUpload as the limit on uploading means that nothing is: nobody is unchoked, or given the metadata.
const NoUpload = -1

const (
	// limitBurst is how much may pass at once after a pause, as the time that the limit takes for it. It is longer than
	// this program is ever late, unless it lacks a processor, so that nothing of the rate is lost; and it is 2 % of ten
	// seconds.
	limitBurst = 200 * time.Millisecond

	// limitSlack is how long blocks wait after the first of them might pass, so that a high limit does not wake us for
	// each one.
	limitSlack = 2 * time.Millisecond

	// mostDebt bounds what messages may cost the blocks behind them. Who downloads at full rate but may upload only
	// little spends all of that, and more, on requests; that is not to keep it from uploading for hours when it is done.
	mostDebt = 10 * time.Second

	// peakFade is what remains of the peak of uploading a second later: half in two minutes.
	peakFade = 0.994
)

// newLimits returns the limits of p. There is nothing in the buckets yet, so it does not begin with a burst.
func newLimits(now time.Time, p Peering) limits {
	bucket := func(limit int64) rate.Bucket {
		burst := int(min(float64(limit)*limitBurst.Seconds(), 1<<30))
		b := rate.NewBucket(limit, int64(burst))
		b.Charge(now, burst)
		return b
	}
	return limits{up: bucket(p.MaxUpload), down: bucket(p.MaxDownload), any: p.MaxUpload > 0 || p.MaxDownload > 0}
}

// sent counts a message that goes out.
func (l *limits) sent(now time.Time, m *wire.Message) {
	if l.any {
		charge(&l.up, now, m.Len())
	}
}

// received counts what came in with an event. Of a block that was asked for the reserved bytes are given back.
func (l *limits) received(now time.Time, ev *Event) {
	if !l.any {
		return
	}
	switch ev.Op {
	case Joined:
		charge(&l.up, now, wire.HandshakeLen)
		charge(&l.down, now, wire.HandshakeLen)
	case Message:
		charge(&l.down, now, ev.Msg.Len())
	case Idle:
		charge(&l.down, now, ev.Bytes)
	case BlockIn:
		l.down.Charge(now, ev.Msg.Len())
	}
}

// unasked takes back the bytes of a block that nobody asked for, but for what messages may cost: or else whoever sends such
// would keep us for as long as it likes from asking others for anything.
func (l *limits) unasked(now time.Time, n int) {
	l.down.Return(n)
	charge(&l.down, now, n)
}

// charge counts bytes that do not wait, as far as they and those before do not cost too much; a block's worth they may, or
// else a very low limit would be none.
func charge(b *rate.Bucket, now time.Time, n int) {
	if left := mostDebt - b.Ready(now).Sub(now); left > 0 {
		b.Charge(now, min(n, max(piece.BlockSize, int(b.Rate()*left.Seconds()))))
	}
}

// onWire is what a block is on the wire, in bytes.
func onWire(b piece.Block) int { return wire.PieceHeadLen + int(b.Length) }

// askInTurn asks the peers that wait for it, one block each and in turn, as long as the limit lets any pass.
func (c *Core) askInTurn() {
	if c.limits.down.Rate() == 0 {
		return // nobody waits
	}
	for idle := 0; idle < len(c.links) && c.limits.down.Open(c.now); idle++ {
		c.limits.turn++
		if l := c.links[c.limits.turn%len(c.links)]; l.wants {
			if most := c.mostAsked(l); c.ask(l, min(1, c.depth(l, most)-l.asked.live)) > 0 {
				idle = -1
			} else {
				l.wants = false
			}
		}
	}
}

// next returns when a block that waits for a limit may pass, zero if none does.
func (l *limits) next(c *Core) (next time.Time) {
	if !l.any {
		return next
	}
	if at := l.down.Ready(c.now); at.After(c.now) && slices.ContainsFunc(c.links, func(l *link) bool { return l.wants }) {
		next = at.Add(limitSlack)
	}
	if at := l.up.Ready(c.now); at.After(c.now) && c.serving.asking > 0 {
		next = earlier(next, at.Add(limitSlack))
	}
	return next
}

// explainLimits tells when a limit begins or ceases to hold blocks back. It looks after all have been given out that may
// pass now.
func (c *Core) explainLimits() {
	l := &c.limits
	if !c.peering.Explain || !l.any {
		return
	}
	tell := func(b *rate.Bucket, binds *bool, what string, waits func(*link) bool) {
		is := !b.Open(c.now) && slices.ContainsFunc(c.links, waits)
		if is == *binds {
			return
		}
		*binds = is
		why := "it holds nothing back any more"
		if is {
			why = "blocks wait for it"
		}
		c.explain(Note{What: what, Why: why, Rate: b.Rate()})
	}
	tell(&l.up, &l.upBinds, "limit on uploading", asks)
	tell(&l.down, &l.downBinds, "limit on downloading", func(l *link) bool { return l.wants && !l.choked })
}

// measure looks at the rate of uploading, once a tick. What goes out in the first moments only fills buffers.
func (l *limits) measure(now time.Time, up float64) {
	l.peak *= peakFade
	switch {
	case up == 0:
		l.upSince = time.Time{}
	case l.upSince.IsZero():
		l.upSince = now
	case now.Sub(l.upSince) >= rateWindow:
		l.peak = max(l.peak, up)
	}
}

// uploadCapacity is how much we can upload, in bytes/s: the limit, or else the highest rate that was measured in the
// last minutes. It is 0 where nothing is uploaded, and as long as nothing is known.
func (c *Core) uploadCapacity() float64 {
	if limit := c.peering.MaxUpload; limit != 0 {
		return float64(max(limit, 0))
	}
	return c.limits.peak
}
