package sim

import (
	"cmp"
	"slices"
	"time"
)

// A Result is how a scenario went.
type Result struct {
	Scenario  Scenario
	Peers     []PeerResult
	End       time.Duration
	FirstDone time.Duration // when the first that the play waited for was complete; 0 if none was
	Samples   []Sample      // one a second, and one of the end
	Interest  Percentiles   // of the share of time in which one leecher wanted something of another
	// Trace is a hash over every decision of every core, in order.
	Trace  uint64
	Events int
}

// A PeerResult is how one peer fared. Bytes are those of blocks, without heads.
type PeerResult struct {
	Arrived   time.Duration
	Gone      time.Duration // when it left; 0 if it was there at the end
	Nearly    time.Duration // when it first had 99 % of the bytes; 0 if it never had
	Done      time.Duration // when it was complete; 0 if it never was, or was from the start
	Received  int64
	From      []int64 // of it, bytes by the peer they came from
	Wasted    int64   // received in vain: twice, too late, corrupt
	Early     int64   // bytes it had when the first peer was complete
	Failed    int     // pieces that failed their hash
	FailedBy  []int   // of them, those with corrupt blocks of each peer; nil if none failed
	Convicts  []int   // peers it has dropped as proven liars, in order
	Links     int     // connections at the end
	MostLinks int     // the most connections at the moment of a sample
	Left      int64   // bytes still missing at the end

	Sent    int64         // bytes its uplink has sent
	Began   time.Duration // when its first block began to go out
	Out     time.Duration // when it had sent every block once; 0 if it never had
	OutSent int64         // bytes it had sent by then
	OutBusy float64       // share of the time from Began to Out in which its uplink was busy
}

// A Sample is the state of a swarm at one moment. What counts from the start is marked as such; lines carry
// heads and headers too.
type Sample struct {
	At       time.Duration
	Kept     int64   // since the start: bytes stored by all peers that did not fail
	Used     float64 // since the start: bytes that the leechers' uplinks carried
	Could    float64 // since the start: bytes that they could have, while their peers were there
	CouldAll float64 // the same with the seeds

	Pairs, Wanting int     // of a leecher and a leecher that it is connected to; of them, those in which it wants something of it
	Least, Most    int     // copies of the rarest piece and of the most frequent one, among those present
	Copies         float64 // in the mean of all pieces
	Lost           int     // pieces of which there is no copy
}

// Percentiles are the 20th, 50th and 80th of shares, as Legout et al. (2006) give them.
type Percentiles [3]float64

// Complete reports whether everybody the play waits for has everything.
func (r *Result) Complete() bool {
	for n := range r.Peers {
		if r.Scenario.Peers[n].waited() && r.Peers[n].Done == 0 {
			return false
		}
	}
	return true
}

// Last returns when the last peer was complete.
func (r *Result) Last() (last time.Duration) {
	for _, p := range r.Peers {
		last = max(last, p.Done)
	}
	return last
}

// Bound returns the least time in which a fluid could serve all leechers of a flash crowd: that of Kumar and
// Ross, "Peer-assisted file distribution: the minimum distribution time" (2006).
func (s *Scenario) Bound() time.Duration {
	var seeds, all, leechers, slowest int64
	for _, p := range s.Peers {
		all += p.Up
		if p.Seed {
			seeds += p.Up
			continue
		}
		leechers++
		if slowest == 0 || p.Down < slowest {
			slowest = p.Down
		}
	}
	size := float64(s.Size)
	least := max(size/float64(seeds), size/float64(slowest), float64(leechers)*size/float64(all))
	return time.Duration(least * float64(time.Second))
}

// Efficiency returns the bound on the time in which all could have been complete as a share of the time it
// took. It is 0 if not all are.
func (r *Result) Efficiency() float64 {
	if !r.Complete() {
		return 0
	}
	return r.Scenario.Bound().Seconds() / r.Last().Seconds()
}

