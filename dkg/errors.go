package dkg

import "errors"

var (
	// ErrNotAuthorized is returned by New for nil, for the zero value, and for a
	// permission that says something else than the configuration.
	ErrNotAuthorized = errors.New("ceremony is not authorised")

	// ErrEnded is returned once the ceremony is done or has failed.
	ErrEnded = errors.New("ceremony has ended")

	// ErrNotPending is returned by Stored when no share waits to be stored.
	ErrNotPending = errors.New("no share waits to be stored")

	// ErrNotProving is returned by Noted when no proof waits to be noted.
	ErrNotProving = errors.New("no proof waits to be noted")

	// ErrMessage is wrapped by what the parsers of this package's messages return.
	ErrMessage = errors.New("message is malformed")
)

// The codes of faults that this package finds itself, beside those of envelope,
// signing and engine, which pass through.
const (
	CodeReveal      = "REVEAL_MISMATCH"    // a contribution that does not open its commitment
	CodeConfirm     = "CONFIRM_MISMATCH"   // two signers ended key generation with different public data
	CodeChallenge   = "CHALLENGE_FAILED"   // the new key's challenge signature does not verify
	CodeAttestation = "ATTESTATION_FAILED" // a signature under the wallet record that does not verify
	CodeSigned      = "RECORD_SIGNED"      // this signer has signed the record of a ceremony that another one does not have
)
