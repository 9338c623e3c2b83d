package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

const (
	// MaxWhen is the longest expression in bytes.
	MaxWhen = 2048
	// MaxCost bounds an expression in cel-go's units of work, both as estimated when
	// it is compiled and as counted while it runs.
	MaxCost = 10_000
	// MaxText is the longest text of an intent that rules look at.
	MaxText = 256

	maxNesting = 40
)

// The variables of an expression. The enumerated ones take values from the charter, so
// a literal compared with one is checked; the free ones are names and references.
var (
	enumerated = []string{"intent.kind", "intent.chain", "intent.asset", "intent.to", "intent.initiator", "intent.initiator_org"}
	free       = []string{"intent.wallet", "intent.reference"}
)

const (
	varAmount  = "intent.amount"
	varFeeCap  = "intent.fee_cap"
	varGroups  = "intent.initiator_groups"
	varService = "intent.initiator_is_service"
)

// language is the CEL environment of one vocabulary: a handful of operators, no macros
// (so no loops), no arithmetic, no regular expressions, no conversions.
type language struct {
	env *cel.Env
	v   Vocabulary
}

var comparisons = []string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}

func newLanguage(v Vocabulary) (*language, error) {
	l := &language{v: v}
	include := []*env.Function{}
	for _, name := range append([]string{
		operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
		operators.Equals, operators.NotEquals, operators.In,
		"size", "startsWith", "endsWith", "contains",
	}, comparisons...) {
		include = append(include, &env.Function{Name: name})
	}
	opts := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{DisableMacros: true, IncludeFunctions: include})),
		cel.ClearMacros(),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxWhen),
		cel.Variable(varAmount, moneyType),
		cel.Variable(varFeeCap, moneyType),
		cel.Variable(varGroups, cel.ListType(cel.StringType)),
		cel.Variable(varService, cel.BoolType),
		cel.Function("amount", cel.Overload("amount_string", []*cel.Type{cel.StringType}, moneyType,
			cel.UnaryBinding(l.amount))),
	}
	for _, name := range append(slices.Clone(enumerated), free...) {
		opts = append(opts, cel.Variable(name, cel.StringType))
	}
	for i, op := range comparisons {
		// No binding of its own: the operator's works on every traits.Comparer.
		opts = append(opts, cel.Function(op, cel.Overload(
			[]string{"less_amount", "less_equals_amount", "greater_amount", "greater_equals_amount"}[i],
			[]*cel.Type{moneyType, moneyType}, cel.BoolType)))
	}
	e, err := cel.NewCustomEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("build the expression language: %w", err)
	}
	l.env = e
	return l, nil
}

func (l *language) amount(arg ref.Val) ref.Val {
	s, ok := arg.(types.String)
	if !ok {
		return types.NewErr("amount takes text")
	}
	q, err := l.v.ParseQuantity(string(s))
	if err != nil {
		return types.NewErr("%v", err)
	}
	return money{symbol: q.Symbol, amount: q.Amount}
}

