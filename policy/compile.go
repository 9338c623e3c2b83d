package policy

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// Bounds of one charter's rules. They are far above what people can oversee, and keep
// a Decision within microseconds to milliseconds.
const (
	MaxRules        = 64
	maxLimits       = 32
	maxRuleLists    = 16
	maxRequirements = 8
	maxDeny         = 200
	maxGroups       = 64
	maxVotes        = 1024
)

// Set is a compiled list of rules. It is immutable and safe for concurrent use.
type Set struct {
	v     Vocabulary
	env   *cel.Env
	rules []compiled
}

type compiled struct {
	Rule
	when   cel.Program // nil matches everything
	ast    *cel.Ast
	limits map[string]Quantity
	fee    *Quantity
}

// Compile accepts rules that are well-formed, type-check, are cheap to evaluate and
// can be satisfied. Its error lists every fault with the rule, the field and a remedy.
func Compile(rules []Rule, v Vocabulary) (*Set, error) {
	var faults []error
	fail := func(where, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
	}
	done := func() (*Set, error) {
		return nil, fmt.Errorf("%w: %w", ErrRules, errors.Join(faults...))
	}
	v = v.clone()
	faults = append(faults, v.check()...)
	if len(rules) == 0 {
		fail("rules", "there are none, so everything would be denied; write at least one")
	}
	if len(rules) > MaxRules {
		fail("rules", "there are %d, at most %d allowed; merge some", len(rules), MaxRules)
	}
	if len(faults) > 0 {
		return done()
	}
	l, err := newLanguage(v)
	if err != nil {
		return nil, err
	}
	set := &Set{v: v, env: l.env}
	seen := map[string]bool{}
	for i, r := range rules {
		where := fmt.Sprintf("rules[%d] %+q", i, clip(r.Name))
		if err := CheckName(r.Name); err != nil {
			fail(where+".name", "%w", err)
		} else if seen[r.Name] {
			fail(where+".name", "another rule has this name; choose a different one")
		}
		seen[r.Name] = true
		c, errs := l.rule(r)
		for _, err := range errs {
			faults = append(faults, fmt.Errorf("%s%w", where, err))
		}
		set.rules = append(set.rules, c)
	}
	if len(faults) > 0 {
		return done()
	}
	return set, nil
}

// check refuses a vocabulary in which a word means two things.
func (v Vocabulary) check() []error {
	var faults []error
	unit := map[string]Asset{}
	pair := map[[2]string]bool{}
	native := map[string]bool{}
	for _, a := range v.Assets {
		where := fmt.Sprintf("asset %+q on %+q", clip(a.Symbol), clip(a.Chain))
		if err := checkSymbol(a.Symbol); err != nil {
			faults = append(faults, fmt.Errorf("%s: symbol: %w", where, err))
		}
		if a.Decimals < 0 || a.Decimals > MaxDecimals {
			faults = append(faults, fmt.Errorf("%s: decimals is %d; write 0 to %d", where, a.Decimals, MaxDecimals))
		}
		folded := strings.ToLower(a.Symbol)
		if other, ok := unit[folded]; ok && other.Symbol != a.Symbol {
			faults = append(faults, fmt.Errorf("%s: symbol differs from %q only by capital letters; rename one", where, other.Symbol))
		} else if ok && other.Decimals != a.Decimals {
			// "2 USDC" must be one number whatever the chain.
			faults = append(faults, fmt.Errorf("%s: it has %d decimals and the one on %q has %d; give one of them another symbol, such as %s.%s",
				where, a.Decimals, other.Chain, other.Decimals, a.Symbol, a.Chain))
		}
		unit[folded] = a
		if key := [2]string{a.Chain, a.Symbol}; pair[key] {
			faults = append(faults, fmt.Errorf("%s: it is listed twice; remove one", where))
		} else {
			pair[key] = true
		}
		if a.Native && native[a.Chain] {
			faults = append(faults, fmt.Errorf("%s: the chain has two native assets; keep one", where))
		}
		native[a.Chain] = native[a.Chain] || a.Native
	}
	return faults
}

func checkSymbol(s string) error {
	ok := s != "" && len(s) <= 16
	for i := 0; i < len(s) && ok; i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%+q: use 1 to 16 of a-z, A-Z, 0-9, '.' and '-'", clip(s))
	}
	return nil
}

