package storage

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"bittern/piece"
)

// The resume record spares a run the hashing of what the run before verified. It exists only
// between two runs: it is written at the end of one, after everything it speaks of has been
// synced, and removed before the next one's first change. So its presence is the mark that it is
// clean; a run that was killed leaves none. It is bound to the info-hash, and each file it
// trusts must have the size and the time of change it had then.
//
// A record speaks only of pieces that lie in files, not of any byte in the side file: those few
// pieces are hashed again, so that the record does not depend on what is selected.
//
// All integers are big-endian:
//
//	magic    8 bytes, the last one the version
//	infohash 20 bytes
//	pieces   uint32
//	files    uint32, entries that follow
//	entry    uint32 index, uint8 home, int64 size, int64 time of change in ns since 1970
//	bits     one bit a piece, as in a bitfield message (BEP 3)
//	sum      SHA-1 of all before it
const recordMagic = "BTRNRES\x01"

const (
	recordHead  = len(recordMagic) + 20 + 4 + 4
	recordEntry = 4 + 1 + 8 + 8
)

// A stamp is what tells that a file has not been changed since.
type stamp struct {
	home  home
	size  int64 // bytes
	mtime int64 // ns since 1970
}

func stampOf(h home, info fs.FileInfo) stamp {
	return stamp{h, info.Size(), info.ModTime().UnixNano()}
}

// A record is the content of a resume record.
type record struct {
	infoHash [20]byte
	have     piece.Bitfield
	index    []int // of the files that existed, ascending
	stamps   []stamp
}

// append appends the encoding of the record.
func (r *record) append(b []byte) []byte {
	from := len(b)
	b = append(b, recordMagic...)
	b = append(b, r.infoHash[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.have.Len()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.index)))
	for i, file := range r.index {
		b = binary.BigEndian.AppendUint32(b, uint32(file))
		b = append(b, byte(r.stamps[i].home))
		b = binary.BigEndian.AppendUint64(b, uint64(r.stamps[i].size))
		b = binary.BigEndian.AppendUint64(b, uint64(r.stamps[i].mtime))
	}
	b = append(b, r.have.Bytes()...)
	sum := sha1.Sum(b[from:])
	return append(b, sum[:]...)
}

var errRecord = errors.New("not a resume record of this torrent and version")

// parseRecord decodes a record of a torrent of so many pieces and files. It accepts exactly
// what append makes.
func parseRecord(in []byte, infoHash [20]byte, pieces, files int) (*record, error) {
	body := len(in) - sha1.Size
	if body < recordHead || string(in[:len(recordMagic)]) != recordMagic {
		return nil, errRecord
	}
	if sum := sha1.Sum(in[:body]); !bytes.Equal(sum[:], in[body:]) {
		return nil, errRecord
	}
	in = in[len(recordMagic):body]
	r := &record{infoHash: [20]byte(in)}
	n := int64(binary.BigEndian.Uint32(in[24:]))
	if r.infoHash != infoHash || int64(binary.BigEndian.Uint32(in[20:])) != int64(pieces) || n > int64(files) {
		return nil, errRecord
	}
	in = in[28:]
	if int64(len(in)) != n*int64(recordEntry)+int64(pieces+7)/8 {
		return nil, errRecord
	}
	last := -1
	for range n {
		file := int64(binary.BigEndian.Uint32(in))
		if file <= int64(last) || file >= int64(files) {
			return nil, errRecord
		}
		last = int(file)
		r.index = append(r.index, last)
		r.stamps = append(r.stamps, stamp{
			home: home(in[4]), size: int64(binary.BigEndian.Uint64(in[5:])), mtime: int64(binary.BigEndian.Uint64(in[13:])),
		})
		in = in[recordEntry:]
	}
	var err error
	if r.have, err = piece.ParseBitfield(in, pieces); err != nil {
		return nil, errRecord
	}
	return r, nil
}