// SeedCopies returns how many copies of the content the first peer has sent: until every block was out once,
// and in all.
func (r *Result) SeedCopies() (out, all float64) {
	seed, size := r.Peers[0], float64(r.Scenario.Size)
	if seed.Out == 0 {
		seed.OutSent = seed.Sent
	}
	return float64(seed.OutSent) / size, float64(seed.Sent) / size
}

// Waste returns the share of the bytes received that came in vain, of the peers that chosen names.
func (r *Result) Waste(chosen func(Peer) bool) float64 {
	var received, wasted int64
	for n, p := range r.Peers {
		if chosen(r.Scenario.Peers[n]) {
			received += p.Received
			wasted += p.Wasted
		}
	}
	return share(float64(wasted), float64(received))
}

// LeecherUse returns the mean share of the leechers' uplinks that was used between the moments at which 5 and 95 %
// of the bytes had come. By time, the arrivals and the wait for the last pieces would count, which the other
// figures show: this one is of the swarm at work.
func (r *Result) LeecherUse() float64 {
	last := r.Samples[len(r.Samples)-1]
	from, to := r.when(0.05*float64(last.Kept)), r.when(0.95*float64(last.Kept))
	return share(to.Used-from.Used, to.Could-from.Could)
}

// when returns the sample of the moment at which so many bytes had been kept, between two that were taken.
func (r *Result) when(kept float64) Sample {
	for n, s := range r.Samples {
		if float64(s.Kept) < kept || n == 0 {
			continue
		}
		before := r.Samples[n-1]
		x := share(kept-float64(before.Kept), float64(s.Kept-before.Kept))
		s.Used = before.Used + x*(s.Used-before.Used)
		s.Could = before.Could + x*(s.Could-before.Could)
		return s
	}
	return r.Samples[len(r.Samples)-1]
}

// Yield returns the bytes that were kept since a moment as a share of what all uplinks present could have carried,
// headers and all.
func (r *Result) Yield(since time.Duration) float64 {
	last := r.Samples[len(r.Samples)-1]
	n, _ := slices.BinarySearchFunc(r.Samples, since, func(s Sample, t time.Duration) int { return cmp.Compare(s.At, t) })
	from := r.Samples[min(n, len(r.Samples)-1)]
	return share(float64(last.Kept-from.Kept), last.CouldAll-from.CouldAll)
}

// Tail returns the share of a peer's time that its last 1 % took, in the mean of those who are complete.
func (r *Result) Tail() float64 {
	var sum, count float64
	for _, p := range r.Peers {
		if p.Done > 0 {
			sum += (p.Done - p.Nearly).Seconds() / (p.Done - p.Arrived).Seconds()
			count++
		}
	}
	return share(sum, count)
}

// Rate returns the mean download rate of the peers that chosen names, in bytes/s from their arrival until they
// were complete or the play ended.
func (r *Result) Rate(chosen func(Peer) bool) float64 {
	var sum, count float64
	for n, p := range r.Peers {
		if sp := r.Scenario.Peers[n]; !chosen(sp) || sp.Seed {
			continue
		}
		until := r.End
		if p.Done > 0 {
			until = p.Done
		}
		if until > p.Arrived {
			sum += float64(p.Received-p.Wasted) / (until - p.Arrived).Seconds()
			count++
		}
	}
	return share(sum, count)
}

// EarlyRate returns the mean download rate of the peers that chosen names until the first peer was complete, in
// bytes/s.
func (r *Result) EarlyRate(chosen func(Peer) bool) float64 {
	var sum, count float64
	for n, p := range r.Peers {
		if sp := r.Scenario.Peers[n]; chosen(sp) && !sp.Seed && p.Arrived < r.FirstDone {
			sum += float64(p.Early) / (r.FirstDone - p.Arrived).Seconds()
			count++
		}
	}
	return share(sum, count)
}

