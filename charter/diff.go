package charter

import (
	"fmt"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/credential"
	"coffer/policy"
)

// Change is one thing that a new version makes different, in words for people.
type Change struct {
	// Widens says that somebody may do, or something may happen, that could not before,
	// or that somebody who could stop things cannot any more. Every doubt is a yes.
	Widens bool   `json:"widens"`
	Text   string `json:"text"`
}

// Narrows reports whether new takes away only: what it allows, old allows too, nobody
// and no key is in it that was not, and whoever could stop things still can. Else a
// quorum of stolen keys would first put out, at once, everybody who could stop or notice
// the version that widens. It is what people read in Diff: a version narrows if no line
// of that widens, so no change waits less long than its words say.
func Narrows(old, new *Charter) bool {
	return !slices.ContainsFunc(Diff(old, new), func(c Change) bool { return c.Widens })
}

// Diff says what differs in new, what widens first. Every difference of the canonical
// bytes has a line that tells it from every other, so that none hides behind another;
// only that new is the version after old goes without saying. Both are valid charters.
func Diff(old, new *Charter) []Change {
	d := &differ{old: old, new: new, oldVotes: everybody(old), newVotes: everybody(new)}
	d.losers = losers(old, new)
	d.head()
	d.processes()
	d.people()
	d.services()
	d.money()
	d.lists()
	d.rules()
	d.authority()
	slices.SortStableFunc(d.out, func(a, b Change) int {
		switch {
		case a.Widens == b.Widens:
			return 0
		case a.Widens:
			return -1
		}
		return 1
	})
	return d.out
}

type differ struct {
	old, new           *Charter
	oldVotes, newVotes []policy.Vote // of everybody, with every key
	losers             int           // people who are removed, or lose a key
	out                []Change
}

func (d *differ) widens(format string, args ...any) { d.say(true, format, args...) }

func (d *differ) say(widens bool, format string, args ...any) {
	d.out = append(d.out, Change{Widens: widens, Text: fmt.Sprintf(format, args...)})
}

// pair walks two lists whose items have names, and says when those that stay do not
// stand in the order of before with the new ones behind.
func pair[T any](d *differ, what string, old, new []T, name func(T) string, added, removed func(T), both func(o, n T)) {
	before, after := map[string]T{}, map[string]bool{}
	for _, o := range old {
		before[name(o)] = o
	}
	var order []string
	for _, n := range new {
		order = append(order, name(n))
		after[name(n)] = true
		if o, ok := before[name(n)]; ok {
			both(o, n)
		} else {
			added(n)
		}
	}
	var expected []string
	for _, o := range old {
		if after[name(o)] {
			expected = append(expected, name(o))
		} else {
			removed(o)
		}
	}
	for _, n := range order {
		if _, ok := before[n]; !ok {
			expected = append(expected, n)
		}
	}
	if !slices.Equal(order, expected) {
		d.order(what, order)
	}
}

const maxListed = 16

// listed is a list of names for people, clipped.
func listed(names []string) string {
	switch {
	case len(names) == 0:
		return "nobody"
	case len(names) > maxListed:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	}
	return strings.Join(names, ", ")
}

// order says that items stand in another order, in a way that no other order is said.
func (d *differ) order(what string, names []string) {
	digest := ""
	if len(names) > maxListed {
		digest = fmt.Sprintf(" (digest %s)", canon.New("").Strings(names).Sum())
	}
	d.say(false, "the order of %s is another, which changes nothing: %s%s", what, listed(names), digest)
}

func (d *differ) head() {
	o, n := d.old, d.new
	if n.Name != o.Name || n.Cluster != o.Cluster {
		d.widens("this is the charter of another cluster: %s (%s), not %s (%s)", n.Name, n.Cluster, o.Name, o.Cluster)
	}
	switch digest := o.Digest(); {
	case n.Version == o.Version && n.Previous == o.Previous:
	case n.Version == o.Version+1 && n.Previous == digest:
	default:
		d.say(false, "version %d, which follows %s, is compared with version %d, %s", n.Version, n.Previous, o.Version, digest)
	}
	self := func(s string) string { return s }
	pair(d, "organisations", o.Organisations, n.Organisations, self,
		func(s string) { d.widens("organisation %s is new", s) },
		func(s string) { d.say(false, "organisation %s is gone", s) },
		func(string, string) {})
}

