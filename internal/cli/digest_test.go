package cli_test

import (
	"testing"

	"coffer/canon"
	"coffer/internal/cli"
)

// The flag is what the person heard, not what the file says: comparing is for the
// caller, and a flag that is no digest is a usage error.
func TestHeardDigest(t *testing.T) {
	file, heard := canon.Sum([]byte("file")), canon.Sum([]byte("heard"))
	if got, err := cli.HeardDigest(heard.String(), file); err != nil || got != heard {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := cli.HeardDigest("abc", file); cli.Code(err) != cli.Usage {
		t.Errorf("a malformed digest: %v", err)
	}
}
