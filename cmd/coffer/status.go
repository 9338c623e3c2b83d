package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cli"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// signerRow is one signer of the charter, as its coordinator describes it: nothing of
// this is signed, except the wallets.
type signerRow struct {
	Signer      string   `json:"signer"`
	Ready       bool     `json:"ready"` // reachable, unsealed, under the charter that is pinned here
	Reachable   bool     `json:"reachable"`
	Sealed      bool     `json:"sealed"`
	Error       string   `json:"error,omitempty"`
	Wallets     []string `json:"wallets"` // whose records verify here
	ConnectedTo []string `json:"connected_to"`
	Primes      uint32   `json:"pre_parameters"`
	RoundTripUS int64    `json:"round_trip_us"`
	ClockMS     int64    `json:"clock_ahead_ms"`
	Failures    uint32   `json:"failures"`
	Version     string   `json:"version,omitempty"`
	Head        *headRow `json:"head,omitempty"` // signed by the signer itself
	Fresh       bool     `json:"fresh"`          // by its own word it may sign: enough others stand where it stands
	Next        string   `json:"next,omitempty"` // the version of the charter that waits there
	Endpoint    string   `json:"endpoint"`       // what became of asking its own endpoint
}

// headRow is where a signer stands, under its own signature.
type headRow struct {
	Charter uint64   `json:"charter_version"`
	Time    int64    `json:"time"`              // Unix seconds, by its own clock
	Differs []string `json:"differs,omitempty"` // from what is known here
	AuditAt uint64   `json:"audit_size"`
	Direct  bool     `json:"direct"` // heard from the signer, not through the coordinator
	head    authority.Head
}

// headRow compares a signer's head with the home's own ledger.
func (h *home) headRow(head authority.Head, direct bool) *headRow {
	own := h.ledger.Head(head.Signer, 0, canon.Digest{}, 0)
	r := &headRow{Charter: head.Version, Time: head.Time, AuditAt: head.AuditSize, Direct: direct, head: head}
	if head.Charter != own.Charter {
		r.Differs = append(r.Differs, fmt.Sprintf("charter: version %d in force there, version %d here", head.Version, own.Version))
	}
	if head.Freezes != own.Freezes {
		r.Differs = append(r.Differs, "freezes")
	}
	if head.Lists != own.Lists {
		r.Differs = append(r.Differs, "lists")
	}
	return r
}

// words are the state in one line.
func (r signerRow) words() string {
	text := "ready"
	switch {
	case !r.Reachable:
		return "AWAY: " + r.Error + r.stands()
	case r.Error != "":
		text = "NOT READY: " + r.Error
	case r.Sealed:
		text = "SEALED: its operator must unseal it"
	}
	if r.RoundTripUS > 0 {
		text += fmt.Sprintf("; answers in %s", time.Duration(r.RoundTripUS*1000).Round(100*time.Microsecond))
	}
	peers := strings.Join(r.ConnectedTo, ", ")
	if peers == "" {
		peers = "nobody"
	}
	text += fmt.Sprintf("; connected to %s; %d wallet(s)", peers, len(r.Wallets))
	if r.Failures > 0 {
		text += fmt.Sprintf("; %d recent failures", r.Failures)
	}
	return text + r.stands()
}

