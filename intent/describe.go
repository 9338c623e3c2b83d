package intent

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"coffer/charter"
	"coffer/policy"
)

// Line is one row of what a person reads before approving.
type Line struct{ Label, Value string }

// Describe puts every field of i into words, in units and with names from c and from
// held, what keepers signed of its lists; nil says that this is not known. It
// leaves nothing out: an approver who reads it has read all that is signed but the salt.
func Describe(i *Intent, c *charter.Charter, held map[string]charter.ListState) []Line {
	if err := i.Validate(); err != nil {
		return []Line{{"error", err.Error()}}
	}
	var lines []Line
	add := func(label, format string, args ...any) {
		lines = append(lines, Line{label, fmt.Sprintf(format, args...)})
	}
	chain := i.Chain
	if ch, ok := c.Chain(i.Chain); ok {
		chain = fmt.Sprintf("%s (chain ID %d)", ch.Name, ch.ChainID)
	} else if i.Chain != "" {
		chain += " (NOT IN THE CHARTER)"
	}
	switch i.Kind {
	case Transfer:
		t := i.Transfer
		amount := fmt.Sprintf("%s smallest units of %s (NOT IN THE CHARTER)", t.Amount, t.Asset)
		if a, ok := c.Asset(i.Chain, t.Asset); ok {
			amount = policy.FormatAmount(t.Amount, a.Decimals) + " " + a.Symbol
			if a.Contract != "" {
				amount += " (token " + a.Contract + ")"
			}
		}
		add("pay", "%s", amount)
		add("to", "%s", named(c, held, i.Chain, t.To))
		add("from", "wallet %s, account %s", i.Wallet, i.Account)
	case Cancel:
		add("cancel", "intent %s", i.Cancel.Subject)
		add("by", "spending its nonce on nothing: 0 to the account itself")
		add("from", "wallet %s, account %s", i.Wallet, i.Account)
	case CreateWallet:
		add("create wallet", "%s", i.Wallet)
		add("quorum", "%s", i.CreateWallet.Quorum)
		add("signers", "%s", strings.Join(i.CreateWallet.Signers.Strings(), ", "))
	}
	if i.Kind != CreateWallet {
		add("chain", "%s", chain)
		add("fee", "at most %s", feeCap(c, i.Chain, i.FeeCap))
		add("nonce", "%d", i.Nonce)
	}
	add("asked by", "%s", asker(c, i.Initiator))
	add("reference", "%s", i.Reference)
	add("from time", "%s", clock(i.NotBefore))
	add("until", "%s", clock(i.Expires))
	add("cluster", "%s", i.Cluster)
	add("charter", "%s", i.Charter)
	add("intent", "%s", i.Digest())
	return lines
}

// named shows the whole address, always: look-alikes are made to equal its ends.
func named(c *charter.Charter, held map[string]charter.ListState, chain, address string) string {
	if label := c.DestinationLabel(held, chain, address); label != "" {
		return fmt.Sprintf("%s (%s)", address, label)
	}
	if held == nil {
		return address + " (on no list that the charter fixes)"
	}
	return address + " (on no list)"
}

func feeCap(c *charter.Charter, chain string, v *big.Int) string {
	if a, ok := c.NativeAsset(chain); ok {
		return policy.FormatAmount(v, a.Decimals) + " " + a.Symbol
	}
	return v.String() + " smallest units"
}

func asker(c *charter.Charter, name string) string {
	who, _, err := initiator(c, name)
	switch {
	case err != nil:
		return name + " (NOT IN THE CHARTER)"
	case who.Service:
		return fmt.Sprintf("%s (a service of %s)", name, who.Org)
	}
	return fmt.Sprintf("%s (of %s)", name, who.Org)
}

func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC") }
