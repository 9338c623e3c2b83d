package evm_test

import (
	"math/big"
	"testing"

	"coffer/chain/evm"
)

// What outbids is more than an eighth above, in tip and in fee cap, and stays a valid pair.
func TestOutbid(t *testing.T) {
	for _, old := range [][2]int64{{0, 0}, {0, 1}, {1, 1}, {7, 8}, {8, 8}, {1_000_000_000, 3_000_000_000}} {
		fees := evm.Outbid(&evm.Unsigned{TipCap: big.NewInt(old[0]), FeeCap: big.NewInt(old[1]), Gas: 21_000})
		for n, got := range []*big.Int{fees.TipCap, fees.FeeCap} {
			if times8 := new(big.Int).Lsh(got, 3); times8.Cmp(big.NewInt(9*old[n])) <= 0 || times8.Cmp(big.NewInt(9*old[n]+8)) > 0 {
				t.Errorf("%d is outbid by %s", old[n], got)
			}
		}
		if fees.TipCap.Cmp(fees.FeeCap) > 0 || fees.Gas != 21_000 {
			t.Errorf("%v is outbid by tip %s, fee cap %s, gas %d", old, fees.TipCap, fees.FeeCap, fees.Gas)
		}
	}
	if fees := evm.Outbid(&evm.Unsigned{}); fees.TipCap.Sign() <= 0 || fees.FeeCap.Sign() <= 0 {
		t.Errorf("nothing is outbid by %+v", fees)
	}
}
