package evm

import (
	"errors"

	"coffer/chain/evm/eip55"
)

var (
	// ErrAddress: the text is no address with a right EIP-55 checksum.
	ErrAddress = eip55.ErrAddress
	// ErrEncoding: the bytes are not the canonical encoding of a transaction of the kind that is signed here.
	ErrEncoding = errors.New("not a canonical EIP-1559 transaction")
	// ErrKey: the public key is no compressed point of secp256k1.
	ErrKey = errors.New("not a compressed secp256k1 public key")
	// ErrIntent: no transaction carries out this intent under this charter.
	ErrIntent = errors.New("no transaction can carry out this intent")
	// ErrFees: the fees or the gas are out of the range that signers accept.
	ErrFees = errors.New("unusable fees")
	// ErrFeeCap: the transaction could cost more than the intent allows. Fees change; try later.
	ErrFeeCap = errors.New("the fee is above the intent's fee cap")
)
