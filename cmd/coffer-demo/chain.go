package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/spf13/cobra"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/cli"
	"coffer/internal/devchain"
	"coffer/policy"
)

const (
	etherDecimals = 18
	defaultChain  = "http://127.0.0.1:8545"
	chainTimeout  = 30 * time.Second
	funded        = 100 // ether
)

func devchainCommand() *cobra.Command {
	var cfg devchain.Config
	var fund []string
	cmd := &cobra.Command{
		Use:   "devchain",
		Short: "Serve a dev chain as JSON-RPC over HTTP, with a faucet that everybody may draw from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			faucet, err := devchain.NewFaucet()
			if err != nil {
				return err
			}
			rich := new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(1e18))
			cfg.Alloc = map[evm.Address]*big.Int{faucet.Address(): rich}
			for _, text := range fund {
				address, err := evm.ParseAddress(text)
				if err != nil {
					return cli.Usagef("--fund: %w", err)
				}
				cfg.Alloc[address] = new(big.Int).Mul(big.NewInt(funded), big.NewInt(1e18))
			}
			cfg.Logger = cli.Logger(cmd.ErrOrStderr(), "")
			cfg.Ready = func(url string) { fmt.Fprintf(cmd.OutOrStdout(), "ready %s\n", url) }
			return devchain.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.Dir, "dir", "", "folder to keep the blocks in; without one they are gone when the chain stops")
	cmd.Flags().DurationVar(&cfg.BlockTime, "block-time", 0, "seal a block this often, as other chains do; without it one comes as soon as something waits")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:8545", "host:port to serve on; port 0 takes a free one")
	cmd.Flags().StringSliceVar(&fund, "fund", nil, fmt.Sprintf("address that has %d ether from the beginning", funded))
	return cmd
}

// onChain calls f with a client of the dev chain and its faucet.
func onChain(ctx context.Context, url string, f func(context.Context, *rpc.Client, *devchain.Faucet) error) error {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	faucet, err := devchain.NewFaucet()
	if err != nil {
		return err
	}
	client, err := rpc.Dial(ctx, url, devchain.ChainID)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(ctx, client, faucet)
}

func fundCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "fund ADDRESS AMOUNT",
		Short:   "Pay AMOUNT of the dev chain's ether to ADDRESS, and wait until that is mined",
		Example: "  coffer-demo fund 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed 20",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := evm.ParseAddress(args[0])
			if err != nil {
				return &cli.ExitError{Code: cli.Usage, Err: err}
			}
			wei, err := policy.ParseAmount(args[1], etherDecimals)
			if err == nil && wei.Sign() <= 0 {
				err = errors.New("it is nothing")
			}
			if err != nil {
				return cli.Usagef("amount %q: %w", args[1], err)
			}
			return onChain(cmd.Context(), url, func(ctx context.Context, client *rpc.Client, faucet *devchain.Faucet) error {
				receipt, err := faucet.Pay(ctx, client, to, wei)
				if err != nil {
					return err
				}
				if asJSON {
					return cli.JSON(cmd, map[string]any{"address": to.String(), "wei": wei.String(), "tx_hash": fmt.Sprintf("0x%x", receipt.Hash), "block": receipt.Block})
				}
				fmt.Fprintf(cmd.OutOrStdout(), "0x%x\n", receipt.Hash)
				fmt.Fprintf(cmd.ErrOrStderr(), "%s ETH paid to %s in block %d\n", policy.FormatAmount(wei, etherDecimals), to, receipt.Block)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&url, "chain", defaultChain, "URL of the dev chain")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func balanceCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "balance [ADDRESS]",
		Short: "Print what ADDRESS owns on the dev chain; the faucet if absent",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var of evm.Address
			if len(args) == 1 {
				var err error
				if of, err = evm.ParseAddress(args[0]); err != nil {
					return &cli.ExitError{Code: cli.Usage, Err: err}
				}
			}
			return onChain(cmd.Context(), url, func(ctx context.Context, client *rpc.Client, faucet *devchain.Faucet) error {
				if len(args) == 0 {
					of = faucet.Address()
				}
				wei, err := client.Balance(ctx, of)
				if err != nil {
					return err
				}
				if asJSON {
					return cli.JSON(cmd, map[string]any{"address": of.String(), "wei": wei.String()})
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s ETH\n", policy.FormatAmount(wei, etherDecimals))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&url, "chain", defaultChain, "URL of the dev chain")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
