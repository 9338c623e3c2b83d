package charter

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/canon"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

// Domain is the first field of a charter's canonical bytes.
const Domain = "coffer/charter/v1"

// Charter is one version of the constitution. It is not changed after it was read.
type Charter struct {
	Name          string            `json:"name"`
	Cluster       canon.Digest      `json:"cluster"` // random, the same in all versions
	Version       uint64            `json:"version"`
	Previous      canon.Digest      `json:"previous"` // digest of the version before; zero in version 1
	Organisations []string          `json:"organisations"`
	Signers       []Signer          `json:"signers"`
	Coordinators  []Coordinator     `json:"coordinators"`
	People        []Person          `json:"people"`
	Services      []Service         `json:"services,omitempty"`
	Chains        []Chain           `json:"chains"`
	Assets        []Asset           `json:"assets"`
	Destinations  []DestinationList `json:"destinations,omitempty"`
	Quorum        party.Quorum      `json:"quorum"`
	Rules         []policy.Rule     `json:"rules"`
	Admin         AdminRule         `json:"admin"`
	Veto          []string          `json:"veto,omitempty"` // groups whose members may stop any intent
	Freshness     *Freshness        `json:"freshness,omitempty"`

	mu       sync.Mutex // guards the two below
	compiled *policy.Set
	of       canon.Digest // of the charter that compiled was made for
}

// Signer is a node that holds shares.
type Signer struct {
	Name party.ID    `json:"name"`
	Org  string      `json:"org"`
	Peer identity.ID `json:"peer"`
}

// Coordinator is a daemon of the treasury's.
type Coordinator struct {
	Name string      `json:"name"`
	Org  string      `json:"org"`
	Peer identity.ID `json:"peer"`
}

// Person can initiate, and approve as far as groups and rules say.
type Person struct {
	Name   string           `json:"name"`
	Org    string           `json:"org"`
	Groups []string         `json:"groups,omitempty"`
	Keys   []credential.Key `json:"keys"`
}

// The roles of services.
const (
	RoleInitiator = ""       // asks for payments, and reads
	RoleReader    = "reader" // reads what the coordinator shows, and asks for nothing
)

// Service is a machine that initiates or reads, and never approves.
type Service struct {
	Name string         `json:"name"`
	Org  string         `json:"org"`
	Key  credential.Key `json:"key"`
	Role string         `json:"role,omitempty"`
}

// Initiates reports whether the service may ask for something.
func (s Service) Initiates() bool { return s.Role == RoleInitiator }

// Chain is a network.
type Chain struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"` // "evm"
	ChainID uint64 `json:"chain_id"`
}

// Asset is a unit of value on a chain. An empty Contract is the chain's own coin.
type Asset struct {
	Symbol   string `json:"symbol"`
	Chain    string `json:"chain"`
	Contract string `json:"contract,omitempty"`
	Decimals int    `json:"decimals"`
}

// DestinationList is a named list of addresses. Without Keepers its entries are fixed
// in the charter. With Keepers they are what these people signed last (a list version),
// and the charter's entries count until then.
type DestinationList struct {
	Name    string               `json:"name"`
	Kind    string               `json:"kind,omitempty"` // policy.ListDestinations or policy.ListSanctions
	Keepers *policy.Requirement  `json:"keepers,omitempty"`
	MaxAge  string               `json:"max_age,omitempty"` // after which what was signed last counts no longer
	Entries []policy.Destination `json:"entries,omitempty"`
}

// AdminRule says whose signatures change the charter: K of a group, from Orgs
// organisations, with keys of the kinds Keys (none: all). A version with these
// signatures takes effect after Delay, and after NarrowDelay if it only narrows.
type AdminRule struct {
	Group       string   `json:"group"`
	K           int      `json:"k"`
	Orgs        int      `json:"orgs,omitempty"`
	Keys        []string `json:"keys,omitempty"`
	Delay       string   `json:"delay,omitempty"`
	NarrowDelay string   `json:"narrow_delay,omitempty"`
}

// Requirement is the admin rule as policy.Count takes it, with Keys.
func (a AdminRule) Requirement() policy.Requirement {
	return policy.Requirement{Group: a.Group, K: a.K, Orgs: a.Orgs}
}

// Wait is how long a complete version waits before it is in force.
func (a AdminRule) Wait(narrows bool) time.Duration {
	text := a.Delay
	if narrows {
		text = a.NarrowDelay
	}
	d, _ := ParseDuration(text) // Validate has
	return d
}

