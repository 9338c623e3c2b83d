package charter

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"coffer/chain/evm/eip55"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

// The largest charter; far above what people can oversee.
const (
	maxOrganisations = 64
	maxSigners       = 20
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
	maxFaults        = 40

	maxVersion = 1 << 32

	// maxChainID is EIP-2294's bound, above which signing hashes overflow 64 bits.
	maxChainID = 1<<63 - 37
)

// Validate reports everything that is wrong with a charter, each with its field.
func (c *Charter) Validate() error {
	v := &validator{c: c, orgs: map[string]bool{}, keys: map[string]string{}, names: map[string]string{}}
	// Sizes first: nothing below may take long, whoever wrote the file.
	v.sizes()
	if len(v.faults) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(v.faults...))
	}
	v.votes = everybody(c)
	v.head()
	v.processes()
	v.members()
	v.money()
	v.authority()
	if more := len(v.faults) - maxFaults; more > 0 {
		v.faults = append(v.faults[:maxFaults:maxFaults], fmt.Errorf("and %d more", more))
	}
	if len(v.faults) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(v.faults...))
	}
	return nil
}

type validator struct {
	c         *Charter
	orgs      map[string]bool
	keys      map[string]string    // whose key it is
	names     map[string]string    // what a name stands for
	contracts map[[2]string]string // symbol of a chain and contract
	votes     []policy.Vote        // of everybody, with every key
	faults    []error
}

func (v *validator) fail(where, format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
}

func (v *validator) sizes() {
	atMost := func(where string, n, most int) {
		if n > most && len(v.faults) < maxFaults {
			v.fail(where, "there are %d, at most %d allowed", n, most)
		}
	}
	c := v.c
	atMost("organisations", len(c.Organisations), maxOrganisations)
	atMost("signers", len(c.Signers), maxSigners)
	atMost("coordinators", len(c.Coordinators), maxCoordinators)
	atMost("people", len(c.People), maxPeople)
	for i, p := range c.People {
		atMost(fmt.Sprintf("people[%d].groups", i), len(p.Groups), maxGroups)
		atMost(fmt.Sprintf("people[%d].keys", i), len(p.Keys), maxKeys)
	}
	atMost("services", len(c.Services), maxServices)
	atMost("chains", len(c.Chains), maxChains)
	atMost("assets", len(c.Assets), maxAssets)
	atMost("destinations", len(c.Destinations), maxLists)
	for i, d := range c.Destinations {
		atMost(fmt.Sprintf("destinations[%d].entries", i), len(d.Entries), maxEntries)
	}
	atMost("rules", len(c.Rules), policy.MaxRules)
	atMost("veto", len(c.Veto), maxGroups)
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
		v.fail(where+".org", "%q is not one of organisations; add it there or correct it", clip(org))
	}
}

// key makes sure that a key belongs to one only: one key, one person, one vote.
func (v *validator) key(where, key, owner string) {
	if other, taken := v.keys[key]; taken {
		v.fail(where, "the key of %s is that of %s; every key belongs to one only", owner, other)
	}
	v.keys[key] = owner
}

// peer registers an identity under the form that a person's key would have, so that
// a machine's key is found also where it is listed as a person's: whoever holds it
// would be an approver and a signer at once.
func (v *validator) peer(where string, id identity.ID, owner string) {
	pub, err := id.PublicKey()
	if err != nil {
		v.fail(where, "%w", err)
		return
	}
	blob, err := ssh.NewPublicKey(pub)
	if err != nil {
		v.fail(where, "%w", err)
		return
	}
	v.key(where, string(ssh.MarshalAuthorizedKey(blob)), owner)
}

