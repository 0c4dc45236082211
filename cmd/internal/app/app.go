// Package app is the composition root: it builds the parts of one command, joins them and reports
// the result.
//
// There is one function a command ([Create], [Info], [Verify]), each with its options as a
// plain struct. They write the result to Streams.Out and progress, warnings and log to Streams.Err;
// the error they return has a [Class] and is printed by the caller. Text that comes from a torrent or
// the network is printed only in the form that metainfo.Printable gives it.
package app

import "io"

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader // a .torrent, for the source "-"
	Out io.Writer // the result and nothing else
	Err io.Writer // progress, log, warnings
}
