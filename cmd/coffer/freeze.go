package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
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
	"coffer/internal/nearest"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// freezeWithin is how long a freeze waits for receipts, unless --timeout says otherwise.
const freezeWithin = 30 * time.Second

// restWithin is how long the receipts of the other signers are waited for once a freeze
// is effective: one that is a moment late is nobody to call.
const restWithin = time.Second

// askAgain is how long somebody who was asked is left alone.
const askAgain = 300 * time.Millisecond

func freezeCommand(o *options) *cobra.Command {
	var wallet, person, reason string
	var anyway bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "freeze --reason TEXT",
		Short: "Stop all signatures of the cluster, of a wallet, or of what a person asked for or approves",
		Long: `freeze signs the order with your key and sends it to the coordinator and to every signer's own
endpoint at the same time. Any enrolled person may give it; only the admin rule lifts it, with
coffer unfreeze. It is effective when so many signers have it on their disks that the others cannot
sign without one of them, and freeze says so only when it holds their signed receipts. Until then
it exits with 4 and says who has it and who has not: run it again, or call the operators, who have
coffer-signer freeze.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			scope, name := authority.ScopeCluster, ""
			switch {
			case wallet != "" && person != "":
				return cli.Usagef("give --wallet or --person, not both; neither freezes the whole cluster")
			case wallet != "":
				scope, name = authority.ScopeWallet, wallet
			case person != "":
				scope, name = authority.ScopePerson, person
			}
			if reason == "" {
				return cli.Usagef("--reason is missing: what happened, for whoever has to lift it")
			}
			return o.freeze(cmd, scope, name, cli.ASCII(reason, authority.MaxReason), anyway, timeout)
		},
	}
	cmd.Flags().StringVar(&wallet, "wallet", "", "only this wallet")
	cmd.Flags().StringVar(&person, "person", "", "only what this person asked for, and this person's approvals")
	cmd.Flags().StringVar(&reason, "reason", "", "what happened (required)")
	cmd.Flags().BoolVar(&anyway, "anyway", false, "also a wallet or person of whom nothing is known here")
	cmd.Flags().DurationVar(&timeout, "timeout", freezeWithin, "how long to wait for the signers' receipts")
	complete(cmd, "wallet", o.wallets)
	complete(cmd, "person", o.names)
	return cmd
}

func (o *options) freeze(cmd *cobra.Command, scope, name, reason string, anyway bool, timeout time.Duration) (err error) {
	defer func() { o.endPage(err) }()
	h, err := o.openPresent()
	if err != nil {
		return err
	}
	talk := cmd.ErrOrStderr()
	answered := o.hurry(cmd.Context(), h, talk)
	if !anyway {
		if err := o.exists(cmd.Context(), h, scope, name, answered, talk); err != nil {
			return err
		}
	}
	f := &authority.Freeze{Cluster: h.inForce().Cluster, Scope: scope, Name: name, Reason: reason, By: o.as, Time: unixNow()}
	if _, err := rand.Read(f.Nonce[:]); err != nil {
		return err
	}
	if err := f.Validate(); err != nil {
		return cli.Usagef("%w", err)
	}
	key, err := o.signerOf(h.inForce())
	if err != nil {
		return err
	}
	v := view{Title: "freeze " + f.What(), Lines: []intent.Line{{Label: "freezes", Value: f.What()}, {Label: "reason", Value: cli.Clean(reason)}}, ID: f.ID(), Given: true}
	if _, err := o.consent(cmd.Context(), cmd, key, v, string(approval.Freeze)); err != nil {
		return err
	}
	signed, err := o.statement(h, key, approval.Freeze, f.ID(), approval.MaxLifetime*time.Second, 0)
	if err != nil {
		return err
	}
	record := authority.Record{Kind: authority.KindFreeze, Raw: f.Encode(), Statements: []approval.Signed{signed}}
	if _, err := h.ledger.Add(record, unixNow()); err != nil {
		if answered {
			return &cli.ExitError{Code: cli.Refused, Err: err}
		}
		// Who may freeze is what the signers know, and this folder may be old.
		fmt.Fprintf(talk, "WARNING: by the charter as it is known here the signers would refuse it: %s; it is sent all the same\n", cli.Text(err))
	}
	h.events = nil // that it is frozen is said below
	h.keep(talk)
	return o.awaitFreeze(cmd, h, record, f, timeout)
}

// exists refuses what is probably a slip of the pen: a freeze of nothing looks like
// safety. Where nobody answered it is let through.
func (o *options) exists(ctx context.Context, h *home, scope, name string, answered bool, talk io.Writer) error {
	var known []string
	switch scope {
	case authority.ScopePerson:
		for _, p := range h.inForce().People {
			known = append(known, p.Name)
		}
		for _, s := range h.inForce().Services {
			known = append(known, s.Name)
		}
	case authority.ScopeWallet:
		c, err := o.connect(h)
		if err != nil {
			answered = false
			break
		}
		defer c.conn.Close()
		ctx, cancel := context.WithTimeout(ctx, hurryWithin)
		defer cancel()
		all, err := c.wallets(ctx)
		answered = answered && err == nil
		known = slices.Sorted(maps.Keys(all))
	default:
		return nil
	}
	switch {
	case slices.Contains(known, name):
		return nil
	case !answered:
		fmt.Fprintf(talk, "WARNING: nobody says whether there is a %s %q: look at the name again\n", scope, name)
		return nil
	}
	hint := fmt.Sprintf("there are %s; --anyway freezes it all the same, and without --%s the whole cluster is frozen", strings.Join(known, ", "), scope)
	if near := nearest.Word(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? ", near) + hint
	}
	return cli.Hint(cli.Usagef("--%s %q: there is none of that name, and nothing was frozen", scope, name), "%s", hint)
}

// freezeWords say what is frozen, by whom, when and why.
func freezeWords(f authority.Held) string {
	return fmt.Sprintf("%s by %s, %s: %s (%s)", f.Freeze.What(), f.Freeze.By, stamp(f.Freeze.Time), cli.Clean(f.Freeze.Reason), f.ID.Short())
}

// freezeReport is the JSON form of what a freeze came to.
type freezeReport struct {
	ID        string            `json:"id"`
	Scope     string            `json:"scope"`
	Name      string            `json:"name,omitempty"`
	Reason    string            `json:"reason"`
	Effective bool              `json:"effective"`
	OnDisk    []string          `json:"on_disk"`           // signers whose receipts verify
	Without   map[string]string `json:"without,omitempty"` // the other signers, and why
	Record    string            `json:"record"`
}

func (o *options) awaitFreeze(cmd *cobra.Command, h *home, record authority.Record, f *authority.Freeze, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	id := f.ID()
	said := map[string]bool{}
	var s *spread
	var effective time.Time
	for again := true; again; {
		under, of := h.under(), h.inForce().Quorum.Of
		s = o.newSpread(h, record, cmd.ErrOrStderr(), true)
		s.run(ctx, func() bool {
			held := h.held(id)
			for _, signer := range held.Receipts {
				if !said[string(signer)] {
					said[string(signer)] = true
					s.say("signer %s has it on disk\n", signer)
				}
			}
			if held.Effective && effective.IsZero() {
				effective = time.Now()
			}
			return len(held.Receipts) == of || held.Effective && time.Since(effective) > restWithin || h.under() != under
		})
		// A newer version may name other signers, at other places, and know who froze.
		if again = h.under() != under && ctx.Err() == nil && !h.held(id).Effective; again {
			h.mu.Lock()
			_, _ = h.ledger.Add(record, unixNow()) // if it is refused again, so say the signers
			h.mu.Unlock()
		}
	}
	held := h.held(id)
	h.keep(cmd.ErrOrStderr())
	report := freezeReport{
		ID: id.String(), Scope: f.Scope, Name: f.Name, Reason: f.Reason, Effective: held.Effective, OnDisk: []string{}, Without: map[string]string{},
		Record: cmp.Or(h.line(id), record.Line()),
	}
	for _, signer := range held.Receipts {
		report.OnDisk = append(report.OnDisk, string(signer))
	}
	for _, signer := range h.inForce().Signers {
		if !slices.Contains(held.Receipts, signer.Name) {
			report.Without[string(signer.Name)] = s.why(string(signer.Name))
		}
	}
	if o.json {
		if err := cli.JSON(cmd, report); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(cmd.OutOrStdout(), id)
	}
	q := h.inForce().Quorum
	need := q.Of - q.Need + 1
	for _, signer := range slices.Sorted(maps.Keys(report.Without)) {
		fmt.Fprintf(cmd.ErrOrStderr(), "no receipt of signer %s: %s\n", signer, report.Without[signer])
	}
	if held.Effective {
		fmt.Fprintf(cmd.ErrOrStderr(), "effective: the freeze of %s is on disk at %s; lift it with coffer unfreeze %s\n", f.What(), strings.Join(report.OnDisk, ", "), id.String()[:12])
		return nil
	}
	on := "no signer"
	if len(report.OnDisk) > 0 {
		on = strings.Join(report.OnDisk, ", ")
	}
	err := fmt.Errorf("NOT known to be effective: %s acknowledged it, and the others can sign as long as fewer than %d have it", on, need)
	return cli.Hint(&cli.ExitError{Code: cli.Waiting, Err: err},
		"call the operators of the others, who run coffer-signer freeze; coffer freeze again makes another one, coffer status shows how far this one has come")
}

// under is the version of the charter in force, while talks go on.
func (h *home) under() canon.Digest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inForce().Digest()
}

// held is a freeze as the ledger has it.
func (h *home) held(id canon.Digest) authority.Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.ledger.Freezes() {
		if f.ID == id {
			return f
		}
	}
	return authority.Held{}
}

func (h *home) line(id canon.Digest) string {
	for _, r := range h.ledger.Records() {
		if r.ID() == id {
			return r.Line()
		}
	}
	return ""
}

// spread carries an order to everybody who may take it: the coordinator and every
// signer's own endpoint. None of them can keep it from the others.
type spread struct {
	h      *home
	record authority.Record
	talk   io.Writer
	to     []target
	desk   bool // the coordinator has it by another way

	mu      sync.Mutex
	outcome map[string]string // by name: why it has not taken it yet; "" when it has
}

type target struct {
	place
	coordinator bool
}

func (o *options) newSpread(h *home, r authority.Record, talk io.Writer, desk bool) *spread {
	s := &spread{h: h, record: r, talk: talk, outcome: map[string]string{}}
	if desk {
		if c, err := o.connect(h); err == nil {
			s.to = append(s.to, target{place{c.name, c.peer, c.addr}, true})
			_ = c.conn.Close()
		} else {
			fmt.Fprintf(talk, "no coordinator to send it to: %s\n", cli.Text(err))
		}
	}
	places, without := h.endpoints()
	for _, p := range places {
		s.to = append(s.to, target{p, false})
	}
	for _, name := range without {
		s.outcome[name] = "it has no endpoint of its own that is known here (--signer " + name + "=HOST:PORT names one)"
	}
	return s
}

// refusedIt begins the outcome of whoever will not take it later either.
const refusedIt = "it refused it: "

// why says why a signer has not acknowledged.
func (s *spread) why(signer string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.outcome[signer]; text != "" {
		return text
	}
	return "it was not heard in time"
}

// taken are the targets that took the record.
func (s *spread) taken() (coordinator bool, signers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	coordinator = s.desk
	for _, t := range s.to {
		text, asked := s.outcome[t.key()]
		switch {
		case !asked || text != "":
		case t.coordinator:
			coordinator = true
		default:
			signers = append(signers, t.name)
		}
	}
	return coordinator, signers
}

func (t target) key() string {
	if t.coordinator {
		return "coordinator " + t.name
	}
	return t.name
}

// run hands the record to all at the same time, over and over, until done or the end of
// ctx. It comes back sooner when everybody has it and nobody was asked to wait for more.
func (s *spread) run(ctx context.Context, done func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for _, t := range s.to {
		wg.Go(func() { s.carry(ctx, t, news) })
	}
	start, slow := time.Now(), time.NewTicker(2*time.Second)
	defer slow.Stop()
	for !done() {
		select {
		case <-news:
			continue
		case <-slow.C:
			s.say("waiting for receipts, %s so far\n", time.Since(start).Round(time.Second))
			continue
		case <-ctx.Done():
		}
		break
	}
	cancel()
	wg.Wait()
}

// carry hands the record to one of them until ctx ends: what the others receipted comes
// back with the answers.
func (s *spread) carry(ctx context.Context, t target, news chan<- struct{}) {
	note := func(text string) {
		s.mu.Lock()
		s.outcome[t.key()] = text
		s.mu.Unlock()
		select {
		case news <- struct{}{}:
		default:
		}
	}
	conn, err := rpc.DialAnonymous(t.peer, t.addr)
	if err != nil {
		note(err.Error())
		return
	}
	defer conn.Close()
	who, peer := "signer "+t.name, exchanger(pb.NewOrdersClient(conn))
	if t.coordinator {
		who, peer = "the coordinator", pb.NewCoordinatorClient(conn)
	}
	hand := []authority.Record{s.record}
	lies := map[string]bool{}
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, endpointWithin)
		got, err := s.h.talk(ask, who, peer, hand)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			if final(err) {
				note(refusedIt + cli.Text(err))
				return
			}
			note(cli.Text(err))
			conn.ResetConnectBackoff()
		case err == nil:
			for _, text := range got.lies {
				if !lies[text] {
					lies[text] = true
					s.say("WARNING: %s hands out what does not verify, and it is not taken: %s\n", who, cli.Clean(text))
				}
			}
			if r := got.refused[s.record.ID()]; r != nil {
				note(refusedIt + r.Code + ": " + r.Text)
			} else {
				note("")
				hand = nil // from now on only the receipts are asked for
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// final says whether asking again will not help.
func final(err error) bool {
	switch status.Code(err) {
	case codes.Unimplemented, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated:
		return true
	default:
		return false
	}
}

func (s *spread) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.talk, format, args...)
}

func unfreezeCommand(o *options) *cobra.Command {
	var all bool
	var reason string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "unfreeze [ID...] --reason TEXT",
		Short: "Ask the admins to lift freezes, and sign it as the first",
		Long: `unfreeze makes an order that lifts the freezes with the IDs given, and no other: a freeze that
comes later stays. It takes force when the admins' signatures meet the admin rule (coffer approve),
and can be carried to signers without the coordinator: coffer show ID --json has it as one line,
which an operator takes with coffer-signer unfreeze.`,
		ValidArgsFunction: o.completeFreezes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return cli.Hint(cli.Usagef("name the freezes to lift by their IDs, or give --all"), "coffer status lists them")
			}
			if reason == "" {
				return cli.Usagef("--reason is missing: why it is safe now")
			}
			reason = cli.ASCII(reason, authority.MaxReason)
			if expires <= 0 || expires > approval.MaxLifetime*time.Second {
				return cli.Usagef("--expires %s: more than nothing, and at most 720h", expires)
			}
			return o.with(cmd, func(ctx context.Context, c *client) error {
				return o.unfreeze(cmd, ctx, c, args, reason, expires)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every freeze that is known now")
	cmd.Flags().StringVar(&reason, "reason", "", "why it is safe now (required)")
	cmd.Flags().DurationVar(&expires, "expires", lifetime, "for how long admins may sign it")
	return cmd
}

func (o *options) unfreeze(cmd *cobra.Command, ctx context.Context, c *client, args []string, reason string, expires time.Duration) error {
	h := c.home
	freezes := h.ledger.Freezes()
	var ids []canon.Digest
	for _, word := range args {
		var found []canon.Digest
		for _, f := range freezes {
			if likeID.MatchString(word) && strings.HasPrefix(f.ID.String(), strings.ToLower(word)) {
				found = append(found, f.ID)
			}
		}
		if len(found) != 1 {
			return cli.Hint(fmt.Errorf("%d freezes in force have an ID that begins with %q", len(found), word), "coffer status lists them")
		}
		ids = append(ids, found[0])
	}
	if len(args) == 0 {
		for _, f := range freezes {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return errors.New("nothing is frozen, as far as is known here")
	}
	if len(ids) > authority.MaxLifted {
		return cli.Usagef("%d freezes are in force, one order lifts at most %d: name some", len(ids), authority.MaxLifted)
	}
	now := unixNow()
	u := &authority.Unfreeze{
		Cluster: h.inForce().Cluster, Charter: h.inForce().Digest(), Freezes: authority.SortDigests(ids),
		Reason: reason, Time: now, Expires: now + int64(expires.Seconds()),
	}
	if _, err := rand.Read(u.Nonce[:]); err != nil {
		return err
	}
	if err := u.Validate(); err != nil {
		return cli.Usagef("%w", err)
	}
	a, err := h.decode(authority.Record{Kind: authority.KindUnfreeze, Raw: u.Encode()})
	if err != nil {
		return err
	}
	return o.propose(cmd, ctx, c, a, true)
}

// propose signs a record as its first, and hands it in.
func (o *options) propose(cmd *cobra.Command, ctx context.Context, c *client, a *act, given bool) error {
	key, err := o.signerOf(c.charter)
	if err != nil {
		return err
	}
	p, ok := c.home.person(o.as)
	if !ok {
		return cli.Refusedf("the charter lists no person %q", o.as)
	}
	if !slices.Contains(p.Groups, a.decides.Group) {
		return cli.Refusedf("%s is decided by %s, and %q is not in that group", a.title, a.decides, o.as)
	}
	if err := c.home.torn(a, o.as); err != nil {
		return err
	}
	v := view{Title: "propose " + a.title, Lines: c.home.actLines(a, ""), ID: a.id, Given: given}
	if _, err := o.consent(ctx, cmd, key, v, "propose"); err != nil {
		return err
	}
	return o.signAndHandIn(cmd, ctx, c, key, a, proposed, approval.Approve)
}

// signAndHandIn is the end of everything that people decide about records.
func (o *options) signAndHandIn(cmd *cobra.Command, ctx context.Context, c *client, key credential.Signer, a *act, verb string, kind approval.Kind) error {
	until := int64(0)
	if u, err := authority.ParseUnfreeze(a.Raw); err == nil && a.Kind == authority.KindUnfreeze {
		until = u.Expires
	}
	a, err := o.sign(c.home, key, a, kind, until)
	if err != nil {
		return err
	}
	if a, err = c.handIn(ctx, a, cmd.ErrOrStderr()); err != nil {
		return err
	}
	return c.home.printSigned(cmd, verb, a)
}
