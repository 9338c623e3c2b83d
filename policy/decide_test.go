package policy_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"coffer/policy"
)

func eth(s string) *big.Int {
	v, err := policy.ParseAmount(s, 18)
	if err != nil {
		panic(err)
	}
	return v
}

func compile(t testing.TB, rules ...policy.Rule) *policy.Set {
	t.Helper()
	s, err := policy.Compile(rules, vocabulary())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func transfer(amount string) policy.Facts {
	return policy.Facts{
		Kind: policy.KindTransfer, Wallet: "hot", Chain: "sepolia", Asset: "ETH", To: supplier,
		Amount: eth(amount), FeeCap: eth("0.001"), Initiator: "erp", InitiatorService: true, InitiatorOrg: "acme", Reference: "INV-7",
	}
}

func vote(person, org string, groups ...string) policy.Vote {
	return policy.Vote{Person: person, Org: org, Groups: groups, KeyKind: "ssh"}
}

var (
	alice = vote("alice", "acme", "treasury")
	bob   = vote("bob", "acme", "treasury")
	carol = vote("carol", "umbra", "treasury")
	dave  = vote("dave", "umbra", "security")
)

func codes(d policy.Decision) []string {
	var out []string
	for _, r := range d.Reasons {
		out = append(out, r.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestDecide(t *testing.T) {
	all := policy.Rule{Name: "all", Approvals: twoOfTreasury}
	small := policy.Rule{Name: "small", MaxAmount: []string{"2 ETH"}, FeeCap: "0.01 ETH", Destinations: []string{"suppliers"}, Approvals: twoOfTreasury}
	orgs := policy.Rule{Name: "orgs", Approvals: []policy.Requirement{{Group: "treasury", K: 2, Orgs: 2}}}
	large := policy.Rule{Name: "large", When: `intent.asset == "ETH" && intent.amount > amount("50 ETH")`, Approvals: []policy.Requirement{{Group: "security", K: 1}}}
	noUSDC := policy.Rule{Name: "no-usdc", When: `intent.asset == "USDC"`, Deny: "USDC is frozen"}
	cold := policy.Rule{Name: "cold", When: `intent.wallet == "cold"`, Approvals: twoOfTreasury}
	both := []policy.Vote{alice, bob}
	with := func(f policy.Facts, change func(*policy.Facts)) policy.Facts { change(&f); return f }
	pgp := alice
	pgp.KeyKind = "pgp"
	over64 := new(big.Int).Lsh(big.NewInt(1), 64) // as a uint64 this is 0
	over64.Add(over64, big.NewInt(1))

	for name, c := range map[string]struct {
		rules []policy.Rule
		facts policy.Facts
		votes []policy.Vote
		want  policy.Outcome
		codes []string
	}{
		"allow":                       {[]policy.Rule{all}, transfer("1"), both, policy.Allow, nil},
		"no rule matches":             {[]policy.Rule{cold}, transfer("1"), both, policy.Deny, []string{policy.CodeNoRule}},
		"deny beats allow":            {[]policy.Rule{all, noUSDC}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Deny, []string{policy.CodeDenied}},
		"deny rule does not match":    {[]policy.Rule{all, noUSDC}, transfer("1"), both, policy.Allow, nil},
		"only a deny rule, unmatched": {[]policy.Rule{noUSDC}, transfer("1"), both, policy.Deny, []string{policy.CodeNoRule}},
		"at the limit":                {[]policy.Rule{small}, transfer("2"), both, policy.Allow, nil},
		"over the limit by one wei":   {[]policy.Rule{small}, transfer("2.000000000000000001"), both, policy.Deny, []string{policy.CodeAmount}},
		"limit names no such asset":   {[]policy.Rule{small}, with(transfer("0.0000000000001"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Deny, []string{policy.CodeAmount}},
		"over 64 bits": {[]policy.Rule{{Name: "tiny", MaxAmount: []string{"0.000000000000000005 ETH"}, Approvals: twoOfTreasury}},
			with(transfer("1"), func(f *policy.Facts) { f.Amount = over64 }), both, policy.Deny, []string{policy.CodeAmount}},
		"fee over":                     {[]policy.Rule{small}, with(transfer("1"), func(f *policy.Facts) { f.FeeCap = eth("0.010000000000000001") }), both, policy.Deny, []string{policy.CodeFee}},
		"fee of another native asset":  {[]policy.Rule{{Name: "f", FeeCap: "1 ETH", Approvals: twoOfTreasury}}, with(transfer("1"), func(f *policy.Facts) { f.Chain, f.Asset = "amoy", "POL" }), both, policy.Deny, []string{policy.CodeFee}},
		"stranger":                     {[]policy.Rule{small}, with(transfer("1"), func(f *policy.Facts) { f.To = stranger }), both, policy.Deny, []string{policy.CodeDestination}},
		"right address, wrong chain":   {[]policy.Rule{{Name: "d", Destinations: []string{"suppliers"}, Approvals: twoOfTreasury}}, with(transfer("1"), func(f *policy.Facts) { f.Chain = "amoy"; f.Asset = "POL" }), both, policy.Deny, []string{policy.CodeDestination}},
		"address in lower case":        {[]policy.Rule{small}, with(transfer("1"), func(f *policy.Facts) { f.To = strings.ToLower(supplier) }), both, policy.Deny, []string{policy.CodeDestination}},
		"everything wrong, all said":   {[]policy.Rule{small}, with(transfer("3"), func(f *policy.Facts) { f.To = stranger; f.FeeCap = eth("1") }), nil, policy.Deny, []string{policy.CodeAmount, policy.CodeApprovals, policy.CodeDestination, policy.CodeFee}},
		"no votes":                     {[]policy.Rule{all}, transfer("1"), nil, policy.Wait, []string{policy.CodeApprovals}},
		"one vote":                     {[]policy.Rule{all}, transfer("1"), []policy.Vote{alice}, policy.Wait, []string{policy.CodeApprovals}},
		"one person twice":             {[]policy.Rule{all}, transfer("1"), []policy.Vote{alice, alice}, policy.Wait, []string{policy.CodeApprovals}},
		"one person, two orgs":         {[]policy.Rule{orgs}, transfer("1"), []policy.Vote{alice, vote("alice", "umbra", "treasury"), bob}, policy.Wait, []string{policy.CodeApprovals}},
		"initiator's own vote":         {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Initiator = "alice"; f.InitiatorService = false }), both, policy.Wait, []string{policy.CodeApprovals}},
		"vote from outside the group":  {[]policy.Rule{all}, transfer("1"), []policy.Vote{alice, dave}, policy.Wait, []string{policy.CodeApprovals}},
		"vote without a person":        {[]policy.Rule{all}, transfer("1"), []policy.Vote{alice, vote("", "acme", "treasury")}, policy.Wait, []string{policy.CodeApprovals}},
		"key of another kind":          {[]policy.Rule{all}, transfer("1"), []policy.Vote{pgp, bob}, policy.Wait, []string{policy.CodeApprovals}},
		"second vote by accepted key":  {[]policy.Rule{all}, transfer("1"), []policy.Vote{pgp, alice, bob}, policy.Allow, nil},
		"two people of one org":        {[]policy.Rule{orgs}, transfer("1"), both, policy.Wait, []string{policy.CodeApprovals}},
		"two people of two orgs":       {[]policy.Rule{orgs}, transfer("1"), []policy.Vote{alice, carol}, policy.Allow, nil},
		"no organisation is no org":    {[]policy.Rule{orgs}, transfer("1"), []policy.Vote{alice, vote("bob", "", "treasury")}, policy.Wait, []string{policy.CodeApprovals}},
		"requirements add up: waits":   {[]policy.Rule{all, large}, transfer("51"), both, policy.Wait, []string{policy.CodeApprovals}},
		"requirements add up: allowed": {[]policy.Rule{all, large}, transfer("51"), []policy.Vote{alice, bob, dave}, policy.Allow, nil},
		"large does not match at 50":   {[]policy.Rule{all, large}, transfer("50"), both, policy.Allow, nil},
		"large does not touch USDC":    {[]policy.Rule{all, large}, with(transfer("51"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Allow, nil},
		"cancel needs approvals too":   {[]policy.Rule{small}, policy.Facts{Kind: policy.KindCancel, Wallet: "hot", Chain: "sepolia", FeeCap: eth("0.001"), Initiator: "erp"}, nil, policy.Wait, []string{policy.CodeApprovals}},
		"cancel has a fee":             {[]policy.Rule{small}, policy.Facts{Kind: policy.KindCancel, Wallet: "hot", Chain: "sepolia", FeeCap: eth("1"), Initiator: "erp"}, both, policy.Deny, []string{policy.CodeFee}},
		"create wallet":                {[]policy.Rule{small}, policy.Facts{Kind: policy.KindCreateWallet, Wallet: "hot", Initiator: "erp"}, both, policy.Allow, nil},

		"unknown kind":               {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Kind = "contract_call" }), both, policy.Deny, []string{policy.CodeEval}},
		"no kind":                    {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Kind = "" }), both, policy.Deny, []string{policy.CodeEval}},
		"cancel that moves value":    {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Kind = policy.KindCancel }), both, policy.Deny, []string{policy.CodeEval}},
		"wallet that moves value":    {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Kind = policy.KindCreateWallet }), both, policy.Deny, []string{policy.CodeEval}},
		"no amount":                  {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Amount = nil }), both, policy.Deny, []string{policy.CodeEval}},
		"zero amount":                {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Amount = new(big.Int) }), both, policy.Deny, []string{policy.CodeEval}},
		"negative amount":            {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Amount = big.NewInt(-1) }), both, policy.Deny, []string{policy.CodeEval}},
		"amount over 256 bits":       {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Amount = new(big.Int).Lsh(big.NewInt(1), 256) }), both, policy.Deny, []string{policy.CodeEval}},
		"no fee cap":                 {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.FeeCap = nil }), both, policy.Deny, []string{policy.CodeEval}},
		"negative fee cap":           {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.FeeCap = big.NewInt(-1) }), both, policy.Deny, []string{policy.CodeEval}},
		"unknown asset":              {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "BTC" }), both, policy.Deny, []string{policy.CodeEval}},
		"asset of another chain":     {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "POL" }), both, policy.Deny, []string{policy.CodeEval}},
		"unknown chain":              {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Chain = "mainnet" }), both, policy.Deny, []string{policy.CodeEval}},
		"no destination":             {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.To = "" }), both, policy.Deny, []string{policy.CodeEval}},
		"no initiator":               {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Initiator = "" }), both, policy.Deny, []string{policy.CodeEval}},
		"no wallet":                  {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Wallet = "" }), both, policy.Deny, []string{policy.CodeEval}},
		"reference as a cost bomb":   {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.Reference = strings.Repeat("a", 1<<20) }), both, policy.Deny, []string{policy.CodeEval}},
		"a million groups":           {[]policy.Rule{all}, with(transfer("1"), func(f *policy.Facts) { f.InitiatorGroups = make([]string, 1_000_000) }), both, policy.Deny, []string{policy.CodeEval}},
		"a million votes":            {[]policy.Rule{all}, transfer("1"), make([]policy.Vote, 1_000_000), policy.Deny, []string{policy.CodeEval}},
		"evaluation error denies":    {[]policy.Rule{all, {Name: "mixed", When: `intent.wallet == "hot" && intent.amount > amount("1 ETH")`, Approvals: twoOfTreasury}}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Deny, []string{policy.CodeEval}},
		"error in == denies":         {[]policy.Rule{all, {Name: "mixed", When: `intent.wallet == "hot" && intent.amount == amount("1 ETH")`, Deny: "no"}}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Deny, []string{policy.CodeEval}},
		"error in ! denies":          {[]policy.Rule{all, {Name: "mixed", When: `intent.wallet == "hot" && !(intent.amount == amount("1 ETH"))`, Deny: "no"}}, with(transfer("1"), func(f *policy.Facts) { f.Asset = "USDC" }), both, policy.Deny, []string{policy.CodeEval}},
		"every variable reaches CEL": {[]policy.Rule{{Name: "every", When: everyVariable, Approvals: twoOfTreasury}}, with(transfer("1"), func(f *policy.Facts) { f.InitiatorGroups = []string{"treasury"} }), both, policy.Allow, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := compile(t, c.rules...).Decide(c.facts, c.votes)
			if d.Outcome != c.want || !slices.Equal(codes(d), c.codes) {
				t.Errorf("%s %v, want %s %v\n%+v", d.Outcome, codes(d), c.want, c.codes, d.Reasons)
			}
			for _, r := range d.Reasons {
				if r.Text == "" {
					t.Errorf("%s has no text", r.Code)
				}
			}
		})
	}
}

