package keyshare

import "errors"

var (
	// ErrOpen: a sealed record does not open. Its key, its associated data or its
	// bytes are not those it was sealed with; the cipher cannot tell which.
	ErrOpen = errors.New("sealed record does not open: it is damaged, belongs to another record, or was sealed under another key")

	// ErrFormat: the bytes are no sealed record of a version that this release reads.
	ErrFormat = errors.New("not a sealed record of a known version")

	// ErrWiped: the secret was wiped, or is the zero value, which holds none.
	ErrWiped = errors.New("secret is not there: it was wiped or never set")
)
