package tracker

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func rng() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

var (
	errNet = errors.New("unreachable")
	epoch  = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

// sim drives one tier by hand. Trackers are called a, b, c; their URLs follow.
type sim struct {
	t    *testing.T
	tier *tier
	now  time.Time
}

func newSim(t *testing.T, names string) *sim {
	var urls []string
	for _, n := range names {
		urls = append(urls, "http://"+string(n)+"/announce")
	}
	tr := newTiers([][]string{urls}, rng())[0]
	slices.SortFunc(tr.order, func(a, b *entry) int { return strings.Compare(a.url, b.url) }) // "for argument's sake"
	return &sim{t, tr, epoch}
}

func name(e *entry) string { return e.url[len("http://"):][:1] }

func (s *sim) order() (out string) {
	for _, e := range s.tier.order {
		out += name(e)
	}
	return out
}

// want expects an announce to the named tracker at a time since the last step, and nothing before; it marks it as under way.
func (s *sim) want(after time.Duration, who string, ev Event) *entry {
	s.t.Helper()
	for after > 0 {
		e, _, at := s.tier.due(s.now)
		if e != nil {
			s.t.Fatalf("%s is due %v too soon", name(e), after)
		}
		if at.IsZero() || at.Sub(s.now) > after {
			s.t.Fatalf("next at %v, want in %v", at, after)
		}
		after -= at.Sub(s.now)
		s.now = at
	}
	e, got, _ := s.tier.due(s.now)
	if e == nil || name(e) != who || got != ev {
		s.t.Fatalf("due %v %q, want %s %q", e, got, who, ev)
	}
	s.tier.busy = true
	return e
}

func (s *sim) ok(after time.Duration, who string, ev Event, r Response) {
	s.t.Helper()
	s.tier.answered(s.now, s.want(after, who, ev), ev, r)
}

func (s *sim) fail(after time.Duration, who string, ev Event, err error) {
	s.t.Helper()
	s.tier.failed(s.now, s.want(after, who, ev), ev, err)
}

// idle expects nothing to be planned.
func (s *sim) idle() {
	s.t.Helper()
	if e, _, at := s.tier.due(s.now); e != nil || !at.IsZero() {
		s.t.Errorf("due %v at %v, want nothing planned", e, at)
	}
}

var halfHour = Response{Interval: 30 * time.Minute}

// BEP 12's second example, step by step.
func TestOrderInATier(t *testing.T) {
	s := newSim(t, "abc")
	s.fail(0, "a", Started, errNet) // "if tracker1 cannot be reached, try tracker2"
	s.ok(0, "b", Started, halfHour)
	if s.order() != "bac" { // "tracker2,tracker1,tracker3"
		t.Errorf("order %s, want bac", s.order())
	}
	s.fail(30*time.Minute, "b", None, errNet) // "If later neither tracker2 nor tracker1 can be reached"
	s.fail(0, "a", Started, errNet)
	s.ok(0, "c", Started, halfHour)
	if s.order() != "cba" { // "tracker3,tracker2,tracker1"
		t.Errorf("order %s, want cba", s.order())
	}
	s.ok(30*time.Minute, "c", None, halfHour)
	s.fail(30*time.Minute, "c", None, errNet)
	s.ok(0, "b", None, halfHour) // it knows us already
}

// Trackers that take long to fail are due again before the last of the tier was tried once. It is tried all the same.
func TestSlowFailuresDoNotKeepTheLastOut(t *testing.T) {
	const limit = 30 * time.Second
	s := newSim(t, "abcde")
	for _, who := range []string{"a", "b", "c", "d", "e", "a", "b"} {
		e := s.want(0, who, Started)
		s.now = s.now.Add(limit)
		s.tier.failed(s.now, e, Started, errNet)
	}
	s.ok(0, "c", Started, halfHour)
	s.fail(30*time.Minute, "c", None, errNet) // the order counts again
	s.fail(0, "a", Started, errNet)
	s.fail(0, "b", Started, errNet)
	s.ok(0, "d", Started, halfHour)
}

func TestIntervals(t *testing.T) {
	s := newSim(t, "a")
	s.ok(0, "a", Started, Response{Interval: time.Minute})
	s.ok(time.Minute, "a", None, Response{Interval: time.Minute, MinInterval: 5 * time.Minute})
	s.ok(5*time.Minute, "a", None, halfHour)
	s.ok(30*time.Minute, "a", None, halfHour)
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want []time.Duration
	}{
		{"network", errNet, []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute}},
		{"refusal", &FailureError{Reason: "no"}, []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute}},
		{"status", &StatusError{Code: 500}, []time.Duration{time.Minute, 2 * time.Minute}},
		{"nonsense", badAnswer("x"), []time.Duration{time.Minute, 2 * time.Minute}},
		{"retry in", &FailureError{Reason: "busy", RetryIn: 7 * time.Minute}, []time.Duration{7 * time.Minute, 7 * time.Minute}},
		{"retry after", &StatusError{Code: 503, RetryIn: 3 * time.Minute}, []time.Duration{3 * time.Minute}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(t, "a")
			s.fail(0, "a", Started, tt.err)
			for _, wait := range tt.want {
				s.fail(wait, "a", Started, tt.err)
			}
			s.tier.order[0].notBefore = s.now
			s.ok(0, "a", Started, halfHour)
			if s.tier.order[0].failures != 0 {
				t.Error("success did not reset the failures")
			}
		})
	}
}

