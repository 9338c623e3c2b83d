package evm

import (
	"fmt"

	"coffer/partial"
)

// Assemble returns the signed transaction, ready to broadcast, and its hash, by which
// chains know it. The signature must be well formed; that it is the right account's
// the caller has checked (partial.Combine) or checks by Recover.
func (u *Unsigned) Assemble(sig partial.Signature) (raw []byte, hash [32]byte, err error) {
	if _, err := partial.Recover(u.Digest(), sig); err != nil {
		return nil, [32]byte{}, fmt.Errorf("assemble transaction: %w", err)
	}
	raw = u.assemble(sig)
	if len(raw) > MaxEncoded {
		return nil, [32]byte{}, fmt.Errorf("assemble transaction: %w: %d bytes, at most %d allowed", ErrEncoding, len(raw), MaxEncoded)
	}
	return raw, Hash(raw), nil
}

func (u *Unsigned) assemble(sig partial.Signature) []byte {
	out := u.appendFields(nil)
	out = appendUint(out, uint64(sig.V))
	// r and s are integers in RLP: without leading zeros.
	out = appendString(out, trim(sig.R))
	out = appendString(out, trim(sig.S))
	return wrap(out)
}

// Recover decodes a signed transaction as strictly as Decode and returns who signed
// it. Any well-formed signature is somebody's: compare the address.
func Recover(raw []byte) (Address, *Unsigned, error) {
	r, err := open(raw)
	if err != nil {
		return Address{}, nil, err
	}
	u := r.unsigned()
	var sig partial.Signature
	parity := r.uint64("y parity")
	if parity > 1 {
		r.fail("y parity", "it is %d, want 0 or 1", parity)
	}
	sig.V = byte(parity)
	pad(&sig.R, r.integer("r", 32))
	pad(&sig.S, r.integer("s", 32))
	r.end("transaction")
	if r.err != nil {
		return Address{}, nil, r.err
	}
	key, err := partial.Recover(u.Digest(), sig)
	if err != nil {
		return Address{}, nil, fmt.Errorf("signature: %w", err)
	}
	from, err := AddressOf(key)
	if err != nil {
		return Address{}, nil, fmt.Errorf("signature: %w", err)
	}
	return from, u, nil
}

func trim(b [32]byte) []byte {
	i := 0
	for i < len(b) && b[i] == 0 {
		i++
	}
	return b[i:]
}

func pad(out *[32]byte, b []byte) { copy(out[len(out)-len(b):], b) }

// Hash is by which chains know a signed transaction.
func Hash(raw []byte) [32]byte { return keccak(raw) }
