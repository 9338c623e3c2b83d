package charter

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"coffer/credential"
	"coffer/party"
	"coffer/policy"
)

// Draft is a charter without identities: what somebody writes by hand. The cards
// bring names, organisations and keys; the draft says which groups people are in.
type Draft struct {
	Name          string                 `json:"name"`
	Organisations []string               `json:"organisations"`
	People        map[string]DraftPerson `json:"people"`
	Chains        []Chain                `json:"chains"`
	Assets        []Asset                `json:"assets"`
	Destinations  []DestinationList      `json:"destinations,omitempty"`
	Quorum        party.Quorum           `json:"quorum"`
	Rules         []policy.Rule          `json:"rules"`
	Admin         AdminRule              `json:"admin"`
	Veto          []string               `json:"veto,omitempty"`
	Freshness     *Freshness             `json:"freshness,omitempty"`
	Readers       []string               `json:"readers,omitempty"` // services that read only
}

// DraftPerson says which groups a person is in, and how many keys they have (0: one).
// Without that number, whoever slips a card with a person's name among the others
// would have that person's voice.
type DraftPerson struct {
	Groups []string `json:"groups"`
	Keys   int      `json:"keys,omitempty"`
}

// UnmarshalJSON reads a draft as strictly as a charter file is read.
func (d *Draft) UnmarshalJSON(raw []byte) error {
	type plain Draft
	var p plain
	if err := decodeStrictly(raw, &p); err != nil {
		return err
	}
	*d = Draft(p)
	return nil
}

