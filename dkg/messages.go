package dkg

import (
	"fmt"

	"coffer/canon"
	"coffer/partial"
	"coffer/party"
)

// The kinds of message beside nonces, aborts and those of the engine.
const (
	KindCommit   = "commit"
	KindReveal   = "reveal"
	KindConfirm  = "confirm"
	KindHave     = "have"
	KindPartial  = "partial" // + the number of the challenge
	KindProved   = "proved"
	KindAttest   = "attest"
	KindAttested = "attested"
)

const (
	runDomain       = "coffer/ceremony-run/v1"
	ceremonyDomain  = "coffer/ceremony/v1"
	shareDomain     = "coffer/chain-code-share/v1"
	commitDomain    = "coffer/chain-code-commit/v1"
	revealDomain    = "coffer/chain-code-reveal/v1"
	chainCodeDomain = "coffer/chain-code/v1"
	confirmDomain   = "coffer/confirm/v1"
	haveDomain      = "coffer/ceremony-have/v1"
	partialDomain   = "coffer/challenge-partial/v1"
	provedDomain    = "coffer/ceremony-proved/v1"
	attestDomain    = "coffer/attestation/v1"
	attestedDomain  = "coffer/attested/v1"
	attemptDomain   = "coffer/challenge-attempt/v1"
	nonceDomain     = "coffer/challenge-nonce/v1"

	maxName    = 64
	maxParties = 20
)

// Terms are what the gate authorised: which wallet, for whom, under which charter.
type Terms struct {
	Cluster, Charter, Intent canon.Digest

	Wallet  string
	Quorum  party.Quorum
	Signers party.Set
}

// Run is the ID by which nodes route the ceremony's messages before it has an ID.
func (t Terms) Run(attempt canon.Digest) canon.Digest { return t.encode(runDomain, attempt).Sum() }

// Ceremony is the ceremony's ID: the terms and a fresh nonce of each signer.
func (t Terms) Ceremony(attempt canon.Digest, nonces [][32]byte) canon.Digest {
	e := t.encode(ceremonyDomain, attempt).List(len(nonces))
	for _, n := range nonces {
		e.Digest(n)
	}
	return e.Sum()
}

func (t Terms) encode(domain string, attempt canon.Digest) *canon.Encoder {
	return canon.New(domain).Digest(t.Cluster).Digest(t.Charter).Digest(t.Intent).String(t.Wallet).
		Uint64(uint64(t.Quorum.Need)).Uint64(uint64(t.Quorum.Of)).Strings(t.Signers.Strings()).Digest(attempt)
}

// Have says, before a ceremony has begun, which one of the same wallet this signer has
// proved: the digest of its record, or zero. A signer that says so cannot prove any
// other that broke off, since nothing of a ceremony but a proof outlives its run.
type Have struct{ Run, Record canon.Digest }

// Encode returns the canonical bytes.
func (h Have) Encode() []byte {
	return canon.New(haveDomain).Digest(h.Run).Digest(h.Record).Encoded()
}

// ParseHave decodes a signer's word.
func ParseHave(raw []byte) (Have, error) {
	d := canon.NewDecoder(haveDomain, raw)
	h := Have{d.Digest(), d.Digest()}
	return finish(d, h, "have")
}

// ShareCommitment is what a signer commits to. It names the signer, so that nobody
// can repeat another's commitment and then its opening.
func ShareCommitment(ceremony canon.Digest, who party.ID, share [32]byte) canon.Digest {
	return canon.New(shareDomain).Digest(ceremony).String(string(who)).Digest(share).Sum()
}

// Commit hides a signer's part of the chain code until all have committed.
type Commit struct{ Ceremony, Commitment canon.Digest }

// Encode returns the canonical bytes.
func (c Commit) Encode() []byte {
	return canon.New(commitDomain).Digest(c.Ceremony).Digest(c.Commitment).Encoded()
}

