package storage

import "sync"

// A queue hands values from many goroutines to one or a few. Put never blocks and the queue has
// no limit of its own: each job carries a buffer from a capped pool of the caller's, and so
// there are never more jobs than buffers. Once it has grown to that it does not allocate.
type queue[T any] struct {
	mu     sync.Mutex
	filled sync.Cond
	items  []T
	head   int // items before it are taken
	closed bool
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.filled.L = &q.mu
	return q
}

// put adds a value and reports whether the queue was open to take it.
func (q *queue[T]) put(v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 { // reuse the room of what is taken
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
	q.filled.Signal()
	return true
}

// take waits for a value; it reports false once the queue is closed and empty.
func (q *queue[T]) take() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head == len(q.items) {
		if q.closed {
			return v, false
		}
		q.filled.Wait()
	}
	v = q.items[q.head]
	clear(q.items[q.head : q.head+1]) // let go of its buffer
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v, true
}

// close lets take return false once everything has been taken.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}
