package wallet

import (
	"fmt"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coffer/canon"
	"coffer/charter"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// Domain is the first field of a record's canonical bytes.
const Domain = "coffer/wallet/v1"

// RootOnly is the path rule of wallets whose one account is the key itself.
const RootOnly = "m"

// MaxRaw bounds a record's canonical bytes.
const MaxRaw = 4 << 10

// Record describes one epoch of a wallet.
type Record struct {
	Cluster   canon.Digest // of the charter
	Charter   canon.Digest // in force when the wallet was made
	Name      string
	PublicKey [33]byte // compressed secp256k1 point (SEC 1, 2.3.3)
	ChainCode [32]byte // BIP32
	Paths     string   // which derivation paths may sign; RootOnly
	Epoch     uint64   // 1 for the shares of the first key generation
	Quorum    party.Quorum
	Signers   party.Set
	Ceremony  canon.Digest // ID of the ceremony that made it
}

// Encode returns the canonical bytes that all signers sign.
func (r *Record) Encode() []byte {
	return canon.New(Domain).Digest(r.Cluster).Digest(r.Charter).String(r.Name).Bytes(r.PublicKey[:]).Bytes(r.ChainCode[:]).
		String(r.Paths).Uint64(r.Epoch).Uint64(uint64(r.Quorum.Need)).Uint64(uint64(r.Quorum.Of)).
		Strings(r.Signers.Strings()).Digest(r.Ceremony).Encoded()
}

// Digest identifies the record.
func (r *Record) Digest() canon.Digest { return canon.Sum(r.Encode()) }

// Parse reads canonical bytes and refuses a record that no ceremony can have made.
func Parse(raw []byte) (*Record, error) {
	if len(raw) > MaxRaw {
		return nil, fmt.Errorf("wallet record: %d bytes, at most %d", len(raw), MaxRaw)
	}
	d := canon.NewDecoder(Domain, raw)
	r := &Record{Cluster: d.Digest(), Charter: d.Digest(), Name: d.String(32)}
	fixed(d, r.PublicKey[:], "public key")
	fixed(d, r.ChainCode[:], "chain code")
	r.Paths, r.Epoch = d.String(64), d.Uint64()
	need, of := d.Uint64(), d.Uint64()
	names := d.Strings(20, 32)
	r.Ceremony = d.Digest()
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("wallet record: %w", err)
	}
	if need > 20 || of > 20 {
		return nil, fmt.Errorf("wallet record: quorum of %d of %d, at most 20 signers", need, of)
	}
	r.Quorum = party.Quorum{Need: int(need), Of: int(of)}
	set, err := party.SetFrom(names)
	if err != nil {
		return nil, fmt.Errorf("wallet record: %w", err)
	}
	if !slices.Equal(set.Strings(), names) {
		return nil, fmt.Errorf("wallet record: signers are not in order")
	}
	r.Signers = set
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("wallet record: %w", err)
	}
	return r, nil
}

func fixed(d *canon.Decoder, into []byte, what string) {
	b := d.Bytes(len(into))
	if d.Err() == nil && len(b) != len(into) {
		d.Fail(fmt.Errorf("%s has %d bytes, want %d", what, len(b), len(into)))
	}
	copy(into, b)
}

// Validate checks the fields against each other.
func (r *Record) Validate() error {
	if err := policy.CheckName(r.Name); err != nil {
		return err
	}
	if _, err := secp256k1.ParsePubKey(r.PublicKey[:]); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if err := r.Quorum.Validate(); err != nil {
		return err
	}
	if len(r.Signers) != r.Quorum.Of {
		return fmt.Errorf("%d signers for a quorum of %s", len(r.Signers), r.Quorum)
	}
	for _, id := range r.Signers {
		if err := policy.CheckName(string(id)); err != nil {
			return fmt.Errorf("signer name: %w", err)
		}
	}
	switch {
	case r.Paths != RootOnly:
		return fmt.Errorf("path rule %q: only %q is known to this version", r.Paths, RootOnly)
	case r.Epoch == 0:
		return fmt.Errorf("epoch is 0: the first is 1")
	case r.Cluster.IsZero(), r.Charter.IsZero(), r.Ceremony.IsZero():
		return fmt.Errorf("cluster, charter or ceremony is missing")
	}
	return nil
}

// Signed is a record with its signatures by signer.
type Signed struct {
	Raw        []byte
	Signatures map[party.ID][]byte
}

// Open verifies a record under the charter that it names: of that charter's cluster,
// with its quorum and all of its signers, and a valid signature of every one of them.
// Later versions may have other signers; who made the wallet stays who made it.
//
// All of them, not all that the record names: else two signers of seven could make a
// "2-of-2" wallet of a name that people pay to, and sign it with "all" of its signers.
func (s Signed) Open(charters charter.Lookup) (*Record, error) {
	r, err := Parse(s.Raw)
	if err != nil {
		return nil, err
	}
	if charters == nil {
		return nil, fmt.Errorf("wallet %q: no charter to verify it under", r.Name)
	}
	c, ok := charters(r.Charter)
	if !ok {
		return nil, fmt.Errorf("wallet %q was made under charter %s, which was never in force here", r.Name, r.Charter.Short())
	}
	if r.Cluster != c.Cluster {
		return nil, fmt.Errorf("wallet %q belongs to cluster %s, this is %s", r.Name, r.Cluster.Short(), c.Cluster.Short())
	}
	if r.Quorum != c.Quorum || !r.Signers.Equal(c.Parties()) {
		return nil, fmt.Errorf("wallet %q is %s of %v, the charter's signers are %s of %v: a record needs all of them",
			r.Name, r.Quorum, r.Signers, c.Quorum, c.Parties())
	}
	if len(s.Signatures) != len(r.Signers) {
		return nil, fmt.Errorf("wallet %q has %d signatures, all %d signers must sign", r.Name, len(s.Signatures), len(r.Signers))
	}
	for _, id := range r.Signers {
		signer, ok := c.Signer(id)
		if !ok {
			return nil, fmt.Errorf("wallet %q names signer %q, which the charter does not list", r.Name, id)
		}
		if err := signer.Peer.Verify(s.Raw, s.Signatures[id]); err != nil {
			return nil, fmt.Errorf("wallet %q: signature of signer %q: %w", r.Name, id, err)
		}
	}
	return r, nil
}

// ToProto is the form on the wire, with the signatures in the order of the names.
func (s Signed) ToProto() *pb.SignedRecord {
	out := &pb.SignedRecord{Raw: s.Raw}
	var ids party.Set
	for id := range s.Signatures {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		out.Signatures = append(out.Signatures, &pb.NamedSignature{Name: string(id), Signature: s.Signatures[id]})
	}
	return out
}

// FromProto refuses missing parts and a signer that signs twice; it verifies nothing.
func FromProto(p *pb.SignedRecord) (Signed, error) {
	if p == nil || len(p.Raw) == 0 {
		return Signed{}, fmt.Errorf("wallet record is missing")
	}
	s := Signed{Raw: p.Raw, Signatures: map[party.ID][]byte{}}
	for _, sig := range p.Signatures {
		if sig == nil {
			return Signed{}, fmt.Errorf("wallet record: an empty signature")
		}
		if _, twice := s.Signatures[party.ID(sig.Name)]; twice {
			return Signed{}, fmt.Errorf("wallet record: signer %q signed twice", sig.Name)
		}
		s.Signatures[party.ID(sig.Name)] = sig.Signature
	}
	return s, nil
}
