// Package app is the composition root: it builds the parts of one command, joins them and reports
// the result.
//
// There is one function a command ([Create], [Info], [Verify]), each with its options as a
// plain struct. They write the result to Streams.Out and progress, warnings and log to Streams.Err;
// the error they return has a [Class] and is printed by the caller. Text that comes from a torrent or
// the network is printed only in the form that metainfo.Printable gives it.
package app

import (
	"errors"
	"io"

	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/ui"
)

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader // a .torrent, for the source "-"
	Out io.Writer // the result and nothing else
	Err io.Writer // progress, log, warnings
}

// ParseProgress reads how progress is to be shown: auto, bar, lines or none.
func ParseProgress(s string) (ui.Mode, error) {
	modes := map[string]ui.Mode{"auto": ui.Auto, "bar": ui.Bar, "lines": ui.Lines, "none": ui.None}
	if m, ok := modes[s]; ok {
		return m, nil
	}
	return ui.Auto, errors.New("want auto, bar, lines or none")
}

// ParsePorts reads a port or a range of ports, N or N-M; 0 means any.
func ParsePorts(s string) (sockets.Ports, error) {
	if s == "0" {
		return sockets.Ports{}, nil
	}
	return sockets.ParsePorts(s)
}

// Printable makes an error's text, in which there may be words of others, fit for a terminal.
func Printable(s string) string { return printable(s) }

// EmitFailure writes the JSON event of an error that ends a command with the given exit code.
func EmitFailure(out io.Writer, code int, err error) {
	ui.New(ui.Config{Out: out, Err: io.Discard, JSON: true}).Emit(ui.Failure{
		Code: code, Reason: ReasonOf(err), Message: err.Error(),
	})
}
