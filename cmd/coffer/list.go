package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
)

// atOnce bounds the questions for single intents that run at the same time: for each
// the coordinator asks every signer.
const atOnce = 4

func pendingCommand(o *options) *cobra.Command {
	var short, mine bool
	f := filters{pending: true}
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "Show what waits for people, in full: authority records, and intents with each signer's own signed verdict",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mine && o.as == "" {
				return cli.Usagef("--mine is about you: give --as, your name in the charter")
			}
			return o.with(cmd, func(ctx context.Context, c *client) error {
				list, more, err := c.list(ctx, &f)
				if err != nil {
					return err
				}
				acts, err := c.home.waiting()
				if err != nil {
					return err
				}
				acts = append([]*act{}, acts...)
				if f.wallet != "" || f.by != "" || f.before != "" {
					acts = nil // those are about intents
				}
				if mine {
					acts = slices.DeleteFunc(acts, func(a *act) bool { return !c.home.wants(a, o.as) })
					list = slices.DeleteFunc(list, func(s *shown) bool { return !s.wants(o.as) })
				}
				if !short {
					// The signers are asked anew: a list of the coordinator's has no verdicts of intents that wait.
					if err := c.refresh(ctx, list); err != nil {
						return err
					}
				}
				return o.printList(cmd, c.home, acts, list, more, short)
			})
		},
	}
	f.flags(o, cmd)
	cmd.Flags().BoolVar(&short, "short", false, "one line for each")
	cmd.Flags().BoolVar(&mine, "mine", false, "only those that your approval would bring nearer to their signature")
	return cmd
}

func historyCommand(o *options) *cobra.Command {
	f := filters{}
	var stage, kind, since, until string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List all intents, newest first, one line for each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.stage, err = oneOf("--stage", stage, stages()); err != nil {
				return err
			}
			if f.kind, err = oneOf("--kind", kind, kinds); err != nil {
				return err
			}
			now := time.Now()
			if f.since, err = moment("--since", since, now); err != nil {
				return err
			}
			if f.until, err = moment("--until", until, now); err != nil {
				return err
			}
			return o.with(cmd, func(ctx context.Context, c *client) error {
				list, more, err := c.list(ctx, &f)
				if err != nil {
					return err
				}
				return o.printList(cmd, c.home, nil, list, more, true)
			})
		},
	}
	f.flags(o, cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.ref, "ref", "", "only the one with this reference, of anybody")
	flags.StringVar(&stage, "stage", "", "only those in this stage: "+strings.Join(stages(), ", "))
	flags.StringVar(&kind, "kind", "", "only those of this kind: "+strings.Join(kinds, ", "))
	flags.StringVar(&since, "since", "", "only those handed in since then: 2026-01-31, 2026-01-31T12:00:00Z, or 36h or 7d for so long ago")
	flags.StringVar(&until, "until", "", "only those handed in until then")
	complete(cmd, "stage", func(string) []string { return stages() })
	complete(cmd, "kind", func(string) []string { return kinds })
	return cmd
}

// kinds are those of intents, as --kind takes them.
var kinds = []string{"transfer", "cancel", "create_wallet"}

func stages() []string {
	var out []string
	for n := int32(1); pb.Stage_name[n] != ""; n++ {
		out = append(out, stageName(pb.Stage(n)))
	}
	return out
}

// filters say which intents a list has.
type filters struct {
	pending                              bool
	limit                                uint32
	wallet, by, ref, kind, stage, before string
	since, until                         int64
}

func (f *filters) flags(o *options, cmd *cobra.Command) {
	cmd.Flags().Uint32Var(&f.limit, "limit", 100, "at most this many, 1000 at most")
	cmd.Flags().StringVar(&f.wallet, "wallet", "", "only those of this wallet")
	cmd.Flags().StringVar(&f.by, "by", "", "only those that this person or service asked for")
	cmd.Flags().StringVar(&f.before, "before", "", "the next page: only those that were handed in before this intent")
	complete(cmd, "wallet", o.wallets)
	complete(cmd, "by", o.names)
}

// oneOf refuses a value that is none of known; empty means any.
func oneOf(flag, value string, known []string) (string, error) {
	if value == "" || slices.Contains(known, value) {
		return value, nil
	}
	return "", didYouMean(cli.Usagef("%s %q is none of %s", flag, value, strings.Join(known, ", ")), value, known)
}

