// Package pool lends equal buffers, at most so many at a time.
//
// The limit is what bounds the memory of a download: a connection takes a buffer when a block
// begins to come in and the disk gives it back, so a slow disk makes connections wait for
// buffers, their sockets fill, and TCP tells the peers to slow down.
//
// A buffer has one owner at a time, who passes it on together with the duty to release it.
package pool

import "sync"

// A Pool lends buffers of one size. Buffers are made when first needed and kept for good.
// All methods are safe for concurrent use.
type Pool struct {
	size  int // bytes a buffer
	limit int // buffers lent at most

	mu      sync.Mutex // a leaf: nothing is called with it held
	free    []*Buffer  // last in, first out: the one used last is the one still in the cache
	lent    int
	waiting []chan *Buffer // in the order of their coming; lent counts what is handed to them
	idle    []chan *Buffer // of those who wait no more: empty, to be waited at again
}

// A Buffer is lent by a [Pool].
type Buffer struct {
	pool *Pool
	data []byte
	lent bool // guarded by pool.mu
}

// New returns a pool of buffers of size bytes, at most limit of them lent at a time.
func New(size, limit int) *Pool {
	if size <= 0 || limit <= 0 {
		panic("pool: size and limit must be positive")
	}
	return &Pool{size: size, limit: limit}
}

// TryGet lends a buffer, or returns nil when all are lent. Its contents are arbitrary.
func (p *Pool) TryGet() *Buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take()
}

// Get lends a buffer; while all are lent it waits for one, first come, first served. It returns nil
// when done is closed before there was one.
func (p *Pool) Get(done <-chan struct{}) *Buffer {
	p.mu.Lock()
	if b := p.take(); b != nil {
		p.mu.Unlock()
		return b
	}
	c := p.place()
	p.waiting = append(p.waiting, c)
	p.mu.Unlock()
	select {
	case b := <-c:
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
		return b
	case <-done:
		p.leave(c)
		return nil
	}
}

// place returns a channel to wait at. It is called with mu held.
func (p *Pool) place() chan *Buffer {
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c
	}
	return make(chan *Buffer, 1)
}

// take is called with mu held.
func (p *Pool) take() *Buffer {
	var b *Buffer
	switch n := len(p.free); {
	case n > 0:
		b, p.free = p.free[n-1], p.free[:n-1]
	case p.lent < p.limit:
		b = &Buffer{pool: p, data: make([]byte, p.size)}
	default:
		return nil
	}
	b.lent = true
	p.lent++
	return b
}

// leave ends the waiting at c, and passes on a buffer that has come there meanwhile.
func (p *Pool) leave(c chan *Buffer) {
	p.mu.Lock()
	for i, w := range p.waiting {
		if w == c {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	(<-c).Release()
}

// Outstanding returns how many buffers are lent. It is 0 when everybody has given back what
// they had, which is what tests ask at their end.
func (p *Pool) Outstanding() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent
}

// Size returns the size of each buffer in bytes.
func (p *Pool) Size() int { return p.size }

// Bytes returns the whole buffer. It must not be used after Release.
func (b *Buffer) Bytes() []byte { return b.data }

// Release gives the buffer back. Its owner must do so exactly once; a second time panics, because two
// owners of one buffer mean wrong bytes on somebody's disk.
func (b *Buffer) Release() {
	p := b.pool
	p.mu.Lock()
	if !b.lent {
		p.mu.Unlock()
		panic("pool: buffer released twice")
	}
	if len(p.waiting) > 0 {
		c := p.waiting[0]
		p.waiting = append(p.waiting[:0], p.waiting[1:]...)
		p.mu.Unlock()
		c <- b // has room: one buffer comes to each who waits
		return
	}
	b.lent = false
	p.lent--
	p.free = append(p.free, b)
	p.mu.Unlock()
}
