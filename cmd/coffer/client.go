package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/internal/nearest"
	"coffer/passkey"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/wallet"
)

// options are the flags that every command has.
type options struct {
	home, as, key, addr string
	signers             []string
	passkey, json       bool
	page                *passkey.Signer       // that this command opened
	quiet               bool                  // the shell has the screen: ask nobody anything
	opened              credential.Signer     // once signer has opened it
	granting            atomic.Pointer[error] // why there is no grant, if there is none; calls run side by side
}

func (o *options) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	home := os.Getenv("COFFER_HOME")
	if home == "" {
		if dir, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(dir, ".coffer")
		}
	}
	f.StringVar(&o.home, "home", home, "folder with the pinned charter and what followed it (COFFER_HOME)")
	f.StringVar(&o.as, "as", os.Getenv("COFFER_AS"), "your name in the charter (COFFER_AS)")
	f.StringVar(&o.key, "key", os.Getenv("COFFER_KEY"), "your SSH key: a private key file, or a .pub file for ssh-agent (COFFER_KEY)")
	f.BoolVar(&o.passkey, "passkey", o.key == passkeyWord, "sign with a passkey, on a page in your browser (COFFER_KEY=passkey)")
	complete(root, "as", o.names)
	f.StringVar(&o.addr, "addr", os.Getenv("COFFER_ADDR"), "host:port of the coordinator, if not the charter's (COFFER_ADDR)")
	f.StringArrayVar(&o.signers, "signer", nil, "NAME=HOST:PORT of a signer's own endpoint, if not the one that it announced; may be given several times")
	cli.JSONFlag(root, &o.json)
}

// signer opens the user's key.
func (o *options) signer() (credential.Signer, error) {
	if o.as == "" {
		return nil, cli.Usagef("--as is missing: your name in the charter")
	}
	if o.passkey {
		return nil, cli.Usagef("this command does not sign with a passkey; name another key with --key, and --passkey=false if COFFER_KEY says passkey")
	}
	if o.key == "" {
		return nil, cli.Usagef("--key is missing: your SSH key, a private key file or a .pub file for ssh-agent; or --passkey")
	}
	if o.opened != nil {
		return o.opened, nil // a passphrase is asked for once, for a grant and what follows it
	}
	ask := func(prompt string) ([]byte, error) { return cli.Prompt(strings.TrimSuffix(prompt, ": "), false) }
	if o.quiet {
		ask = nil
	}
	key, err := credential.Open(o.key, ask)
	if err != nil {
		return nil, cli.Hint(err, "--key or COFFER_KEY names a private key file of yours, or a .pub file whose private half is in ssh-agent")
	}
	o.opened = credential.Announced(key, os.Stderr)
	return o.opened, nil
}

// client is a connection to a coordinator, and the authority that it is judged by.
type client struct {
	home    *home
	charter *charter.Charter // in force
	conn    *grpc.ClientConn
	api     pb.CoordinatorClient
	name    string // the coordinator's in the charter
	peer    identity.ID
	addr    string
}

// dial connects to the coordinator, once the home knows what the cluster's authority
// has come to. A version that this brought may name another coordinator.
func (o *options) dial(ctx context.Context, talk io.Writer) (*client, error) {
	h, err := o.openComplete(ctx)
	if err != nil {
		return nil, err
	}
	c, err := o.connect(h)
	if err != nil {
		return nil, err
	}
	if err := c.catchUp(ctx, talk); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	if now, ok := h.inForce().Coordinator(c.name); ok && now.Peer == c.peer {
		c.charter = h.inForce()
		return c, nil
	}
	if err := c.conn.Close(); err != nil {
		return nil, err
	}
	return o.connect(h)
}

