// Manpages writes the man pages of bittern, one a command, into the folder that it is given. It is a
// program of its own so that what it needs does not make bittern itself larger and slower to start.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"bittern/cmd/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manpages DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manpages:", err)
		os.Exit(1)
	}
}

// write writes every page. The date is left to the epoch on purpose: the same sources give the same
// bytes.
func write(dir string) error {
	root := cli.Root()
	plain(root)
	root.DisableAutoGenTag = true
	epoch := time.Unix(0, 0).UTC()
	return doc.GenManTree(root, &doc.GenManHeader{
		Section: "1", Source: "bittern", Manual: "bittern", Date: &epoch,
	}, dir)
}

// plain takes the marks out of the flags' texts that name their values in the help.
func plain(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	for _, sub := range cmd.Commands() {
		plain(sub)
	}
}
