package testcharter

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/sha3"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm/eip55"
	"coffer/credential"
	"coffer/intent"
	"coffer/party"
	"coffer/wallet"
)

// WalletKey is the private key of the fixture's wallets: a signature that a quorum
// would make can be made with it.
func WalletKey(name string) *secp256k1.PrivateKey {
	return secp256k1.PrivKeyFromBytes(seed("wallet " + name))
}

// Account is the address of that key.
func Account(name string) string {
	raw := WalletKey(name).PubKey().SerializeUncompressed()
	h := sha3.NewLegacyKeccak256()
	h.Write(raw[1:])
	return eip55.Format([20]byte(h.Sum(nil)[12:]))
}

// Wallet is the record of a wallet of all the fixture's signers, signed by all of them.
func (f *Fixture) Wallet(name string) (*wallet.Record, wallet.Signed) {
	r := &wallet.Record{
		Cluster: f.Charter.Cluster, Charter: f.Charter.Digest(), Name: name,
		ChainCode: canon.Sum([]byte("chain code of " + name)), Paths: wallet.RootOnly, Epoch: 1,
		Quorum: f.Charter.Quorum, Signers: f.Charter.Parties(), Ceremony: canon.Sum([]byte("ceremony of " + name)),
	}
	copy(r.PublicKey[:], WalletKey(name).PubKey().SerializeCompressed())
	s := wallet.Signed{Raw: r.Encode(), Signatures: map[party.ID][]byte{}}
	for id, key := range f.Signers {
		s.Signatures[id] = key.Sign(s.Raw)
	}
	return r, s
}

// Payment is dave's intent to pay 1.5 ETH from the treasury to the supplier: valid at
// now, and allowed with two approvals.
func (f *Fixture) Payment(now int64) *intent.Intent {
	i := f.spend(now)
	i.Kind = intent.Transfer
	i.Transfer = &intent.TransferBody{Asset: "ETH", To: Supplier, Amount: big.NewInt(1_500_000_000_000_000_000)}
	return i
}

// TokenPayment is the same with 250 USDC.
func (f *Fixture) TokenPayment(now int64) *intent.Intent {
	i := f.Payment(now)
	i.Transfer.Asset, i.Transfer.Amount = "USDC", big.NewInt(250_000_000)
	return i
}

// Cancel is dave's intent to cancel another one, on its account and nonce.
func (f *Fixture) Cancel(now int64, subject *intent.Intent) *intent.Intent {
	i := f.spend(now)
	i.Kind, i.Cancel = intent.Cancel, &intent.CancelBody{Subject: subject.Digest()}
	i.Account, i.Nonce, i.Reference = subject.Account, subject.Nonce, "cancel of "+subject.Reference
	return i
}

// CreateWallet is dave's intent to make a wallet of all signers.
func (f *Fixture) CreateWallet(now int64, name string) *intent.Intent {
	i := f.common(now)
	i.Kind, i.Wallet = intent.CreateWallet, name
	i.CreateWallet = &intent.CreateWalletBody{Quorum: f.Charter.Quorum, Signers: f.Charter.Parties()}
	return i
}

func (f *Fixture) common(now int64) *intent.Intent {
	return &intent.Intent{
		Cluster: f.Charter.Cluster, Charter: f.Charter.Digest(), FeeCap: new(big.Int),
		NotBefore: now - 60, Expires: now + 86_400, Initiator: "dave", Reference: "INV-7", Salt: [16]byte{1, 2, 3},
	}
}

func (f *Fixture) spend(now int64) *intent.Intent {
	i := f.common(now)
	i.Wallet, i.Chain, i.Account, i.Nonce = Wallet, Chain, Account(Wallet), 5
	i.FeeCap = big.NewInt(5_000_000_000_000_000)
	return i
}

// Key is the first key of a person or service.
func (f *Fixture) Key(t testing.TB, name string) credential.Signer {
	t.Helper()
	if s, ok := f.People[name]; ok {
		return s
	}
	s, ok := f.Services[name]
	if !ok {
		t.Fatalf("testcharter has no %q", name)
	}
	return s
}

// Sign signs i as its initiator.
func (f *Fixture) Sign(t testing.TB, i *intent.Intent) intent.Signed {
	t.Helper()
	s, err := intent.Sign(i, f.Key(t, i.Initiator))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Statement is a person's statement about i, issued now, for an hour, not signed yet.
func (f *Fixture) Statement(person string, kind approval.Kind, i *intent.Intent, now int64) *approval.Statement {
	s := &approval.Statement{
		Cluster: f.Charter.Cluster, Kind: kind, Subject: i.Digest(), Person: person, Issued: now, Expires: now + 3600,
	}
	copy(s.Nonce[:], seed(fmt.Sprint(person, kind, hex.EncodeToString(s.Subject[:]), now)))
	return s
}

// State signs such a statement with the person's first key.
func (f *Fixture) State(t testing.TB, person string, kind approval.Kind, i *intent.Intent, now int64) approval.Signed {
	t.Helper()
	s, err := approval.Sign(f.Statement(person, kind, i, now), f.Key(t, person))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Approve is the approval of i by each of the people.
func (f *Fixture) Approve(t testing.TB, i *intent.Intent, now int64, people ...string) []approval.Signed {
	t.Helper()
	var out []approval.Signed
	for _, p := range people {
		out = append(out, f.State(t, p, approval.Approve, i, now))
	}
	return out
}