// connect is a connection to the coordinator that --addr means, or to the charter's first.
func (o *options) connect(h *home) (*client, error) {
	c := h.inForce()
	if len(c.Coordinators) == 0 {
		return nil, errors.New("the charter lists no coordinator")
	}
	// With several coordinators, --addr says which one is meant; each has its own key.
	one := c.Coordinators[0]
	at, ok := h.address(one.Peer)
	addr := at.GRPC
	if o.addr != "" {
		for _, other := range c.Coordinators {
			if a, ok := h.address(other.Peer); ok && a.GRPC == o.addr {
				one = other
			}
		}
		addr, ok = o.addr, true
	}
	if !ok {
		return nil, cli.Usagef("no card has an address of coordinator %q: give --addr or COFFER_ADDR", one.Name)
	}
	conn, err := o.reach(c, one.Peer, addr)
	if err != nil {
		return nil, fmt.Errorf("coordinator %q at %s: %w", one.Name, addr, err)
	}
	return &client{home: h, charter: c, conn: conn, api: pb.NewCoordinatorClient(conn), name: one.Name, peer: one.Peer, addr: addr}, nil
}

// with runs f against the coordinator, with a deadline for single answers.
func (o *options) with(cmd *cobra.Command, f func(ctx context.Context, c *client) error) (err error) {
	defer func() { o.endPage(err) }()
	c, err := o.dial(cmd.Context(), cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return o.ungranted(c.explain(f(cmd.Context(), c)))
}

// withHome runs f with the newest that anybody who answers has; nobody need.
func (o *options) withHome(cmd *cobra.Command, f func(h *home) error) error {
	h, err := o.openComplete(cmd.Context())
	if err != nil {
		return err
	}
	if c, err := o.connect(h); err == nil {
		err := c.catchUp(cmd.Context(), cmd.ErrOrStderr())
		if err := errors.Join(err, c.conn.Close()); err != nil {
			return err
		}
	}
	return f(h)
}

// explain adds to what the coordinator, or nobody, answered what to do about it.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	text := status.Convert(err).Message()
	switch code := status.Code(err); {
	case strings.Contains(text, "handshake failed") && !strings.Contains(text, "deadline exceeded"):
		return cli.Hint(err, "what answers at %s has not the key of coordinator %q in your charter: look at --addr and COFFER_ADDR, and call its operator", c.addr, c.name)
	case lost(err):
		return cli.Hint(err, "nothing answers at %s: is the coordinator up? --addr or COFFER_ADDR names another address", c.addr)
	case code == codes.DeadlineExceeded:
		return cli.Hint(err, "the coordinator at %s took too long: run the same command again, nothing is asked for twice", c.addr)
	case code == codes.NotFound && strings.Contains(err.Error(), "no such intent"):
		return cli.Hint(err, "coffer pending and coffer history list the intents")
	case code == codes.AlreadyExists && strings.Contains(err.Error(), "reference"):
		return cli.Hint(err, "a reference stands for one request for ever; coffer history --ref shows which")
	case code == codes.Unavailable:
		return cli.Hint(err, "nothing was done: run the same command again in a while")
	}
	return err
}

// lost says whether a call failed because its connection did.
func lost(err error) bool {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unavailable {
		return false
	}
	for _, text := range []string{"connection error", "error reading from server", "connection closed", "transport is closing", "connection is draining", "connection reset"} {
		if strings.Contains(s.Message(), text) {
			return true
		}
	}
	return false
}

func brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 15*time.Second)
}

// wallets answers the wallet records that verify under the pinned charter; a
// record that does not is an error, never a shorter list.
func (c *client) wallets(ctx context.Context) (map[string]*wallet.Record, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	reply, err := c.api.Wallets(ctx, &pb.WalletsRequest{})
	if err != nil {
		return nil, err
	}
	out := map[string]*wallet.Record{}
	for _, record := range reply.Wallets {
		r, err := c.openWallet(record)
		if err != nil {
			return nil, err
		}
		if other, twice := out[r.Name]; twice && other.Digest() != r.Digest() {
			return nil, fmt.Errorf("the coordinator shows two records of wallet %q, both signed by all signers: pay nothing to it, and call the operators", r.Name)
		}
		out[r.Name] = r
	}
	return out, nil
}

