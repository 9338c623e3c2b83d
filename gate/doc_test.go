package gate_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/gate"
	"coffer/internal/testcharter"
)

var update = flag.Bool("update", false, "write the tables of docs/ anew")

// The table in the documents is the table in the code.
func TestChecksAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The checks of the gate\n\nA signer decides by this table, top to bottom (`gate/checks.go`). The first refusal ends it;\n" +
		"a check that waits (missing approvals, a time to come) lets the rest speak and permits nothing.\n" +
		"`make mutants` disables each check and demands that `TestCheck/<ID>` fails.\n" +
		"This page is written by `go test ./gate -run Documented -update`.\n\n" +
		"| ID | code | for | passes when |\n|---|---|---|---|\n")
	seen := map[string]bool{}
	for _, r := range gate.Rows() {
		if seen[r.ID] || r.Doc == "" || r.Code == "" || r.When == "" {
			t.Errorf("row %+v is incomplete or stands twice", r)
		}
		seen[r.ID] = true
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.ID, r.Code, r.When, r.Doc)
	}
	b.WriteString("\nThe codes of G-POLICY and G-APPROVALS are those of package policy where a rule gives the reason.\n")
	compare(t, filepath.Join("..", "docs", "gate.md"), b.String())
}

func TestChallengeGolden(t *testing.T) {
	f := testcharter.New(t)
	w, _ := f.Wallet("treasury")
	w.Charter = canon.Sum([]byte("a charter")) // the vector does not move with the fixture's charter
	a := gate.Challenge(canon.Sum([]byte("a session")), w, canon.Sum([]byte("a ceremony")))
	digest := a.SigningDigest()
	compare(t, filepath.Join("testdata", "challenge.txt"), hex.EncodeToString(digest[:])+"\n")
}

func compare(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not current; run go test ./gate -update and look at the difference", path)
	}
}
