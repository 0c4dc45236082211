package dht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bittern/dht/node"
)

// A hunt is a search that somebody waits for. What it finds goes through it, for the loop must not wait.
type hunt struct {
	infoHash [20]byte
	announce Announce
	id       node.SearchID // once begun; the loop's own, as begun
	begun    bool
	news     chan struct{} // has one slot, full when there is something to take

	mu    sync.Mutex // a leaf: nothing is called under it
	found []netip.AddrPort
	end   *Result
}

// put adds what was found, or the end.
func (h *hunt) put(found []netip.AddrPort, end *Result) {
	h.mu.Lock()
	h.found = append(h.found, found...)
	h.end = end
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// take returns what has come since it was last called.
func (h *hunt) take() ([]netip.AddrPort, *Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := h.found
	h.found = nil
	return found, h.end
}

// Search looks for the peers of a torrent once, hands them to found as they come, and announces one of ours to the nodes
// nearest to it. It returns when it has asked all it wanted to. While no node is known at all it waits for one. found runs
// on the caller's goroutine; of one peer it hears once.
//
// The error is ctx's cause, or [ErrClosed].
func (n *Node) Search(ctx context.Context, infoHash [20]byte, announce Announce, found func([]netip.AddrPort)) (Result, error) {
	h := &hunt{infoHash: infoHash, announce: announce, news: make(chan struct{}, 1)}
	if !n.do(ctx, func(time.Time) { n.waiting = append(n.waiting, h) }) {
		return Result{}, closedOr(ctx)
	}
	for {
		select {
		case <-h.news:
		case <-n.done:
			return Result{}, closedOr(ctx)
		case <-ctx.Done():
			n.do(context.WithoutCancel(ctx), func(now time.Time) { n.stop(now, h) })
			return Result{}, context.Cause(ctx)
		}
		addrs, end := h.take()
		if len(addrs) > 0 {
			found(addrs)
		}
		if end != nil {
			return *end, nil
		}
	}
}

func closedOr(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrClosed
}

// beginSearches begins those that wait, once there is a node to ask; loop only.
func (n *Node) beginSearches(now time.Time) {
	if len(n.waiting) == 0 {
		return
	}
	if !n.begun {
		ipv4, ipv6 := n.node.Nodes(now)
		if n.begun = ipv4+ipv6 > 0; !n.begun {
			return
		}
	}
	for _, h := range n.waiting {
		h.id, h.begun = n.node.Search(now, h.infoHash, h.announce), true
		n.hunts[h.id] = h
	}
	n.waiting = nil
}

// stop ends a search that nobody waits for any more; loop only.
func (n *Node) stop(now time.Time, h *hunt) {
	n.waiting = slices.DeleteFunc(n.waiting, func(o *hunt) bool { return o == h })
	if h.begun {
		n.node.Stop(now, h.id)
		delete(n.hunts, h.id)
	}
}
