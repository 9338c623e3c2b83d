package policy_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coffer/policy"
)

// kept is the vocabulary with lists that people change: staff, and two of sanctions.
func kept() policy.Vocabulary {
	v := vocabulary()
	v.Lists["staff"] = policy.List{Kept: true, Entries: []policy.Destination{{Chain: "sepolia", Address: stranger, Label: "before the first version"}}}
	v.Lists["banned"] = policy.List{Kind: policy.ListSanctions, Kept: true}
	v.Lists["feared"] = policy.List{Kind: policy.ListSanctions, Kept: true}
	return v
}

func entries(addresses ...string) []policy.Destination {
	var out []policy.Destination
	for _, a := range addresses {
		out = append(out, policy.Destination{Chain: "sepolia", Address: a, Label: "somebody"})
	}
	return out
}

func TestDecideLists(t *testing.T) {
	const thief = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
	none := policy.List{Kind: policy.ListSanctions, Kept: true, Version: 1}
	list := func(addresses ...string) policy.List {
		return policy.List{Kept: true, Version: 3, Entries: entries(addresses...)}
	}
	sanctions := func(addresses ...string) policy.List {
		l := list(addresses...)
		l.Kind = policy.ListSanctions
		return l
	}
	stale := func(l policy.List) policy.List {
		l.Stale = "version 3 is of last year"
		return l
	}
	elsewhere := sanctions(supplier)
	elsewhere.Entries[0].Chain = "amoy"
	type lists = map[string]policy.List
	for name, c := range map[string]struct {
		to    string
		lists lists
		want  []string // codes of denials; none: allowed
	}{
		"on the fixed list":            {supplier, lists{"staff": list(), "banned": none, "feared": none}, nil},
		"on the kept list":             {stranger, lists{"staff": list(stranger), "banned": none, "feared": none}, nil},
		"taken off the kept list":      {stranger, lists{"staff": list(thief), "banned": none, "feared": none}, []string{policy.CodeDestination}},
		"kept list stale":              {stranger, lists{"staff": stale(list(stranger)), "banned": none, "feared": none}, []string{policy.CodeListStale}},
		"kept list stale, fixed holds": {supplier, lists{"staff": stale(list(stranger)), "banned": none, "feared": none}, nil},
		"kept list not at hand":        {stranger, lists{"banned": none, "feared": none}, []string{policy.CodeListStale}},
		// What a caller brings does not replace what the charter fixes.
		"fixed list brought": {stranger, lists{"suppliers": list(stranger), "staff": list(), "banned": none, "feared": none}, []string{policy.CodeDestination}},

		"sanctioned":                  {supplier, lists{"staff": list(), "banned": none, "feared": sanctions(thief, supplier)}, []string{policy.CodeSanctioned}},
		"sanctioned on another chain": {supplier, lists{"staff": list(), "banned": elsewhere, "feared": none}, []string{policy.CodeSanctioned}},
		"sanctioned twice":            {supplier, lists{"staff": list(), "banned": sanctions(supplier), "feared": sanctions(supplier)}, []string{policy.CodeSanctioned, policy.CodeSanctioned}},
		"others sanctioned":           {supplier, lists{"staff": list(), "banned": sanctions(thief), "feared": sanctions(stranger)}, nil},
		"sanctions stale":             {supplier, lists{"staff": list(), "banned": stale(sanctions(thief)), "feared": none}, []string{policy.CodeListStale}},
		"sanctions not at hand":       {supplier, lists{"staff": list(), "banned": none}, []string{policy.CodeListStale}},
		"no lists at hand":            {supplier, nil, []string{policy.CodeListStale, policy.CodeListStale}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := policy.Compile([]policy.Rule{{Name: "pay", Destinations: []string{"suppliers", "staff"}, Approvals: twoOfTreasury}}, kept())
			if err != nil {
				t.Fatal(err)
			}
			f := transfer("1")
			f.To, f.Lists = c.to, c.lists
			d := s.Decide(f, []policy.Vote{alice, bob})
			var got []string
			for _, r := range d.Reasons {
				got = append(got, r.Code)
			}
			if !slices.Equal(got, c.want) || (d.Outcome == policy.Allow) != (c.want == nil) {
				t.Errorf("%s %v, want %v: %+v", d.Outcome, got, c.want, d.Reasons)
			}
			// A cancel pays nobody.
			cancel := policy.Facts{Kind: policy.KindCancel, Wallet: "hot", Chain: "sepolia", FeeCap: eth("0.001"), Initiator: "erp", InitiatorService: true, InitiatorOrg: "acme", Reference: "c", Lists: c.lists}
			if d := s.Decide(cancel, []policy.Vote{alice, bob}); d.Outcome != policy.Allow {
				t.Errorf("a cancel: %+v", d)
			}
		})
	}
}

