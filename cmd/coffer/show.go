package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/intent"
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
		text += " (said " + duration(age) + " ago)"
	}
	// What is missing are mostly the same words as the reasons; a sealed signer has no other.
	texts := slices.Clone(says.Reasons)
	if len(texts) == 0 {
		texts = says.Missing
	}
	if len(texts) > 0 {
		text += ": " + strings.Join(texts, "; ")
	}
	return text
}

// texts are the reasons of the rules, as this program counted.
func (s *shown) texts(outcome policy.Outcome) []string {
	if over(s.view.Stage) || signedStage(s.view.Stage) || s.weighed.Decision.Outcome != outcome {
		return nil
	}
	var out []string
	for _, r := range s.weighed.Decision.Reasons {
		out = append(out, r.Text)
	}
	return out
}

func (s *shown) approvers() []string {
	var out []string
	for _, v := range s.weighed.Votes {
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
		if err != nil && saidBefore(c.home.ledger.History(), s.id, rec) {
			// Kept from before the signer's identity was changed. Whoever has the old key may
			// have made it since, so it is neither shown as the signer's word nor held against
			// the coordinator.
			says.Reasons = []string{"what it said is signed by an identity that it no longer has"}
			out = append(out, says)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the coordinator shows a verdict of signer %q that does not verify, do not trust it: %w", rec.Signer, err)
		}
		says.Outcome, says.Missing, says.Time = v.Outcome, v.Missing, v.Time
		for _, r := range v.Reasons {
			if r.Check != "" {
				says.Checks = append(says.Checks, r.Check+"/"+r.Code)
			}
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
	v, err := verdict.Parse(rec.Verdict)
	if err != nil {
		return nil, err
	}
	// Its signer may have judged under a version before or after the one that is in force here.
	if err := v.About(party.ID(rec.Signer), c.charter.Cluster, v.Charter, s.id); err != nil {
		return nil, err
	}
	signer, ok := c.charter.Signer(v.Signer)
	if ok {
		if _, err = verdict.Verify(rec.Verdict, rec.Signature, signer.Peer); err == nil {
			return v, nil
		}
	} else {
		err = fmt.Errorf("the charter lists no signer %q", rec.Signer)
	}
	// Or it had another identity then, or is a signer no longer.
	before, known := c.home.ledger.Charter(v.Charter)
	if !known || v.Charter == c.charter.Digest() {
		return nil, err
	}
	if signer, ok = before.Signer(v.Signer); !ok {
		return nil, err
	}
	if _, then := verdict.Verify(rec.Verdict, rec.Signature, signer.Peer); then != nil {
		return nil, err
	}
	if !over(s.view.Stage) {
		// That identity may be somebody else's by now, and says nothing about what comes.
		v.Outcome, v.Missing, v.Reasons = "unknown", nil, []verdict.Reason{{Text: fmt.Sprintf("asked under version %d of the charter, it answered under an identity that it has no longer", before.Version)}}
	}
	return v, nil
}

// saidBefore says whether a verdict verifies under an identity that the signer had by one
// of these versions of the charter.
func saidBefore(history []*charter.Charter, id canon.Digest, rec *pb.SignerVerdict) bool {
	return slices.ContainsFunc(history, func(c *charter.Charter) bool {
		signer, ok := c.Signer(party.ID(rec.Signer))
		if !ok {
			return false
		}
		v, err := verdict.Verify(rec.Verdict, rec.Signature, signer.Peer)
		return err == nil && v.About(signer.Name, c.Cluster, v.Charter, id) == nil
	})
}

// line writes one labelled line.
func line(w io.Writer, label, format string, args ...any) {
	fmt.Fprintf(w, "%-13s %s\n", label, fmt.Sprintf(format, args...))
}

// lines are an intent as this program decoded it, for as.
func lines(s *shown, as string, now time.Time) (out []intent.Line) {
	line := func(label, format string, args ...any) {
		out = append(out, intent.Line{Label: label, Value: fmt.Sprintf(format, args...)})
	}
	for _, l := range s.lines {
		switch l.Label {
		case "from time":
			l.Value += " (" + relative(now, s.intent.NotBefore) + ")"
		case "until":
			l.Value += " (" + relative(now, s.intent.Expires) + ")"
		}
		line(l.Label, "%s", l.Value)
	}
	for _, text := range s.rules {
		line("rule", "%s", text)
	}
	stage := stageName(s.view.Stage)
	if s.view.Detail != "" {
		stage += ": " + s.view.Detail
	}
	line("stage", "%s", stage)
	if s.view.Progress != "" && !over(s.view.Stage) {
		line("just now", "%s", s.view.Progress)
	}
	for _, text := range s.texts(policy.Deny) {
		line("denied", "%s", text)
	}
	for _, text := range s.frozen {
		line("FROZEN", "%s", text)
	}
	for _, who := range s.approvers() {
		line("approved by", "%s", who)
	}
	for _, who := range s.weighed.Ended {
		line("rejected by", "%s", who)
	}
	for _, text := range s.texts(policy.Wait) {
		line("missing", "%s", text)
	}
	if s.wants(as) {
		line("you", "can approve it: coffer approve %s", s.id.String()[:12])
	}
	for _, says := range s.verdicts {
		line("signer "+says.Signer, "%s", says.words(now))
	}
	if s.address != "" {
		line("address", "%s", s.address)
	}
	if s.view.TxHash != "" {
		line("transaction", "%s", s.view.TxHash)
		line("signed by", "%s", strings.Join(s.view.SignedBy, ", "))
	}
	if len(s.view.Sent) > 1 {
		for n, v := range versionsOf(s) {
			line(fmt.Sprintf("version %d", n+1), "%s, at most %s wei per gas, signed %s by %s", v.TxHash, v.FeeCap, v.Signed, strings.Join(v.SignedBy, ", "))
		}
	}
	if s.view.Block != 0 {
		line("block", "%d", s.view.Block)
	}
	if s.view.Stage == pb.Stage_STAGE_CONFIRMATION {
		line("confirmed", "%d of %d", s.view.Confirmations, s.view.ConfirmationsWanted)
	}
	return out
}

func printLines(w io.Writer, lines []intent.Line) {
	for _, l := range lines {
		line(w, l.Label, "%s", l.Value)
	}
}

// version is one transaction that was signed for an intent; at most one of them is mined.
type version struct {
	TxHash   string   `json:"tx_hash"`
	FeeCap   string   `json:"fee_cap"` // wei per gas
	TipCap   string   `json:"tip_cap"` // wei per gas
	SignedBy []string `json:"signed_by"`
	Signed   string   `json:"signed"`
}

// versionsOf are those of an intent, oldest first. Their fees are read from the
// transactions, which check has found to be what was asked for.
func versionsOf(s *shown) []version {
	var out []version
	for _, sent := range s.view.Sent {
		v := version{TxHash: sent.TxHash, SignedBy: sent.SignedBy, Signed: time.UnixMilli(sent.Time).UTC().Format(time.RFC3339)}
		if _, u, err := evm.Recover(sent.RawTx); err == nil {
			v.FeeCap, v.TipCap = u.FeeCap.String(), u.TipCap.String()
		}
		out = append(out, v)
	}
	return out
}

// relative says how far a time is from now, as people do.
func relative(now time.Time, unix int64) string {
	d := time.Unix(unix, 0).Sub(now)
	switch {
	case d > 0:
		return "in " + duration(d)
	case d > -time.Second:
		return "now"
	}
	return duration(-d) + " ago"
}

// duration says a length of time in its two largest units.
func duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	}
	return fmt.Sprintf("%d min", minutes)
}

