package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
)

// orderWithin is for how long an order is carried to whoever does not take it at once.
const orderWithin = 5 * time.Second

func rejectCommand(o *options) *cobra.Command {
	return orderCommand(o, approval.Reject, "reject INTENT", "End an intent that is not signed yet")
}

func vetoCommand(o *options) *cobra.Command {
	return orderCommand(o, approval.Veto, "veto INTENT", "End an intent that is not signed yet, as a member of a group that the charter gives a veto")
}

func withdrawCommand(o *options) *cobra.Command {
	return orderCommand(o, approval.Withdraw, "withdraw INTENT|ID", "Take your own approval of an intent, or your signature under a record, back for good")
}

// orderCommand is a statement that narrows. It goes to the coordinator and to every
// signer's own endpoint at the same time, so that a coordinator that keeps it to itself
// changes nothing.
func orderCommand(o *options, kind approval.Kind, use, short string) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: use, Short: short,
		Long: short + `. It goes to the coordinator and to every signer's own endpoint that is known: a
coordinator that is away, or keeps it to itself, changes nothing. While the coordinator is away
INTENT must be a whole ID.`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: o.completePending(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				a, err := c.home.find(args[0])
				if err != nil {
					return err
				}
				if a != nil {
					return o.orderRecord(cmd, ctx, c, kind, a, yes)
				}
				s, id, err := o.subject(cmd, ctx, c, args[0])
				if err != nil {
					return err
				}
				return o.order(cmd, ctx, c, kind, s, id, yes)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask; for scripts that have shown it to a person")
	return cmd
}

// subject is the intent that an order is about, shown if the coordinator shows it. One
// that is named by its whole ID can be ended unseen: an order only narrows.
func (o *options) subject(cmd *cobra.Command, ctx context.Context, c *client, word string) (*shown, canon.Digest, error) {
	s, err := c.get(ctx, word)
	if err == nil {
		if over(s.view.Stage) {
			return s, s.id, cli.Hint(fmt.Errorf("intent %s has ended: %s", s.id.Short(), s.view.Detail), "coffer show %s shows what became of it", s.id.String()[:12])
		}
		return s, s.id, nil
	}
	id, notID := canon.ParseDigest(strings.ToLower(word))
	if places, _ := c.home.endpoints(); notID != nil || len(places) == 0 {
		return nil, id, err
	}
	if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.NotFound {
		fmt.Fprintf(cmd.ErrOrStderr(), "the coordinator does not show it: %s\n", cli.Text(c.explain(err)))
	} else {
		fmt.Fprintln(cmd.ErrOrStderr(), "the coordinator does not show it; the order goes to the signers all the same")
	}
	return nil, id, nil
}

func (o *options) order(cmd *cobra.Command, ctx context.Context, c *client, kind approval.Kind, shown *shown, subject canon.Digest, yes bool) error {
	h := c.home
	key, err := o.signerOf(c.charter)
	if err != nil {
		return err
	}
	if _, ok := h.person(o.as); !ok {
		return cli.Refusedf("the charter lists no person %q", o.as)
	}
	v := view{Title: string(kind) + " intent " + subject.Short(), Lines: []intent.Line{{Label: "intent", Value: subject.String()}}, ID: subject, Given: yes}
	if shown != nil {
		v.Title, v.Lines = string(kind)+" "+shown.what(), lines(shown, o.as, time.Now())
	}
	if _, err := o.consent(ctx, cmd, key, v, string(kind)); err != nil {
		return err
	}
	return o.give(cmd, ctx, c, key, kind, shown, subject)
}

