package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coffer/charter"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
)

func addressCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "address [RECORD...]",
		Short: "Print where this signer is reached, signed, as a line; or take other signers' lines",
		Long: `A signer that was moved says so by itself to all whom it reaches, and they pass it on. Only if
it reaches nobody, because the others moved too, its operator sends them its line, and theirs run

    coffer-signer --dir DIR address LINE

A line counts if the identity in the charter signed it and its sequence is the highest.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				if len(args) == 0 {
					return printAddress(ctx, cmd, o, api)
				}
				records, words, err := cli.AddressRecords(args)
				if err != nil {
					return err
				}
				if _, err := api.Introduce(ctx, &pb.IntroduceRequest{Addresses: records}); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(words, "\n"))
				return o.Done(cmd, map[string]any{"taken": len(records)}, "")
			})
		},
	}
}

func printAddress(ctx context.Context, cmd *cobra.Command, o *cli.Daemon, api pb.OperatorClient) error {
	st, err := api.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return err
	}
	for _, r := range st.Addresses {
		if len(r.Signatures) != 1 || r.Signatures[0].Name != st.Signer {
			continue
		}
		a, err := charter.ParseAddressRecord(r.Raw, r.Signatures[0].Signature)
		if err != nil {
			return err
		}
		line := charter.AddressLine(r.Raw, r.Signatures[0].Signature)
		return o.Done(cmd, map[string]any{"signer": st.Signer, "sequence": a.Sequence, "peers": a.P2P, "coordinator": a.GRPC, "record": line}, line)
	}
	return errors.New("this signer has not signed its address yet: it waits for the charter's signatures; run status")
}
