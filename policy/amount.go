package policy

import (
	"fmt"
	"math/big"
	"strings"
)

const (
	// MaxAmountBits is the width of an EVM word; no chain here counts higher.
	MaxAmountBits = 256
	// MaxDecimals is more than any asset in use; 10^36 is still far below 2^256.
	MaxDecimals = 36
	// maxAmountText is longer than any accepted number: 78 digits and a point.
	maxAmountText = 80
)

// ParseAmount reads a plain decimal number such as "1.5" as a count of the asset's
// smallest unit. It takes digits with at most one point and nothing else: no sign,
// exponent, separator, space or digit of another script, so that what a person reads
// is what the machine counts.
func ParseAmount(s string, decimals int) (*big.Int, error) {
	bad := func(format string, args ...any) (*big.Int, error) {
		return nil, fmt.Errorf("%w: %s", ErrAmount, fmt.Sprintf(format, args...))
	}
	if decimals < 0 || decimals > MaxDecimals {
		return bad("decimals is %d; an asset has 0 to %d", decimals, MaxDecimals)
	}
	if s == "" {
		return bad("it is empty; write a number such as 1.5")
	}
	if len(s) > maxAmountText {
		return bad("it has %d characters, at most %d are possible", len(s), maxAmountText)
	}
	for _, r := range s {
		if (r < '0' || r > '9') && r != '.' {
			return bad("%q holds %q; write digits and at most one point, such as 1.5", s, r)
		}
	}
	whole, frac, point := strings.Cut(s, ".")
	switch {
	case strings.Contains(frac, "."):
		return bad("%q has two points", s)
	case whole == "":
		return bad("%q has no digit before the point; write 0%s", s, s)
	case point && frac == "":
		return bad("%q has no digit after the point; write %s", s, whole)
	case len(whole) > 1 && whole[0] == '0':
		return bad("%q begins with a needless zero; leave it out", s)
	case len(frac) > decimals:
		return bad("%q has %d decimals; the asset has %d", s, len(frac), decimals)
	}
	digits := whole + frac + strings.Repeat("0", decimals-len(frac))
	v, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return bad("%q is not a number", s)
	}
	if v.BitLen() > MaxAmountBits {
		return bad("%q is more than %d bits hold", s, MaxAmountBits)
	}
	return v, nil
}

// FormatAmount is the inverse of ParseAmount: the shortest decimal number. It also
// prints what ParseAmount refuses (negative numbers, nil as "0"), because it is used
// to show people what somebody else sent.
func FormatAmount(v *big.Int, decimals int) string {
	if v == nil {
		return "0"
	}
	digits := new(big.Int).Abs(v).String()
	if decimals > 0 {
		if len(digits) <= decimals {
			digits = strings.Repeat("0", decimals-len(digits)+1) + digits
		}
		cut := len(digits) - decimals
		digits = strings.TrimRight(digits[:cut]+"."+digits[cut:], "0")
		digits = strings.TrimSuffix(digits, ".")
	}
	if v.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// Quantity is an amount of a named asset, as people write it: "2 ETH".
type Quantity struct {
	Symbol   string
	Decimals int
	Amount   *big.Int
}

func (q Quantity) String() string { return FormatAmount(q.Amount, q.Decimals) + " " + q.Symbol }

// ParseQuantity reads "2 ETH": a number, one space, the symbol of an asset of v.
func (v Vocabulary) ParseQuantity(s string) (Quantity, error) {
	number, symbol, ok := strings.Cut(s, " ")
	if !ok {
		return Quantity{}, fmt.Errorf("%w: %q is not a number, a space and an asset, such as \"2 ETH\"", ErrAmount, clip(s))
	}
	for _, a := range v.Assets {
		if a.Symbol != symbol {
			continue
		}
		n, err := ParseAmount(number, a.Decimals)
		if err != nil {
			return Quantity{}, err
		}
		return Quantity{Symbol: symbol, Decimals: a.Decimals, Amount: n}, nil
	}
	return Quantity{}, fmt.Errorf("%w: %q names the unknown asset %q; known: %s", ErrAmount, clip(s), clip(symbol), known(v.symbols()))
}
