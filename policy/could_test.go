package policy_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"coffer/policy"
)

func TestCouldMatch(t *testing.T) {
	rule := func(when string) *policy.Set {
		return compile(t, policy.Rule{Name: "r", When: when, Approvals: twoOfTreasury})
	}
	for when, cancels := range map[string]bool{
		"":                                                                true,
		`intent.kind == "cancel"`:                                         true,
		`intent.kind != "transfer"`:                                       true,
		`intent.kind == "transfer"`:                                       false,
		`!(intent.kind == "cancel")`:                                      false,
		`intent.wallet == "hot"`:                                          true,
		`intent.initiator_is_service`:                                     true,
		`intent.asset == "ETH"`:                                           false,
		`intent.asset != "ETH"`:                                           true,
		`intent.reference == ""`:                                          true,
		`intent.chain == "sepolia"`:                                       true,
		`intent.initiator == "alice"`:                                     true,
		`intent.to == "` + supplier + `"`:                                 false,
		`"treasury" in intent.initiator_groups`:                           true,
		`intent.kind == "transfer" && intent.wallet == "hot"`:             false,
		`intent.wallet == "hot" && intent.kind == "transfer"`:             false,
		`intent.kind == "transfer" || intent.wallet == "hot"`:             true,
		`intent.kind in ["transfer", "create_wallet"]`:                    false,
		`intent.asset == "ETH" && intent.amount > amount("1 ETH")`:        false,
		`intent.chain == "sepolia" && intent.fee_cap > amount("0.1 ETH")`: true,
		`intent.initiator_is_service && (intent.kind == "create_wallet" || intent.asset == "USDC")`: false,
	} {
		if got := rule(when).CouldMatch("r", policy.KindCancel); got != cancels {
			t.Errorf("%q could match a cancel: %t", when, got)
		}
	}
	if s := rule(`intent.kind == "transfer"`); !s.CouldMatch("other", policy.KindCancel) || s.CouldMatch("r", policy.KindCreateWallet) || !s.CouldMatch("r", policy.KindTransfer) {
		t.Error("a rule that is not there, a wallet or a transfer")
	}
	if rule(`intent.chain == "sepolia"`).CouldMatch("r", policy.KindCreateWallet) {
		t.Error("a wallet has a chain")
	}
}

// What could not match does not, whatever the intent says.
func TestCouldMatchCoversAll(t *testing.T) {
	terms := []string{
		`intent.kind == "cancel"`, `intent.kind == "transfer"`, `intent.kind != "cancel"`, `intent.wallet == "hot"`, `intent.asset == "ETH"`, `intent.asset != "ETH"`,
		`intent.initiator_is_service`, `"treasury" in intent.initiator_groups`, `intent.chain == "amoy"`, `intent.initiator == "alice"`, `intent.reference.startsWith("x")`,
		`intent.to == "` + supplier + `"`, `size(intent.reference) > 3`, `intent.initiator_org == "acme"`,
		`(intent.chain == "sepolia" && intent.fee_cap > amount("0.1 ETH"))`, `(intent.asset == "ETH" && intent.amount > amount("1 ETH"))`,
	}
	no := 0
	rapid.Check(t, func(t *rapid.T) {
		when := rapid.SampledFrom(terms).Draw(t, "term")
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			next := rapid.SampledFrom(terms).Draw(t, "term")
			switch rapid.IntRange(0, 2).Draw(t, "join") {
			case 0:
				when = "(" + when + ") && " + next
			case 1:
				when = "(" + when + ") || " + next
			default:
				when = "!(" + when + ") && " + next
			}
		}
		s, err := policy.Compile([]policy.Rule{{Name: "r", When: when, Approvals: twoOfTreasury}}, vocabulary())
		if err != nil {
			t.Skip(err)
		}
		if s.CouldMatch("r", policy.KindCancel) {
			return
		}
		no++
		for range 20 {
			f := policy.Facts{
				Kind: policy.KindCancel, Wallet: rapid.SampledFrom([]string{"hot", "cold"}).Draw(t, "wallet"), Chain: rapid.SampledFrom([]string{"sepolia", "amoy"}).Draw(t, "chain"),
				FeeCap: big.NewInt(rapid.Int64Range(0, 1e18).Draw(t, "fee")), Initiator: rapid.SampledFrom([]string{"alice", "erp"}).Draw(t, "who"), InitiatorService: rapid.Bool().Draw(t, "service"),
				InitiatorOrg: rapid.SampledFrom([]string{"acme", "umbra"}).Draw(t, "org"), Reference: rapid.SampledFrom([]string{"", "x", "abcd"}).Draw(t, "ref"),
			}
			if rapid.Bool().Draw(t, "treasury") {
				f.InitiatorGroups = []string{"treasury"}
			}
			if d := s.Decide(f, nil); len(d.Matched) > 0 {
				t.Fatalf("%q matches %+v", when, f)
			}
		}
	})
	if no < 5 {
		t.Errorf("only %d expressions could not match: the test looks at too little", no)
	}
}
