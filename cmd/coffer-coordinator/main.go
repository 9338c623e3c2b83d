package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/coordinator"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
)

func main() { cli.Main(command()) }

func command() *cobra.Command {
	o := new(cli.Daemon)
	root := &cobra.Command{
		Use:     "coffer-coordinator",
		Short:   "Run the flow of intents: collect, preview, ask the signers, combine, broadcast",
		Version: cli.Version(),
	}
	o.Flags(root, "coordinator")
	root.AddCommand(initCommand(o), cardCommand(o), rotateCommand(o), runCommand(o), statusCommand(o), doctorCommand(o), addressCommand(o), validateCommand(o))
	return root
}

func need(o *cli.Daemon) (coordinator.Dir, error) {
	dir, err := o.Need()
	return coordinator.Dir(dir), err
}

func initCommand(o *cli.Daemon) *cobra.Command {
	var s coordinator.Settings
	chains := chainFlags{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new coordinator and print its card",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			if s.Chains, err = chains.settings(); err != nil {
				return &cli.ExitError{Code: cli.Usage, Err: err}
			}
			if err := s.Validate(); err != nil {
				return &cli.ExitError{Code: cli.Usage, Err: err}
			}
			card, err := coordinator.Init(d, s)
			if err != nil {
				return err
			}
			if err := o.Done(cmd, map[string]any{"name": s.Name, "card": card}, card); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "coordinator %s is made in %s; send the card to whoever writes the charter\n", s.Name, o.Dir)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Name, "name", "", "name of this coordinator in the charter (required)")
	f.StringVar(&s.Organisation, "org", "", "organisation that runs it (required)")
	f.StringVar(&s.Listen, "listen", "127.0.0.1:7400", "host:port of the API for people and services of the charter")
	f.StringVar(&s.Announce, "announce", "", "host:port that people dial, if not the listen address")
	chains.add(cmd)
	return cmd
}

func cardCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "card",
		Short: "Print this coordinator's card again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			card, err := coordinator.Card(d)
			if err != nil {
				return err
			}
			return o.Done(cmd, map[string]any{"card": card}, card)
		},
	}
}

func rotateCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make this coordinator's next identity, and print its card",
		Long: `rotate makes the identity that this coordinator will have, and prints its card for the next version
of the charter: coffer charter propose --card. Until that version is in force nothing changes. Then
the running coordinator goes over to it by itself; whoever has not heard of the version yet is
answered under the old identity. rotate run again prints the same card.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			card, err := coordinator.Rotate(d)
			if err != nil {
				return err
			}
			return o.Done(cmd, map[string]any{"card": card}, card)
		},
	}
}

func validateCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check settings and charter without starting anything",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			missing, err := coordinator.Validate(d)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "settings and charter are valid")
			if len(missing) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "the charter waits for the operators of %s\n", strings.Join(missing.Strings(), ", "))
			}
			return o.Done(cmd, map[string]any{"valid": true, "missing": missing.Strings()}, "")
		},
	}
}

func runCommand(o *cli.Daemon) *cobra.Command {
	var rebuild bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the coordinator",
		Long: `run serves people and drives every intent to its end.

With --rebuild a coordinator whose store is lost begins with an empty one: it asks the signers for
the wallets, intents and statements that they know, and the chains for what was mined. New requests
wait until enough signers have told. A store that is there is never touched by it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			settings, err := d.LoadSettings()
			if err != nil {
				return err
			}
			return coordinator.Serve(cmd.Context(), coordinator.Config{
				Dir: d, Rebuild: rebuild, Logger: cli.Logger(cmd.ErrOrStderr(), settings.LogFormat), Version: cli.Version(),
				Ready: func(address string) {
					// A reader that is gone is no reason to stop serving.
					_ = o.Done(cmd, map[string]any{"ready": address}, "ready "+address)
				},
			})
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "if the store is missing, begin with an empty one and ask signers and chains for what was in it")
	return cmd
}

func statusCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the running coordinator sees the signers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			if _, err := d.LoadSettings(); err != nil {
				return err
			}
			var reply *pb.ClusterResponse
			if err := operator(cmd.Context(), o, func(ctx context.Context, api pb.CoordinatorOperatorClient) (err error) {
				reply, err = api.Cluster(ctx, &pb.ClusterRequest{})
				return err
			}); err != nil {
				return err
			}
			type row struct {
				Signer    string   `json:"signer"`
				Reachable bool     `json:"reachable"`
				Error     string   `json:"error,omitempty"`
				Joined    bool     `json:"charter_complete"`
				Sealed    bool     `json:"sealed"`
				Primes    uint32   `json:"pre_parameters"`
				Wallets   int      `json:"wallets"`
				Peers     []string `json:"connected_to"`
				Version   string   `json:"version"`
				RoundTrip int64    `json:"round_trip_us"`
				Ahead     int64    `json:"clock_ahead_ms"`
				Failures  uint32   `json:"recent_failures"`
				Seen      int64    `json:"seen"` // Unix seconds of its last answer
			}
			rows := []row{}
			for _, s := range reply.Signers {
				r := row{Signer: s.Name, Reachable: s.Reachable, Error: s.Error, Joined: s.Status.GetCharterComplete(), Sealed: s.Status.GetSealed(), Primes: s.Status.GetPreParameters(), Wallets: len(s.Status.GetWallets()), Version: s.Status.GetVersion(), RoundTrip: s.RoundTripUs, Ahead: s.ClockAheadMs, Failures: s.Failures, Seen: s.Seen}
				for _, p := range s.Status.GetPeers() {
					if p.Connected {
						r.Peers = append(r.Peers, p.Signer)
					}
				}
				rows = append(rows, r)
			}
			if o.JSON {
				return cli.JSON(cmd, map[string]any{
					"signers": rows, "charter_version": reply.CharterVersion, "charter": fmt.Sprintf("%x", reply.CharterDigest),
					"next_version": reply.NextVersion, "freezes": freezes(reply),
				})
			}
			for _, r := range rows {
				state := "ready"
				switch {
				case !r.Reachable:
					state = "AWAY"
				case !r.Joined:
					state = "WAITS for operators who have not signed the charter"
				case r.Sealed:
					state = "SEALED"
				}
				if r.Error != "" {
					state += ": " + cli.Clean(r.Error)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-12s %s; %d wallets; primes %d; connected to %s; %s away", r.Signer, state, r.Wallets, r.Primes, strings.Join(r.Peers, ", "), (time.Duration(r.RoundTrip) * time.Microsecond).Round(100*time.Microsecond))
				if r.Failures > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "; %d sessions failed with it lately", r.Failures)
				}
				if r.Ahead != 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "; its clock is %s ahead", time.Duration(r.Ahead)*time.Millisecond)
				}
				fmt.Fprintln(cmd.OutOrStdout())
			}
			fmt.Fprintf(cmd.OutOrStdout(), "charter      version %d %.6x in force", reply.CharterVersion, reply.CharterDigest)
			if reply.NextVersion > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "; version %d has its signatures and waits", reply.NextVersion)
			}
			fmt.Fprintln(cmd.OutOrStdout())
			for _, f := range freezes(reply) {
				fmt.Fprintf(cmd.OutOrStdout(), "FROZEN       %s, by %s: %s (freeze %.12s)\n", f.what(), cli.Clean(f.By), cli.Clean(f.Reason), f.ID)
			}
			return nil
		},
	}
}

type freezeRow struct {
	ID        string   `json:"id"`
	Scope     string   `json:"scope"`
	Name      string   `json:"name,omitempty"`
	Reason    string   `json:"reason"`
	By        string   `json:"by"`
	Time      int64    `json:"time"` // Unix seconds
	HeldBy    []string `json:"held_by"`
	Effective bool     `json:"effective"`
}

func (f freezeRow) what() string {
	if f.Name == "" {
		return "the " + cli.Clean(f.Scope)
	}
	return cli.Clean(f.Scope + " " + f.Name)
}

func freezes(reply *pb.ClusterResponse) []freezeRow {
	out := []freezeRow{}
	for _, f := range reply.Freezes {
		out = append(out, freezeRow{
			ID: fmt.Sprintf("%x", f.Id), Scope: f.Scope, Name: f.Name, Reason: f.Reason, By: f.By, Time: f.Time,
			HeldBy: append([]string{}, f.HeldBy...), Effective: f.Effective,
		})
	}
	return out
}
