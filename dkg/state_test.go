package dkg_test

import (
	"os"
	"strings"
	"testing"

	"coffer/dkg"
	"coffer/party"
	"coffer/signing"
)

// The moves as a person would say them, apart from the table that the code obeys.
var forward = []dkg.State{
	dkg.StateNonces, dkg.StateCommit, dkg.StateReveal, dkg.StateKeygen, dkg.StateConfirm,
	dkg.StateStore, dkg.StateChallenge, dkg.StateProved, dkg.StateRecord, dkg.StateDone,
}

func TestEveryPairOfStates(t *testing.T) {
	all := append(append([]dkg.State{}, forward...), dkg.StateFailed)
	// A ceremony that finishes an earlier one has nothing left to do but to sign.
	legal := map[[2]dkg.State]bool{{dkg.StateNonces, dkg.StateRecord}: true}
	for i, s := range forward[:len(forward)-1] {
		legal[[2]dkg.State{s, forward[i+1]}] = true
		legal[[2]dkg.State{s, dkg.StateFailed}] = true
	}
	if n := len(dkg.Table()); n != len(all) {
		t.Fatalf("the table has %d states, want %d", n, len(all))
	}
	for _, from := range all {
		for _, to := range all {
			want := legal[[2]dkg.State{from, to}]
			if got := dkg.Legal(from, to); got != want {
				t.Errorf("%s to %s: legal is %t, want %t", from, to, got, want)
			}
			g := newGroup(t, party.Quorum{Need: 2, Of: 2})
			c, err := dkg.Begin(g.config("alice"), g.terms)
			if err != nil {
				t.Fatal(err)
			}
			c.Ready()
			state, ok := dkg.Move(c, from, to)
			switch {
			case ok != want:
				t.Errorf("%s to %s: moved is %t, want %t", from, to, ok, want)
			case ok && state != to:
				t.Errorf("%s to %s: it is at %s", from, to, state)
			case !ok && from != dkg.StateDone && (state != dkg.StateFailed):
				t.Errorf("%s to %s: an illegal move leaves it at %s", from, to, state)
			case !ok && from == dkg.StateDone && state != dkg.StateDone:
				t.Errorf("%s to %s: a done ceremony is at %s", from, to, state)
			case !ok && from != dkg.StateDone && from != dkg.StateFailed && c.Fault().Code != signing.CodeEngine:
				t.Errorf("%s to %s: fault %v", from, to, c.Fault())
			}
		}
	}
}

// docs/dkg.md prints the table; -update rewrites the part between the marks.
func TestDocument(t *testing.T) {
	const path, begin, end = "../docs/dkg.md", "<!-- states -->\n", "<!-- /states -->"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks %q and %q", path, begin, end)
	}
	var b strings.Builder
	b.WriteString("| state | waits for | on disk | next |\n|---|---|---|---|\n")
	for _, r := range dkg.Table() {
		var next []string
		for _, s := range r.Next {
			next = append(next, string(s))
		}
		if len(next) == 0 {
			next = []string{"(end)"}
		}
		b.WriteString("| " + string(r.State) + " | " + r.Waits + " | " + r.Disk + " | " + strings.Join(next, ", ") + " |\n")
	}
	want := head + begin + b.String() + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(raw) != want {
		t.Errorf("%s does not print the table of state.go; run go test ./dkg -run TestDocument -update", path)
	}
}
