package coordinator

import (
	"context"
	"fmt"
	"math/big"

	"coffer/chain/evm"
	"coffer/intent"
)

// build makes the transaction of a payment: what the intent says, at today's fee.
func (c *Coordinator) build(ctx context.Context, it *item, i *intent.Intent) (*evm.Unsigned, error) {
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
	effect, err := evm.EffectOf(i, c.madeUnder(i))
	if err != nil {
		return nil, err
	}
	if waiting, err := offers(it); err != nil {
		return nil, err
	} else if len(waiting) > 0 {
		// What waits for its price is as large as it was.
		fees.Gas = waiting[0].Gas
	} else {
		estimate, err := client.EstimateGas(ctx, account, effect.To, effect.Value, effect.Data)
		if err != nil {
			return nil, err
		}
		fees.Gas = effect.Gas(estimate)
	}
	if err := c.outbid(it, i, &fees); err != nil {
		return nil, err
	}
	if fees.TipCap.Cmp(fees.FeeCap) > 0 {
		fees.TipCap = fees.FeeCap
	}
	return evm.Build(i, c.madeUnder(i), fees)
}

// capError says that the intent's fee cap does not pay for taking the place of what waits.
type capError struct{ most, least *big.Int }

func (e *capError) Error() string {
	return fmt.Sprintf("the fee cap is reached: it pays %s wei per gas at most, and at least %s are needed to replace what waits; wait for lower fees, or cancel", e.most, e.least)
}

// outbid raises the price above what waits in the same place, since nodes would not take
// it otherwise, and lowers it to what the intent's cap allows. What waits is what was
// sent for this intent, and for a cancel what was sent for its subject.
func (c *Coordinator) outbid(it *item, i *intent.Intent, fees *evm.Fees) error {
	waiting, err := offers(it)
	if err != nil {
		return err
	}
	if i.Kind == intent.Cancel {
		fees.Gas = evm.PlainGas // as Build does
		subject, err := c.items.get(i.Cancel.Subject)
		if err != nil {
			return err
		}
		others, err := offers(subject)
		if err != nil {
			return err
		}
		waiting = append(waiting, others...)
		if len(subject.Unsigned) > 0 {
			// Of what the signers were asked for last a signature may exist elsewhere.
			u, err := evm.Decode(subject.Unsigned)
			if err != nil {
				return fmt.Errorf("the stored transaction of intent %s: %w", subject.ID.Short(), err)
			}
			waiting = append(waiting, u)
		}
	}
	// The price per gas never exceeds what the intent's cap allows.
	most := new(big.Int).Div(i.FeeCap, new(big.Int).SetUint64(fees.Gas))
	for _, old := range waiting {
		least := evm.Outbid(old)
		// A first version goes out at what the cap pays: what it should replace may be in no pool.
		if least.FeeCap.Cmp(most) > 0 && len(it.Sent) > 0 {
			return &capError{most, least.FeeCap}
		}
		fees.TipCap, fees.FeeCap = larger(fees.TipCap, least.TipCap), larger(fees.FeeCap, least.FeeCap)
	}
	if fees.FeeCap.Cmp(most) > 0 {
		fees.FeeCap = most
	}
	return nil
}

func larger(a, b *big.Int) *big.Int {
	if a.Cmp(b) > 0 {
		return a
	}
	return b
}

// offers are the transactions that were sent for an intent.
func offers(it *item) ([]*evm.Unsigned, error) {
	var out []*evm.Unsigned
	for n := range it.Sent {
		_, u, err := evm.Recover(it.Sent[n].Raw)
		if err != nil {
			return nil, fmt.Errorf("a stored transaction of intent %s: %w", it.ID.Short(), err)
		}
		out = append(out, u)
	}
	return out, nil
}
