// Package choke decides who may download from us. It is pure: [Round], [SeedRound] and [SuperSeedRound] look at all
// peers and name those to be unchoked; the caller sends what has changed.
//
// BEP 3: "The currently deployed choking algorithm avoids fibrillation by only changing who's
// choked once every ten seconds", so rounds are to be that far apart, and every third rotates
// the optimistic unchoke.
package choke

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Every is the time between two rounds, and RotateEvery that between two changes of the optimistic
// unchoke (BEP 3: "rotates every 30 seconds").
const (
	Every       = 10 * time.Second
	RotateEvery = 30 * time.Second
)

// A Candidate is a peer as a round sees it.
type Candidate struct {
	ID         uint64        // unique among the candidates; 0 is nobody's
	Rate       float64       // bytes a second: what it gives us; in SeedRound what we give it
	Balance    float64       // bytes that it gave us less those we gave it
	Owes       bool          // it has had of us what it may have in advance, and could give us something but does not
	Masked     bool          // to it we are a super-seed
	Interested bool          // in us
	Snubbed    bool          // owes us blocks for long: worth an optimistic slot only
	New        bool          // connected lately, so with little to trade
	Unchoked   bool          // at present
	Since      time.Duration // how long it has been choked or unchoked
	Given      bool          // in SeedRound: it gave us something before we were complete
	Claim      float64       // in SeedRound: how much the time that it waits counts; 0 if it left its last slot unused
	Sated      bool          // in SeedRound: it has had a few pieces since it was unchoked
}

// A Decision names who is to be unchoked; everybody else is to be choked.
type Decision struct {
	Unchoke    []uint64 // ascending; the optimistic one is among them
	Optimistic uint64   // who is unchoked whatever it gives; 0 is nobody
}

// Round decides for a torrent that is not complete. Of slots, one is the optimistic unchoke and the
// others go to those interested peers that give us most. Besides, whoever gives more than the
// worst of these without being interested is unchoked, which costs nothing until it becomes so.
//
// optimistic is the last decision's; it stays while it is interested, unless rotate asks for
// another. The choice is drawn from rng, new peers being "three times as likely" (BEP 3).
func Round(cs []Candidate, slots int, optimistic uint64, rotate bool, rng *rand.Rand) Decision {
	if slots <= 0 {
		return Decision{}
	}
	ranked := slices.Clone(cs)
	slices.SortFunc(ranked, byRate)
	var d Decision
	worst := -1.0 // rate of the last who has earned a slot
	rest := make([]Candidate, 0, len(ranked))
	for _, c := range ranked {
		switch {
		case !c.Interested:
		case len(d.Unchoke) < slots-1 && !c.Snubbed:
			d.Unchoke = append(d.Unchoke, c.ID)
			worst = c.Rate
		default:
			rest = append(rest, c)
		}
	}
	earned := len(d.Unchoke)
	d.Optimistic = pick(rest, optimistic, rotate, rng)
	if d.Optimistic != 0 {
		d.Unchoke = append(d.Unchoke, d.Optimistic)
	}
	for _, c := range ranked {
		if earned > 0 && earned == slots-1 && !c.Interested && !c.Snubbed && c.Rate > worst {
			d.Unchoke = append(d.Unchoke, c.ID)
		}
	}
	slices.Sort(d.Unchoke)
	return d
}

// byRate puts the best first. Of equals, as all are that give nothing, one that owes nothing comes before one that does;
// then the one already unchoked stays, so that nothing changes without reason, and the order is total, so that nothing
// depends on luck.
func byRate(a, b Candidate) int {
	return cmp.Or(cmp.Compare(b.Rate, a.Rate), before(!a.Owes, !b.Owes), before(a.Unchoked, b.Unchoked), cmp.Compare(a.ID, b.ID))
}