func TestNeverAgain(t *testing.T) {
	for _, err := range []error{&FailureError{Reason: "not a tracker", Never: true}, errLoopback} {
		s := newSim(t, "ab")
		s.fail(0, "a", Started, err)
		s.fail(0, "b", Started, err)
		s.idle()
		s.tier.networkBack(s.now)
		s.tier.needPeers(s.now)
		s.idle()
		if !s.tier.exhausted(3) {
			t.Error("a dead tier is not exhausted")
		}
	}
}

func TestExhausted(t *testing.T) {
	s := newSim(t, "ab")
	for i := range 3 {
		if s.tier.exhausted(3) {
			t.Fatalf("exhausted after %d rounds", i)
		}
		wait := max(0, 5*time.Second<<max(0, i-1))
		if i == 0 {
			wait = 0
		}
		s.fail(wait, "a", Started, errNet)
		s.fail(0, "b", Started, errNet)
	}
	if !s.tier.exhausted(3) {
		t.Error("not exhausted after three rounds")
	}
	s.ok(20*time.Second, "a", Started, halfHour)
	if s.tier.exhausted(3) {
		t.Error("exhausted although a tracker answers")
	}
}

func always(v bool) func(*entry) bool { return func(*entry) bool { return v } }

func TestCompleted(t *testing.T) {
	t.Run("goes to all that heard started", func(t *testing.T) {
		s := newSim(t, "abc")
		s.fail(0, "a", Started, errNet)
		s.ok(0, "b", Started, halfHour)
		s.fail(30*time.Minute, "b", None, errNet)
		s.ok(0, "a", Started, halfHour)
		s.tier.complete(always(false))
		s.ok(0, "a", Completed, halfHour)
		s.fail(5*time.Second, "b", Completed, errNet) // tried again later
		s.ok(10*time.Second, "b", Completed, halfHour)
		if s.order() != "abc" {
			t.Errorf("order %s: completed promoted a tracker", s.order())
		}
		s.ok(30*time.Minute, "a", None, halfHour)
	})
	t.Run("not to one that has heard nothing", func(t *testing.T) {
		s := newSim(t, "a")
		s.tier.complete(always(false))
		s.ok(0, "a", Started, halfHour)
		s.ok(30*time.Minute, "a", None, halfHour)
	})
	t.Run("to one that hears started just now", func(t *testing.T) {
		s := newSim(t, "a")
		e := s.want(0, "a", Started)
		s.tier.complete(always(true))
		s.tier.answered(s.now, e, Started, halfHour)
		s.ok(0, "a", Completed, halfHour)
	})
	t.Run("not to one whose started failed", func(t *testing.T) {
		s := newSim(t, "a")
		e := s.want(0, "a", Started)
		s.tier.complete(always(true))
		s.tier.failed(s.now, e, Started, errNet)
		s.ok(5*time.Second, "a", Started, halfHour)
		s.ok(30*time.Minute, "a", None, halfHour)
	})
}

func TestNeedPeers(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    Response
		want time.Duration
	}{
		{"no minimum named", halfHour, 5 * time.Minute},
		{"minimum", Response{Interval: 30 * time.Minute, MinInterval: 15 * time.Minute}, 15 * time.Minute},
		{"short interval", Response{Interval: 2 * time.Minute}, 2 * time.Minute},
	} {
		s := newSim(t, "a")
		s.tier.needPeers(s.now) // before the first answer it changes nothing
		s.ok(0, "a", Started, tt.r)
		s.tier.needPeers(s.now.Add(time.Second))
		s.tier.needPeers(s.now.Add(2 * time.Second))
		s.ok(tt.want, "a", None, tt.r)
		s.now = s.now.Add(tt.want)
		s.tier.needPeers(s.now)
		s.ok(0, "a", None, tt.r)
	}
}

