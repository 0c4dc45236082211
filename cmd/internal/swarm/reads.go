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
// disk and one write to the socket, and counts the buffers that the link has in use.
type reads struct {
	runs    []run     // waiting for a buffer, oldest first
	reading int       // buffers in the storage's hands
	writing []written // buffers in the writer's hands, oldest first
	slabs   int       // how many of all these are slabs
}

// written is one buffer in the writer's hands.
type written struct {
	bytes int // still to go out
	slab  bool
}

// So many buffers a link may have in use, and of them so many slabs. The core counts bytes, and it would
// take a peer only a few of them, asked for here and there and not read, to have all buffers wait for it.
// Its window is two slabs full.
const (
	maxReads = 32
	maxSlabs = 8
)

// takesSlab reports whether n bytes need a slab.
func takesSlab(n int) bool { return n > blockSize }

// room reports whether the link may have another buffer, for n bytes.
func (r *reads) room(n int) bool {
	return r.reading+len(r.writing) < maxReads && (!takesSlab(n) || r.slabs < maxSlabs)
}

// begin notes that a buffer for n bytes went to the storage.
func (r *reads) begin(n int) {
	r.reading++
	if takesSlab(n) {
		r.slabs++
	}
}

// read notes that a read of that many bytes went on to the writer.
func (r *reads) read(n int) {
	r.reading--
	r.writing = append(r.writing, written{n, takesSlab(n)})
}

// sent notes that the writer has done with so many bytes.
func (r *reads) sent(bytes int) {
	n := 0
	for n < len(r.writing) && bytes >= r.writing[n].bytes {
		bytes -= r.writing[n].bytes
		if r.writing[n].slab {
			r.slabs--
		}
		n++
	}
	r.writing = append(r.writing[:0], r.writing[n:]...)
	if len(r.writing) > 0 {
		r.writing[0].bytes -= bytes
	}
}

// A run is a contiguous range of one piece: requests of one length, of which the last may be
// shorter.
type run struct {
	first piece.Block
	bytes int
}

// maxRun is how many requests share a run: as many blocks as a slab holds.
const maxRun = slabSize / blockSize

// add appends a block, to the last run where it continues that.
func (r *reads) add(b piece.Block) {
	if n := len(r.runs) - 1; n >= 0 && r.runs[n].takes(b) {
		r.runs[n].bytes += int(b.Length)
		return
	}
	r.runs = append(r.runs, run{first: b, bytes: int(b.Length)})
}

// takes reports whether b can follow in the same run. A run is cut again into requests of the first
// one's length, so another one must not follow a shorter one: peers may ask for any range.
func (r *run) takes(b piece.Block) bool {
	each := int(r.first.Length)
	return r.first.Piece == b.Piece && int(r.first.Begin)+r.bytes == int(b.Begin) &&
		r.bytes%each == 0 && int(b.Length) <= each &&
		r.bytes < maxRun*each && r.bytes+int(b.Length) <= slabSize
}

// read hands l's runs to the storage as far as there are buffers for them. When it is the link's own
// share that is used up, its next SentBytes go on; else readHeld does.
func (s *Swarm) read(l *link) {
	n, held := 0, false
	for _, r := range l.reads.runs {
		if !l.reads.room(r.bytes) {
			break
		}
		buf := s.bufferFor(r.bytes)
		if buf == nil {
			held = true
			break
		}
		l.reads.begin(r.bytes)
		s.content.Store.Read(storage.ReadJob{
			Piece: int(r.first.Piece), Begin: int(r.first.Begin), Length: r.bytes, Buf: buf,
			Tag: tag(l.id, int(r.first.Length)),
		})
		n++
	}
	l.reads.runs = append(l.reads.runs[:0], l.reads.runs[n:]...)
	if held && !l.held {
		l.held = true
		s.held = append(s.held, l)
	}
}

// tag carries through the storage whom a read is for and how long the requests in it are.
func tag(id core.LinkID, each int) uint64 { return uint64(id)<<32 | uint64(each) }

// untag is the inverse of tag.
func untag(t uint64) (id core.LinkID, each int) { return core.LinkID(t >> 32), int(uint32(t)) }

// bufferFor returns a buffer for n bytes, or nil if all are in use.
func (s *Swarm) bufferFor(n int) *pool.Buffer {
	if takesSlab(n) {
		return s.slabs.TryGet()
	}
	return s.small.TryGet()
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
	id, each := untag(ev.Read.Tag)
	l := s.links[id]
	switch {
	case ev.Err != nil:
		buf.Release()
		s.fail(ev.Err)
	case l == nil:
		buf.Release() // the core took its credit back when the link left
	default:
		l.reads.read(ev.Read.Length)
		l.send(outgoing(&ev.Read, buf, each))
	}
	s.readHeld()
}

// outgoing cuts what was read into the blocks that were asked for, each of that many bytes.
func outgoing(r *storage.ReadJob, buf *pool.Buffer, each int) peer.Outgoing {
	parts := peer.PartBuffer()
	for off := 0; off < r.Length; off += each {
		parts = append(parts, peer.Part{
			Index: uint32(r.Piece), Begin: uint32(r.Begin + off), Off: off, Len: min(each, r.Length-off),
		})
	}
	return peer.Outgoing{Slab: buf, Parts: parts}
}
