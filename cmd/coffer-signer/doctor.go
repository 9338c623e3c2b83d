package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"coffer/internal/cli"
	"coffer/node"
	pb "coffer/proto/coffer/v1"
)

func doctorCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that usually goes wrong, and say what to do about it",
		Long: `doctor asks the running signer; of one that does not run it looks at the directory, and checks
every entry of its audit log. It exits with 1 if something does not work now.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			var findings []*pb.Finding
			_, err = os.Stat(d.Socket())
			if err == nil {
				err = operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
					reply, err := api.Doctor(ctx, &pb.DoctorRequest{})
					findings = reply.GetFindings()
					return err
				})
			}
			switch {
			case cli.Away(err):
				findings = node.Doctor(d)
			case err != nil:
				return err
			}
			return o.Findings(cmd, findings)
		},
	}
}
