package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coffer/approval"
	"coffer/authority"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/internal/cli"
	"coffer/policy"
)

func listCommand(o *options) *cobra.Command {
	cmd := cli.Group("list", "Lists of destinations and sanctions, which their keepers change without a new charter")
	cmd.AddCommand(listShow(o), listPropose(o), listAdd(o), listRemove(o), listRenew(o),
		actCommand(o, approval.Approve, "sign ID|FILE", "Show a version of a list that waits for its keepers, and sign it", authority.KindList))
	return cmd
}

// entries are those of a list that count now: of its newest version, or of the charter
// for a list that no keeper changed yet.
func (h *home) entries(name string) []policy.Destination {
	if state, ok := h.ledger.Lists()[name]; ok {
		return state.Entries
	}
	if list, ok := h.inForce().List(name); ok {
		return list.Entries
	}
	return nil
}

// listReport is the JSON form of a list. A version is proposed from its entries, edited.
type listReport struct {
	Name    string               `json:"name"`
	Kind    string               `json:"kind"`    // destinations or sanctions
	Version uint64               `json:"version"` // 0: the charter's own entries
	Issued  string               `json:"issued,omitempty"`
	Keepers string               `json:"keepers,omitempty"` // empty: the charter alone changes it
	MaxAge  string               `json:"max_age,omitempty"`
	Stale   string               `json:"stale,omitempty"` // why payments that need it are denied
	Entries []policy.Destination `json:"entries"`
}

func (h *home) listReport(d charter.DestinationList) listReport {
	r := listReport{Name: d.Name, Kind: d.Kind, MaxAge: d.MaxAge, Entries: slices.Clone(h.entries(d.Name))}
	if r.Kind == "" {
		r.Kind = "destinations"
	}
	if d.Keepers != nil {
		r.Keepers = d.Keepers.String()
	}
	held := h.ledger.Lists()
	if state, ok := held[d.Name]; ok {
		r.Version, r.Issued = state.Version, stamp(state.Issued)
	}
	r.Stale = h.inForce().Lists(held, unixNow())[d.Name].Stale
	if r.Entries == nil {
		r.Entries = []policy.Destination{}
	}
	return r
}

func (h *home) list(name string) (charter.DestinationList, error) {
	if d, ok := h.inForce().List(name); ok {
		return d, nil
	}
	var known []string
	for _, d := range h.inForce().Destinations {
		known = append(known, d.Name)
	}
	return charter.DestinationList{}, didYouMean(cli.Usagef("the charter has no list %q (there are: %s)", name, strings.Join(known, ", ")), name, known)
}

func listShow(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show [NAME]",
		Short: "Show the lists, or one with all its entries",
		Args:  cobra.MaximumNArgs(1),

		ValidArgsFunction: positions(o.listNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withHome(cmd, func(h *home) error {
				var reports []listReport
				for _, d := range h.inForce().Destinations {
					reports = append(reports, h.listReport(d))
				}
				if len(args) == 1 {
					d, err := h.list(args[0])
					if err != nil {
						return err
					}
					reports = []listReport{h.listReport(d)}
					if o.json {
						return cli.JSON(cmd, reports[0])
					}
				}
				if o.json {
					return cli.JSON(cmd, map[string]any{"lists": append([]listReport{}, reports...)})
				}
				for _, r := range reports {
					h.printListReport(cmd, r, len(args) == 1)
				}
				if len(reports) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "the charter has no lists")
				}
				return nil
			})
		},
	}
}

func (h *home) printListReport(cmd *cobra.Command, r listReport, entries bool) {
	w := cmd.OutOrStdout()
	text := fmt.Sprintf("%s, %s, ", r.Kind, count(len(r.Entries), "entry", "entries"))
	switch {
	case r.Keepers == "":
		text += "fixed in the charter"
	case r.Version == 0:
		text += "the charter's own; kept by " + r.Keepers
	default:
		text += fmt.Sprintf("version %d issued %s; kept by %s", r.Version, r.Issued, r.Keepers)
	}
	if r.MaxAge != "" {
		text += "; good for " + r.MaxAge
	}
	line(w, r.Name, "%s", text)
	if r.Stale != "" {
		line(w, "", "STALE, what needs it is denied: %s: coffer list renew %s", r.Stale, r.Name)
	}
	if entries {
		for _, e := range r.Entries {
			line(w, "", "%s", entryWords(e))
		}
	}
}

