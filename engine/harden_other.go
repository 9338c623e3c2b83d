//go:build !linux

package engine

import (
	"errors"
	"runtime"
)

// harden refuses: a signer runs on Linux, where it can protect the share's memory.
func harden() error {
	return errors.New("signers run on linux; a share's memory cannot be protected on " + runtime.GOOS)
}