// ParseCommit decodes a commitment.
func ParseCommit(raw []byte) (Commit, error) {
	d := canon.NewDecoder(commitDomain, raw)
	c := Commit{d.Digest(), d.Digest()}
	return finish(d, c, "commit")
}

// Reveal opens a commitment.
type Reveal struct {
	Ceremony canon.Digest
	Share    [32]byte
}

// Encode returns the canonical bytes.
func (r Reveal) Encode() []byte {
	return canon.New(revealDomain).Digest(r.Ceremony).Digest(r.Share).Encoded()
}

// ParseReveal decodes an opening.
func ParseReveal(raw []byte) (Reveal, error) {
	d := canon.NewDecoder(revealDomain, raw)
	r := Reveal{d.Digest(), d.Digest()}
	return finish(d, r, "reveal")
}

// ChainCode is made of every signer's part, in the order of the signers.
func ChainCode(ceremony canon.Digest, signers party.Set, shares map[party.ID][32]byte) [32]byte {
	e := canon.New(chainCodeDomain).Digest(ceremony).List(len(signers))
	for _, p := range signers {
		e.String(string(p)).Digest(shares[p])
	}
	return e.Sum()
}

// Confirm says with what a signer ended key generation. All signers must say the
// same, byte for byte.
type Confirm struct {
	Terms     Terms
	Ceremony  canon.Digest
	Epoch     uint64
	PublicKey [33]byte
	ChainCode [32]byte
	Public    canon.Digest // of the engine's public data: shares in the exponent, moduli, their bases
}

// Encode returns the canonical bytes.
func (c Confirm) Encode() []byte {
	return canon.New(confirmDomain).Digest(c.Terms.Cluster).Digest(c.Terms.Charter).Digest(c.Terms.Intent).String(c.Terms.Wallet).
		Uint64(uint64(c.Terms.Quorum.Need)).Uint64(uint64(c.Terms.Quorum.Of)).Strings(c.Terms.Signers.Strings()).
		Digest(c.Ceremony).Uint64(c.Epoch).Bytes(c.PublicKey[:]).Digest(c.ChainCode).Digest(c.Public).Encoded()
}

// ParseConfirm decodes a confirmation; it is used to say in which field one differs.
func ParseConfirm(raw []byte) (Confirm, error) {
	d := canon.NewDecoder(confirmDomain, raw)
	c := Confirm{Terms: Terms{Cluster: d.Digest(), Charter: d.Digest(), Intent: d.Digest(), Wallet: d.String(maxName)}}
	c.Terms.Quorum = party.Quorum{Need: small(d), Of: small(d)}
	for _, name := range d.Strings(maxParties, maxName) {
		c.Terms.Signers = append(c.Terms.Signers, party.ID(name))
	}
	c.Ceremony, c.Epoch = d.Digest(), d.Uint64()
	fixed(d, c.PublicKey[:])
	c.ChainCode, c.Public = d.Digest(), d.Digest()
	return finish(d, c, "confirm")
}

// differs names the first field in which two confirmations differ.
func (c Confirm) differs(o Confirm) string {
	switch {
	case c.Ceremony != o.Ceremony:
		return "ceremony"
	case c.Terms.Cluster != o.Terms.Cluster, c.Terms.Charter != o.Terms.Charter, c.Terms.Intent != o.Terms.Intent, c.Terms.Wallet != o.Terms.Wallet:
		return "terms"
	case c.Terms.Quorum != o.Terms.Quorum, !c.Terms.Signers.Equal(o.Terms.Signers), c.Epoch != o.Epoch:
		return "quorum, signers or epoch"
	case c.PublicKey != o.PublicKey:
		return "public key"
	case c.ChainCode != o.ChainCode:
		return "chain code"
	case c.Public != o.Public:
		return "public data of the shares"
	}
	return ""
}

// Partial is a signer's contribution to the signature of one challenge, shown to all
// signers of the wallet so that each verifies.
type Partial struct {
	Ceremony  canon.Digest
	Challenge uint64 // which of the quorums
	Partial   partial.Partial
}