func (c *client) decide(i *intent.Intent) policy.Decision {
	return approval.Weigh(c.under(c.charter), i, i.Digest(), nil).Decision
}

// mayEnd says why a no of as would not end an intent, and "" if it does.
func (c *client) mayEnd(s *shown, signed approval.Signed) string {
	for _, r := range approval.Weigh(s.under, s.intent, s.id, []approval.Signed{signed}).Refused {
		return r.Text
	}
	return ""
}

func (c *client) openWallet(record *pb.SignedRecord) (*wallet.Record, error) {
	signed, err := wallet.FromProto(record)
	if err != nil {
		return nil, fmt.Errorf("the coordinator shows a wallet record that cannot be read: %w", err)
	}
	r, err := signed.Open(c.home.ledger.Charter)
	if err != nil {
		return nil, fmt.Errorf("the coordinator shows a wallet record that does not verify, do not use its address: %w", err)
	}
	return r, nil
}

func (c *client) wallet(ctx context.Context, name string) (*wallet.Record, evm.Address, error) {
	all, err := c.wallets(ctx)
	if err != nil {
		return nil, evm.Address{}, err
	}
	r, ok := all[name]
	if !ok {
		return nil, evm.Address{}, noWallet(name, slices.Collect(maps.Keys(all)))
	}
	account, err := evm.AddressOf(r.PublicKey)
	return r, account, err
}

func noWallet(name string, known []string) error {
	slices.Sort(known)
	if len(known) == 0 {
		return cli.Hint(fmt.Errorf("there is no wallet %q, nor any other", name), "coffer wallet create NAME --ref REFERENCE asks for one")
	}
	return didYouMean(fmt.Errorf("there is no wallet %q (there are: %s)", name, strings.Join(known, ", ")), name, known)
}

// didYouMean adds the known word that was probably meant.
func didYouMean(err error, word string, known []string) error {
	if near := nearest.Word(word, known); near != "" {
		return cli.Hint(err, "did you mean %q?", near)
	}
	return err
}

// shown is an intent with what this program verified, decoded and counted itself.
// Of view only what nobody can sign is used: the stage and the sentences about it.
type shown struct {
	charter  *charter.Charter // in force
	made     *charter.Charter // the version that the intent names
	under    approval.Under
	id       canon.Digest
	intent   *intent.Intent
	lines    []intent.Line
	rules    []string // those that match, in words
	weighed  approval.Weighed
	frozen   []string // freezes that stop it
	verdicts []signerSays
	view     *pb.IntentView
	address  string // of the wallet that a ceremony made, derived here from its record
}

// open verifies what the coordinator shows of an intent: the initiator's signature
// under the version of the charter that the intent names, that the bytes are the ones
// with this ID, every signer's verdict, and that the transaction is the one that was
// asked for. One thing that does not verify condemns all of it: a coordinator that lies
// once is not asked twice.
func (c *client) open(view *pb.IntentView) (*shown, error) {
	if view.GetIntent() == nil {
		return nil, errors.New("the coordinator answered without an intent")
	}
	clean(view)
	signed := intent.Signed{Raw: view.Intent.Raw, Signature: view.Intent.Signature}
	i, _, made, err := signed.OpenUnder(c.home.ledger.Charter)
	if err != nil {
		return nil, fmt.Errorf("the coordinator shows an intent that does not verify, do not approve it: %w", err)
	}
	if id := i.Digest(); id.String() != view.Id {
		return nil, fmt.Errorf("the coordinator shows intent %s under the ID %s: do not trust it", id.Short(), view.Id)
	}
	s := &shown{charter: c.charter, made: made, under: c.under(made), id: i.Digest(), intent: i, lines: intent.Describe(i, made, c.home.ledger.Lists()), view: view}
	c.count(s)
	s.frozen = c.home.stops(i)
	if s.verdicts, err = c.verdicts(s); err != nil {
		return nil, err
	}
	return s, c.checkResult(s)
}

