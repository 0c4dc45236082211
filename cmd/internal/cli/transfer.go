package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

// sourceHelp explains SOURCE in the help of each command that takes one.
const sourceHelp = "SOURCE is the path of a .torrent file, - for one on stdin, its http(s) URL, a magnet\n" +
	"link or a bare info-hash."

// defaultTracker is where --serve-tracker listens when it is given no address.
const defaultTracker = ":6969"

// newGet is `bittern get`; get does the work.
func newGet(e env, get func(context.Context, app.Streams, app.GetOptions) error) *cobra.Command {
	o := app.GetOptions{Dir: "."}
	cmd := &cobra.Command{
		Use:   "get SOURCE",
		Short: "Download one torrent and exit when it is complete",
		Long: "Download one torrent and exit when it is complete. The path of the downloaded file or\n" +
			"folder is printed on stdout. The same command continues what was interrupted.\n\n" + sourceHelp,
		Example: "  bittern get x.torrent\n" +
			"  bittern get -d ~/Downloads https://example.org/x.torrent\n" +
			"  bittern get 'magnet:?xt=urn:btih:...'\n" +
			"  bittern get --select '1,3-5,*.flac' --max-time 1h x.torrent",
		Args:              one("SOURCE"),
		ValidArgsFunction: completeTorrent,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source = args[0]
			if o.Output == "-" {
				return usage(cmd.CommandPath(), errors.New("--output -: content to stdout is not supported yet"))
			}
			if o.MetadataOnly && o.SaveTorrent == "" {
				return usage(cmd.CommandPath(), errors.New("--metadata-only: --save-torrent must say where to keep the .torrent"))
			}
			if o.MaxUpload == app.NoUpload && (o.SeedUntil != (app.SeedUntil{}) || o.SuperSeed == app.SuperAlways) {
				return usage(cmd.CommandPath(), errNoSeeding)
			}
			if o.SuperSeed == app.SuperAlways && o.SeedUntil == (app.SeedUntil{}) {
				return usage(cmd.CommandPath(), errors.New("--super-seed: it begins when all is there: say with --seed, --seed-ratio, --seed-time or --until-copies to go on then"))
			}
			return get(cmd.Context(), e.Streams, o)
		},
	}
	f := cmd.Flags()
	f.VarP(into(&o.Dir, "DIR", ".", notEmpty), "dir", "d", "put the content here")
	f.VarP(into(&o.Output, "NAME", "", notEmpty), "output", "o", "rename the file or root folder to NAME")
	f.VarP(joined(&o.Select, "LIST"), "select", "s", "download only these files: numbers, ranges, globs (1,3-5,*.flac)")
	f.VarP(joined(&o.Exclude, "LIST"), "exclude", "x", "do not download these files: a list like that of --select")
	f.Var(into(&o.SaveTorrent, "FILE", "", notEmpty), "save-torrent", "keep the .torrent that a magnet link leads to")
	f.BoolVar(&o.MetadataOnly, "metadata-only", false, "exit once --save-torrent is done")
	f.BoolVarP(&o.List, "list", "l", false, "list the files and exit")
	f.BoolVar(&o.Overwrite, "overwrite", false, "adopt files in the way: keep their good pieces, fetch the rest")
	f.BoolVar(&o.Sequential, "sequential", false, "download the pieces in order")
	f.VarP(into(&o.MaxTime, "TIME", "", parseDuration), "max-time", "m", "end after so long: give up, or stop seeding")
	f.Var(into(&o.StallTimeout, "TIME", "", parseDuration), "stall-timeout", "give up when no content came for so long")
	f.BoolVar(&o.Forever, "seed", false, "keep seeding after completion, until stopped")
	bindSeedUntil(cmd, &o.SeedUntil)
	bindSuperSeed(cmd, &o.SuperSeed)
	bindNetwork(cmd, &o.Network)
	bindLimits(cmd, &o.Network)
	bindShown(cmd, &o.Shown, "print events as JSON, one a line, on stdout")
	bindProgress(cmd, &o.Shown)
	completeDir(cmd, "dir")
	cmd.Annotations = map[string]string{events: "get"}
	return cmd
}