func (d *differ) processes() {
	o, n := d.old, d.new
	pair(d, "signers", o.Signers, n.Signers, func(s Signer) string { return string(s.Name) },
		func(s Signer) {
			d.widens("signer %s of %s is new, under identity %s: it can hold shares and help to sign", s.Name, s.Org, s.Peer)
		},
		// Whoever is left decides without it, and it freezes nothing any more.
		func(s Signer) { d.widens("signer %s of %s, identity %s, is gone", s.Name, s.Org, s.Peer) },
		func(o, n Signer) {
			if o.Peer != n.Peer {
				d.widens("signer %s is whoever holds identity %s, and no longer %s", n.Name, n.Peer, o.Peer)
			}
			if o.Org != n.Org {
				d.widens("signer %s is of organisation %s, and no longer of %s", n.Name, n.Org, o.Org)
			}
		})
	if o.Quorum != n.Quorum {
		d.widens("%s; before: %s", quorumWords(n.Quorum), quorumWords(o.Quorum))
	}
	pair(d, "coordinators", o.Coordinators, n.Coordinators, func(s Coordinator) string { return s.Name },
		func(s Coordinator) {
			d.widens("coordinator %s of %s is new, under identity %s: it can bring requests to the signers", s.Name, s.Org, s.Peer)
		},
		func(s Coordinator) {
			d.say(false, "coordinator %s of %s, identity %s, is gone: signers talk to it no more", s.Name, s.Org, s.Peer)
		},
		func(o, n Coordinator) {
			if o.Peer != n.Peer {
				d.widens("coordinator %s is whoever holds identity %s, and no longer %s", n.Name, n.Peer, o.Peer)
			}
			if o.Org != n.Org {
				d.widens("coordinator %s is of organisation %s, and no longer of %s", n.Name, n.Org, o.Org)
			}
		})
}

func keyWords(k credential.Key) string {
	if f := k.Fingerprint(); f != "" {
		return k.Kind + " " + f
	}
	return k.Kind + " " + k.Public
}

func (d *differ) people() {
	pair(d, "people", d.old.People, d.new.People, func(p Person) string { return p.Name },
		func(p Person) {
			var keys []string
			for _, k := range p.Keys {
				keys = append(keys, keyWords(k))
			}
			groups := "no group"
			if len(p.Groups) > 0 {
				groups = "groups " + strings.Join(p.Groups, ", ")
			}
			d.widens("%s of %s is enrolled, can ask for payments and can freeze; %s; keys %s", p.Name, p.Org, groups, strings.Join(keys, ", "))
			for _, a := range abilities(d.new, d.newVotes, p) {
				d.widens("%s can %s", p.Name, a.text)
			}
		},
		func(p Person) {
			what := []string{"ask for payments", "freeze"}
			for _, a := range abilities(d.old, d.oldVotes, p) {
				what = append(what, a.what)
			}
			// With one version for each of many, those who could stop it are there to see it.
			waits := ""
			switch {
			case slices.ContainsFunc(p.Groups, d.hasSay):
				waits = unstops(p.Name)
			case d.losers > 1:
				waits = d.several() + "; freeze --person " + p.Name + " stops at once what they ask for"
			}
			d.say(waits != "", "%s of %s is removed and can no longer %s%s", p.Name, p.Org, strings.Join(what, "; "), waits)
		},
		d.person)
}

// losers counts the people who are in old and, in new, are not or have a key less.
func losers(old, new *Charter) int {
	n := 0
	for _, o := range old.People {
		p, _ := new.Person(o.Name)
		if slices.ContainsFunc(o.Keys, func(k credential.Key) bool { return !slices.Contains(p.Keys, k) }) {
			n++
		}
	}
	return n
}

func (d *differ) several() string {
	return fmt.Sprintf("; this waits: %d people leave or lose a key in one version", d.losers)
}

