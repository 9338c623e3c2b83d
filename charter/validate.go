package charter

import (
	"errors"
	"fmt"

	"coffer/chain/evm/eip55"
	"coffer/credential"
	"coffer/party"
	"coffer/policy"
)

// The largest charter; far above what people can oversee.
const (
	maxOrganisations = 64
	maxCoordinators  = 16
	maxPeople        = 512
	maxKeys          = 8
	maxGroups        = 16
	maxServices      = 256
	maxChains        = 64
	maxAssets        = 512
	maxLists         = 64
	maxEntries       = 4096
	maxLabel         = 80
)

// Validate reports everything that is wrong with a charter, each with its field.
func (c *Charter) Validate() error {
	v := &validator{c: c, orgs: map[string]bool{}, keys: map[string]string{}, names: map[string]string{}}
	v.head()
	v.processes()
	v.members()
	v.money()
	v.authority()
	if len(v.faults) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(v.faults...))
	}
	return nil
}

type validator struct {
	c      *Charter
	orgs   map[string]bool
	keys   map[string]string // whose key it is
	names  map[string]string // what a name stands for
	faults []error
}

func (v *validator) fail(where, format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
}

func (v *validator) atMost(where string, n, most int) bool {
	if n > most {
		v.fail(where, "there are %d, at most %d allowed", n, most)
	}
	return n <= most
}

// name checks a name's form and that nothing else in the charter has it: a signer
// "desk" and a person "desk" would be one word for two in logs and verdicts.
func (v *validator) name(where, name, what string) {
	if err := policy.CheckName(name); err != nil {
		v.fail(where+".name", "%w", err)
		return
	}
	if other, taken := v.names[name]; taken {
		v.fail(where+".name", "%q is the name of a %s already; choose another", name, other)
	}
	v.names[name] = what
}

func (v *validator) org(where, org string) {
	if !v.orgs[org] {
		v.fail(where+".org", "%q is not one of organisations; add it there or correct it", org)
	}
}

// key makes sure that a key belongs to one only: one key, one person, one vote.
func (v *validator) key(where, key, owner string) {
	if other, taken := v.keys[key]; taken {
		v.fail(where, "the key of %s is that of %s; every key belongs to one only", owner, other)
	}
	v.keys[key] = owner
}

func (v *validator) head() {
	c := v.c
	if err := policy.CheckName(c.Name); err != nil {
		v.fail("name", "%w", err)
	}
	if c.Cluster.IsZero() {
		v.fail("cluster", "it is zero; make the file with coffer charter init, which draws it at random")
	}
	if c.Version != 1 {
		v.fail("version", "it is %d; this release knows version 1 only", c.Version)
	}
	if !c.Previous.IsZero() {
		v.fail("previous", "version 1 has none; leave it zero")
	}
	if len(c.Organisations) == 0 {
		v.fail("organisations", "there are none; name at least one")
	}
	v.atMost("organisations", len(c.Organisations), maxOrganisations)
	for i, o := range c.Organisations {
		where := fmt.Sprintf("organisations[%d]", i)
		if err := policy.CheckName(o); err != nil {
			v.fail(where, "%w", err)
		}
		if v.orgs[o] {
			v.fail(where, "%q is named twice", o)
		}
		v.orgs[o] = true
	}
}

func (v *validator) processes() {
	c := v.c
	if err := c.Quorum.Validate(); err != nil {
		v.fail("quorum", "%w", err)
	}
	if len(c.Signers) != c.Quorum.Of {
		v.fail("quorum.of", "it is %d and there are %d signers; they must be equal", c.Quorum.Of, len(c.Signers))
	}
	v.atMost("signers", len(c.Signers), 20)
	for i, s := range c.Signers {
		where := fmt.Sprintf("signers[%d]", i)
		v.name(where, string(s.Name), "signer")
		v.org(where, s.Org)
		if _, err := s.Peer.PublicKey(); err != nil {
			v.fail(where+".peer", "%w", err)
		}
		v.key(where+".peer", string(s.Peer), fmt.Sprintf("signer %q", s.Name))
	}
	if len(c.Coordinators) == 0 {
		v.fail("coordinators", "there are none; list at least one")
	}
	v.atMost("coordinators", len(c.Coordinators), maxCoordinators)
	for i, s := range c.Coordinators {
		where := fmt.Sprintf("coordinators[%d]", i)
		v.name(where, s.Name, "coordinator")
		v.org(where, s.Org)
		if _, err := s.Peer.PublicKey(); err != nil {
			v.fail(where+".peer", "%w", err)
		}
		// A signer that is a coordinator too could be asked by itself.
		v.key(where+".peer", string(s.Peer), fmt.Sprintf("coordinator %q", s.Name))
	}
}

func (v *validator) members() {
	c := v.c
	v.atMost("people", len(c.People), maxPeople)
	for i, p := range c.People {
		where := fmt.Sprintf("people[%d]", i)
		v.name(where, p.Name, "person")
		v.org(where, p.Org)
		v.atMost(where+".groups", len(p.Groups), maxGroups)
		seen := map[string]bool{}
		for n, g := range p.Groups {
			at := fmt.Sprintf("%s.groups[%d]", where, n)
			if err := policy.CheckName(g); err != nil {
				v.fail(at, "%w", err)
			}
			if seen[g] {
				v.fail(at, "%q is named twice; a person counts once in a group", g)
			}
			seen[g] = true
		}
		if len(p.Keys) == 0 {
			v.fail(where+".keys", "%q has no key; add the card of coffer enrol", p.Name)
		}
		v.atMost(where+".keys", len(p.Keys), maxKeys)
		for n, k := range p.Keys {
			v.credential(fmt.Sprintf("%s.keys[%d]", where, n), k, fmt.Sprintf("person %q", p.Name))
		}
	}
	v.atMost("services", len(c.Services), maxServices)
	for i, s := range c.Services {
		where := fmt.Sprintf("services[%d]", i)
		v.name(where, s.Name, "service")
		v.org(where, s.Org)
		v.credential(where+".key", s.Key, fmt.Sprintf("service %q", s.Name))
	}
}

