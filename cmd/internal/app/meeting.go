package app

import (
	"context"
	"sync"

	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
)

// A meeting is a session whose swarm runs. Its methods are for one goroutine.
type meeting struct {
	*session
	cancel context.CancelFunc // of the swarm
	quiet  context.CancelFunc // of the sources, which then say goodbye
	wg     sync.WaitGroup     // of the sources
	once   sync.Once

	ended   chan struct{} // closed when the swarm is over; then what follows is valid
	outcome core.Outcome
	err     error
}

// begin runs a swarm and lets its peers be found and call.
func (x *session) begin(ctx context.Context, sw *swarm.Swarm) *meeting {
	x.makeTrackers()
	x.makeDHT()
	running, cancel := context.WithCancel(ctx)
	sources, quiet := context.WithCancel(ctx)
	y := &meeting{session: x, cancel: cancel, quiet: quiet, ended: make(chan struct{})}
	if x.listener != nil {
		y.wg.Go(func() { x.listener.Serve(sources, x.handles.pending, sw.Accept) })
	}
	for _, s := range x.found() {
		y.wg.Go(func() { s.Run(sources) })
	}
	y.wg.Go(func() { x.hope(sources) })
	go func() {
		defer close(y.ended)
		y.outcome, y.err = sw.Run(running)
	}()
	return y
}

// goodbye tells the sources to say goodbye. What it returns waits until they have.
func (y *meeting) goodbye() (said func()) {
	y.quiet()
	return func() {
		y.wg.Wait()
		y.once.Do(y.client.Close)
	}
}

// stop ends the swarm, says goodbye and waits for both. It may be called again.
func (y *meeting) stop() {
	y.cancel()
	<-y.ended
	y.goodbye()()
}
