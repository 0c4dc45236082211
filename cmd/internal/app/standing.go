package app

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"bittern/cmd/internal/swarm"
	"bittern/cmd/internal/swarm/core"
	"bittern/cmd/internal/ui"
	"bittern/piece/storage"
	"bittern/tracker"
)

// snapshot is what the display shows.
func (x *transfer) snapshot() ui.Snapshot {
	if !x.running.Load() {
		return ui.Snapshot{State: "checking", Done: x.checking.Load(), Total: x.toCheck.Load(), Peers: -1}
	}
	s := x.inbox.Snapshot()
	out := ui.Snapshot{
		State: "downloading", Done: s.Done, Total: s.Total, DownRate: s.DownRate, UpRate: s.UpRate,
		Peers: s.Peers, Seeds: s.Seeds, Uploaded: s.Uploaded, Copies: s.Copies,
	}
	switch {
	case s.Seeding && x.plan.seed != (SeedUntil{}):
		out.State, out.Seeding, out.DownRate = "seeding", x.plan.serveOnly, 0
		if n := x.plan.seed.Copies; n > 0 {
			out.Note = fmt.Sprintf("other copies: %d of %d", min(s.Copies, n), n)
		}
	case s.Seeding:
		out.State = "complete"
	case s.Peers == 0:
		out.State, out.Note = "connecting", x.whyNoPeers()
	case s.DownRate > 0:
		out.ETA = time.Duration(float64(s.Left) / float64(s.DownRate) * float64(time.Second))
	}
	return out
}

// stopReason names for scripts the condition that ended seeding; "" if none did.
func stopReason(o core.Outcome) string {
	switch o {
	case core.RatioReached:
		return "ratio"
	case core.SeedTimeOver:
		return "time"
	case core.CopiesReached:
		return "copies"
	case core.SeedOutOfTime:
		return "max-time"
	}
	return ""
}

// sayWhyEnded tells people, and the log, which condition has ended seeding.
func (x *transfer) sayWhyEnded(d *display) {
	s := x.inbox.Snapshot()
	x.log.Info("seeding ended", "why", x.outcome, "uploaded", s.Uploaded, "copies", s.Copies)
	d.Say(fmt.Sprintf("seeding ended: %v, %s uploaded, other copies: %d", x.outcome, ui.Size(s.Uploaded), s.Copies))
}

// failures returns how many trackers have failed, and what the last of them has to say.
func failures(status []tracker.Status) (failed int, last string) {
	for _, s := range status {
		if s.Err != nil {
			failed++
			last = tracker.Label(s.URL) + ": " + s.Err.Error()
		}
	}
	return failed, last
}

// sources says in a few words what looks for peers.
func (x *session) sources() (parts []string) {
	status := x.trackers.Status()
	failed, last := failures(status)
	if x.node != nil {
		s := x.node.Status()
		parts = append(parts, "DHT "+plural(s.IPv4+s.IPv6, "node"))
	}
	if len(status) > 0 {
		part := plural(len(status), "tracker")
		if failed > 0 {
			part += printable(fmt.Sprintf(" (%d failed: %s)", failed, last))
		}
		parts = append(parts, part)
	}
	if x.lsd != nil {
		parts = append(parts, "local network")
	}
	return parts
}

// whyNoPeers says in a few words why nobody is connected.
func (x *session) whyNoPeers() string {
	s := x.inbox.Snapshot()
	if s.Liars > 0 {
		return plural(s.Liars, "peer") + " banned for sending corrupt data, no other answers"
	}
	if x.node == nil {
		if len(x.trackers.Status()) == 0 && len(x.names) == 0 {
			if x.lsd != nil {
				return "nobody on the local network, and no tracker or peer to ask"
			}
			return "no tracker and no peer to ask"
		}
		return x.whyTrackers()
	}
	if found := s.Known - len(x.names); found > 0 {
		return noneAnswers(found)
	}
	if why := x.whyTrackers(); why != "" {
		return why + ", " + x.whyDHT()
	}
	return x.whyDHT()
}

