package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/authority"
	"coffer/canon"
	"coffer/internal/cli"
	"coffer/node"
	pb "coffer/proto/coffer/v1"
)

func freezeCommand(o *cli.Daemon) *cobra.Command {
	var wallet, person, reason string
	cmd := &cobra.Command{
		Use:   "freeze",
		Short: "Stop signing, at once and at every signer: the whole cluster, a wallet, or a person",
		Long: `freeze makes this signer's own order, writes it to its disk, and tells the other signers, peer to
peer; no coordinator is asked. Nothing that it forbids is signed from then on, and sessions under
way end. It cannot recall a partial that has left. It holds over restarts until the admins lift it
(coffer unfreeze; coffer-signer unfreeze FILE).

It is effective once so many signers have it on disk that no quorum is without one of them. Until
then it exits with 4: this signer signs nothing, and others may not have heard of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := &pb.FreezeRequest{Scope: authority.ScopeCluster}
			switch {
			case wallet != "" && person != "":
				return &cli.ExitError{Code: cli.Usage, Err: errors.New("--wallet and --person: name one of them, and freeze twice for both")}
			case wallet != "":
				req.Scope, req.Name = authority.ScopeWallet, wallet
			case person != "":
				req.Scope, req.Name = authority.ScopePerson, person
			}
			if reason == "" {
				return &cli.ExitError{Code: cli.Usage, Err: errors.New("--reason is missing: whoever is woken by this reads it first")}
			}
			req.Reason = cli.ASCII(reason, authority.MaxReason)
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				reply, err := api.Freeze(ctx, req)
				if err != nil {
					return err
				}
				r, err := authority.Parse(reply.Record)
				if err != nil {
					return err
				}
				id := r.ID()
				var held []string
				for _, x := range r.Receipts {
					held = append(held, string(x.Signer))
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "frozen here, on disk; held by %s\n", strings.Join(held, ", "))
				if err := o.Done(cmd, map[string]any{"id": id, "held_by": held, "effective": reply.Effective}, id.String()); err != nil {
					return err
				}
				if !reply.Effective {
					return &cli.ExitError{Code: cli.Waiting, Err: errors.New("not effective yet: too few signers have it on disk; coffer-signer status shows who does. Freeze at another signer too")}
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "effective: no quorum signs without a signer that has it")
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&wallet, "wallet", "", "freeze this wallet only")
	f.StringVar(&person, "person", "", "freeze what this person or service asks for and approves")
	f.StringVar(&reason, "reason", "", "why, for everybody who is told (required)")
	return cmd
}

func unfreezeCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "unfreeze FILE",
		Short: "Hand in an unfreeze that the admins signed, from a file, when no coordinator is to be reached",
		Long: `unfreeze hands the records of FILE to the running signer, as records does, and says what is frozen
still. The admins make FILE with coffer unfreeze; an operator alone lifts nothing.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				if err := handIn(ctx, cmd, api, args); err != nil {
					return err
				}
				st, err := api.Status(ctx, &pb.StatusRequest{})
				if err != nil {
					return err
				}
				ids := []canon.Digest{}
				for _, f := range st.Freezes {
					id, err := canon.DigestFrom(f.Id)
					if err != nil {
						return err
					}
					ids = append(ids, id)
				}
				printFreezes(cmd.ErrOrStderr(), st)
				if err := o.Done(cmd, map[string]any{"frozen": ids}, ""); err != nil {
					return err
				}
				if len(ids) > 0 {
					return &cli.ExitError{Code: cli.Waiting, Err: fmt.Errorf("still frozen (%d): not all were named, or more admins must sign", len(ids))}
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "nothing is frozen")
				return nil
			})
		},
	}
}

func recordsCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "records [FILE...]",
		Short: "Print what this signer holds on charter, lists and freezes, a line each; or take records from files",
		Long: `Versions of the charter, lists, freezes, unfreezes and orders travel as records, which carry the
signatures that prove them: it does not matter who brings them. Without FILE, records prints all
that this signer holds. With it, it hands the records of each FILE to the running signer: lines, what
coffer show ID --json printed, or a charter file (coffer charter export); "-" is the standard input.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				if len(args) > 0 {
					if err := handIn(ctx, cmd, api, args); err != nil {
						return err
					}
					return o.Done(cmd, map[string]any{"taken": true}, "")
				}
				return fetchRecords(ctx, api, func(r authority.Record) error {
					fmt.Fprintf(cmd.ErrOrStderr(), "%-8s  %s\n", r.Kind, r.ID())
					return o.Done(cmd, map[string]any{"kind": r.Kind, "id": r.ID(), "record": r.Line()}, r.Line())
				})
			})
		},
	}
}

// fetchRecords asks for all pages.
func fetchRecords(ctx context.Context, api pb.OperatorClient, each func(authority.Record) error) error {
	req := &pb.ExchangeRequest{Fetch: true}
	for {
		reply, err := api.Exchange(ctx, req)
		if err != nil {
			return err
		}
		for _, raw := range reply.Records {
			r, err := authority.Parse(raw)
			if err != nil {
				return err
			}
			id, sum := r.ID(), r.Sum()
			req.Have = append(req.Have, &pb.RecordRef{Id: id[:], Sum: sum[:]})
			if err := each(r); err != nil {
				return err
			}
		}
		if !reply.More || len(reply.Records) == 0 {
			return nil
		}
	}
}

// handIn gives the records of files to the signer, and fails if it refuses one.
func handIn(ctx context.Context, cmd *cobra.Command, api pb.OperatorClient, paths []string) error {
	var refused []error
	for _, path := range paths {
		records, err := readRecords(cmd, path)
		if err != nil {
			return err
		}
		for _, r := range records {
			reply, err := api.Exchange(ctx, &pb.ExchangeRequest{Records: [][]byte{r.Encode()}})
			if err != nil {
				return err
			}
			for _, no := range reply.Refused {
				refused = append(refused, fmt.Errorf("%s %s: %s: %s", r.Kind, r.ID().Short(), cli.Clean(no.Code), cli.Clean(no.Text)))
			}
			if len(reply.Refused) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "taken: %s %s\n", r.Kind, r.ID().Short())
			}
		}
	}
	if err := errors.Join(refused...); err != nil {
		return &cli.ExitError{Code: cli.Refused, Err: err}
	}
	return nil
}

// maxRecords bounds the file of records that is read.
const maxRecords = 256 << 20

func readRecords(cmd *cobra.Command, path string) ([]authority.Record, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxRecords+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(raw) > maxRecords {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxRecords)
	}
	out, err := authority.ParseText(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func charterCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "charter",
		Short: "Show the version of the charter that is in force at this signer",
		Long: `charter asks the running signer which version is in force. If it does not run, it shows the
newest that this signer's charter.json proves; the signer may have waited out a later one alone.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			c, err := node.Charter(d)
			if err != nil {
				return err
			}
			var st *pb.StatusResponse
			err = operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				st, err = api.Status(ctx, &pb.StatusRequest{})
				return err
			})
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "the signer does not answer; by its charter.json:")
			} else if digest, err := canon.DigestFrom(st.CharterDigest); err != nil {
				return err
			} else if digest != c.Digest() {
				charters, err := node.Charters(d)
				if err != nil {
					return err
				}
				var ok bool
				if c, ok = charters(digest); !ok {
					return fmt.Errorf("version %d is in force, and charter.json does not have it yet; try again", st.CharterVersion)
				}
			}
			if o.JSON {
				return cli.JSON(cmd, c)
			}
			for _, line := range c.Describe() {
				fmt.Fprintln(cmd.OutOrStdout(), cli.Clean(line))
			}
			if st.GetNextVersion() > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "version %d is signed, and takes force here in %s of uptime\n", st.NextVersion, time.Duration(st.NextSeconds)*time.Second)
			}
			return nil
		},
	}
}

func rotateCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make this signer's next identity and print its card, for the next version of the charter",
		Long: `rotate makes identity.next.key beside identity.key, once, and prints the card of the new identity.
Nothing changes until the admins put the card into a version of the charter and that takes force;
the running signer goes over to the new identity then, by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			card, err := node.Rotate(d)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "the next identity is made; send its card to the admins: coffer charter propose --card FILE")
			return o.Done(cmd, map[string]any{"card": card}, card)
		},
	}
}

// printAuthority is the part of the status about charter, freezes and the others' heads.
func printAuthority(w io.Writer, st *pb.StatusResponse) {
	if st.NextVersion > 0 {
		fmt.Fprintf(w, "next        version %d in force here in %s of uptime\n", st.NextVersion, time.Duration(st.NextSeconds)*time.Second)
	}
	printFreezes(w, st)
	for _, h := range st.Heads {
		state := "agrees"
		if !h.Agrees {
			state = fmt.Sprintf("DIFFERS (charter version %d)", h.CharterVersion)
		}
		fmt.Fprintf(w, "head        %s  %s, %s ago\n", cli.Clean(h.Signer), state, (time.Duration(h.AgeMs) * time.Millisecond).Round(time.Second))
	}
	if !st.Fresh {
		fmt.Fprintln(w, "fresh       NO: it signs nothing until enough of the others say that they stand where it stands")
	}
}

func printFreezes(w io.Writer, st *pb.StatusResponse) {
	for _, f := range st.Freezes {
		what := f.Scope
		if f.Name != "" {
			what += " " + f.Name
		}
		state := "held by " + strings.Join(f.HeldBy, ", ")
		if !f.Effective {
			state += "; not effective yet"
		}
		id, err := canon.DigestFrom(f.Id)
		if err != nil {
			continue
		}
		fmt.Fprintf(w, "FROZEN      %s  by %s at %s: %s (%s; %s)\n", cli.Clean(what), cli.Clean(f.By), time.Unix(f.Time, 0).UTC().Format(time.RFC3339), cli.Clean(f.Reason), id.Short(), cli.Clean(state))
	}
}