// Encode returns the canonical bytes.
func (p Partial) Encode() []byte {
	return canon.New(partialDomain).Digest(p.Ceremony).Uint64(p.Challenge).
		Digest(p.Partial.Session).Bytes(p.Partial.R[:]).Digest(p.Partial.S).Encoded()
}

// ParsePartial decodes a challenge partial.
func ParsePartial(raw []byte) (Partial, error) {
	d := canon.NewDecoder(partialDomain, raw)
	p := Partial{Ceremony: d.Digest(), Challenge: d.Uint64()}
	p.Partial.Session = d.Digest()
	fixed(d, p.Partial.R[:])
	p.Partial.S = d.Digest()
	return finish(d, p, "challenge partial")
}

// Proved says that a signer's share is proved, and the proof on its disk.
type Proved struct{ Ceremony, Record canon.Digest }

// Encode returns the canonical bytes.
func (p Proved) Encode() []byte {
	return canon.New(provedDomain).Digest(p.Ceremony).Digest(p.Record).Encoded()
}

// ParseProved decodes a signer's word.
func ParseProved(raw []byte) (Proved, error) {
	d := canon.NewDecoder(provedDomain, raw)
	p := Proved{d.Digest(), d.Digest()}
	return finish(d, p, "proved")
}

// Attestation is a signer's signature under the wallet record.
type Attestation struct {
	Ceremony  canon.Digest
	Record    canon.Digest
	Signature [64]byte
}

// Encode returns the canonical bytes.
func (a Attestation) Encode() []byte {
	return canon.New(attestDomain).Digest(a.Ceremony).Digest(a.Record).Bytes(a.Signature[:]).Encoded()
}

// ParseAttestation decodes an attestation.
func ParseAttestation(raw []byte) (Attestation, error) {
	d := canon.NewDecoder(attestDomain, raw)
	a := Attestation{Ceremony: d.Digest(), Record: d.Digest()}
	fixed(d, a.Signature[:])
	return finish(d, a, "attestation")
}

// Attested shows all signatures, in the order of the signers. Whoever is done sends
// it, so that a signer that gave its signature to some and not to others decides nothing.
type Attested struct {
	Ceremony   canon.Digest
	Record     canon.Digest
	Signatures [][64]byte
}

// Encode returns the canonical bytes.
func (a Attested) Encode() []byte {
	e := canon.New(attestedDomain).Digest(a.Ceremony).Digest(a.Record).List(len(a.Signatures))
	for _, s := range a.Signatures {
		e.Bytes(s[:])
	}
	return e.Encoded()
}

// ParseAttested decodes the signatures.
func ParseAttested(raw []byte) (Attested, error) {
	d := canon.NewDecoder(attestedDomain, raw)
	a := Attested{Ceremony: d.Digest(), Record: d.Digest()}
	n := d.List(maxParties)
	for i := 0; i < n && d.Err() == nil; i++ {
		var s [64]byte
		fixed(d, s[:])
		a.Signatures = append(a.Signatures, s)
	}
	return finish(d, a, "attested")
}

func finish[T any](d *canon.Decoder, v T, what string) (T, error) {
	if err := d.Finish(); err != nil {
		var none T
		return none, fmt.Errorf("%w: %s: %w", ErrMessage, what, err)
	}
	return v, nil
}

func small(d *canon.Decoder) int {
	v := d.Uint64()
	if v > maxParties {
		d.Fail(fmt.Errorf("quorum has %d, at most %d", v, maxParties))
		return 0
	}
	return int(v)
}

func fixed(d *canon.Decoder, into []byte) {
	b := d.Bytes(len(into))
	if d.Err() == nil && len(b) != len(into) {
		d.Fail(fmt.Errorf("field has %d bytes, want %d", len(b), len(into)))
	}
	copy(into, b)
}
