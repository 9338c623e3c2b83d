package charter_test

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coffer/charter"
	"coffer/credential"
	"coffer/policy"
)

// rich is a charter that uses every field.
func rich(t testing.TB) *charter.Charter {
	t.Helper()
	c := newWorld(t).file(t).Charter
	c.People = append(c.People,
		charter.Person{Name: "dave", Org: "umbra", Groups: []string{"treasury", "compliance"}, Keys: []credential.Key{signer(t, 15).Key(), signer(t, 16).Key()}},
		charter.Person{Name: "erin", Org: "acme", Groups: []string{"security", "compliance", "interns"}, Keys: []credential.Key{signer(t, 17).Key(), signer(t, 18).Key()}})
	c.Services = append(c.Services, charter.Service{Name: "shop", Org: "acme", Key: signer(t, 19).Key(), Role: charter.RoleReader})
	c.Coordinators = append(c.Coordinators, charter.Coordinator{Name: "spare", Org: "umbra", Peer: seeded(t, 20).ID()})
	c.Destinations = append(c.Destinations,
		charter.DestinationList{Name: "staff", Keepers: &policy.Requirement{Group: "compliance", K: 1}, MaxAge: "7d"},
		charter.DestinationList{Name: "banned", Kind: policy.ListSanctions, Keepers: &policy.Requirement{Group: "compliance", K: 2, Orgs: 2}, MaxAge: "24h",
			Entries: []policy.Destination{{Chain: "sepolia", Address: usdc2, Label: "a thief"}}})
	c.Rules[0].Destinations = append(c.Rules[0].Destinations, "staff")
	c.Rules[0].When = `intent.kind == "transfer"`
	c.Rules[2].When = `intent.kind != "cancel" && ` + c.Rules[2].When
	c.Rules = append(c.Rules,
		policy.Rule{Name: "interns", When: `"interns" in intent.initiator_groups`, Deny: "interns ask for nothing"},
		policy.Rule{Name: "wallets", When: `intent.kind == "create_wallet"`, Approvals: []policy.Requirement{{Group: "treasury", K: 1, Orgs: 1}}},
		policy.Rule{Name: "cancels", When: `intent.kind == "cancel"`, FeeCap: "0.02 ETH", Approvals: []policy.Requirement{{Group: "treasury", K: 1}}})
	c.Admin = charter.AdminRule{Group: "admins", K: 2, Orgs: 2, Keys: []string{"ssh"}, Delay: "48h", NarrowDelay: "1h"}
	c.Veto = []string{"security"}
	c.Freshness = &charter.Freshness{Heads: 1, Within: "60s"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

const usdc2 = "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"

// anyEdits are things that somebody may do to a charter, one field each, many of them
// invalid where they stand: the caller keeps what validates.
func anyEdits(t testing.TB) []func(c *charter.Charter, pick func(n int) int) {
	extra := make([]credential.Key, 6)
	for i := range extra {
		extra[i] = signer(t, byte(40+i)).Key()
	}
	peers := []charter.Coordinator{{Name: "x", Org: "acme", Peer: seeded(t, 50).ID()}, {Name: "y", Org: "umbra", Peer: seeded(t, 51).ID()}}
	addresses := []string{mill, paper, usdc2, "0x27b1fdb04752bbc536007a920d24acb045561c26", "0xde709f2102306220921060314715629080e2fb77"}
	groups := []string{"treasury", "security", "admins", "compliance", "interns", "new"}
	orgsOf := []string{"acme", "umbra"}
	durations := []string{"", "1h", "60m", "2h", "24h", "48h", "30d"}
	remove := func(pick func(int) int, list any) {
		v := reflect.ValueOf(list).Elem()
		if v.Len() == 0 {
			return
		}
		i := pick(v.Len())
		v.Set(reflect.AppendSlice(v.Slice(0, i), v.Slice(i+1, v.Len())))
	}
	swap := func(pick func(int) int, list any) {
		v := reflect.ValueOf(list).Elem()
		if v.Len() > 1 {
			reflect.Swapper(v.Interface())(pick(v.Len()), pick(v.Len()))
		}
	}
	person := func(c *charter.Charter, pick func(int) int) *charter.Person { return &c.People[pick(len(c.People))] }
	rule := func(c *charter.Charter, pick func(int) int) *policy.Rule { return &c.Rules[pick(len(c.Rules))] }
	list := func(c *charter.Charter, pick func(int) int) *charter.DestinationList {
		return &c.Destinations[pick(len(c.Destinations))]
	}
	word := func(pick func(int) int, words []string) string { return words[pick(len(words))] }
	return []func(c *charter.Charter, pick func(n int) int){
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.People) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Services) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Coordinators) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Assets) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Rules) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Destinations) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &person(c, pick).Groups) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &person(c, pick).Keys) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &list(c, pick).Entries) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &rule(c, pick).MaxAmount) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &rule(c, pick).Destinations) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &rule(c, pick).Approvals) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Veto) },
		func(c *charter.Charter, pick func(int) int) { remove(pick, &c.Admin.Keys) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &c.People) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &c.Rules) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &c.Assets) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &person(c, pick).Groups) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &person(c, pick).Keys) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &list(c, pick).Entries) },
		func(c *charter.Charter, pick func(int) int) { swap(pick, &rule(c, pick).MaxAmount) },
		func(c *charter.Charter, pick func(int) int) {
			c.People = append(c.People, charter.Person{Name: fmt.Sprintf("p%d", pick(4)), Org: word(pick, orgsOf), Groups: []string{word(pick, groups)}, Keys: []credential.Key{extra[pick(6)]}})
		},
		func(c *charter.Charter, pick func(int) int) {
			c.Services = append(c.Services, charter.Service{Name: fmt.Sprintf("s%d", pick(4)), Org: word(pick, orgsOf), Key: extra[pick(6)], Role: word(pick, []string{"", "reader"})})
		},
		func(c *charter.Charter, pick func(int) int) { c.Coordinators = append(c.Coordinators, peers[pick(2)]) },
		func(c *charter.Charter, pick func(int) int) {
			c.Coordinators[pick(len(c.Coordinators))].Peer = peers[pick(2)].Peer
		},
		func(c *charter.Charter, pick func(int) int) { c.Signers[pick(3)].Peer = peers[pick(2)].Peer },
		func(c *charter.Charter, pick func(int) int) { c.Signers[pick(3)].Org = word(pick, orgsOf) },
		func(c *charter.Charter, pick func(int) int) { c.Quorum.Need = 1 + pick(3) },
		func(c *charter.Charter, pick func(int) int) { person(c, pick).Org = word(pick, orgsOf) },
		func(c *charter.Charter, pick func(int) int) {
			p := person(c, pick)
			p.Groups = append(p.Groups, word(pick, groups))
		},
		func(c *charter.Charter, pick func(int) int) {
			p := person(c, pick)
			p.Keys = append(p.Keys, extra[pick(6)])
		},
		func(c *charter.Charter, pick func(int) int) {
			if len(c.Services) > 0 {
				c.Services[pick(len(c.Services))].Role = word(pick, []string{"", "reader"})
			}
		},
		func(c *charter.Charter, pick func(int) int) { c.Chains[pick(2)].ChainID = uint64(1 + pick(5)) },
		func(c *charter.Charter, pick func(int) int) { c.Assets[pick(len(c.Assets))].Decimals = pick(20) },
		func(c *charter.Charter, pick func(int) int) {
			l := list(c, pick)
			l.Entries = append(l.Entries, policy.Destination{Chain: "sepolia", Address: addresses[pick(2)+pick(2)], Label: fmt.Sprintf("l%d", pick(9))})
		},
		func(c *charter.Charter, pick func(int) int) {
			if l := list(c, pick); len(l.Entries) > 0 {
				l.Entries[pick(len(l.Entries))].Label = fmt.Sprintf("l%d", pick(9))
			}
		},
		func(c *charter.Charter, pick func(int) int) { list(c, pick).MaxAge = word(pick, durations) },
		func(c *charter.Charter, pick func(int) int) {
			list(c, pick).Kind = word(pick, []string{"", "sanctions"})
		},
		func(c *charter.Charter, pick func(int) int) {
			list(c, pick).Keepers = &policy.Requirement{Group: word(pick, groups), K: 1 + pick(2), Orgs: pick(3)}
		},
		func(c *charter.Charter, pick func(int) int) {
			if l := list(c, pick); l.Keepers != nil {
				l.Keepers.K, l.Keepers.Orgs = 1+pick(2), pick(3)
			}
		},
		func(c *charter.Charter, pick func(int) int) { list(c, pick).Keepers = nil },
		func(c *charter.Charter, pick func(int) int) {
			c.Destinations = append(c.Destinations, charter.DestinationList{Name: "third", Entries: []policy.Destination{{Chain: "sepolia", Address: paper, Label: "Ink works"}}})
		},
		func(c *charter.Charter, pick func(int) int) {
			rule(c, pick).When = word(pick, []string{"", `intent.asset == "ETH"`, `intent.initiator == "erp"`, `intent.kind == "transfer"`, `"interns" in intent.initiator_groups`})
		},
		func(c *charter.Charter, pick func(int) int) {
			if r := rule(c, pick); r.Deny == "" {
				r.MaxAmount = [][]string{nil, {"1 ETH"}, {"3 ETH"}, {"1 ETH", "5000 USDC"}, {"2 ETH", "5000 USDC", "1 POL"}}[pick(5)]
			} else {
				r.Deny = word(pick, []string{"no", "never"})
			}
		},
		func(c *charter.Charter, pick func(int) int) {
			rule(c, pick).FeeCap = word(pick, []string{"", "0.01 ETH", "0.02 ETH", "0.005 ETH", "1 POL"})
		},
		func(c *charter.Charter, pick func(int) int) {
			rule(c, pick).Destinations = [][]string{nil, {"suppliers"}, {"staff"}, {"suppliers", "staff"}, {"third"}}[pick(5)]
		},
		func(c *charter.Charter, pick func(int) int) {
			if r := rule(c, pick); len(r.Approvals) > 0 {
				q := &r.Approvals[pick(len(r.Approvals))]
				q.K, q.Orgs = 1+pick(3), pick(3)
			}
		},
		func(c *charter.Charter, pick func(int) int) {
			r := rule(c, pick)
			r.Approvals = append(r.Approvals, policy.Requirement{Group: word(pick, groups), K: 1})
		},
		func(c *charter.Charter, pick func(int) int) {
			rule(c, pick).Keys = [][]string{nil, {"ssh"}, {"ssh", "webauthn"}}[pick(3)]
		},
		func(c *charter.Charter, pick func(int) int) {
			c.Rules = append(c.Rules, policy.Rule{Name: fmt.Sprintf("d%d", pick(3)), When: `intent.asset == "USDC"`, Deny: "no tokens"})
		},
		func(c *charter.Charter, pick func(int) int) {
			c.Rules = append(c.Rules, policy.Rule{Name: fmt.Sprintf("r%d", pick(3)), When: `intent.asset == "POL"`, Approvals: []policy.Requirement{{Group: "treasury", K: 1}}})
		},
		func(c *charter.Charter, pick func(int) int) { c.Admin.K = 2 + pick(2) },
		func(c *charter.Charter, pick func(int) int) { c.Admin.Orgs = pick(3) },
		func(c *charter.Charter, pick func(int) int) { c.Admin.Group = word(pick, groups) },
		func(c *charter.Charter, pick func(int) int) {
			c.Admin.Keys = [][]string{nil, {"ssh"}, {"ssh", "webauthn"}}[pick(3)]
		},
		func(c *charter.Charter, pick func(int) int) { c.Admin.Delay = word(pick, durations) },
		func(c *charter.Charter, pick func(int) int) { c.Admin.NarrowDelay = word(pick, durations) },
		func(c *charter.Charter, pick func(int) int) { c.Veto = append(c.Veto, word(pick, groups)) },
		func(c *charter.Charter, pick func(int) int) {
			c.Freshness = []*charter.Freshness{nil, {Heads: 1, Within: "60s"}, {Heads: 1, Within: "1m"}, {Heads: 2, Within: "30s"}}[pick(4)]
		},
		func(c *charter.Charter, pick func(int) int) {
			c.Organisations = append(c.Organisations, fmt.Sprintf("o%d", pick(3)))
		},
	}
}