// newSeed is `bittern seed`; seed does the work.
func newSeed(e env, seed func(context.Context, app.Streams, app.SeedOptions) error) *cobra.Command {
	o := app.SeedOptions{Dir: "."}
	cmd := &cobra.Command{
		Use:   "seed SOURCE|PATH",
		Short: "Serve what is there to others",
		Long: "Serve the content of a torrent, which is verified first and only read. A PATH that is not\n" +
			"a torrent is turned into one. The magnet link is printed on stdout. It goes on until stopped,\n" +
			"or until the first of --seed-ratio, --seed-time and --until-copies is reached; the copies of\n" +
			"peers count that have themselves said, since it began, that they have everything. A ratio\n" +
			"counts bytes: 1 may be reached just before every piece is out, --until-copies 1 is not.\n\n" + sourceHelp,
		Example: "  bittern seed -d ~/Downloads x.torrent\n" +
			"  bittern seed --serve-tracker 192.0.2.1:6969 holiday.mp4",
		Args: one("SOURCE or PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source = args[0]
			for _, name := range []string{"seed-time", "seed-ratio"} {
				if cmd.Flags().Changed(name) && o.SeedUntil == (app.SeedUntil{}) {
					return usage(cmd.CommandPath(), fmt.Errorf("--%s 0: there is nothing to do", name))
				}
			}
			if o.MaxUpload == app.NoUpload {
				return usage(cmd.CommandPath(), errNoSeeding)
			}
			return seed(cmd.Context(), e.Streams, o)
		},
	}
	f := cmd.Flags()
	f.VarP(into(&o.Dir, "DIR", ".", notEmpty), "dir", "d", "the content is here")
	f.VarP(into(&o.Output, "NAME", "", notEmpty), "output", "o", "the file or root folder there is called NAME")
	f.Var(into(&o.ServeTracker, "[ADDR]", "", parseListen), "serve-tracker",
		"run a tracker (HTTP and UDP) on this address, "+defaultTracker+" if none is given")
	f.Lookup("serve-tracker").NoOptDefVal = defaultTracker
	bindSeedUntil(cmd, &o.SeedUntil)
	bindSuperSeed(cmd, &o.SuperSeed)
	bindNetwork(cmd, &o.Network)
	bindLimits(cmd, &o.Network)
	bindShown(cmd, &o.Shown, "print events as JSON, one a line, on stdout")
	bindProgress(cmd, &o.Shown)
	completeDir(cmd, "dir")
	cmd.Annotations = map[string]string{events: "seed"}
	return cmd
}

var errNoSeeding = errors.New("--max-upload off: seeding is uploading")

// events marks the commands whose --json is a stream of events, in which an error is one too.
const events = "events"

// parseListen reads HOST:PORT, where the host may be empty and the port 0.
func parseListen(s string) (string, error) {
	if _, port, err := net.SplitHostPort(s); err == nil {
		if _, err := app.ParsePorts(port); err == nil && !strings.Contains(port, "-") {
			return s, nil
		}
	}
	return "", errors.New("want an address to listen on, like 192.0.2.1:6969 or :6969")
}

// joinOptional lets the address of --serve-tracker, which may be left out, stand behind a blank as
// that of any other flag: pflag takes an optional value only behind "=". What does not have the form
// of an address is left alone: it is the SOURCE.
func joinOptional(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		if args[i] == "--serve-tracker" && i+1 < len(args) {
			if addr, err := parseListen(args[i+1]); err == nil {
				out = append(out, args[i]+"="+addr)
				i++
				continue
			}
		}
		out = append(out, args[i])
	}
	return out
}
