package evm

import (
	"bytes"
	"fmt"
	"math/big"

	"coffer/charter"
	"coffer/intent"
)

const (
	// PlainGas is enough for a payment to an account that exists and has no code, and the
	// least limit that every EVM chain accepts.
	PlainGas = 21_000
	// MaxTransferGas bounds the gas of a payment in the chain's own coin. Recipients that are
	// contracts, such as multi-signature wallets, run code; none that is worth paying runs more.
	MaxTransferGas = 100_000
	// MaxTokenGas bounds the gas of an ERC-20 transfer. Most use below 70,000; tokens behind
	// proxies or with own bookkeeping a few times that.
	MaxTokenGas = 500_000
)

// transferSelector is the first four bytes of keccak("transfer(address,uint256)").
var transferSelector = [4]byte{0xa9, 0x05, 0x9c, 0xbb}

// Fees is what a transaction offers to be mined. It is chosen by the coordinator and
// bounded by the intent's fee cap.
type Fees struct {
	TipCap, FeeCap *big.Int // wei per gas
	Gas            uint64   // limit; a cancel always gets PlainGas
}

// Effect is what a transaction must do to carry out an intent, whatever it costs.
type Effect struct {
	ChainID        uint64
	To             Address
	Value          *big.Int
	Data           []byte
	MinGas, MaxGas uint64 // less cannot be mined, more is refused
}

// EffectOf says what carries out i. An intent that makes no transaction, or that names
// what the charter does not list, is ErrIntent.
func EffectOf(i *intent.Intent, c *charter.Charter) (Effect, error) {
	if err := i.Validate(); err != nil {
		return Effect{}, fmt.Errorf("%w: %w", ErrIntent, err)
	}
	if i.Kind != intent.Transfer && i.Kind != intent.Cancel {
		return Effect{}, fmt.Errorf("%w: kind %q makes none", ErrIntent, i.Kind)
	}
	chain, ok := c.Chain(i.Chain)
	if !ok || chain.Kind != "evm" {
		return Effect{}, fmt.Errorf("%w: chain %q is no EVM chain of the charter", ErrIntent, i.Chain)
	}
	e := Effect{ChainID: chain.ChainID, Value: new(big.Int)}
	account, err := ParseAddress(i.Account)
	if err != nil {
		return Effect{}, fmt.Errorf("%w: account: %w", ErrIntent, err)
	}
	if i.Kind == intent.Cancel {
		// Nothing to itself: all that it does is to use the nonce up. It runs no code and
		// carries no data, so more than PlainGas has no use.
		e.To, e.MinGas, e.MaxGas = account, PlainGas, PlainGas
		return e, nil
	}

	to, err := ParseAddress(i.Transfer.To)
	if err != nil {
		return Effect{}, fmt.Errorf("%w: destination: %w", ErrIntent, err)
	}
	asset, ok := c.Asset(i.Chain, i.Transfer.Asset)
	if !ok {
		return Effect{}, fmt.Errorf("%w: asset %q on %q is not in the charter", ErrIntent, i.Transfer.Asset, i.Chain)
	}
	if asset.Contract == "" {
		e.To = to
		e.Value.Set(i.Transfer.Amount)
		e.MinGas, e.MaxGas = PlainGas, MaxTransferGas
		return e, nil
	}
	if e.To, err = ParseAddress(asset.Contract); err != nil {
		return Effect{}, fmt.Errorf("%w: contract of asset %q: %w", ErrIntent, asset.Symbol, err)
	}
	e.Data = transferCall(to, i.Transfer.Amount)
	e.MinGas, e.MaxGas = callGas(e.Data), MaxTokenGas
	return e, nil
}

// transferCall is the calldata of transfer(address,uint256): the selector and two words
// of 32 bytes, 68 in all. The amount has at most 256 bits, as the intent's validation demands.
func transferCall(to Address, amount *big.Int) []byte {
	data := make([]byte, 4+32+32)
	copy(data, transferSelector[:])
	copy(data[4+12:], to[:])
	amount.FillBytes(data[4+32:])
	return data
}

// callGas is the least gas with which a transaction of this calldata is valid: the
// intrinsic cost (EIP-2028), or the floor by calldata (EIP-7623) where that is more.
func callGas(data []byte) uint64 {
	zeros := uint64(bytes.Count(data, []byte{0}))
	others := uint64(len(data)) - zeros
	return max(PlainGas+4*zeros+16*others, PlainGas+10*(zeros+4*others))
}

// Gas is the limit to offer when a node estimates the use at estimate: a quarter more
// where code runs, since its path may change until the transaction is mined.
func (e Effect) Gas(estimate uint64) uint64 {
	if estimate <= PlainGas {
		return e.MinGas
	}
	estimate = min(estimate, e.MaxGas) // also keeps the sum from overflowing
	return min(max(estimate+estimate/4, e.MinGas), e.MaxGas)
}

// Build makes the transaction that carries out i with the fees f. What it returns
// passes Compare: the coordinator offers nothing that a signer would refuse.
func Build(i *intent.Intent, c *charter.Charter, f Fees) (*Unsigned, error) {
	e, err := EffectOf(i, c)
	if err != nil {
		return nil, fmt.Errorf("build transaction: %w", err)
	}
	if f.TipCap == nil || f.FeeCap == nil || f.TipCap.Sign() < 0 || f.FeeCap.Sign() < 0 || f.FeeCap.BitLen() > 256 {
		return nil, fmt.Errorf("build transaction: %w: tip cap and fee cap are needed, of 0 to 256 bits", ErrFees)
	}
	u := &Unsigned{
		ChainID: e.ChainID, Nonce: i.Nonce,
		TipCap: new(big.Int).Set(f.TipCap), FeeCap: new(big.Int).Set(f.FeeCap),
		Gas: f.Gas, To: e.To, Value: e.Value, Data: e.Data,
	}
	if i.Kind == intent.Cancel {
		u.Gas = PlainGas
	}
	if fee := u.MaxFee(); fee.Cmp(i.FeeCap) > 0 {
		return nil, fmt.Errorf("build transaction: %w: %d gas at %s wei can cost %s wei, the intent allows %s; wait for lower fees or ask again with a higher fee cap",
			ErrFeeCap, u.Gas, u.FeeCap, fee, i.FeeCap)
	}
	account, err := ParseAddress(i.Account)
	if err != nil {
		return nil, fmt.Errorf("build transaction: account: %w", err)
	}
	if wrong := Compare(i, c, account, u); len(wrong) > 0 {
		return nil, fmt.Errorf("build transaction: %w: %s", ErrFees, wrong[0])
	}
	if _, err := Decode(u.Encode()); err != nil {
		return nil, fmt.Errorf("build transaction: %w", err)
	}
	return u, nil
}
