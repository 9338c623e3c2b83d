package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/chain/evm"
	"coffer/internal/cli"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

func stageName(s pb.Stage) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STAGE_"))
}

// signerSays is one signer's own word, after its signature was verified here.
type signerSays struct {
	Signer  string   `json:"signer"`
	Outcome string   `json:"outcome"` // sign, wait, refuse, or unknown when it could not be asked
	Checks  []string `json:"checks,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
	Missing []string `json:"missing,omitempty"`
	Time    int64    `json:"time,omitempty"` // Unix seconds, by its own clock
}

// stale is how old a verdict is when its age is worth a word: a coordinator may show
// an old one.
const stale = time.Minute

// words are what a signer says, for people.
func (says signerSays) words(now time.Time) string {
	text := map[string]string{verdict.Sign: "would sign", verdict.Wait: "waits", verdict.Refuse: "refuses"}[says.Outcome]
	if text == "" {
		text = "not heard"
	}
	if age := now.Sub(time.Unix(says.Time, 0)).Round(time.Second); says.Time > 0 && age > stale {
		text += " (said " + age.String() + " ago)"
	}
	if len(says.Reasons) > 0 {
		text += ": " + strings.Join(says.Reasons, "; ")
	}
	return text
}

// texts are the reasons of the rules, as this program counted.
func (s *shown) texts(outcome policy.Outcome) []string {
	if over(s.view.Stage) || s.view.Stage == pb.Stage_STAGE_BROADCAST || s.decision.Outcome != outcome {
		return nil
	}
	var out []string
	for _, r := range s.decision.Reasons {
		out = append(out, r.Text)
	}
	return out
}

func (s *shown) approvers() []string {
	var out []string
	for _, v := range s.granted.Votes {
		if text := v.Person + " of " + v.Org; !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// verdicts verifies every signer's. The coordinator may say of a signer only that it
// was not heard; words that it puts into a signer's mouth are an error.
func (c *client) verdicts(s *shown) ([]signerSays, error) {
	var out []signerSays
	heard := map[string]bool{}
	for _, rec := range s.view.Verdicts {
		if heard[rec.Signer] {
			return nil, fmt.Errorf("the coordinator shows two verdicts of signer %q: do not trust it", rec.Signer)
		}
		heard[rec.Signer] = true
		says := signerSays{Signer: rec.Signer, Outcome: "unknown"}
		if len(rec.Verdict) == 0 && rec.Error != "" {
			says.Reasons = []string{rec.Error}
			out = append(out, says)
			continue
		}
		v, err := c.verdict(s, rec)
		if err != nil {
			return nil, fmt.Errorf("the coordinator shows a verdict of signer %q that does not verify, do not trust it: %w", rec.Signer, err)
		}
		says.Outcome, says.Missing, says.Time = v.Outcome, v.Missing, v.Time
		for _, r := range v.Reasons {
			says.Checks = append(says.Checks, r.Check+"/"+r.Code)
			says.Reasons = append(says.Reasons, r.Text)
		}
		out = append(out, says)
	}
	if over(s.view.Stage) {
		return out, nil
	}
	// A refusal that the coordinator keeps to itself must not look like consent.
	for _, signer := range c.charter.Signers {
		if !heard[string(signer.Name)] {
			out = append(out, signerSays{Signer: string(signer.Name), Outcome: "unknown", Reasons: []string{"the coordinator shows no verdict of it"}})
		}
	}
	return out, nil
}

func (c *client) verdict(s *shown, rec *pb.SignerVerdict) (*verdict.Verdict, error) {
	signer, ok := c.charter.Signer(party.ID(rec.Signer))
	if !ok {
		return nil, fmt.Errorf("the charter lists no signer %q", rec.Signer)
	}
	v, err := verdict.Verify(rec.Verdict, rec.Signature, signer.Peer)
	if err != nil {
		return nil, err
	}
	return v, v.About(signer.Name, c.charter.Cluster, c.charter.Digest(), s.id)
}

// describe shows an intent as this program decoded it.
func describe(w io.Writer, s *shown) {
	for _, line := range s.lines {
		fmt.Fprintf(w, "%-13s %s\n", line.Label, line.Value)
	}
	stage := stageName(s.view.Stage)
	if s.view.Detail != "" {
		stage += ": " + s.view.Detail
	}
	fmt.Fprintf(w, "%-13s %s\n", "stage", stage)
	for _, text := range s.texts(policy.Deny) {
		fmt.Fprintf(w, "%-13s %s\n", "denied", text)
	}
	for _, who := range s.approvers() {
		fmt.Fprintf(w, "%-13s %s\n", "approved by", who)
	}
	for _, text := range s.texts(policy.Wait) {
		fmt.Fprintf(w, "%-13s %s\n", "missing", text)
	}
	for _, says := range s.verdicts {
		fmt.Fprintf(w, "%-13s %s\n", "signer "+says.Signer, says.words(time.Now()))
	}
	if s.view.TxHash != "" {
		fmt.Fprintf(w, "%-13s %s\n", "transaction", s.view.TxHash)
		fmt.Fprintf(w, "%-13s %s\n", "signed by", strings.Join(s.view.SignedBy, ", "))
	}
	if s.view.Block != 0 {
		fmt.Fprintf(w, "%-13s %d\n", "block", s.view.Block)
	}
}

// report is the JSON form of an intent.
type report struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"`
	Stage       string            `json:"stage"`
	Detail      string            `json:"detail"`
	FailureCode string            `json:"failure_code,omitempty"`
	Fields      map[string]string `json:"fields"`
	Missing     []string          `json:"missing,omitempty"`
	Preview     []string          `json:"preview,omitempty"` // why the rules deny it
	ApprovedBy  []string          `json:"approved_by,omitempty"`
	Verdicts    []signerSays      `json:"verdicts,omitempty"`
	TxHash      string            `json:"tx_hash,omitempty"`
	RawTx       string            `json:"raw_tx,omitempty"`
	SignedBy    []string          `json:"signed_by,omitempty"`
	Block       uint64            `json:"block,omitempty"`
	Phases      map[string]int64  `json:"phase_ms,omitempty"`
	Updated     string            `json:"updated"`
}

