//go:build e2e

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/internal/browser"
	"coffer/internal/cli"
	"coffer/internal/cluster"
)

// said is a terminal on which a page's address appears.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	url  chan string
}

var pageAddress = regexp.MustCompile(`http://localhost:\d+/[A-Za-z0-9_-]{43}/`)

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := pageAddress.Match(s.text.Bytes())
	s.text.Write(b)
	if u := pageAddress.Find(s.text.Bytes()); u != nil && !had {
		s.url <- string(u)
	}
	return len(b), nil
}

// paged runs coffer as a person who opens the page that it names.
func paged(t *testing.T, home, who string, args ...string) (url string, done <-chan result) {
	t.Helper()
	stderr, out := &said{url: make(chan string, 1)}, make(chan result, 1)
	go func() {
		var stdout bytes.Buffer
		code := cli.Run(t.Context(), command(), append([]string{"--home", home, "--as", who, "--passkey"}, args...), &stdout, stderr)
		stderr.mu.Lock()
		defer stderr.mu.Unlock()
		out <- result{code, stdout.String(), stderr.text.String()}
	}()
	select {
	case url = <-stderr.url:
	case r := <-out:
		t.Fatalf("coffer %s: exit %d without a page: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return url, out
}

// picture keeps what a person sees, where somebody wants to look at it.
func picture(t *testing.T, b *browser.Tab, name string) {
	t.Helper()
	dir := os.Getenv("COFFER_PICTURES")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b.Screenshot(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPasskey is a person's whole way with a passkey in Chromium: enrolled on one page,
// an intent read and approved on another, and another rejected, by keyboard alone.
func TestPasskey(t *testing.T) {
	b := browser.New(t)
	url, done := paged(t, t.TempDir(), "bob", "enrol", "--org", "exchange")
	b.Open(url)
	picture(t, b, "enrol")
	b.Press("make a passkey")
	b.Says("Done.")
	r := <-done
	if r.code != cli.Done || b.Passkeys() != 1 {
		t.Fatalf("exit %d, %d passkeys: %s", r.code, b.Passkeys(), r.stderr)
	}
	card, err := charter.ParseCard(strings.TrimSpace(r.stdout))
	if err != nil || card.Name != "bob" || card.Key.Kind != credential.KindWebAuthn || card.Key.RelyingParty() != "localhost" {
		t.Fatalf("%v: %+v", err, card)
	}

	w := cluster.NewTreasury(t, func(c *cluster.Config) { c.Cards = []string{strings.TrimSpace(r.stdout)} }).Fund()
	d := newDesk(t, w.File, "")
	url, done = paged(t, d.home, "bob", "login")
	b.Open(url)
	picture(t, b, "login")
	b.Press("log in")
	b.Says("Done.")
	if r := <-done; r.code != cli.Done || !strings.Contains(r.stdout, "bob may read") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	pay := func(ref string) string {
		return d.must("alice", "pay", "1.5", "ETH", cluster.Supplier, "--from", "treasury", "--ref", ref)
	}

	id := pay("INV-1")
	url, done = paged(t, d.home, "bob", "approve", id)
	b.Open(url)
	picture(t, b, "approve")
	text := b.Text()
	shown := d.must("bob", "show", id)
	for _, line := range strings.Split(shown, "\n") {
		label, value, ok := strings.Cut(line, "  ")
		value = strings.TrimSpace(value)
		// Times are relative to now; all else on the terminal is on the page.
		if ok && label != "from time" && label != "until" && !strings.Contains(text, value) {
			t.Errorf("the page does not say %q", line)
		}
	}
	for _, want := range []string{"1.5 ETH", cluster.Supplier, "coffee supplier", "signer a", "signer b", "signer c", "missing", id} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	// An authenticator that does not know who touches it signs nothing; the page lets one try again.
	b.Verified(false)
	b.Press("approve")
	b.Says("Nothing was signed.")
	picture(t, b, "again")
	b.Verified(true)
	b.Press("Try again")
	b.Says("Done.")
	if r := <-done; r.code != cli.Done || !strings.Contains(r.stdout, "approve "+id) {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if after := d.must("carol", "approve", id, "--yes"); !strings.Contains(after, id) {
		t.Fatal(after)
	}
	if r := d.run("carol", "show", id, "--wait", "--timeout", "60s"); r.code != cli.Done || !strings.Contains(r.stdout, "bob of exchange") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}

	id = pay("INV-2")
	url, done = paged(t, d.home, "bob", "approve", id)
	b.Open(url)
	b.Press("not now")
	b.Says("nothing was done")
	if r := <-done; r.code != cli.Refused {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	url, done = paged(t, d.home, "bob", "approve", id)
	b.Open(url)
	b.Press("reject")
	b.Says("Done.")
	picture(t, b, "rejected")
	if r := <-done; r.code != cli.Done || !strings.Contains(r.stdout, "reject "+id) {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := d.run("carol", "show", id, "--wait", "--timeout", "60s"); r.code == cli.Done || !strings.Contains(r.stdout+r.stderr, "reject") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
