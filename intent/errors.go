package intent

import "errors"

var (
	// ErrMalformed: the bytes are not one canonical, complete intent.
	ErrMalformed = errors.New("intent is malformed")
	// ErrCluster: the intent was made for another cluster.
	ErrCluster = errors.New("intent is of another cluster")
	// ErrCharter: the intent was made under another version of the charter.
	ErrCharter = errors.New("intent was made under another charter")
	// ErrInitiator: the charter enrols nobody of the initiator's name.
	ErrInitiator = errors.New("initiator is not enrolled")
	// ErrSignature: the initiator's signature is missing, of another key, or wrong.
	ErrSignature = errors.New("initiator's signature does not hold")
	// ErrUnknown: the intent names a chain, asset or signer that the charter does not list.
	ErrUnknown = errors.New("charter does not list it")
)