func (v *validator) head() {
	c := v.c
	if err := policy.CheckName(c.Name); err != nil {
		v.fail("name", "%w", err)
	}
	if c.Cluster.IsZero() {
		v.fail("cluster", "it is zero; make the file with coffer charter init, which draws it at random")
	}
	switch {
	case c.Version == 0 || c.Version > maxVersion:
		v.fail("version", "it is %d; the first is 1, and each is one more than the one before", c.Version)
	case c.Version == 1 && !c.Previous.IsZero():
		v.fail("previous", "version 1 has none; leave it zero")
	case c.Version > 1 && c.Previous.IsZero():
		v.fail("previous", "it is zero; version %d names the digest of version %d, as coffer charter propose fills in", c.Version, c.Version-1)
	}
	if len(c.Organisations) == 0 {
		v.fail("organisations", "there are none; name at least one")
	}
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
	for i, s := range c.Signers {
		where := fmt.Sprintf("signers[%d]", i)
		v.name(where, string(s.Name), "signer")
		v.org(where, s.Org)
		v.peer(where+".peer", s.Peer, fmt.Sprintf("signer %q", s.Name))
	}
	if len(c.Coordinators) == 0 {
		v.fail("coordinators", "there are none; list at least one")
	}
	for i, s := range c.Coordinators {
		where := fmt.Sprintf("coordinators[%d]", i)
		v.name(where, s.Name, "coordinator")
		v.org(where, s.Org)
		// A signer that is a coordinator too could be asked by itself.
		v.peer(where+".peer", s.Peer, fmt.Sprintf("coordinator %q", s.Name))
	}
}

func (v *validator) members() {
	c := v.c
	for i, p := range c.People {
		where := fmt.Sprintf("people[%d]", i)
		v.name(where, p.Name, "person")
		v.org(where, p.Org)
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
		for n, k := range p.Keys {
			v.credential(fmt.Sprintf("%s.keys[%d]", where, n), k, fmt.Sprintf("person %q", p.Name))
		}
	}
	for i, s := range c.Services {
		where := fmt.Sprintf("services[%d]", i)
		v.name(where, s.Name, "service")
		v.org(where, s.Org)
		v.credential(where+".key", s.Key, fmt.Sprintf("service %q", s.Name))
		if s.Role != RoleInitiator && s.Role != RoleReader {
			v.fail(where+".role", "%q is not known; write %q for a service that only reads, or leave it out for one that asks for payments", clip(s.Role), RoleReader)
		}
	}
}

func (v *validator) credential(where string, k credential.Key, owner string) {
	if err := k.Validate(); err != nil {
		v.fail(where, "%s: %w", owner, err)
		return
	}
	// By the key inside: the same secret in a file and in a passkey is one.
	v.key(where, k.Bare()+"\n", owner)
}

func (v *validator) money() {
	c := v.c
	if len(c.Chains) == 0 {
		v.fail("chains", "there are none; list at least one")
	}
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
			v.fail(where+".kind", "%q is not known; this release knows \"evm\"", clip(ch.Kind))
		}
		if ch.ChainID == 0 || ch.ChainID > maxChainID {
			v.fail(where+".chain_id", "it is %d; write the network's EIP-155 chain ID", ch.ChainID)
		}
		// Two names for one network would give one account two journals of nonces.
		if other, twice := ids[ch.ChainID]; twice {
			v.fail(where+".chain_id", "%d is that of %q already", ch.ChainID, other)
		}
		ids[ch.ChainID] = ch.Name
	}
	native := map[string]string{}
	v.contracts = map[[2]string]string{}
	for i, a := range c.Assets {
		where := fmt.Sprintf("assets[%d]", i)
		if _, ok := names[a.Chain]; !ok {
			v.fail(where+".chain", "%q is not one of chains", clip(a.Chain))
		}
		if a.Decimals < 0 || a.Decimals > policy.MaxDecimals {
			v.fail(where+".decimals", "it is %d; write 0 to %d", a.Decimals, policy.MaxDecimals)
		}
		if a.Contract == "" {
			if other, twice := native[a.Chain]; twice {
				v.fail(where+".contract", "chain %q has the native asset %s already; write the contract of %s", a.Chain, other, a.Symbol)
			}
			native[a.Chain] = a.Symbol
			continue
		}
		v.address(where+".contract", a.Contract)
		key := [2]string{a.Chain, a.Contract}
		if other, twice := v.contracts[key]; twice {
			v.fail(where+".contract", "it is that of %s already; keep one", other)
		}
		v.contracts[key] = a.Symbol
	}
	for _, ch := range c.Chains {
		if native[ch.Name] == "" {
			v.fail("assets", "chain %q has no native asset, in which fees are paid; add an asset without a contract", ch.Name)
		}
	}
	v.destinations(names)
}

