package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/canon"
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
}

// words are the state in one line.
func (r signerRow) words() string {
	text := "ready"
	switch {
	case !r.Reachable:
		return "AWAY: " + r.Error
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
	return text
}

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the cluster as the coordinator describes it, and whether enough signers are ready",
		Long: `status compares what the coordinator says of each signer with the pinned charter: names,
identities, the charter's digest, and the records of wallets, which carry every signer's signature.
Whether a signer is up and ready is the coordinator's word alone. The exit code is 0 if enough
signers are ready for a payment, and 1 if not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(ctx context.Context, c *client) error {
				start := time.Now()
				ask, cancel := brief(ctx)
				defer cancel()
				reply, err := c.api.Cluster(ask, &pb.ClusterRequest{})
				if err != nil {
					return err
				}
				took := time.Since(start)
				rows, err := c.signerRows(reply)
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
				if o.json {
					err = cli.JSON(cmd, map[string]any{
						"charter": c.charter.Name, "version": c.charter.Version, "digest": c.charter.Digest(), "coordinator": c.name, "address": c.addr,
						"ready": ready, "need": need, "of": c.charter.Quorum.Of, "signers": rows,
					})
				} else {
					w := cmd.OutOrStdout()
					line(w, "charter", "%s, version %d, %s", c.charter.Name, c.charter.Version, c.charter.Digest())
					line(w, "coordinator", "%s at %s, answers in %s", c.name, c.addr, took.Round(time.Millisecond))
					for _, r := range rows {
						line(w, "signer "+r.Signer, "%s", r.words())
					}
					line(w, "quorum", "%d of %d ready, %d needed", ready, len(rows), need)
				}
				if err == nil && ready < need {
					err = cli.Hint(fmt.Errorf("%d signers are ready, a payment needs %d", ready, need), "call the operators of the signers that are not; pending requests go on by themselves")
				}
				return err
			})
		},
	}
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
	digest := c.charter.Digest()
	switch {
	case st.Signer != name || st.PeerId != peer:
		return fmt.Errorf("it calls itself %q with identity %s, the charter says %s", cli.Clean(st.Signer), cli.Clean(st.PeerId), peer)
	case string(st.CharterDigest) != string(digest[:]):
		return errors.New("it is under another charter")
	case !st.CharterComplete:
		return errors.New("it waits for other operators' signatures under the charter")
	}
	return nil
}