func reportOf(s *shown) report {
	r := report{
		ID: s.id.String(), Kind: string(s.intent.Kind), Stage: stageName(s.view.Stage), Detail: s.view.Detail,
		FailureCode: s.view.FailureCode, Fields: map[string]string{}, Missing: s.texts(policy.Wait), Preview: s.texts(policy.Deny), ApprovedBy: s.approvers(),
		Verdicts: s.verdicts, TxHash: s.view.TxHash, SignedBy: s.view.SignedBy, Block: s.view.Block,
		Updated: time.UnixMilli(s.view.Updated).UTC().Format(time.RFC3339),
	}
	for _, line := range s.lines {
		r.Fields[line.Label] = line.Value
	}
	if len(s.view.RawTx) > 0 {
		r.RawTx = "0x" + hex.EncodeToString(s.view.RawTx)
	}
	if len(s.view.Phases) > 0 {
		r.Phases = map[string]int64{}
		for _, p := range s.view.Phases {
			r.Phases[p.Name] += p.Milliseconds
		}
	}
	return r
}

func (o *options) print(cmd *cobra.Command, s *shown) error {
	if o.json {
		return cli.JSON(cmd, reportOf(s))
	}
	describe(cmd.OutOrStdout(), s)
	return nil
}

func showCommand(o *options) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "show INTENT",
		Short: "Show one intent in full, decoded here, with each signer's own signed verdict",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				s, err := c.get(ctx, args[0])
				if err != nil {
					return err
				}
				if wait {
					return o.wait(cmd, ctx, c, s.id.String(), timeout)
				}
				return o.print(cmd, s)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has ended, showing progress")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "with --wait: give up waiting after this long (exit code 4)")
	return cmd
}

func pendingCommand(o *options) *cobra.Command {
	return listCommand(o, true, "pending", "List the intents that have not ended")
}

func historyCommand(o *options) *cobra.Command {
	return listCommand(o, false, "history", "List all intents, newest first")
}

func listCommand(o *options, pending bool, use, short string) *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				ask, cancel := brief(ctx)
				defer cancel()
				reply, err := c.api.List(ask, &pb.ListRequest{PendingOnly: pending, Limit: limit})
				if err != nil {
					return err
				}
				reports := []report{}
				for _, view := range reply.Intents {
					s, err := c.open(view)
					if err != nil {
						return err
					}
					reports = append(reports, reportOf(s))
				}
				if o.json {
					return cli.JSON(cmd, map[string]any{"intents": reports})
				}
				for _, r := range reports {
					what := r.Fields["create wallet"]
					switch {
					case r.Fields["pay"] != "":
						what = r.Fields["pay"] + " to " + r.Fields["to"]
					case r.Fields["cancel"] != "":
						what = r.Fields["cancel"]
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s  %-10s %-13s %s; %s\n", r.ID[:12], r.Stage, r.Kind, what, brevity(r.Detail))
				}
				if len(reports) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "nothing")
				}
				return nil
			})
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 100, "at most this many, 1000 at most")
	return cmd
}

// brevity keeps a row of a list on one line; coffer show has the whole sentence.
func brevity(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

func (o *options) printWallets(cmd *cobra.Command, ctx context.Context, c *client, only string) error {
	all, err := c.wallets(ctx)
	if err != nil {
		return err
	}
	type row struct {
		Name      string   `json:"name"`
		Address   string   `json:"address"`
		PublicKey string   `json:"public_key"`
		Quorum    string   `json:"quorum"`
		Epoch     uint64   `json:"epoch"`
		Signers   []string `json:"signers"`
		Record    string   `json:"record"`
	}
	rows := []row{}
	for name, r := range all {
		if only != "" && name != only {
			continue
		}
		address, err := evm.AddressOf(r.PublicKey)
		if err != nil {
			return err
		}
		rows = append(rows, row{
			Name: name, Address: address.String(), PublicKey: hex.EncodeToString(r.PublicKey[:]), Quorum: r.Quorum.String(),
			Epoch: r.Epoch, Signers: r.Signers.Strings(), Record: r.Digest().String(),
		})
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	if only != "" && len(rows) == 0 {
		return fmt.Errorf("there is no wallet %q", only)
	}
	if o.json {
		if only != "" {
			return cli.JSON(cmd, rows[0])
		}
		return cli.JSON(cmd, map[string]any{"wallets": rows})
	}
	for _, r := range rows {
		fmt.Fprintf(cmd.OutOrStdout(), "%-16s %s  %s of %s\n", r.Name, r.Address, r.Quorum, strings.Join(r.Signers, ", "))
	}
	if len(rows) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no wallets yet: coffer wallet create NAME --ref REFERENCE")
	}
	return nil
}