// Freshness says how a signer makes sure that it is not behind: it signs only while it
// holds the heads of that many other signers, none older than Within.
type Freshness struct {
	Heads  int    `json:"heads"`
	Within string `json:"within"`
}

// DefaultWithin is how old a head may be where the charter does not say.
const DefaultWithin = 60 * time.Second

// Fresh is the charter's word on freshness, defaults filled in.
func (c *Charter) Fresh() (heads int, within time.Duration) {
	if c.Freshness == nil {
		return c.Quorum.Of - c.Quorum.Need, DefaultWithin
	}
	within, _ = ParseDuration(c.Freshness.Within) // Validate has
	return c.Freshness.Heads, within
}

// MayVeto reports whether a person is in a group that may stop any intent.
func (c *Charter) MayVeto(person string) bool {
	p, ok := c.Person(person)
	return ok && slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(c.Veto, g) })
}

// Encode returns the canonical bytes that operators sign. Lists keep the order of
// the file; it is part of what is signed.
func (c *Charter) Encode() []byte {
	e := canon.New(Domain).String(c.Name).Digest(c.Cluster).Uint64(c.Version).Digest(c.Previous).Strings(c.Organisations)
	e.List(len(c.Signers))
	for _, s := range c.Signers {
		e.String(string(s.Name)).String(s.Org).String(string(s.Peer))
	}
	e.List(len(c.Coordinators))
	for _, s := range c.Coordinators {
		e.String(s.Name).String(s.Org).String(string(s.Peer))
	}
	e.List(len(c.People))
	for _, p := range c.People {
		e.String(p.Name).String(p.Org).Strings(p.Groups).List(len(p.Keys))
		for _, k := range p.Keys {
			e.String(k.Kind).String(k.Public)
		}
	}
	e.List(len(c.Services))
	for _, s := range c.Services {
		e.String(s.Name).String(s.Org).String(s.Key.Kind).String(s.Key.Public).String(s.Role)
	}
	e.List(len(c.Chains))
	for _, ch := range c.Chains {
		e.String(ch.Name).String(ch.Kind).Uint64(ch.ChainID)
	}
	e.List(len(c.Assets))
	for _, a := range c.Assets {
		e.String(a.Symbol).String(a.Chain).String(a.Contract).Uint64(uint64(a.Decimals))
	}
	e.List(len(c.Destinations))
	for _, d := range c.Destinations {
		e.String(d.Name).String(d.Kind)
		if d.Keepers == nil {
			e.List(0)
		} else {
			e.List(1).String(d.Keepers.Group).Uint64(uint64(d.Keepers.K)).Uint64(uint64(d.Keepers.Orgs))
		}
		e.String(d.MaxAge).List(len(d.Entries))
		for _, x := range d.Entries {
			e.String(x.Chain).String(x.Address).String(x.Label)
		}
	}
	e.Uint64(uint64(c.Quorum.Need)).Uint64(uint64(c.Quorum.Of)).List(len(c.Rules))
	for _, r := range c.Rules {
		e.String(r.Name).String(r.When).String(r.Deny).Strings(r.MaxAmount).String(r.FeeCap).Strings(r.Destinations).List(len(r.Approvals))
		for _, q := range r.Approvals {
			e.String(q.Group).Uint64(uint64(q.K)).Uint64(uint64(q.Orgs))
		}
		e.Strings(r.Keys)
	}
	a := c.Admin
	e.String(a.Group).Uint64(uint64(a.K)).Uint64(uint64(a.Orgs)).Strings(a.Keys).String(a.Delay).String(a.NarrowDelay)
	e.Strings(c.Veto)
	if f := c.Freshness; f == nil {
		e.List(0)
	} else {
		e.List(1).Uint64(uint64(f.Heads)).String(f.Within)
	}
	return e.Encoded()
}

// Digest identifies the charter; it is what people compare by another channel.
func (c *Charter) Digest() canon.Digest { return canon.Sum(c.Encode()) }

// Policy is the charter's compiled rules. They are compiled once; the digest makes
// sure that what was compiled is what the charter says now.
func (c *Charter) Policy() (*policy.Set, error) {
	digest := c.Digest()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.compiled != nil && c.of == digest {
		return c.compiled, nil
	}
	set, err := policy.Compile(c.Rules, c.vocabulary())
	if err != nil {
		return nil, err
	}
	c.compiled, c.of = set, digest
	return set, nil
}