func TestCompileLists(t *testing.T) {
	rule := func(list string) []policy.Rule {
		return []policy.Rule{{Name: "pay", Destinations: []string{list}, Approvals: twoOfTreasury}}
	}
	v := kept()
	v.Lists["new"] = policy.List{Kept: true}
	if _, err := policy.Compile(rule("new"), v); err != nil {
		t.Errorf("a kept list without entries yet: %v", err)
	}
	if _, err := policy.Compile(rule("banned"), v); err == nil || !strings.Contains(err.Error(), "nothing is paid") {
		t.Errorf("paying to the sanctioned: %v", err)
	}
}

func TestCount(t *testing.T) {
	with := func(v policy.Vote, kind string) policy.Vote { v.KeyKind = kind; return v }
	q := policy.Requirement{Group: "treasury", K: 2, Orgs: 2}
	for name, c := range map[string]struct {
		votes        []policy.Vote
		kinds        []string
		people, orgs int
	}{
		"nobody":              {nil, nil, 0, 0},
		"two of one":          {[]policy.Vote{alice, bob}, nil, 2, 1},
		"two of two":          {[]policy.Vote{alice, carol}, nil, 2, 2},
		"another group":       {[]policy.Vote{alice, dave}, nil, 1, 1},
		"twice":               {[]policy.Vote{alice, alice}, nil, 1, 1},
		"twice, other orgs":   {[]policy.Vote{alice, vote("alice", "umbra", "treasury")}, nil, 1, 1},
		"twice, other keys":   {[]policy.Vote{alice, with(alice, "webauthn")}, nil, 1, 1},
		"no name":             {[]policy.Vote{vote("", "acme", "treasury")}, nil, 0, 0},
		"any kind":            {[]policy.Vote{with(alice, "ssh-sk"), with(carol, "webauthn")}, nil, 2, 2},
		"no kind":             {[]policy.Vote{with(alice, "")}, nil, 0, 0},
		"unknown kind":        {[]policy.Vote{with(alice, "paper")}, nil, 0, 0},
		"hardware":            {[]policy.Vote{alice, with(carol, "webauthn")}, []string{"ssh-sk", "webauthn"}, 1, 1},
		"hardware besides":    {[]policy.Vote{alice, with(alice, "ssh-sk")}, []string{"ssh-sk", "webauthn"}, 1, 1},
		"no organisation":     {[]policy.Vote{vote("alice", "", "treasury")}, nil, 1, 0},
		"in two groups, once": {[]policy.Vote{vote("alice", "acme", "treasury", "treasury")}, nil, 1, 1},
	} {
		people, orgs := policy.Count(q, c.kinds, c.votes)
		if people != c.people || orgs != c.orgs {
			t.Errorf("%s: %d people of %d organisations, want %d of %d", name, people, orgs, c.people, c.orgs)
		}
		if q.Met(people, orgs) != (people >= 2 && orgs >= 2) {
			t.Errorf("%s: met: %t", name, q.Met(people, orgs))
		}
	}
}

// A rule that names no kinds of key accepts all; one that does, those only.
func TestDecideKeyKinds(t *testing.T) {
	approvals := []policy.Requirement{{Group: "treasury", K: 1}}
	for _, c := range []struct {
		rule, key string
		want      policy.Outcome
	}{
		{"", "ssh", policy.Allow}, {"", "ssh-sk", policy.Allow}, {"", "webauthn", policy.Allow}, {"", "paper", policy.Wait}, {"", "", policy.Wait},
		{"ssh-sk", "ssh", policy.Wait}, {"ssh-sk", "ssh-sk", policy.Allow}, {"ssh-sk", "webauthn", policy.Wait},
	} {
		r := policy.Rule{Name: "pay", Approvals: approvals}
		if c.rule != "" {
			r.Keys = []string{c.rule}
		}
		v := alice
		v.KeyKind = c.key
		if d := compile(t, r).Decide(transfer("1"), []policy.Vote{v}); d.Outcome != c.want {
			t.Errorf("rule %q, key %q: %s", c.rule, c.key, d.Outcome)
		}
	}
}