// unstops says why the removal of somebody's say is not quick, and what is.
func unstops(person string) string {
	return fmt.Sprintf("; this waits: somebody who could stop things no longer can; freeze --person %s stops at once what they ask for and approve", person)
}

// hasSay reports whether the members of a group have a say by which they stop things:
// as admins, keepers of a list, by a veto, or as approvers.
func (d *differ) hasSay(group string) bool {
	return slices.Contains(d.old.Veto, group) ||
		slices.ContainsFunc(demands(d.old), func(x demand) bool { return x.need.Group == group })
}

func (d *differ) person(o, n Person) {
	if o.Org != n.Org {
		d.widens("%s is of organisation %s, and no longer of %s", n.Name, n.Org, o.Org)
	}
	self := func(s string) string { return s }
	pair(d, "groups of "+n.Name, o.Groups, n.Groups, self,
		func(g string) { d.widens("%s joins group %s%s", n.Name, g, d.asked(g)) },
		func(g string) {
			waits := ""
			if d.hasSay(g) {
				waits = unstops(n.Name)
			}
			// A rule that denies what members ask for would deny it no longer.
			d.say(waits != "" || d.asked(g) != "", "%s leaves group %s%s%s", n.Name, g, d.asked(g), waits)
		},
		func(string, string) {})
	pair(d, "keys of "+n.Name, o.Keys, n.Keys, keyWords,
		func(k credential.Key) { d.widens("%s can use a key that was not enrolled: %s", n.Name, keyWords(k)) },
		func(k credential.Key) {
			// A lost key goes quickly; who is left without one that they had is as good as removed.
			waits := ""
			switch {
			case !slices.ContainsFunc(o.Keys, func(k credential.Key) bool { return slices.Contains(n.Keys, k) }):
				waits = "; this waits: it is the last of the keys that they had; freeze --person " + n.Name + " stops at once what they ask for and approve"
			case d.losers > 1:
				waits = d.several()
			}
			d.say(waits != "", "key %s of %s counts no more%s", keyWords(k), n.Name, waits)
		},
		func(credential.Key, credential.Key) {})
	before, after := abilities(d.old, d.oldVotes, o), abilities(d.new, d.newVotes, n)
	lacks := func(list []ability, id string) bool {
		return !slices.ContainsFunc(list, func(a ability) bool { return a.id == id })
	}
	for _, a := range after {
		if d.asks(d.old, a) && lacks(before, a.id) {
			d.widens("%s can now %s", n.Name, a.text)
		}
	}
	for _, a := range before {
		if d.asks(d.new, a) && lacks(after, a.id) {
			d.widens("%s can no longer %s", n.Name, a.what)
		}
	}
}

// asked names the rules whose condition looks at whether who asks is in a group.
func (d *differ) asked(group string) string {
	var rules []string
	for _, r := range slices.Concat(d.old.Rules, d.new.Rules) {
		if strings.Contains(r.When, "intent.initiator_groups") && !slices.Contains(rules, r.Name) {
			rules = append(rules, r.Name)
		}
	}
	if len(rules) == 0 {
		return ""
	}
	return fmt.Sprintf("; the condition of %s looks at the groups of who asks, such as %s", strings.Join(rules, ", "), group)
}

// ability is a voice that somebody has.
type ability struct {
	id   string
	what string
	text string // what, and with whom
	veto bool
}

// demand is a place where a charter asks voices of a group.
type demand struct {
	id    string
	text  string
	need  policy.Requirement
	kinds []string
}

func demands(c *Charter) []demand {
	var out []demand
	for _, r := range c.Rules {
		for _, q := range r.Approvals {
			out = append(out, demand{"rule " + r.Name + " " + q.Group, "approve what rule " + r.Name + " asks of " + q.Group, q, r.Keys})
		}
	}
	for _, l := range c.Destinations {
		if l.Keepers != nil {
			out = append(out, demand{"list " + l.Name + " " + l.Keepers.Group, "change list " + l.Name, *l.Keepers, nil})
		}
	}
	return append(out, demand{"admin " + c.Admin.Group, "change the charter and lift freezes", c.Admin.Requirement(), c.Admin.Keys})
}