// give signs an order about an intent and carries it to everybody who may take it.
func (o *options) give(cmd *cobra.Command, ctx context.Context, c *client, key credential.Signer, kind approval.Kind, shown *shown, subject canon.Digest) error {
	h := c.home
	signed, err := o.statement(h, key, kind, subject, statementLifetime, 0)
	if err != nil {
		return err
	}
	if shown != nil {
		if text := c.mayEnd(shown, signed); text != "" {
			return cli.Refusedf("%s", text)
		}
	}
	record := authority.Record{Kind: authority.KindOrder, Raw: subject[:], Statements: []approval.Signed{signed}}
	if _, err := h.ledger.Add(record, unixNow()); err != nil {
		return &cli.ExitError{Code: cli.Refused, Err: err}
	}
	h.keep(cmd.ErrOrStderr())
	s := o.newSpread(h, record, cmd.ErrOrStderr(), shown == nil)
	if shown != nil {
		// To the coordinator it is a statement about an intent, which it answers at once.
		if err := c.state(ctx, shown, signed); err != nil {
			if len(s.to) == 0 {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the coordinator did not take it: %s\n", cli.Text(c.explain(err)))
		} else {
			s.desk = true
		}
	}
	within, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	s.run(within, s.settled)
	coordinator, signers := s.taken()
	h.keep(cmd.ErrOrStderr())
	if o.json {
		if err := cli.JSON(cmd, map[string]any{"order": kind, "id": subject, "coordinator": coordinator, "signers": append([]string{}, signers...)}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", kind, subject)
	}
	for _, t := range s.to {
		if text := s.outcomeOf(t); text != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s did not take it: %s\n", t.words(), text)
		}
	}
	q := h.inForce().Quorum
	switch {
	case len(signers) >= q.Of-q.Need+1:
		fmt.Fprintf(cmd.ErrOrStderr(), "taken by %s themselves: no coordinator can hide it\n", "signers "+strings.Join(signers, ", "))
	case len(signers) > 0 && coordinator:
		fmt.Fprintf(cmd.ErrOrStderr(), "taken by the coordinator and by signer %s\n", strings.Join(signers, ", "))
	case len(signers) > 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "taken by signer %s, which passes it on to the others\n", strings.Join(signers, ", "))
	case coordinator:
		fmt.Fprintln(cmd.ErrOrStderr(), "taken by the coordinator; no signer's own endpoint is known here or answers, so that it reaches them by its word alone")
	default:
		return cli.Hint(&cli.ExitError{Code: cli.Waiting, Err: errors.New("nobody took the order: it stands in your folder alone")},
			"run the same command again, or have an operator take it by hand: coffer-signer records")
	}
	return nil
}

// state hands a statement about an intent to the coordinator.
func (c *client) state(ctx context.Context, s *shown, signed approval.Signed) error {
	_, err := c.stated(ctx, s, signed)
	return err
}

// stated is the intent after a statement about it.
func (c *client) stated(ctx context.Context, s *shown, signed approval.Signed) (*shown, error) {
	ask, cancel := brief(ctx)
	defer cancel()
	reply, err := c.api.State(ask, &pb.StateRequest{Statement: &pb.SignedMessage{Raw: signed.Raw, Signature: signed.Signature}})
	if err != nil {
		return nil, err
	}
	after, err := c.open(reply.Intent)
	if err != nil {
		return nil, err
	}
	if after.id != s.id {
		return nil, errors.New("the coordinator answered with another intent: do not trust it")
	}
	return after, nil
}

// settled says whether everybody took the order, or refused it.
func (s *spread) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.to {
		text, asked := s.outcome[t.key()]
		if !asked || text != "" && !strings.HasPrefix(text, refusedIt) {
			return false
		}
	}
	return true
}

func (s *spread) outcomeOf(t target) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, asked := s.outcome[t.key()]; asked {
		return text
	}
	return "it was not heard in time"
}

func (t target) words() string {
	if t.coordinator {
		return "the coordinator"
	}
	return "signer " + t.name
}

// orderRecord takes a signature under a record back; there is nothing else to say
// against one.
func (o *options) orderRecord(cmd *cobra.Command, ctx context.Context, c *client, kind approval.Kind, a *act, yes bool) error {
	if kind != approval.Withdraw {
		return cli.Hint(cli.Usagef("%s is no intent: whoever is against it does not sign it", a.title), "coffer withdraw %s takes a signature of yours back", a.id.String()[:12])
	}
	if a.Kind == authority.KindFreeze || a.Kind == authority.KindOrder {
		return cli.Hint(cli.Refusedf("%s cannot be taken back by whoever gave it", a.title), "coffer unfreeze lifts freezes, by the admin rule")
	}
	if a.pending == nil {
		return fmt.Errorf("%s is %s: there is nothing to take back", a.title, c.home.state(a))
	}
	if !a.said(o.as, approval.Approve) {
		return fmt.Errorf("%q has not signed %s", o.as, a.title)
	}
	if a.said(o.as, approval.Withdraw) {
		return fmt.Errorf("%q has taken the signature under %s back already", o.as, a.title)
	}
	return o.signAct(cmd, ctx, c, a, approval.Withdraw, yes, true)
}
