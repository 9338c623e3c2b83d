package coordinator

import (
	"context"
	"fmt"
	"math/big"

	"coffer/chain/evm"
	"coffer/intent"
)

// build makes the transaction of a payment: what the intent says, at today's fee.
func (c *Coordinator) build(ctx context.Context, i *intent.Intent) (*evm.Unsigned, error) {
	client, err := c.chain(ctx, i.Chain)
	if err != nil {
		return nil, err
	}
	fees, err := client.Fees(ctx)
	if err != nil {
		return nil, err
	}
	account, err := evm.ParseAddress(i.Account)
	if err != nil {
		return nil, err
	}
	effect, err := evm.EffectOf(i, c.charter)
	if err != nil {
		return nil, err
	}
	estimate, err := client.EstimateGas(ctx, account, effect.To, effect.Value, effect.Data)
	if err != nil {
		return nil, err
	}
	if err := c.outbid(i, &fees); err != nil {
		return nil, err
	}
	gas := effect.Gas(estimate)
	fees.Gas = gas
	// The price per gas never exceeds what the intent's cap allows.
	if most := new(big.Int).Div(i.FeeCap, new(big.Int).SetUint64(gas)); fees.FeeCap.Cmp(most) > 0 {
		fees.FeeCap = most
	}
	if fees.TipCap.Cmp(fees.FeeCap) > 0 {
		fees.TipCap = fees.FeeCap
	}
	return evm.Build(i, c.charter, fees)
}

// outbid raises the price of a cancel above what its subject offered: nodes replace a
// waiting transaction only by one that offers at least a tenth more.
func (c *Coordinator) outbid(i *intent.Intent, fees *evm.Fees) error {
	if i.Kind != intent.Cancel {
		return nil
	}
	it, err := c.items.get(i.Cancel.Subject)
	if err != nil || len(it.Unsigned) == 0 {
		return err
	}
	old, err := evm.Decode(it.Unsigned)
	if err != nil {
		return fmt.Errorf("the stored transaction of intent %s: %w", it.ID.Short(), err)
	}
	more := func(now, before *big.Int) *big.Int {
		least := new(big.Int).Div(new(big.Int).Mul(before, big.NewInt(9)), big.NewInt(8))
		least.Add(least, big.NewInt(1))
		if now.Cmp(least) > 0 {
			return now
		}
		return least
	}
	fees.TipCap, fees.FeeCap = more(fees.TipCap, old.TipCap), more(fees.FeeCap, old.FeeCap)
	return nil
}
