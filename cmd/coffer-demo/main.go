package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coffer/internal/cli"
	"coffer/internal/demo"
)

func main() { cli.Main(command()) }

func command() *cobra.Command {
	var cfg demo.Config
	var asJSON bool
	root := &cobra.Command{
		Use:   "coffer-demo",
		Short: "Watch three signers make a key that none of them holds, and a payment that two people approved",
		Long: `coffer-demo starts three signers, a coordinator and a dev chain on this machine, each a process
with its own directory and sockets. The signers generate a key together, a payment that two
people approved is signed by two of them and mined, and one that breaks a rule is refused by all.`,
		Version: cli.Version(),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bin, err := programs()
			if err != nil {
				return err
			}
			cfg.Bin, cfg.Talk = bin, cmd.ErrOrStderr()
			cfg.Done = func(r *demo.Result) error {
				if asJSON {
					return cli.JSON(cmd, r)
				}
				return r.Table(cmd.OutOrStdout())
			}
			return demo.Run(cmd.Context(), cfg)
		},
	}
	root.Flags().BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	root.Flags().BoolVar(&cfg.Keep, "keep", false, "leave the cluster up until Ctrl-C, and say how to talk to it")
	root.Flags().StringVar(&cfg.Dir, "dir", "", "folder for the cluster; a temporary one, removed at the end, if absent")
	root.Flags().StringVar(&cfg.Geth, "geth", "", "geth program to run as the dev chain (geth --dev), instead of the built-in one")
	root.AddCommand(devchainCommand(), fundCommand(), balanceCommand(), setupCommand())
	return root
}

// programs is the folder of this program, where the others are too.
func programs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the other programs beside this one: %w", err)
	}
	return filepath.Dir(self), nil
}

func setupCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Hold the ceremony of docker-compose.yml's cluster, once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return cli.Usagef("--dir is missing: name the folder that has everybody's volumes in it")
			}
			bin, err := programs()
			if err != nil {
				return err
			}
			return demo.Setup(cmd.Context(), bin, dir, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder that has everybody's volumes in it (required)")
	return cmd
}
