package policy

import (
	"fmt"
	"math/big"
	"slices"

	"cel.dev/cel-go/common/types"
)

// Outcome is what a Decision comes to. The zero value is none and means nothing.
type Outcome uint8

const (
	// Deny: some rule refuses, or none permits. No approval changes that.
	Deny Outcome = 1 + iota
	// Wait: allowed once the missing approvals are there.
	Wait
	// Allow: every rule that matches is satisfied.
	Allow
)

func (o Outcome) String() string {
	switch o {
	case Deny:
		return "deny"
	case Wait:
		return "wait"
	case Allow:
		return "allow"
	}
	return "undecided"
}

// The codes of reasons.
const (
	CodeNoRule      = "POLICY_NO_RULE"     // no rule matches
	CodeDenied      = "POLICY_DENIED"      // a deny rule matches
	CodeAmount      = "POLICY_AMOUNT"      // the amount is above a limit, or its asset has none
	CodeFee         = "POLICY_FEE"         // the fee cap is above a limit
	CodeDestination = "POLICY_DESTINATION" // the destination is on none of a rule's lists
	CodeSanctioned  = "POLICY_SANCTIONED"  // the destination is on a sanctions list
	CodeListStale   = "POLICY_LIST_STALE"  // a list that decides is too old or was never issued
	CodeApprovals   = "POLICY_APPROVALS"   // approvals are missing
	CodeEval        = "POLICY_EVAL"        // the facts are incomplete or an expression failed
)

// Reason says why, to machines by Code and to people by Text.
type Reason struct {
	Code string `json:"code"`
	Rule string `json:"rule,omitempty"`
	Text string `json:"text"`
}

// Missing is a requirement that is not met yet.
type Missing struct {
	Rule string `json:"rule"`
	Requirement
	Have     int `json:"have"`
	HaveOrgs int `json:"have_orgs"`
}

// Decision is the answer, with every reason and not just the first.
type Decision struct {
	Outcome Outcome   `json:"outcome"`
	Matched []string  `json:"matched,omitempty"`
	Reasons []Reason  `json:"reasons,omitempty"`
	Missing []Missing `json:"missing,omitempty"`
	// Groups are those of which the rules that match ask approvals, sorted: their
	// members have a voice in this.
	Groups []string `json:"groups,omitempty"`
}

// MarshalText makes outcomes words in JSON.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads them back and refuses any other word.
func (o *Outcome) UnmarshalText(text []byte) error {
	for _, known := range []Outcome{Deny, Wait, Allow} {
		if string(text) == known.String() {
			*o = known
			return nil
		}
	}
	return fmt.Errorf("outcome %+q is none of deny, wait, allow", clip(string(text)))
}

// Decide applies all rules. It trusts that votes were verified by package approval,
// and still counts nobody twice and never the initiator.
func (s *Set) Decide(f Facts, votes []Vote) Decision {
	var d Decision
	deny := func(code, rule, format string, args ...any) {
		d.Outcome = Deny
		d.Reasons = append(d.Reasons, Reason{Code: code, Rule: rule, Text: fmt.Sprintf(format, args...)})
	}
	if s == nil || len(s.rules) == 0 {
		deny(CodeNoRule, "", "there are no rules")
		return d
	}
	if err := s.v.complete(f); err != nil {
		deny(CodeEval, "", "the intent cannot be judged: %v", err)
		return d
	}
	if len(votes) > maxVotes {
		deny(CodeEval, "", "there are %d votes, at most %d are counted", len(votes), maxVotes)
		return d
	}
	voices := slices.DeleteFunc(slices.Clone(votes), func(v Vote) bool { return v.Person == f.Initiator })
	if f.Kind == KindTransfer {
		s.sanctions(f, deny)
	}
	for _, r := range s.rules {
		match, err := s.v.matches(r, f)
		if err != nil {
			deny(CodeEval, r.Name, "rule %q could not be evaluated: %v", r.Name, err)
			continue
		}
		if !match {
			continue
		}
		d.Matched = append(d.Matched, r.Name)
		if r.Deny != "" {
			deny(CodeDenied, r.Name, "rule %q denies this: %s", r.Name, r.Deny)
			continue
		}
		if f.Kind == KindTransfer {
			s.limitAmount(r, f, deny)
			s.limitDestination(r, f, deny)
		}
		if f.FeeCap != nil && f.Kind != KindCreateWallet {
			s.limitFee(r, f, deny)
		}
		for _, q := range r.Approvals {
			d.Groups = append(d.Groups, q.Group)
			have, orgs := Count(q, r.Keys, voices)
			if !q.Met(have, orgs) {
				d.Missing = append(d.Missing, Missing{Rule: r.Name, Requirement: q, Have: have, HaveOrgs: orgs})
			}
		}
	}
	slices.Sort(d.Groups)
	d.Groups = slices.Compact(d.Groups)
	if len(d.Matched) == 0 && d.Outcome != Deny {
		deny(CodeNoRule, "", "no rule matches this intent, and what no rule permits is denied")
	}
	for _, m := range d.Missing {
		text := fmt.Sprintf("rule %q waits for %s; %d so far", m.Rule, m.Requirement, m.Have)
		if m.Orgs > 1 {
			text += fmt.Sprintf(" from %d", m.HaveOrgs)
		}
		d.Reasons = append(d.Reasons, Reason{Code: CodeApprovals, Rule: m.Rule, Text: text})
	}
	switch {
	case d.Outcome == Deny:
	case len(d.Missing) > 0:
		d.Outcome = Wait
	default:
		d.Outcome = Allow
	}
	return d
}

