package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/authority"
	"coffer/canon"
	"coffer/internal/cli"
	"coffer/internal/cluster"
)

func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk bytes.Buffer
	code = cli.Run(t.Context(), command(), args, &out, &talk)
	return code, out.String(), talk.String()
}

// want runs a command and demands its exit code and a text in what it prints.
func want(t *testing.T, code int, says string, args ...string) (stdout string) {
	t.Helper()
	got, stdout, stderr := run(t, args...)
	if got != code || !strings.Contains(stdout+stderr, says) {
		t.Errorf("%s: exit %d, want %d with %q\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, says, stdout, stderr)
	}
	return stdout
}

// object demands that a command prints one JSON object and nothing else to stdout.
func object(t *testing.T, args ...string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := json.Unmarshal([]byte(want(t, cli.Done, "", append(args, "--json")...)), &v); err != nil {
		t.Errorf("%s: %v", strings.Join(args, " "), err)
	}
	return v
}

func TestCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	pass := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(pass, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := func(more ...string) []string {
		return append([]string{
			"init", "--dir", dir, "--name", "a", "--org", "exchange", "--passphrase-file", pass,
			"--listen-peers", "/ip4/127.0.0.1/tcp/7001", "--listen-coordinator", "127.0.0.1:7101",
		}, more...)
	}
	want(t, cli.Usage, "--dir is missing", "init")
	want(t, cli.Usage, "did you mean coffer-signer init?", "int", "--dir", dir)
	want(t, cli.Usage, "name: ", flags("--name", "A")...)
	want(t, cli.Usage, "announce_coordinator: 0.0.0.0:7101", flags("--listen-coordinator", "0.0.0.0:7101")...)
	want(t, cli.Usage, "listen_peers", flags("--listen-peers", "nowhere")...)
	want(t, cli.Failed, "no such file", flags("--passphrase-file", pass+"x")...)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatal("a refused init made its directory")
	}
	for _, command := range []string{"card", "validate", "run", "status", "pending", "seal", "address"} {
		want(t, cli.Failed, "coffer-signer init --dir "+dir, command, "--dir", dir)
	}
	want(t, cli.Failed, "has init been run", "audit", "--dir", dir)
	card := strings.TrimSpace(want(t, cli.Done, "coffer-card-v1:", flags()...))
	want(t, cli.Failed, "not empty", flags()...)
	if again := object(t, "card", "--dir", dir)["card"]; again != card {
		t.Errorf("the card is %v, was %q", again, card)
	}
	want(t, cli.Failed, "coffer-signer join", "validate", "--dir", dir)
	want(t, cli.Failed, "coffer-signer run", "status", "--dir", dir)
	want(t, cli.Failed, "no such file", "join", dir+"/none", "--dir", dir)

	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(raw, []byte(`"pre_parameters"`), []byte(`"preparameters"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"validate", "run", "card", "status"} {
		want(t, cli.Usage, `unknown key "preparameters": did you mean "pre_parameters"?`, command, "--dir", dir)
	}
	_, _, stderr := run(t, "validate", "--dir", dir, "--json")
	var f cli.Failure
	if err := json.Unmarshal([]byte(stderr), &f); err != nil || f.Exit != cli.Usage || !strings.Contains(f.Hint, "docs/configuration.md") {
		t.Errorf("%v: %+v in %s", err, f, stderr)
	}
}

// A running signer's operator: what it shows in words and as JSON.
func TestOperator(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	a := w.Members["a"]
	dir := string(a.Dir)
	want(t, cli.Done, "peer        b  connected", "status", "--dir", dir)
	want(t, cli.Done, "settings and charter are valid", "validate", "--dir", dir)
	want(t, cli.Done, "none changed", "audit", "--dir", dir)
	if v := object(t, "status", "--dir", dir); v["signer"] != "a" {
		t.Errorf("status: %v", v)
	}
	if v := object(t, "validate", "--dir", dir); v["valid"] != true {
		t.Errorf("validate: %v", v)
	}
	if v := object(t, "audit", "--dir", dir); v["entries"] == nil {
		t.Errorf("audit: %v", v)
	}
	object(t, "pending", "--dir", dir)
	object(t, "address", "--dir", dir)

	if v := object(t, "seal", "--dir", dir); v["sealed"] != true {
		t.Errorf("seal: %v", v)
	}
	want(t, cli.Done, "SEALED: run coffer-signer unseal", "status", "--dir", dir)
	secret := func(text string) string {
		path := filepath.Join(t.TempDir(), "passphrase")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	want(t, cli.Refused, "passphrase", "unseal", "--dir", dir, "--passphrase-file", secret("wrong passphrase"))
	if v := object(t, "unseal", "--dir", dir, "--passphrase-file", secret(cluster.Passphrase)); v["sealed"] != false {
		t.Errorf("unseal: %v", v)
	}
	want(t, cli.Done, "shares      unsealed", "status", "--dir", dir)
}

// The operator of a signer hands in records as coffer prints them.
func TestRecords(t *testing.T) {
	w := cluster.NewTreasury(t)
	f, now := w.Fixture(), time.Now().Unix()
	dir := string(w.Members["a"].Dir)
	file := func(v any) string {
		path := filepath.Join(t.TempDir(), "records.json")
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	second := f.FreezeRecord(t, "alice", authority.ScopePerson, "bob", now, 2)
	want(t, cli.Done, "taken: freeze "+first.ID().Short(), "records", "--dir", dir, file(map[string]any{"id": first.ID(), "record": first.Line()}))
	export := w.File.Clone()
	export.Records = [][]byte{first.Encode(), second.Encode()}
	want(t, cli.Done, "taken: freeze "+second.ID().Short(), "records", "--dir", dir, file(export))
	want(t, cli.Failed, "records.json: charter file", "records", "--dir", dir, file(map[string]any{"amount": 9}))
	lift := f.UnfreezeRecord(t, w.Charter, now, authority.SortDigests([]canon.Digest{first.ID(), second.ID()}), "bob", "carol")
	want(t, cli.Done, "nothing is frozen", "unfreeze", "--dir", dir, file(map[string]any{"record": lift.Line()}))
}

// In an emergency no letter of the reason is in the way.
func TestFreezeReason(t *testing.T) {
	w := cluster.NewTreasury(t)
	dir := string(w.Members["a"].Dir)
	want(t, cli.Usage, "--reason is missing", "freeze", "--dir", dir)
	want(t, cli.Done, "effective", "freeze", "--reason", "Schlüssel gestohlen – Büro\n"+strings.Repeat("z", authority.MaxReason), "--dir", dir)
	id := strings.TrimSpace(want(t, cli.Done, "effective", "freeze", "--reason", "twice", "--person", "bob", "--dir", dir))
	v := object(t, "status", "--dir", dir)
	if v["charter_digest"] != w.Charter.Digest().String() || v["root_digest"] != w.Charter.Digest().String() {
		t.Errorf("digests of the charter: %v, %v", v["charter_digest"], v["root_digest"])
	}
	if freezes, ok := v["freezes"].([]any); !ok || len(freezes) != 2 || !slices.ContainsFunc(freezes, func(f any) bool { return f.(map[string]any)["id"] == id }) {
		t.Errorf("%s is not among %v", id, v["freezes"])
	}
	want(t, cli.Done, ": Schluessel gestohlen - Buero zzz", "status", "--dir", dir)
}