// before orders those who have a property before those who lack it.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// pick returns the optimistic unchoke among those who have earned no slot; 0 if there are none. It uses the room of rest.
func pick(rest []Candidate, current uint64, rotate bool, rng *rand.Rand) uint64 {
	rest = leastOwing(rest)
	isCurrent := func(c Candidate) bool { return c.ID == current }
	if slices.ContainsFunc(rest, isCurrent) {
		if !rotate || len(rest) == 1 {
			return current
		}
		rest = slices.DeleteFunc(rest, isCurrent) // its turn is over
	}
	tickets := 0
	for _, c := range rest {
		tickets += weight(c)
	}
	if tickets == 0 {
		return 0
	}
	drawn := rng.IntN(tickets)
	for _, c := range rest {
		if drawn -= weight(c); drawn < 0 {
			return c.ID
		}
	}
	panic("unreachable: a ticket is somebody's")
}

// leastOwing returns those who owe us nothing or, if all do, the one that owes least. It uses the room of rest.
func leastOwing(rest []Candidate) []Candidate {
	if len(rest) == 0 || slices.ContainsFunc(rest, func(c Candidate) bool { return !c.Owes }) {
		return slices.DeleteFunc(rest, func(c Candidate) bool { return c.Owes })
	}
	rest[0] = slices.MaxFunc(rest, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Balance, b.Balance), cmp.Compare(b.ID, a.ID))
	})
	return rest[:1]
}

func weight(c Candidate) int {
	if c.New {
		return 3
	}
	return 1
}

// Quantum is how long a seed lets a peer download, at most, before somebody else gets its slot.
const Quantum = 60 * time.Second

// SeedRound decides for a complete torrent, where nobody can give us anything. BEP 3 would
// unchoke those who download fastest, which lets a few of them keep the seed for themselves; instead
// slots go round. Whoever has been unchoked for less than [Quantum] stays until it is sated, with a few pieces that it
// can trade, unless it takes nothing and has had a round to begin with; the others follow in the order in which they
// have waited, as far as that counts; if slots are left, come those whose time is over, fastest first, and last those that left
// their last slot unused. Those that gave us something come before the others, but for one slot.
func SeedRound(cs []Candidate, slots int) Decision {
	if slots <= 0 {
		return Decision{}
	}
	ranked := make([]Candidate, 0, len(cs))
	for _, c := range cs {
		if c.Interested {
			ranked = append(ranked, c)
		}
	}
	slices.SortFunc(ranked, byTurn)
	if n := slices.IndexFunc(ranked, func(c Candidate) bool { return !c.Given }); n >= slots && slots > 1 && turn(ranked[slots-1]) > 0 {
		ranked[slots-1] = ranked[n]
	}
	var d Decision
	for _, c := range ranked[:min(slots, len(ranked))] {
		d.Unchoke = append(d.Unchoke, c.ID)
	}
	slices.Sort(d.Unchoke)
	return d
}

func byTurn(a, b Candidate) int {
	if c := cmp.Or(cmp.Compare(turn(a), turn(b)), before(a.Given, b.Given)); c != 0 {
		return c
	}
	if !a.Unchoked { // both wait
		return cmp.Or(cmp.Compare(b.waited(), a.waited()), cmp.Compare(a.ID, b.ID))
	}
	return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.ID, b.ID))
}

// waited is how long a candidate has waited, as far as it counts.
func (c Candidate) waited() float64 { return c.Since.Seconds() * c.Claim }

// turn ranks a candidate: within its quantum, waiting, quantum over, waiting without a claim.
func turn(c Candidate) int {
	switch {
	case c.Unchoked && (c.Since < Every || c.Since < Quantum && c.Rate > 0 && !c.Sated):
		return 0
	case !c.Unchoked && c.Claim > 0:
		return 1
	case !c.Unchoked:
		return 3
	}
	return 2
}

// calm is how long a peer that sees all a super-seed has stays choked, at least: others want something, and nothing, many times a second.
const calm = time.Second

// SuperSeedRound decides for a super-seed (BEP 16). Whoever is interested in the few pieces that it is shown may have them. A
// peer that sees all we have, from before, is served only while fewer than two others are, and not within a second of having been
// choked.
func SuperSeedRound(cs []Candidate) Decision {
	var d Decision
	for _, masked := range [...]bool{true, false} {
		for _, c := range cs {
			if c.Interested && c.Masked == masked && (masked || len(d.Unchoke) < 2 && (c.Unchoked || c.Since >= calm)) {
				d.Unchoke = append(d.Unchoke, c.ID)
			}
		}
	}
	slices.Sort(d.Unchoke)
	return d
}
