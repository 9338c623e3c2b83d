// Package hook tells an operator what should not wait: a program of theirs is started,
// or an HTTPS address is called, with a small JSON event.
//
// An event is signed by the identity key of the process that sends it, so whoever
// receives it can tell it from one that somebody else made up. It holds no secret, and
// nothing that must be believed: it says where to look. Delivery is a convenience. A
// queue that is full drops, a receiver that stays away is given up after some minutes,
// what waits is sent again after a restart, and nothing of the daemon's work waits for
// any of it.
//
// A program is started without a shell, with the event on stdin and a small
// environment, none of it from the daemon's own. Names that reach the environment are
// of the charter or of this package.
package hook