// wants says whether an approval of as would bring an intent nearer to its signature.
func (s *shown) wants(as string) bool {
	p, ok := s.charter.Person(as)
	if !ok || s.view.Stage != pb.Stage_STAGE_APPROVAL || s.weighed.Decision.Outcome != policy.Wait || as == s.intent.Initiator {
		return false
	}
	if slices.ContainsFunc(s.weighed.Votes, func(v policy.Vote) bool { return v.Person == as }) {
		return false
	}
	return slices.ContainsFunc(s.weighed.Decision.Missing, func(m policy.Missing) bool { return slices.Contains(p.Groups, m.Group) })
}

// request is what an intent asks for, in JSON.
type request struct {
	Wallet    string       `json:"wallet"`
	Chain     string       `json:"chain,omitempty"`
	ChainID   uint64       `json:"chain_id,omitempty"`
	Account   string       `json:"account,omitempty"`
	Nonce     *uint64      `json:"nonce,omitempty"`
	Asset     string       `json:"asset,omitempty"`
	Amount    string       `json:"amount,omitempty"` // in whole units, exactly
	To        string       `json:"to,omitempty"`
	ToLabel   string       `json:"to_label,omitempty"`
	FeeCap    string       `json:"fee_cap,omitempty"`
	FeeAsset  string       `json:"fee_asset,omitempty"`
	Cancels   string       `json:"cancels,omitempty"`
	Quorum    string       `json:"quorum,omitempty"`
	Signers   []string     `json:"signers,omitempty"`
	Initiator string       `json:"initiator"`
	Reference string       `json:"reference"`
	NotBefore string       `json:"not_before"`
	Expires   string       `json:"expires"`
	Cluster   canon.Digest `json:"cluster"`
	Charter   canon.Digest `json:"charter"`
}

