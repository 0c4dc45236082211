package cli

import (
	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

func newInfo(e env) *cobra.Command {
	var o app.InfoOptions
	cmd := &cobra.Command{
		Use:               "info SOURCE",
		Short:             "Show what a torrent is",
		Long:              "Show what a torrent is: its info-hash, trackers and files.\n\n" + sourceHelp,
		Example:           "  bittern info x.torrent\n  bittern info 'magnet:?xt=urn:btih:...'\n  bittern info --json https://example.org/x.torrent | jq .files",
		Args:              one("SOURCE"),
		ValidArgsFunction: completeTorrent,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source = args[0]
			return app.Info(cmd.Context(), e.Streams, o)
		},
	}
	bindNetwork(cmd, &o.Network)
	bindShown(cmd, &o.Shown, "print one JSON object")
	bindProgress(cmd, &o.Shown)
	return cmd
}

func newVerify(e env) *cobra.Command {
	var o app.VerifyOptions
	cmd := &cobra.Command{
		Use:   "verify SOURCE",
		Short: "Check what is on disk, writing nothing",
		Long: "Check every byte on disk against a torrent, writing nothing. Files that are not right are\n" +
			"listed on stdout; the exit code is 8 if there are any.\n\n" + sourceHelp,
		Example:           "  bittern verify -d ~/Downloads x.torrent",
		Args:              one("SOURCE"),
		ValidArgsFunction: completeTorrent,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source = args[0]
			return app.Verify(cmd.Context(), e.Streams, o)
		},
	}
	cmd.Flags().VarP(into(&o.Dir, "DIR", ".", notEmpty), "dir", "d", "the content is here")
	bindNetwork(cmd, &o.Network)
	bindShown(cmd, &o.Shown, "print one JSON object")
	bindProgress(cmd, &o.Shown)
	completeDir(cmd, "dir")
	return cmd
}
