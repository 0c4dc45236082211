package swarm

import (
	"time"

	"bittern/cmd/internal/swarm/core"
	"bittern/peer"
	"bittern/peer/pool"
	"bittern/piece"
	"bittern/piece/storage"
)

const blockSize = piece.BlockSize

// reads gathers the blocks that a link is to be sent, so that a run of them takes one read from the
// disk and one write to the socket.
type reads struct {
	runs []run // oldest first
}

// A run is a contiguous range of one piece.
type run struct {
	first piece.Block
	bytes int
}

// add appends a block, to the last run where it continues that.
func (r *reads) add(b piece.Block) {
	if n := len(r.runs) - 1; n >= 0 {
		last := &r.runs[n]
		if last.first.Piece == b.Piece && int(last.first.Begin)+last.bytes == int(b.Begin) &&
			last.bytes+int(b.Length) <= slabSize && last.first.Length == blockSize {
			last.bytes += int(b.Length)
			return
		}
	}
	r.runs = append(r.runs, run{first: b, bytes: int(b.Length)})
}

// read hands l's runs to the storage as far as there are buffers for them.
func (s *Swarm) read(l *link) {
	n := 0
	for _, r := range l.reads.runs {
		buf := s.bufferFor(r.bytes)
		if buf == nil {
			break
		}
		s.cfg.Store.Read(storage.ReadJob{
			Piece: int(r.first.Piece), Begin: int(r.first.Begin), Length: r.bytes, Buf: buf,
			Tag: tag(l.id, int(r.first.Length)),
		})
		n++
	}
	l.reads.runs = append(l.reads.runs[:0], l.reads.runs[n:]...)
	if len(l.reads.runs) > 0 && !l.held {
		l.held = true
		s.held = append(s.held, l)
	}
}

// tag carries through the storage whom a read is for and how it is cut into blocks.
func tag(id core.LinkID, block int) uint64 { return uint64(id)<<32 | uint64(block) }

// bufferFor returns a buffer for n bytes, or nil if all are in use.
func (s *Swarm) bufferFor(n int) *pool.Buffer {
	if n <= blockSize {
		return s.small.TryGet()
	}
	return s.slabs.TryGet()
}

// readHeld goes on with the links that waited for a buffer, now that some may be free.
func (s *Swarm) readHeld() {
	held := s.held
	s.held = nil
	for _, l := range held {
		l.held = false
		if s.links[l.id] == l {
			s.read(l)
		}
	}
}

// stored handles an event of the storage.
func (s *Swarm) stored(now time.Time, ev *storage.Event) {
	switch ev.Op {
	case storage.Verified, storage.Failed:
		s.handle(now, core.Event{Op: core.Verified, Piece: ev.Piece, OK: ev.Op == storage.Verified, Sums: ev.Sums})
	case storage.ReadDone:
		s.sendRead(now, ev)
	case storage.Complete:
		s.handle(now, core.Event{Op: core.Stored})
	case storage.Fault:
		s.err = ev.Err
	case storage.FileDone:
		s.log.Debug("file complete", "number", ev.File+1)
	}
}

// sendRead hands what was read to the writer of the peer it is for.
func (s *Swarm) sendRead(now time.Time, ev *storage.Event) {
	buf := ev.Read.Buf.(*pool.Buffer)
	id, block := core.LinkID(ev.Read.Tag>>32), int(uint32(ev.Read.Tag))
	l := s.links[id]
	switch {
	case ev.Err != nil:
		s.err = ev.Err
	case l == nil:
	default:
		if !l.conn.Send(outgoing(&ev.Read, buf, block)) {
			s.fail(l, errOutboxFull)
		}
		s.readHeld()
		return
	}
	buf.Release()
	s.handle(now, core.Event{Op: core.ReadFailed, Link: id, N: ev.Read.Length})
	s.readHeld()
}

// outgoing cuts what was read into the blocks that were asked for.
func outgoing(r *storage.ReadJob, buf *pool.Buffer, block int) peer.Outgoing {
	parts := peer.PartBuffer()
	for off := 0; off < r.Length; off += block {
		parts = append(parts, peer.Part{
			Index: uint32(r.Piece), Begin: uint32(r.Begin + off), Off: off, Len: min(block, r.Length-off),
		})
	}
	return peer.Outgoing{Slab: buf, Parts: parts}
}
