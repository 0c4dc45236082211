package storage

import (
	"context"
	"fmt"
	"runtime"

	"bittern/piece"
)

// A Status is what Check found of a file.
type Status uint8

const (
	OK      Status = iota // complete and, as far as it can be known, right
	Missing               // not there
	Corrupt               // a piece is bad, and no file that is not all there explains it
	Short                 // shorter than it should be
	Long                  // longer than it should be
)

var statusNames = [...]string{"ok", "missing", "corrupt", "short", "long"}

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// A Report is what Check found.
type Report struct {
	Complete bool     // every file is OK and every piece good
	PiecesOK int      // good pieces
	Pieces   int      // in the torrent
	Files    []Status // of each file, padding always OK
}

// Check compares what stands under the final names with the torrent, selected or not. It
// writes nothing and takes no lock. Shared pieces of a partial download may be read from its
// side file. What is no regular file, or behind a symbolic link, counts as missing.
//
// A bad piece makes every file corrupt that it touches, unless one of them is missing, short or
// long: then that one explains it and nothing is known against the others.
func Check(ctx context.Context, cfg Config) (Report, error) {
	cfg.ReadOnly = true
	s, err := newStore(cfg)
	if err != nil {
		return Report{}, err
	}
	rep, err := s.check(ctx)
	if serr := s.shut(); err == nil {
		err = serr
	}
	return rep, err
}

func (s *Store) check(ctx context.Context) (Report, error) {
	v := newSurvey(s.tab)
	defer v.close()
	found, err := v.scan()
	if err != nil {
		return Report{}, err
	}
	if info, err := v.file(s.cfg.sideName()); err == nil && info != nil {
		s.tab.files[s.tab.side].home = atSide
	}
	rep := Report{Pieces: s.cfg.Layout.Pieces(), Files: make([]Status, len(s.cfg.Files))}
	bad := fullSet(rep.Pieces)
	for i, f := range s.cfg.Files {
		rep.Files[i] = found[i].status(f)
	}
	h := &hasher{vol: s.vol, tab: s.tab, workers: runtime.GOMAXPROCS(0)}
	h.locate = func(file, _ int) home {
		if at := found[file].home; at != nowhere {
			return at
		}
		return s.tab.files[s.tab.side].home
	}
	var done int64
	err = h.run(ctx, fullSet(rep.Pieces), func(p int, sum [20]byte, missing bool) {
		done += s.cfg.Layout.PieceSize(p)
		s.cfg.progress(done, s.cfg.Layout.Total())
		if !missing && sum == [20]byte(s.cfg.Sums[20*p:]) {
			rep.PiecesOK++
			bad.Clear(p)
		}
	})
	if err != nil {
		return Report{}, err
	}
	s.blame(&rep, bad)
	return rep, nil
}

// status is what the size alone says of a file.
func (f *finding) status(want File) Status {
	switch {
	case want.Pad:
		return OK
	case f.home == nowhere:
		return Missing
	case f.size < want.Length:
		return Short
	case f.size > want.Length:
		return Long
	}
	return OK
}

// blame finds the files that bad pieces make corrupt.
func (s *Store) blame(rep *Report, bad piece.Bitfield) {
	sizes := append([]Status(nil), rep.Files...)
	for p := range bad.All() {
		explained := false
		for c := s.vol.cut(p, 0, s.cfg.Layout.PieceSize(p)); c.next(); {
			explained = explained || sizes[c.file] != OK
		}
		for c := s.vol.cut(p, 0, s.cfg.Layout.PieceSize(p)); c.next() && !explained; {
			if !c.pad() {
				rep.Files[c.file] = Corrupt
			}
		}
	}
	rep.Complete = bad.Empty()
	for _, st := range rep.Files {
		rep.Complete = rep.Complete && st == OK
	}
}