type denier func(code, rule, format string, args ...any)

func (s *Set) limitAmount(r compiled, f Facts, deny denier) {
	if len(r.limits) == 0 {
		return
	}
	limit, ok := r.limits[f.Asset]
	switch {
	case !ok:
		deny(CodeAmount, r.Name, "rule %q has limits, and none for %s", r.Name, f.Asset)
	case f.Amount.Cmp(limit.Amount) > 0:
		deny(CodeAmount, r.Name, "%s is more than the %s that rule %q allows per payment",
			Quantity{limit.Symbol, limit.Decimals, f.Amount}, limit, r.Name)
	}
}

func (s *Set) limitDestination(r compiled, f Facts, deny denier) {
	if len(r.Destinations) == 0 {
		return
	}
	var stale []Reason
	for _, name := range r.Destinations {
		list, why := s.list(name, f)
		if why != "" {
			stale = append(stale, Reason{Text: fmt.Sprintf("rule %q pays to list %q only, and %s", r.Name, name, why)})
			continue
		}
		for _, d := range list.Entries {
			if d.Chain == f.Chain && d.Address == f.To {
				return
			}
		}
	}
	// The address may be on the list's next version: that is another answer than no.
	for _, why := range stale {
		deny(CodeListStale, r.Name, "%s", why.Text)
	}
	if len(stale) > 0 {
		return
	}
	deny(CodeDestination, r.Name, "%s on %s is not in a destination list of rule %q (%s)", clip(f.To), f.Chain, r.Name, known(r.Destinations))
}

// list is what a list of the vocabulary holds now, or why it does not count. The
// entries of one that is not kept are those that the rules were compiled with.
func (s *Set) list(name string, f Facts) (list List, stale string) {
	list = s.v.Lists[name]
	if !list.Kept {
		return list, ""
	}
	now, ok := f.Lists[name]
	if !ok {
		return list, "it is not at hand"
	}
	return now, now.Stale
}

// sanctions denies a payment to whom one may not pay, and every payment while nobody
// knows who that is. An address counts on every chain: it has one owner.
func (s *Set) sanctions(f Facts, deny denier) {
	for _, name := range keys(s.v.Lists) {
		if s.v.Lists[name].Kind != ListSanctions {
			continue
		}
		list, stale := s.list(name, f)
		if stale != "" {
			deny(CodeListStale, "", "sanctions list %q does not count, and without it nothing is paid: %s", name, stale)
			continue
		}
		for _, d := range list.Entries {
			if d.Address == f.To {
				deny(CodeSanctioned, "", "%s is on sanctions list %q, version %d (%s)", f.To, name, list.Version, d.Label)
				break
			}
		}
	}
}

func (s *Set) limitFee(r compiled, f Facts, deny denier) {
	if r.fee == nil {
		return
	}
	native, _ := s.v.native(f.Chain)
	switch {
	case native.Symbol != r.fee.Symbol:
		deny(CodeFee, r.Name, "rule %q caps fees in %s, and %s takes them in %s", r.Name, r.fee.Symbol, f.Chain, native.Symbol)
	case f.FeeCap.Cmp(r.fee.Amount) > 0:
		deny(CodeFee, r.Name, "the intent's fee cap of %s is more than the %s that rule %q allows",
			Quantity{native.Symbol, native.Decimals, f.FeeCap}, r.fee, r.Name)
	}
}

// Stricter is what two decisions about one intent come to when both must hold, as
// under the charter that the intent names and the one in force: each denial denies, and
// what either waits for is waited for.
func Stricter(a, b Decision) Decision {
	d := Decision{
		Outcome: min(a.Outcome, b.Outcome),
		Matched: merge(a.Matched, b.Matched), Reasons: merge(a.Reasons, b.Reasons), Missing: merge(a.Missing, b.Missing),
		Groups: merge(a.Groups, b.Groups),
	}
	slices.Sort(d.Groups)
	if d.Outcome < Deny || max(a.Outcome, b.Outcome) > Allow {
		d.Outcome = Deny
		d.Reasons = append(d.Reasons, Reason{Code: CodeEval, Text: "one of the charters gave no decision"})
	}
	return d
}

