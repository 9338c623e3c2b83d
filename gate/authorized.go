package gate

import (
	"slices"

	"coffer/canon"
	"coffer/party"
)

// Authorized is the permission to release one signing session for one
// transaction. Check makes it after every check of the table has passed, and
// Challenge makes it for test signatures over a prefix that is no transaction;
// nothing else can, because its fields are private to this package. A session
// refuses nil, the zero value and the permission of another session.
type Authorized struct {
	intent, charter, session, transaction canon.Digest

	digest    [32]byte
	challenge bool
}

// Valid reports whether a came from Check or Challenge; nil and zero did not.
func (a *Authorized) Valid() bool {
	return a != nil && !a.session.IsZero() && !a.transaction.IsZero() && a.digest != [32]byte{}
}

// Intent is the digest of the intent that is carried out; for a challenge, of the ceremony that demands it.
func (a *Authorized) Intent() canon.Digest { return a.intent }

// Charter is the digest of the charter under which it was judged.
func (a *Authorized) Charter() canon.Digest { return a.charter }

// Session is the one session that this permission releases.
func (a *Authorized) Session() canon.Digest { return a.session }

// Transaction identifies what is signed, in Bindings, verdicts and the journal. It
// is the signing digest: this signer computed it, so it cannot name other bytes.
func (a *Authorized) Transaction() canon.Digest { return a.transaction }

// SigningDigest is what the signature is made over: this signer's own digest of
// the transaction that it decoded itself.
func (a *Authorized) SigningDigest() [32]byte { return a.digest }

// IsChallenge reports a permission of Challenge: its signature moves nothing.
func (a *Authorized) IsChallenge() bool { return a != nil && a.challenge }

// Ceremony is the permission to take part in one key generation. Only
// CheckCeremony makes it.
type Ceremony struct {
	cluster, intent, charter canon.Digest

	wallet  string
	quorum  party.Quorum
	signers party.Set
}

// Valid reports whether c came from CheckCeremony; nil and zero did not.
func (c *Ceremony) Valid() bool { return c != nil && !c.intent.IsZero() }

// Cluster is the cluster that the wallet will belong to.
func (c *Ceremony) Cluster() canon.Digest { return c.cluster }

// Intent is the digest of the intent that asks for the wallet.
func (c *Ceremony) Intent() canon.Digest { return c.intent }

// Charter is the digest of the charter under which it was judged.
func (c *Ceremony) Charter() canon.Digest { return c.charter }

// Wallet is the name of the wallet to be created.
func (c *Ceremony) Wallet() string { return c.wallet }

// Quorum is the new wallet's quorum.
func (c *Ceremony) Quorum() party.Quorum { return c.quorum }

// Signers are the parties of the ceremony; the caller owns the copy.
func (c *Ceremony) Signers() party.Set { return slices.Clone(c.signers) }
