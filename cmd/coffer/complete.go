package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/authority"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// completeWithin bounds what a press of the tab key may wait for the coordinator.
const completeWithin = 700 * time.Millisecond

// complete offers words for a flag's value.
func complete(cmd *cobra.Command, flag string, words func(prefix string) []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return begins(words(prefix), prefix), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is not there: found by any test
	}
}

// begins keeps the words that continue what is typed.
func begins(words []string, prefix string) (out []string) {
	for _, word := range words {
		if strings.HasPrefix(strings.ToLower(word), strings.ToLower(prefix)) {
			out = append(out, word)
		}
	}
	return out
}

// ask calls the coordinator for a completion. Without a charter or an answer in time
// there is nothing to offer, and nothing to say: the shell has the screen.
func (o *options) ask(f func(ctx context.Context, c *client) []string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	o.quiet = true
	h, err := o.open()
	if err != nil {
		return nil
	}
	c, err := o.connect(h)
	if err != nil {
		return nil
	}
	defer c.conn.Close()
	return f(ctx, c)
}

func (o *options) wallets(string) []string {
	return o.ask(func(ctx context.Context, c *client) (out []string) {
		all, err := c.wallets(ctx)
		if err != nil {
			return nil
		}
		for name, r := range all {
			if address, err := evm.AddressOf(r.PublicKey); err == nil {
				out = append(out, name+"\t"+address.String())
			}
		}
		slices.Sort(out)
		return out
	})
}

// known is the charter that the home has in force, and nil without one.
func (o *options) known() *charter.Charter {
	if h, err := o.open(); err == nil {
		return h.inForce()
	}
	if file, _, err := o.pinned(); err == nil {
		return file.Charter
	}
	return nil
}

// names are the people and services of the charter.
func (o *options) names(string) (out []string) {
	c := o.known()
	if c == nil {
		return nil
	}
	for _, p := range c.People {
		out = append(out, p.Name+"\tof "+p.Org)
	}
	for _, s := range c.Services {
		out = append(out, s.Name+"\ta service of "+s.Org)
	}
	return out
}

func (o *options) chains(string) (out []string) {
	c := o.known()
	if c == nil {
		return nil
	}
	for _, ch := range c.Chains {
		out = append(out, ch.Name)
	}
	return out
}

func (o *options) assets(string) (out []string) {
	c := o.known()
	if c == nil {
		return nil
	}
	for _, a := range c.Assets {
		out = append(out, a.Symbol+"\ton "+a.Chain)
	}
	return out
}

// listNames are the charter's lists.
func (o *options) listNames(string) (out []string) {
	c := o.known()
	if c == nil {
		return nil
	}
	for _, d := range c.Destinations {
		text := "fixed in the charter"
		if d.Keepers != nil {
			text = "kept by " + d.Keepers.String()
		}
		out = append(out, d.Name+"\t"+text)
	}
	return out
}

// destinations are the addresses that one may pay to by a list.
func (o *options) destinations(string) (out []string) {
	h, err := o.open()
	if err != nil {
		return nil
	}
	for _, list := range h.inForce().Destinations {
		if list.Kind == policy.ListSanctions {
			continue
		}
		for _, d := range h.entries(list.Name) {
			out = append(out, d.Address+"\t"+d.Label+" on "+d.Chain)
		}
	}
	return out
}

// positions offers words for each argument in turn.
func positions(words ...func(string) []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(words) || words[len(args)] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return begins(words[len(args)](prefix), prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeIntents offers the IDs of intents, the pending ones or all, with what they ask for.
func (o *options) completeIntents(pending bool) cobra.CompletionFunc {
	return positions(func(string) []string { return o.intents(pending) })
}

func (o *options) intents(pending bool) []string {
	return o.ask(func(ctx context.Context, c *client) (out []string) {
		list, _, err := c.listPage(ctx, &pb.ListRequest{PendingOnly: pending, Limit: 20})
		if err != nil {
			return nil
		}
		for _, s := range list {
			out = append(out, s.id.String()[:12]+"\t"+s.what())
		}
		return out
	})
}

// records are the IDs of those that wait, of one kind or of all.
func (o *options) records(of authority.Kind) (out []string) {
	h, err := o.open()
	if err != nil {
		return nil
	}
	acts, err := h.waiting()
	if err != nil {
		return nil
	}
	for _, a := range acts {
		if of == "" || a.Kind == of {
			out = append(out, a.id.String()[:12]+"\t"+a.title)
		}
	}
	return out
}

// completePending offers everything that waits for people.
func (o *options) completePending() cobra.CompletionFunc {
	return positions(func(string) []string { return append(o.records(""), o.intents(true)...) })
}

func (o *options) completeRecords(of authority.Kind) cobra.CompletionFunc {
	return positions(func(string) []string { return o.records(of) })
}

// completeVersions offers versions of the charter that wait.
func (o *options) completeVersions(files bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if files {
			return begins(o.records(authority.KindCharter), prefix), cobra.ShellCompDirectiveDefault
		}
		return begins(o.records(authority.KindCharter), prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFreezes offers those in force.
func (o *options) completeFreezes(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if h, err := o.open(); err == nil {
		for _, f := range h.ledger.Freezes() {
			out = append(out, f.ID.String()[:12]+"\t"+f.Freeze.What()+" by "+f.Freeze.By)
		}
	}
	return begins(out, prefix), cobra.ShellCompDirectiveNoFileComp
}
