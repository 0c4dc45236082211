package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

// bindShown binds what every command has that may run for a while.
func bindShown(cmd *cobra.Command, o *app.Shown, json string) {
	f := cmd.Flags()
	f.BoolVar(&o.JSON, "json", false, json)
	f.CountVarP(&o.Quiet, "quiet", "q", "print only errors; twice: nothing``")
	f.CountVarP(&o.Verbose, "verbose", "v", "print what happens; twice: every detail``")
	f.Var(into(&o.Log, "FILE", "", notEmpty), "log", "write a full log to FILE")
}

// bindProgress binds --progress.
func bindProgress(cmd *cobra.Command, o *app.Shown) {
	cmd.Flags().Var(into(&o.Mode, "HOW", "auto", app.ParseProgress), "progress", "auto, bar, lines or none")
	complete(cmd, "progress", "auto", "bar", "lines", "none")
}

// bindNetwork binds how to reach peers.
func bindNetwork(cmd *cobra.Command, o *app.Network) {
	f := cmd.Flags()
	f.VarP(into(&o.Ports, "PORT", "", app.ParsePorts), "port", "p", "listen on this port, or the first free one of a range N-M (default: any)")
	f.Var(&list{&o.Peers, "HOST:PORT", checkPeer}, "peer", "connect to this peer (may be repeated)")
	f.VarP(&list{&o.Trackers, "URL", checkTracker}, "tracker", "t", "add a tracker (may be repeated)")
	f.BoolVar(&o.NoTrackers, "no-trackers", false, "use no tracker, not even the torrent's")
	noDHT := f.Bool("no-dht", false, "do not find peers through the DHT")
	noLSD := f.Bool("no-lsd", false, "do not look for peers on the local network")
	noPEX := f.Bool("no-pex", false, "exchange no peers with other peers (BEP 11)")
	f.Var(&list{&o.DHTBootstrap, "HOST:PORT", checkPeer}, "dht-bootstrap", "begin the DHT from this node, not the public ones (may be repeated)")
	o.MetadataTimeout = 2 * time.Minute
	f.Var(into(&o.MetadataTimeout, "TIME", "2m", parseDuration), "metadata-timeout", "give up when the metadata of a magnet link has not come after so long")
	o.MaxPeers, o.Version = 80, Version()
	f.Var(into(&o.MaxPeers, "N", "80", parseCount), "max-peers", "keep at most so many connections")
	f.Var(into(&o.Interface, "IP", "", parseInterface), "interface", "listen on and connect from this address")
	f.BoolVarP(&o.Only4, "ipv4", "4", false, "use IPv4 only")
	f.BoolVarP(&o.Only6, "ipv6", "6", false, "use IPv6 only")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { // cobra's own check is no usage error and says less
		o.DHT, o.LSD, o.PEX = !*noDHT, !*noLSD, !*noPEX
		if o.Only4 && o.Only6 {
			return usage(cmd.CommandPath(), errors.New("--ipv4 and --ipv6 leave no address"))
		}
		return nil
	}
}

// bindLimits binds how fast to be.
func bindLimits(cmd *cobra.Command, o *app.Network) {
	f := cmd.Flags()
	f.Var(into(&o.MaxDownload, "RATE", "", parseRate), "max-download", "receive at most so many bytes a second from peers: 500K, 2MiB; 0 for no limit")
	f.Var(into(&o.MaxUpload, "RATE", "", parseUploadRate), "max-upload", "send at most so many bytes a second to peers; 0 for no limit, off to upload nothing")
	complete(cmd, "max-upload", "off")
}

// bindSeedUntil binds when to stop seeding.
func bindSeedUntil(cmd *cobra.Command, o *app.SeedUntil) {
	f := cmd.Flags()
	f.Var(into(&o.Ratio, "RATIO", "", parseRatio), "seed-ratio", "seed until so many times the size is uploaded")
	f.Var(into(&o.Time, "TIME", "", parseDuration), "seed-time", "seed for so long")
	f.Var(into(&o.Copies, "N", "", parseCopies), "until-copies", fmt.Sprintf("seed until so many other peers, %d at most, are known to have everything", app.MaxCopies))
}

// bindSuperSeed binds how to seed.
func bindSuperSeed(cmd *cobra.Command, o *app.SuperSeeding) {
	f := cmd.Flags()
	f.Var(into(o, "WHEN", "auto", parseSuperSeed), "super-seed", "show each peer a piece at a time: true, false, or auto: as the only seed of many")
	f.Lookup("super-seed").NoOptDefVal = "true"
	complete(cmd, "super-seed", "auto", "true", "false")
}

// complete gives a flag's values to shell completion.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("cli: " + err.Error()) // there is no such flag: a bug of ours that every run would show
	}
}

// completeDir makes a flag complete to folders.
func completeDir(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagDirname(flag); err != nil {
		panic("cli: " + err.Error()) // as in complete
	}
}

// completeTorrent completes a SOURCE to .torrent files.
func completeTorrent(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"torrent"}, cobra.ShellCompDirectiveFilterFileExt
}

// one takes exactly one argument, and calls it by its name.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("which " + what + "?")
		case len(args) > 1:
			hint := ""
			if slices.Contains(args[1:], "false") || slices.Contains(args[1:], "true") {
				hint = " (behind a flag, with =: --flag=false)"
			}
			return errors.New("want one " + what + ", not also " + strings.Join(args[1:], " ") + hint)
		case args[0] == "":
			return errors.New("an empty " + what)
		}
		return nil
	}
}