func (v *validator) credential(where string, k credential.Key, owner string) {
	if err := k.Validate(); err != nil {
		v.fail(where, "%w", err)
		return
	}
	v.key(where, k.Kind+" "+k.Public, owner)
}

func (v *validator) money() {
	c := v.c
	if len(c.Chains) == 0 {
		v.fail("chains", "there are none; list at least one")
	}
	v.atMost("chains", len(c.Chains), maxChains)
	names, ids := map[string]Chain{}, map[uint64]string{}
	for i, ch := range c.Chains {
		where := fmt.Sprintf("chains[%d]", i)
		if err := policy.CheckName(ch.Name); err != nil {
			v.fail(where+".name", "%w", err)
		}
		if _, twice := names[ch.Name]; twice {
			v.fail(where+".name", "%q is named twice", ch.Name)
		}
		names[ch.Name] = ch
		if ch.Kind != "evm" {
			v.fail(where+".kind", "%q is not known; this release knows \"evm\"", ch.Kind)
		}
		if ch.ChainID == 0 {
			v.fail(where+".chain_id", "it is 0; write the network's EIP-155 chain ID")
		}
		// Two names for one network would give one account two journals of nonces.
		if other, twice := ids[ch.ChainID]; twice {
			v.fail(where+".chain_id", "%d is that of %q already", ch.ChainID, other)
		}
		ids[ch.ChainID] = ch.Name
	}
	v.atMost("assets", len(c.Assets), maxAssets)
	contracts, native := map[string]string{}, map[string]bool{}
	for i, a := range c.Assets {
		where := fmt.Sprintf("assets[%d]", i)
		if _, ok := names[a.Chain]; !ok {
			v.fail(where+".chain", "%q is not one of chains", a.Chain)
		}
		if a.Decimals < 0 || a.Decimals > policy.MaxDecimals {
			v.fail(where+".decimals", "it is %d; write 0 to %d", a.Decimals, policy.MaxDecimals)
		}
		if a.Contract == "" {
			native[a.Chain] = true
			continue
		}
		if _, err := eip55.Parse(a.Contract); err != nil {
			v.fail(where+".contract", "%w", err)
		}
		if other, twice := contracts[a.Chain+a.Contract]; twice {
			v.fail(where+".contract", "it is that of %q already", other)
		}
		contracts[a.Chain+a.Contract] = a.Symbol
	}
	for _, ch := range c.Chains {
		if !native[ch.Name] {
			v.fail("assets", "chain %q has no coin of its own, in which fees are paid; add an asset without a contract", ch.Name)
		}
	}
	v.destinations(names)
}

func (v *validator) destinations(chains map[string]Chain) {
	v.atMost("destinations", len(v.c.Destinations), maxLists)
	names, labels, where := map[string]bool{}, map[[2]string]string{}, ""
	for i, list := range v.c.Destinations {
		at := fmt.Sprintf("destinations[%d]", i)
		if err := policy.CheckName(list.Name); err != nil {
			v.fail(at+".name", "%w", err)
		}
		if names[list.Name] {
			v.fail(at+".name", "%q is named twice", list.Name)
		}
		names[list.Name] = true
		if !v.atMost(at+".entries", len(list.Entries), maxEntries) {
			continue
		}
		for n, e := range list.Entries {
			where = fmt.Sprintf("%s.entries[%d]", at, n)
			if _, ok := chains[e.Chain]; !ok {
				v.fail(where+".chain", "%q is not one of chains", e.Chain)
			}
			if _, err := eip55.Parse(e.Address); err != nil {
				v.fail(where+".address", "%w", err)
			}
			if err := policy.CheckText(e.Label, maxLabel); err != nil {
				v.fail(where+".label", "%w", err)
			}
			// People decide by the label: an address has one, wherever it is listed.
			key := [2]string{e.Chain, e.Address}
			if other, ok := labels[key]; ok && other != e.Label {
				v.fail(where+".label", "the address is %q elsewhere and %q here; use one label", other, e.Label)
			}
			labels[key] = e.Label
		}
	}
}

func (v *validator) authority() {
	c := v.c
	// Only with sound references does the compiler's word mean something.
	if len(v.faults) == 0 {
		if _, err := c.Policy(); err != nil {
			v.fail("rules", "%w", err)
		}
	}
	group := c.vocabulary().Groups[c.Admin.Group]
	switch {
	case group.Members == 0:
		v.fail("admin.group", "nobody is in group %q", c.Admin.Group)
	case 2*c.Admin.K <= group.Members:
		v.fail("admin.k", "%d of %d admins: more than half must agree, or two halves could write two charters", c.Admin.K, group.Members)
	case c.Admin.K > group.Members:
		v.fail("admin.k", "%d of %d admins can never agree", c.Admin.K, group.Members)
	}
	if c.Admin.Orgs < 0 || c.Admin.Orgs > group.Orgs {
		v.fail("admin.orgs", "%d organisations, and the group has people of %d", c.Admin.Orgs, group.Orgs)
	}
}

// words of a quorum for people.
func quorumWords(q party.Quorum) string {
	return fmt.Sprintf("exactly %d of %d signers sign", q.Need, q.Of)
}
