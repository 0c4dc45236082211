package swarm

import (
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

// A run is a contiguous range of one piece: requests of blockSize, of which the last may be
// shorter, or one request of any length.
type run struct {
	first piece.Block
	bytes int
}

// add appends a block, to the last run where it continues that.
func (r *reads) add(b piece.Block) {
	if n := len(r.runs) - 1; n >= 0 && r.runs[n].takes(b) {
		r.runs[n].bytes += int(b.Length)
		return
	}
	r.runs = append(r.runs, run{first: b, bytes: int(b.Length)})
}

// takes reports whether b can follow in the same run, which is cut into blocks of the first one's
// length again: peers may ask for any range.
func (r *run) takes(b piece.Block) bool {
	return r.first.Piece == b.Piece && int(r.first.Begin)+r.bytes == int(b.Begin) &&
		r.first.Length == blockSize && r.bytes%blockSize == 0 && b.Length <= blockSize &&
		r.bytes+int(b.Length) <= slabSize
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

// untag is the inverse of tag.
func untag(t uint64) (id core.LinkID, block int) { return core.LinkID(t >> 32), int(uint32(t)) }

// bufferFor returns a buffer for n bytes, or nil if all are in use.
func (s *Swarm) bufferFor(n int) *pool.Buffer {
	if n <= blockSize {
		return s.small.TryGet()
	}
	return s.slabs.TryGet()
}

// readHeld goes on with the links that waited for a buffer, the one that has waited longest first.
// It is called whenever buffers may have come back.
func (s *Swarm) readHeld() {
	if len(s.held) == 0 {
		return
	}
	waiting := s.held
	s.held = s.retry[:0]
	for _, l := range waiting {
		l.held = false
		if s.links[l.id] == l {
			s.read(l)
		}
	}
	clear(waiting)
	s.retry = waiting
}

// sendRead hands what was read to the writer of the peer it is for.
func (s *Swarm) sendRead(ev *storage.Event) {
	buf := ev.Read.Buf.(*pool.Buffer)
	id, block := untag(ev.Read.Tag)
	l := s.links[id]
	switch {
	case ev.Err != nil:
		buf.Release()
		s.fail(ev.Err)
	case l == nil:
		buf.Release() // the core took its credit back when the link left
	default:
		l.send(outgoing(&ev.Read, buf, block))
	}
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
