package partial

import (
	"fmt"

	"coffer/canon"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Partial is one signer's contribution to the signature of one session.
type Partial struct {
	Session canon.Digest
	R       [33]byte // the session's nonce point, compressed; every signer computes the same
	S       [32]byte // this signer's s_i, big-endian, in [1, n-1]
}

// Signature is a complete ECDSA signature over secp256k1 with low s.
type Signature struct {
	R, S [32]byte // big-endian
	V    byte     // 0 or 1: the parity of R's y, from which a verifier recovers the public key
}

// Combine sums exactly need partials into the signature of digest under publicKey.
// Whatever it returns without an error has been verified: against the key, and by
// recovering the key from the signature as a chain does.
func Combine(digest [32]byte, publicKey [33]byte, need int, partials []Partial) (Signature, error) {
	if need < 1 || len(partials) != need {
		return Signature{}, fmt.Errorf("combine: %w: %d given, exactly %d make a signature", ErrCount, len(partials), need)
	}
	first := partials[0]
	point, err := secp256k1.ParsePubKey(first.R[:])
	if err != nil {
		return Signature{}, fmt.Errorf("combine: partial 1: %w: not a compressed point of the curve: %w", ErrPoint, err)
	}
	// The first byte carries the parity of y; what follows is x.
	x := [32]byte(first.R[1:])
	var r secp256k1.ModNScalar
	if overflow := r.SetBytes(&x); overflow != 0 || r.IsZero() {
		// x in [n, p) happens once in 2^127 and has no recovery bit on an EVM chain.
		return Signature{}, fmt.Errorf("combine: %w: its x is outside [1, n-1]; sign again", ErrPoint)
	}

	var sum secp256k1.ModNScalar
	seen := make(map[[32]byte]int, len(partials))
	for i, p := range partials {
		if p.Session != first.Session {
			return Signature{}, fmt.Errorf("combine: partial %d: %w: %s, the first is of %s", i+1, ErrSession, p.Session.Short(), first.Session.Short())
		}
		if p.R != first.R {
			return Signature{}, fmt.Errorf("combine: partial %d: %w: it differs from the first partial's", i+1, ErrPoint)
		}
		var s secp256k1.ModNScalar
		if overflow := s.SetBytes(&p.S); overflow != 0 || s.IsZero() {
			return Signature{}, fmt.Errorf("combine: partial %d: %w: outside [1, n-1]", i+1, ErrScalar)
		}
		// One partial handed in twice would only surface as a sum that nobody can explain.
		if j, twice := seen[p.S]; twice {
			return Signature{}, fmt.Errorf("combine: partial %d: %w: the same as partial %d", i+1, ErrScalar, j)
		}
		seen[p.S] = i + 1
		sum.Add(&s)
	}
	if sum.IsZero() {
		return Signature{}, fmt.Errorf("combine: %w", ErrSum)
	}

	sig := Signature{R: x}
	if point.Y().Bit(0) == 1 {
		sig.V = 1
	}
	if sum.IsOverHalfOrder() {
		// (r, n-s) is the same signature with R mirrored: chains accept only the low one,
		// so that a signature cannot be altered by who has no key (EIP-2).
		sum.Negate()
		sig.V ^= 1
	}
	sig.S = sum.Bytes()

	if err := Verify(digest, publicKey, sig); err != nil {
		if _, parse := secp256k1.ParsePubKey(publicKey[:]); parse != nil {
			return Signature{}, fmt.Errorf("combine: %w", err)
		}
		return Signature{}, fmt.Errorf("combine: %w", ErrSum)
	}
	return sig, nil
}

// Verify checks sig over digest under publicKey: the ranges, low s, the ECDSA
// equation, and that the recovery bit recovers this very key.
func Verify(digest [32]byte, publicKey [33]byte, sig Signature) error {
	key, err := secp256k1.ParsePubKey(publicKey[:])
	if err != nil {
		return fmt.Errorf("%w: not a compressed point of the curve: %w", ErrKey, err)
	}
	r, s, err := sig.scalars()
	if err != nil {
		return err
	}
	if !ecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return ErrSignature
	}
	recovered, err := Recover(digest, sig)
	if err != nil {
		return err
	}
	if recovered != publicKey {
		return fmt.Errorf("%w: its recovery bit %d leads to another key", ErrSignature, sig.V)
	}
	return nil
}

// Recover returns the compressed public key under which sig verifies over digest.
// High s is refused, as chains do. Any well-formed signature recovers some key: the
// caller must compare it with the one it expects.
func Recover(digest [32]byte, sig Signature) ([33]byte, error) {
	if _, _, err := sig.scalars(); err != nil {
		return [33]byte{}, err
	}
	// The library's compact form: 27 + recovery id + 4 for a compressed key, r, s.
	compact := make([]byte, 0, 65)
	compact = append(compact, 27+4+sig.V)
	compact = append(compact, sig.R[:]...)
	compact = append(compact, sig.S[:]...)
	key, _, err := ecdsa.RecoverCompact(compact, digest[:])
	if err != nil {
		return [33]byte{}, fmt.Errorf("%w: no key recovers: %w", ErrSignature, err)
	}
	return [33]byte(key.SerializeCompressed()), nil
}

func (sig Signature) scalars() (r, s secp256k1.ModNScalar, err error) {
	if sig.V > 1 {
		return r, s, fmt.Errorf("%w: recovery bit is %d, want 0 or 1", ErrSignature, sig.V)
	}
	if overflow := r.SetBytes(&sig.R); overflow != 0 || r.IsZero() {
		return r, s, fmt.Errorf("%w: r is outside [1, n-1]", ErrSignature)
	}
	if overflow := s.SetBytes(&sig.S); overflow != 0 || s.IsZero() {
		return r, s, fmt.Errorf("%w: s is outside [1, n-1]", ErrSignature)
	}
	if s.IsOverHalfOrder() {
		return r, s, fmt.Errorf("%w: s is in the high half; only the low one is accepted", ErrSignature)
	}
	return r, s, nil
}