func requestOf(s *shown) request {
	i := s.intent
	r := request{
		Wallet: i.Wallet, Chain: i.Chain, Account: i.Account, Initiator: i.Initiator, Reference: i.Reference,
		NotBefore: stamp(i.NotBefore), Expires: stamp(i.Expires), Cluster: i.Cluster, Charter: i.Charter,
	}
	if ch, ok := s.made.Chain(i.Chain); ok {
		r.ChainID = ch.ChainID
	}
	if coin, ok := s.made.NativeAsset(i.Chain); ok {
		r.FeeCap, r.FeeAsset = policy.FormatAmount(i.FeeCap, coin.Decimals), coin.Symbol
	}
	switch i.Kind {
	case intent.Transfer:
		r.Nonce, r.Asset, r.To, r.ToLabel = &i.Nonce, i.Transfer.Asset, i.Transfer.To, s.made.DestinationLabel(s.under.Lists, i.Chain, i.Transfer.To)
		if a, ok := s.made.Asset(i.Chain, i.Transfer.Asset); ok {
			r.Amount = policy.FormatAmount(i.Transfer.Amount, a.Decimals)
		}
	case intent.Cancel:
		r.Nonce, r.Cancels = &i.Nonce, i.Cancel.Subject.String()
	case intent.CreateWallet:
		r.Quorum, r.Signers = i.CreateWallet.Quorum.String(), i.CreateWallet.Signers.Strings()
	}
	return r
}

func stamp(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// what says in one line what an intent asks for.
func (s *shown) what() string {
	r := requestOf(s)
	switch s.intent.Kind {
	case intent.Transfer:
		to := r.To
		if r.ToLabel != "" {
			to += " (" + r.ToLabel + ")"
		}
		return r.Amount + " " + r.Asset + " to " + to + " from " + r.Wallet
	case intent.Cancel:
		return "cancel " + r.Cancels[:12]
	case intent.CreateWallet:
		return "create wallet " + r.Wallet
	}
	return string(s.intent.Kind)
}

// report is the JSON form of an intent.
type report struct {
	ID          string           `json:"id"`
	Kind        string           `json:"kind"`
	Stage       string           `json:"stage"`
	Detail      string           `json:"detail"`
	Progress    string           `json:"progress,omitempty"`
	FailureCode string           `json:"failure_code,omitempty"`
	Request     request          `json:"request"`
	Rules       []string         `json:"rules,omitempty"`   // those that match
	Missing     []string         `json:"missing,omitempty"` // what they wait for
	Denied      []string         `json:"denied,omitempty"`  // why they deny it
	Frozen      []string         `json:"frozen,omitempty"`  // freezes that stop it
	ApprovedBy  []string         `json:"approved_by,omitempty"`
	RejectedBy  []string         `json:"rejected_by,omitempty"`
	Yours       bool             `json:"yours,omitempty"` // whoever asks can approve it
	Verdicts    []signerSays     `json:"verdicts,omitempty"`
	Address     string           `json:"address,omitempty"` // of the new wallet
	TxHash      string           `json:"tx_hash,omitempty"`
	RawTx       string           `json:"raw_tx,omitempty"`
	SignedBy    []string         `json:"signed_by,omitempty"`
	Versions    []version        `json:"versions,omitempty"`
	Block       uint64           `json:"block,omitempty"`
	Confirmed   uint32           `json:"confirmations,omitempty"`
	Wanted      uint32           `json:"confirmations_wanted,omitempty"`
	Phases      map[string]int64 `json:"phase_ms,omitempty"`
	Updated     string           `json:"updated"`
}

func reportOf(s *shown, as string) report {
	r := report{
		ID: s.id.String(), Kind: string(s.intent.Kind), Stage: stageName(s.view.Stage), Detail: s.view.Detail,
		FailureCode: s.view.FailureCode, Request: requestOf(s), Rules: s.rules, Missing: s.texts(policy.Wait), Denied: s.texts(policy.Deny), Frozen: s.frozen,
		ApprovedBy: s.approvers(), RejectedBy: s.weighed.Ended, Yours: s.wants(as),
		Verdicts: s.verdicts, Address: s.address, TxHash: s.view.TxHash, SignedBy: s.view.SignedBy, Versions: versionsOf(s), Block: s.view.Block,
		Updated: time.UnixMilli(s.view.Updated).UTC().Format(time.RFC3339),
	}
	if s.view.Stage == pb.Stage_STAGE_CONFIRMATION {
		r.Confirmed, r.Wanted = s.view.Confirmations, s.view.ConfirmationsWanted
	}
	if !over(s.view.Stage) {
		r.Progress = s.view.Progress
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
		return cli.JSON(cmd, reportOf(s, o.as))
	}
	printLines(cmd.OutOrStdout(), lines(s, o.as, time.Now()))
	return nil
}

func showCommand(o *options) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "show INTENT|ID|FILE",
		Short: "Show an intent in full, decoded here, with each signer's own signed verdict; or an authority record",
		Long: `An authority record is a version of the charter or of a list, a freeze, an unfreeze, or orders about
an intent. FILE holds one as a line; --json prints it so.`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: positions(func(string) []string { return append(o.records(""), o.intents(false)...) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				a, err := c.home.find(args[0])
				if err != nil {
					return err
				}
				if a != nil {
					return c.home.printAct(cmd, a)
				}
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
		return noWallet(only, slices.Collect(maps.Keys(all)))
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
