package cli_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/cli"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"mined in block 7":                     "mined in block 7",
		"a\nsigner b      would sign":          "a signer b      would sign",
		"x\x1b[1A\r\x1b[2Kto 0xGOOD (payroll)": "x?[1A ?[2Kto 0xGOOD (payroll)",
		"\u202egnp.exe":                        "?gnp.exe",
		"\x9b31mred":                           "?31mred",
		"broken \xff":                          "broken ?",
	} {
		if got := cli.Clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := cli.Clean(strings.Repeat("é", 5000)); len([]rune(got)) >= 5000 {
		t.Errorf("a long text keeps %d characters", len([]rune(got)))
	}
	// Errors come from the other side too.
	for _, err := range []error{status.Error(codes.NotFound, "no\x1b[2K\nsuch"), errors.New("no\x1b[2K\nsuch")} {
		if got := cli.Text(err); strings.ContainsAny(got, "\x1b\n") {
			t.Errorf("%T is shown as %q", err, got)
		}
	}
}
