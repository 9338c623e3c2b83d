package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/charter"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/node"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

func pendingCommand(o *cli.Daemon) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "Show the intents that this signer knows, decoded here, and what it would do about each",
		Long: `pending lists the intents that this signer was shown, whose initiator's signature it has
verified: those that wait or that it would sign, or with --all also those that it has signed or
refuses, or that expired. It asks no
coordinator: what the signer says here is what it would answer one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			charters, err := node.Charters(d)
			if err != nil {
				return err
			}
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				list, err := known(ctx, api, charters, all)
				if err != nil {
					return err
				}
				if o.JSON {
					return cli.JSON(cmd, map[string]any{"intents": list})
				}
				if len(list) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "no intent waits for this signer")
				}
				for n, k := range list {
					if n > 0 {
						fmt.Fprintln(cmd.OutOrStdout())
					}
					k.print(cmd.OutOrStdout())
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that it has signed or refuses, or that expired")
	return cmd
}

// knownIntent is what the signer knows of one intent.
type knownIntent struct {
	ID         string            `json:"id"`
	Kind       string            `json:"kind"`
	State      string            `json:"state"`   // noted, released or signed: how far this signer went
	Outcome    string            `json:"outcome"` // sign, wait or refuse: what it would do now
	Checks     []string          `json:"checks,omitempty"`
	Reasons    []string          `json:"reasons,omitempty"`
	Missing    []string          `json:"missing,omitempty"`
	Fields     map[string]string `json:"fields"`
	ApprovedBy []string          `json:"approved_by,omitempty"`
	RejectedBy []string          `json:"rejected_by,omitempty"`
	Seen       string            `json:"seen"`

	lines []intent.Line
}

// known asks for all pages.
func known(ctx context.Context, api pb.OperatorClient, charters charter.Lookup, all bool) ([]knownIntent, error) {
	list := []knownIntent{}
	var last []byte
	for {
		reply, err := api.Recall(ctx, &pb.RecallRequest{After: last})
		if err != nil {
			return nil, err
		}
		for _, k := range reply.Intents {
			i, err := intent.Parse(k.GetIntent().GetRaw())
			if err != nil {
				return nil, err
			}
			id := i.Digest()
			last = id[:]
			if !all && (k.State == "signed" || time.Now().Unix() >= i.Expires) {
				continue
			}
			out, err := describe(k, i, charters)
			if err != nil {
				return nil, err
			}
			if !all && out.Outcome == verdict.Refuse {
				continue // nobody waits for what it has refused for good
			}
			list = append(list, out)
		}
		if !reply.More || len(reply.Intents) == 0 {
			return list, nil
		}
	}
}

// describe reads an intent by the version of the charter that it names, which says what
// its asset and its destination are.
func describe(k *pb.KnownIntent, i *intent.Intent, charters charter.Lookup) (knownIntent, error) {
	v, err := verdict.Parse(k.GetVerdict().GetVerdict())
	if err != nil {
		return knownIntent{}, err
	}
	c, ok := charters(i.Charter)
	if !ok {
		return knownIntent{}, fmt.Errorf("intent %s was made under charter %s, which charter.json does not have; wait a moment and try again", i.Digest().Short(), i.Charter)
	}
	out := knownIntent{
		ID: i.Digest().String(), Kind: string(i.Kind), State: k.State, Outcome: v.Outcome, Missing: v.Missing, ApprovedBy: k.ApprovedBy, RejectedBy: k.RejectedBy,
		Fields: map[string]string{}, Seen: time.Unix(k.Seen, 0).UTC().Format(time.RFC3339), lines: intent.Describe(i, c, nil),
	}
	for _, line := range out.lines {
		out.Fields[line.Label] = line.Value
	}
	for _, r := range v.Reasons {
		out.Checks, out.Reasons = append(out.Checks, r.Check+"/"+r.Code), append(out.Reasons, r.Text)
	}
	return out, nil
}

func (k *knownIntent) print(w io.Writer) {
	row := func(label, text string) { fmt.Fprintf(w, "%-13s %s\n", label, cli.Clean(text)) }
	for _, line := range k.lines {
		row(line.Label, line.Value)
	}
	for _, who := range k.ApprovedBy {
		row("approved by", who)
	}
	for _, who := range k.RejectedBy {
		row("rejected by", who)
	}
	says := map[string]string{verdict.Sign: "would sign", verdict.Wait: "waits", verdict.Refuse: "refuses"}[k.Outcome]
	if len(k.Reasons) > 0 {
		says += ": " + strings.Join(k.Reasons, "; ")
	} else if len(k.Missing) > 0 {
		says += " for " + strings.Join(k.Missing, "; ")
	}
	row("this signer", says)
	if k.State != "noted" {
		row("state", k.State)
	}
}
