package policy

import (
	"fmt"
	"math/big"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

var moneyType = cel.OpaqueType("coffer.Amount").WithTraits(traits.ComparerType)

// money is an amount inside an expression. It is opaque: it compares with money of the
// same asset and does nothing else. An empty symbol means that the intent moves nothing
// or names nothing known; it compares with nothing.
type money struct {
	symbol string
	amount *big.Int
}

var _ traits.Comparer = money{}

func (m money) mismatch(o ref.Val) (money, ref.Val) {
	other, ok := o.(money)
	switch {
	case !ok:
		return money{}, types.NewErr("an amount compares with an amount only")
	case m.symbol == "" || other.symbol == "":
		return money{}, types.NewErr("the intent has no such amount")
	case m.symbol != other.symbol:
		return money{}, types.NewErr("amounts of %s and %s do not compare", m.symbol, other.symbol)
	}
	return other, nil
}

// Compare orders amounts of one asset; anything else is an error, which denies.
func (m money) Compare(o ref.Val) ref.Val {
	other, bad := m.mismatch(o)
	if bad != nil {
		return bad
	}
	return types.Int(m.amount.Cmp(other.amount))
}

// Equal is an error between two assets. cel-go swallows errors of Equal in "!=" and
// "in"; the shape check refuses amounts there.
func (m money) Equal(o ref.Val) ref.Val {
	other, bad := m.mismatch(o)
	if bad != nil {
		return bad
	}
	return types.Bool(m.amount.Cmp(other.amount) == 0)
}

func (m money) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an amount does not convert to %v", t)
}

func (m money) ConvertToType(ref.Type) ref.Val { return types.NewErr("an amount does not convert") }
func (m money) Type() ref.Type                 { return moneyType }
func (m money) Value() any                     { return m.symbol + " " + m.amount.String() }
