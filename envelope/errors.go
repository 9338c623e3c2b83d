package envelope

import "errors"

// Step returns these, wrapped with the field and its value, for a message that is
// refused without any effect on the run.
var (
	ErrMalformed = errors.New("envelope is malformed")
	ErrKind      = errors.New("envelope is of a kind that this run does not have")
	ErrTooLarge  = errors.New("envelope is larger than its kind may be")
	ErrRoute     = errors.New("envelope belongs to another cluster, run or receiver")
	ErrSender    = errors.New("envelope is not from the peer that sent it")
	ErrSignature = errors.New("envelope's signature does not verify")
	ErrFull      = errors.New("too many messages wait for a run that has not begun here")

	// ErrEnded is returned once a fault has ended the run.
	ErrEnded = errors.New("run has ended")
)
