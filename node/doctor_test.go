package node_test

import (
	"os"
	"strings"
	"testing"

	"coffer/internal/cluster"
	"coffer/node"
	pb "coffer/proto/coffer/v1"
)

// finds demands a finding of a level about a subject whose words have a part.
func finds(t *testing.T, findings []*pb.Finding, level pb.Level, subject, part string) {
	t.Helper()
	for _, f := range findings {
		if f.Level == level && f.Subject == subject && strings.Contains(f.Text+"\n"+f.Remedy, part) {
			return
		}
	}
	t.Errorf("no finding %s of %s with %q among %v", level, subject, part, findings)
}

func TestDoctor(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
	a := w.Members["a"]
	ask := func() []*pb.Finding {
		t.Helper()
		reply, err := a.Operator().Doctor(t.Context(), &pb.DoctorRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range reply.Findings {
			if (f.Level == pb.Level_LEVEL_OK) != (f.Remedy == "") || f.Text == "" || f.Subject == "" {
				t.Errorf("%v: a remedy for what is not well, and only for that", f)
			}
		}
		return reply.Findings
	}
	const ok, warn, fail = pb.Level_LEVEL_OK, pb.Level_LEVEL_WARN, pb.Level_LEVEL_FAIL
	well := ask()
	for _, f := range well {
		if f.Level == fail {
			t.Errorf("a new signer: %v", f)
		}
	}
	for subject, part := range map[string]string{
		"signer": "a runs", "seal": "unsealed", "peer b": "connected", "coordinator": "asks", "primes": "1 of 1", "writes": "take them", "files": "nobody else's",
	} {
		finds(t, well, ok, subject, part)
	}
	finds(t, well, warn, "monitoring", "metrics_listen")

	w.Net.Cut("a", "b")
	finds(t, ask(), warn, "peer b", "not connected")
	w.Net.Cut("a", "c")
	finds(t, ask(), fail, "peer c", "ask its operator")
	if _, err := a.Operator().Seal(t.Context(), &pb.SealRequest{}); err != nil {
		t.Fatal(err)
	}
	finds(t, ask(), fail, "seal", "coffer-signer unseal")
	if err := os.Chmod(a.Dir.Store(), 0o660); err != nil {
		t.Fatal(err)
	}
	finds(t, ask(), fail, "files", "chmod 0600 "+a.Dir.Store())
	if err := os.Chmod(a.Dir.Store(), 0o600); err != nil {
		t.Fatal(err)
	}

	// Stopped, it is looked at from outside.
	a.Stop()
	down := node.Doctor(a.Dir)
	finds(t, down, fail, "signer", "coffer-signer run")
	finds(t, down, ok, "charter", "signed by every operator")
	finds(t, down, ok, "audit", "none changed")
	raw, err := os.ReadFile(a.Dir.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.Dir.Pin()); err != nil {
		t.Fatal(err)
	}
	finds(t, node.Doctor(a.Dir), fail, "charter", "join")
	if err := os.WriteFile(a.Dir.Pin(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(a.Dir.SealFile(), a.Dir.SealFile()+".away"); err != nil {
		t.Fatal(err)
	}
	finds(t, node.Doctor(a.Dir), fail, "files", "seal.age is missing")
	if err := os.Rename(a.Dir.SealFile()+".away", a.Dir.SealFile()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.Dir.Config(), []byte(`{"name":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	finds(t, node.Doctor(a.Dir), fail, "settings", "docs/configuration.md")
}

// One that never ran is not ill for that.
func TestDoctorOfNew(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
	d := w.Members["a"].Dir
	w.Members["a"].Stop()
	if err := os.RemoveAll(d.Audit()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Audit(), 0o700); err != nil {
		t.Fatal(err)
	}
	finds(t, node.Doctor(d), pb.Level_LEVEL_OK, "audit", "never run")
}
