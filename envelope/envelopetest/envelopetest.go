package envelopetest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"coffer/canon"
	"coffer/envelope"
	"coffer/identity"
	"coffer/party"
)

var keys sync.Map // of party.ID to *identity.Key: a test makes thousands of groups

// Key is the identity that belongs to a name, the same in every run.
func Key(t testing.TB, name party.ID) *identity.Key {
	t.Helper()
	if k, ok := keys.Load(name); ok {
		return k.(*identity.Key)
	}
	seed := canon.New("coffer/test-identity").String(string(name)).Sum()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.key")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := identity.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	keys.Store(name, k)
	return k
}

// Flight is an envelope under way.
type Flight struct {
	From, To party.ID
	Raw      []byte
}

// Kind is the kind that the envelope says, or "?" when it does not parse.
func (f Flight) Kind() string {
	e, err := envelope.Parse(f.Raw)
	if err != nil {
		return "?"
	}
	return e.Kind
}

// Air holds what was sent and not yet delivered, in order of sending.
type Air struct{ flights []Flight }

// Add puts what from sends into the air.
func (a *Air) Add(from party.ID, out ...envelope.Outbound) {
	for _, o := range out {
		a.flights = append(a.flights, Flight{from, o.To, bytes.Clone(o.Raw)})
	}
}

// Len is how many flights are under way.
func (a *Air) Len() int { return len(a.flights) }

// Take removes and returns the i-th flight.
func (a *Air) Take(i int) Flight {
	f := a.flights[i]
	a.flights = slices.Delete(a.flights, i, i+1)
	return f
}

// Find is the index of the first flight of the link with this kind, any when empty; or -1.
func (a *Air) Find(from, to party.ID, kind string) int {
	return slices.IndexFunc(a.flights, func(f Flight) bool {
		return f.From == from && f.To == to && (kind == "" || kind == f.Kind())
	})
}

// At is the i-th flight, still under way.
func (a *Air) At(i int) *Flight { return &a.flights[i] }

// Faults are chances in percent, for each step of a schedule.
type Faults struct{ Duplicate, Drop, Tamper int }

// Next lets the schedule choose a flight to deliver; ok is false when it was dropped.
func (a *Air) Next(rng *rand.Rand, f Faults) (flight Flight, ok bool) {
	i := rng.IntN(len(a.flights))
	if rng.IntN(100) < f.Duplicate {
		flight = a.flights[i]
		flight.Raw = bytes.Clone(flight.Raw)
	} else {
		flight = a.Take(i)
	}
	if rng.IntN(100) < f.Tamper {
		flight.Raw[rng.IntN(len(flight.Raw))] ^= 1 << rng.IntN(8)
	}
	return flight, rng.IntN(100) >= f.Drop
}

// Script runs a file of commands and compares the answers with those recorded in
// it; with update it records them anew. A file is blocks of command lines, a line
// "----", the answer, and an empty line; lines that begin with # are comments.
func Script(t *testing.T, path string, update bool, do func(words []string) string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	inAnswer := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case inAnswer:
			if inAnswer = line != ""; !inAnswer {
				out.WriteString("\n")
			}
		case line == "----":
			inAnswer = true
		case line == "" || strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		default:
			answer := strings.TrimRight(do(strings.Fields(line)), "\n")
			if answer == "" {
				answer = "ok"
			}
			out.WriteString(line + "\n----\n" + answer + "\n")
		}
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(raw) {
		t.Errorf("%s: the trace is now (rewrite it with -update, then review the difference):\n%s", path, got)
	}
}