// asks reports whether a charter asks at all for what an ability answers. Where it does
// not, the line about the rule, the list or the group says who is concerned.
func (d *differ) asks(c *Charter, a ability) bool {
	if a.veto {
		return slices.Contains(c.Veto, strings.TrimPrefix(a.id, "veto "))
	}
	return slices.ContainsFunc(demands(c), func(x demand) bool { return x.id == a.id })
}

func abilities(c *Charter, votes []policy.Vote, p Person) []ability {
	var out []ability
	for _, x := range demands(c) {
		if !slices.Contains(p.Groups, x.need.Group) {
			continue
		}
		who := voices(votes, x)
		if !slices.Contains(who, p.Name) {
			continue
		}
		others := slices.DeleteFunc(who, func(name string) bool { return name == p.Name })
		with := "alone"
		if x.need.K > 1 {
			with = fmt.Sprintf("together with %d of %s", x.need.K-1, listed(others))
		}
		if x.need.Orgs > 1 {
			with += fmt.Sprintf(", from %d organisations", x.need.Orgs)
		}
		out = append(out, ability{id: x.id, what: x.text, text: x.text + ", " + with})
	}
	for _, g := range c.Veto {
		if slices.Contains(p.Groups, g) {
			what := "stop any request by a veto, as one of " + g
			out = append(out, ability{id: "veto " + g, what: what, text: what, veto: true})
		}
	}
	return out
}

