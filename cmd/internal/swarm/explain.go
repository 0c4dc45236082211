package swarm

import (
	"context"
	"log/slog"

	"bittern/cmd/internal/swarm/core"
)

// explains reports whether the log is to tell of the core's decisions. Nothing is made ready for that otherwise.
func explains(log *slog.Logger) bool { return log.Enabled(context.Background(), slog.LevelDebug) }

// explain writes a note of the core into the log.
func (s *Swarm) explain(n *core.Note) {
	var room [8]slog.Attr
	attrs := room[:0]
	switch l := s.links[n.Link]; {
	case l != nil:
		attrs = append(attrs, slog.Any("peer", l.conn.Remote().Addr))
	case n.Link != 0: // it has gone
		attrs = append(attrs, slog.Uint64("link", uint64(n.Link)))
	case n.Addr.IsValid():
		attrs = append(attrs, slog.Any("peer", n.Addr))
	}
	if n.Why != "" {
		attrs = append(attrs, slog.String("why", n.Why))
	}
	for _, a := range [...]struct {
		key string
		n   int
	}{
		{"piece", n.Piece}, {"blocks", n.Blocks}, {"peers", n.Peers}, {"slots", n.Slots}, {"times", n.Times}, {"rate", int(n.Rate)},
		{"received", int(n.Received)}, {"sent", int(n.Sent)},
	} {
		if a.n != 0 {
			attrs = append(attrs, slog.Int(a.key, a.n))
		}
	}
	s.log.LogAttrs(s.ctx, slog.LevelDebug, n.What, attrs...)
}
