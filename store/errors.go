package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrInUse: another process holds the file's lock.
	ErrInUse = errors.New("is in use by another process: stop that one first")

	// ErrCorrupt: the file is damaged or truncated. Older copies forget what was
	// signed since, so they are not the remedy.
	ErrCorrupt = errors.New("is damaged: do not repair it, keep it and its disk for inquiry, and do what docs/operations.md says of a lost signer or a lost coordinator; never put an older copy in its place, it has forgotten what was signed since")

	// ErrNotFound: there is no file; nothing is created unless asked for.
	ErrNotFound = errors.New("does not exist: has init been run for this directory?")

	// ErrExists: there is a file already; nothing is ever overwritten.
	ErrExists = errors.New("exists already: choose another directory, or keep using it")

	// ErrFailed: a write failed earlier. Everything is refused until a restart, which
	// checks the whole file.
	ErrFailed = errors.New("a write failed, and nothing more is written before a restart has checked the whole file")

	// ErrFull: there is no space. What was on disk before is whole.
	ErrFull = errors.New("the disk is full: make space on it, then start this program again; nothing that was done before is lost")
)

// Explain says of a write that failed for want of space what to do about it. Other
// errors it returns as they are.
func Explain(err error) error {
	if err == nil || errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrFull, err)
}