const everyVariable = `intent.kind == "transfer" && intent.wallet == "hot" && intent.chain == "sepolia" && intent.asset == "ETH" && ` +
	`intent.to == "` + supplier + `" && intent.amount == amount("1 ETH") && intent.fee_cap < amount("0.002 ETH") && intent.initiator == "erp" && ` +
	`intent.initiator_org == "acme" && "treasury" in intent.initiator_groups && intent.initiator_is_service && intent.reference == "INV-7"`

func TestDecideSaysWhat(t *testing.T) {
	s := compile(t, policy.Rule{Name: "pay", MaxAmount: []string{"2 ETH"}, Approvals: []policy.Requirement{{Group: "treasury", K: 3, Orgs: 2}}})
	d := s.Decide(transfer("2.5"), []policy.Vote{alice})
	want := policy.Decision{
		Outcome: policy.Deny, Matched: []string{"pay"},
		Reasons: []policy.Reason{
			{Code: policy.CodeAmount, Rule: "pay", Text: `2.5 ETH is more than the 2 ETH that rule "pay" allows per payment`},
			{Code: policy.CodeApprovals, Rule: "pay", Text: `rule "pay" waits for 3 of treasury from 2 organisations; 1 so far from 1`},
		},
		Missing: []policy.Missing{{Rule: "pay", Requirement: policy.Requirement{Group: "treasury", K: 3, Orgs: 2}, Have: 1, HaveOrgs: 1}},
		Groups:  []string{"treasury"},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got\n%+v\nwant\n%+v", d, want)
	}
	raw, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(raw), `"outcome":"deny"`) || !strings.Contains(string(raw), `"have_orgs":1`) {
		t.Errorf("JSON %s, %v", raw, err)
	}
	var back policy.Decision
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("reads back as %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"outcome":"perhaps"}`), &back); err == nil {
		t.Error("an unknown outcome is read")
	}
}

