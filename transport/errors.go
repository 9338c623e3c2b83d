package transport

import "errors"

// What Send refuses. Nothing was queued when one of these is returned.
var (
	// ErrUnknownPeer: the party is not one of the peers that this link was made for; the
	// link's own party never is.
	ErrUnknownPeer = errors.New("party is not a peer of this link")
	// ErrTooLarge: the frame is over MaxFrame.
	ErrTooLarge = errors.New("frame is over 512 KiB")
	// ErrEmpty: a frame has at least one byte.
	ErrEmpty = errors.New("frame is empty")
	// ErrQueueFull: the peer does not take frames as fast as they come, or is away; this
	// newest frame was dropped, those before it wait.
	ErrQueueFull = errors.New("queue to the peer is full: the frame was dropped")
	// ErrClosed: the link was closed.
	ErrClosed = errors.New("link is closed")
)
