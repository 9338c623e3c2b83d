package evm

import (
	"bytes"
	"fmt"
	"math/big"
	"strconv"

	"coffer/charter"
	"coffer/intent"
)

// Mismatch is one respect in which a transaction does not do what the intent says.
type Mismatch struct{ Field, Want, Got string }

func (m Mismatch) String() string { return fmt.Sprintf("%s is %s, want %s", m.Field, m.Got, m.Want) }

// Compare lists every respect in which u is not the transaction that carries out i
// from account, which the caller derived from the wallet's key. None means that u may
// be signed as far as its content goes: every field of it is fixed by the intent and the
// charter, except for gas, tip cap and fee cap, which are bounded by them.
func Compare(i *intent.Intent, c *charter.Charter, account Address, u *Unsigned) []Mismatch {
	if u == nil {
		return []Mismatch{{"transaction", "one", "none"}}
	}
	e, err := EffectOf(i, c)
	if err != nil {
		return []Mismatch{{"intent", "one that a transaction carries out", err.Error()}}
	}
	var wrong []Mismatch
	check := func(ok bool, field, want, got string) {
		if !ok {
			wrong = append(wrong, Mismatch{field, want, got})
		}
	}
	number := func(field string, got, want uint64) {
		check(got == want, field, strconv.FormatUint(want, 10), strconv.FormatUint(got, 10))
	}

	// The account is in no field of an unsigned transaction: it is whose key signs. An
	// intent for another account must not be carried out from this one.
	check(i.Account == account.String(), "account", i.Account, account.String())
	number("chain_id", u.ChainID, e.ChainID)
	number("nonce", u.Nonce, i.Nonce)
	check(u.To == e.To, "to", e.To.String(), u.To.String())
	value := orZero(u.Value)
	check(value.Cmp(e.Value) == 0, "value", e.Value.String(), value.String())
	// Exactly these bytes: contracts ignore trailing ones, and whoever reads them may not.
	check(bytes.Equal(u.Data, e.Data), "data", calldata(e.Data), calldata(u.Data))

	check(u.Gas >= e.MinGas && u.Gas <= e.MaxGas, "gas", between(e.MinGas, e.MaxGas), strconv.FormatUint(u.Gas, 10))
	tip, feeCap := orZero(u.TipCap), orZero(u.FeeCap)
	check(tip.Sign() >= 0 && tip.Cmp(feeCap) <= 0, "tip_cap", "0 to the fee cap of "+feeCap.String(), tip.String())
	// What the transaction can cost, not what the coordinator expects it to cost.
	fee := maxFee(u.Gas, feeCap)
	check(feeCap.Sign() >= 0 && fee.Cmp(orZero(i.FeeCap)) <= 0, "fee", "at most "+orZero(i.FeeCap).String(), fee.String())
	return wrong
}

func between(low, high uint64) string {
	if low == high {
		return strconv.FormatUint(low, 10)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

// calldata describes bytes at a length that fits a verdict.
func calldata(data []byte) string {
	const shown = 96
	if len(data) == 0 {
		return "empty"
	}
	if len(data) > shown {
		return fmt.Sprintf("%d bytes 0x%x…", len(data), data[:shown])
	}
	// A short transfer can be read; anything else stays hex.
	if len(data) == 68 && bytes.Equal(data[:4], transferSelector[:]) && bytes.Equal(data[4:16], make([]byte, 12)) {
		return fmt.Sprintf("transfer(%s, %s)", Address(data[16:36]), new(big.Int).SetBytes(data[36:]))
	}
	return fmt.Sprintf("%d bytes 0x%x", len(data), data)
}
