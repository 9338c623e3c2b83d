package charter_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
)

const (
	mill  = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	paper = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
	usdc  = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
	zero  = "0x0000000000000000000000000000000000000000"
)

const draftJSON = `{
  "name": "demo",
  "organisations": ["acme", "umbra"],
  "people": {
    "alice": {"groups": ["treasury", "admins"]},
    "bob":   {"groups": ["treasury", "admins"]},
    "carol": {"groups": ["treasury", "security", "admins"]}
  },
  "chains": [
    {"name": "sepolia", "kind": "evm", "chain_id": 11155111},
    {"name": "amoy", "kind": "evm", "chain_id": 80002}
  ],
  "assets": [
    {"symbol": "ETH", "chain": "sepolia", "decimals": 18},
    {"symbol": "USDC", "chain": "sepolia", "contract": "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "decimals": 6},
    {"symbol": "POL", "chain": "amoy", "decimals": 18}
  ],
  "destinations": [
    {"name": "suppliers", "entries": [
      {"chain": "sepolia", "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "label": "Paper mill"},
      {"chain": "sepolia", "address": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "label": "Ink works"}
    ]}
  ],
  "quorum": {"need": 2, "of": 3},
  "rules": [
    {"name": "payments", "max_amount": ["2 ETH", "5000 USDC"], "fee_cap": "0.01 ETH",
     "destinations": ["suppliers"], "approvals": [{"group": "treasury", "k": 2, "orgs": 2}], "keys": ["ssh"]},
    {"name": "large", "when": "intent.asset == \"ETH\" && intent.amount > amount(\"1 ETH\")",
     "approvals": [{"group": "security", "k": 1}]},
    {"name": "night", "when": "intent.wallet == \"cold\" && intent.initiator == \"erp\"", "deny": "services do not touch the cold wallet"}
  ],
  "admin": {"group": "admins", "k": 2, "orgs": 2}
}`

// seeded makes the same identity in every run, for golden vectors.
func seeded(t testing.TB, b byte) *identity.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(secret(b))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := identity.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func secret(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = b
	}
	return ed25519.NewKeyFromSeed(seed)
}

func signer(t testing.TB, b byte) credential.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(secret(b))
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewSigner(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a cluster of two organisations with everybody's keys.
type world struct {
	signers     map[party.ID]*identity.Key
	coordinator *identity.Key
	people      map[string]credential.Signer
	service     credential.Signer
	cards       []string
}

var orgs = map[string]string{"a": "acme", "b": "acme", "c": "umbra", "alice": "acme", "bob": "acme", "carol": "umbra"}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		signers:     map[party.ID]*identity.Key{"a": seeded(t, 1), "b": seeded(t, 2), "c": seeded(t, 3)},
		coordinator: seeded(t, 4),
		people:      map[string]credential.Signer{"alice": signer(t, 11), "bob": signer(t, 12), "carol": signer(t, 13)},
		service:     signer(t, 14),
	}
	add := func(line string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		w.cards = append(w.cards, line)
	}
	for _, id := range []party.ID{"a", "b", "c"} {
		add(charter.NewSignerCard(w.signers[id], id, orgs[string(id)], charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/4001"}, GRPC: "127.0.0.1:7001"}))
	}
	add(charter.NewCoordinatorCard(w.coordinator, "hub", "acme", "127.0.0.1:7000"))
	for _, name := range []string{"alice", "bob", "carol"} {
		add(charter.NewPersonCard(w.people[name], name, orgs[name]))
	}
	add(charter.NewServiceCard(w.service, "erp", "acme"))
	return w
}

func draft(t testing.TB) charter.Draft {
	t.Helper()
	var d charter.Draft
	if err := json.Unmarshal([]byte(draftJSON), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// file is an unsigned charter file with a fixed cluster, so that it is the same in every run.
func (w *world) file(t testing.TB) *charter.File {
	t.Helper()
	f, err := charter.Assemble(draft(t), w.cards)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Charter.Cluster {
		f.Charter.Cluster[i] = 0xc0
	}
	return f
}

func (w *world) signed(t testing.TB) *charter.File {
	t.Helper()
	f := w.file(t)
	for _, id := range []party.ID{"a", "b", "c"} {
		if err := f.Sign(w.signers[id]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Verify(); err != nil {
		t.Fatal(err)
	}
	return f
}

// save writes f as the product does and returns its path and digest.
func save(t testing.TB, f *charter.File) (string, canon.Digest) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "charter.json")
	if err := charter.WriteFile(path, f); err != nil {
		t.Fatal(err)
	}
	return path, f.Charter.Digest()
}

// marshal is a charter's own JSON.
func marshal(t testing.TB, c *charter.Charter) []byte {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