// compile type-checks, checks the shape, and bounds the cost of one expression.
func (l *language) compile(when string) (cel.Program, *cel.Ast, error) {
	checked, err := l.check(when)
	if err != nil {
		return nil, nil, err
	}
	p, err := l.env.Program(checked, cel.CostLimit(MaxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, nil, fmt.Errorf("it cannot be planned: %s", flatten(err))
	}
	return p, checked, nil
}

func (l *language) check(when string) (*cel.Ast, error) {
	if err := CheckText(when, MaxWhen); err != nil {
		return nil, err
	}
	// A comment would let an expression read stricter than it is.
	if strings.Contains(when, "//") {
		return nil, fmt.Errorf("it holds a comment (//); remove it")
	}
	// The parser drops pairs of "!"; an even number of them reads like a denial.
	if strings.Contains(when, "!!") {
		return nil, fmt.Errorf("it holds a doubled !; write one or none")
	}
	checked, issues := l.env.Compile(when)
	if issues.Err() != nil {
		return nil, fmt.Errorf("it does not compile (known are %s; && || ! == != < <= > >= in, size, startsWith, endsWith, contains, amount): %s",
			strings.Join(slices.Concat(enumerated, free, []string{varAmount, varFeeCap, varGroups, varService}), ", "), first(issues))
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("it yields %s; it must yield true or false", checked.OutputType())
	}
	shape := &shape{v: l.v, ast: checked.NativeRep()}
	if err := shape.walk(checked.NativeRep().Expr(), 0); err != nil {
		return nil, err
	}
	if !shape.looks {
		return nil, fmt.Errorf("it does not look at the intent; leave it out to match every intent")
	}
	cost, err := l.env.EstimateCost(checked, estimator{})
	if err != nil {
		return nil, fmt.Errorf("its cost cannot be bounded: %s", flatten(err))
	}
	if cost.Max > MaxCost {
		return nil, fmt.Errorf("it may cost %d units of work, at most %d allowed; simplify it or split the rule", cost.Max, MaxCost)
	}
	return checked, nil
}

// first is the first fault only: a page of noise yields a hundred pages of errors.
func first(issues *cel.Issues) string {
	list := issues.Errors()
	if len(list) == 0 {
		return "syntax"
	}
	at := ""
	if l := list[0].Location; l != nil && l.Column() >= 0 {
		at = fmt.Sprintf("column %d: ", l.Column()+1)
	}
	return at + clip(strings.Join(strings.Fields(list[0].Message), " "))
}

func flatten(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// estimator bounds the sizes of what an intent brings; Decide holds intents to them.
type estimator struct{}

func (estimator) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	max := uint64(MaxText)
	if path := node.Path(); len(path) == 1 && path[0] == varGroups {
		max = maxGroups
	}
	return &checker.SizeEstimate{Min: 0, Max: max}
}

func (estimator) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// shape accepts the few forms of expression whose meaning is plain, and checks every
// literal that is compared with a word of the charter. What it refuses would mostly be
// harmless; but a deny rule that silently never matches is not.
type shape struct {
	v     Vocabulary
	ast   *ast.AST
	looks bool
}

func (s *shape) walk(e ast.Expr, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("it nests deeper than %d; simplify it", maxNesting)
	}
	switch e.Kind() {
	case ast.LiteralKind:
		switch lit := e.AsLiteral().(type) {
		case types.Bool, types.Int:
			return nil
		case types.String:
			if lit == "" {
				return nil
			}
			return CheckText(string(lit), MaxText)
		default:
			return fmt.Errorf("it holds a literal of type %s; use text, whole numbers, true and false", e.AsLiteral().Type().TypeName())
		}
	case ast.IdentKind:
		s.looks = true
		return nil
	case ast.CallKind:
		return s.call(e.AsCall(), depth)
	case ast.ListKind:
		return fmt.Errorf("a list stands where none is understood; use it as in: intent.asset in [\"ETH\", \"USDC\"]")
	default:
		return fmt.Errorf("it holds a form that rules do not have; use comparisons joined by && and ||")
	}
}

