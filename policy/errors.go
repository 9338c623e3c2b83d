package policy

import "errors"

var (
	// ErrRules is wrapped by every error of Compile: the rules were not accepted.
	ErrRules = errors.New("rules refused")
	// ErrAmount is wrapped by every error of ParseAmount and ParseQuantity.
	ErrAmount = errors.New("amount refused")
)
