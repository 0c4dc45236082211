// Package ui shows how a command is doing: a progress bar on a terminal, plain lines elsewhere, JSON
// events for scripts, and the log.
//
// The package knows nothing of torrents. It renders a [Snapshot], which its caller makes whenever
// [Display.Run] asks for one, and writes log lines so that they and the bar do not tear each other.
// Nothing here reads a terminal, and no escape code is written to what is not one. There is no colour,
// so NO_COLOR has nothing to switch off.
package ui

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// A Snapshot is the state of a command at one moment.
type Snapshot struct {
	State    string        // what is going on, one lower-case word: "downloading"
	Done     int64         // bytes that are done
	Total    int64         // bytes in all; 0 while unknown
	DownRate int64         // bytes a second, from peers or, without any, from the disk
	UpRate   int64         // bytes a second
	Peers    int           // connected peers; negative when the command has none to speak of
	Seeds    int           // peers among them that have everything
	ETA      time.Duration // until done; 0 or less while unknown
	Note     string        // what the user should know, printable: "no peers yet"; may be empty
	Story    string        // printable; told instead of all figures where there are no bytes to count; may be empty

	Seeding  bool  // report the fields of `seed` in the JSON progress event, instead of those of `get`
	Uploaded int64 // bytes sent, for the same
	Copies   int   // other complete copies seen, for the same
}

// A Mode says how progress is shown.
type Mode uint8

// The modes.
const (
	Auto  Mode = iota // Bar on a terminal, Lines elsewhere
	Bar               // one line, redrawn
	Lines             // a line when something changed, at most every 10 s
	None              // nothing
)

// The pace of each kind of output.
const (
	barEvery   = 200 * time.Millisecond
	linesFirst = time.Second // a command that is done by then prints none
	linesEvery = 10 * time.Second
	jsonEvery  = time.Second
)

// defaultWidth is for a bar whose terminal does not tell its width.
const defaultWidth = 80 // columns

// A Config sets up a [Display].
type Config struct {
	Out   io.Writer // where JSON events go
	Err   io.Writer // where progress and log go; a terminal if it is an *os.File that is one
	Mode  Mode
	JSON  bool       // write events to Out
	Quiet int        // 1: only errors, 2: nothing
	Width func() int // columns of the terminal, 0 or less if unknown; nil asks Err
}

// A Display writes all that is not the result. Its methods may be called from any goroutine.
type Display struct {
	cfg    Config
	mode   Mode // resolved: never Auto
	escape bool // Err understands escape codes

	sameScreen bool // Out and Err are both terminals

	mu       sync.Mutex // guards what is below, and keeps writes to Err and Out whole
	drawn    string     // the bar that stands on the current line, without line end; "" for none
	drawnFor int        // columns of the terminal when it was drawn
}

// New makes a Display.
func New(c Config) *Display {
	d := &Display{cfg: c, mode: c.Mode}
	terminal := IsTerminal(c.Err)
	d.escape = terminal && os.Getenv("TERM") != "dumb"
	if d.mode == Auto {
		d.mode = Lines
		if d.escape && !(c.JSON && IsTerminal(c.Out)) { // events and a bar would share the screen
			d.mode = Bar
		}
	}
	if c.Quiet > 0 {
		d.mode = None
	}
	if c.Width == nil {
		d.cfg.Width = func() int { return terminalWidth(c.Err) }
	}
	d.sameScreen = terminal && IsTerminal(c.Out)
	return d
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0 // not a terminal: the caller falls back
	}
	return width
}

// Run shows snapshots until ctx ends, then the last one. It asks for them on its own goroutine, a few
// times a second at most, and not at all when nothing is shown.
func (d *Display) Run(ctx context.Context, snap func() Snapshot) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if d.cfg.JSON {
		wg.Go(func() { d.runJSON(ctx, snap) })
	}
	switch d.mode {
	case Bar:
		d.runBar(ctx, snap)
	case Lines:
		d.runLines(ctx, snap)
	}
}

func (d *Display) runBar(ctx context.Context, snap func() Snapshot) {
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	for {
		d.draw(snap())
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.draw(snap())
			d.finish()
			return
		}
	}
}

func (d *Display) runLines(ctx context.Context, snap func() Snapshot) {
	timer := time.NewTimer(linesFirst)
	defer timer.Stop()
	last := ""
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if line := plainLine(snap()); line != last {
			last = line
			d.writeLine(line)
		}
		timer.Reset(linesEvery)
	}
}

func (d *Display) runJSON(ctx context.Context, snap func() Snapshot) {
	tick := time.NewTicker(jsonEvery)
	defer tick.Stop()
	var last any
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if e := progressOf(snap()); e != last {
			last = e
			d.Emit(e)
		}
	}
}

// Say writes a line for people where progress is shown, once Run has returned.
func (d *Display) Say(line string) {
	if d.mode != None {
		d.writeLine(line)
	}
}

// writeLine writes one line of our own to Err.
func (d *Display) writeLine(line string) {
	// Progress is a courtesy: a closed or full stderr must not end a download.
	_, _ = d.Write([]byte(line + "\n"))
}

// Write writes whole lines to Err, above the bar if one stands. It is what a log writes to.
func (d *Display) Write(lines []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	bar, width := d.drawn, d.drawnFor
	out := append([]byte(d.erase(d.width())), lines...)
	out = append(out, bar...)
	d.drawn, d.drawnFor = bar, width
	if bar != "" {
		d.drawnFor = d.width()
	}
	if _, err := d.cfg.Err.Write(out); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// Result writes a command's result to Out. Where that is the terminal the bar makes way for it.
func (d *Display) Result(out []byte) error {
	if d.sameScreen { // else a reader that is slow need not hold up the bar
		d.mu.Lock()
		defer d.mu.Unlock()
		if bar := d.erase(d.width()); bar != "" {
			_, _ = d.cfg.Err.Write([]byte(bar)) // a courtesy: see writeLine
		}
	}
	_, err := d.cfg.Out.Write(out)
	return err
}

func (d *Display) width() int {
	if w := d.cfg.Width(); w > 0 {
		return w
	}
	return defaultWidth
}