// variant is base with some of the edits, valid.
func variant(t *rapid.T, base *charter.Charter, all []func(*charter.Charter, func(int) int), most int, label string) *charter.Charter {
	c, err := base.Clone()
	if err != nil {
		t.Fatal(err)
	}
	n := rapid.IntRange(1, most).Draw(t, label)
	for range n {
		next, err := c.Clone()
		if err != nil {
			t.Fatal(err)
		}
		all[rapid.IntRange(0, len(all)-1).Draw(t, "edit")](next, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") })
		if next.Validate() == nil {
			c = next
		}
	}
	return c
}

// What narrows lets nobody do more, judged by the policy itself and not by the words.
func TestNarrowsAllowsNothingNew(t *testing.T) {
	base, all := rich(t), anyEdits(t)
	narrow := 0
	rapid.Check(t, func(t *rapid.T) {
		old := variant(t, base, all, 6, "old")
		next := variant(t, old, all, 3, "new")
		if !charter.Narrows(old, next) || next.Digest() == old.Digest() {
			return
		}
		narrow++
		checkNothingNew(t, old, next)
	})
	t.Logf("%d changes narrow", narrow)
	if narrow < 3 {
		t.Errorf("only %d changes narrow: the test looks at too little", narrow)
	}
}

func checkNothingNew(t *rapid.T, old, next *charter.Charter) {
	for _, card := range next.NewKeys(old) {
		t.Fatalf("%s %q gets a key", card.Kind, card.Name)
	}
	for _, s := range next.Services {
		if was, _ := old.Service(s.Name); s.Initiates() && !was.Initiates() {
			t.Fatalf("service %q can ask for payments now", s.Name)
		}
	}
	gone := 0
	for _, p := range old.People {
		n, stays := next.Person(p.Name)
		if !stays {
			gone++
		}
		if len(p.Keys) > 0 && !slices.ContainsFunc(p.Keys, func(k credential.Key) bool { return !stays || slices.Contains(n.Keys, k) }) {
			t.Fatalf("%q has none of their keys any more", p.Name)
		}
		for _, g := range p.Groups {
			if slices.Contains(n.Groups, g) {
				continue
			}
			for who, has := range map[string]bool{
				"an admin": old.Admin.Group == g,
				"a veto":   slices.Contains(old.Veto, g),
				"a keeper": slices.ContainsFunc(old.Destinations, func(l charter.DestinationList) bool { return l.Keepers != nil && l.Keepers.Group == g }),
				"a voice": slices.ContainsFunc(old.Rules, func(r policy.Rule) bool {
					return slices.ContainsFunc(r.Approvals, func(q policy.Requirement) bool { return q.Group == g })
				}),
			} {
				if has {
					t.Fatalf("%s less: %q of %s", who, p.Name, g)
				}
			}
		}
	}
	if gone > 1 {
		t.Fatalf("%d people are gone", gone)
	}
	if next.Admin.Wait(false) < old.Admin.Wait(false) || next.Admin.Wait(true) < old.Admin.Wait(true) {
		t.Fatal("the admin rule waits less")
	}
	heads, within := old.Fresh()
	if h, w := next.Fresh(); h < heads || w > within {
		t.Fatal("a signer may be further behind")
	}
	was, err := old.Policy()
	if err != nil {
		t.Fatal(err)
	}
	is, err := next.Policy()
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]charter.ListState{}
	for _, name := range []string{"suppliers", "staff", "banned"} {
		if rapid.Bool().Draw(t, name) {
			held[name] = charter.ListState{Version: 1, Issued: rapid.Int64Range(now-100_000, now).Draw(t, "issued"), Entries: []policy.Destination{{Chain: "sepolia", Address: rapid.SampledFrom([]string{mill, paper, usdc2}).Draw(t, "entry"), Label: "held"}}}
		}
	}
	for range 20 {
		var votes []policy.Vote
		for _, p := range next.People {
			for _, k := range p.Keys {
				if rapid.IntRange(0, 3).Draw(t, "votes") > 0 {
					votes = append(votes, policy.Vote{Person: p.Name, Org: p.Org, Groups: p.Groups, KeyKind: k.Kind})
				}
			}
		}
		counts := func(c *charter.Charter, q policy.Requirement, kinds []string) bool {
			return q.Met(policy.Count(q, kinds, votes))
		}
		if counts(next, next.Admin.Requirement(), next.Admin.Keys) && !counts(old, old.Admin.Requirement(), old.Admin.Keys) {
			t.Fatal("people who could not change the charter can now")
		}
		for _, l := range next.Destinations {
			if before, _ := old.List(l.Name); l.Keepers != nil && counts(next, *l.Keepers, nil) && (before.Keepers == nil || !counts(old, *before.Keepers, nil)) {
				t.Fatalf("people who could not change list %q can now", l.Name)
			}
		}
		f := policy.Facts{Kind: rapid.SampledFrom([]string{policy.KindTransfer, policy.KindTransfer, policy.KindCancel, policy.KindCreateWallet}).Draw(t, "kind"), Wallet: rapid.SampledFrom([]string{"hot", "cold"}).Draw(t, "wallet"), Reference: "r", Now: now}
		if f.Kind != policy.KindCreateWallet {
			f.Chain, f.FeeCap = "sepolia", big.NewInt(rapid.SampledFrom([]int64{1, 6e15, 1e16, 3e16}).Draw(t, "fee"))
		}
		if f.Kind == policy.KindTransfer {
			a := rapid.SampledFrom(next.Assets).Draw(t, "asset")
			f.Chain, f.Asset = a.Chain, a.Symbol
			f.Amount = big.NewInt(rapid.SampledFrom([]int64{1, 1e6, 1e9, 9e17, 15e17, 25e17, 5e18}).Draw(t, "amount"))
			f.To = rapid.SampledFrom([]string{mill, paper, usdc2, "0x27b1fdb04752bbc536007a920d24acb045561c26"}).Draw(t, "to")
		}
		var people []string
		for _, p := range next.People {
			people = append(people, p.Name)
		}
		for _, s := range next.Services {
			if s.Initiates() {
				people = append(people, s.Name)
			}
		}
		f.Initiator = rapid.SampledFrom(people).Draw(t, "initiator")
		facts := func(c *charter.Charter) (policy.Facts, bool) {
			f := f
			f.Lists = c.Lists(held, now)
			if p, ok := c.Person(f.Initiator); ok {
				f.InitiatorOrg, f.InitiatorGroups = p.Org, p.Groups
				return f, true
			}
			s, ok := c.Service(f.Initiator)
			f.InitiatorOrg, f.InitiatorService = s.Org, true
			return f, ok && s.Initiates()
		}
		before, ok := facts(old)
		if !ok {
			t.Fatalf("%q could not ask before", f.Initiator)
		}
		after, _ := facts(next)
		if a, b := is.Decide(after, votes), was.Decide(before, votes); a.Outcome > b.Outcome {
			t.Fatalf("it is %s now and was %s: %+v", a.Outcome, b.Outcome, b.Reasons)
		} else if f.Kind == policy.KindCancel && a.Outcome < b.Outcome {
			t.Fatalf("a cancel is %s now and was %s: %+v", a.Outcome, b.Outcome, a.Reasons)
		}
	}
}

