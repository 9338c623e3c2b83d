package main

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coffer/chain/evm"
	"coffer/internal/cli"
	"coffer/internal/demo"
	"coffer/internal/devchain"
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
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the other programs beside this one: %w", err)
			}
			cfg.Bin, cfg.Talk = filepath.Dir(self), cmd.ErrOrStderr()
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
	root.AddCommand(devchainCommand())
	return root
}

func devchainCommand() *cobra.Command {
	var cfg devchain.Config
	var alloc string
	cmd := &cobra.Command{
		Use:   "devchain",
		Short: "Serve a dev chain as JSON-RPC over HTTP on loopback",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := evm.ParseAddress(alloc)
			if err != nil {
				return cli.Usagef("--alloc: %w", err)
			}
			rich := new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(1e18))
			cfg.Alloc = map[evm.Address]*big.Int{address: rich}
			cfg.Ready = func(url string) { fmt.Fprintf(cmd.OutOrStdout(), "ready %s\n", url) }
			return devchain.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "host:port to serve on")
	cmd.Flags().StringVar(&alloc, "alloc", "", "address that owns a million ether at the start (required)")
	return cmd
}
