package evm

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"slices"
)

const (
	// MaxEncoded bounds a transaction's size, as nodes do for their pools.
	MaxEncoded = 128 << 10

	typeDynamicFee = 0x02 // EIP-1559
)

// Unsigned is an EIP-1559 transaction with a recipient and an empty access list: the
// only kind that is built, decoded and signed here. The integers are non-negative and
// of at most 256 bits; nil counts as zero.
type Unsigned struct {
	ChainID        uint64
	Nonce          uint64
	TipCap, FeeCap *big.Int // wei per gas: at most to the block's producer, at most in all
	Gas            uint64   // limit
	To             Address
	Value          *big.Int // wei
	Data           []byte
}

// Encode returns 0x02 and the RLP list of the nine unsigned fields: the bytes whose
// hash is signed.
func (u *Unsigned) Encode() []byte {
	return wrap(u.appendFields(nil))
}

func (u *Unsigned) appendFields(out []byte) []byte {
	out = appendUint(out, u.ChainID)
	out = appendUint(out, u.Nonce)
	out = appendBig(out, u.TipCap)
	out = appendBig(out, u.FeeCap)
	out = appendUint(out, u.Gas)
	out = appendString(out, u.To[:])
	out = appendBig(out, u.Value)
	out = appendString(out, u.Data)
	return appendHeader(out, rlpList, 0) // the access list
}

func wrap(fields []byte) []byte {
	out := appendHeader([]byte{typeDynamicFee}, rlpList, len(fields))
	return append(out, fields...)
}

// Decode accepts exactly what Encode writes for a transaction that a chain could
// include: canonical integers and lengths, nothing left over, a recipient, an empty
// access list, and no quantity that overflows the 256 bits that chains count in.
func Decode(raw []byte) (*Unsigned, error) {
	r, err := open(raw)
	if err != nil {
		return nil, err
	}
	u := r.unsigned()
	r.end("transaction")
	if r.err != nil {
		return nil, r.err
	}
	return u, nil
}

// open strips the type byte and the list header.
func open(raw []byte) (*reader, error) {
	if len(raw) > MaxEncoded {
		return nil, fmt.Errorf("transaction: %w: %d bytes, at most %d allowed", ErrEncoding, len(raw), MaxEncoded)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("transaction: %w: it is empty", ErrEncoding)
	}
	if raw[0] != typeDynamicFee {
		return nil, fmt.Errorf("transaction: %w: its first byte is %#02x, want type 0x02; legacy, access-list, blob and set-code transactions are not signed", ErrEncoding, raw[0])
	}
	outer := &reader{rest: raw[1:]}
	fields := outer.item("transaction", rlpList)
	outer.end("transaction")
	if outer.err != nil {
		return nil, outer.err
	}
	return &reader{rest: fields}, nil
}

func (r *reader) unsigned() *Unsigned {
	u := &Unsigned{
		ChainID: r.uint64("chain id"),
		Nonce:   r.uint64("nonce"),
		TipCap:  r.big("tip cap"),
		FeeCap:  r.big("fee cap"),
		Gas:     r.uint64("gas"),
	}
	if r.err == nil && len(r.rest) > 0 && r.rest[0] == rlpString {
		r.fail("to", "it is empty, which would create a contract; name a recipient")
	}
	r.fixed("to", u.To[:])
	u.Value = r.big("value")
	u.Data = bytes.Clone(r.item("data", rlpString))
	if list := r.item("access list", rlpList); len(list) > 0 {
		r.fail("access list", "it is not empty")
	}
	if r.err == nil {
		r.ranges(u)
	}
	return u
}

// ranges refuses what every chain refuses, so that nothing is signed that would only
// make sense to somebody who counts otherwise.
func (r *reader) ranges(u *Unsigned) {
	switch {
	case u.ChainID == 0:
		r.fail("chain id", "it is 0, which is no chain")
	case u.Nonce == math.MaxUint64:
		r.fail("nonce", "it is 2^64-1, which no account reaches (EIP-2681)")
	case u.TipCap.Cmp(u.FeeCap) > 0:
		r.fail("tip cap", "%s is above the fee cap of %s", u.TipCap, u.FeeCap)
	case u.MaxCost().BitLen() > 256:
		r.fail("fee cap", "the highest cost overflows 256 bits")
	}
}

// Digest is the hash that is signed.
func (u *Unsigned) Digest() [32]byte { return keccak(u.Encode()) }

// MaxFee is the most that the transaction can cost besides its value: gas × fee cap.
func (u *Unsigned) MaxFee() *big.Int { return maxFee(u.Gas, u.FeeCap) }

// MaxCost is the most that leaves the account: value + MaxFee. A node refuses the
// transaction when the balance is less.
func (u *Unsigned) MaxCost() *big.Int {
	return new(big.Int).Add(orZero(u.Value), u.MaxFee())
}

// Equal compares all fields.
func (u *Unsigned) Equal(o *Unsigned) bool { return slices.Equal(u.Encode(), o.Encode()) }

func maxFee(gas uint64, feeCap *big.Int) *big.Int {
	return new(big.Int).Mul(new(big.Int).SetUint64(gas), orZero(feeCap))
}

func orZero(v *big.Int) *big.Int {
	if v == nil {
		return new(big.Int)
	}
	return v
}
