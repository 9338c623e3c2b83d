package evm

import "math/big"

// Outbid is the least that a transaction has to offer so that nodes put it in the place
// of one that waits with the same account and nonce. Geth, Erigon, Besu and Nethermind
// want a tenth more, of tip and of fee cap each; an eighth leaves none of them in doubt.
func Outbid(waiting *Unsigned) Fees {
	more := func(v *big.Int) *big.Int {
		// An eighth, rounded up; of nothing at least one.
		add := new(big.Int).Rsh(v, 3)
		add.Add(add, big.NewInt(1))
		return add.Add(add, v)
	}
	return Fees{TipCap: more(orZero(waiting.TipCap)), FeeCap: more(orZero(waiting.FeeCap)), Gas: waiting.Gas}
}
