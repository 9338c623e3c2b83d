package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/chain/evm"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// lifetime is how long an intent is good for unless --expires says otherwise.
const lifetime = 24 * time.Hour

// skew is how far behind a signer's clock may be without delaying a request.
const skew = 2 * time.Minute

// waiting are the flags of commands that submit an intent.
type waiting struct {
	wait    bool
	timeout time.Duration
	anyway  bool
	expires time.Duration
	ref     string
}

func (w *waiting) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.ref, "ref", "", "your reference, unique among your requests: the same one pays once (required)")
	f.BoolVar(&w.wait, "wait", false, "wait until it has ended, showing progress")
	f.DurationVar(&w.timeout, "timeout", 0, "with --wait: give up waiting after this long (exit code 4); the request goes on")
	f.BoolVar(&w.anyway, "anyway", false, "send it to the signers although the coordinator's preview of the rules denies it")
	f.DurationVar(&w.expires, "expires", lifetime, "for how long the request is good")
}

func payCommand(o *options) *cobra.Command {
	var w waiting
	var from, chain, feeCap string
	cmd := &cobra.Command{
		Use:   "pay AMOUNT ASSET TO --from WALLET --ref REFERENCE",
		Short: "Ask for a payment, such as: coffer pay 1.5 ETH 0x… --from treasury --ref INV-7",
		Long: `pay asks for a payment. AMOUNT is in whole units, such as 1.5; ASSET is one of the charter's;
TO is an address, or the label that a list of the charter gives to one, such as "coffee supplier".
The same --ref pays once, however often the command runs.`,
		Args: cobra.ExactArgs(3),

		ValidArgsFunction: positions(nil, o.assets, o.destinations),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" {
				return cli.Usagef("--from is missing: the wallet that pays")
			}
			return o.with(cmd, func(ctx context.Context, c *client) error {
				asset, err := findAsset(c.charter, args[1], chain)
				if err != nil {
					return err
				}
				amount, err := policy.ParseAmount(args[0], asset.Decimals)
				if err != nil {
					return cli.Usagef("amount: %w", err)
				}
				if amount.Sign() == 0 {
					return cli.Usagef("amount: zero pays nothing")
				}
				to, err := c.home.destination(asset.Chain, args[2])
				if err != nil {
					return err
				}
				i, err := o.payment(ctx, c, from, asset.Chain, asset.Symbol, feeCap)
				if err != nil {
					return err
				}
				i.Kind = intent.Transfer
				i.Transfer = &intent.TransferBody{Asset: asset.Symbol, To: to, Amount: amount}
				return o.submit(cmd, ctx, c, i, &w)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "wallet that pays (required)")
	cmd.Flags().StringVar(&chain, "chain", "", "chain, if several have the asset")
	cmd.Flags().StringVar(&feeCap, "fee-cap", "", "most that the network may cost, in the chain's own coin; the coordinator's advice if absent")
	complete(cmd, "from", o.wallets)
	complete(cmd, "chain", o.chains)
	w.flags(cmd)
	return cmd
}

// destination is an address, or the one that a list gives a label to.
func (h *home) destination(chain, text string) (string, error) {
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X") {
		to, err := evm.ParseAddress(text)
		if err != nil {
			return "", cli.Usagef("destination: %w", err)
		}
		return to.String(), nil
	}
	var labels, found []string
	for _, list := range h.inForce().Destinations {
		if list.Kind == policy.ListSanctions {
			continue
		}
		for _, d := range h.entries(list.Name) {
			switch {
			case d.Chain != chain:
			case !strings.EqualFold(d.Label, text):
				labels = append(labels, d.Label)
			case !slices.Contains(found, d.Address):
				found = append(found, d.Address)
			}
		}
	}
	// Keepers of two lists may give one label to two addresses: neither is guessed at.
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
	default:
		return "", cli.Usagef("destination %q is the label of %s on %s: give the address", text, strings.Join(found, " and of "), chain)
	}
	err := cli.Usagef("destination %q is no address (0x and 40 hex digits) and no label on %s (there are: %s)", text, chain, strings.Join(labels, ", "))
	return "", didYouMean(err, text, labels)
}

