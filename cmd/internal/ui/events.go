package ui

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"time"
)

// An Event is one line of --json output: a flat struct whose JSON keys follow "event" and "time".
type Event interface {
	event() string // the value of "event"
}

// Start is the first event of `get` and `seed`.
type Start struct {
	Source string `json:"source"`
}

// Metadata says what is about to be downloaded.
type Metadata struct {
	Name     string `json:"name"`
	Infohash string `json:"infohash"`
	Size     int64  `json:"size"`  // bytes, without padding
	Files    int    `json:"files"` // without padding
	Pieces   int    `json:"pieces"`
}

// Progress is how `get` stands. While the state is "checking" (or "hashing", for `seed` of a path) done and
// total count what is looked at on the disk, which need not be good.
type Progress struct {
	State    string `json:"state"`     // as in the bar
	Done     int64  `json:"done"`      // bytes
	Total    int64  `json:"total"`     // bytes
	DownRate int64  `json:"down_rate"` // bytes a second
	UpRate   int64  `json:"up_rate"`   // bytes a second
	Peers    int    `json:"peers"`
	Seeds    int    `json:"seeds"`
	ETA      int64  `json:"eta_seconds,omitempty"` // left out while unknown
	Note     string `json:"note,omitempty"`        // what is being tried, or the user should know
}

// SeedProgress is how `seed` stands.
type SeedProgress struct {
	UpRate   int64 `json:"up_rate"`  // bytes a second
	Uploaded int64 `json:"uploaded"` // bytes
	Peers    int   `json:"peers"`
	Copies   int   `json:"copies"` // other complete copies known
}

// Complete says that `get` has everything, or that a stop condition of `seed` is met.
type Complete struct {
	Path       string  `json:"path"`
	Seconds    float64 `json:"seconds"`
	Downloaded int64   `json:"downloaded"`       // bytes
	Uploaded   int64   `json:"uploaded"`         // bytes
	Wasted     int64   `json:"wasted"`           // bytes received for nothing
	Copies     int     `json:"copies,omitempty"` // of `seed`: other complete copies known
	Reason     string  `json:"reason,omitempty"` // of `seed`: the stop condition, as in Seeded
}

// Seeded says that `get`, which was complete before, has met a stop condition of seeding.
type Seeded struct {
	Reason   string  `json:"reason"` // ratio, time, copies or max-time
	Seconds  float64 `json:"seconds"`
	Uploaded int64   `json:"uploaded"` // bytes
	Copies   int     `json:"copies"`   // other complete copies known
}

// Seeding says that content is being served.
type Seeding struct {
	Infohash   string `json:"infohash"`
	Magnet     string `json:"magnet"`
	TrackerURL string `json:"tracker_url,omitempty"` // of the embedded tracker
	Port       int    `json:"port,omitempty"`
}

// Failure is the last event of a command that failed.
type Failure struct {
	Code    int    `json:"code"` // the exit code
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (Start) event() string        { return "start" }
func (Metadata) event() string     { return "metadata" }
func (Progress) event() string     { return "progress" }
func (SeedProgress) event() string { return "progress" }
func (Complete) event() string     { return "complete" }
func (Seeded) event() string       { return "seeded" }
func (Seeding) event() string      { return "seeding" }
func (Failure) event() string      { return "error" }

// progressOf is the progress event of a snapshot.
func progressOf(s Snapshot) Event {
	if s.Seeding {
		return SeedProgress{UpRate: s.UpRate, Uploaded: s.Uploaded, Peers: max(0, s.Peers), Copies: s.Copies}
	}
	return Progress{
		State: s.State, Done: s.Done, Total: s.Total, DownRate: s.DownRate, UpRate: s.UpRate, Peers: max(0, s.Peers), Seeds: s.Seeds,
		ETA: int64(math.Ceil(max(0, s.ETA.Seconds()))), Note: cmp.Or(s.Story, s.Note),
	}
}

// Emit writes an event to Out, if events were asked for. An Out that fails need not end a command: the
// reader may have gone away.
func (d *Display) Emit(e Event) error {
	if !d.cfg.JSON {
		return nil
	}
	line := eventLine(e, time.Now())
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.cfg.Out.Write(line)
	return err
}

// eventLine is {"event":...,"time":...} with the fields of e behind.
func eventLine(e Event, now time.Time) []byte {
	head := JSON(struct {
		Event string `json:"event"`
		Time  string `json:"time"`
	}{e.event(), now.Format(time.RFC3339)})
	body := JSON(e)
	line := append(bytes.TrimRight(head, "}\n"), ',')
	return append(line, body[1:]...)
}

// JSON is v on one line with its line end, with < > & as they are: URLs stay readable.
func JSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("ui: encode " + err.Error()) // flat structs of strings and numbers always encode
	}
	return b.Bytes()
}
