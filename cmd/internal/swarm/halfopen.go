package swarm

import (
	"net"
	"slices"
	"sync"
)

// maxHalfOpen bounds the inbound connections that have not shaken hands.
const maxHalfOpen = 100

// halfOpen holds the inbound connections that have not shaken hands yet. Of too many the oldest is
// closed, so that silent ones cannot keep others out.
type halfOpen struct {
	mu    sync.Mutex
	conns []net.Conn // oldest first
	ended bool
	wg    sync.WaitGroup
}

// serve holds nc while f runs on a goroutine of its own. After closeAll it only closes nc.
func (h *halfOpen) serve(nc net.Conn, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		nc.Close()
		return
	}
	h.conns = append(h.conns, nc)
	if len(h.conns) > maxHalfOpen {
		h.conns[0].Close()
		h.conns = slices.Delete(h.conns, 0, 1)
	}
	h.wg.Go(func() {
		f()
		h.remove(nc)
	})
}

func (h *halfOpen) remove(nc net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.conns, nc); i >= 0 {
		h.conns = slices.Delete(h.conns, i, i+1)
	}
}

// closeAll closes what is held and all that is still to come, and waits for the goroutines.
func (h *halfOpen) closeAll() {
	h.mu.Lock()
	h.ended = true
	for _, c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}
