package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cli"
	"coffer/internal/cluster"
	"coffer/party"
)

// bare is a desk that joined a charter without signatures.
func bareDesk(t *testing.T, w *cluster.Treasury, addr string) *desk {
	t.Helper()
	bare := w.File.Clone()
	bare.Signatures = nil
	return newDesk(t, bare, addr)
}

// Whoever pinned a charter before the operators signed it gets their signatures from
// the coordinator, and until all are there, and verify, does nothing under it.
func TestJoinBeforeOperatorsSigned(t *testing.T) {
	t.Parallel()
	w := cluster.NewTreasury(t, func(c *cluster.Config) { c.Strangers = true })
	d := bareDesk(t, w, "")
	path := filepath.Join(d.home, "charter.json")
	w.Members["b"].Launch(true)
	w.Eventually("coffer waits for the two others", func() bool {
		r := d.run("alice", "wallet", "list")
		return r.code == cli.Waiting && strings.Contains(r.stderr, "of a, c;")
	})
	if r := d.run("alice", "wallet", "create", "treasury", "--ref", "W-1"); r.code != cli.Waiting {
		t.Errorf("a request under an incomplete charter: exit %d: %s", r.code, r.stderr)
	}
	w.Members["a"].Launch(true)
	w.Members["c"].Launch(true)
	w.Eventually("coffer has all signatures", func() bool { return d.run("alice", "wallet", "list").code == cli.Done })
	if _, _, err := charter.Open(path, w.Charter.Digest()); err != nil {
		t.Error(err)
	}
	// They are kept: neither another join with the bare file nor a coordinator that is away matters.
	w.StopDesk()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d.must("", "join", d.vars["CHARTER"], "--digest", d.vars["DIGEST"])
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("joining again changed the file: %v", err)
	}
	d.must("", "charter", "show")
}

// A coordinator that hands out another charter or forged signatures is caught, and
// nothing of it is kept.
func TestLyingCharter(t *testing.T) {
	t.Parallel()
	w := cluster.NewTreasury(t)
	raw := func(change func(*charter.File)) []byte {
		t.Helper()
		before, err := w.File.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		f, err := charter.ParseFile(before)
		if err != nil {
			t.Fatal(err)
		}
		change(f)
		out, err := f.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, lie := range map[string]struct {
		file []byte
		code int
		says string
	}{
		"no file": {nil, cli.Failed, "cannot be read"},
		"junk":    {[]byte("{}"), cli.Failed, "cannot be read"},
		"another charter": {raw(func(f *charter.File) { f.Charter.Name = "another" }), cli.Refused,
			"you pinned " + w.Charter.Digest().String()},
		"a signature of b as c's": {raw(func(f *charter.File) { f.Signatures[2].Signature = f.Signatures[1].Signature }), cli.Refused, `"c"`},
		"a signature of a stranger": {raw(func(f *charter.File) {
			f.Signatures = append(f.Signatures, charter.Signature{Signer: party.ID("mallory"), Signature: f.Signatures[0].Signature})
		}), cli.Refused, `"mallory"`},
		"one missing": {raw(func(f *charter.File) { f.Signatures = f.Signatures[:2] }), cli.Waiting, "of c;"},
	} {
		l := &liar{honest: w.API, charter: lie.file}
		d := bareDesk(t, w, l.serve(t, w))
		before, err := os.ReadFile(filepath.Join(d.home, "charter.json"))
		if err != nil {
			t.Fatal(err)
		}
		if r := d.run("alice", "wallet", "list"); r.code != lie.code || !strings.Contains(r.stderr, lie.says) {
			t.Errorf("%s: exit %d: %s", name, r.code, r.stderr)
		}
		after, err := os.ReadFile(filepath.Join(d.home, "charter.json"))
		if err != nil || canon.Sum(after) != canon.Sum(before) {
			t.Errorf("%s: something of it was kept (%v)", name, err)
		}
	}
}
