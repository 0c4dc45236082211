package sim

import "time"

// An agenda is a heap of what is to happen. Each parent has four children, which makes it half as deep as
// with two.
type agenda struct {
	heap []event
	seq  uint64
}

// An event is something that happens at a time. Of two at the same time the one scheduled first comes
// first.
type event struct {
	at   time.Duration
	seq  uint64
	what happening
}

// A happening is what an event brings about. Packets, of which there are millions, are happenings
// themselves, so that one on its way costs no allocation.
type happening interface{ happen() }

// doing is any other happening.
type doing func()

func (do doing) happen() { do() }

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (a *agenda) push(at time.Duration, what happening) {
	a.seq++
	e := event{at, a.seq, what}
	a.heap = append(a.heap, e)
	h := a.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
}

func (a *agenda) pop() event {
	h := a.heap
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	a.heap = h
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return first
}
