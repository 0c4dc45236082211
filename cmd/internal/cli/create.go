package cli

import (
	"github.com/spf13/cobra"

	"bittern/cmd/internal/app"
)

func newCreate(e env) *cobra.Command {
	var o app.CreateOptions
	cmd := &cobra.Command{
		Use:   "create PATH",
		Short: "Make a .torrent of a file or folder",
		Long: "Make a .torrent of a file or folder and print its info-hash. Nothing is added that was not\n" +
			"asked for, but the creation date. Files come in the order of their paths; what is neither\n" +
			"a file nor a folder, such as a symbolic link, is refused.",
		Example: "  bittern create holiday.mp4\n" +
			"  bittern create -t http://tracker.example/announce -o album.torrent ~/Music/album",
		Args: one("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Path = args[0]
			return app.Create(cmd.Context(), e.Streams, o)
		},
	}
	f := cmd.Flags()
	f.VarP(into(&o.Output, "FILE", "", notEmpty), "output", "o", "write the torrent to FILE, - for stdout (default: NAME.torrent)")
	f.BoolVar(&o.Overwrite, "overwrite", false, "replace FILE if it exists")
	f.VarP(&list{&o.Trackers, "URL", checkTracker}, "tracker", "t", "a tracker (may be repeated: each is another tier)")
	f.VarP(&list{&o.WebSeeds, "URL", checkWebSeed}, "web-seed", "w", "a web seed (may be repeated)")
	f.VarP(into(&o.PieceLength, "SIZE", "", parsePieceLength), "piece-length", "l",
		"cut into pieces of this size, a power of two (default: what makes 1,250 to 2,500 pieces)")
	f.BoolVar(&o.Private, "private", false, "let peers come from the trackers only")
	f.StringVar(&o.Comment, "comment", "", "say `TEXT`")
	f.StringVar(&o.Source, "source", "", "name the torrent's origin as `TAG`, which makes its info-hash another")
	f.Var(into(&o.Name, "NAME", "", notEmpty), "name", "call the file or root folder NAME")
	f.BoolVar(&o.NoDate, "no-date", false, "leave the creation date out")
	bindShown(cmd, &o.Shown, "print one JSON object")
	bindProgress(cmd, &o.Shown)
	return cmd
}