// stops are, in words, the freezes that keep signers from signing an intent now.
func (h *home) stops(i *intent.Intent) (out []string) {
	frozen := h.ledger.Frozen()
	ids := slices.Clone(frozen.Person(i.Initiator))
	if i.Kind != intent.Cancel { // which moves nothing and takes the place of what would
		ids = append(ids, frozen.Wallet(i.Wallet)...)
	}
	for _, f := range h.ledger.Freezes() {
		if slices.Contains(ids, f.ID) {
			out = append(out, freezeWords(f))
		}
	}
	return out
}

// under is what an intent is judged by here, as the signers judge it.
func (c *client) under(made *charter.Charter) approval.Under {
	return approval.Under{Force: c.charter, Made: made, Frozen: c.home.ledger.Frozen().People, Lists: c.home.ledger.Lists(), Now: unixNow()}
}

// count tallies the approvals and asks the rules, as the signers do.
func (c *client) count(s *shown) {
	var statements []approval.Signed
	for _, m := range s.view.Statements {
		statements = append(statements, approval.Signed{Raw: m.GetRaw(), Signature: m.GetSignature()})
	}
	// What signers were told without the coordinator counts too.
	statements = append(statements, c.home.ledger.Orders(s.id)...)
	s.weighed = approval.Weigh(s.under, s.intent, s.id, statements)
	for _, name := range s.weighed.Decision.Matched {
		if words := s.charter.RuleWords(name); words != "" {
			s.rules = append(s.rules, words)
		}
		if words := s.made.RuleWords(name); words != "" && words != s.charter.RuleWords(name) {
			s.rules = append(s.rules, words+fmt.Sprintf(" (version %d, under which it was made)", s.made.Version))
		}
	}
}

// checkResult verifies what the coordinator says came of an intent.
func (c *client) checkResult(s *shown) error {
	v := s.view
	bad := func(format string, args ...any) error {
		return fmt.Errorf("intent %s: the coordinator shows %s: do not trust it", s.id.Short(), fmt.Sprintf(format, args...))
	}
	if s.intent.Kind == intent.CreateWallet {
		if len(v.RawTx) > 0 || v.TxHash != "" {
			return bad("a transaction of a request that has none")
		}
		if v.Wallet == nil {
			if v.Stage == pb.Stage_STAGE_DONE {
				return bad("it as done, without the wallet's record")
			}
			return nil
		}
		r, err := c.openWallet(v.Wallet)
		if err != nil {
			return err
		}
		if r.Name != s.intent.Wallet {
			return bad("the record of wallet %q, asked for was %q", r.Name, s.intent.Wallet)
		}
		address, err := evm.AddressOf(r.PublicKey)
		s.address = address.String()
		return err
	}
	if len(v.RawTx) == 0 {
		if v.TxHash != "" || v.Block != 0 || len(v.Sent) > 0 || v.Stage == pb.Stage_STAGE_DONE || signedStage(v.Stage) {
			return bad("it as signed, without the transaction")
		}
		return nil
	}
	check := func(raw []byte, hash string) error {
		from, u, err := evm.Recover(raw)
		if err != nil {
			return bad("a transaction that cannot be read (%v)", err)
		}
		if from.String() != s.intent.Account {
			return bad("a transaction signed by %s, not by %s", from, s.intent.Account)
		}
		for _, m := range evm.Compare(s.intent, s.made, from, u) {
			return bad("a transaction that is not what was asked for: %s", m)
		}
		if got := evm.Hash(raw); fmt.Sprintf("0x%x", got) != hash {
			return bad("transaction 0x%x under the hash %s", got, hash)
		}
		return nil
	}
	for _, version := range v.Sent {
		if err := check(version.RawTx, version.TxHash); err != nil {
			return err
		}
	}
	return check(v.RawTx, v.TxHash)
}

