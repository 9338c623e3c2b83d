package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/coordinator"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// operator calls the running coordinator on its Unix socket.
func operator(ctx context.Context, o *cli.Daemon, call func(context.Context, pb.CoordinatorOperatorClient) error) error {
	d, err := need(o)
	if err != nil {
		return err
	}
	conn, err := rpc.DialUnix(d.Socket())
	if err != nil {
		return cli.Hint(fmt.Errorf("no coordinator answers on %s: %w", d.Socket(), err), "start it with coffer-coordinator run --dir %s", d)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return call(ctx, pb.NewCoordinatorOperatorClient(conn))
}

func doctorCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that usually goes wrong, and say what to do about it",
		Long: `doctor asks the running coordinator, which asks every signer and chain; of one that does not run
it looks at the directory. It exits with 1 if something does not work now.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			var findings []*pb.Finding
			_, err = os.Stat(d.Socket())
			if err == nil {
				err = operator(cmd.Context(), o, func(ctx context.Context, api pb.CoordinatorOperatorClient) error {
					reply, err := api.Doctor(ctx, &pb.DoctorRequest{})
					findings = reply.GetFindings()
					return err
				})
			}
			switch {
			case cli.Away(err):
				findings = coordinator.Doctor(d)
			case err != nil:
				return err
			}
			return o.Findings(cmd, findings)
		},
	}
}

func addressCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "address RECORD...",
		Short: "Take lines that say where signers are reached",
		Long: `A signer that was moved says so to the coordinator through the other signers. Only if this
coordinator reaches none of them does it need the line that coffer-signer address prints.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			records, words, err := cli.AddressRecords(args)
			if err != nil {
				return err
			}
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.CoordinatorOperatorClient) error {
				if _, err := api.Introduce(ctx, &pb.IntroduceRequest{Addresses: records}); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(words, "\n"))
				return o.Done(cmd, map[string]any{"taken": len(records)}, "")
			})
		},
	}
}
