package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"coffer/internal/cli"
)

// run is one command as a person types it.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, talk bytes.Buffer
	code = cli.Run(t.Context(), command(), args, &out, &talk)
	return out.String(), talk.String(), code
}

func TestFundAndBalance(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := cli.Run(ctx, command(), []string{"devchain", "--listen", "127.0.0.1:0"}, in, io.Discard)
		_ = in.Close() // a pipe's never fails
		ended <- code
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != cli.Done {
			t.Errorf("the chain exits with %d", code)
		}
	})
	line := make([]byte, 256)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "ready ")
	if !ok {
		t.Fatalf("the chain said %q", line[:n])
	}

	const somebody = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"balance", somebody}, cli.Done, "0 ETH\n", ""},
		{[]string{"fund", somebody, "1.25"}, cli.Done, "0x", "1.25 ETH paid to " + somebody},
		{[]string{"fund", somebody, "1", "--json"}, cli.Done, `"wei": "1000000000000000000"`, ""},
		{[]string{"balance", somebody}, cli.Done, "2.25 ETH\n", ""},
		{[]string{"balance", "--json"}, cli.Done, `"wei": "99999`, ""}, // the faucet's, less what it paid
		{[]string{"fund", somebody, "0"}, cli.Usage, "", "it is nothing"},
		{[]string{"fund", somebody, "-1"}, cli.Usage, "", "no number here has a sign"},
		{[]string{"fund", strings.ToLower(somebody), "1"}, cli.Usage, "", "checksum"},
		{[]string{"fund", somebody, "1000001"}, cli.Failed, "", "insufficient"},
	} {
		stdout, stderr, code := run(t, append(c.args, "--chain", url)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q: exit %d, %q, %q; want %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
	}
}
