//go:build !linux

package engine

import (
	"errors"
	"runtime"
)

// Harden refuses: a signer runs on Linux, where it can protect the share's memory.
func Harden() error {
	return errors.New("signers run on linux; a share's memory cannot be protected on " + runtime.GOOS)
}
