package app

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// A Class says what kind of failure ended a command. The command line turns it into an exit
// code, in one place; nothing here knows the numbers.
type Class uint8

// The classes of failure.
const (
	ClassOther      Class = iota // anything that has no class of its own
	ClassUsage                   // the command line asks for what cannot be
	ClassBadInput                // the torrent cannot be read, fetched, understood or trusted
	ClassNoPeers                 // no peer ever completed a handshake
	ClassNoMetadata              // peers, but none that gave the metadata
	ClassStalled                 // peers, but no content byte for --stall-timeout
	ClassMaxTime                 // peers, but not complete within --max-time
	ClassDisk                    // no space, no permission, I/O error
	ClassConflict                // a file stands at a final name and is not this content
	ClassCorrupt                 // verify found missing or corrupt content
	ClassNetwork                 // the network could not be set up as told
	ClassHook                    // a hook failed
)

// reasons are the words of the JSON error event; a class without one is reported as "other".
var reasons = [...]string{
	ClassOther: "other", ClassUsage: "usage", ClassBadInput: "bad-input", ClassNoPeers: "no-peers",
	ClassNoMetadata: "no-metadata", ClassStalled: "stalled", ClassMaxTime: "max-time",
	ClassDisk: "disk", ClassConflict: "conflict", ClassCorrupt: "corrupt",
	ClassNetwork: "network", ClassHook: "hook",
}

// String is the class's word in the JSON error event.
func (c Class) String() string {
	if int(c) >= len(reasons) {
		return reasons[ClassOther]
	}
	return reasons[c]
}

// An Error is how a command fails: one line, `what failed: why`, and where there is one the
// next thing to try.
type Error struct {
	Class Class
	What  string // what failed, lower case, no full stop: "cannot read x.torrent"; may be empty
	Err   error  // why; nil when What says it all
	Hint  string // the next thing to try; may be empty
}

// Error is the whole line without the program's name.
func (e *Error) Error() string {
	s := e.What
	switch {
	case e.Err == nil:
	case s == "":
		s = e.Err.Error()
	default:
		s += ": " + why(e.Err)
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// why leaves out what a path error repeats: What names the path already, and "open" helps nobody.
func why(err error) string {
	if p, ok := errors.AsType[*os.PathError](err); ok && err == error(p) {
		return p.Err.Error()
	}
	return err.Error()
}

// A SignalError is the cause of a context that a signal ended.
type SignalError struct{ Sig os.Signal }

// Error names the signal.
func (e SignalError) Error() string {
	switch e.Sig {
	case syscall.SIGINT:
		return "interrupted"
	case syscall.SIGTERM:
		return "terminated"
	case syscall.SIGHUP:
		return "hung up"
	}
	return fmt.Sprintf("stopped by signal %v", e.Sig)
}

// A BugError carries a recovered panic of our own code, from any goroutine, to the exit.
type BugError struct {
	Value any    // what was panicked with
	Stack []byte // debug.Stack of the goroutine that did
}

// Error says what happened; the stack is printed by whoever ends the process.
func (e *BugError) Error() string { return fmt.Sprintf("this is a bug in bittern: %v", e.Value) }

// ClassOf is the class of err: that of the outermost [Error] in its chain, [ClassOther] without one.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ClassOther
}

// ReasonOf is the word that the JSON error event has for err.
func ReasonOf(err error) string {
	if _, ok := errors.AsType[SignalError](err); ok {
		return "interrupted"
	}
	return ClassOf(err).String()
}

// failed makes an [Error].
func failed(c Class, err error, format string, args ...any) *Error {
	return &Error{Class: c, What: fmt.Sprintf(format, args...), Err: err}
}