// stands is where it stands, by its own signature.
func (r signerRow) stands() (text string) {
	switch {
	case r.Head == nil:
		text = "; no head of it"
	case len(r.Head.Differs) > 0:
		text = "; its head DIFFERS: " + strings.Join(r.Head.Differs, ", ")
	default:
		text = fmt.Sprintf("; charter version %d, same freezes and lists", r.Head.Charter)
	}
	if r.Head != nil && time.Since(time.Unix(r.Head.Time, 0)) > stale {
		text += " (said " + relative(time.Now(), r.Head.Time) + ")"
	}
	if r.Reachable && !r.Fresh {
		text += "; NOT FRESH: too few others stand where it stands, it signs nothing"
	}
	if r.Next != "" {
		text += "; " + r.Next
	}
	return text + "; " + r.Endpoint
}

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the cluster as the coordinator describes it, and whether enough signers are ready",
		Long: `status compares what the coordinator says of each signer with the charter in force: names,
identities, the records of wallets, which carry every signer's signature, and the signers' own signed
heads, which say which charter, freezes and lists each has. Signers whose own endpoint is known are
asked themselves too. Whether a signer is up and ready is the coordinator's word alone. The exit
code is 0 if enough signers are ready for a payment and nothing is frozen for the whole cluster, and
1 if not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error { return o.status(cmd, ctx, c) })
		},
	}
}

func (o *options) status(cmd *cobra.Command, ctx context.Context, c *client) error {
	h := c.home
	start := time.Now()
	ask, cancel := brief(ctx)
	defer cancel()
	reply, err := c.api.Cluster(ask, &pb.ClusterRequest{})
	if err != nil {
		o.statusAway(cmd, ctx, h)
		return err
	}
	took := time.Since(start)
	h.learnFrom(reply)
	direct := h.askSigners(ctx)
	for _, a := range direct {
		if a.err == nil {
			warn(a.heard, cmd.ErrOrStderr())
		}
	}
	h.announce(cmd.ErrOrStderr())
	if err := h.save(); err != nil {
		return err
	}
	c.charter = h.inForce()
	rows, err := c.signerRows(reply)
	if err != nil {
		return err
	}
	h.endpointsOf(rows, direct)
	for _, text := range h.contradictions(rows) {
		fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: "+text)
	}
	acts, err := h.waiting()
	if err != nil {
		return err
	}
	ready := 0
	for _, r := range rows {
		if r.Ready {
			ready++
		}
	}
	need := c.charter.Quorum.Need
	freezes := h.ledger.Freezes()
	if o.json {
		err = cli.JSON(cmd, map[string]any{
			"charter": c.charter.Name, "version": c.charter.Version, "digest": c.charter.Digest(), "coordinator": c.name, "address": c.addr,
			"ready": ready, "need": need, "of": c.charter.Quorum.Of, "signers": rows, "freezes": h.freezeRows(freezes), "waiting": h.reports(acts),
		})
	} else {
		w := cmd.OutOrStdout()
		line(w, "charter", "%s, version %d, %s", c.charter.Name, c.charter.Version, c.charter.Digest())
		line(w, "coordinator", "%s at %s, answers in %s", c.name, c.addr, took.Round(time.Millisecond))
		h.printStanding(w, freezes, acts)
		for _, r := range rows {
			line(w, "signer "+r.Signer, "%s", r.words())
		}
		line(w, "quorum", "%d of %d ready, %d needed", ready, len(rows), need)
	}
	switch {
	case err != nil:
	case ready < need:
		err = cli.Hint(fmt.Errorf("%d signers are ready, a payment needs %d", ready, need), "call the operators of the signers that are not; pending requests go on by themselves")
	case len(h.ledger.Frozen().Cluster) > 0:
		err = cli.Hint(errors.New("the whole cluster is frozen: nothing is signed"), "coffer unfreeze, by the admin rule, lifts it once it is safe")
	}
	return err
}

// statusAway shows what is known without the coordinator: what stands here, and where
// each signer says that it stands.
func (o *options) statusAway(cmd *cobra.Command, ctx context.Context, h *home) {
	direct := h.askSigners(ctx)
	heard := 0
	for _, a := range direct {
		if a.err == nil {
			heard++
			warn(a.heard, cmd.ErrOrStderr())
		}
	}
	if heard == 0 || o.json {
		return
	}
	h.announce(cmd.ErrOrStderr())
	if err := h.save(); err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), cli.Text(err))
	}
	acts, err := h.waiting()
	if err != nil {
		return
	}
	var rows []signerRow
	for _, s := range h.inForce().Signers {
		rows = append(rows, signerRow{Signer: string(s.Name), Error: "the coordinator is away"})
	}
	h.endpointsOf(rows, direct)
	w := cmd.OutOrStdout()
	line(w, "charter", "%s, version %d, %s", h.inForce().Name, h.inForce().Version, h.inForce().Digest())
	h.printStanding(w, h.ledger.Freezes(), acts)
	for _, r := range rows {
		line(w, "signer "+r.Signer, "%s", strings.TrimPrefix(r.stands(), "; "))
	}
}

// printStanding are the freezes, and what waits for people.
func (h *home) printStanding(w io.Writer, freezes []authority.Held, acts []*act) {
	for _, f := range freezes {
		line(w, "FROZEN", "%s, %s", freezeWords(f), onDisk(f))
	}
	for _, a := range acts {
		text := h.state(a)
		if missing := a.missing(); missing != "" {
			text += ": " + missing
		}
		line(w, "waits", "%s (%s): %s", a.title, a.id.Short(), text)
	}
	for name, list := range h.inForce().Lists(h.ledger.Lists(), unixNow()) {
		if list.Stale != "" {
			line(w, "STALE list", "%s: %s: coffer list renew %s", name, list.Stale, name)
		}
	}
}

func onDisk(f authority.Held) string {
	if len(f.Receipts) == 0 {
		return "NOT known to be effective: no signer's receipt"
	}
	text := "on disk at " + strings.Join(f.Receipts.Strings(), ", ")
	if f.Effective {
		return "effective, " + text
	}
	return "NOT known to be effective, " + text
}

func (h *home) reports(acts []*act) []actReport {
	out := []actReport{}
	for _, a := range acts {
		out = append(out, h.report(a, h.o.as))
	}
	return out
}

// freezeRow is the JSON form of a freeze in force.
type freezeRow struct {
	ID        string   `json:"id"`
	Scope     string   `json:"scope"`
	Name      string   `json:"name,omitempty"`
	By        string   `json:"by"`
	Reason    string   `json:"reason"`
	Time      string   `json:"time"`
	Effective bool     `json:"effective"`
	OnDisk    []string `json:"on_disk"`
}

func (h *home) freezeRows(freezes []authority.Held) []freezeRow {
	out := []freezeRow{}
	for _, f := range freezes {
		out = append(out, freezeRow{
			ID: f.ID.String(), Scope: f.Freeze.Scope, Name: f.Freeze.Name, By: f.Freeze.By, Reason: f.Freeze.Reason, Time: stamp(f.Freeze.Time),
			Effective: f.Effective, OnDisk: append([]string{}, f.Receipts.Strings()...),
		})
	}
	return out
}

// learnFrom takes where signers say that they are now.
func (h *home) learnFrom(reply *pb.ClusterResponse) {
	var lines []string
	for _, s := range reply.Signers {
		for _, record := range s.GetStatus().GetAddresses() {
			if len(record.Signatures) == 1 {
				lines = append(lines, charter.AddressLine(record.Raw, record.Signatures[0].Signature))
			}
		}
	}
	// Only convenience: without the file they are told again.
	_ = h.learn(lines)
}

// endpointsOf says what became of asking each signer itself; its own head counts more
// than an older one that the coordinator passed on.
func (h *home) endpointsOf(rows []signerRow, direct []answer) {
	for n := range rows {
		r := &rows[n]
		r.Endpoint = "own endpoint not known"
		for _, a := range direct {
			switch {
			case a.name != r.Signer:
			case a.err != nil:
				r.Endpoint = "own endpoint at " + a.addr + " does not answer: " + cli.Text(a.err)
			default:
				r.Endpoint = "own endpoint answers"
				if a.head != nil && string(a.head.Signer) == r.Signer {
					r.Head = h.headRow(*a.head, true)
				}
			}
		}
	}
}

// contradictions are what the signers' own heads say against what is known here, and so
// against the coordinator: more than a moment of delay explains.
func (h *home) contradictions(rows []signerRow) (out []string) {
	for _, r := range rows {
		if r.Head != nil && r.Head.Charter > h.inForce().Version {
			out = append(out, fmt.Sprintf("signer %s has version %d of the charter in force, and the coordinator shows version %d as the newest: it is behind, or hides it",
				r.Signer, r.Head.Charter, h.inForce().Version))
		}
	}
	return out
}

// signerRows are the charter's signers, in its order. What contradicts the charter is
// an error: no honest coordinator passes it on.
func (c *client) signerRows(reply *pb.ClusterResponse) ([]signerRow, error) {
	said := map[string]*pb.SignerState{}
	for _, s := range reply.Signers {
		if _, ok := c.charter.Signer(party.ID(s.Name)); !ok {
			return nil, fmt.Errorf("the coordinator speaks of a signer %q, whom the charter does not list: do not trust it", cli.Clean(s.Name))
		}
		if said[s.Name] != nil {
			return nil, fmt.Errorf("the coordinator speaks twice of signer %q: do not trust it", s.Name)
		}
		said[s.Name] = s
	}
	var rows []signerRow
	records := map[string]canon.Digest{}
	for _, signer := range c.charter.Signers {
		r := signerRow{Signer: string(signer.Name), Wallets: []string{}, ConnectedTo: []string{}}
		s := said[r.Signer]
		if s == nil {
			r.Error = "the coordinator says nothing of it"
			rows = append(rows, r)
			continue
		}
		st := s.Status
		r.Reachable, r.Error = s.Reachable, cli.Clean(s.Error)
		r.RoundTripUS, r.ClockMS, r.Failures = s.RoundTripUs, s.ClockAheadMs, s.Failures
		if st != nil && s.Reachable {
			r.Sealed, r.Primes, r.Version = st.Sealed, st.PreParameters, cli.Clean(st.Version)
			for _, p := range st.Peers {
				if _, ok := c.charter.Signer(party.ID(p.Signer)); ok && p.Connected {
					r.ConnectedTo = append(r.ConnectedTo, p.Signer)
				}
			}
			slices.Sort(r.ConnectedTo)
			for _, signed := range st.Wallets {
				w, err := c.openWallet(signed)
				if err != nil {
					return nil, err
				}
				if other, ok := records[w.Name]; ok && other != w.Digest() {
					return nil, fmt.Errorf("there are two records of wallet %q, both signed by all signers: pay nothing to it, and call the operators", w.Name)
				}
				records[w.Name] = w.Digest()
				r.Wallets = append(r.Wallets, w.Name)
			}
			slices.Sort(r.Wallets)
			r.Fresh = st.Fresh
			if st.NextVersion > 0 {
				r.Next = fmt.Sprintf("version %d of the charter waits there, %s to go", st.NextVersion, duration(time.Duration(st.NextSeconds)*time.Second))
			}
			if len(st.Head) > 0 {
				head, err := authority.OpenHead(st.Head, st.HeadSignature, c.charter)
				if err != nil || head.Signer != signer.Name {
					return nil, fmt.Errorf("the coordinator shows a head of signer %q that does not verify, do not trust it: %w", r.Signer, err)
				}
				r.Head = c.home.headRow(head, false)
			}
			if err := c.wrongSigner(st, string(signer.Peer), r.Signer); err != nil {
				r.Error = err.Error()
			}
		}
		r.Ready = r.Reachable && !r.Sealed && r.Error == ""
		rows = append(rows, r)
	}
	return rows, nil
}

// wrongSigner says what keeps a signer that answers from being one of this charter's.
func (c *client) wrongSigner(st *pb.StatusResponse, peer, name string) error {
	digest, err := canon.DigestFrom(st.CharterDigest)
	if err != nil {
		return errors.New("it does not say which charter it is under")
	}
	in, known := c.home.ledger.Charter(digest)
	switch {
	case st.Signer != name || st.PeerId != peer:
		return fmt.Errorf("it calls itself %q with identity %s, the charter says %s", cli.Clean(st.Signer), cli.Clean(st.PeerId), peer)
	case !known && st.CharterVersion > c.charter.Version:
		return fmt.Errorf("it has version %d of the charter in force, which is not known here", st.CharterVersion)
	case !known:
		return errors.New("it is under another charter")
	case in.Version < c.charter.Version:
		return fmt.Errorf("it still has version %d of the charter in force", in.Version)
	case !st.CharterComplete:
		return errors.New("it waits for other operators' signatures under the charter")
	}
	return nil
}