func TestDecideNamesGroups(t *testing.T) {
	s := compile(t,
		policy.Rule{Name: "pay", Approvals: []policy.Requirement{{Group: "treasury", K: 1}, {Group: "security", K: 1}}},
		policy.Rule{Name: "cold", When: `intent.wallet == "cold"`, Approvals: twoOfTreasury},
		policy.Rule{Name: "large", When: `intent.asset == "ETH" && intent.amount > amount("5 ETH")`, Approvals: []policy.Requirement{{Group: "security", K: 1}}},
		policy.Rule{Name: "never", When: `intent.asset == "ETH" && intent.amount > amount("50 ETH")`, Deny: "too much"},
	)
	for amount, votes := range map[string][]policy.Vote{"1": nil, "2": {alice, dave}, "10": {alice}, "60": nil} {
		if d := s.Decide(transfer(amount), votes); !slices.Equal(d.Groups, []string{"security", "treasury"}) {
			t.Errorf("%s ETH: %v", amount, d.Groups)
		}
	}
	one := compile(t, policy.Rule{Name: "pay", When: `intent.wallet == "cold"`, Approvals: twoOfTreasury})
	if d := one.Decide(transfer("1"), nil); d.Groups != nil {
		t.Errorf("no rule matches, and %v are asked", d.Groups)
	}
}

func TestStricter(t *testing.T) {
	reason := func(code string) policy.Reason { return policy.Reason{Code: code, Text: code} }
	missing := func(k int) policy.Missing {
		return policy.Missing{Rule: "pay", Requirement: policy.Requirement{Group: "treasury", K: k}}
	}
	allow := policy.Decision{Outcome: policy.Allow, Matched: []string{"pay"}, Groups: []string{"treasury"}}
	wait := policy.Decision{Outcome: policy.Wait, Matched: []string{"pay"}, Reasons: []policy.Reason{reason("a")}, Missing: []policy.Missing{missing(2)}, Groups: []string{"treasury"}}
	more := policy.Decision{Outcome: policy.Wait, Matched: []string{"pay", "cold"}, Reasons: []policy.Reason{reason("a"), reason("b")}, Missing: []policy.Missing{missing(2), missing(3)}, Groups: []string{"security", "treasury"}}
	deny := policy.Decision{Outcome: policy.Deny, Reasons: []policy.Reason{reason("c")}}
	for name, c := range map[string]struct{ a, b, want policy.Decision }{
		"both allow":      {allow, allow, allow},
		"one waits":       {allow, wait, wait},
		"both wait":       {wait, more, more},
		"the same":        {more, more, more},
		"one denies":      {allow, deny, policy.Decision{Outcome: policy.Deny, Matched: []string{"pay"}, Reasons: deny.Reasons, Groups: []string{"treasury"}}},
		"waits or denies": {wait, deny, policy.Decision{Outcome: policy.Deny, Matched: []string{"pay"}, Reasons: []policy.Reason{reason("a"), reason("c")}, Missing: wait.Missing, Groups: []string{"treasury"}}},
	} {
		if got := policy.Stricter(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", name, got, c.want)
		}
		if got := policy.Stricter(c.b, c.a); got.Outcome != c.want.Outcome || len(got.Reasons) != len(c.want.Reasons) || len(got.Missing) != len(c.want.Missing) {
			t.Errorf("%s, the other way round: %+v", name, got)
		}
	}
	// What is no decision permits nothing.
	for _, none := range []policy.Decision{{}, {Outcome: 9}} {
		if got := policy.Stricter(allow, none); got.Outcome != policy.Deny || len(got.Reasons) == 0 {
			t.Errorf("with outcome %d: %+v", none.Outcome, got)
		}
		if got := policy.Stricter(none, none); got.Outcome != policy.Deny {
			t.Errorf("outcome %d twice: %+v", none.Outcome, got)
		}
	}
}

// Two decisions together allow what each allows, and nothing else.
func TestStricterIsBoth(t *testing.T) {
	sets := []*policy.Set{
		compile(t, policy.Rule{Name: "pay", Approvals: twoOfTreasury}),
		compile(t, policy.Rule{Name: "pay", MaxAmount: []string{"1 ETH"}, Approvals: []policy.Requirement{{Group: "security", K: 1}}}),
		compile(t, policy.Rule{Name: "pay", Destinations: []string{"suppliers"}, Approvals: []policy.Requirement{{Group: "treasury", K: 1}}}),
	}
	rapid.Check(t, func(t *rapid.T) {
		f := transfer(rapid.SampledFrom([]string{"0.5", "2"}).Draw(t, "amount"))
		f.To = rapid.SampledFrom([]string{supplier, stranger}).Draw(t, "to")
		votes := rapid.SliceOfN(rapid.SampledFrom([]policy.Vote{alice, bob, carol, dave}), 0, 4).Draw(t, "votes")
		a := rapid.SampledFrom(sets).Draw(t, "a").Decide(f, votes)
		b := rapid.SampledFrom(sets).Draw(t, "b").Decide(f, votes)
		d := policy.Stricter(a, b)
		if d.Outcome != min(a.Outcome, b.Outcome) {
			t.Fatalf("%s and %s come to %s", a.Outcome, b.Outcome, d.Outcome)
		}
		if d.Outcome != policy.Allow && len(d.Reasons) == 0 {
			t.Fatal("refused without a reason")
		}
	})
}
