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
)