func (v *validator) destinations(chains map[string]Chain) {
	names := map[string]bool{}
	labels := map[[2]string]string{} // of a chain and address
	named := map[[2]string]string{}  // address of a chain and label
	for i, list := range v.c.Destinations {
		at := fmt.Sprintf("destinations[%d]", i)
		if err := policy.CheckName(list.Name); err != nil {
			v.fail(at+".name", "%w", err)
		}
		if names[list.Name] {
			v.fail(at+".name", "%q is named twice", list.Name)
		}
		names[list.Name] = true
		v.list(at, list)
		listed := map[[2]string]bool{}
		for n, e := range list.Entries {
			where := fmt.Sprintf("%s.entries[%d]", at, n)
			if _, ok := chains[e.Chain]; !ok {
				v.fail(where+".chain", "%q is not one of chains", clip(e.Chain))
			}
			v.address(where+".address", e.Address)
			key := [2]string{e.Chain, e.Address}
			// The usual way to lose tokens for good.
			if symbol, ok := v.contracts[key]; ok {
				v.fail(where+".address", "it is the contract of %s itself, which gives nothing back; write the recipient's address", symbol)
			}
			if listed[key] {
				v.fail(where+".address", "%s on %q is listed twice; remove one", e.Address, e.Chain)
			}
			listed[key] = true
			if err := policy.CheckText(e.Label, maxLabel); err != nil {
				v.fail(where+".label", "%w", err)
				continue
			}
			// People decide by the label: an address has one, wherever it is listed,
			// and no other address on the chain has the same or one like it.
			if other, ok := labels[key]; ok && other != e.Label {
				v.fail(where+".label", "the address is %q elsewhere and %q here; use one label", other, e.Label)
			}
			labels[key] = e.Label
			name := [2]string{e.Chain, strings.ToLower(e.Label)}
			if other, ok := named[name]; ok && other != e.Address {
				v.fail(where+".label", "%q is the label of %s too; tell them apart", e.Label, other)
			}
			named[name] = e.Address
		}
	}
}

// list checks what is said of a list as a whole: its kind, and who keeps it.
func (v *validator) list(at string, l DestinationList) {
	switch {
	case l.Kind != policy.ListDestinations && l.Kind != policy.ListSanctions:
		v.fail(at+".kind", "%q is not known; write %q for a list to which nothing is paid, or leave it out for one to which rules pay", clip(l.Kind), policy.ListSanctions)
	case l.Kind == policy.ListSanctions && l.Keepers == nil:
		v.fail(at+".keepers", "a sanctions list has keepers, who sign its versions; name their group, such as {\"group\": \"compliance\", \"k\": 1}")
	case l.Kind == policy.ListSanctions && l.MaxAge == "":
		v.fail(at+".max_age", "a sanctions list says how old it may be, or an old one would count for ever; write such as 24h")
	case l.Keepers == nil && l.MaxAge != "":
		v.fail(at+".max_age", "nobody could renew a list without keepers; name them, or leave max_age out")
	case l.Keepers == nil && len(l.Entries) == 0:
		v.fail(at+".entries", "%q has none; add an address, name keepers who will, or leave the list out", l.Name)
	}
	v.duration(at+".max_age", l.MaxAge)
	if l.Keepers != nil {
		v.requirement(at+".keepers", *l.Keepers, nil)
	}
}

// duration checks a time's text, and returns it.
func (v *validator) duration(where, text string) time.Duration {
	d, err := ParseDuration(text)
	if err != nil {
		v.fail(where, "%w", err)
	}
	return d
}

