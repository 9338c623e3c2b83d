package journal

import "errors"

var (
	// ErrTaken: another intent holds the slot and does not give it up.
	ErrTaken = errors.New("another intent holds this account and nonce: wait until it has been mined, cancel it, or name another nonce")

	// ErrOtherSlot: the intent has or had another slot, or lost its slot.
	ErrOtherSlot = errors.New("this intent was given another account and nonce before: make a new intent")

	// ErrReference: another intent of the same initiator has this reference.
	ErrReference = errors.New("another intent of this initiator has the same reference: it is the same payment, or needs a reference of its own")

	// ErrAbandoned: the intent was given up.
	ErrAbandoned = errors.New("this intent was rejected and given up: make a new intent")

	// ErrSeen: the session was opened before.
	ErrSeen = errors.New("this session was opened before: a session runs once, begin another")

	// ErrUnknown: there is no such reservation or session.
	ErrUnknown = errors.New("the journal has no such reservation")

	// ErrOtherTransaction: the session is bound to another transaction or intent.
	ErrOtherTransaction = errors.New("this session is bound to another transaction: a session signs one thing")

	// ErrReleased: a partial may exist, so the intent cannot be given up.
	ErrReleased = errors.New("this intent was released already, a signature may exist: cancel it instead")

	// ErrTooMany: the bound on transactions of one intent is reached.
	ErrTooMany = errors.New("too many transactions were made for this intent: cancel it or wait for one to be mined")

	// ErrInvalid: the arguments describe no reservation.
	ErrInvalid = errors.New("reservation is malformed")
)
