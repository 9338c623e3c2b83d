package charter

import "errors"

var (
	// ErrInvalid says that a charter breaks a rule for charters; the text names the field.
	ErrInvalid = errors.New("charter is not valid")
	// ErrPin says that a charter is not the pinned one.
	ErrPin = errors.New("charter is not the pinned one")
	// ErrSignature says that a signature under a charter, a card or an address record
	// is missing or wrong. A charter edited after signing shows as this.
	ErrSignature = errors.New("signature is missing or wrong")
	// ErrCard says that a card cannot be read or does not prove its key.
	ErrCard = errors.New("card is not valid")
)