func (s *shape) call(c ast.CallExpr, depth int) error {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	name := c.FunctionName()
	switch {
	case name == "amount":
		lit, ok := literal(args[0])
		if !ok {
			return fmt.Errorf("amount(…) takes a literal such as amount(\"50 ETH\")")
		}
		if _, err := s.v.ParseQuantity(lit); err != nil {
			return err
		}
		return nil
	case name == operators.In:
		return s.in(args[0], args[1])
	case name == operators.NotEquals && (s.isMoney(args[0]) || s.isMoney(args[1])):
		// cel-go turns the error of comparing two assets into "not equal".
		return fmt.Errorf("amounts have no !=; write !(a == b)")
	case name == operators.Equals || name == operators.NotEquals:
		for i, a := range args {
			other := args[1-i]
			if t := s.ast.GetType(a.ID()); !t.IsExactType(cel.StringType) && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.IntType) && !s.isMoney(a) {
				return fmt.Errorf("== compares text, numbers, amounts and true or false; not %s", t)
			}
			if a.Kind() == ast.IdentKind && slices.Contains(enumerated, a.AsIdent()) {
				lit, ok := literal(other)
				if !ok {
					return fmt.Errorf("%s is compared with something that is no literal; write it out", a.AsIdent())
				}
				if err := s.word(a.AsIdent(), lit); err != nil {
					return err
				}
			}
		}
	case slices.Contains(comparisons, name):
		for _, a := range args {
			if t := s.ast.GetType(a.ID()); !s.isMoney(a) && !t.IsExactType(cel.IntType) {
				return fmt.Errorf("< and > compare amounts and sizes; not %s", t)
			}
		}
	case name == "size" || name == "startsWith" || name == "endsWith" || name == "contains":
		for _, a := range args {
			if a.Kind() == ast.IdentKind && slices.Contains(enumerated, a.AsIdent()) {
				return fmt.Errorf("%s of %s: compare the whole value, parts of it mislead", name, a.AsIdent())
			}
		}
	case name == operators.LogicalAnd || name == operators.LogicalOr || name == operators.LogicalNot:
	default:
		return fmt.Errorf("function %q is not available to rules", name)
	}
	for _, a := range args {
		if err := s.walk(a, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// in understands `variable in ["a", "b"]` and `"group" in intent.initiator_groups`.
func (s *shape) in(left, right ast.Expr) error {
	if right.Kind() == ast.IdentKind && right.AsIdent() == varGroups {
		s.looks = true
		lit, ok := literal(left)
		if !ok {
			return fmt.Errorf("write the group out, as in: \"treasury\" in %s", varGroups)
		}
		if _, ok := s.v.Groups[lit]; !ok {
			return fmt.Errorf("group %+q is unknown; known: %s", clip(lit), known(keys(s.v.Groups)))
		}
		return nil
	}
	if left.Kind() != ast.IdentKind || right.Kind() != ast.ListKind || !s.ast.GetType(left.ID()).IsExactType(cel.StringType) {
		return fmt.Errorf("in is understood as: intent.asset in [\"ETH\", \"USDC\"] and \"treasury\" in %s", varGroups)
	}
	s.looks = true
	items := right.AsList().Elements()
	if len(items) == 0 {
		return fmt.Errorf("the list after %s in is empty and matches nothing; name something", left.AsIdent())
	}
	for _, item := range items {
		lit, ok := literal(item)
		if !ok {
			return fmt.Errorf("the list after %s in holds something that is no text; write it out", left.AsIdent())
		}
		if err := s.word(left.AsIdent(), lit); err != nil {
			return err
		}
	}
	return nil
}

// word checks a literal that a variable is compared with.
func (s *shape) word(variable, lit string) error {
	var names []string
	var noun string
	switch variable {
	case "intent.kind":
		names, noun = kinds, "kind of intent"
	case "intent.chain":
		names, noun = s.v.chains(), "chain"
	case "intent.asset":
		names, noun = s.v.symbols(), "asset"
	case "intent.to":
		if names = s.v.addresses(); !slices.Contains(names, lit) {
			return fmt.Errorf("address %+q is in no destination list; add it to one, so that its checksum is checked and it has a label", clip(lit))
		}
		return nil
	case "intent.initiator":
		if names, noun = s.v.Initiators, "person or service"; names == nil {
			return CheckName(lit)
		}
	case "intent.initiator_org":
		if names, noun = s.v.Organisations, "organisation"; names == nil {
			return CheckName(lit)
		}
	case "intent.wallet":
		return CheckName(lit)
	default:
		return CheckText(lit, MaxText)
	}
	if !slices.Contains(names, lit) {
		return fmt.Errorf("%s %+q is unknown; known: %s", noun, clip(lit), known(names))
	}
	return nil
}

func (s *shape) isMoney(e ast.Expr) bool { return s.ast.GetType(e.ID()).IsExactType(moneyType) }

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
