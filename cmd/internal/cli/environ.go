package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// environPrefix begins the name of every variable that stands for a flag.
const environPrefix = "BITTERN_"

// environName is the variable of a flag: BITTERN_PIECE_LENGTH for --piece-length.
func environName(flag string) string {
	return environPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnviron sets each flag of cmd that was not given on the command line from its variable. An
// empty variable counts as not set; one that stands for a flag of another command is ignored. A bad one keeps
// none of the others from being set: they say how it is told.
func fromEnviron(cmd *cobra.Command, getenv func(string) (string, bool)) error {
	var first error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		name := environName(f.Name)
		v, ok := getenv(name)
		if !ok || v == "" {
			return
		}
		for _, one := range environValues(f, v) {
			if err := cmd.Flags().Set(f.Name, one); err != nil && first == nil {
				first = usage(cmd.CommandPath(), fmt.Errorf("%s: %w", name, bareSetError(err)))
			}
		}
	})
	return first
}

// environValues splits the value for a flag that may be repeated; any other has one.
func environValues(f *pflag.Flag, v string) []string {
	if _, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Fields(v)
	}
	return []string{v}
}

// bareSetError takes pflag's words about the flag away: the variable is named instead.
func bareSetError(err error) error {
	if e, ok := err.(*pflag.InvalidValueError); ok {
		if e.GetFlag().Value.Type() == "bool" { // strconv's words say less
			return fmt.Errorf("invalid value %q: want true or false", e.GetValue())
		}
		return fmt.Errorf("invalid value %q: %w", e.GetValue(), e.Unwrap())
	}
	return err
}