func TestNilSetDenies(t *testing.T) {
	var s *policy.Set
	if d := s.Decide(transfer("1"), []policy.Vote{alice, bob}); d.Outcome != policy.Deny {
		t.Error("a nil set does not deny")
	}
	if d := new(policy.Set).Decide(transfer("1"), []policy.Vote{alice, bob}); d.Outcome != policy.Deny {
		t.Error("a zero set does not deny")
	}
}

// Compile must not keep what its caller can change afterwards.
func TestSetIsImmutable(t *testing.T) {
	v := vocabulary()
	rules := []policy.Rule{{Name: "pay", MaxAmount: []string{"2 ETH"}, Destinations: []string{"suppliers"}, Approvals: []policy.Requirement{{Group: "treasury", K: 2}}}}
	s, err := policy.Compile(rules, v)
	if err != nil {
		t.Fatal(err)
	}
	v.Lists["suppliers"].Entries[0].Address = stranger
	v.Assets[0].Decimals = 0
	rules[0].Approvals[0].K = 0
	rules[0].Destinations[0] = "nobody"
	if d := s.Decide(transfer("1"), []policy.Vote{alice}); d.Outcome != policy.Wait {
		t.Errorf("%+v", d)
	}
	f := transfer("1")
	f.To = stranger
	if d := s.Decide(f, []policy.Vote{alice, bob}); d.Outcome != policy.Deny {
		t.Errorf("%+v", d)
	}
}

