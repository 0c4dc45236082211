package ui

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

// draw replaces the bar, if it looks different now.
func (d *Display) draw(s Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	width := d.width()
	line := barLine(s, width-3) // room for the ^C that a terminal echoes; some wrap when the last column is written
	if line == d.drawn && width == d.drawnFor {
		return
	}
	out := d.erase(width) + line
	d.drawn, d.drawnFor = line, width
	_, _ = d.cfg.Err.Write([]byte(out)) // a courtesy: see writeLine
}

// finish leaves the bar where it stands and goes to the next line.
func (d *Display) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn == "" {
		return
	}
	d.drawn = ""
	_, _ = d.cfg.Err.Write([]byte("\n"))
}

// erase returns what takes the bar off a terminal of so many columns, and forgets it. A terminal that
// has become narrower since has wrapped the bar over several rows, all of which must go.
func (d *Display) erase(width int) string {
	bar := d.drawn
	if bar == "" {
		return ""
	}
	d.drawn = ""
	if !d.escape {
		return "\r" + strings.Repeat(" ", len(bar)) + "\r"
	}
	up := (len(bar)+width-1)/width - 1
	if up <= 0 {
		return "\r\x1b[K"
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", up)
}

// maxBar is how wide the bar itself gets, in columns; a longer one says no more.
const maxBar = 40

// minBar is how wide it is at least, while details compete for the rest of the line.
func minBar(width int) int {
	if width < 60 {
		return 3
	}
	return 6
}

// theme is plain ASCII: what a terminal without UTF-8 shows too.
var theme = progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}

// barLine renders s in at most width columns. Everything in it is ASCII but for a note, so bytes are
// columns; a note that is not is left out.
func barLine(s Snapshot, width int) string {
	head := s.State
	if s.Story != "" {
		return cut(asciiOnly(head+": "+s.Story), width)
	}
	room := width - len(head)
	if s.Total > 0 {
		room -= len(" 100% [] ") + minBar(width)
	}
	detail := fit(details(s), room)
	if s.Total <= 0 {
		return cut(strings.TrimRight(head+" "+detail, " "), width)
	}
	cols := min(maxBar, minBar(width)+room-len(detail))
	if cols < 1 { // a terminal of a few columns: no bar at all
		return cut(fmt.Sprintf("%3d%% %s", percent(s), head), width)
	}
	return cut(strings.TrimRight(bar(head, s.Done, s.Total, cols)+detail, " "), width)
}

// bar lets progressbar draw the line's left part: the state, the percentage and the bar.
func bar(head string, done, total int64, cols int) string {
	var out bytes.Buffer
	b := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(&out), progressbar.OptionSetWidth(cols), progressbar.OptionSetDescription(head),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetTheme(theme))
	if err := b.Set64(min(done, total)); err != nil || out.Len() == 0 { // nothing done: nothing was drawn
		if err := b.RenderBlank(); err != nil {
			return head // only a writer that fails can do this, and a buffer does not
		}
	}
	line := out.String()
	line = line[strings.LastIndexByte(line, '\r')+1:]
	return strings.TrimRight(line, " ") + " "
}

// A detail is one figure of the bar; the narrower the terminal, the more of them are left out.
type detail struct {
	text string
	rank int // the lowest stay longest
}

// details are the figures of s, in the order in which they stand.
func details(s Snapshot) []detail {
	var ds []detail
	add := func(rank int, format string, args ...any) {
		ds = append(ds, detail{fmt.Sprintf(format, args...), rank})
	}
	if s.Total > 0 {
		add(2, "%s", sizes(s.Done, s.Total))
	}
	if s.DownRate > 0 || s.ETA > 0 {
		add(0, "%s", Rate(s.DownRate))
	}
	if s.UpRate > 0 || s.Seeding {
		add(4, "up %s", Rate(s.UpRate))
	}
	if s.Peers >= 0 {
		add(3, "%s", plural(s.Peers, "peer"))
	}
	if s.ETA > 0 {
		add(1, "ETA %s", Duration(s.ETA))
	}
	if s.Note != "" && isASCII(s.Note) {
		add(5, "%s", s.Note)
	}
	return ds
}

// fit joins the details that fit in so many columns, in order, the ones of low rank first.
func fit(ds []detail, width int) string {
	keep := make([]bool, len(ds))
	for rank := range 6 {
		for i, d := range ds {
			if d.rank == rank && len(d.text) <= width {
				keep[i] = true
				width -= len(d.text) + 2
			}
		}
	}
	var out []string
	for i, d := range ds {
		if keep[i] {
			out = append(out, d.text)
		}
	}
	return strings.Join(out, "  ")
}

// plainLine is s as a line for a file or a pipe.
func plainLine(s Snapshot) string {
	var b strings.Builder
	b.WriteString(s.State)
	if s.Story != "" {
		return s.State + ": " + s.Story
	}
	if s.Total > 0 {
		fmt.Fprintf(&b, " %d%% (%s of %s)", percent(s), Size(s.Done), Size(s.Total))
	}
	switch {
	case s.DownRate <= 0 && s.ETA <= 0:
	case s.Peers < 0:
		fmt.Fprintf(&b, ", %s", Rate(s.DownRate))
	default:
		fmt.Fprintf(&b, ", down %s", Rate(s.DownRate))
	}
	if s.UpRate > 0 || s.Seeding {
		fmt.Fprintf(&b, ", up %s", Rate(s.UpRate))
	}
	if s.Peers >= 0 {
		fmt.Fprintf(&b, ", %s", plural(s.Peers, "peer"))
		if s.Seeds > 0 {
			fmt.Fprintf(&b, " (%s)", plural(s.Seeds, "seed"))
		}
	}
	if s.ETA > 0 {
		fmt.Fprintf(&b, ", ETA %s", Duration(s.ETA))
	}
	if s.Note != "" {
		fmt.Fprintf(&b, ", %s", s.Note)
	}
	return b.String()
}

// percent rounds down, so that 100 means done.
func percent(s Snapshot) int {
	if s.Total <= 0 {
		return 0
	}
	return int(float64(min(s.Done, s.Total)) / float64(s.Total) * 100)
}

// sizes is `12/64 MiB`, with both units when they differ.
func sizes(done, total int64) string {
	d, t := Size(done), Size(total)
	if n, unit, ok := strings.Cut(d, " "); ok && strings.HasSuffix(t, " "+unit) {
		d = n
	}
	return d + "/" + t
}

// Size shows bytes as people read them: `1.5 GiB`.
func Size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// Rate shows bytes a second: `3.2 MiB/s`.
func Rate(n int64) string { return Size(n) + "/s" }

// Duration shows the two leading units: `1h05m`, `3d02h`.
func Duration(d time.Duration) string {
	d = d.Round(time.Second)
	switch s := int64(d / time.Second); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// asciiOnly replaces what may not be one column wide.
func asciiOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func cut(s string, width int) string { return s[:min(len(s), max(0, width))] }
