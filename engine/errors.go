package engine

import "errors"

// What a Host refuses at the call; the session's state, if it has one, is unchanged.
var (
	ErrSealed  = errors.New("engine: locked; unlock it with the wrap key first")
	ErrClosed  = errors.New("engine: closed")
	ErrBusy    = errors.New("engine: pre-parameters are being searched already; wait for their event")
	ErrSession = errors.New("engine: no such session; it ended, was dropped, or belongs to an earlier worker")
	ErrReused  = errors.New("engine: session id was used before; begin a new session with fresh nonces")
	ErrDigest  = errors.New("engine: digest is zero or not below the group order, or the session was released before")
	ErrFull    = errors.New("engine: too many sessions at once; try again when one has ended")
)