func TestDecideConcurrently(t *testing.T) {
	s := compile(t, policy.Rule{Name: "every", When: everyVariable, Approvals: twoOfTreasury}, policy.Rule{Name: "all", Approvals: twoOfTreasury})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 50 {
				f := transfer(fmt.Sprint(1 + i + j))
				if d := s.Decide(f, []policy.Vote{alice, bob}); d.Outcome != policy.Allow {
					t.Errorf("%+v", d)
				}
			}
		}()
	}
	wg.Wait()
}

// Properties over many rule sets, intents and votes: adding a rule or taking away a
// vote never widens; the order of votes never matters; nothing is allowed without the
// approvals of each rule that matched.
func TestDecideProperties(t *testing.T) {
	pool := []policy.Rule{
		{Name: "all", Approvals: twoOfTreasury},
		{Name: "small", When: `intent.kind == "transfer"`, MaxAmount: []string{"2 ETH", "10 USDC"}, Approvals: []policy.Requirement{{Group: "treasury", K: 1}}},
		{Name: "orgs", When: `intent.wallet == "hot"`, Approvals: []policy.Requirement{{Group: "treasury", K: 2, Orgs: 2}}},
		{Name: "sec", When: `intent.asset == "ETH" && intent.amount >= amount("1 ETH")`, Approvals: []policy.Requirement{{Group: "security", K: 1}, {Group: "treasury", K: 1}}},
		{Name: "list", When: `intent.kind == "transfer"`, Destinations: []string{"suppliers"}, FeeCap: "0.01 ETH", Approvals: twoOfTreasury},
		{Name: "deny", When: `intent.initiator_is_service && intent.wallet == "cold"`, Deny: "services do not touch cold"},
	}
	sets := map[string]*policy.Set{}
	get := func(t *rapid.T, rules []policy.Rule) *policy.Set {
		var names []string
		for _, r := range rules {
			names = append(names, r.Name)
		}
		key := strings.Join(names, ",")
		if sets[key] == nil {
			s, err := policy.Compile(rules, vocabulary())
			if err != nil {
				t.Fatal(err)
			}
			sets[key] = s
		}
		return sets[key]
	}
	rapid.Check(t, func(t *rapid.T) {
		mask := rapid.IntRange(1, 1<<len(pool)-1).Draw(t, "rules")
		extra := rapid.IntRange(0, len(pool)-1).Draw(t, "extra")
		var rules, more []policy.Rule
		for i, r := range pool {
			if mask&(1<<i) != 0 {
				rules = append(rules, r)
			}
			if mask&(1<<i) != 0 || i == extra {
				more = append(more, r)
			}
		}
		f := transfer(rapid.SampledFrom([]string{"0.5", "1", "2", "2.1", "100000000000000000000"}).Draw(t, "amount"))
		f.Asset = rapid.SampledFrom([]string{"ETH", "USDC"}).Draw(t, "asset")
		f.To = rapid.SampledFrom([]string{supplier, stranger}).Draw(t, "to")
		f.Wallet = rapid.SampledFrom([]string{"hot", "cold"}).Draw(t, "wallet")
		f.Initiator = rapid.SampledFrom([]string{"erp", "alice"}).Draw(t, "initiator")
		f.InitiatorService = f.Initiator == "erp"
		votes := rapid.SliceOfN(rapid.SampledFrom([]policy.Vote{alice, bob, carol, dave}), 0, 6).Draw(t, "votes")

		d := get(t, rules).Decide(f, votes)
		if again := get(t, rules).Decide(f, votes); !reflect.DeepEqual(d, again) {
			t.Fatalf("two answers to one question: %+v, %+v", d, again)
		}
		reversed := slices.Clone(votes)
		slices.Reverse(reversed)
		if r := get(t, rules).Decide(f, reversed); !reflect.DeepEqual(d, r) {
			t.Fatalf("the order of votes matters: %+v, %+v", d, r)
		}
		// A rule that did not match may turn "nothing matches" into something; once
		// something matches, one more rule only narrows.
		if len(d.Matched) > 0 {
			if m := get(t, more).Decide(f, votes); m.Outcome > d.Outcome {
				t.Fatalf("one more rule widened %s to %s", d.Outcome, m.Outcome)
			}
		}
		if len(votes) > 0 {
			if l := get(t, rules).Decide(f, votes[1:]); l.Outcome > d.Outcome {
				t.Fatalf("one vote less widened %s to %s", d.Outcome, l.Outcome)
			}
		}
		if d.Outcome == policy.Allow {
			if len(d.Matched) == 0 || len(d.Missing) > 0 || len(d.Reasons) > 0 {
				t.Fatalf("allowed although %+v", d)
			}
			if slices.IndexFunc(votes, func(v policy.Vote) bool { return v.Person != f.Initiator }) < 0 {
				t.Fatal("allowed without anybody's approval")
			}
		} else if len(d.Reasons) == 0 {
			t.Fatal("refused without a reason")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	s := compile(b, policy.Rule{Name: "every", When: everyVariable, Approvals: twoOfTreasury}, policy.Rule{Name: "all", Approvals: twoOfTreasury})
	f := transfer("1")
	for b.Loop() {
		s.Decide(f, []policy.Vote{alice, bob})
	}
}

// No expression may panic the compiler or yield a set that panics, whatever the text.
func FuzzWhen(f *testing.F) {
	f.Add(everyVariable)
	f.Add(`intent.asset == "ETH" && intent.amount > amount("50 ETH")`)
	f.Add(`!(((intent.initiator_is_service)))`)
	f.Add(`"treasury" in intent.initiator_groups`)
	f.Add(`intent.reference.startsWith("a") == false`)
	f.Fuzz(func(t *testing.T, when string) {
		s, err := policy.Compile([]policy.Rule{{Name: "r", When: when, Approvals: twoOfTreasury}}, vocabulary())
		if err != nil {
			return
		}
		for _, facts := range []policy.Facts{transfer("1"), {Kind: policy.KindCreateWallet, Wallet: "w", Initiator: "bob"}} {
			if d := s.Decide(facts, nil); d.Outcome == policy.Allow {
				t.Fatalf("%q allows without approvals", when)
			}
		}
	})
}
