package core

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bittern/piece"
)

// An askModel is an askQueue as anybody would write it.
type askModel struct {
	answers     bool
	live        []piece.Block
	late        []piece.Block // the oldest first
	outstanding int           // of late: the newest so many fill the peer's queue
}

func (m *askModel) lose(b piece.Block) bool {
	i := slices.Index(m.live, b)
	if i < 0 {
		return false
	}
	m.live = slices.Delete(m.live, i, i+1)
	m.late = append(m.late, b)
	if m.answers {
		m.outstanding++
	}
	return true
}

func (m *askModel) take(b piece.Block) (live, ok bool) {
	if i := slices.Index(m.live, b); i >= 0 {
		m.live = slices.Delete(m.live, i, i+1)
		return true, true
	}
	i := slices.Index(m.late, b)
	if i < 0 {
		return false, false
	}
	if i >= len(m.late)-m.outstanding {
		m.outstanding--
	}
	m.late = slices.Delete(m.late, i, i+1)
	return false, true
}

func TestAsksAgainstAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		answers := round%2 == 0
		q, m := askQueue{answers: answers}, askModel{answers: answers}
		for n := range 2000 {
			b := piece.Block{Piece: uint32(rng.IntN(30)), Length: piece.BlockSize}
			switch rng.IntN(8) {
			case 0, 1, 2:
				if !slices.Contains(m.live, b) { // never twice, says the scheduler
					q.push(b, time.Duration(n))
					m.live = append(m.live, b)
				}
			case 3, 4, 5:
				_, live, ok := q.take(b)
				if wantLive, want := m.take(b); live != wantLive || ok != want {
					t.Fatalf("take: %v, %v; want %v, %v", live, ok, wantLive, want)
				}
			case 6:
				if got, want := q.lose(b), m.lose(b); got != want {
					t.Fatalf("lose: %v, want %v", got, want)
				}
			case 7:
				if rng.IntN(10) == 0 {
					q.expire()
					m.outstanding = 0
				}
			}
			if q.live != len(m.live) || q.lost() != m.outstanding || len(q.late) != len(m.late) {
				t.Fatalf("%d live, %d lost, %d late; want %d, %d, %d",
					q.live, q.lost(), len(q.late), len(m.live), m.outstanding, len(m.late))
			}
		}
		if len(q.asks) > 300 {
			t.Errorf("%d entries for %d requests", len(q.asks), q.live)
		}
	}
}

func TestTooManyLateAsksAreForgotten(t *testing.T) {
	q := askQueue{answers: true}
	for n := range uint32(3 * maxLate) {
		b := piece.Block{Piece: n, Length: 1}
		q.push(b, 0)
		q.lose(b)
		if n == maxLate/2 {
			q.expire()
		}
	}
	if len(q.late) > maxLate || q.lost() != len(q.late) {
		t.Errorf("%d kept, %d of them count; want %d at most, all", len(q.late), q.lost(), maxLate)
	}
	if _, _, ok := q.take(piece.Block{Piece: 0, Length: 1}); ok {
		t.Error("the first is still remembered")
	}
	if _, live, ok := q.take(piece.Block{Piece: 3*maxLate - 1, Length: 1}); live || !ok {
		t.Error("the last is forgotten")
	}
}

func TestOverdueIsWhatOthersHaveOvertaken(t *testing.T) {
	var q askQueue
	at := func(n uint32) piece.Block { return piece.Block{Piece: n, Length: 1} }
	for n := range uint32(4) {
		q.push(at(n), time.Duration(n))
	}
	if b, ok := q.overdue(100); ok {
		t.Errorf("%v is overdue, but nothing came that was asked for later", b)
	}
	q.take(at(2))
	for _, want := range []uint32{0, 1} {
		b, ok := q.overdue(100)
		if !ok || b != at(want) {
			t.Errorf("overdue %v, %v; want %v", b, ok, at(want))
		}
		q.lose(b)
	}
	if b, ok := q.overdue(100); ok {
		t.Errorf("%v is overdue, but it is the last", b)
	}
	q.push(at(9), 50)
	q.take(at(9))
	if _, ok := q.overdue(2); ok {
		t.Error("overdue before its time")
	}
}