// payment begins an intent that spends from a wallet: its account, the next nonce,
// the fee cap. Nonce and fee are advice of the coordinator; they stand in the intent
// for everybody to see, and the rules bound the fee.
func (o *options) payment(ctx context.Context, c *client, from, chain, asset, feeCap string) (*intent.Intent, error) {
	_, account, err := c.wallet(ctx, from)
	if err != nil {
		return nil, err
	}
	advice, err := c.advise(ctx, from, chain, asset)
	if err != nil {
		return nil, err
	}
	fee := new(big.Int).SetBytes(advice.Fee)
	if feeCap != "" {
		coin, ok := c.charter.NativeAsset(chain)
		if !ok {
			return nil, fmt.Errorf("the charter names no coin of chain %q to pay fees with", chain)
		}
		if fee, err = policy.ParseAmount(feeCap, coin.Decimals); err != nil {
			return nil, cli.Usagef("--fee-cap: %w", err)
		}
	}
	return &intent.Intent{Wallet: from, Chain: chain, Account: account.String(), Nonce: advice.Nonce, FeeCap: fee}, nil
}

func (c *client) advise(ctx context.Context, from, chain, asset string) (*pb.AdviseResponse, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	return c.api.Advise(ctx, &pb.AdviseRequest{Wallet: from, Chain: chain, Asset: asset})
}

func findAsset(c *charter.Charter, symbol, chain string) (charter.Asset, error) {
	if chain != "" {
		if _, ok := c.Chain(chain); !ok {
			var known []string
			for _, ch := range c.Chains {
				known = append(known, ch.Name)
			}
			return charter.Asset{}, didYouMean(cli.Usagef("--chain %q: the charter knows %s", chain, strings.Join(known, ", ")), chain, known)
		}
	}
	var found []charter.Asset
	for _, a := range c.Assets {
		if a.Symbol == symbol && (chain == "" || a.Chain == chain) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		var known, symbols []string
		for _, a := range c.Assets {
			known, symbols = append(known, a.Symbol+" on "+a.Chain), append(symbols, a.Symbol)
		}
		return charter.Asset{}, didYouMean(cli.Usagef("asset %q: the charter knows %s", symbol, strings.Join(known, ", ")), symbol, symbols)
	}
	return charter.Asset{}, cli.Usagef("asset %q is on several chains: give --chain", symbol)
}

// submit signs an intent and hands it in.
func (o *options) submit(cmd *cobra.Command, ctx context.Context, c *client, i *intent.Intent, w *waiting) error {
	if w.ref == "" {
		return cli.Usagef("--ref is missing: your reference for this request, such as INV-7")
	}
	if w.expires <= 0 {
		return cli.Usagef("--expires %s: a request must be good for some time, such as 24h", w.expires)
	}
	key, err := o.signerOf(c.charter)
	if err != nil {
		return err
	}
	signed, err := c.finish(i, o.as, w, key)
	if err != nil {
		return err
	}
	reply, err := c.submit(cmd, ctx, signed, w.anyway)
	if status.Code(err) == codes.Aborted && i.Kind == intent.Transfer {
		// Not signed again here with the next nonce: a coordinator that says so falsely
		// would collect several signed intents for one payment.
		return cli.Hint(err, "another request came first: run the command again, with the same --ref")
	}
	if err != nil {
		return err
	}
	s, err := c.open(reply.Intent)
	if err != nil {
		return err
	}
	switch {
	case !reply.Existed && s.id != i.Digest():
		return errors.New("the coordinator answered with another intent than the one sent: do not trust it")
	case reply.Existed && (s.intent.Initiator != i.Initiator || s.intent.Reference != i.Reference || !intent.SameRequest(i, s.intent)):
		return fmt.Errorf("the coordinator answered that reference %s was used before, and shows another request: do not trust it", i.Reference)
	case reply.Existed && s.id != i.Digest():
		fmt.Fprintf(cmd.ErrOrStderr(), "reference %s was used before for the same request: this is the first one, nothing new was asked for\n", i.Reference)
	}
	if !w.wait {
		if o.json {
			return o.print(cmd, s)
		}
		fmt.Fprintln(cmd.OutOrStdout(), s.id)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s; follow it with coffer show %s\n", s.view.Detail, s.id.String()[:12])
		return nil
	}
	return o.wait(cmd, ctx, c, s.id.String(), w.timeout)
}

// submitWithin is for how long a connection that breaks while an intent is handed in
// is tried again.
const submitWithin = 30 * time.Second

// submit hands a signed intent in, over again when the connection breaks: the very
// same bytes, which the coordinator knows again by their reference, however often it
// got them.
func (c *client) submit(cmd *cobra.Command, ctx context.Context, signed intent.Signed, anyway bool) (*pb.SubmitResponse, error) {
	ask, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	for try := 0; ; try++ {
		reply, err := c.api.Submit(ask, &pb.SubmitRequest{Intent: signed.ToProto(), Anyway: anyway})
		if !lost(err) {
			return reply, err
		}
		if try == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "the connection broke; handing the same request in again, for %s at most\n", submitWithin)
		}
		if !c.pause(ask) {
			return nil, err
		}
	}
}

