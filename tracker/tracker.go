// Package tracker announces a torrent to BitTorrent trackers and asks them about swarms, over HTTP, HTTPS
// (BEP 3, 7, 23, 24, 31, 48) and UDP (BEP 15, 41). It also holds a small tracker of its own, [Server].
//
// [Client] sends one announce or scrape. [Tiers] keeps a torrent's whole list of trackers told on schedule (BEP 12).
//
// A tracker is a stranger: its answers are bounded in size, time and number, its intervals are clamped, and what it
// says is escaped before anybody prints it. Addresses that it names are checked for shape only; whether to
// connect to them is the caller's decision.
package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Bounds on what a tracker may ask of us or send us.
const (
	minInterval     = time.Minute      // between regular announces, whatever the tracker says
	maxInterval     = 24 * time.Hour   // likewise
	defaultInterval = 30 * time.Minute // when the tracker names none
	maxPeers        = 2000             // addresses kept of one answer
	maxBody         = 1 << 20          // bytes of an HTTP answer, after decompression
	maxText         = 200              // bytes of a tracker's message that are shown, once escaped
	maxURL          = 4096             // bytes of a tracker's URL
)

// An Event says why an announce is sent (BEP 3).
type Event uint8

// The events, numbered as in a UDP announce (BEP 15).
const (
	None      Event = iota // a regular announce
	Completed              // the download has just become complete
	Started                // the first announce to a tracker
	Stopped                // the last one
)

// String returns the event's name in an HTTP announce; None has an empty one.
func (e Event) String() string {
	return [...]string{"", "completed", "started", "stopped"}[e&3]
}

// A Request is what one announce tells a tracker.
type Request struct {
	InfoHash, PeerID           [20]byte
	Port                       uint16 // where we listen for peers; 0 when we do not
	Uploaded, Downloaded, Left int64  // bytes
	Event                      Event
	Partial                    bool   // we are a partial seed: not complete, but wanting nothing more (BEP 21)
	NumWant                    int    // peers wanted; 0 leaves it to the tracker. Completed and Stopped never ask for any.
	Key                        uint32 // random, the same for a whole session: tells one client from another behind an address (BEP 7)
}

// A Response is what a tracker answered.
type Response struct {
	Interval    time.Duration    // until the next regular announce, 60 s to a day
	MinInterval time.Duration    // the tracker wants no announce sooner than this, 60 s to a day; 0 when it does not say
	Peers       []netip.AddrPort // at most 2000, each with a port and a unicast address; may hold our own
	Seeders     int              // complete peers, -1 when not said
	Leechers    int              // incomplete peers, -1 when not said
	Warning     string           // for the user, escaped and short; usually empty
	ExternalIP  netip.Addr       // our address as the tracker sees it (BEP 24); zero when not said
	trackerID   string           // to be sent back with the next announce (BEP 3)
}

// Counts is a tracker's view of one swarm (BEP 48).
type Counts struct {
	Seeders, Leechers int   // peers there now
	Downloaded        int64 // peers that ever completed
}

// A FailureError is a tracker's refusal.
type FailureError struct {
	Reason  string        // escaped, at most 200 bytes
	RetryIn time.Duration // wait this long (BEP 31), a minute to a day; 0 when not said
	Never   bool          // the tracker asks never to be tried again (BEP 31)
}

func (e *FailureError) Error() string { return "tracker refused: " + e.Reason }

// A StatusError is an HTTP answer that is not a tracker's.
type StatusError struct {
	Code    int           // HTTP status
	RetryIn time.Duration // from Retry-After, a minute to a day; 0 when not said
}

func (e *StatusError) Error() string { return "HTTP status " + strconv.Itoa(e.Code) }

// Errors that errors.Is finds in those of [Client].
var (
	// ErrURL matches a tracker URL that can never work: malformed, of an unknown scheme, or not allowed.
	ErrURL = errors.New("unusable tracker URL")
	// ErrAnswer matches an answer that is no valid tracker's.
	ErrAnswer = errors.New("bad answer from tracker")
)

func badAnswer(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrAnswer, fmt.Sprintf(format, args...))
}

// clampSeconds turns a tracker's number of seconds into a duration from a minute to a day.
func clampSeconds(n int64) time.Duration {
	// Compared before it is multiplied: 2^62 seconds would wrap.
	n = max(int64(minInterval/time.Second), min(n, int64(maxInterval/time.Second)))
	return time.Duration(n) * time.Second
}

// printable makes a stranger's text fit to be shown: at most maxText bytes, and nothing in it that a terminal obeys.
func printable(s string) string {
	const more = "..."
	out := make([]byte, 0, min(len(s), maxText)+8)
	for _, r := range s[:min(len(s), 2*maxText)] {
		q := string(r)
		if r == '\uFFFD' || !strconv.IsGraphic(r) {
			q = strconv.QuoteRuneToASCII(r)
			q = q[1 : len(q)-1]
		}
		if len(out)+len(q) > maxText-len(more) {
			return string(append(out, more...))
		}
		out = append(out, q...)
	}
	return string(out)
}

// merge adds what another address family's announce brought.
func (r *Response) merge(o Response) {
	r.Interval = min(r.Interval, o.Interval)
	r.MinInterval = max(r.MinInterval, o.MinInterval)
	r.Peers = append(r.Peers, o.Peers...)
	r.Seeders, r.Leechers = max(r.Seeders, o.Seeders), max(r.Leechers, o.Leechers)
	if r.Warning == "" {
		r.Warning = o.Warning
	}
	if !r.ExternalIP.IsValid() {
		r.ExternalIP = o.ExternalIP
	}
}
