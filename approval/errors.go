package approval

import "errors"

var (
	// ErrMalformed: the bytes are not one canonical, complete statement.
	ErrMalformed = errors.New("statement is malformed")
	// ErrSignature: the person's signature is missing, of another key, or wrong.
	ErrSignature = errors.New("statement's signature does not hold")
)
