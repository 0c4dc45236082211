package swarm

import (
	"bytes"
	"crypto/sha1"
	"time"

	"bittern/cmd/internal/swarm/core"
)

// A checkedCopy is a copy of the metadata whose hash is known.
type checkedCopy struct {
	number int
	info   []byte     // the whole, if it is good
	sums   [][20]byte // of its parts
}

// check hashes a copy of the metadata on a goroutine of its own: there may be 32 MiB of it.
func (s *Swarm) check(number int, parts [][]byte) {
	s.wg.Go(func() {
		defer s.in.recover()
		c := checkedCopy{number: number, sums: make([][20]byte, len(parts))}
		whole := sha1.New()
		for i, p := range parts {
			whole.Write(p) // of a hash it never fails
			c.sums[i] = sha1.Sum(p)
		}
		if [20]byte(whole.Sum(nil)) == s.cfg.InfoHash {
			c.info = bytes.Join(parts, nil)
		}
		s.in.post(message{checked: &c})
	})
}

// checked tells the phase about a copy.
func (s *Swarm) checked(now time.Time, c *checkedCopy) {
	s.info = c.info
	s.log.Debug("metadata checked", "pieces", len(c.sums), "good", c.info != nil)
	s.handle(now, core.Event{Op: core.Checked, Piece: c.number, OK: c.info != nil, Sums: c.sums})
	s.info = nil // whether it was wanted or not
}

// proceed goes on with the content, once the metadata is there and whoever asked for it has made something
// of it.
func (s *Swarm) proceed(now time.Time, content Content) {
	f, ok := s.phase.(*core.Fetch)
	if !ok {
		panic("swarm: there is content already")
	}
	s.content = content
	s.content.Core.Explain = explains(s.log)
	c, effects := f.Proceed(now, s.content.Core)
	s.phase = c
	s.doAll(effects)
	early := s.early
	s.early = nil
	for _, ev := range early {
		s.stored(now, ev)
	}
}
