package evm

import (
	"fmt"

	"coffer/chain/evm/eip55"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/sha3"
)

// Address names an account or a contract.
type Address [20]byte

// ParseAddress accepts exactly the EIP-55 form that String writes.
func ParseAddress(s string) (Address, error) {
	a, err := eip55.Parse(s)
	return Address(a), err
}

func (a Address) String() string { return eip55.Format(a) }

// AddressOf derives the address of the account that a public key controls.
func AddressOf(publicKey [33]byte) (Address, error) {
	key, err := secp256k1.ParsePubKey(publicKey[:])
	if err != nil {
		return Address{}, fmt.Errorf("public key %x: %w: %w", publicKey, ErrKey, err)
	}
	// Both coordinates without the leading format byte; the last 20 bytes of their hash.
	hash := keccak(key.SerializeUncompressed()[1:])
	return Address(hash[12:]), nil
}

func keccak(message []byte) (sum [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(message)
	h.Sum(sum[:0])
	return sum
}
