package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/approval"
	"coffer/authority"
	"coffer/internal/cli"
	"coffer/policy"
)

// statementLifetime is for how long an approval counts.
const statementLifetime = 24 * time.Hour

func approveCommand(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "approve INTENT|ID|FILE",
		Short: "Show an intent, a version of the charter or of a list, or an unfreeze in full, and approve it",
		Long: `approve decodes what is asked for here, from the bytes whose digest your key signs: an intent with
each signer's own signed verdict; of a version of the charter, in words, what it lets whom do; of a
version of a list the entries that come and go; of an unfreeze which freezes it lifts, who made them,
when and why. FILE holds a record as one line, for the day on which the coordinator is away.`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: o.completePending(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				a, err := c.home.find(args[0])
				if err != nil {
					return err
				}
				if a != nil {
					return o.signAct(cmd, ctx, c, a, approval.Approve, yes, args[0] == a.id.String())
				}
				return o.approveIntent(cmd, ctx, c, args[0], yes)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask; for scripts that have shown it to a person")
	return cmd
}

// actCommand is approve for records of one kind.
func actCommand(o *options, kind approval.Kind, use, short string, of authority.Kind) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: o.completeRecords(of),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				a, err := c.home.find(args[0])
				if err != nil {
					return err
				}
				if a != nil && a.Kind != of {
					return cli.Hint(cli.Usagef("%s is %s", args[0], a.title), "coffer approve %s signs it", a.id.String()[:12])
				}
				if a == nil {
					return cli.Hint(fmt.Errorf("no %s that waits has an ID that begins with %q", of, args[0]), "coffer pending lists what waits")
				}
				return o.signAct(cmd, ctx, c, a, kind, yes, args[0] == a.id.String())
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask; for scripts that have shown it to a person")
	return cmd
}

// unseen refuses to sign what nobody looked at, unless its whole ID was given: the
// coordinator chooses what a reference or the beginning of an ID stands for.
func unseen(yes, whole bool) error {
	if yes && !whole {
		return cli.Usagef("--yes approves unseen: give all 64 digits of the ID, or leave --yes out and read")
	}
	return nil
}

// signAct shows a record, asks, and signs it.
func (o *options) signAct(cmd *cobra.Command, ctx context.Context, c *client, a *act, kind approval.Kind, yes, whole bool) error {
	h := c.home
	key, err := o.signerOf(c.charter)
	if err != nil {
		return err
	}
	p, ok := h.person(o.as)
	if !ok {
		return cli.Refusedf("the charter lists no person %q", o.as)
	}
	if kind == approval.Approve {
		switch {
		case a.pending == nil:
			return fmt.Errorf("%s is %s: there is nothing to sign", a.title, h.state(a))
		case a.said(o.as, approval.Withdraw):
			return cli.Refusedf("%q withdrew the signature under %s, which is for good; propose it anew", o.as, a.title)
		case a.said(o.as, approval.Approve):
			return fmt.Errorf("%q has signed %s already", o.as, a.title)
		case !slices.Contains(p.Groups, a.decides.Group):
			return cli.Refusedf("%s is decided by %s, and %q is not in that group", a.title, a.decides, o.as)
		}
		if err := h.torn(a, o.as); err != nil {
			return err
		}
	}
	if err := unseen(yes, whole); err != nil {
		return err
	}
	v := view{Title: string(kind) + " " + a.title, Lines: h.actLines(a, o.as), ID: a.id, Given: yes}
	if _, err := o.consent(ctx, cmd, key, v, string(kind)); err != nil {
		return err
	}
	return o.signAndHandIn(cmd, ctx, c, key, a, string(kind), kind)
}

func (o *options) approveIntent(cmd *cobra.Command, ctx context.Context, c *client, word string, yes bool) error {
	s, err := c.get(ctx, word)
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
	if err := unseen(yes, word == s.id.String()); err != nil {
		return err
	}
	// What is shown is decoded here, from the bytes whose digest is signed below.
	v := view{Title: "approve " + s.what(), Lines: lines(s, o.as, time.Now()), ID: s.id, Given: yes}
	chosen, err := o.consent(ctx, cmd, key, v, string(approval.Approve), string(approval.Reject))
	if err != nil {
		return err
	}
	if kind := approval.Kind(chosen); kind != approval.Approve {
		return o.give(cmd, ctx, c, key, kind, s, s.id)
	}
	signed, err := o.statement(c.home, key, approval.Approve, s.id, statementLifetime, s.intent.Expires)
	if err != nil {
		return err
	}
	if refused := approval.Tally(s.under, s.intent, s.id, []approval.Signed{signed}).Refused; len(refused) > 0 {
		return cli.Refusedf("%s", refused[0].Text)
	}
	after, err := c.stated(ctx, s, signed)
	if err != nil {
		return err
	}
	if o.json {
		r := reportOf(after, o.as)
		// What the signers say and do by now is coffer show's; the answer to a statement has none of it.
		r.Verdicts, r.Progress = nil, ""
		return cli.JSON(cmd, r)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", approval.Approve, s.id)
	for _, m := range after.texts(policy.Wait) {
		fmt.Fprintln(cmd.ErrOrStderr(), "still missing: "+m)
	}
	return nil
}