const now = 1_800_000_000

// No difference hides: what is different is told, and told differently.
func TestDiffHidesNothing(t *testing.T) {
	base, all := rich(t), anyEdits(t)
	rapid.Check(t, func(t *rapid.T) {
		old := variant(t, base, all, 4, "old")
		common := variant(t, old, all, 3, "common")
		one, two := variant(t, common, all, 2, "one"), variant(t, common, all, 2, "two")
		for _, c := range []*charter.Charter{one, two} {
			if lines := charter.Diff(old, c); (len(lines) == 0) != (c.Digest() == old.Digest()) {
				t.Fatalf("%d lines: %v", len(lines), lines)
			}
		}
		a, b := charter.Diff(old, one), charter.Diff(old, two)
		if one.Digest() != two.Digest() && reflect.DeepEqual(a, b) {
			t.Fatalf("two charters, one description:\n%s", words(a))
		}
		if one.Digest() == two.Digest() && !reflect.DeepEqual(a, b) {
			t.Fatal("one charter, two descriptions")
		}
	})
}

// Each byte of the canonical form is one that the words speak of.
func TestDiffOfEachByte(t *testing.T) {
	base := rich(t)
	raw := base.Encode()
	told := 0
	for i := range raw {
		for _, x := range []byte{1, 0x82} {
			altered := slices.Clone(raw)
			altered[i] ^= x
			c, err := charter.Parse(altered)
			if err != nil {
				continue
			}
			if c.Digest() == base.Digest() {
				t.Fatalf("byte %d: two spellings of one charter", i)
			}
			if len(charter.Diff(base, c)) > 0 {
				told++
			} else if c.Validate() == nil {
				t.Errorf("byte %d ^ %#x: nothing is said of it", i, x)
			}
		}
	}
	if told < len(raw)/2 {
		t.Errorf("%d of %d altered bytes were looked at", told, len(raw))
	}
}