// voices are the people whose vote a demand counts.
func voices(votes []policy.Vote, x demand) []string {
	var out []string
	kinds := policy.KeyKinds(x.kinds)
	for _, v := range votes {
		if slices.Contains(v.Groups, x.need.Group) && slices.Contains(kinds, v.KeyKind) {
			out = append(out, v.Person)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (d *differ) services() {
	does := func(s Service) string {
		if s.Initiates() {
			return "can ask for payments"
		}
		return "can read"
	}
	pair(d, "services", d.old.Services, d.new.Services, func(s Service) string { return s.Name },
		func(s Service) {
			d.widens("service %s of %s is new and %s; key %s", s.Name, s.Org, does(s), keyWords(s.Key))
		},
		func(s Service) { d.say(false, "service %s of %s is gone; key %s", s.Name, s.Org, keyWords(s.Key)) },
		func(o, n Service) {
			if o.Key != n.Key {
				d.widens("service %s is whoever holds key %s, and no longer %s", n.Name, keyWords(n.Key), keyWords(o.Key))
			}
			if o.Org != n.Org {
				d.widens("service %s is of organisation %s, and no longer of %s", n.Name, n.Org, o.Org)
			}
			if o.Role != n.Role {
				d.say(n.Initiates() || !o.Initiates(), "service %s %s; before, it %s", n.Name, does(n), does(o))
			}
		})
}

func (d *differ) money() {
	chain := func(c Chain) string { return fmt.Sprintf("%s, chain ID %d", c.Kind, c.ChainID) }
	pair(d, "chains", d.old.Chains, d.new.Chains, func(c Chain) string { return c.Name },
		func(c Chain) { d.widens("chain %s is new (%s)", c.Name, chain(c)) },
		func(c Chain) {
			d.widens("chain %s is gone (%s), and what was signed for it can be cancelled no more", c.Name, chain(c))
		},
		func(o, n Chain) {
			if o != n {
				d.widens("chain %s means another network: %s, and no longer %s", n.Name, chain(n), chain(o))
			}
		})
	asset := func(a Asset) string {
		if a.Contract == "" {
			return fmt.Sprintf("its own coin, %d decimals", a.Decimals)
		}
		return fmt.Sprintf("contract %s, %d decimals", a.Contract, a.Decimals)
	}
	pair(d, "assets", d.old.Assets, d.new.Assets, func(a Asset) string { return a.Symbol + " on " + a.Chain },
		func(a Asset) { d.widens("%s on %s can be paid (%s)", a.Symbol, a.Chain, asset(a)) },
		func(a Asset) { d.say(false, "%s on %s can no longer be paid (%s)", a.Symbol, a.Chain, asset(a)) },
		func(o, n Asset) {
			if o != n {
				d.widens("%s on %s means something else: %s, and no longer %s", n.Symbol, n.Chain, asset(n), asset(o))
			}
		})
}

func (d *differ) lists() {
	pair(d, "lists", d.old.Destinations, d.new.Destinations, func(l DestinationList) string { return l.Name },
		func(l DestinationList) {
			d.widens("new list %s%s", listWords(l), d.keepers(l))
			d.entries(DestinationList{Name: l.Name, Kind: l.Kind}, l)
		},
		func(l DestinationList) {
			kept := ""
			if l.Keepers != nil {
				kept = fmt.Sprintf(", and with it the say of %s", requirementWords(*l.Keepers))
			}
			d.say(l.Kind == policy.ListSanctions || kept != "", "list %s is gone with its %d entries%s", l.Name, len(l.Entries), kept)
		},
		func(o, n DestinationList) {
			if o.Kind != n.Kind {
				d.widens("list %s is of another kind: %s; before: %s", n.Name, listWords(n), listWords(o))
			}
			destinations := o.Kind == policy.ListDestinations && n.Kind == policy.ListDestinations
			switch {
			case o.Keepers == nil && n.Keepers == nil:
			case o.Keepers == nil:
				d.widens("list %s was fixed in the charter, and can be changed without it by %s%s", n.Name, requirementWords(*n.Keepers), d.keepers(n))
			case n.Keepers == nil:
				d.widens("list %s is fixed in the charter, where it was kept by %s: what these signed counts no more", n.Name, requirementWords(*o.Keepers))
			case *o.Keepers != *n.Keepers:
				d.say(!destinations || !stricter(*n.Keepers, *o.Keepers), "list %s can be changed by %s%s; before, by %s", n.Name, requirementWords(*n.Keepers), d.keepers(n), requirementWords(*o.Keepers))
			}
			if o.MaxAge != n.MaxAge {
				d.say(o.Keepers == nil || n.Keepers == nil || !sooner(n.MaxAge, o.MaxAge),
					"a version of list %s counts %s; before, %s", n.Name, ageWords(n), ageWords(o))
			}
			d.entries(o, n)
		})
}

// keepers names the people who can change a list.
func (d *differ) keepers(l DestinationList) string {
	if l.Keepers == nil {
		return ""
	}
	return fmt.Sprintf(" (%s)", listed(voices(d.newVotes, demand{need: *l.Keepers})))
}

func (d *differ) entries(o, n DestinationList) {
	until := ""
	if n.Keepers != nil {
		until = ", until its keepers sign the first version"
	}
	sanctions := o.Kind == policy.ListSanctions && n.Kind == policy.ListSanctions
	to := func(e policy.Destination) string { return fmt.Sprintf("%s on %s, %q", e.Address, e.Chain, e.Label) }
	pair(d, "the addresses of list "+n.Name, o.Entries, n.Entries, func(e policy.Destination) string { return e.Address + " on " + e.Chain },
		func(e policy.Destination) { d.say(!sanctions, "list %s gets %s%s", n.Name, to(e), until) },
		func(e policy.Destination) { d.say(sanctions, "list %s loses %s%s", n.Name, to(e), until) },
		func(o, e policy.Destination) {
			if o.Label != e.Label {
				// People decide by the label.
				d.widens("list %s calls %s on %s %q, and no longer %q", n.Name, e.Address, e.Chain, e.Label, o.Label)
			}
		})
}

func ageWords(l DestinationList) string {
	if l.MaxAge == "" {
		return "for ever"
	}
	return "for " + l.MaxAge
}

// sooner reports whether what counts for a is out of date no later than what counts for b.
func sooner(a, b string) bool {
	x, _ := ParseDuration(a)
	y, _ := ParseDuration(b)
	return b == "" || x > 0 && x <= y
}

// stricter reports whether meeting a is meeting b.
func stricter(a, b policy.Requirement) bool {
	return a.Group == b.Group && a.K >= b.K && a.Orgs >= b.Orgs
}

func (d *differ) rules() {
	// What is new is told by whether it widens; where it stands otherwise, say so.
	var demands, denials, order []string
	for _, n := range d.new.Rules {
		if slices.ContainsFunc(d.old.Rules, func(o policy.Rule) bool { return o.Name == n.Name }) {
			continue
		}
		order = append(order, n.Name)
		if n.Deny == "" {
			demands = append(demands, n.Name)
		} else {
			denials = append(denials, n.Name)
		}
	}
	if !slices.Equal(order, slices.Concat(demands, denials)) {
		d.order("new rules", order)
	}
	pair(d, "rules", d.old.Rules, d.new.Rules, func(r policy.Rule) string { return r.Name },
		func(r policy.Rule) {
			if r.Deny != "" && d.cancels(r.Name) {
				d.widens("new rule %s; this waits: it can deny a cancel, which stops a payment; intent.kind != \"cancel\" && in front keeps it from that", ruleWords(r))
				return
			}
			d.say(r.Deny == "", "new rule %s%s", ruleWords(r), d.approvers(r))
		},
		// What a rule denied, or demanded beside others, it does not any more.
		func(r policy.Rule) { d.widens("no more rule %s", ruleWords(r)) },
		d.rule)
}

// cancels reports whether a rule of the new version could match a cancel.
func (d *differ) cancels(rule string) bool {
	set, err := d.new.Policy()
	return err != nil || set.CouldMatch(rule, policy.KindCancel)
}

// approvers names the people whom a rule hears.
func (d *differ) approvers(r policy.Rule) string {
	out := ""
	for _, q := range r.Approvals {
		out += fmt.Sprintf("; of %s count %s", q.Group, listed(voices(d.newVotes, demand{need: q, kinds: r.Keys})))
	}
	return out
}

func (d *differ) rule(o, n policy.Rule) {
	tell := func(widens bool, what string, now, before string) {
		if now != before {
			d.say(widens, "rule %s: %s; before: %s", n.Name, what+now, before)
		}
	}
	// What makes a payment harder makes its cancel harder, if the rule is about that too.
	hinders := func(widens bool, what string, now, before string) {
		if now != before && !widens && d.cancels(n.Name) {
			d.widens("rule %s: %s; before: %s; this waits: it makes cancels harder, which stop payments", n.Name, what+now, before)
			return
		}
		tell(widens, what, now, before)
	}
	always := func(when string) string {
		if when == "" {
			return "always"
		}
		return "when " + when
	}
	tell(true, "it applies ", always(n.When), always(o.When))
	if (o.Deny == "") != (n.Deny == "") {
		d.widens("rule %s was something else: %s", n.Name, ruleWords(o))
		d.widens("rule %s%s", ruleWords(n), d.approvers(n))
		return
	}
	if o.Deny != "" {
		tell(true, "it denies with the words ", fmt.Sprintf("%q", n.Deny), fmt.Sprintf("%q", o.Deny))
		return
	}
	any := func(list []string, empty string) string {
		if len(list) == 0 {
			return empty
		}
		return strings.Join(list, ", ")
	}
	tell(!d.lessMoney(o.MaxAmount, n.MaxAmount), "a payment is at most ", any(n.MaxAmount, "any amount of any asset"), any(o.MaxAmount, "any amount of any asset"))
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	hinders(!d.lessMoney(one(o.FeeCap), one(n.FeeCap)), "a fee is at most ", any(one(n.FeeCap), "anything"), any(one(o.FeeCap), "anything"))
	within := func(less, more []string) bool {
		return len(more) == 0 || len(less) > 0 && !slices.ContainsFunc(less, func(s string) bool { return !slices.Contains(more, s) })
	}
	tell(!within(n.Destinations, o.Destinations), "payments go only to ", any(n.Destinations, "anybody"), any(o.Destinations, "anybody"))
	approvals := func(list []policy.Requirement) string {
		var out []string
		for _, q := range list {
			out = append(out, requirementWords(q))
		}
		return any(out, "nobody")
	}
	covered := !slices.ContainsFunc(o.Approvals, func(q policy.Requirement) bool {
		return !slices.ContainsFunc(n.Approvals, func(x policy.Requirement) bool { return stricter(x, q) })
	})
	if now, before := approvals(n.Approvals), approvals(o.Approvals); now != before {
		hinders(!covered, "approved by ", now+d.approvers(n), before)
	}
	hinders(!within(policy.KeyKinds(n.Keys), policy.KeyKinds(o.Keys)), "approved with keys of kind ", any(n.Keys, "any"), any(o.Keys, "any"))
}

// lessMoney reports whether limits allow nothing that others do not: no limits are
// all, and an asset that limits do not name is denied.
func (d *differ) lessMoney(before, after []string) bool {
	if len(before) == 0 {
		return true
	}
	limits := map[string]policy.Quantity{}
	for _, s := range before {
		q, err := d.old.vocabulary().ParseQuantity(s)
		if err != nil {
			return false
		}
		limits[q.Symbol] = q
	}
	for _, s := range after {
		q, err := d.new.vocabulary().ParseQuantity(s)
		if limit, ok := limits[q.Symbol]; err != nil || !ok || limit.Decimals != q.Decimals || q.Amount.Cmp(limit.Amount) > 0 {
			return false
		}
	}
	return len(after) > 0
}

func (d *differ) authority() {
	o, n := d.old.Admin, d.new.Admin
	who := func(a AdminRule) string {
		out := requirementWords(a.Requirement())
		if len(a.Keys) > 0 {
			out += " with keys of kind " + strings.Join(a.Keys, ", ")
		}
		return out
	}
	if who(o) != who(n) {
		narrower := stricter(n.Requirement(), o.Requirement()) &&
			!slices.ContainsFunc(policy.KeyKinds(n.Keys), func(k string) bool { return !slices.Contains(policy.KeyKinds(o.Keys), k) })
		d.say(!narrower, "the charter is changed, and freezes are lifted, by %s (%s); before, by %s", who(n),
			listed(voices(d.newVotes, demand{need: n.Requirement(), kinds: n.Keys})), who(o))
	}
	wait := func(what, before, after string) {
		if before != after {
			x, _ := ParseDuration(before)
			y, _ := ParseDuration(after)
			d.say(y < x, "%s %s; before, it %s", what, waits(after), waits(before))
		}
	}
	wait("a change of the charter", o.Delay, n.Delay)
	wait("a change that only narrows", o.NarrowDelay, n.NarrowDelay)
	self := func(s string) string { return s }
	members := func(votes []policy.Vote, g string) string {
		return listed(voices(votes, demand{need: policy.Requirement{Group: g}}))
	}
	pair(d, "groups that may veto", d.old.Veto, d.new.Veto, self,
		func(g string) { d.widens("group %s can stop any request by a veto (%s)", g, members(d.newVotes, g)) },
		func(g string) {
			d.widens("group %s can no longer stop requests by a veto (%s)", g, members(d.oldVotes, g))
		},
		func(string, string) {})
	fresh := func(c *Charter) string {
		heads, within := c.Fresh()
		if c.Freshness == nil {
			return freshWords(heads, fmt.Sprintf("%ds", int(within.Seconds()))) + " (the default)"
		}
		return freshWords(heads, c.Freshness.Within)
	}
	if now, before := fresh(d.new), fresh(d.old); now != before {
		h, w := d.new.Fresh()
		oh, ow := d.old.Fresh()
		d.say(h < oh || w > ow, "%s; before: %s", now, before)
	}
}

func waits(duration string) string {
	if duration == "" {
		return "is in force at once"
	}
	return "waits " + duration
}

// everybody is what could be counted if all people voted with all their keys.
func everybody(c *Charter) []policy.Vote {
	var out []policy.Vote
	for _, p := range c.People {
		for _, k := range p.Keys {
			out = append(out, policy.Vote{Person: p.Name, Org: p.Org, Groups: p.Groups, KeyKind: k.Kind})
		}
	}
	return out
}
