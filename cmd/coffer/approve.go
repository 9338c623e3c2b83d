package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/approval"
	"coffer/internal/cli"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// statementLifetime is for how long an approval counts.
const statementLifetime = 24 * time.Hour

func approveCommand(o *options) *cobra.Command {
	return stateCommand(o, approval.Approve, "approve INTENT", "Show an intent in full, with each signer's own signed verdict, and approve it")
}

func rejectCommand(o *options) *cobra.Command {
	return stateCommand(o, approval.Reject, "reject INTENT", "Reject an intent, which ends it")
}

func withdrawCommand(o *options) *cobra.Command {
	return stateCommand(o, approval.Withdraw, "withdraw INTENT", "Take your own approval back")
}

func stateCommand(o *options, kind approval.Kind, use, short string) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: o.completeIntents(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				s, err := c.get(ctx, args[0])
				if err != nil {
					return err
				}
				if over(s.view.Stage) {
					return cli.Hint(fmt.Errorf("intent %s has ended: %s", s.id.Short(), s.view.Detail), "coffer show %s shows what became of it", s.id.String()[:12])
				}
				if len(s.weighed.Ended) > 0 {
					return fmt.Errorf("intent %s is rejected by %s", s.id.Short(), strings.Join(s.weighed.Ended, ", "))
				}
				key, err := o.signerOf(c.charter)
				if err != nil {
					return err
				}
				if _, ok := c.charter.Person(o.as); !ok {
					return cli.Refusedf("the charter lists no person %q", o.as)
				}
				if yes && kind == approval.Approve && args[0] != s.id.String() {
					// The coordinator chooses what a reference or the beginning of an ID stands for.
					return cli.Usagef("--yes approves unseen: give all 64 digits of the intent's ID, or leave --yes out and read")
				}
				choices := []string{string(kind)}
				if kind == approval.Approve {
					choices = append(choices, string(approval.Reject))
				}
				// What is shown is decoded here, from the bytes whose digest is signed below.
				v := view{Title: string(kind) + ": " + s.what(), Lines: lines(s, o.as, time.Now()), ID: s.id, Given: yes}
				chosen, err := o.consent(ctx, cmd, key, v, choices...)
				if err != nil {
					return err
				}
				kind := approval.Kind(chosen)
				now := time.Now()
				expires := now.Add(statementLifetime).Unix()
				st := &approval.Statement{
					Cluster: c.charter.Cluster, Kind: kind, Subject: s.id, Person: o.as,
					Issued: now.Unix(), Expires: min(expires, s.intent.Expires),
				}
				if _, err := rand.Read(st.Nonce[:]); err != nil {
					return err
				}
				signed, err := approval.Sign(st, key)
				if err != nil {
					return err
				}
				if refused := c.weigh(s.intent, now.Unix(), signed).Refused; len(refused) > 0 {
					return cli.Refusedf("%s", refused[0].Text)
				}
				ask, cancel := brief(ctx)
				defer cancel()
				reply, err := c.api.State(ask, &pb.StateRequest{Statement: &pb.SignedMessage{Raw: signed.Raw, Signature: signed.Signature}})
				if err != nil {
					return err
				}
				after, err := c.open(reply.Intent)
				if err != nil {
					return err
				}
				if after.id != s.id {
					return errors.New("the coordinator answered with another intent: do not trust it")
				}
				if o.json {
					r := reportOf(after, o.as)
					// What the signers say and do by now is coffer show's; the answer to a statement has none of it.
					r.Verdicts, r.Progress = nil, ""
					return cli.JSON(cmd, r)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", kind, s.id)
				if kind == approval.Approve {
					for _, m := range after.texts(policy.Wait) {
						fmt.Fprintln(cmd.ErrOrStderr(), "still missing: "+m)
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask; for scripts that have shown the intent to a person")
	return cmd
}