// Median returns the median time from arrival to completion of the peers that the play waited for.
func (r *Result) Median() time.Duration {
	var times []time.Duration
	for n, p := range r.Peers {
		if r.Scenario.Peers[n].waited() && p.Done > 0 {
			times = append(times, p.Done-p.Arrived)
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}

func everybody(Peer) bool { return true }

// Lies are what liars did to the others.
type Lies struct {
	Served int // pairs of a liar and an honest peer that had blocks of it
	Again  int // of them, those in which a second piece failed by its blocks
	Failed int // pieces of honest peers that failed
	Honest int // verdicts against peers that do not lie
}

// Lies counts what liars did.
func (r *Result) Lies() (l Lies) {
	liar := func(n int) bool { return r.Scenario.Peers[n].Lies > 0 }
	for n, p := range r.Peers {
		for _, who := range p.Convicts {
			if !liar(who) {
				l.Honest++
			}
		}
		if liar(n) {
			continue
		}
		l.Failed += p.Failed
		for who, bytes := range p.From {
			if liar(who) && bytes > 0 {
				l.Served++
			}
		}
		for _, failed := range p.FailedBy {
			if failed > 1 {
				l.Again++
			}
		}
	}
	return l
}

// share returns a / b, 0 where there is nothing to have a share of.
func share(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

const (
	sampleEvery = time.Second
	// briefly is how many samples a pair must have been together for its interest to count: "Filtering all peers
	// that stay less than 10 seconds" is what Legout et al. do.
	briefly = 10
)

// A sampler looks at a swarm now and then.
type sampler struct {
	samples []Sample
	shares  []float64 // of the pairs that have parted: how much of its time one wanted something of the other
}

// sample takes a sample, and the next one when it is time.
func (w *world) sample() {
	w.sampler.take(w)
	w.after(sampleEvery, w.sample)
}

func (s *sampler) take(w *world) {
	now := Sample{
		At: w.now, Kept: w.kept,
		Least: int(slices.Min(w.copies)), Most: int(slices.Max(w.copies)),
	}
	for _, c := range w.copies {
		now.Copies += float64(c) / float64(len(w.copies))
		if c == 0 {
			now.Lost++
		}
	}
	for _, n := range w.nodes {
		n.sample(&now)
	}
	s.samples = append(s.samples, now)
}

// sample adds a node's part to a sample.
func (n *node) sample(s *Sample) {
	here := n.until() - n.res.Arrived
	if here < 0 {
		return
	}
	links := 0
	for _, e := range n.ends {
		if e != nil {
			links++
		}
	}
	n.res.MostLinks = max(n.res.MostLinks, links)
	could := here.Seconds() * float64(n.peer.Up)
	s.CouldAll += could
	if n.peer.Seed {
		return
	}
	s.Could += could
	s.Used += n.line.busy.Seconds() * float64(n.peer.Up)
	for _, e := range n.ends {
		if e == nil || !e.both() {
			continue
		}
		e.together++
		s.Pairs++
		if e.wants {
			e.wanted++
			s.Wanting++
		}
	}
}

// until returns when a node has left, the time now if it is still there.
func (n *node) until() time.Duration {
	if n.gone {
		return n.res.Gone
	}
	return n.w.now
}

// both reports whether both ends are leechers that follow the rules.
func (e *end) both() bool {
	leeches := func(n *node) bool { return n.peer.waited() && n.res.Done == 0 }
	return leeches(e.node) && leeches(e.other.node)
}

// part takes an end whose connection is over, or the play.
func (s *sampler) part(e *end) {
	if e != nil && e.together >= briefly {
		s.shares = append(s.shares, float64(e.wanted)/float64(e.together))
	}
}

func (s *sampler) interest() (p Percentiles) {
	if len(s.shares) == 0 {
		return p
	}
	slices.Sort(s.shares)
	for i, q := range []float64{0.2, 0.5, 0.8} {
		p[i] = s.shares[int(q*float64(len(s.shares)-1))]
	}
	return p
}