func TestNetworkBack(t *testing.T) {
	s := newSim(t, "a")
	s.ok(0, "a", Started, halfHour)
	s.now = s.now.Add(10 * time.Second)
	s.tier.networkBack(s.now)
	s.ok(50*time.Second, "a", None, halfHour) // a minute after the last, whatever happens
	s.now = s.now.Add(10 * time.Minute)
	s.tier.networkBack(s.now)
	for range 6 {
		s.fail(0, "a", None, errNet)
		s.tier.networkBack(s.now) // a failing network is not waited for
	}
	s.fail(0, "a", None, &FailureError{Reason: "no"})
	s.tier.networkBack(s.now) // but a tracker that refuses is
	s.ok(maxNoBackoff, "a", None, halfHour)
}

func TestNewTiers(t *testing.T) {
	var many []string
	for i := range 2 * maxTrackers {
		many = append(many, "udp://h:"+string(rune('0'+i%10))+"/"+strings.Repeat("x", i%100)+string(rune('a'+i/100)))
	}
	ts := newTiers([][]string{{"http://a/announce", "http://a/announce"}, {}, {"http://a/announce"}, {"wss://x", "http://b/announce"}, many}, rng())
	total := 0
	for i, tr := range ts {
		for _, e := range tr.order {
			if total++; e.tier != i {
				t.Errorf("%s says it is in tier %d, is in %d", e.url, e.tier, i)
			}
		}
	}
	if len(ts) != 3 || len(ts[0].order) != 1 || len(ts[1].order) != 2 || total > maxTrackers {
		t.Errorf("%d tiers, %d trackers", len(ts), total)
	}
	for _, e := range ts[1].order {
		if e.dead != (e.url == "wss://x") || e.dead != errors.Is(e.err, ErrURL) {
			t.Errorf("%s: dead %v, %v", e.url, e.dead, e.err)
		}
	}
	// Shuffled within the tier, the same for the same seed.
	first := newTiers([][]string{many[:50]}, rng())[0]
	again := newTiers([][]string{many[:50]}, rng())[0]
	same, inOrder := true, true
	for i := range first.order {
		same = same && first.order[i].url == again.order[i].url
		inOrder = inOrder && first.order[i].url == many[i]
	}
	if !same || inOrder {
		t.Errorf("same for the same seed: %v; still in order: %v", same, inOrder)
	}
}

// Property: whatever answers come, a tracker that has answered is not asked again within its minimum, but for events; and a tier that is
// neither dead nor busy always has a next step.
func TestScheduleProperties(t *testing.T) {
	r := rng()
	for range 300 {
		s := newSim(t, "abcd"[:1+r.IntN(4)])
		lastOK := make(map[*entry]time.Time)
		for range 60 {
			e, ev, at := s.tier.due(s.now)
			if e == nil {
				if at.IsZero() != s.tier.allDead() || !at.IsZero() && !at.After(s.now) {
					t.Fatalf("next step at %v, now %v, dead: %v", at, s.now, s.tier.allDead())
				}
				if at.IsZero() {
					break
				}
				s.now = at
				continue
			}
			if last, ok := lastOK[e]; ok && ev == None && s.now.Sub(last) < minInterval {
				t.Fatalf("%s asked again after %v", name(e), s.now.Sub(last))
			}
			switch r.IntN(6) {
			case 0:
				s.tier.failed(s.now, e, ev, &FailureError{Never: r.IntN(4) == 0, RetryIn: time.Duration(r.IntN(2)) * time.Hour})
			case 1, 2:
				s.tier.failed(s.now, e, ev, errNet)
			default:
				s.tier.answered(s.now, e, ev, Response{Interval: time.Duration(1+r.IntN(90)) * time.Minute, MinInterval: time.Duration(r.IntN(3)) * time.Minute})
				lastOK[e] = s.now
			}
			switch r.IntN(5) {
			case 0:
				s.tier.needPeers(s.now)
			case 1:
				s.tier.networkBack(s.now)
			case 2:
				s.tier.complete(always(false))
			}
		}
	}
}