// finish fills in what every intent has, asks the rules, and signs it. What they deny
// is not handed in.
func (c *client) finish(i *intent.Intent, as string, w *waiting, key credential.Signer) (intent.Signed, error) {
	now := time.Now()
	i.Cluster, i.Charter = c.charter.Cluster, c.charter.Digest()
	i.Initiator, i.Reference = as, w.ref
	// Valid from a little earlier: a signer whose clock is behind need not wait.
	i.NotBefore, i.Expires = now.Add(-skew).Unix(), now.Add(w.expires).Unix()
	if i.FeeCap == nil {
		i.FeeCap = new(big.Int)
	}
	if _, err := rand.Read(i.Salt[:]); err != nil {
		return intent.Signed{}, err
	}
	if err := i.Validate(); err != nil {
		return intent.Signed{}, cli.Usagef("%w", err)
	}
	signed, err := intent.Sign(i, key)
	if err != nil {
		return intent.Signed{}, err
	}
	// Found here, the error names the key; found by the coordinator, it names only a signature.
	if _, _, err := signed.Open(c.charter); err != nil {
		return intent.Signed{}, err
	}
	decision := c.decide(i)
	if decision.Outcome == policy.Deny && !w.anyway {
		var texts []string
		for _, r := range decision.Reasons {
			texts = append(texts, r.Text)
		}
		return intent.Signed{}, cli.Hint(cli.Refusedf("the rules deny it: %s", strings.Join(texts, "; ")), "the signers would refuse it too; --anyway sends it to them nevertheless")
	}
	return signed, nil
}

func over(s pb.Stage) bool {
	return s == pb.Stage_STAGE_DONE || s == pb.Stage_STAGE_REFUSED || s == pb.Stage_STAGE_FAILED
}

// outcome is the error, with its exit code, of an intent that did not end well.
func outcome(v *pb.IntentView) error {
	switch v.Stage {
	case pb.Stage_STAGE_REFUSED:
		return cli.Refusedf("%s", v.Detail)
	case pb.Stage_STAGE_FAILED:
		if v.FailureCode == "REJECTED" || v.FailureCode == "CANCELLED" {
			return cli.Refusedf("%s", v.Detail)
		}
		return errors.New(v.Detail)
	default:
		return nil
	}
}

func cancelCommand(o *options) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use:   "cancel INTENT --ref REFERENCE",
		Short: "Ask for a transaction that takes the place of a payment that hangs, and moves nothing",
		Args:  cobra.ExactArgs(1),

		ValidArgsFunction: o.completeIntents(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				s, err := c.get(ctx, args[0])
				if err != nil {
					return err
				}
				if s.intent.Kind != intent.Transfer {
					return fmt.Errorf("intent %s is no payment: only payments are cancelled; use coffer reject", s.id.Short())
				}
				if s.view.Stage == pb.Stage_STAGE_DONE {
					return cli.Refusedf("intent %s is %s: it cannot be cancelled any more", s.id.Short(), s.view.Detail)
				}
				old := s.intent
				coin, ok := c.charter.NativeAsset(old.Chain)
				if !ok {
					return fmt.Errorf("the charter names no coin of chain %q to pay fees with", old.Chain)
				}
				i, err := o.payment(ctx, c, old.Wallet, old.Chain, coin.Symbol, "")
				if err != nil {
					return err
				}
				i.Kind, i.Cancel = intent.Cancel, &intent.CancelBody{Subject: s.id}
				// The same account and nonce: of the two, at most one can be mined.
				i.Account, i.Nonce, i.Path = old.Account, old.Nonce, old.Path
				return o.submit(cmd, ctx, c, i, &w)
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func walletCommand(o *options) *cobra.Command {
	cmd := cli.Group("wallet", "Wallets: create, list, show")
	var w waiting
	create := &cobra.Command{
		Use:   "create NAME --ref REFERENCE",
		Short: "Ask for a new wallet: the signers generate its key together, and nobody holds it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				i := &intent.Intent{Kind: intent.CreateWallet, Wallet: args[0], CreateWallet: &intent.CreateWalletBody{
					Quorum: c.charter.Quorum, Signers: c.charter.Parties(),
				}}
				return o.submit(cmd, ctx, c, i, &w)
			})
		},
	}
	w.flags(create)
	list := &cobra.Command{
		Use:   "list",
		Short: "List the wallets whose records all signers signed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error { return o.printWallets(cmd, ctx, c, "") })
		},
	}
	show := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one wallet with its address, derived here from the signed record",
		Args:  cobra.ExactArgs(1),

		ValidArgsFunction: positions(o.wallets),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error { return o.printWallets(cmd, ctx, c, args[0]) })
		},
	}
	cmd.AddCommand(create, list, show)
	return cmd
}
