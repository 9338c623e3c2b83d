package signing_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/party"
	"coffer/signing"
)

func TestGolden(t *testing.T) {
	digest := func(s string) canon.Digest { return canon.Sum([]byte(s)) }
	scope := signing.Scope{Cluster: cluster, Wallet: "treasury", Epoch: 1, Path: signing.RootPath, Signers: party.Set{"alice", "carol"}, Attempt: attempt}
	run, session := scope.Run(), scope.Session([][32]byte{digest("nonce of alice"), digest("nonce of carol")})
	var out strings.Builder
	line := func(name string, b []byte) { out.WriteString(name + " " + hex.EncodeToString(b) + "\n") }
	line("run-id", run[:])
	line("session-id", session[:])
	line("nonce", signing.Nonce{Run: run, Value: digest("nonce of alice")}.Encode())
	line("binding", signing.Binding{Session: session, Intent: digest("intent"), Charter: digest("charter"), Transaction: digest("transaction")}.Encode())
	line("abort", signing.Abort{Run: run, Code: "TIMEOUT"}.Encode())
	const path = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("encodings changed:\n%s\nwant:\n%s", out.String(), want)
	}
}

// Each part of the scope, and each nonce and its order, changes the session ID.
func TestSessionIDBindsEverything(t *testing.T) {
	base := signing.Scope{Cluster: cluster, Wallet: "treasury", Epoch: 1, Path: "m", Signers: party.Set{"alice", "bob"}, Attempt: attempt}
	one, two := [32]byte{1}, [32]byte{2}
	seen := map[canon.Digest]string{}
	add := func(name string, d canon.Digest) {
		if old, ok := seen[d]; ok {
			t.Errorf("%s has the ID of %s", name, old)
		}
		seen[d] = name
	}
	for name, change := range map[string]func(*signing.Scope){
		"base":    func(*signing.Scope) {},
		"cluster": func(s *signing.Scope) { s.Cluster = attempt },
		"wallet":  func(s *signing.Scope) { s.Wallet = "savings" },
		"epoch":   func(s *signing.Scope) { s.Epoch = 2 },
		"path":    func(s *signing.Scope) { s.Path = "m/0" },
		"signers": func(s *signing.Scope) { s.Signers = party.Set{"alice", "carol"} },
		"attempt": func(s *signing.Scope) { s.Attempt = cluster },
	} {
		s := base
		change(&s)
		add("session of "+name, s.Session([][32]byte{one, two}))
		add("run of "+name, s.Run())
	}
	add("other nonce", base.Session([][32]byte{one, one}))
	add("other order", base.Session([][32]byte{two, one}))
}

func TestAbortCodeFits(t *testing.T) {
	for code, want := range map[string]string{
		"G-POLICY": "G-POLICY", "no such": "_______", "": "", strings.Repeat("A", 100): strings.Repeat("A", 64), "Ä": "_",
	} {
		a, err := signing.ParseAbort(signing.Abort{Run: cluster, Code: code}.Encode())
		if err != nil || a.Code != want {
			t.Errorf("code %q became %q, %v", code, a.Code, err)
		}
	}
	if _, err := signing.ParseAbort(canon.New("coffer/abort/v1").Digest(cluster).String("\x1b[31m").Encoded()); err == nil {
		t.Error("a code with control characters was taken from a peer")
	}
}

func FuzzParseNonce(f *testing.F) {
	f.Add(signing.Nonce{Run: cluster, Value: [32]byte{1}}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := signing.ParseNonce(raw); err == nil && !bytes.Equal(v.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func FuzzParseBinding(f *testing.F) {
	f.Add(signing.Binding{Session: cluster, Intent: attempt}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := signing.ParseBinding(raw); err == nil && !bytes.Equal(v.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func FuzzParseAbort(f *testing.F) {
	f.Add(signing.Abort{Run: cluster, Code: "TIMEOUT"}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := signing.ParseAbort(raw); err == nil && !bytes.Equal(v.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}
