package ui

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
)

// Logger returns the logger of a command. Warnings and errors go to Err; with verbose 1 also what
// happens, with 2 every detail. Quiet lowers it to errors and to nothing. file, unless nil,
// gets everything, with times.
func (d *Display) Logger(verbose int, file io.Writer) *slog.Logger {
	var handlers []slog.Handler
	if d.cfg.Quiet < 2 {
		handlers = append(handlers, newLineHandler(d, d.level(verbose)))
	}
	if file != nil {
		handlers = append(handlers, slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewMultiHandler(handlers...))
}

func (d *Display) level(verbose int) slog.Level {
	switch {
	case d.cfg.Quiet > 0:
		return slog.LevelError
	case verbose > 1:
		return slog.LevelDebug
	case verbose > 0:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// A lineHandler writes a record as `bittern: warning: message key=value`. Values are quoted as
// slog.TextHandler quotes them, which leaves no control character alive.
type lineHandler struct {
	out   io.Writer
	level slog.Level
	with  func(slog.Handler) slog.Handler // the groups and attributes set so far
}

func newLineHandler(out io.Writer, level slog.Level) *lineHandler {
	return &lineHandler{out, level, func(h slog.Handler) slog.Handler { return h }}
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	line := []byte("bittern: ")
	switch {
	case r.Level >= slog.LevelError:
		line = append(line, "error: "...)
	case r.Level >= slog.LevelWarn:
		line = append(line, "warning: "...)
	}
	line = append(line, r.Message...)
	var attrs bytes.Buffer
	text := slog.NewTextHandler(&attrs, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutHead})
	if err := h.with(text).Handle(ctx, r); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(attrs.Bytes()); len(rest) > 0 {
		line = append(append(line, ' '), rest...)
	}
	_, err := h.out.Write(append(line, '\n'))
	return err
}

// withoutHead drops what the line says already in its own way.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	head := []string{slog.TimeKey, slog.LevelKey, slog.MessageKey}
	if len(groups) == 0 && slices.Contains(head, a.Key) {
		return slog.Attr{}
	}
	return a
}

func (h *lineHandler) WithAttrs(as []slog.Attr) slog.Handler {
	with := h.with
	return &lineHandler{h.out, h.level, func(t slog.Handler) slog.Handler { return with(t).WithAttrs(as) }}
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	with := h.with
	return &lineHandler{h.out, h.level, func(t slog.Handler) slog.Handler { return with(t).WithGroup(name) }}
}