// merge appends what is not there yet.
func merge[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (v Vocabulary) native(chain string) (Asset, bool) {
	for _, a := range v.Assets {
		if a.Native && a.Chain == chain {
			return a, true
		}
	}
	return Asset{}, false
}

// complete refuses facts that do not say all that a kind of intent has, or say more.
// Limits look at fields by kind; a field that is set where its kind has none would
// pass them by.
func (v Vocabulary) complete(f Facts) error {
	for _, t := range []struct{ name, value string }{
		{"kind", f.Kind}, {"wallet", f.Wallet}, {"chain", f.Chain}, {"asset", f.Asset}, {"to", f.To},
		{"initiator", f.Initiator}, {"initiator_org", f.InitiatorOrg}, {"reference", f.Reference},
	} {
		if len(t.value) > MaxText {
			return fmt.Errorf("%s has %d bytes, at most %d", t.name, len(t.value), MaxText)
		}
	}
	if len(f.InitiatorGroups) > maxGroups {
		return fmt.Errorf("initiator_groups has %d entries, at most %d", len(f.InitiatorGroups), maxGroups)
	}
	for _, g := range f.InitiatorGroups {
		if len(g) > MaxText {
			return fmt.Errorf("initiator_groups holds %d bytes in one name, at most %d", len(g), MaxText)
		}
	}
	if f.Initiator == "" {
		return fmt.Errorf("initiator is empty")
	}
	if f.Wallet == "" {
		return fmt.Errorf("wallet is empty")
	}
	sound := func(name string, n *big.Int) error {
		switch {
		case n == nil:
			return fmt.Errorf("%s is not given", name)
		case n.Sign() < 0:
			return fmt.Errorf("%s is negative", name)
		case n.BitLen() > MaxAmountBits:
			return fmt.Errorf("%s has more than %d bits", name, MaxAmountBits)
		}
		return nil
	}
	unset := func(n *big.Int) bool { return n == nil || n.Sign() == 0 }
	switch f.Kind {
	case KindTransfer, KindCancel:
		if _, ok := v.native(f.Chain); !ok {
			return fmt.Errorf("chain %+q has no native asset in the charter", clip(f.Chain))
		}
		if err := sound("fee_cap", f.FeeCap); err != nil {
			return err
		}
		if f.Kind == KindCancel {
			if !unset(f.Amount) || f.Asset != "" || f.To != "" {
				return fmt.Errorf("a cancel moves nothing, and this one names an amount, asset or destination")
			}
			return nil
		}
		if err := sound("amount", f.Amount); err != nil {
			return err
		}
		if f.Amount.Sign() == 0 {
			return fmt.Errorf("amount is zero")
		}
		if _, ok := v.asset(f.Chain, f.Asset); !ok {
			return fmt.Errorf("asset %+q on %+q is not in the charter", clip(f.Asset), clip(f.Chain))
		}
		if f.To == "" {
			return fmt.Errorf("to is empty")
		}
		return nil
	case KindCreateWallet:
		if !unset(f.Amount) || !unset(f.FeeCap) || f.Asset != "" || f.To != "" || f.Chain != "" {
			return fmt.Errorf("create_wallet moves nothing, and this one names an amount, fee, chain, asset or destination")
		}
		return nil
	}
	return fmt.Errorf("kind %+q is none that rules know (%s)", clip(f.Kind), known(kinds))
}

func (v Vocabulary) asset(chain, symbol string) (Asset, bool) {
	for _, a := range v.Assets {
		if a.Chain == chain && a.Symbol == symbol {
			return a, true
		}
	}
	return Asset{}, false
}

// matches evaluates a rule's expression; an error, a value that is not a boolean or a
// cost over the limit is an error, and the caller denies.
func (v Vocabulary) matches(r compiled, f Facts) (bool, error) {
	if r.when == nil {
		return true, nil
	}
	zero := new(big.Int)
	amount, fee := money{amount: zero}, money{amount: zero}
	if f.Kind == KindTransfer && f.Amount != nil {
		amount = money{symbol: f.Asset, amount: f.Amount}
	}
	if native, ok := v.native(f.Chain); ok && f.FeeCap != nil {
		fee = money{symbol: native.Symbol, amount: f.FeeCap}
	}
	groups := f.InitiatorGroups
	if groups == nil {
		groups = []string{}
	}
	out, _, err := r.when.Eval(map[string]any{
		"intent.kind": f.Kind, "intent.wallet": f.Wallet, "intent.chain": f.Chain, "intent.asset": f.Asset,
		"intent.to": f.To, "intent.initiator": f.Initiator, "intent.initiator_org": f.InitiatorOrg,
		"intent.reference": f.Reference, varService: f.InitiatorService,
		varAmount: amount, varFeeCap: fee, varGroups: groups,
	})
	if err != nil {
		return false, fmt.Errorf("%s", flatten(err))
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the expression yields no boolean")
	}
	return bool(b), nil
}
