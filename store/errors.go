package store

import "errors"

var (
	// ErrInUse: another process holds the file's lock.
	ErrInUse = errors.New("is in use by another process: stop that one first")

	// ErrCorrupt: the file is damaged or truncated. Older copies forget what was
	// signed since, so they are not the remedy.
	ErrCorrupt = errors.New("is damaged: keep it and its disk for inquiry and restore this machine through its backup procedure; never put an older copy in its place, it has forgotten what was signed since")

	// ErrNotFound: there is no file; nothing is created unless asked for.
	ErrNotFound = errors.New("does not exist: has init been run for this directory?")

	// ErrExists: there is a file already; nothing is ever overwritten.
	ErrExists = errors.New("exists already: choose another directory, or keep using it")

	// ErrFailed: a write failed earlier. Everything is refused until a restart, which
	// checks the whole file.
	ErrFailed = errors.New("a write failed, nothing more is written until the disk is repaired and the process restarted")
)