// rule compiles one rule; its errors begin with the field, as in ".when: …".
func (l *language) rule(r Rule) (compiled, []error) {
	c := compiled{Rule: r, limits: map[string]Quantity{}}
	c.MaxAmount, c.Destinations, c.Approvals, c.Keys = slices.Clone(r.MaxAmount), slices.Clone(r.Destinations), slices.Clone(r.Approvals), slices.Clone(r.Keys)
	var faults []error
	fail := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf(".%s: %w", field, fmt.Errorf(format, args...)))
	}

	if r.When != "" {
		p, ast, err := l.compile(r.When)
		if err == nil {
			c.when, c.ast = p, ast
			err = l.probe(c)
		}
		if err != nil {
			fail("when", "%w", err)
		}
	}

	if r.Deny != "" {
		if err := CheckText(r.Deny, maxDeny); err != nil {
			fail("deny", "%w", err)
		}
		if r.When == "" {
			fail("deny", "without a when this rule denies everything; say in when what it denies")
		}
		if len(r.MaxAmount)+len(r.Destinations)+len(r.Approvals)+len(r.Keys) > 0 || r.FeeCap != "" {
			fail("deny", "a rule denies or demands, not both; move limits and approvals into a rule of their own")
		}
		return c, faults
	}

	if len(r.Approvals) == 0 {
		fail("approvals", "a rule without approvals and without deny is refused: it would let one stolen initiator's key pay, and spending windows, which could bound that, do not exist yet; add an approval such as {\"group\": \"treasury\", \"k\": 2}")
	}
	if len(r.Approvals) > maxRequirements {
		fail("approvals", "there are %d, at most %d allowed", len(r.Approvals), maxRequirements)
	}
	groups := map[string]bool{}
	for i, q := range r.Approvals {
		field := fmt.Sprintf("approvals[%d]", i)
		g, ok := l.v.Groups[q.Group]
		switch {
		case !ok:
			fail(field+".group", "group %+q is unknown; known: %s", clip(q.Group), known(keys(l.v.Groups)))
			continue
		case groups[q.Group]:
			fail(field+".group", "group %q is demanded twice in this rule; keep the larger k", q.Group)
		}
		groups[q.Group] = true
		if q.K < 1 {
			fail(field+".k", "it is %d; demand at least 1", q.K)
		}
		if q.K > g.Members {
			fail(field+".k", "it is %d and group %q has %d people, so it can never be met; lower k or enrol more", q.K, q.Group, g.Members)
		}
		switch {
		case q.Orgs < 0:
			fail(field+".orgs", "it is %d; leave it out to accept any organisation", q.Orgs)
		case q.Orgs > g.Orgs:
			fail(field+".orgs", "it is %d and group %q is of %d organisations, so it can never be met; lower it", q.Orgs, q.Group, g.Orgs)
		case q.Orgs > q.K && q.K >= 1:
			fail(field+".orgs", "it is %d and only %d people are asked; raise k to at least as many", q.Orgs, q.K)
		}
	}

	if len(r.MaxAmount) > maxLimits {
		fail("max_amount", "there are %d, at most %d allowed", len(r.MaxAmount), maxLimits)
	}
	for i, s := range r.MaxAmount {
		field := fmt.Sprintf("max_amount[%d]", i)
		q, err := l.v.ParseQuantity(s)
		switch _, twice := c.limits[q.Symbol]; {
		case err != nil:
			fail(field, "%w", err)
		case q.Amount.Sign() == 0:
			fail(field, "%q denies every payment; write a deny rule if that is meant", s)
		case twice:
			fail(field, "%s has two limits in this rule; keep one", q.Symbol)
		default:
			c.limits[q.Symbol] = q
		}
	}
	if r.FeeCap != "" {
		q, err := l.v.ParseQuantity(r.FeeCap)
		switch {
		case err != nil:
			fail("fee_cap", "%w", err)
		case q.Amount.Sign() == 0:
			fail("fee_cap", "%q denies every transaction; write what a fee may cost", r.FeeCap)
		case !slices.ContainsFunc(l.v.Assets, func(a Asset) bool { return a.Native && a.Symbol == q.Symbol }):
			fail("fee_cap", "no chain takes fees in %s; write it in a chain's native asset", q.Symbol)
		default:
			c.fee = &q
		}
	}

	if len(r.Destinations) > maxRuleLists {
		fail("destinations", "there are %d, at most %d allowed", len(r.Destinations), maxRuleLists)
	}
	for i, name := range r.Destinations {
		field := fmt.Sprintf("destinations[%d]", i)
		list, ok := l.v.Lists[name]
		switch {
		case !ok:
			fail(field, "destination list %+q is unknown; known: %s", clip(name), known(keys(l.v.Lists)))
		case list.Kind != ListDestinations:
			fail(field, "list %q is of kind %q, to which nothing is paid; name a list of destinations", name, list.Kind)
		case len(list.Entries) == 0 && !list.Kept:
			fail(field, "destination list %q is empty, so the rule can never be met; add an address", name)
		case slices.Index(r.Destinations, name) != i:
			fail(field, "destination list %q is named twice; remove one", name)
		}
	}

	if err := CheckKeyKinds(r.Keys); err != nil {
		fail("keys", "%w", err)
	}
	return c, faults
}

// probe evaluates the expression once for each asset and kind of intent. An expression
// that compares amounts without saying of which asset fails on every other asset, and
// since a rule that fails denies, it would block payments that it is not about.
func (l *language) probe(c compiled) error {
	one := big.NewInt(1)
	for _, a := range l.v.Assets {
		f := Facts{Kind: KindTransfer, Chain: a.Chain, Asset: a.Symbol, Amount: one, FeeCap: one}
		if _, err := l.v.matches(c, f); err != nil {
			return fmt.Errorf("it fails for a transfer of %s on %s (%w); put intent.asset == \"…\" && before each comparison of amounts, and intent.chain == \"…\" && before each of fees", a.Symbol, a.Chain, err)
		}
	}
	for _, chain := range l.v.chains() {
		if _, err := l.v.matches(c, Facts{Kind: KindCancel, Chain: chain, FeeCap: one}); err != nil {
			return fmt.Errorf("it fails for a cancel on %s (%w); put intent.kind == \"transfer\" && before it", chain, err)
		}
	}
	if _, err := l.v.matches(c, Facts{Kind: KindCreateWallet}); err != nil {
		return fmt.Errorf("it fails for create_wallet (%w); put intent.kind == \"transfer\" && before it", err)
	}
	return nil
}
