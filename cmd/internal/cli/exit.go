package cli

import (
	"errors"
	"syscall"

	"bittern/cmd/internal/app"
)

// The exit codes. Scripts depend on them: they may be added to but not changed.
const (
	exitOK       = 0   // complete (also when it already was)
	exitFailure  = 1   // any other failure
	exitUsage    = 2   // wrong usage
	exitBadInput = 3   // not a torrent, or one that cannot be read, fetched or trusted
	exitNobody   = 4   // no peer, or no metadata
	exitTooSlow  = 5   // peers, but not complete in the time given
	exitDisk     = 6   // no space, permission, I/O error
	exitConflict = 7   // a foreign file in the way
	exitCorrupt  = 8   // verify: missing or corrupt content
	exitNetwork  = 9   // network set-up
	exitHook     = 10  // a hook failed
	exitBug      = 70  // a bug in bittern
	exitSignal   = 128 // plus the signal's number
)

// codes gives each class of failure its exit code.
var codes = map[app.Class]int{
	app.ClassOther: exitFailure, app.ClassUsage: exitUsage, app.ClassBadInput: exitBadInput,
	app.ClassNoPeers: exitNobody, app.ClassNoMetadata: exitNobody,
	app.ClassStalled: exitTooSlow, app.ClassMaxTime: exitTooSlow,
	app.ClassDisk: exitDisk, app.ClassConflict: exitConflict, app.ClassCorrupt: exitCorrupt,
	app.ClassNetwork: exitNetwork, app.ClassHook: exitHook,
}

// exitCode decides, for the whole program, with which code an error ends it.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*app.BugError](err); ok {
		return exitBug
	}
	if sig, ok := errors.AsType[app.SignalError](err); ok {
		if n, ok := sig.Sig.(syscall.Signal); ok {
			return exitSignal + int(n)
		}
		return exitFailure
	}
	return codes[app.ClassOf(err)]
}

// usage marks err as wrong usage and says where help is.
func usage(command string, err error) error {
	if _, ok := errors.AsType[*app.Error](err); ok {
		return err
	}
	return &app.Error{Class: app.ClassUsage, Err: err, Hint: "see '" + command + " --help'"}
}
