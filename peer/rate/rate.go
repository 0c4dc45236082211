// Package rate limits and measures rates of bytes. It is pure: the caller passes in the time,
// which must not run backwards, and serialises access.
package rate

import (
	"math"
	"time"
)

// A Bucket is a token bucket: it lets pass rate bytes a second in the long run, and burst
// bytes at once after a pause. The zero value limits nothing.
type Bucket struct {
	rate  float64 // bytes a second; 0 means no limit
	burst float64 // bytes
	level float64 // bytes that may pass; below 0 it is in debt
	last  time.Time
}

// NewBucket returns a full bucket. Both arguments are in bytes, rate a second; rate 0 means no limit.
func NewBucket(rate, burst int64) Bucket {
	return Bucket{rate: float64(max(rate, 0)), burst: float64(max(burst, 0)), level: float64(max(burst, 0))}
}

// Take reports whether n bytes may pass now, and counts them if so. They pass whenever the
// bucket is not in debt, and may put it there: a block cannot be split, and may be larger than burst.
func (b *Bucket) Take(now time.Time, n int) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	if b.level < 0 {
		return false
	}
	b.level -= float64(n)
	return true
}

// Charge counts n bytes that pass whether they may or not. They wait for nothing, but Take waits for them.
func (b *Bucket) Charge(now time.Time, n int) {
	if b.rate > 0 {
		b.fill(now)
		b.level -= float64(n)
	}
}

// Return gives back n bytes that were taken or charged and will not pass. The burst does not bound them: they were
// there before.
func (b *Bucket) Return(n int) {
	if b.rate > 0 {
		b.level += float64(n)
	}
}

// Give lets n bytes more pass than the rate does. The burst bounds them, as it does what time brings.
func (b *Bucket) Give(n int) {
	if b.rate > 0 {
		b.level = min(max(b.burst, b.level), b.level+float64(n))
	}
}

// Rate returns the limit in bytes a second; 0 means that there is none.
func (b *Bucket) Rate() float64 { return b.rate }

// Open reports whether Take would succeed now.
func (b *Bucket) Open(now time.Time) bool { return !b.Ready(now).After(now) }

// Ready returns when Take will next succeed: now, or later if the bucket is in debt.
func (b *Bucket) Ready(now time.Time) time.Time {
	if b.rate == 0 {
		return now
	}
	b.fill(now)
	if b.level >= 0 {
		return now
	}
	wait := math.Ceil(-b.level/b.rate*float64(time.Second)) + 1 // ns; one more outweighs the rounding
	if wait >= math.MaxInt64 {
		return now.Add(math.MaxInt64)
	}
	return now.Add(time.Duration(wait))
}

func (b *Bucket) fill(now time.Time) {
	if d := now.Sub(b.last); b.last.IsZero() || d > 0 {
		if !b.last.IsZero() && b.level < b.burst {
			b.level = min(b.burst, b.level+b.rate*d.Seconds())
		}
		b.last = now
	}
}

const slots = 16 // of a Meter's window

// A Meter measures the rate of the last few seconds. It must come from [NewMeter].
type Meter struct {
	slot  time.Duration // of the window's sixteen
	start time.Time     // of the measuring: the first call
	at    int64         // number of the newest slot, counted from start
	sum   int64         // of bytes
	total int64
	bytes [slots]int64 // ring, by number of slot; behind what every call looks at, which is a cache line
}

// NewMeter returns a meter of the given window, which is rounded to sixteenths.
func NewMeter(window time.Duration) Meter {
	return Meter{slot: max(window/slots, 1)}
}

// Add counts n bytes at the time now.
func (m *Meter) Add(now time.Time, n int) {
	m.turn(now)
	m.bytes[m.at%slots] += int64(n)
	m.sum += int64(n)
	m.total += int64(n)
}

// Rate returns the bytes a second of the window that ends now, or of the time since the first call if
// that is shorter.
func (m *Meter) Rate(now time.Time) float64 {
	m.turn(now)
	since := now.Sub(m.start)
	if first := m.at - (slots - 1); first > 0 {
		since -= time.Duration(first) * m.slot
	}
	// A few bytes in the first microsecond are no gigabyte a second: count a slot at least.
	return float64(m.sum) / max(since, m.slot).Seconds()
}

// Total returns all bytes ever counted.
func (m *Meter) Total() int64 { return m.total }

// turn moves the window on to now, emptying the slots that enter it.
func (m *Meter) turn(now time.Time) {
	if m.start.IsZero() {
		m.start = now
	}
	at := int64(now.Sub(m.start) / m.slot)
	if at-m.at >= slots {
		m.bytes, m.sum, m.at = [slots]int64{}, 0, at
	}
	for m.at < at {
		m.at++
		m.sum -= m.bytes[m.at%slots]
		m.bytes[m.at%slots] = 0
	}
}