// requirement checks that enough people, of enough organisations, have a key of a kind
// that counts.
func (v *validator) requirement(where string, q policy.Requirement, kinds []string) {
	if err := policy.CheckKeyKinds(kinds); err != nil {
		v.fail(where+".keys", "%w", err)
		return
	}
	people, orgs := policy.Count(q, kinds, v.votes)
	of := fmt.Sprintf("group %q has %d people, of %d organisations", clip(q.Group), people, orgs)
	if len(kinds) > 0 {
		of = fmt.Sprintf("group %q has %d people, of %d organisations, with a key of kind %s", clip(q.Group), people, orgs, strings.Join(kinds, " or "))
	}
	switch {
	case q.K < 1:
		v.fail(where+".k", "it is %d; demand at least 1", q.K)
	case q.K > people:
		v.fail(where+".k", "it is %d and %s, so it can never be met; lower it or enrol more", q.K, of)
	case q.Orgs < 0 || q.Orgs > q.K:
		v.fail(where+".orgs", "it is %d of %d people; write 0 to %d", q.Orgs, q.K, q.K)
	case q.Orgs > orgs:
		v.fail(where+".orgs", "it is %d and %s, so it can never be met; lower it or enrol more", q.Orgs, of)
	}
}

// address accepts a checksummed address other than zero, from which nothing returns.
func (v *validator) address(where, s string) {
	a, err := eip55.Parse(s)
	if err != nil {
		v.fail(where, "%w", err)
	} else if a == [20]byte{} {
		v.fail(where, "it is the zero address, from which nothing returns; write the right one")
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
	for i, r := range c.Rules {
		for n, q := range r.Approvals {
			// What does not look at keys is the compiler's word already.
			if len(r.Keys) > 0 && policy.CheckKeyKinds(r.Keys) == nil {
				v.requirement(fmt.Sprintf("rules[%d] %+q.approvals[%d]", i, clip(r.Name), n), q, r.Keys)
			}
		}
	}
	v.admin()
	seen := map[string]bool{}
	for i, g := range c.Veto {
		where := fmt.Sprintf("veto[%d]", i)
		if seen[g] {
			v.fail(where, "%q is named twice", clip(g))
		}
		seen[g] = true
		if people, _ := policy.Count(policy.Requirement{Group: g}, nil, v.votes); people == 0 {
			v.fail(where, "nobody is in group %q; name a group that people are in", clip(g))
		}
	}
	if f := c.Freshness; f != nil {
		least, most := c.Quorum.Of-c.Quorum.Need, c.Quorum.Of-1
		if f.Heads < least || f.Heads > most {
			v.fail("freshness.heads", "it is %d; write %d to %d: with fewer, two quorums could meet without knowing of each other, and there are no more other signers", f.Heads, least, most)
		}
		if within := v.duration("freshness.within", f.Within); f.Within == "" || within < minWithin || within > maxWithin {
			v.fail("freshness.within", "it is %+q; write 10s to 10m", clip(f.Within))
		}
	}
}

// The bounds of how old a head may be: heads are sent every few seconds, and a freeze
// should stop a signer that is cut off within minutes.
const (
	minWithin = 10 * time.Second
	maxWithin = 10 * time.Minute
)

func (v *validator) admin() {
	a := v.c.Admin
	members, _ := policy.Count(a.Requirement(), nil, v.votes)
	switch {
	case members == 0:
		v.fail("admin.group", "nobody is in group %q; name a group that people are in", clip(a.Group))
	case a.K <= members/2: // without 2·K, which overflows
		v.fail("admin.k", "%d of %d admins: more than half must agree, or two halves could write two charters", a.K, members)
	case a.K < 2:
		v.fail("admin.k", "one admin alone could write the next charter, and so could one stolen key; enrol a second in %q and write 2", a.Group)
	default:
		v.requirement("admin", a.Requirement(), a.Keys)
	}
	delay, narrow := v.duration("admin.delay", a.Delay), v.duration("admin.narrow_delay", a.NarrowDelay)
	if narrow > delay {
		v.fail("admin.narrow_delay", "it is %s and admin.delay %q; what only narrows waits at most as long", a.NarrowDelay, a.Delay)
	}
}

// words of a quorum for people.
func quorumWords(q party.Quorum) string {
	return fmt.Sprintf("exactly %d of %d signers sign", q.Need, q.Of)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
