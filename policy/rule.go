package policy

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Rule is one line of the charter's policy, in the words of its JSON.
//
// When is a CEL expression; empty matches every intent. A rule with Deny refuses what
// it matches, with that text as the reason. Any other rule demands: each payment at
// most the amount that MaxAmount gives for its asset (an asset that a non-empty list
// does not name is denied), a fee of at most FeeCap, a destination on one of the lists
// of Destinations, and all Approvals, by people who used a key of a kind in Keys.
type Rule struct {
	Name         string        `json:"name"`
	When         string        `json:"when,omitempty"`
	Deny         string        `json:"deny,omitempty"`
	MaxAmount    []string      `json:"max_amount,omitempty"`
	FeeCap       string        `json:"fee_cap,omitempty"`
	Destinations []string      `json:"destinations,omitempty"`
	Approvals    []Requirement `json:"approvals,omitempty"`
	Keys         []string      `json:"keys,omitempty"`
}

// Requirement is K people of a group, from at least Orgs organisations (0: any).
type Requirement struct {
	Group string `json:"group"`
	K     int    `json:"k"`
	Orgs  int    `json:"orgs,omitempty"`
}

func (r Requirement) String() string {
	s := fmt.Sprintf("%d of %s", r.K, r.Group)
	if r.Orgs > 1 {
		s += fmt.Sprintf(" from %d organisations", r.Orgs)
	}
	return s
}

// Asset is what policy needs to know of one: its unit.
type Asset struct {
	Symbol   string
	Chain    string
	Decimals int
	Native   bool
}

// Destination is one address that payments may go to. Address is compared as text, so
// it must be in the chain's canonical form; the charter sees to that.
type Destination struct {
	Chain   string `json:"chain"`
	Address string `json:"address"`
	Label   string `json:"label"`
}

// Group is the size of one: its people and their distinct organisations.
type Group struct {
	Members int
	Orgs    int
}

// Vocabulary is everything that rules may speak of. Wallet names are free.
type Vocabulary struct {
	Assets []Asset
	Lists  map[string][]Destination
	Groups map[string]Group
	// Initiators and Organisations, when given, are the only names that an expression
	// may compare intent.initiator and intent.initiator_org with.
	Initiators    []string
	Organisations []string
}

func (v Vocabulary) symbols() []string {
	return distinct(v.Assets, func(a Asset) string { return a.Symbol })
}

func (v Vocabulary) chains() []string {
	return distinct(v.Assets, func(a Asset) string { return a.Chain })
}

func (v Vocabulary) addresses() []string {
	var all []string
	for _, list := range v.Lists {
		for _, d := range list {
			all = append(all, d.Address)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (v Vocabulary) clone() Vocabulary {
	c := Vocabulary{
		Assets: slices.Clone(v.Assets), Lists: map[string][]Destination{}, Groups: map[string]Group{},
		Initiators: slices.Clone(v.Initiators), Organisations: slices.Clone(v.Organisations),
	}
	for name, list := range v.Lists {
		c.Lists[name] = slices.Clone(list)
	}
	for name, g := range v.Groups {
		c.Groups[name] = g
	}
	return c
}

// The kinds of intent that rules know. A kind that is not listed here is denied, so
// that a new one cannot slip past rules written before it existed.
const (
	KindTransfer     = "transfer"
	KindCancel       = "cancel"
	KindCreateWallet = "create_wallet"
)

var kinds = []string{KindTransfer, KindCancel, KindCreateWallet}

// KeyKinds are the kinds of key that a rule can accept; the first is the default.
var keyKinds = []string{"ssh"}

// Facts are what an intent asks, in the charter's words; Amount is nil unless value
// moves, and FeeCap unless a transaction is made.
type Facts struct {
	Kind, Wallet, Chain, Asset, To string
	Amount, FeeCap                 *big.Int
	Initiator                      string
	InitiatorService               bool
	InitiatorOrg                   string
	InitiatorGroups                []string
	Reference                      string
	NotBefore, Expires, Now        int64
}

// Vote is one verified approval.
type Vote struct {
	Person, Org string
	Groups      []string
	KeyKind     string
}

// CheckName accepts 1 to 32 of a-z, 0-9 and '-', beginning with a letter. Names are
// shown to people who decide by them, so nothing that looks like another letter may
// occur: "аlice" with a Cyrillic а is not a name.
func CheckName(s string) error {
	if s == "" {
		return fmt.Errorf("name is empty; use 1 to 32 of a-z, 0-9 and '-', beginning with a letter")
	}
	ok := len(s) <= 32 && s[0] >= 'a' && s[0] <= 'z'
	for i := 0; i < len(s) && ok; i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return fmt.Errorf("name %+q: use 1 to 32 of a-z, 0-9 and '-', beginning with a letter", clip(s))
	}
	return nil
}

// CheckText accepts printable ASCII on one line, without outer or double spaces: text
// that people decide by must not hold look-alike letters, hidden characters or marks
// that turn the direction of writing.
func CheckText(s string, max int) error {
	switch {
	case s == "":
		return fmt.Errorf("text is empty")
	case len(s) > max:
		return fmt.Errorf("text has %d characters, at most %d allowed", len(s), max)
	case s != strings.TrimSpace(s) || strings.Contains(s, "  "):
		return fmt.Errorf("text %+q has outer or double spaces; remove them", clip(s))
	}
	for _, r := range s {
		if r < 0x20 || r > 0x7e {
			return fmt.Errorf("text %+q holds %+q; use printable ASCII", clip(s), r)
		}
	}
	return nil
}

func distinct[T any](list []T, key func(T) string) []string {
	var out []string
	for _, x := range list {
		out = append(out, key(x))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func known(names []string) string {
	const show = 12
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > show:
		return strings.Join(names[:show], ", ") + fmt.Sprintf(" and %d more", len(names)-show)
	}
	return strings.Join(names, ", ")
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
