package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"coffer/policy"
)

const (
	supplier = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	stranger = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
)

func vocabulary() policy.Vocabulary {
	return policy.Vocabulary{
		Assets: []policy.Asset{
			{Symbol: "ETH", Chain: "sepolia", Decimals: 18, Native: true},
			{Symbol: "USDC", Chain: "sepolia", Decimals: 6},
			{Symbol: "POL", Chain: "amoy", Decimals: 18, Native: true},
			{Symbol: "USDC", Chain: "amoy", Decimals: 6},
		},
		Lists: map[string]policy.List{
			"suppliers": {Entries: []policy.Destination{{Chain: "sepolia", Address: supplier, Label: "Paper mill"}}},
			"nobody":    {},
		},
		Groups: map[string]policy.Group{
			"treasury": {Members: 3, Orgs: 2},
			"security": {Members: 1, Orgs: 1},
		},
		Initiators:    []string{"alice", "bob", "carol", "dave", "erp"},
		Organisations: []string{"acme", "umbra"},
	}
}

var twoOfTreasury = []policy.Requirement{{Group: "treasury", K: 2}}

func TestCompileRefuses(t *testing.T) {
	with := func(change func(*policy.Rule)) []policy.Rule {
		r := policy.Rule{Name: "small", Approvals: twoOfTreasury}
		change(&r)
		return []policy.Rule{r}
	}
	when := func(expr string) []policy.Rule { return with(func(r *policy.Rule) { r.When = expr }) }
	many := make([]policy.Rule, policy.MaxRules+1)
	for i := range many {
		many[i] = policy.Rule{Name: fmt.Sprintf("r%d", i), Approvals: twoOfTreasury}
	}
	for name, c := range map[string]struct {
		rules   []policy.Rule
		mention []string
	}{
		"no rules":         {nil, []string{"at least one"}},
		"too many rules":   {many, []string{"at most 64"}},
		"no name":          {with(func(r *policy.Rule) { r.Name = "" }), []string{".name", "empty"}},
		"capital name":     {with(func(r *policy.Rule) { r.Name = "Small" }), []string{".name", "a-z"}},
		"look-alike name":  {with(func(r *policy.Rule) { r.Name = "smаll" }), []string{".name", `\u0430`}},
		"long name":        {with(func(r *policy.Rule) { r.Name = strings.Repeat("a", 33) }), []string{".name", "32"}},
		"name twice":       {append(with(func(*policy.Rule) {}), with(func(*policy.Rule) {})...), []string{"rules[1]", "different"}},
		"nothing demanded": {with(func(r *policy.Rule) { r.Approvals = nil }), []string{".approvals", "windows", "add an approval"}},
		"limits only": {with(func(r *policy.Rule) {
			r.Approvals = nil
			r.MaxAmount = []string{"1 ETH"}
			r.FeeCap = "1 ETH"
			r.Destinations = []string{"suppliers"}
		}), []string{".approvals", "windows"}},
		"deny everything":      {with(func(r *policy.Rule) { r.Approvals = nil; r.Deny = "no" }), []string{".deny", "everything"}},
		"deny and demand":      {with(func(r *policy.Rule) { r.Deny = "no"; r.When = `intent.asset == "ETH"` }), []string{".deny", "not both"}},
		"deny with bidi text":  {with(func(r *policy.Rule) { r.Approvals = nil; r.When = `intent.asset == "ETH"`; r.Deny = "no\u202eyes" }), []string{".deny", "ASCII"}},
		"unknown group":        {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "board", K: 1}} }), []string{"approvals[0].group", "security, treasury"}},
		"group twice":          {with(func(r *policy.Rule) { r.Approvals = append(twoOfTreasury[:1:1], twoOfTreasury...) }), []string{"approvals[1].group", "larger k"}},
		"k zero":               {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury"}} }), []string{".k", "at least 1"}},
		"k negative":           {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury", K: -1}} }), []string{".k", "at least 1"}},
		"k over members":       {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury", K: 4}} }), []string{".k", "3 people", "never"}},
		"orgs over group":      {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury", K: 3, Orgs: 3}} }), []string{".orgs", "2 organisations", "never"}},
		"orgs over k":          {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury", K: 1, Orgs: 2}} }), []string{".orgs", "raise k"}},
		"orgs negative":        {with(func(r *policy.Rule) { r.Approvals = []policy.Requirement{{Group: "treasury", K: 1, Orgs: -1}} }), []string{".orgs", "leave it out"}},
		"amount of no asset":   {with(func(r *policy.Rule) { r.MaxAmount = []string{"2 BTC"} }), []string{"max_amount[0]", "known: ETH"}},
		"amount malformed":     {with(func(r *policy.Rule) { r.MaxAmount = []string{"2e3 ETH"} }), []string{"max_amount[0]", "digits"}},
		"amount zero":          {with(func(r *policy.Rule) { r.MaxAmount = []string{"0.0 ETH"} }), []string{"max_amount[0]", "deny rule"}},
		"amount twice":         {with(func(r *policy.Rule) { r.MaxAmount = []string{"2 ETH", "3 ETH"} }), []string{"max_amount[1]", "two limits"}},
		"fee in a token":       {with(func(r *policy.Rule) { r.FeeCap = "1 USDC" }), []string{".fee_cap", "native"}},
		"fee zero":             {with(func(r *policy.Rule) { r.FeeCap = "0 ETH" }), []string{".fee_cap", "every transaction"}},
		"fee malformed":        {with(func(r *policy.Rule) { r.FeeCap = "cheap" }), []string{".fee_cap", "a space"}},
		"list unknown":         {with(func(r *policy.Rule) { r.Destinations = []string{"friends"} }), []string{"destinations[0]", "suppliers"}},
		"list empty":           {with(func(r *policy.Rule) { r.Destinations = []string{"nobody"} }), []string{"destinations[0]", "never"}},
		"list twice":           {with(func(r *policy.Rule) { r.Destinations = []string{"suppliers", "suppliers"} }), []string{"destinations[1]", "twice"}},
		"key kind unknown":     {with(func(r *policy.Rule) { r.Keys = []string{"pgp"} }), []string{"keys: kind", "known: ssh"}},
		"key kind twice":       {with(func(r *policy.Rule) { r.Keys = []string{"ssh", "ssh"} }), []string{"keys: kind", "twice"}},
		"when: syntax":         {when(`intent.asset ==`), []string{".when", "does not compile"}},
		"when: unknown field":  {when(`intent.ammount > amount("1 ETH")`), []string{".when", "intent.amount"}},
		"when: not boolean":    {when(`intent.wallet`), []string{".when", "true or false"}},
		"when: type":           {when(`intent.wallet == 5`), []string{".when", "does not compile"}},
		"when: 64-bit amount":  {when(`intent.amount > 5`), []string{".when", "does not compile"}},
		"when: amount != ":     {when(`intent.asset == "ETH" && intent.amount != amount("1 ETH")`), []string{".when", "!(a == b)"}},
		"when: amount in":      {when(`intent.amount in [amount("1 ETH")]`), []string{".when", "in is understood"}},
		"when: amount of var":  {when(`intent.amount > amount(intent.reference)`), []string{".when", "literal"}},
		"when: amount text":    {when(`intent.asset == "ETH" && intent.amount > amount("1,5 ETH")`), []string{".when", "digits"}},
		"when: amount asset":   {when(`intent.asset == "ETH" && intent.amount > amount("1 BTC")`), []string{".when", "known: ETH"}},
		"when: unguarded":      {when(`intent.amount > amount("1 ETH")`), []string{".when", "fails for", `intent.asset == `}},
		"when: guard too late": {when(`intent.kind == "transfer" && intent.amount > amount("1 ETH")`), []string{".when", "USDC", `intent.asset == `}},
		"when: fee unguarded":  {when(`intent.fee_cap > amount("1 ETH")`), []string{".when", "fails for", "intent.chain"}},
		"when: constant true":  {when(`true`), []string{".when", "leave it out"}},
		"when: constant":       {when(`1 == 1 || "a" == "b"`), []string{".when", "leave it out"}},
		"when: comment":        {when(`intent.asset == "ETH" // && intent.wallet == "hot"`), []string{".when", "comment"}},
		"when: two lines":      {when("intent.asset == \"ETH\"\n&& false"), []string{".when", "ASCII"}},
		"when: Cyrillic":       {when(`intent.wallet == "hоt"`), []string{".when", "ASCII"}},
		"when: escaped":        {when(`intent.wallet == "h\u043et"`), []string{".when", "ASCII"}},
		"when: escaped text":   {when(`intent.reference == "h\u043et"`), []string{".when", "ASCII"}},
		"when: asset spelt":    {when(`intent.asset == "EHT"`), []string{".when", `"EHT"`, "known: ETH"}},
		"when: asset spelt in": {when(`intent.asset in ["ETH", "UDSC"]`), []string{".when", `"UDSC"`}},
		"when: chain spelt":    {when(`intent.chain != "mainnet"`), []string{".when", "known: amoy, sepolia"}},
		"when: kind spelt":     {when(`intent.kind == "transfr"`), []string{".when", "create_wallet"}},
		"when: group spelt":    {when(`"tresury" in intent.initiator_groups`), []string{".when", "known: security, treasury"}},
		"when: initiator":      {when(`intent.initiator == "mallory"`), []string{".when", "alice"}},
		"when: organisation":   {when(`intent.initiator_org == "evil"`), []string{".when", "acme"}},
		"when: lower-case to":  {when(`intent.to == "` + strings.ToLower(supplier) + `"`), []string{".when", "destination list"}},
		"when: part of to":     {when(`intent.to.startsWith("0x5aAeb605")`), []string{".when", "mislead"}},
		"when: part of asset":  {when(`intent.asset.contains("ET")`), []string{".when", "mislead"}},
		"when: var with var":   {when(`intent.asset == intent.chain`), []string{".when", "no literal"}},
		"when: hidden list":    {when(`intent.asset in []`), []string{".when", "empty"}},
		"when: var in list":    {when(`intent.asset in [intent.chain]`), []string{".when", "no text"}},
		"when: list equality":  {when(`intent.initiator_groups == ["treasury"]`), []string{".when", "== compares"}},
		"when: string order":   {when(`intent.reference < "b"`), []string{".when", "< and >"}},
		"when: ternary":        {when(`intent.initiator_is_service ? true : false`), []string{".when"}},
		"when: macro":          {when(`intent.initiator_groups.exists(g, g == "treasury")`), []string{".when", "does not compile"}},
		"when: regexp":         {when(`intent.reference.matches("(a+)+$")`), []string{".when", "does not compile"}},
		"when: arithmetic":     {when(`size(intent.reference) * 9223372036854775807 > 1`), []string{".when", "does not compile"}},
		"when: map":            {when(`"a" in {"a": 1}`), []string{".when"}},
		"when: bytes":          {when(`b"a" == b"a"`), []string{".when"}},
		"when: double":         {when(`1.0 < 2.0`), []string{".when"}},
		"when: dyn":            {when(`dyn(intent.amount) == dyn(1)`), []string{".when", "does not compile"}},
		"when: too long":       {when(`intent.wallet == "` + strings.Repeat("a", policy.MaxWhen) + `"`), []string{".when", "at most 2048"}},
		"when: nesting bomb":   {when(strings.Repeat("(", 500) + `intent.initiator_is_service` + strings.Repeat(")", 500)), []string{".when"}},
		"when: not bomb":       {when(strings.Repeat("!", 1500) + `intent.initiator_is_service`), []string{".when"}},
		"when: cost bomb": {when(strings.TrimSuffix(strings.Repeat(`intent.reference.contains(intent.reference)||`, 45), "||")),
			[]string{".when", "units of work"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Compile(c.rules, vocabulary())
			if err == nil {
				t.Fatal("accepted")
			}
			if !errors.Is(err, policy.ErrRules) {
				t.Errorf("%v does not wrap ErrRules", err)
			}
			for _, m := range c.mention {
				if !strings.Contains(err.Error(), m) {
					t.Errorf("error does not mention %q:\n%v", m, err)
				}
			}
		})
	}
}

func TestCompileListsEveryFault(t *testing.T) {
	_, err := policy.Compile([]policy.Rule{
		{Name: "one", When: "nonsense(", Approvals: twoOfTreasury},
		{Name: "two", FeeCap: "x", Approvals: []policy.Requirement{{Group: "board", K: 1}}},
	}, vocabulary())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, m := range []string{`rules[0] "one".when`, `rules[1] "two".fee_cap`, `rules[1] "two".approvals[0].group`} {
		if !strings.Contains(err.Error(), m) {
			t.Errorf("error does not mention %s:\n%v", m, err)
		}
	}
}

func TestCompileRefusesVocabulary(t *testing.T) {
	for name, c := range map[string]struct {
		assets  []policy.Asset
		mention string
	}{
		"two units":   {[]policy.Asset{{Symbol: "USDC", Chain: "a", Decimals: 6}, {Symbol: "USDC", Chain: "b", Decimals: 18}}, "another symbol"},
		"two cases":   {[]policy.Asset{{Symbol: "USDC", Chain: "a", Decimals: 6}, {Symbol: "usdc", Chain: "b", Decimals: 6}}, "capital letters"},
		"twice":       {[]policy.Asset{{Symbol: "USDC", Chain: "a", Decimals: 6}, {Symbol: "USDC", Chain: "a", Decimals: 6}}, "twice"},
		"two natives": {[]policy.Asset{{Symbol: "ETH", Chain: "a", Native: true}, {Symbol: "POL", Chain: "a", Native: true}}, "two native"},
		"look-alike":  {[]policy.Asset{{Symbol: "ЕTH", Chain: "a"}}, "a-z"},
		"decimals":    {[]policy.Asset{{Symbol: "ETH", Chain: "a", Decimals: 255}}, "0 to 36"},
		"negative":    {[]policy.Asset{{Symbol: "ETH", Chain: "a", Decimals: -1}}, "0 to 36"},
	} {
		v := vocabulary()
		v.Assets = c.assets
		_, err := policy.Compile([]policy.Rule{{Name: "all", Approvals: twoOfTreasury}}, v)
		if err == nil || !strings.Contains(err.Error(), c.mention) {
			t.Errorf("%s: %v, want mention of %q", name, err, c.mention)
		}
	}
}

func TestCompileAccepts(t *testing.T) {
	for _, expr := range []string{
		`intent.asset == "ETH" && intent.amount > amount("50 ETH")`,
		`intent.asset == "ETH" && !(intent.amount == amount("50 ETH"))`,
		`intent.chain == "sepolia" && intent.fee_cap >= amount("0.01 ETH")`,
		`intent.kind in ["transfer", "cancel"] && intent.wallet != "cold"`,
		`"treasury" in intent.initiator_groups || intent.initiator_is_service`,
		`intent.initiator_org == "acme" && intent.initiator == "erp"`,
		`intent.reference.startsWith("INV-") && size(intent.reference) < 20`,
		`intent.to == "` + supplier + `"`,
		`!intent.initiator_is_service`,
		`intent.initiator_is_service == false`,
		`intent.wallet == "hot" && intent.asset == "USDC" && amount("5 USDC") < intent.amount`,
	} {
		if _, err := policy.Compile([]policy.Rule{{Name: "r", When: expr, Approvals: twoOfTreasury}}, vocabulary()); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// The rules of a charter are read by people: the JSON must stay this plain.
func TestRuleJSON(t *testing.T) {
	const text = `{"name":"small","when":"intent.asset == \"ETH\"","max_amount":["2 ETH"],"fee_cap":"0.01 ETH",` +
		`"destinations":["suppliers"],"approvals":[{"group":"treasury","k":2,"orgs":2},{"group":"security","k":1}],"keys":["ssh"]}`
	var r policy.Rule
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(r)
	if err != nil || string(back) != text {
		t.Errorf("reads back as\n%s\nwant\n%s (%v)", back, text, err)
	}
	if _, err := policy.Compile([]policy.Rule{r}, vocabulary()); err != nil {
		t.Error(err)
	}
}
