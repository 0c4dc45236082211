// Manpages writes the man pages of bittern, one a command, into the folder that it is given. It is a
// program of its own so that what it needs does not make bittern itself larger and slower to start.
package main

import (
	"fmt"
	"os"
	"strings"
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

// plain gives each flag the words that it has in the help: the name of its value, where a page would show
// the default, mostly nothing, and the default behind the text.
func plain(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name, text := pflag.UnquoteUsage(f)
		if name != "" {
			if f.DefValue != "" {
				text += " (default " + f.DefValue + ")"
			}
			f.DefValue = strings.Trim(name, "[]") // a page has brackets of its own
		}
		f.Usage = text
	})
	for _, sub := range cmd.Commands() {
		plain(sub)
	}
}
