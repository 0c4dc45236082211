// Bittern downloads, serves, makes and checks torrents from the command line.
package main

import (
	"os"

	"bittern/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