// noneAnswers says that of some addresses no peer answers.
func noneAnswers(found int) string {
	if found == 1 {
		return "1 address, which does not answer yet"
	}
	return fmt.Sprintf("%d addresses, none answers yet", found)
}

// whyTrackers says in a few words why the trackers and the peers that were named have brought nobody.
func (x *session) whyTrackers() string {
	status := x.trackers.Status()
	failed, last := failures(status)
	found := 0
	for _, s := range status {
		found += s.Peers
	}
	switch {
	case failed > 0 && failed == len(status):
		return printable(fmt.Sprintf("no tracker answers (%s)", last))
	case found > 0:
		return noneAnswers(found)
	case len(x.names) > 0:
		return "no answer from " + printable(some(x.names))
	case len(status) > failed:
		return "the trackers know no peers yet"
	}
	return ""
}

// outcomeError turns the swarm's decision to end into the error of the command.
func (x *transfer) outcomeError(o core.Outcome, p plan) error {
	if o.Succeeded() {
		return nil
	}
	s := x.inbox.Snapshot()
	switch o {
	case core.NoPeers, core.NoneUsable:
		return nobody(s, x.whyNoPeers())
	case core.Stalled:
		return &Error{Class: ClassStalled, What: fmt.Sprintf("stalled at %s", soFar(s)),
			Err: fmt.Errorf("no content came for %v from %s", p.stall, x.whom(s)), Hint: "the same command continues"}
	case core.OutOfTime:
		return &Error{Class: ClassMaxTime, What: fmt.Sprintf("not complete after %v", p.maxTime),
			Err: errors.New(soFar(s)), Hint: "the same command continues"}
	}
	return fmt.Errorf("ended without a reason: %v", o)
}

// nobody is the error of a run that has no peer, and why that is, if anybody knows. Some may have been there
// before all of them failed.
func nobody(s core.Snapshot, why string) *Error {
	if why == "" {
		why = "nobody was there"
	}
	if s.Met == 0 {
		return &Error{Class: ClassNoPeers, What: "no peer found", Err: errors.New(why), Hint: morePeers}
	}
	return &Error{Class: ClassNoPeers, What: "no peer is left at " + soFar(s), Err: errors.New(why), Hint: "the same command continues; " + morePeers}
}

// morePeers is the next thing to try where nobody is left.
const morePeers = "name one with --peer or another tracker with --tracker"

// whom says whom content was awaited from.
func (x *transfer) whom(s core.Snapshot) string {
	if s.Peers == 0 && s.Liars > 0 {
		return "anybody: " + x.whyNoPeers()
	}
	return plural(s.Peers, "peer")
}

func soFar(s core.Snapshot) string { return ui.Size(s.Done) + " of " + ui.Size(s.Total) }

// some lists names, all of them if they are few.
func some(names []string) string {
	const few = 3
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// storageError gives an error of the storage or the swarm its class.
func storageError(err error) error {
	if bug, ok := errors.AsType[*swarm.PanicError](err); ok {
		return &BugError{Value: bug.Value, Stack: bug.Stack}
	}
	if bug, ok := errors.AsType[*storage.PanicError](err); ok {
		return &BugError{Value: bug.Value, Stack: bug.Stack}
	}
	if sig, ok := errors.AsType[SignalError](err); ok {
		return sig
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if c, ok := errors.AsType[*storage.ConflictError](err); ok {
		e := &Error{Class: ClassConflict, What: printable(c.Path) + " is in the way", Err: errors.New(c.Reason)}
		if c.Adoptable {
			e.Hint = "--overwrite keeps what is good of it and fetches the rest"
		}
		return e
	}
	if l, ok := errors.AsType[*storage.LockedError](err); ok {
		return &Error{Class: ClassOther, What: "cannot use " + printable(l.Path), Err: errors.New("another process is working on the same content")}
	}
	e := &Error{Class: ClassDisk, Err: errors.New(strings.TrimPrefix(err.Error(), "storage: "))}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Hint = "the same command continues once there is room"
	}
	return e
}