// proposeList signs the next version of a list with other entries.
func (o *options) proposeList(cmd *cobra.Command, name string, change func(h *home, held []policy.Destination) ([]policy.Destination, error), same bool) error {
	return o.with(cmd, func(ctx context.Context, c *client) error {
		h := c.home
		d, err := h.list(name)
		if err != nil {
			return err
		}
		if d.Keepers == nil {
			return cli.Hint(cli.Refusedf("list %q has no keepers: its entries change with the charter alone", name), "coffer charter propose")
		}
		held := h.entries(name)
		entries, err := change(h, slices.Clone(held))
		if err != nil {
			return err
		}
		entries = authority.SortEntries(entries)
		if same != slices.Equal(entries, authority.SortEntries(held)) {
			return cli.Usagef("that changes nothing; coffer list renew %s issues the same entries anew", name)
		}
		state := h.ledger.Lists()[name] // zero: no version yet
		l := &authority.ListVersion{
			Cluster: h.inForce().Cluster, Name: name, Version: state.Version + 1, Previous: state.Digest, Issued: unixNow(), Entries: entries,
		}
		if err := l.Validate(); err != nil {
			return cli.Usagef("%w", err)
		}
		a, err := h.decode(authority.Record{Kind: authority.KindList, Raw: l.Encode()})
		if err != nil {
			return err
		}
		// What it says was typed just now; the others are asked when they sign it.
		return o.propose(cmd, ctx, c, a, true)
	})
}

func listPropose(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "propose NAME EDITED.json",
		Short: "Make the next version of a list from an edited copy of what list show NAME --json prints, and sign it as the first",
		Args:  cobra.ExactArgs(2),

		ValidArgsFunction: positions(o.listNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.proposeList(cmd, args[0], func(h *home, _ []policy.Destination) ([]policy.Destination, error) {
				var r listReport
				if err := readJSON(args[1], &r); err != nil {
					return nil, fmt.Errorf("%s: %w", args[1], err)
				}
				if r.Name != args[0] {
					return nil, cli.Usagef("%s is a copy of list %q, not of %q", args[1], r.Name, args[0])
				}
				if now := h.ledger.Lists()[args[0]].Version; r.Version != now {
					return nil, cli.Hint(cli.Refusedf("the edited copy is of version %d, in force is version %d: signing it would undo what was changed between", r.Version, now),
						"edit what coffer list show %s --json prints now", args[0])
				}
				return r.Entries, nil
			}, false)
		},
	}
}

func listAdd(o *options) *cobra.Command {
	var chain string
	cmd := &cobra.Command{
		Use:   "add NAME ADDRESS LABEL",
		Short: "Make the next version of a list with one entry more, and sign it as the first",
		Args:  cobra.ExactArgs(3),

		ValidArgsFunction: positions(o.listNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.proposeList(cmd, args[0], func(h *home, held []policy.Destination) ([]policy.Destination, error) {
				on, err := h.chain(chain)
				if err != nil {
					return nil, err
				}
				address, err := evm.ParseAddress(args[1])
				if err != nil {
					return nil, cli.Usagef("address: %w", err)
				}
				for _, e := range held {
					if e.Chain == on && e.Address == address.String() {
						return nil, cli.Usagef("list %q has %s on %s already (%s)", args[0], e.Address, e.Chain, cli.Clean(e.Label))
					}
				}
				return append(held, policy.Destination{Chain: on, Address: address.String(), Label: args[2]}), nil
			}, false)
		},
	}
	cmd.Flags().StringVar(&chain, "chain", "", "chain of the address, if the charter has several")
	complete(cmd, "chain", o.chains)
	return cmd
}

// chain is the one named, or the charter's only one.
func (h *home) chain(name string) (string, error) {
	var known []string
	for _, ch := range h.inForce().Chains {
		known = append(known, ch.Name)
	}
	switch {
	case name == "" && len(known) == 1:
		return known[0], nil
	case name == "":
		return "", cli.Usagef("--chain is missing: the charter has %s", strings.Join(known, ", "))
	case !slices.Contains(known, name):
		return "", didYouMean(cli.Usagef("--chain %q: the charter knows %s", name, strings.Join(known, ", ")), name, known)
	}
	return name, nil
}

func listRemove(o *options) *cobra.Command {
	var chain string
	cmd := &cobra.Command{
		Use:   "remove NAME ADDRESS|LABEL",
		Short: "Make the next version of a list with one entry less, and sign it as the first",
		Args:  cobra.ExactArgs(2),

		ValidArgsFunction: positions(o.listNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.proposeList(cmd, args[0], func(_ *home, held []policy.Destination) ([]policy.Destination, error) {
				var labels []string
				var found []int
				for n, e := range held {
					labels = append(labels, e.Label)
					if (chain == "" || e.Chain == chain) && (strings.EqualFold(e.Address, args[1]) || strings.EqualFold(e.Label, args[1])) {
						found = append(found, n)
					}
				}
				switch len(found) {
				case 0:
					return nil, didYouMean(cli.Usagef("list %q has no entry %q", args[0], args[1]), args[1], labels)
				case 1:
					return slices.Delete(held, found[0], found[0]+1), nil
				}
				return nil, cli.Usagef("list %q has %q on several chains: give --chain", args[0], args[1])
			}, false)
		},
	}
	cmd.Flags().StringVar(&chain, "chain", "", "chain of the entry, if several have it")
	complete(cmd, "chain", o.chains)
	return cmd
}

func listRenew(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "renew NAME",
		Short: "Issue the same entries anew, before the list grows too old, and sign them as the first",
		Args:  cobra.ExactArgs(1),

		ValidArgsFunction: positions(o.listNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.proposeList(cmd, args[0], func(_ *home, held []policy.Destination) ([]policy.Destination, error) { return held, nil }, true)
		},
	}
}
