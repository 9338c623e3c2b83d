package charter

import (
	"fmt"
	"math"

	"coffer/canon"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

const (
	maxName    = 256     // of any name; Validate is stricter
	maxKeyText = 4 << 10 // of a public key
)

// Parse reads canonical bytes. It checks their form only; whoever takes a charter
// from somebody else calls Validate, and verifies signatures over exactly these bytes.
func Parse(raw []byte) (*Charter, error) {
	if len(raw) > maxCharter {
		return nil, fmt.Errorf("charter has %d bytes, at most %d allowed", len(raw), maxCharter)
	}
	d := canon.NewDecoder(Domain, raw)
	number := func() int {
		v := d.Uint64()
		if v > math.MaxInt32 {
			d.Fail(fmt.Errorf("number %d is out of range", v))
			return 0
		}
		return int(v)
	}
	c := &Charter{
		Name: d.String(maxName), Cluster: d.Digest(), Version: d.Uint64(), Previous: d.Digest(),
		Organisations: d.Strings(maxOrganisations, maxName),
	}
	for range d.List(maxSigners) {
		c.Signers = append(c.Signers, Signer{Name: party.ID(d.String(maxName)), Org: d.String(maxName), Peer: identity.ID(d.String(maxName))})
	}
	for range d.List(maxCoordinators) {
		c.Coordinators = append(c.Coordinators, Coordinator{Name: d.String(maxName), Org: d.String(maxName), Peer: identity.ID(d.String(maxName))})
	}
	key := func() credential.Key { return credential.Key{Kind: d.String(maxName), Public: d.String(maxKeyText)} }
	for range d.List(maxPeople) {
		p := Person{Name: d.String(maxName), Org: d.String(maxName), Groups: d.Strings(maxGroups, maxName)}
		for range d.List(maxKeys) {
			p.Keys = append(p.Keys, key())
		}
		c.People = append(c.People, p)
	}
	for range d.List(maxServices) {
		c.Services = append(c.Services, Service{Name: d.String(maxName), Org: d.String(maxName), Key: key(), Role: d.String(maxName)})
	}
	for range d.List(maxChains) {
		c.Chains = append(c.Chains, Chain{Name: d.String(maxName), Kind: d.String(maxName), ChainID: d.Uint64()})
	}
	for range d.List(maxAssets) {
		c.Assets = append(c.Assets, Asset{Symbol: d.String(maxName), Chain: d.String(maxName), Contract: d.String(maxName), Decimals: number()})
	}
	for range d.List(maxLists) {
		l := DestinationList{Name: d.String(maxName), Kind: d.String(maxName)}
		for range d.List(1) {
			l.Keepers = &policy.Requirement{Group: d.String(maxName), K: number(), Orgs: number()}
		}
		l.MaxAge = d.String(maxName)
		for range d.List(maxEntries) {
			l.Entries = append(l.Entries, policy.Destination{Chain: d.String(maxName), Address: d.String(maxName), Label: d.String(maxName)})
			if d.Err() != nil {
				break
			}
		}
		c.Destinations = append(c.Destinations, l)
	}
	c.Quorum = party.Quorum{Need: number(), Of: number()}
	for range d.List(policy.MaxRules) {
		r := policy.Rule{
			Name: d.String(maxName), When: d.String(policy.MaxWhen), Deny: d.String(maxName),
			MaxAmount: d.Strings(maxAssets, maxName), FeeCap: d.String(maxName), Destinations: d.Strings(maxLists, maxName),
		}
		for range d.List(maxLists) {
			r.Approvals = append(r.Approvals, policy.Requirement{Group: d.String(maxName), K: number(), Orgs: number()})
		}
		r.Keys = d.Strings(maxLists, maxName)
		c.Rules = append(c.Rules, r)
	}
	c.Admin = AdminRule{
		Group: d.String(maxName), K: number(), Orgs: number(),
		Keys: d.Strings(maxLists, maxName), Delay: d.String(maxName), NarrowDelay: d.String(maxName),
	}
	c.Veto = d.Strings(maxGroups, maxName)
	for range d.List(1) {
		c.Freshness = &Freshness{Heads: number(), Within: d.String(maxName)}
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	return c, nil
}
