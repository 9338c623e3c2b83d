package cli_test

import (
	"os"
	"syscall"
	"testing"
)

// dup gives a descriptor of its own to whoever closes what it reads.
func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