func words(changes []charter.Change) string {
	var out strings.Builder
	for _, c := range changes {
		mark := "-"
		if c.Widens {
			mark = "+"
		}
		fmt.Fprintln(&out, mark, c.Text)
	}
	return out.String()
}

func edited(t testing.TB, base *charter.Charter, edit func(c *charter.Charter)) *charter.Charter {
	t.Helper()
	c, err := base.Clone()
	if err != nil {
		t.Fatal(err)
	}
	edit(c)
	c.Follow(base)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// The sentences that people read before they sign.
func TestDiffSays(t *testing.T) {
	base := rich(t)
	for name, c := range map[string]struct {
		edit    func(c *charter.Charter)
		narrows bool
		want    string
	}{
		"nothing": {func(*charter.Charter) {}, true, ""},
		"somebody joins": {func(c *charter.Charter) {
			c.People = append(c.People, charter.Person{Name: "frank", Org: "umbra", Groups: []string{"admins", "treasury", "security"}, Keys: []credential.Key{signer(t, 60).Key()}})
			c.Admin.K = 3
		}, false, `
+ frank of umbra is enrolled, can ask for payments and can freeze; groups admins, treasury, security; keys ssh SHA256:dhdAzdmab8fsHDx814okelqzqwMCk9YcSEXETB4RpDE
+ frank can approve what rule payments asks of treasury, together with 1 of alice, bob, carol, dave, from 2 organisations
+ frank can approve what rule large asks of security, alone
+ frank can approve what rule wallets asks of treasury, alone
+ frank can approve what rule cancels asks of treasury, alone
+ frank can change the charter and lift freezes, together with 2 of alice, bob, carol, from 2 organisations
+ frank can stop any request by a veto, as one of security
- the charter is changed, and freezes are lifted, by 3 of admins from 2 organisations with keys of kind ssh (alice, bob, carol, frank); before, by 2 of admins from 2 organisations with keys of kind ssh
`},
		"somebody leaves": {func(c *charter.Charter) { c.People = slices.Delete(c.People, 1, 2) }, false, `
+ bob of acme is removed and can no longer ask for payments; freeze; approve what rule payments asks of treasury; approve what rule wallets asks of treasury; approve what rule cancels asks of treasury; change the charter and lift freezes; this waits: somebody who could stop things no longer can; freeze --person bob stops at once what they ask for and approve
`},
		"who may veto leaves": {func(c *charter.Charter) {
			c.People[4].Groups = []string{"compliance", "interns"}
		}, false, `
+ erin leaves group security; the condition of interns looks at the groups of who asks, such as security; this waits: somebody who could stop things no longer can; freeze --person erin stops at once what they ask for and approve
+ erin can no longer approve what rule large asks of security
+ erin can no longer stop any request by a veto, as one of security
`},
		// Who leaves the group could do what it could not.
		"a condition is evaded": {func(c *charter.Charter) {
			c.People[4].Groups = []string{"security", "compliance"}
			c.Rules[3].When = `"security" in intent.initiator_groups`
		}, false, `
+ erin leaves group interns; the condition of interns looks at the groups of who asks, such as interns
+ rule interns: it applies when "security" in intent.initiator_groups; before: when "interns" in intent.initiator_groups
`},
		"a group more": {func(c *charter.Charter) { c.People[3].Groups = append(c.People[3].Groups, "admins"); c.Admin.K = 3 }, false, `
+ dave joins group admins; the condition of interns looks at the groups of who asks, such as admins
+ dave can now change the charter and lift freezes, together with 2 of alice, bob, carol, from 2 organisations
- the charter is changed, and freezes are lifted, by 3 of admins from 2 organisations with keys of kind ssh (alice, bob, carol, dave); before, by 2 of admins from 2 organisations with keys of kind ssh
`},
		"rules loosened": {func(c *charter.Charter) {
			r := &c.Rules[0]
			r.MaxAmount, r.FeeCap, r.Destinations, r.Approvals = []string{"3 ETH"}, "", []string{"suppliers"}, []policy.Requirement{{Group: "treasury", K: 1, Orgs: 1}}
			c.Rules[1].Keys = []string{"ssh"}
			c.Rules = slices.Delete(c.Rules, 2, 3)
			c.Rules = append(c.Rules, policy.Rule{Name: "small", When: `intent.wallet == "petty"`, Approvals: []policy.Requirement{{Group: "interns", K: 1}}})
		}, false, `
+ rule payments: a payment is at most 3 ETH; before: 2 ETH, 5000 USDC
+ rule payments: a fee is at most anything; before: 0.01 ETH
+ rule payments: approved by 1 of treasury from 1 organisation; of treasury count alice, bob, carol, dave; before: 2 of treasury from 2 organisations
+ new rule small: when intent.wallet == "petty"; approved by 1 of interns; of interns count erin
+ no more rule night: when intent.kind != "cancel" && intent.wallet == "cold" && intent.initiator == "erp"; deny: services do not touch the cold wallet
- rule payments: payments go only to suppliers; before: suppliers, staff
- rule large: approved with keys of kind ssh; before: any
`},
		"all stricter": {func(c *charter.Charter) {
			c.Rules[0].MaxAmount, c.Rules[0].Approvals[0].K = []string{"1 ETH"}, 3
			c.Admin.K, c.Admin.Delay, c.Destinations[2].MaxAge, c.Services[1].Role = 3, "3d", "12h", "reader"
			c.Destinations[0].Entries = c.Destinations[0].Entries[:1]
			c.Destinations[2].Entries = append(c.Destinations[2].Entries, policy.Destination{Chain: "sepolia", Address: "0xde709f2102306220921060314715629080e2fb77", Label: "another"})
			c.Rules = append(c.Rules, policy.Rule{Name: "no-tokens", When: `intent.asset == "USDC"`, Deny: "not this week"})
			c.Coordinators = c.Coordinators[:1]
			c.Freshness = &charter.Freshness{Heads: 2, Within: "30s"}
		}, true, `
- coordinator spare of umbra, identity 12D3KooWC1GftZzo5AMyfCZnQM9joxpyHJ3x3BzZSaUkF7KTymfC, is gone: signers talk to it no more
- list suppliers loses 0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359 on sepolia, "Ink works"
- a version of list banned counts for 12h; before, for 24h
- list banned gets 0xde709f2102306220921060314715629080e2fb77 on sepolia, "another", until its keepers sign the first version
- rule payments: a payment is at most 1 ETH; before: 2 ETH, 5000 USDC
- rule payments: approved by 3 of treasury from 2 organisations; of treasury count alice, bob, carol, dave; before: 2 of treasury from 2 organisations
- new rule no-tokens: when intent.asset == "USDC"; deny: not this week
- the charter is changed, and freezes are lifted, by 3 of admins from 2 organisations with keys of kind ssh (alice, bob, carol); before, by 2 of admins from 2 organisations with keys of kind ssh
- a change of the charter waits 3d; before, it waits 48h
- a signer signs only while it has heard from 2 other signers within 30s; before: a signer signs only while it has heard from 1 other signer within 60s
`},
		"authority moved": {func(c *charter.Charter) {
			c.Admin = charter.AdminRule{Group: "treasury", K: 3}
			c.Veto, c.Freshness = nil, nil
			c.Destinations[2].Keepers = &policy.Requirement{Group: "compliance", K: 1}
			c.Services[1].Role = ""
		}, false, `
+ service shop can ask for payments; before, it can read
+ list banned can be changed by 1 of compliance (dave, erin); before, by 2 of compliance from 2 organisations
+ the charter is changed, and freezes are lifted, by 3 of treasury (alice, bob, carol, dave); before, by 2 of admins from 2 organisations with keys of kind ssh
+ a change of the charter is in force at once; before, it waits 48h
+ a change that only narrows is in force at once; before, it waits 1h
+ group security can no longer stop requests by a veto (carol, erin)
- a signer signs only while it has heard from 1 other signer within 60s (the default); before: a signer signs only while it has heard from 1 other signer within 60s
`},
		"keys and identities rotate": {func(c *charter.Charter) {
			c.Signers[1].Peer = seeded(t, 77).ID()
			c.People[1].Keys = []credential.Key{signer(t, 61).Key()}
		}, false, `
+ signer b is whoever holds identity 12D3KooWGTSzhShkoYo5Sc1wpKjanGDC7f9q7Bgy8mtqbVjSgzfw, and no longer 12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq
+ bob can use a key that was not enrolled: ssh SHA256:zOw6SOxjbnIiY4LZKJ5nuM4FAXw9j0XtlUKXWAWA+NQ
+ key ssh SHA256:MyywqLAP8mf5V+lqguH2tv47kye1HNP18mAXTVRwdr4 of bob counts no more; this waits: it is the last of the keys that they had; freeze --person bob stops at once what they ask for and approve
`},
		"order only": {func(c *charter.Charter) { slices.Reverse(c.Rules); slices.Reverse(c.Veto) }, true, `
- the order of rules is another, which changes nothing: cancels, wallets, interns, night, large, payments
`},
	} {
		t.Run(name, func(t *testing.T) {
			next := edited(t, base, c.edit)
			if got, want := words(charter.Diff(base, next)), strings.TrimPrefix(c.want, "\n"); got != want {
				t.Errorf("it says\n%swant\n%s", got, want)
			}
			if charter.Narrows(base, next) != c.narrows {
				t.Errorf("narrows: %t", !c.narrows)
			}
		})
	}
	other := edited(t, base, func(*charter.Charter) {})
	other.Cluster[0]++
	if got := words(charter.Diff(base, other)); !strings.HasPrefix(got, "+ this is the charter of another cluster") {
		t.Errorf("another cluster: %s", got)
	}
}

// Each of these lets somebody do more, so the way there waits and the way back does not.
func TestNarrowsOneWay(t *testing.T) {
	base := rich(t)
	second := "0xde709f2102306220921060314715629080e2fb77"
	for name, loosen := range map[string]func(c *charter.Charter){
		"an amount":        func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "2.000000000000000001 ETH" },
		"another asset":    func(c *charter.Charter) { c.Rules[0].MaxAmount = append(c.Rules[0].MaxAmount, "1 POL") },
		"no limit":         func(c *charter.Charter) { c.Rules[0].MaxAmount = nil },
		"a fee":            func(c *charter.Charter) { c.Rules[0].FeeCap = "0.02 ETH" },
		"no fee cap":       func(c *charter.Charter) { c.Rules[0].FeeCap = "" },
		"anywhere":         func(c *charter.Charter) { c.Rules[0].Destinations = nil },
		"fewer people":     func(c *charter.Charter) { c.Rules[0].Approvals[0].K, c.Rules[0].Approvals[0].Orgs = 1, 1 },
		"one organisation": func(c *charter.Charter) { c.Rules[0].Approvals[0].Orgs = 1 },
		"any key":          func(c *charter.Charter) { c.Rules[0].Keys = nil },
		"an address": func(c *charter.Charter) {
			c.Destinations[0].Entries = append(c.Destinations[0].Entries, policy.Destination{Chain: "sepolia", Address: second, Label: "new"})
		},
		"a sanction less": func(c *charter.Charter) { c.Destinations[2].Entries = nil },
		"an older list":   func(c *charter.Charter) { c.Destinations[1].MaxAge = "8d" },
		"a list for ever": func(c *charter.Charter) { c.Destinations[1].MaxAge = "" },
		"an asset": func(c *charter.Charter) {
			c.Assets = append(c.Assets, charter.Asset{Symbol: "DAI", Chain: "sepolia", Contract: second, Decimals: 18})
		},
		"an organisation": func(c *charter.Charter) { c.Organisations = append(c.Organisations, "novel") },
		"a coordinator": func(c *charter.Charter) {
			c.Coordinators = append(c.Coordinators, charter.Coordinator{Name: "third", Org: "acme", Peer: seeded(t, 50).ID()})
		},
		"a person": func(c *charter.Charter) {
			c.People = append(c.People, charter.Person{Name: "frank", Org: "acme", Keys: []credential.Key{signer(t, 60).Key()}})
		},
		"a key": func(c *charter.Charter) { c.People[0].Keys = append(c.People[0].Keys, signer(t, 60).Key()) },
		"a service": func(c *charter.Charter) {
			c.Services = append(c.Services, charter.Service{Name: "till", Org: "acme", Key: signer(t, 60).Key()})
		},
		"a service's role":  func(c *charter.Charter) { c.Services[1].Role = charter.RoleInitiator },
		"a rule's denial":   func(c *charter.Charter) { c.Rules = slices.Delete(c.Rules, 2, 3) },
		"fewer admins":      func(c *charter.Charter) { c.Admin.Orgs = 0 },
		"admins' keys":      func(c *charter.Charter) { c.Admin.Keys = nil },
		"a shorter delay":   func(c *charter.Charter) { c.Admin.Delay = "47h" },
		"no narrow delay":   func(c *charter.Charter) { c.Admin.NarrowDelay = "" },
		"later freshness":   func(c *charter.Charter) { c.Freshness.Within = "61s" },
		"keepers of one":    func(c *charter.Charter) { c.Destinations[1].Keepers.K, c.Destinations[1].Keepers.Orgs = 1, 1 },
		"keepers' org":      func(c *charter.Charter) { c.Destinations[1].Keepers.Orgs = 0 },
		"a rule pays wider": func(c *charter.Charter) { c.Rules[0].Destinations = []string{"suppliers", "staff"} },
	} {
		t.Run(name, func(t *testing.T) {
			tight := edited(t, base, func(c *charter.Charter) {
				c.Rules[0].Keys = []string{"ssh"}
				c.Destinations[1].Keepers.K, c.Destinations[1].Keepers.Orgs = 2, 2
				if name == "a rule pays wider" {
					c.Rules[0].Destinations = []string{"suppliers"}
				}
			})
			loose := edited(t, tight, loosen)
			if charter.Narrows(tight, loose) {
				t.Errorf("it narrows:\n%s", words(charter.Diff(tight, loose)))
			}
			back := edited(t, loose, func(c *charter.Charter) {
				n, err := tight.Clone()
				if err != nil {
					t.Fatal(err)
				}
				c.Organisations, c.Coordinators, c.People, c.Services, c.Assets = n.Organisations, n.Coordinators, n.People, n.Services, n.Assets
				c.Destinations, c.Rules, c.Admin, c.Freshness = n.Destinations, n.Rules, n.Admin, n.Freshness
			})
			if !charter.Narrows(loose, back) {
				t.Errorf("the way back widens:\n%s", words(charter.Diff(loose, back)))
			}
		})
	}
	// Who gets other keepers, or whose word on sanctions is asked of more, is in doubt.
	for name, edit := range map[string]func(c *charter.Charter){
		"sanctions' keepers": func(c *charter.Charter) { c.Destinations[2].Keepers.Orgs = 0 },
		"other keepers":      func(c *charter.Charter) { c.Destinations[1].Keepers.Group = "security" },
		"keepers at all": func(c *charter.Charter) {
			c.Destinations[1].Keepers = nil
			c.Destinations[1].MaxAge = ""
			c.Destinations[1].Entries = []policy.Destination{{Chain: "sepolia", Address: second, Label: "fixed"}}
		},
		"a veto":   func(c *charter.Charter) { c.Veto = append(c.Veto, "admins") },
		"a signer": func(c *charter.Charter) { c.Signers[0].Org = "umbra" },
		"a label":  func(c *charter.Charter) { c.Destinations[0].Entries[0].Label = "Somebody" },
		"a condition": func(c *charter.Charter) {
			c.Rules[1].When = `intent.asset == "ETH" && intent.amount > amount("0.5 ETH")`
		},
		"another network": func(c *charter.Charter) { c.Chains[1].ChainID = 5 },
		"a unit":          func(c *charter.Charter) { c.Assets[2].Decimals = 17 },
	} {
		there := edited(t, base, edit)
		if charter.Narrows(base, there) || charter.Narrows(there, base) {
			t.Errorf("%s narrows", name)
		}
	}
}

