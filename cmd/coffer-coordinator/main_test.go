package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"coffer/coordinator"
	"coffer/internal/cli"
	"coffer/internal/cluster"
)

func run(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, talk bytes.Buffer
	code = cli.Run(ctx, command(), args, &out, &talk)
	return code, out.String(), talk.String()
}

func want(t *testing.T, code int, says string, args ...string) (stdout string) {
	t.Helper()
	got, stdout, stderr := run(t.Context(), args...)
	if got != code || !strings.Contains(stdout+stderr, says) {
		t.Errorf("%s: exit %d, want %d with %q\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, says, stdout, stderr)
	}
	return stdout
}

func TestCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desk")
	want(t, cli.Usage, "--dir is missing", "init")
	want(t, cli.Usage, "name", "init", "--dir", dir, "--org", "exchange")
	want(t, cli.Usage, "listen", "init", "--dir", dir, "--name", "desk", "--org", "exchange", "--listen", "nowhere")
	want(t, cli.Usage, "chains.dev", "init", "--dir", dir, "--name", "desk", "--org", "exchange", "--chain", "dev=ipc:/x")
	for says, flags := range map[string][]string{
		"chains.dev.bump_after": {"--chain", "dev=http://x", "--bump-after", "dev=1ms"},
		"write it as 90s":       {"--chain", "dev=http://x", "--bump-after", "dev=soon"},
		"--bump-after main":     {"--chain", "dev=http://x", "--bump-after", "main=1m"},
		"--confirmations main":  {"--chain", "dev=http://x", "--confirmations", "main=3"},
		"--confirmations dev":   {"--chain", "dev=http://x", "--confirmations", "dev=0"},
	} {
		want(t, cli.Usage, says, append([]string{"init", "--dir", dir, "--name", "desk", "--org", "exchange"}, flags...)...)
	}
	other := filepath.Join(t.TempDir(), "desk")
	want(t, cli.Done, "coffer-card-v1:", "init", "--dir", other, "--name", "desk", "--org", "exchange",
		"--chain", "dev=http://x", "--confirmations", "dev=3", "--bump-after", "dev=90s")
	if s, err := coordinator.Dir(other).LoadSettings(); err != nil || !reflect.DeepEqual(s.Chains, map[string]coordinator.ChainSettings{
		"dev": {URL: "http://x", Confirmations: 3, BumpAfter: coordinator.Duration(90 * time.Second)},
	}) {
		t.Errorf("settings %+v, %v", s, err)
	}
	want(t, cli.Failed, "coffer-coordinator init", "validate", "--dir", dir)
	card := want(t, cli.Done, "coffer-card-v1:", "init", "--dir", dir, "--name", "desk", "--org", "exchange")
	if again := want(t, cli.Done, "coffer-card-v1:", "card", "--dir", dir); again != card {
		t.Errorf("the card is %q, was %q", again, card)
	}
	var v struct{ Card string }
	if err := json.Unmarshal([]byte(want(t, cli.Done, "card", "card", "--dir", dir, "--json")), &v); err != nil || v.Card != strings.TrimSpace(card) {
		t.Errorf("%v: %q", err, v.Card)
	}
	want(t, cli.Failed, "not empty", "init", "--dir", dir, "--name", "desk", "--org", "exchange")
	want(t, cli.Failed, "coffer charter init", "validate", "--dir", dir)
	want(t, cli.Usage, "--dir is missing", "validate", "--json")
	edit := func(old, by string) {
		t.Helper()
		path := filepath.Join(dir, "config.json")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(raw, []byte(old), []byte(by), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(`"listen"`, `"lisen"`)
	for _, command := range []string{"validate", "run", "status", "card"} {
		want(t, cli.Usage, `unknown key "lisen": did you mean "listen"?`, command, "--dir", dir)
	}
	edit(`"lisen": "`, `"listen": "x`)
	edit(`"organisation"`, `"name"`)
	want(t, cli.Usage, `{"error":"settings `+filepath.Join(dir, "config.json")+`: key \"name\" stands twice`, "validate", "--dir", dir, "--json")
}

// The installed coordinator of a cluster runs, says where, and shows its signers.
func TestRun(t *testing.T) {
	w := cluster.NewTreasury(t)
	dir := string(w.Desk)
	want(t, cli.Done, "settings and charter are valid", "validate", "--dir", dir)
	want(t, cli.Done, `"valid": true`, "validate", "--dir", dir, "--json")
	want(t, cli.Failed, "is in use", "run", "--dir", dir)
	w.StopDesk()
	want(t, cli.Failed, "no coordinator answers", "status", "--dir", dir)

	ctx, cancel := context.WithCancel(t.Context())
	r, stdout := io.Pipe()
	done := make(chan int, 1)
	go func() {
		var stderr bytes.Buffer
		done <- cli.Run(ctx, command(), []string{"run", "--dir", dir, "--json"}, stdout, &stderr)
		stdout.Close()
	}()
	var ready struct{ Ready string }
	if err := json.NewDecoder(r).Decode(&ready); err != nil || ready.Ready == "" {
		t.Fatalf("%v: %+v", err, ready)
	}
	w.Members["c"].Stop()
	w.Eventually("the status shows who is away", func() bool {
		code, out, _ := run(t.Context(), "status", "--dir", dir)
		return code == cli.Done && strings.Contains(out, "a            ready") && strings.Contains(out, "c            AWAY")
	})
	want(t, cli.Done, `"reachable": false`, "status", "--dir", dir, "--json")
	cancel()
	if code := <-done; code != cli.Done {
		t.Errorf("after its context ended run exits with %d", code)
	}
}
