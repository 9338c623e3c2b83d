package signing

import "errors"

var (
	// ErrNotAuthorized is returned by Release for nil, for the zero value, and for a
	// permission of another session, and so of another wallet.
	ErrNotAuthorized = errors.New("not authorised for this session")

	// ErrNotPrepared is returned by Release before rounds 1 to 3 are done.
	ErrNotPrepared = errors.New("session is not prepared yet")

	// ErrReleased is returned by Release the second time: a session signs one thing.
	ErrReleased = errors.New("session has been released already")

	// ErrEnded is returned once the session is done or has failed.
	ErrEnded = errors.New("session has ended")

	// ErrMessage is wrapped by what the parsers of this package's messages return.
	ErrMessage = errors.New("message is malformed")
)

// The codes of faults that this package finds itself; those of the envelopes and of
// the engine pass through with their own.
const (
	CodeMalformed       = "MALFORMED"        // a signed message that no honest signer sends
	CodeBindingMismatch = "BINDING_MISMATCH" // the signers were not asked to sign the same
	CodePeerAborted     = "PEER_ABORTED"     // another signer ended the session
	CodeEngine          = "ENGINE"           // this signer's own engine did what it must not
)
