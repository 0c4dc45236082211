package peer

import "sync/atomic"

// A Budget is memory that connections share: what their read buffers take beyond the least each needs. It is safe for
// concurrent use. A nil Budget has no end.
type Budget struct{ left atomic.Int64 }

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := new(Budget)
	b.left.Store(bytes)
	return b
}

// take takes n bytes and reports whether they were there. Those that must be had are taken all the same, and the budget is in debt.
func (b *Budget) take(n int, must bool) bool {
	if b == nil || b.left.Add(-int64(n)) >= 0 || must {
		return true
	}
	b.left.Add(int64(n))
	return false
}

// give gives back n bytes.
func (b *Budget) give(n int) {
	if b != nil {
		b.left.Add(int64(n))
	}
}