// How long each change waits: what takes a say from somebody who could stop things is
// never quick, or stolen keys would first put out, at once, those who could stop them.
func TestNarrows(t *testing.T) {
	base := edited(t, rich(t), func(c *charter.Charter) {
		key := func(b byte) []credential.Key { return []credential.Key{signer(t, b).Key()} }
		c.People = append(c.People, charter.Person{Name: "frank", Org: "acme", Keys: key(60)}, charter.Person{Name: "grace", Org: "umbra", Groups: []string{"interns"}, Keys: append(key(61), key(62)...)},
			charter.Person{Name: "heidi", Org: "umbra", Groups: []string{"security"}, Keys: key(63)}, charter.Person{Name: "ivan", Org: "umbra", Groups: []string{"compliance"}, Keys: key(64)},
			charter.Person{Name: "judy", Org: "umbra", Groups: []string{"treasury"}, Keys: key(65)}, charter.Person{Name: "kim", Org: "umbra", Groups: []string{"admins"}, Keys: key(66)})
		c.Admin.K = 3
		c.Rules = append(c.Rules, policy.Rule{Name: "any", When: `intent.wallet == "any"`, FeeCap: "0.02 ETH", Approvals: []policy.Requirement{{Group: "treasury", K: 1}}})
		c.Destinations = append(c.Destinations, charter.DestinationList{Name: "spare", Keepers: &policy.Requirement{Group: "compliance", K: 1}},
			charter.DestinationList{Name: "old", Entries: []policy.Destination{{Chain: "sepolia", Address: "0xde709f2102306220921060314715629080e2fb77", Label: "an old one"}}})
		c.Chains = append(c.Chains, charter.Chain{Name: "holesky", Kind: "evm", ChainID: 17000})
		c.Assets = append(c.Assets, charter.Asset{Symbol: "HOL", Chain: "holesky", Decimals: 18})
	})
	at := func(c *charter.Charter, name string) *charter.Person {
		return &c.People[slices.IndexFunc(c.People, func(p charter.Person) bool { return p.Name == name })]
	}
	out := func(names ...string) func(*charter.Charter) {
		return func(c *charter.Charter) {
			c.People = slices.DeleteFunc(c.People, func(p charter.Person) bool { return slices.Contains(names, p.Name) })
		}
	}
	lose := func(name string, n int) func(*charter.Charter) {
		return func(c *charter.Charter) { p := at(c, name); p.Keys = slices.Delete(p.Keys, n, n+1) }
	}
	leave := func(name, group string) func(*charter.Charter) {
		return func(c *charter.Charter) {
			p := at(c, name)
			p.Groups = slices.DeleteFunc(p.Groups, func(g string) bool { return g == group })
		}
	}
	both := func(a, b func(*charter.Charter)) func(*charter.Charter) {
		return func(c *charter.Charter) { a(c); b(c) }
	}
	rule := func(name string, edit func(r *policy.Rule)) func(*charter.Charter) {
		return func(c *charter.Charter) {
			edit(&c.Rules[slices.IndexFunc(c.Rules, func(r policy.Rule) bool { return r.Name == name })])
		}
	}
	deny := func(when string) func(*charter.Charter) {
		return func(c *charter.Charter) {
			c.Rules = append(c.Rules, policy.Rule{Name: "no", When: when, Deny: "no"})
		}
	}
	const says, several, harder = "somebody who could stop things no longer can; freeze --person ", "people leave or lose a key in one version", "it makes cancels harder"
	for name, c := range map[string]struct {
		edit  func(*charter.Charter)
		waits string // words of the line that makes it wait; none: it narrows
	}{
		"one who only asks":                   {out("frank"), ""},
		"two who only ask":                    {out("frank", "grace"), several},
		"an admin":                            {out("bob"), says + "bob"},
		"one who may veto":                    {out("heidi"), says + "heidi"},
		"a keeper":                            {out("ivan"), says + "ivan"},
		"an approver":                         {out("judy"), says + "judy"},
		"out of the admins":                   {leave("carol", "admins"), says + "carol"},
		"out of a veto":                       {leave("heidi", "security"), says + "heidi"},
		"out of the keepers":                  {leave("ivan", "compliance"), says + "ivan"},
		"out of the approvers":                {leave("judy", "treasury"), says + "judy"},
		"one of two keys":                     {lose("grace", 0), ""},
		"one of an approver's two keys":       {lose("dave", 1), ""},
		"one of two keys of who may veto":     {lose("erin", 0), ""},
		"keys of two people":                  {both(lose("dave", 0), lose("erin", 0)), several},
		"a key, and somebody":                 {both(lose("dave", 0), out("frank")), several},
		"the only key, for another":           {func(c *charter.Charter) { at(c, "frank").Keys[0] = signer(t, 70).Key() }, "it is the last of the keys that they had"},
		"a lower limit":                       {rule("payments", func(r *policy.Rule) { r.MaxAmount[0] = "1 ETH" }), ""},
		"more approvals of payments":          {rule("payments", func(r *policy.Rule) { r.Approvals[0].K = 3 }), ""},
		"a lower fee of payments":             {rule("payments", func(r *policy.Rule) { r.FeeCap = "0.005 ETH" }), ""},
		"more approvals of cancels":           {rule("cancels", func(r *policy.Rule) { r.Approvals[0].K = 2 }), harder},
		"another group for cancels":           {rule("cancels", func(r *policy.Rule) { r.Approvals = append(r.Approvals, policy.Requirement{Group: "security", K: 1}) }), harder},
		"fewer kinds of key for cancels":      {rule("cancels", func(r *policy.Rule) { r.Keys = []string{"ssh"} }), harder},
		"a lower fee of cancels":              {rule("cancels", func(r *policy.Rule) { r.FeeCap = "0.01 ETH" }), harder},
		"a lower fee of anything of a wallet": {rule("any", func(r *policy.Rule) { r.FeeCap = "0.01 ETH" }), harder},
		"more approvals of anything":          {rule("any", func(r *policy.Rule) { r.Approvals[0].K = 2 }), harder},
		"no cancels":                          {deny(`intent.kind == "cancel"`), "it can deny a cancel"},
		"no wallet":                           {deny(`intent.wallet == "hot"`), "it can deny a cancel"},
		"nobody asks":                         {deny(`intent.initiator == "alice"`), "it can deny a cancel"},
		"no payments":                         {deny(`intent.kind == "transfer"`), ""},
		"no tokens":                           {deny(`intent.asset == "USDC"`), ""},
		"nothing of a wallet but cancels":     {deny(`intent.wallet == "hot" && intent.kind != "cancel"`), ""},
		"a service":                           {func(c *charter.Charter) { c.Services = c.Services[:1] }, ""},
		"an address":                          {func(c *charter.Charter) { c.Destinations[0].Entries = c.Destinations[0].Entries[:1] }, ""},
		"a list":                              {func(c *charter.Charter) { c.Destinations = c.Destinations[:len(c.Destinations)-1] }, ""},
		"a list with keepers": {func(c *charter.Charter) {
			n := len(c.Destinations) - 2
			c.Destinations = slices.Delete(c.Destinations, n, n+1)
		}, "the say of 1 of compliance"},
		"a chain": {func(c *charter.Charter) { c.Chains, c.Assets = c.Chains[:len(c.Chains)-1], c.Assets[:len(c.Assets)-1] }, "what was signed for it can be cancelled no more"},
	} {
		next := edited(t, base, c.edit)
		waits := ""
		for _, line := range charter.Diff(base, next) {
			if line.Widens {
				waits += line.Text + "\n"
			}
		}
		if narrows := charter.Narrows(base, next); narrows != (c.waits == "") || !strings.Contains(waits, c.waits) {
			t.Errorf("%s: narrows is %t, want the words %q:\n%s", name, narrows, c.waits, words(charter.Diff(base, next)))
		}
	}
}
