package main

import (
	"bytes"
	"strings"
	"testing"
)

// A tool that finds no survivors is worth something only if it can find one.
func TestMutateTellsHeldFromLoose(t *testing.T) {
	var out bytes.Buffer
	bad, err := mutate(&out, "testdata/gate", false)
	if err != nil {
		t.Fatal(err)
	}
	if bad != 2 {
		t.Errorf("%d checks are not held, want 2\n%s", bad, out.String())
	}
	for id, want := range map[string]string{"G-HELD": "killed", "G-LOOSE": "SURVIVED", "G-UNTESTED": "NO TEST"} {
		found := false
		for line := range strings.Lines(out.String()) {
			found = found || strings.HasPrefix(line, id+" ") && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("%s is not reported as %q:\n%s", id, want, out.String())
		}
	}
}

func TestMutateRefusesAPackageWithoutChecks(t *testing.T) {
	if _, err := mutate(&bytes.Buffer{}, ".", false); err == nil {
		t.Error("a package without a table of checks passes")
	}
}
