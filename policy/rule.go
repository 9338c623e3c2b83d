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

// The kinds of list.
const (
	ListDestinations = ""          // where the rules that name it let payments go
	ListSanctions    = "sanctions" // where no payment may go, whatever the rules say
)

// List is a list of addresses. The entries of one that is Kept change without the
// rules, so Facts bring them: Version says which, 0 before the first, and Stale why they
// count no longer.
type List struct {
	Kind    string
	Kept    bool
	Entries []Destination
	Version uint64
	Stale   string
}

// Group is the size of one: its people and their distinct organisations.
type Group struct {
	Members int
	Orgs    int
}

// Vocabulary is everything that rules may speak of. Wallet names are free.
type Vocabulary struct {
	Assets []Asset
	Lists  map[string]List
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
		for _, d := range list.Entries {
			all = append(all, d.Address)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (v Vocabulary) clone() Vocabulary {
	c := Vocabulary{
		Assets: slices.Clone(v.Assets), Lists: map[string]List{}, Groups: map[string]Group{},
		Initiators: slices.Clone(v.Initiators), Organisations: slices.Clone(v.Organisations),
	}
	for name, list := range v.Lists {
		list.Entries = slices.Clone(list.Entries)
		c.Lists[name] = list
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

// The kinds of key that a rule can accept, in the words of package credential; a rule
// that names none accepts all. The last two are in hardware and ask for a touch.
var keyKinds = []string{"ssh", "ssh-sk", "webauthn"}

// CheckKeyKinds accepts distinct kinds of key, or none, which means all.
func CheckKeyKinds(kinds []string) error {
	for i, k := range kinds {
		switch {
		case !slices.Contains(keyKinds, k):
			return fmt.Errorf("kind of key %+q is unknown; known: %s", clip(k), known(keyKinds))
		case slices.Index(kinds, k) != i:
			return fmt.Errorf("kind of key %q is named twice; remove one", k)
		}
	}
	return nil
}

// KeyKinds are the kinds that a list of them means.
func KeyKinds(kinds []string) []string {
	if len(kinds) == 0 {
		return slices.Clone(keyKinds)
	}
	return kinds
}

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
	Lists                          map[string]List // those that are Kept, at least
}

// Vote is one verified approval.
type Vote struct {
	Person, Org string
	Groups      []string
	KeyKind     string
}

// Count is how many people, of how many organisations, meet a requirement with keys of
// these kinds (none: all). It is the one place where voices are counted: for rules, for
// the admin rule and for the keepers of lists.
func Count(q Requirement, kinds []string, votes []Vote) (people, orgs int) {
	kinds = KeyKinds(kinds)
	seen, from := map[string]bool{}, map[string]bool{}
	for _, v := range votes {
		if v.Person == "" || seen[v.Person] || !slices.Contains(kinds, v.KeyKind) || !slices.Contains(v.Groups, q.Group) {
			continue
		}
		seen[v.Person] = true
		if v.Org != "" {
			from[v.Org] = true
		}
	}
	return len(seen), len(from)
}

// Met reports whether so many people of so many organisations are enough.
func (r Requirement) Met(people, orgs int) bool { return people >= r.K && orgs >= r.Orgs }

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