// moment reads a time, or how long ago it was, as Unix seconds; 0 if there is none.
func moment(flag, text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Unix(), nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)).Unix(), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).Unix(), nil
	}
	return 0, cli.Usagef("%s %q is no time: write 2026-01-31, 2026-01-31T12:00:00Z, or 36h or 7d for so long ago", flag, text)
}

// list asks for a page of intents and verifies each. What was filtered for is looked at
// again where it is signed: a list must not show what was not asked for.
func (c *client) list(ctx context.Context, f *filters) (list []*shown, more bool, err error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	req := &pb.ListRequest{
		PendingOnly: f.pending, Limit: f.limit, Wallet: f.wallet, Initiator: f.by, Reference: f.ref, Kind: f.kind,
		Since: f.since, Until: f.until,
	}
	if f.stage != "" {
		req.Stage = pb.Stage(pb.Stage_value["STAGE_"+strings.ToUpper(f.stage)])
	}
	if f.before != "" {
		s, err := c.get(ctx, f.before)
		if err != nil {
			return nil, false, err
		}
		req.Before = s.id.String()
	}
	if list, more, err = c.listPage(ctx, req); err != nil {
		return nil, false, err
	}
	for _, s := range list {
		same := func(want, is string) bool { return want == "" || want == is }
		if i := s.intent; !same(f.wallet, i.Wallet) || !same(f.by, i.Initiator) || !same(f.ref, i.Reference) || !same(f.kind, string(i.Kind)) {
			return nil, false, fmt.Errorf("the coordinator lists intent %s, which was not asked for: do not trust it", s.id.Short())
		}
	}
	return list, more, nil
}

func (c *client) listPage(ctx context.Context, req *pb.ListRequest) (list []*shown, more bool, err error) {
	reply, err := c.api.List(ctx, req)
	if err != nil {
		return nil, false, err
	}
	for _, view := range reply.Intents {
		s, err := c.open(view)
		if err != nil {
			return nil, false, err
		}
		list = append(list, s)
	}
	return list, reply.More, nil
}

// refresh asks for each intent of a list on its own, which brings new verdicts.
func (c *client) refresh(ctx context.Context, list []*shown) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for n := range list {
		g.Go(func() error {
			s, err := c.get(ctx, list[n].id.String())
			if err == nil {
				list[n] = s
			}
			return err
		})
	}
	return g.Wait()
}

func (o *options) printList(cmd *cobra.Command, h *home, acts []*act, list []*shown, more, short bool) error {
	if o.json {
		reports := []report{}
		for _, s := range list {
			reports = append(reports, reportOf(s, o.as))
		}
		out := map[string]any{"intents": reports, "more": more}
		if acts != nil {
			out["records"] = h.reports(acts)
		}
		return cli.JSON(cmd, out)
	}
	w := cmd.OutOrStdout()
	for n, a := range acts {
		if short {
			yours := ""
			if h.wants(a, o.as) {
				yours = "; YOU can sign it"
			}
			fmt.Fprintf(w, "%s  %s: %s%s\n", a.id.String()[:12], a.title, brevity(h.state(a)), yours)
			continue
		}
		if n > 0 {
			fmt.Fprintln(w)
		}
		printLines(w, h.actLines(a, o.as))
	}
	if len(acts) > 0 && len(list) > 0 && !short {
		fmt.Fprintln(w)
	}
	for n, s := range list {
		if short {
			yours := ""
			if s.wants(o.as) {
				yours = "; YOU can approve it"
			}
			fmt.Fprintf(w, "%s  %s  %-12s %-12s %s; %s%s\n", s.id.String()[:12], time.UnixMilli(s.view.Updated).UTC().Format("2006-01-02 15:04"),
				stageName(s.view.Stage), s.intent.Reference, s.what(), brevity(s.view.Detail), yours)
			continue
		}
		if n > 0 {
			fmt.Fprintln(w)
		}
		printLines(w, lines(s, o.as, time.Now()))
	}
	if len(list)+len(acts) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing")
	}
	if more && len(list) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "there are older ones: --before %s, or a larger --limit\n", list[len(list)-1].id.String()[:12])
	}
	return nil
}

// brevity keeps a row of a list on one line; coffer show has the whole sentence.
func brevity(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
