// Package peer runs one live connection to a peer: the handshake, and then a [Conn] of exactly two
// goroutines, a reader and a writer, until it is closed.
//
// A Conn decides nothing. It turns bytes into messages and hands them to its owner in batches
// through Config.Deliver, takes encoded messages through [Conn.Send], and enforces what needs no
// knowledge of the swarm: the length of each message before it is read ([wire.Limits]),
// time-outs, and bounds on what waits in memory. Whoever owns the Conn never waits for it: Send and
// Close do not block. The Conn waits for its owner in Deliver, and that, with the pool of block
// buffers, is the back-pressure: the reader stops, the socket fills, TCP shuts the window.
//
// # A block's way in
//
// The reader reads as much as there is into a buffer of its own, and of each block that is in
// whole copies the data into a buffer of the pool, which then belongs to whoever holds the
// [Received]. All messages of one read go out in one [Batch]. A pool buffer is never taken for a
// block that is still coming in, so a peer that stalls holds none; and before the reader waits, be it
// for the socket or for a buffer, it delivers what it has, because what it waits for may depend
// on that. Neither a block nor a batch costs an allocation, once the first have been recycled.
package peer

import "errors"

// Why a connection ended, besides errors of the network as the system gives them, and
// [bittern/peer/wire.ErrProtocol] for a peer that broke the protocol. None of these is reason
// for a ban. All are matched by errors.Is.
var (
	// ErrClosed is the cause when the owner called Close without giving one.
	ErrClosed = errors.New("peer: connection closed")
	// ErrSilent means that nothing came for Config.Silence, not even a keep-alive.
	ErrSilent = errors.New("peer: silent for too long")
	// ErrStalled means that a message, once begun, did not come or go within Config.Stall.
	ErrStalled = errors.New("peer: stalled in a message")
	// ErrHash means that the other end of a handshake wants a torrent that we do not have.
	ErrHash = errors.New("peer: another torrent")
	// errPanicked is the cause after a bug of ours, which Config.OnPanic was told.
	errPanicked = errors.New("peer: internal error")
)
