package audit

import "errors"

var (
	// ErrEvent says that an event cannot be written as it is; nothing was appended.
	ErrEvent = errors.New("audit event is not valid")
	// ErrDamaged says that the log on disk is not what was written: an entry was
	// altered, removed or put in another place. The text names it.
	ErrDamaged = errors.New("the log is damaged: do not repair it, keep it and its disk for inquiry, and do what docs/operations.md says of a lost signer or a lost coordinator")
	// ErrIdentity says that the log in a folder is another identity's, or of another name.
	ErrIdentity = errors.New("another log")
	// ErrFailed says that an earlier write failed; nothing is appended until a restart.
	ErrFailed = errors.New("audit log cannot be written")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("audit log is closed")
	// ErrNoEntry says that the log has no entry of that number.
	ErrNoEntry = errors.New("no such audit entry")
	// ErrProof says that a proof does not prove what was asked.
	ErrProof = errors.New("audit proof does not hold")
)
