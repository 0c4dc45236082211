// Package cli is the command line: it turns flags and environment into the options of
// [bittern/cmd/internal/app] and errors into exit codes, and does nothing else.
//
// Each command is a constructor that binds its flags to an options struct and calls one function of
// app. Rules that hold for all of them live in one place each: the exit code in exit.go, the
// BITTERN_* environment in environ.go, the syntax of sizes and durations in values.go.
// What a command prints, other than help, is printed by app.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

// env is the world a command runs in; tests give their own.
type env struct {
	app.Streams
	Getenv func(string) (string, bool) // as os.LookupEnv
}

// ownEnv is the process's own.
func ownEnv() env {
	return env{Streams: app.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, Getenv: os.LookupEnv}
}

// Main runs bittern with the process's own streams and signals, and returns its exit code.
func Main(args []string) int {
	// A reader that has gone away must not kill a download: writes then fail with EPIPE.
	signal.Ignore(syscall.SIGPIPE)
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	signals := make(chan os.Signal, 2) // our own channel: the exit code tells SIGINT from SIGTERM
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		endOnSignal(signals, end)
		signal.Stop(signals) // the next one kills at once
	}()
	e := ownEnv()
	return runRoot(ctx, e, newRoot(e), args)
}

// oneSignal is the time within which two signals are one: timeout(1) sends its own to the process and
// then to the group, and so to the process again.
const oneSignal = 500 * time.Millisecond

// endOnSignal calls end with the first signal and returns once the next one would be another.
func endOnSignal(signals <-chan os.Signal, end context.CancelCauseFunc) {
	end(app.SignalError{Sig: <-signals})
	again := time.After(oneSignal)
	for {
		select {
		case <-signals:
		case <-again:
			return
		}
	}
}

// runRoot executes one command line and reports how it failed: in one line on stderr, unless -qq.
func runRoot(ctx context.Context, e env, root *cobra.Command, args []string) (code int) {
	asUsage(root)
	root.SetArgs(joinOptional(args))
	cmd, err := execute(ctx, root)
	if err == nil {
		return exitOK
	}
	// A signal ends a command in many ways (a read cancelled, a context error); they are one.
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	code = exitCode(err)
	if cmd != nil {
		// A command line that could not be parsed never came to its environment. What is wrong there too can wait.
		_ = fromEnviron(cmd, e.Getenv)
	}
	if bug, ok := errors.AsType[*app.BugError](err); ok {
		fmt.Fprintf(e.Err, "%s\n", bug.Stack)
	}
	if hasEvents(cmd) {
		app.EmitFailure(e.Out, code, err)
	}
	if code == exitBug || quietness(cmd) < 2 {
		fmt.Fprintf(e.Err, "bittern: %s\n", oneLine(err.Error()))
	}
	return code
}

// execute runs the command; a panic in it becomes a [app.BugError].
func execute(ctx context.Context, root *cobra.Command) (cmd *cobra.Command, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &app.BugError{Value: v, Stack: debug.Stack()}
		}
	}()
	return root.ExecuteContextC(ctx)
}

// oneLine makes an error one line that no terminal obeys: some that libraries give have several lines, or
// quote what a server sent, such as the names in its certificate.
func oneLine(s string) string {
	return app.Printable(strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", " ")), " "))
}

// quietness is how many -q the command was given; a command line that could not be parsed has none.
func quietness(cmd *cobra.Command) int {
	if cmd == nil {
		return 0
	}
	n, err := cmd.Flags().GetCount("quiet")
	if err != nil { // a command without the flag
		return 0
	}
	return n
}

// hasEvents reports whether the command was told to print its events.
func hasEvents(cmd *cobra.Command) bool {
	if cmd == nil || cmd.Annotations[events] == "" {
		return false
	}
	on, err := cmd.Flags().GetBool("json")
	return err == nil && on
}

// newRoot builds the whole command tree.
func newRoot(e env) *cobra.Command {
	root := &cobra.Command{
		Use:   "bittern",
		Short: "Download, serve, make and check torrents",
		Long: "bittern is to BitTorrent what curl -O is to HTTP: one command, one torrent,\n" +
			"an honest exit code.\n\n" +
			"Every flag may also be set in the environment: --piece-length as BITTERN_PIECE_LENGTH;\n" +
			"a flag that may be repeated takes values separated by blanks.\n\n" +
			"Exit codes: 0 complete; 1 any other failure; 2 wrong usage; 3 bad input, not a torrent; 4 no\n" +
			"peer, or none that gave the metadata; 5 too slow; 6 disk; 7 a file in the way; 8 verify: missing\n" +
			"or corrupt content; 9 network set-up; 70 a bug; 129, 130 and 143 SIGHUP, SIGINT and SIGTERM.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if v, err := cmd.Flags().GetBool("version"); err == nil && v {
				_, err := fmt.Fprintln(e.Out, versionLine())
				return err
			}
			return usage(cmd.CommandPath(), errors.New("no command given"))
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnviron(cmd, e.Getenv) },
	}
	root.Flags().BoolP("version", "V", false, "print the version")
	root.SuggestionsMinimumDistance = 2
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd.CommandPath(), err) })
	root.AddCommand(newGet(e, app.Get), newSeed(e, app.Seed), newCreate(e), newInfo(e), newVerify(e), newVersion(e))
	root.SetHelpCommand(newHelp())
	root.InitDefaultCompletionCmd()
	strictCompletion(root)
	return root
}

// newHelp is cobra's help command, but for a topic there is not it fails.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show help about a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				for _, sub := range cmd.Root().Commands() {
					names = append(names, sub.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noSuchCommand(topic, rest)
			}
			if err != nil {
				return usage(cmd.Root().CommandPath(), err)
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

// strictCompletion makes `completion` fail, instead of showing its help, without a shell it knows.
func strictCompletion(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Use = "completion SHELL"
			cmd.Short = "Print the completion script of a shell"
			cmd.Args = noSuchCommand
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				return usage(cmd.CommandPath(), errors.New("which SHELL?"))
			}
		}
	}
}

// asUsage makes every complaint about a command's arguments a usage error.
func asUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(cmd.CommandPath(), err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		asUsage(sub)
	}
}

// noSuchCommand refuses arguments of the root command, naming commands that look alike.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// Root is the command tree, for whoever documents it.
func Root() *cobra.Command { return newRoot(ownEnv()) }