// signedStage says that a transaction is signed, and on its way into the chain or in it.
func signedStage(s pb.Stage) bool {
	return s == pb.Stage_STAGE_BROADCAST || s == pb.Stage_STAGE_CONFIRMATION
}

// get answers the intent that word names: its ID, the beginning of it, or its reference.
func (c *client) get(ctx context.Context, word string) (*shown, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	id := word
	if !likeID.MatchString(word) {
		var err error
		if id, err = c.byReference(ctx, word); err != nil {
			return nil, err
		}
	}
	view, err := c.api.Get(ctx, &pb.GetRequest{Id: id})
	if status.Code(err) == codes.NotFound && id == word {
		// A reference may look like the beginning of an ID.
		if other, refErr := c.byReference(ctx, word); refErr == nil {
			id = other
			view, err = c.api.Get(ctx, &pb.GetRequest{Id: id})
		}
	}
	if err != nil {
		return nil, err
	}
	s, err := c.open(view)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(s.id.String(), strings.ToLower(id)) {
		return nil, fmt.Errorf("the coordinator answered intent %s when asked for %s", s.id.Short(), id)
	}
	return s, nil
}

var likeID = regexp.MustCompile(`^[0-9a-fA-F]{6,64}$`)

// byReference finds the ID of the one intent with a reference. References are unique
// for each initiator only: of two that are alike neither is guessed at.
func (c *client) byReference(ctx context.Context, reference string) (id string, err error) {
	reply, err := c.api.List(ctx, &pb.ListRequest{Reference: reference})
	if err != nil {
		return "", err
	}
	var pending, ended []string
	var texts []string
	for _, view := range reply.Intents {
		s, err := c.open(view)
		if err != nil {
			return "", err
		}
		if s.intent.Reference != reference {
			return "", fmt.Errorf("the coordinator answered reference %q when asked for %q: do not trust it", s.intent.Reference, reference)
		}
		texts = append(texts, s.id.String()[:12]+" of "+s.intent.Initiator)
		if over(s.view.Stage) {
			ended = append(ended, s.id.String())
		} else {
			pending = append(pending, s.id.String())
		}
	}
	switch {
	case len(pending) == 1:
		return pending[0], nil
	case len(pending) == 0 && len(ended) == 1:
		return ended[0], nil
	case len(texts) == 0:
		return "", cli.Hint(fmt.Errorf("there is no intent with the ID or reference %q", reference), "coffer pending lists those that wait, coffer history all")
	}
	return "", cli.Hint(fmt.Errorf("several intents have the reference %q: %s", reference, strings.Join(texts, ", ")), "name one by its ID")
}

func enrolCommand(o *options) *cobra.Command {
	var org string
	var service bool
	cmd := &cobra.Command{
		Use:   "enrol",
		Short: "Print your card, one line that proves that you hold your key, for whoever writes the charter",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if org == "" {
				return cli.Usagef("--org is missing: your organisation in the charter")
			}
			open := o.signer
			if o.passkey {
				if service {
					return cli.Usagef("a service has no hands to touch a passkey: give it an SSH key with --key")
				}
				defer func() { o.endPage(err) }()
				open = func() (credential.Signer, error) { return o.enrolPasskey(cmd, org) }
			}
			key, err := open()
			if err != nil {
				return err
			}
			make := charter.NewPersonCard
			if service {
				make = charter.NewServiceCard
			}
			card, err := make(key, o.as, org)
			if err != nil {
				return err
			}
			if o.json {
				return cli.JSON(cmd, map[string]string{"name": o.as, "card": card})
			}
			fmt.Fprintln(cmd.OutOrStdout(), card)
			return nil
		},
	}
	cmd.Flags().StringVar(&org, "org", "", "your organisation in the charter (required)")
	cmd.Flags().BoolVar(&service, "service", false, "the card is of a machine, which asks for payments and never approves")
	return cmd
}
