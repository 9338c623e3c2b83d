package partial

import "errors"

var (
	// ErrCount: not exactly Need partials were given. More than Need never belong to one session.
	ErrCount = errors.New("wrong number of partials")
	// ErrSession: the partials come from different sessions.
	ErrSession = errors.New("partials of different sessions")
	// ErrPoint: the R of a partial is no point of the curve, is not the others' R, or cannot stand in a signature.
	ErrPoint = errors.New("unusable R")
	// ErrScalar: the s of a partial is outside [1, n-1], or the same as another's.
	ErrScalar = errors.New("unusable s")
	// ErrKey: the public key is no compressed point of the curve.
	ErrKey = errors.New("unusable public key")
	// ErrSum: the partials are well formed but their sum is no signature of the digest
	// under the public key. At least one signer sent a wrong value; which one is not to be told.
	ErrSum = errors.New("combined signature does not verify: a signer sent a wrong partial; try another quorum")
	// ErrSignature: a signature is malformed, malleable (high s), or does not verify.
	ErrSignature = errors.New("signature does not verify")
)
