package swarm

import (
	"net"
	"net/netip"
	"runtime/debug"
	"sync"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/piece/storage"
)

// An Inbox is where everything that concerns a swarm arrives, in one bounded queue. It exists
// before the swarm, so that the storage can be opened with it. Its methods are for any goroutine;
// they block while the queue is full, and return at once after the swarm has ended.
type Inbox struct {
	c    chan message
	done chan struct{}
	last core.Snapshot // valid once done is closed
}

// A message is one of these; the others are nil. Whoever receives it owns what it refers to.
type message struct {
	batch   *peer.Batch
	store   *storage.Event // from storeEvents
	opened  *opened
	ask     chan<- core.Snapshot // of one slot
	event   *core.Event
	checked *checkedCopy
	content *Content
	bug     *PanicError

	taken chan struct{} // with batch: closed when it has been handled; may be nil
}

// An opened is a connection that has shaken hands.
type opened struct {
	conn   net.Conn
	remote peer.Remote
}

// inboxSize is how many messages wait.
const inboxSize = 64

// storeEvents keeps events for reuse: with small pieces there is one for every block.
var storeEvents = sync.Pool{New: func() any { return new(storage.Event) }}

func recycle(ev *storage.Event) {
	*ev = storage.Event{}
	storeEvents.Put(ev)
}

// NewInbox returns an empty inbox.
func NewInbox() *Inbox {
	return &Inbox{c: make(chan message, inboxSize), done: make(chan struct{})}
}

// close ends the inbox: nobody blocks on it any more, and what nobody took is let go of.
func (in *Inbox) close(last core.Snapshot) {
	in.last = last
	close(in.done)
	in.empty()
}

// send queues m; false says that the swarm has ended and m is still the caller's.
func (in *Inbox) send(m message) bool {
	select {
	case <-in.done: // the next select would toss a coin while there is room
		return false
	default:
	}
	select {
	case in.c <- m:
	case <-in.done:
		return false
	}
	select {
	case <-in.done: // perhaps after close has looked
		in.empty()
	default:
	}
	return true
}

// empty lets go of what is in the queue of a swarm that has ended.
func (in *Inbox) empty() {
	for {
		select {
		case m := <-in.c:
			m.discard()
		default:
			return
		}
	}
}

// discard lets go of what an unwanted message refers to.
func (m *message) discard() {
	switch {
	case m.batch != nil:
		m.batch.ReleaseAll()
		m.batch.Recycle()
		if m.taken != nil {
			close(m.taken)
		}
	case m.store != nil:
		if m.store.Op == storage.ReadDone {
			m.store.Read.Buf.Release()
		}
		recycle(m.store)
	case m.opened != nil:
		_ = m.opened.conn.Close() // nobody has used it
	}
}

// post queues m, or lets go of it when the swarm has ended.
func (in *Inbox) post(m message) {
	if !in.send(m) {
		m.discard()
	}
}

// Storage takes an event of the storage; it is what [storage.Config] wants as Notify.
func (in *Inbox) Storage(ev storage.Event) {
	e := storeEvents.Get().(*storage.Event)
	*e = ev
	in.post(message{store: e})
}

// Found takes addresses that a source gave. They stay as they are from then on.
func (in *Inbox) Found(addrs []netip.AddrPort, src core.Source) {
	in.post(message{event: &core.Event{Op: core.Found, Addrs: addrs, Source: src}})
}

// Supplied takes the news that the metadata was found elsewhere than at peers: the swarm only waits for Proceed.
func (in *Inbox) Supplied() {
	in.post(message{event: &core.Event{Op: core.Supplied}})
}

// Proceed brings the content of a swarm whose metadata is known. It may be called once.
func (in *Inbox) Proceed(c Content) {
	in.post(message{content: &c})
}

// Sources takes the news whether any source of addresses still hopes to find some.
func (in *Inbox) Sources(hope bool) {
	in.post(message{event: &core.Event{Op: core.Sources, OK: hope}})
}

// Snapshot returns the state of the swarm; after its end the last one. Until [Swarm.Run] is called
// it waits.
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

// Panicked takes a bug that some goroutine has met, with its stack: it ends the swarm with a
// [*PanicError].
func (in *Inbox) Panicked(v any, stack []byte) {
	in.post(message{bug: &PanicError{Value: v, Stack: stack}})
}

// recover is deferred by goroutines that serve input.
func (in *Inbox) recover() {
	if v := recover(); v != nil {
		in.Panicked(v, debug.Stack())
	}
}
