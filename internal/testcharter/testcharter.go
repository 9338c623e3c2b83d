package testcharter

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
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
	"coffer/policy"
)

// Names and addresses in the charter.
const (
	Chain    = "dev"
	ChainID  = 1337
	Wallet   = "treasury"
	List     = "suppliers"
	Supplier = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" // on the list
	Second   = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359" // on the list
	Stranger = "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb" // on no list
	USDC     = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB" // the token's contract
	Now      = 1_800_000_000                                // a time for tests
)

// Fixture is the charter and all the private keys behind it.
type Fixture struct {
	Charter     *charter.Charter
	File        *charter.File // signed by every signer, with all cards
	Signers     map[party.ID]*identity.Key
	Coordinator *identity.Key
	People      map[string]credential.Signer // the first key of each
	Spare       map[string]credential.Signer // second keys that are enrolled: bob's and carol's
	Services    map[string]credential.Signer
}

// SSH is a signer for a fixed Ed25519 key of any name, enrolled or not.
func SSH(t testing.TB, name string) credential.Signer {
	t.Helper()
	return wrap(t, ed25519.NewKeyFromSeed(seed("ssh "+name)))
}

// KeyFile is SSH's private key as a file, for programs that open one.
func KeyFile(t testing.TB, name string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(ed25519.NewKeyFromSeed(seed("ssh "+name)), name)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// P256 is the same with ECDSA.
func P256(t testing.TB, name string) credential.Signer {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("p256 "+name))
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, k)
}

func wrap(t testing.TB, secret any) credential.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	out, err := credential.NewSigner(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Identity is a fixed identity key of any name, listed or not.
func Identity(t testing.TB, name string) *identity.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed("identity " + name)))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.key")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := identity.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seed(name string) []byte {
	s := sha256.Sum256([]byte("coffer test key: " + name))
	return s[:]
}

// New makes the charter, after edits if there are any, and signs it with every key.
func New(t testing.TB, edits ...func(*charter.Charter)) *Fixture {
	t.Helper()
	f := &Fixture{
		Signers:     map[party.ID]*identity.Key{"north": Identity(t, "north"), "south": Identity(t, "south"), "west": Identity(t, "west")},
		Coordinator: Identity(t, "desk"),
		People:      map[string]credential.Signer{"alice": SSH(t, "alice"), "bob": SSH(t, "bob"), "carol": SSH(t, "carol"), "dave": SSH(t, "dave")},
		Spare:       map[string]credential.Signer{"bob": P256(t, "bob"), "carol": SSH(t, "carol's second")},
		Services:    map[string]credential.Signer{"payroll": SSH(t, "payroll")},
	}
	approvers := []string{"approvers", "treasury"}
	keys := func(name string) []credential.Key {
		out := []credential.Key{f.People[name].Key()}
		if spare, ok := f.Spare[name]; ok {
			out = append(out, spare.Key())
		}
		return out
	}
	c := &charter.Charter{
		Name: "test", Cluster: canon.Sum([]byte("coffer test cluster")), Version: 1,
		Organisations: []string{"auditor", "custodian", "exchange"},
		Signers: []charter.Signer{
			{Name: "north", Org: "exchange", Peer: f.Signers["north"].ID()},
			{Name: "south", Org: "custodian", Peer: f.Signers["south"].ID()},
			{Name: "west", Org: "auditor", Peer: f.Signers["west"].ID()},
		},
		Coordinators: []charter.Coordinator{{Name: "desk", Org: "exchange", Peer: f.Coordinator.ID()}},
		People: []charter.Person{
			{Name: "alice", Org: "exchange", Groups: approvers, Keys: keys("alice")},
			{Name: "bob", Org: "custodian", Groups: approvers, Keys: keys("bob")},
			{Name: "carol", Org: "auditor", Groups: approvers, Keys: keys("carol")},
			{Name: "dave", Org: "exchange", Groups: []string{"initiators"}, Keys: keys("dave")},
		},
		Services: []charter.Service{{Name: "payroll", Org: "exchange", Key: f.Services["payroll"].Key()}},
		Chains:   []charter.Chain{{Name: Chain, Kind: "evm", ChainID: ChainID}},
		Assets: []charter.Asset{
			{Symbol: "ETH", Chain: Chain, Decimals: 18},
			{Symbol: "USDC", Chain: Chain, Contract: USDC, Decimals: 6},
		},
		Destinations: []charter.DestinationList{{Name: List, Entries: []policy.Destination{
			{Chain: Chain, Address: Supplier, Label: "coffee supplier"},
			{Chain: Chain, Address: Second, Label: "tea supplier"},
		}}},
		Quorum: party.Quorum{Need: 2, Of: 3},
		Rules: []policy.Rule{
			{
				Name: "payments", When: `intent.kind == "transfer" && intent.wallet == "treasury"`,
				MaxAmount: []string{"2 ETH", "5000 USDC"}, FeeCap: "0.01 ETH", Destinations: []string{List},
				Approvals: []policy.Requirement{{Group: "approvers", K: 2, Orgs: 2}},
			},
			{
				Name: "cancels", When: `intent.kind == "cancel"`, FeeCap: "0.02 ETH",
				Approvals: []policy.Requirement{{Group: "approvers", K: 1}},
			},
			{
				Name: "wallets", When: `intent.kind == "create_wallet"`,
				Approvals: []policy.Requirement{{Group: "approvers", K: 2, Orgs: 2}},
			},
			{
				Name: "machines-make-no-wallets", When: `intent.kind == "create_wallet" && intent.initiator_is_service`,
				Deny: "only people ask for wallets",
			},
		},
		Admin: charter.AdminRule{Group: "treasury", K: 2, Orgs: 2},
	}
	for _, edit := range edits {
		edit(c)
	}
	f.seal(t, c)
	return f
}