// loadRecord returns the record on disk; nil when there is none that can be used, whatever
// the reason: hashing is always right.
func (s *Store) loadRecord() *record {
	name := s.cfg.recordName()
	info, err := s.tab.lstat(name)
	most := int64(recordHead+sha1.Size) + int64(len(s.cfg.Files))*int64(recordEntry) + int64(s.cfg.Layout.Pieces()+7)/8
	if err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil
	}
	hd, err := s.tab.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer hd.Close()
	in, err := io.ReadAll(io.NewSectionReader(hd, 0, most))
	if err != nil {
		return nil
	}
	r, err := parseRecord(in, s.cfg.InfoHash, s.cfg.Layout.Pieces(), len(s.cfg.Files))
	if err != nil {
		return nil
	}
	return r
}

// removeRecord removes the record if there is one, and what a run that was killed while it wrote
// one may have left.
func (s *Store) removeRecord() error {
	if err := s.tab.remove(s.cfg.recordName()); err != nil {
		return err
	}
	return s.tab.remove(s.tempName())
}

// tempName is where the record is written before it gets its name.
func (s *Store) tempName() string { return s.cfg.recordName() + ".tmp" }

// settle leaves a record for the next run, or none.
func (s *Store) settle(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return nil
	}
	if s.idle() {
		return s.removeRecord()
	}
	ctx, cancel := context.WithTimeout(ctx, syncBudget)
	defer cancel()
	synced := make(chan error, 1)
	go func() { synced <- s.syncAll(ctx) }()
	select {
	case err := <-synced:
		if err != nil {
			return s.unlessBudget(ctx, err)
		}
		return s.writeRecord()
	case <-ctx.Done():
		return nil // the sync goes on in its system call; without a record nothing relies on it
	}
}

// unlessBudget drops the error that only says that the budget is used up.
func (s *Store) unlessBudget(ctx context.Context, err error) error {
	if errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// idle reports that there is nothing to resume: all that is wanted is complete, or nothing is
// there. Gigabytes are not synced to spare a run that only might come its hashing.
func (s *Store) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete || s.have.Empty()
}

// syncAll makes durable everything that was written since Open.
func (s *Store) syncAll(ctx context.Context) error {
	for file := range s.tab.files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := s.tab.sync(file); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord replaces the record by one of the present state, atomically.
func (s *Store) writeRecord() error {
	r, err := s.state()
	if err != nil {
		return err
	}
	name, temp := s.cfg.recordName(), s.tempName()
	if err := s.tab.remove(temp); err != nil {
		return err
	}
	if err = s.writeSynced(temp, r.append(nil)); err != nil {
		err = s.cfg.pathError("write", temp, err)
	} else if err = s.tab.fs.Rename(temp, name); err != nil {
		err = s.cfg.pathError("rename", temp, err)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, s.tab.remove(temp))
}

func (s *Store) writeSynced(name string, data []byte) error {
	var hd Handle
	err := s.tab.retry(func() (err error) {
		hd, err = s.tab.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err != nil {
		return err
	}
	if _, err = hd.WriteAt(data, 0); err == nil {
		err = hd.Sync()
	}
	return errors.Join(err, hd.Close())
}

// state returns the record of the present state. No goroutine writes any more. A file that somebody
// else changed since it was hashed or written is left out: its pieces are not what they were.
func (s *Store) state() (*record, error) {
	r := &record{infoHash: s.cfg.InfoHash, have: s.Have()}
	for _, p := range s.vol.shared {
		for c := s.vol.cut(int(p), 0, s.cfg.Layout.PieceSize(int(p))); c.next(); {
			if !c.pad() && !s.cfg.Files[c.file].Wanted {
				r.have.Clear(int(p))
			}
		}
	}
	for i, f := range s.cfg.Files {
		h := s.tab.home(i)
		if h == nowhere || f.Length == 0 || s.tab.files[i].unsure {
			continue
		}
		info, err := s.tab.lstat(s.tab.name(i, h))
		if err != nil {
			return nil, s.cfg.pathError("lstat", s.tab.name(i, h), err)
		}
		if end := s.tab.files[i].end; info.Size() < end {
			return nil, fmt.Errorf("storage: %w", &ChangedError{s.cfg.path(s.tab.name(i, h)), "it is shorter than what was written to it"})
		}
		if was := s.tab.files[i].mtime; was != 0 && was != info.ModTime().UnixNano() || s.tab.replaced(i, info) {
			continue
		}
		r.index = append(r.index, i)
		r.stamps = append(r.stamps, stampOf(h, info))
	}
	return r, nil
}
