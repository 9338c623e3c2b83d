package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

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
with its own directory and sockets. The signers generate a key together. A payment that two people
approved is signed by two of them and mined; one that breaks a rule is refused by all; a third is
stopped in the middle of its signature by a freeze, which reaches the signers past the coordinator,
and goes through when two admins have lifted that.`,
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
	root.AddCommand(devchainCommand(), fundCommand(), balanceCommand(), setupCommand(), composeCommand(), reachCommand())
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

func composeCommand() *cobra.Command {
	var cfg demo.ComposeConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compose",
		Short: "Play the story in containers, and kill, restart and pause signers meanwhile",
		Long: `compose starts docker-compose.yml's cluster under a name of its own, plays the acts of
coffer-demo, pays while a signer is killed, pays with that signer when it is back, and pauses
one in mid-session. It needs Docker and the images of make images, and removes what it made.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Talk = cmd.ErrOrStderr()
			cfg.Done = func(r *demo.Result) error {
				if asJSON {
					return cli.JSON(cmd, r)
				}
				return r.Table(cmd.OutOrStdout())
			}
			return demo.Compose(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.File, "file", "docker-compose.yml", "the file that describes the containers")
	cmd.Flags().BoolVar(&cfg.Keep, "keep", false, "leave the containers up until Ctrl-C, and say how to talk to them")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	return cmd
}

// reachTimeout bounds one dial: a fence drops packets and answers nothing.
const reachTimeout = 2 * time.Second

func reachCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reach HOST:PORT...",
		Short: "Find out whether TCP connections can be made from here; exit 1 if one cannot",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			errs := make([]error, len(args))
			var dials sync.WaitGroup
			for i, address := range args {
				dials.Go(func() {
					dialer := net.Dialer{Timeout: reachTimeout}
					conn, err := dialer.DialContext(cmd.Context(), "tcp", address)
					if err != nil {
						errs[i] = err
						return
					}
					errs[i] = conn.Close()
				})
			}
			dials.Wait()
			open := map[string]bool{}
			for i, address := range args {
				open[address] = errs[i] == nil
				if !asJSON {
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", address, map[bool]string{true: "open", false: "closed"}[errs[i] == nil])
				}
			}
			if asJSON {
				errs = append(errs, cli.JSON(cmd, open))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
