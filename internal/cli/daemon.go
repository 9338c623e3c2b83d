package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Daemon are the flags that every command of a signer or a coordinator has.
type Daemon struct {
	Dir  string
	JSON bool
	what string
}

// Flags adds --dir and --json; what is "signer" or "coordinator".
func (d *Daemon) Flags(root *cobra.Command, what string) {
	d.what = what
	root.PersistentFlags().StringVar(&d.Dir, "dir", "", "the "+what+"'s data directory (required)")
	JSONFlag(root, &d.JSON)
}

// Need returns the data directory, which has no default: a daemon's keys are in it.
func (d *Daemon) Need() (string, error) {
	if d.Dir == "" {
		return "", Usagef("--dir is missing: name the %s's data directory", d.what)
	}
	return d.Dir, nil
}

// Done prints what a command did: v for programs, line, if there is one, for people.
func (d *Daemon) Done(cmd *cobra.Command, v any, line string) error {
	if d.JSON {
		return JSON(cmd, v)
	}
	if line != "" {
		fmt.Fprintln(cmd.OutOrStdout(), line)
	}
	return nil
}
