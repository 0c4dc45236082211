package ui

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLoggerLevels(t *testing.T) {
	for _, tt := range []struct {
		name           string
		quiet, verbose int
		want           string // the levels that come through: d i w e
	}{
		{"default", 0, 0, "we"},
		{"-v", 0, 1, "iwe"},
		{"-vv", 0, 2, "diwe"},
		{"-q", 1, 0, "e"},
		{"-q -v", 1, 1, "e"},
		{"-qq", 2, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, file bytes.Buffer
			log := New(Config{Err: &out, Quiet: tt.quiet}).Logger(tt.verbose, &file)
			log.Debug("d")
			log.Info("i")
			log.Warn("w")
			log.Error("e")
			got := ""
			for line := range strings.Lines(out.String()) {
				got += strings.TrimSpace(line)[len(strings.TrimSpace(line))-1:]
			}
			if got != tt.want {
				t.Errorf("levels %q, want %q", got, tt.want)
			}
			if n := strings.Count(file.String(), "\n"); n != 4 {
				t.Errorf("the file has %d lines, want all 4", n)
			}
		})
	}
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	log := New(Config{Err: &out}).Logger(2, nil)
	log.Info("listening", "port", 6881)
	log.Warn("tracker failed", "url", "http://x/\x1b[2J", "err", errors.New("two words"))
	log.With("peer", "1.2.3.4:5").WithGroup("g").Error("gone", "n", 1, slog.Group("h", "m", 2))
	log.Debug("bare")
	want := "bittern: listening port=6881\n" +
		`bittern: warning: tracker failed url="http://x/\x1b[2J" err="two words"` + "\n" +
		"bittern: error: gone peer=1.2.3.4:5 g.n=1 g.h.m=2\n" +
		"bittern: bare\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
