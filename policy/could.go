package policy

import (
	"math/big"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// CouldMatch reports whether an intent of a kind could match a rule: it is no only if
// the expression is false for all of them, whatever the rest of them says. Every doubt
// is a yes, and so is a rule that is not in the set.
func (s *Set) CouldMatch(rule, kind string) bool {
	for _, r := range s.rules {
		if r.Name != rule || r.ast == nil {
			continue
		}
		p, err := s.env.Program(r.ast, cel.CostLimit(MaxCost), cel.EvalOptions(cel.OptPartialEval))
		if err != nil {
			return true
		}
		vars, unknown := fixed(kind)
		partial, err := cel.PartialVars(vars, unknown...)
		if err != nil {
			return true
		}
		out, _, err := p.Eval(partial)
		return err != nil || out != types.False
	}
	return true
}

// fixed is what all intents of a kind have in common, as matches gives it to a rule.
func fixed(kind string) (vars map[string]any, unknown []*cel.AttributePatternType) {
	nothing := money{amount: new(big.Int)}
	vars = map[string]any{"intent.kind": kind}
	if kind == KindCancel || kind == KindCreateWallet {
		vars["intent.asset"], vars["intent.to"], vars[varAmount] = "", "", nothing
	}
	if kind == KindCreateWallet {
		vars["intent.chain"], vars[varFeeCap] = "", nothing
	}
	for _, name := range slices.Concat(enumerated, free, []string{varAmount, varFeeCap, varGroups, varService}) {
		if _, ok := vars[name]; !ok {
			unknown = append(unknown, cel.AttributePattern(name))
		}
	}
	return vars, unknown
}