// Assemble makes version 1 of a charter from a draft and cards, with a cluster ID
// drawn at random. A person with several keys has a card for each.
func Assemble(d Draft, cards []string) (*File, error) {
	c := &Charter{
		Name: d.Name, Version: 1, Organisations: d.Organisations, Chains: d.Chains, Assets: d.Assets,
		Destinations: d.Destinations, Quorum: d.Quorum, Rules: d.Rules, Admin: d.Admin,
		Veto: d.Veto, Freshness: d.Freshness,
	}
	if _, err := rand.Read(c.Cluster[:]); err != nil {
		return nil, fmt.Errorf("draw cluster ID: %w", err)
	}
	f := &File{Charter: c, Signatures: []Signature{}}
	people := map[string]*Person{}
	seen := map[string]bool{}
	for n, line := range cards {
		line = strings.TrimSpace(line)
		card, err := ParseCard(line)
		if err != nil {
			return nil, fmt.Errorf("card %d: %w", n+1, err)
		}
		if seen[cardKey(card)] {
			return nil, fmt.Errorf("card %d: %w: %s %q is there twice", n+1, ErrCard, card.Kind, card.Name)
		}
		seen[cardKey(card)] = true
		f.Cards = append(f.Cards, line)
		switch card.Kind {
		case CardSigner:
			c.Signers = append(c.Signers, Signer{Name: party.ID(card.Name), Org: card.Org, Peer: card.Peer})
		case CardCoordinator:
			c.Coordinators = append(c.Coordinators, Coordinator{Name: card.Name, Org: card.Org, Peer: card.Peer})
		case CardService:
			s := Service{Name: card.Name, Org: card.Org, Key: card.Key}
			if slices.Contains(d.Readers, s.Name) {
				s.Role = RoleReader
			}
			c.Services = append(c.Services, s)
		case CardPerson:
			entry, ok := d.People[card.Name]
			if !ok {
				return nil, fmt.Errorf("card %d is of person %q, whom the draft does not list under people", n+1, card.Name)
			}
			p := people[card.Name]
			if p == nil {
				p = &Person{Name: card.Name, Org: card.Org, Groups: entry.Groups}
				people[card.Name] = p
			}
			if p.Org != card.Org {
				return nil, fmt.Errorf("card %d: person %q is of %q here and of %q on another card", n+1, card.Name, card.Org, p.Org)
			}
			p.Keys = append(p.Keys, card.Key)
		}
	}
	for name, entry := range d.People {
		p, ok := people[name]
		if !ok {
			return nil, fmt.Errorf("the draft lists person %q and there is no card of them: they run coffer enrol", name)
		}
		if want := max(entry.Keys, 1); len(p.Keys) != want {
			return nil, fmt.Errorf("%w: person %q has %d cards and the draft expects %d; if all are theirs, write \"keys\": %d beside their groups", ErrCard, name, len(p.Keys), want, len(p.Keys))
		}
		c.People = append(c.People, *p)
	}
	for _, name := range d.Readers {
		if _, ok := c.Service(name); !ok {
			return nil, fmt.Errorf("the draft lists %q under readers and there is no card of a service of that name", clip(name))
		}
	}
	// The order in which cards arrive is chance; the charter must not depend on it.
	slices.SortFunc(c.Signers, func(x, y Signer) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(c.Coordinators, func(x, y Coordinator) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(c.People, func(x, y Person) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(c.Services, func(x, y Service) int { return cmp.Compare(x.Name, y.Name) })
	for i := range c.People {
		slices.SortFunc(c.People[i].Keys, func(x, y credential.Key) int { return cmp.Compare(x.Public, y.Public) })
	}
	if err := f.VerifyPresent(); err != nil {
		return nil, err
	}
	return f, nil
}

// Describe says a charter in lines for people: everything that decides who may what.
func (c *Charter) Describe() []string {
	lines := []string{
		fmt.Sprintf("charter       %s, version %d", c.Name, c.Version),
		fmt.Sprintf("digest        %s", c.Digest()),
		fmt.Sprintf("quorum        %s", quorumWords(c.Quorum)),
	}
	for _, s := range c.Signers {
		lines = append(lines, fmt.Sprintf("signer        %s of %s, %s", s.Name, s.Org, s.Peer))
	}
	for _, s := range c.Coordinators {
		lines = append(lines, fmt.Sprintf("coordinator   %s of %s, %s", s.Name, s.Org, s.Peer))
	}
	fingerprints := func(keys []credential.Key) string {
		var out []string
		for _, k := range keys {
			out = append(out, k.Fingerprint())
		}
		return strings.Join(out, ", ")
	}
	for _, p := range c.People {
		groups := "no group"
		if len(p.Groups) > 0 {
			groups = "in " + strings.Join(p.Groups, ", ")
		}
		lines = append(lines, fmt.Sprintf("person        %s of %s, %s, %s", p.Name, p.Org, groups, fingerprints(p.Keys)))
	}
	for _, s := range c.Services {
		lines = append(lines, fmt.Sprintf("service       %s of %s, %s, %s", s.Name, s.Org, serviceWords(s), s.Key.Fingerprint()))
	}
	for _, ch := range c.Chains {
		lines = append(lines, fmt.Sprintf("chain         %s, %s, chain ID %d", ch.Name, ch.Kind, ch.ChainID))
	}
	for _, a := range c.Assets {
		where := "its own coin"
		if a.Contract != "" {
			where = "contract " + a.Contract
		}
		lines = append(lines, fmt.Sprintf("asset         %s on %s, %s, %d decimals", a.Symbol, a.Chain, where, a.Decimals))
	}
	for _, d := range c.Destinations {
		lines = append(lines, "list          "+listWords(d))
		for _, e := range d.Entries {
			lines = append(lines, fmt.Sprintf("destination   %s: %s on %s (%s)", d.Name, e.Address, e.Chain, e.Label))
		}
	}
	for _, r := range c.Rules {
		lines = append(lines, "rule          "+ruleWords(r))
	}
	lines = append(lines, "admin rule    "+adminWords(c.Admin))
	if len(c.Veto) > 0 {
		lines = append(lines, "veto          anybody of "+strings.Join(c.Veto, ", "))
	}
	heads, within := c.Fresh()
	return append(lines, "freshness     "+freshWords(heads, fmt.Sprintf("%ds", int(within/time.Second))))
}

func serviceWords(s Service) string {
	if s.Initiates() {
		return "asks and never approves"
	}
	return "reads only"
}

// listWords says what a list is for and who changes it.
func listWords(d DestinationList) string {
	what := "payments go to"
	if d.Kind == policy.ListSanctions {
		what = "no payment goes to, whatever the rules say"
	}
	if d.Keepers == nil {
		return fmt.Sprintf("%s: addresses that %s; only the admin rule changes it", d.Name, what)
	}
	return fmt.Sprintf("%s: addresses that %s; kept by %s, a version counts %s", d.Name, what, requirementWords(*d.Keepers), ageWords(d))
}

// requirementWords says also what asks nothing beyond the people, which String leaves
// out: what is signed and what is read must not differ.
func requirementWords(q policy.Requirement) string {
	if q.Orgs == 1 {
		return q.String() + " from 1 organisation"
	}
	return q.String()
}

func adminWords(a AdminRule) string {
	out := requirementWords(a.Requirement())
	if len(a.Keys) > 0 {
		out += " with keys of kind " + strings.Join(a.Keys, ", ")
	}
	wait := func(text string) string {
		if text == "" {
			return "at once"
		}
		return "after " + text
	}
	if a.Delay == a.NarrowDelay {
		return fmt.Sprintf("%s; a change is in force %s", out, wait(a.Delay))
	}
	return fmt.Sprintf("%s; a change is in force %s, one that only narrows %s", out, wait(a.Delay), wait(a.NarrowDelay))
}

func freshWords(heads int, within string) string {
	others := "other signers"
	if heads == 1 {
		others = "other signer"
	}
	return fmt.Sprintf("a signer signs only while it has heard from %d %s within %s", heads, others, within)
}

// RuleWords says one rule in words, its name first; "" when there is none of that name.
func (c *Charter) RuleWords(name string) string {
	for _, r := range c.Rules {
		if r.Name == name {
			return ruleWords(r)
		}
	}
	return ""
}

// ruleWords says a rule as the gate applies it, defaults included.
func ruleWords(r policy.Rule) string {
	parts := []string{"always"}
	if r.When != "" {
		parts[0] = "when " + r.When
	}
	if r.Deny != "" {
		return r.Name + ": " + parts[0] + "; deny: " + r.Deny
	}
	if len(r.MaxAmount) > 0 {
		parts = append(parts, "per payment at most "+strings.Join(r.MaxAmount, ", ")+" and no other asset")
	}
	if r.FeeCap != "" {
		parts = append(parts, "fee at most "+r.FeeCap)
	}
	if len(r.Destinations) > 0 {
		parts = append(parts, "only to "+strings.Join(r.Destinations, ", "))
	}
	for _, q := range r.Approvals {
		parts = append(parts, "approved by "+requirementWords(q))
	}
	if len(r.Keys) > 0 {
		parts = append(parts, "with keys of kind "+strings.Join(r.Keys, ", "))
	}
	return r.Name + ": " + strings.Join(parts, "; ")
}
