package rate

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

func TestBucket(t *testing.T) {
	b := NewBucket(1000, 2000)
	for _, step := range []struct {
		why   string
		at    time.Duration
		n     int // bytes
		ok    bool
		ready time.Duration // of the next, after this
	}{
		{"full at the start", 0, 1500, true, 0},
		{"the rest and a debt of 1500", 0, 2000, true, 1500 * time.Millisecond},
		{"in debt", time.Second, 1, false, 1500 * time.Millisecond},
		{"paid", 1501 * time.Millisecond, 1000, true, 2500 * time.Millisecond},
		{"burst and no more after a pause", time.Hour, 2000, true, time.Hour},
		{"level at zero passes", time.Hour, 500, true, time.Hour + 500*time.Millisecond},
		{"nothing costs nothing, but waits", time.Hour, 0, false, time.Hour + 500*time.Millisecond},
	} {
		if got := b.Take(at(step.at), step.n); got != step.ok {
			t.Errorf("%s: Take = %v", step.why, got)
		}
		if d := b.Ready(at(step.at)).Sub(at(step.ready)); d < 0 || d > 2*time.Nanosecond {
			t.Errorf("%s: ready %v off", step.why, d)
		}
	}
}

// What is charged waits for nothing and is waited for, and what is given back may pass again.
func TestBucketChargeAndReturn(t *testing.T) {
	b := NewBucket(1000, 100)
	wait := func(at time.Time) time.Duration { return b.Ready(at).Sub(at).Round(time.Microsecond) }
	b.Charge(epoch, 600)
	b.Charge(epoch, 500)
	if d := wait(epoch); d != time.Second || b.Open(epoch) {
		t.Errorf("ready after %v, open: %t; want 1s", d, b.Open(epoch))
	}
	b.Return(400)
	if d := wait(epoch); d != 600*time.Millisecond {
		t.Errorf("ready after %v when some is given back, want 600ms", d)
	}
	b.Return(1000)
	if !b.Open(epoch) || !b.Take(at(time.Minute), 401) || b.Open(at(time.Minute)) {
		t.Error("what is given back above the burst is not there later, or more is")
	}
}

// What is given back may be taken again, but a bucket holds no more than it can.
func TestBucketGive(t *testing.T) {
	b := NewBucket(1, 100)
	b.Take(epoch, 300)
	if b.Give(150); b.Take(epoch, 1) {
		t.Error("taken while it is in debt by 50")
	}
	b.Give(60)
	if !b.Take(epoch, 11) || b.Take(epoch, 1) {
		t.Error("after 10 bytes that are left, want one more Take")
	}
	b.Give(1000)
	if !b.Take(epoch, 100) || !b.Take(epoch, 1) || b.Take(epoch, 1) {
		t.Error("want 100 bytes and a debt, after more was given than there is room for")
	}
}

func TestBucketWithoutLimit(t *testing.T) {
	for _, b := range []Bucket{{}, NewBucket(0, 0), NewBucket(-1, -1)} {
		b.Charge(epoch, math.MaxInt)
		b.Return(1)
		if !b.Open(epoch) || b.Rate() != 0 || !b.Take(epoch, math.MaxInt) || !b.Take(epoch, 1) || !b.Ready(epoch).Equal(epoch) {
			t.Errorf("%+v limits", b)
		}
	}
}

func TestBucketDebtOfAges(t *testing.T) {
	b := NewBucket(1, 0)
	b.Take(epoch, math.MaxInt)
	if r := b.Ready(epoch); !r.After(at(24 * time.Hour)) {
		t.Errorf("ready at %v", r)
	}
}

// Whoever takes when Ready says gets it, and in the long run gets rate and never more than
// rate, a burst and one piece in debt.
func TestBucketLongRun(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		rate, burst := 1+rng.Int64N(1<<rng.UintN(34)), rng.Int64N(1<<20)
		b := NewBucket(rate, burst)
		now, sum, last := epoch, int64(0), 0
		for range 300 {
			now = b.Ready(now)
			last = 1 + rng.IntN(1<<14)
			if !b.Take(now, last) {
				t.Fatalf("rate %d: Take fails at the time that Ready named", rate)
			}
			sum += int64(last)
		}
		most := float64(rate)*now.Sub(epoch).Seconds() + float64(burst) + float64(last)
		if float64(sum) > most*1.0001+1 {
			t.Errorf("rate %d, burst %d: %d bytes in %v", rate, burst, sum, now.Sub(epoch))
		}
		if least := most - float64(burst) - 1<<15; float64(sum) < least*0.9999-float64(rate)/1e6 {
			t.Errorf("rate %d: only %d bytes in %v", rate, sum, now.Sub(epoch))
		}
	}
}

func TestMeter(t *testing.T) {
	m := NewMeter(16 * time.Second)
	if r := m.Rate(epoch); r != 0 {
		t.Errorf("rate of nothing is %v", r)
	}
	m.Add(epoch, 1000)
	if r := m.Rate(epoch); r != 1000 {
		t.Errorf("1000 bytes in no time make %v a second, want a slot's worth", r)
	}
	if r := m.Rate(at(4 * time.Second)); r != 250 {
		t.Errorf("1000 bytes in 4 s make %v a second", r)
	}
	for s := time.Second; s <= 60*time.Second; s += time.Second {
		m.Add(at(s), 5000)
	}
	if r := m.Rate(at(61*time.Second - 1)); math.Abs(r-5000) > 1 {
		t.Errorf("steady 5000 a second measured as %v", r)
	}
	if r := m.Rate(at(69 * time.Second)); r < 2000 || r > 3000 {
		t.Errorf("half a window of silence: %v", r)
	}
	if r := m.Rate(at(77 * time.Second)); r != 0 {
		t.Errorf("a window of silence: %v", r)
	}
	if r := m.Rate(at(1e6 * time.Second)); r != 0 || m.Total() != 301_000 {
		t.Errorf("long after: %v, total %d", r, m.Total())
	}
}

// The window's sum is what was added in it, whatever the steps.
func TestMeterCountsWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := NewMeter(16 * time.Second)
	type added struct {
		at time.Duration
		n  int
	}
	var all []added
	var now time.Duration
	m.Add(epoch, 0)
	for range 5000 {
		now += time.Duration(rng.ExpFloat64() * float64(time.Second) * 2)
		n := rng.IntN(1 << 14)
		m.Add(at(now), n)
		all = append(all, added{now, n})
		want, first := int64(0), max(now/time.Second-15, 0)*time.Second
		for _, a := range all[max(0, len(all)-1000):] {
			if a.at >= first {
				want += int64(a.n)
			}
		}
		if m.sum != want {
			t.Fatalf("at %v the window holds %d bytes, want %d", now, m.sum, want)
		}
		if got, want := m.Rate(at(now)), float64(want)/max(now-first, time.Second).Seconds(); math.Abs(got-want) > 1e-6*want {
			t.Fatalf("at %v: rate %v, want %v", now, got, want)
		}
	}
}

func BenchmarkMeterAdd(b *testing.B) {
	m, now := NewMeter(10*time.Second), epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Microsecond)
		m.Add(now, 16<<10)
	}
}