func (c *Charter) vocabulary() policy.Vocabulary {
	v := policy.Vocabulary{Lists: map[string]policy.List{}, Groups: map[string]policy.Group{}, Organisations: c.Organisations}
	for _, a := range c.Assets {
		v.Assets = append(v.Assets, policy.Asset{Symbol: a.Symbol, Chain: a.Chain, Decimals: a.Decimals, Native: a.Contract == ""})
	}
	for _, d := range c.Destinations {
		v.Lists[d.Name] = policy.List{Kind: d.Kind, Kept: d.Keepers != nil, Entries: d.Entries}
	}
	orgs := map[string]map[string]bool{}
	for _, p := range c.People {
		v.Initiators = append(v.Initiators, p.Name)
		for _, g := range p.Groups {
			if orgs[g] == nil {
				orgs[g] = map[string]bool{}
			}
			orgs[g][p.Org] = true
			v.Groups[g] = policy.Group{Members: v.Groups[g].Members + 1, Orgs: len(orgs[g])}
		}
	}
	for _, s := range c.Services {
		v.Initiators = append(v.Initiators, s.Name)
	}
	return v
}

func find[T any](list []T, is func(T) bool) (T, bool) {
	for _, x := range list {
		if is(x) {
			return x, true
		}
	}
	var none T
	return none, false
}

// Signer looks a signer up by name.
func (c *Charter) Signer(id party.ID) (Signer, bool) {
	return find(c.Signers, func(s Signer) bool { return s.Name == id })
}

// SignerByPeer looks a signer up by identity.
func (c *Charter) SignerByPeer(id identity.ID) (Signer, bool) {
	return find(c.Signers, func(s Signer) bool { return s.Peer == id })
}

// Coordinator looks a coordinator up by name.
func (c *Charter) Coordinator(name string) (Coordinator, bool) {
	return find(c.Coordinators, func(s Coordinator) bool { return s.Name == name })
}

// CoordinatorByPeer looks a coordinator up by identity.
func (c *Charter) CoordinatorByPeer(id identity.ID) (Coordinator, bool) {
	return find(c.Coordinators, func(s Coordinator) bool { return s.Peer == id })
}

// Person looks a person up by name.
func (c *Charter) Person(name string) (Person, bool) {
	return find(c.People, func(p Person) bool { return p.Name == name })
}

// Service looks a service up by name.
func (c *Charter) Service(name string) (Service, bool) {
	return find(c.Services, func(s Service) bool { return s.Name == name })
}

// Chain looks a chain up by name.
func (c *Charter) Chain(name string) (Chain, bool) {
	return find(c.Chains, func(ch Chain) bool { return ch.Name == name })
}

// Asset looks an asset of a chain up by symbol.
func (c *Charter) Asset(chain, symbol string) (Asset, bool) {
	return find(c.Assets, func(a Asset) bool { return a.Chain == chain && a.Symbol == symbol })
}

// NativeAsset is a chain's own coin, in which fees are paid.
func (c *Charter) NativeAsset(chain string) (Asset, bool) {
	return find(c.Assets, func(a Asset) bool { return a.Chain == chain && a.Contract == "" })
}

// Parties are the names of all signers.
func (c *Charter) Parties() party.Set {
	var ids []party.ID
	for _, s := range c.Signers {
		ids = append(ids, s.Name)
	}
	set, err := party.NewSet(ids...)
	if err != nil {
		return nil // Validate refuses duplicates
	}
	return set
}

// DestinationLabel is what lists call an address, given what keepers signed of them, and
// "" if none has it. That one forbids it stands first.
func (c *Charter) DestinationLabel(held map[string]ListState, chain, address string) string {
	var labels []string
	lists := c.Lists(held, 0) // what a list that is too old calls it is its name still
	for _, d := range c.Destinations {
		for _, e := range lists[d.Name].Entries {
			switch {
			case e.Chain != chain || e.Address != address:
			case d.Kind == policy.ListSanctions:
				return fmt.Sprintf("SANCTIONED by list %s: %s", d.Name, e.Label)
			case !slices.Contains(labels, e.Label): // keepers of two lists may call it differently
				labels = append(labels, e.Label)
			}
		}
	}
	return strings.Join(labels, "; ")
}
