package devchain

import "errors"

var (
	// ErrListen: the address cannot be listened on.
	ErrListen = errors.New("cannot listen")
	// ErrStart: the simulated chain did not come up.
	ErrStart = errors.New("simulated chain did not start")
)
