package keystore

import "errors"

var (
	// ErrExists: a share is stored already, and shares are written once.
	ErrExists = errors.New("is stored already: shares are written once and never replaced")

	// ErrNotFound: there is no such share, or it is not active.
	ErrNotFound = errors.New("is not stored here")

	// ErrMismatch: a record is not of the share that is stored for it.
	ErrMismatch = errors.New("record and stored share do not belong together")

	// ErrNoPreParams: the pool is empty.
	ErrNoPreParams = errors.New("no pre-parameters are ready: wait until some have been made")

	// ErrTaken: the ceremony has taken its pre-parameters, or the set was given out before.
	ErrTaken = errors.New("pre-parameters are used once: begin another ceremony, make another set")

	// ErrPoolFull: no more sets are kept.
	ErrPoolFull = errors.New("enough pre-parameters are ready")

	// ErrWrongPassphrase: the seal file does not open under the passphrase.
	ErrWrongPassphrase = errors.New("wrong passphrase")

	// ErrSealDamaged: the seal file is not as it was written.
	ErrSealDamaged = errors.New("seal file is damaged: put back a copy of it (it never changes while the passphrase stays); without it the shares in this directory cannot be opened")
)
