package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"coffer/internal/cli"
	"coffer/internal/cluster"
)

// The doctor of a coordinator that runs, that lacks signers, that does not run, and
// whose files are open to others.
func TestDoctor(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	dir := string(w.Desk)
	out := want(t, cli.Done, "3 of 3 can sign", "doctor", "--dir", dir)
	for _, text := range []string{"signer a", "chain dev", "has money for fees", "none stuck", "nobody else's to read"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in\n%s", text, out)
		}
	}
	w.Members["b"].Stop()
	want(t, cli.Done, "2 of 3 can sign", "doctor", "--dir", dir)
	w.Members["c"].Stop()
	w.Gate.Fail("eth_getBlockByNumber", true)
	code, out, stderr := run(t.Context(), "doctor", "--dir", dir, "--json")
	var report struct {
		Well     bool
		Findings []struct{ Level, Subject, Text, Remedy string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != cli.Failed || report.Well {
		t.Fatalf("exit %d, %v: %s %s", code, err, out, stderr)
	}
	seen := map[string]string{}
	for _, f := range report.Findings {
		seen[f.Subject] = f.Level
		if (f.Level == "ok") != (f.Remedy == "") {
			t.Errorf("%+v: a remedy for what is not well, and only for that", f)
		}
	}
	if seen["signers"] != "fail" || seen["chain dev"] != "fail" || seen["signer b"] != "warn" || seen["writes"] != "ok" {
		t.Errorf("findings %v", report.Findings)
	}
	want(t, cli.Usage, "coffer-address-v1", "address", "nonsense", "--dir", dir)

	w.StopDesk()
	want(t, cli.Failed, "it does not run", "doctor", "--dir", dir)
	want(t, cli.Failed, "none changed", "doctor", "--dir", dir)
	if err := os.Chmod(w.Desk.Identity(), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, cli.Failed, "chmod 0600", "doctor", "--dir", dir)
}
