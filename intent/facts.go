package intent

import (
	"fmt"
	"math/big"
	"slices"

	"coffer/chain/evm/eip55"
	"coffer/charter"
	"coffer/policy"
)

// Facts are the words in which the rules of c see i, with the lists that keepers signed
// last. It is an error when i names what the charter does not list, or an address that
// the chain does not have: such an intent can be judged by no rule. That i is its
// initiator's, the caller has verified.
func Facts(i *Intent, c *charter.Charter, held map[string]charter.ListState, now int64) (policy.Facts, error) {
	if err := i.Validate(); err != nil {
		return policy.Facts{}, err
	}
	who, _, err := initiator(c, i.Initiator)
	if err != nil {
		return policy.Facts{}, err
	}
	f := policy.Facts{
		Kind: string(i.Kind), Wallet: i.Wallet, Chain: i.Chain,
		Initiator: who.Name, InitiatorService: who.Service, InitiatorOrg: who.Org, InitiatorGroups: slices.Clone(who.Groups),
		Reference: i.Reference, NotBefore: i.NotBefore, Expires: i.Expires, Now: now, Lists: c.Lists(held, now),
	}
	if i.Kind == CreateWallet {
		for _, id := range i.CreateWallet.Signers {
			if _, ok := c.Signer(id); !ok {
				return policy.Facts{}, fmt.Errorf("%w: signer %q", ErrUnknown, id)
			}
		}
		return f, nil
	}
	if _, ok := c.Chain(i.Chain); !ok {
		return policy.Facts{}, fmt.Errorf("%w: chain %q", ErrUnknown, i.Chain)
	}
	if _, err := eip55.Parse(i.Account); err != nil {
		return policy.Facts{}, fmt.Errorf("account: %w", err)
	}
	f.FeeCap = new(big.Int).Set(i.FeeCap)
	// A cancel moves nothing, and so has no asset, amount or destination for a rule to limit.
	if i.Kind == Transfer {
		if _, ok := c.Asset(i.Chain, i.Transfer.Asset); !ok {
			return policy.Facts{}, fmt.Errorf("%w: asset %q on %q", ErrUnknown, i.Transfer.Asset, i.Chain)
		}
		if _, err := eip55.Parse(i.Transfer.To); err != nil {
			return policy.Facts{}, fmt.Errorf("destination: %w", err)
		}
		f.Asset, f.To, f.Amount = i.Transfer.Asset, i.Transfer.To, new(big.Int).Set(i.Transfer.Amount)
	}
	return f, nil
}
