package swarm

import (
	"net"
	"net/netip"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/piece/storage"
)

// An Inbox is where everything that concerns a swarm arrives, in one bounded queue. It exists
// before the swarm, so that the storage can be opened with it. Its methods are for any goroutine;
// they block while the queue is full and return at once after the swarm has ended.
type Inbox struct {
	c    chan message
	done chan struct{}
	last core.Snapshot // valid once done is closed
}

// A message is one of: a batch of a connection, an event of the storage, a connection that has
// shaken hands, a question for the snapshot, or else an event for the core.
type message struct {
	batch  *peer.Batch
	store  *storage.Event
	conn   net.Conn
	remote peer.Remote
	ask    chan<- core.Snapshot
	event  core.Event
}

const inboxSize = 256

// NewInbox returns an empty inbox.
func NewInbox() *Inbox {
	return &Inbox{c: make(chan message, inboxSize), done: make(chan struct{})}
}

// close ends the inbox: nobody blocks on it any more.
func (in *Inbox) close(last core.Snapshot) {
	in.last = last
	close(in.done)
}

// send queues m; false says that the swarm has ended.
func (in *Inbox) send(m message) bool {
	select {
	case in.c <- m:
		return true
	case <-in.done:
		return false
	}
}

// batch takes what a connection read. After the end it lets go of the buffers.
func (in *Inbox) batch(b *peer.Batch) {
	if in.send(message{batch: b}) {
		return
	}
	b.ReleaseAll()
	b.Recycle()
}

// Storage takes an event of the storage; it is what [storage.Config] wants as Notify.
func (in *Inbox) Storage(ev storage.Event) {
	if !in.send(message{store: &ev}) && ev.Op == storage.ReadDone {
		ev.Read.Buf.Release()
	}
}

// Found takes addresses that a source gave.
func (in *Inbox) Found(addrs []netip.AddrPort, src core.Source) {
	in.send(message{event: core.Event{Op: core.Found, Addrs: addrs, Source: src}})
}

// Sources takes the news whether any source of addresses still hopes to find some.
func (in *Inbox) Sources(hope bool) {
	in.send(message{event: core.Event{Op: core.Sources, OK: hope}})
}

// Snapshot returns the state of the swarm; after its end the last one. Before the swarm runs it
// waits.
func (in *Inbox) Snapshot() core.Snapshot {
	answer := make(chan core.Snapshot, 1)
	if in.send(message{ask: answer}) {
		select {
		case s := <-answer:
			return s
		case <-in.done:
		}
	}
	return in.last
}

// panicked takes a bug that a connection's goroutine has met: it ends the swarm.
func (in *Inbox) panicked(v any, stack []byte) {
	err := &PanicError{Value: v, Stack: stack}
	in.send(message{store: &storage.Event{Op: storage.Fault, Err: err}})
}
