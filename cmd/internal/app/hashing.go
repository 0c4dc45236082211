package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"bittern/cmd/internal/ui"
)

// hashing is how far `create` and `verify` are, in bytes, told by one goroutine and shown by another.
type hashing struct {
	state       string
	start       time.Time // of the work
	done, total atomic.Int64
}

// snapshot is what the ui shows of h: at the average rate, because a disk's is even enough.
func (h *hashing) snapshot() ui.Snapshot {
	s := ui.Snapshot{State: h.state, Done: h.done.Load(), Total: h.total.Load(), Peers: -1}
	if took := time.Since(h.start); took > 0 && s.Done > 0 {
		perSecond := float64(s.Done) / took.Seconds()
		s.DownRate = int64(perSecond)
		s.ETA = time.Duration(float64(s.Total-s.Done) / perSecond * float64(time.Second))
	}
	return s
}

// shown runs work while d shows h.
func (h *hashing) shown(ctx context.Context, d *display, work func() error) error {
	h.start = time.Now()
	ctx, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx, h.snapshot) })
	err := work()
	end()
	wg.Wait()
	return err
}
