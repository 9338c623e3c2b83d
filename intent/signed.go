package intent

import (
	"fmt"
	"slices"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	pb "coffer/proto/coffer/v1"
)

// Signed is an intent as it travels: the exact bytes whose digest was signed.
type Signed struct {
	Raw       []byte `json:"raw"`
	Signature []byte `json:"signature"` // of the initiator's credential
}

// Initiator is who asks, as the charter has it.
type Initiator struct {
	Name    string
	Org     string
	Groups  []string // none for a service
	Service bool
	Key     credential.Key // the one that signed
}

// Sign signs i with the initiator's key. It is the caller who sees to it that the
// key is the initiator's; Open does.
func Sign(i *Intent, key credential.Signer) (Signed, error) {
	if err := i.Validate(); err != nil {
		return Signed{}, err
	}
	raw := i.Encode()
	digest := canon.Sum(raw)
	sig, err := key.Sign(Namespace, digest[:])
	if err != nil {
		return Signed{}, fmt.Errorf("sign intent: %w", err)
	}
	return Signed{Raw: raw, Signature: sig}, nil
}

// Open trusts nothing: it parses the bytes, compares cluster and charter, finds the
// initiator in c and verifies the signature by a key of that very initiator.
func (s Signed) Open(c *charter.Charter) (*Intent, Initiator, error) {
	i, err := Parse(s.Raw)
	if err != nil {
		return nil, Initiator{}, err
	}
	if i.Cluster != c.Cluster {
		return nil, Initiator{}, fmt.Errorf("%w: %s, this one is %s", ErrCluster, i.Cluster.Short(), c.Cluster.Short())
	}
	if in := c.Digest(); i.Charter != in {
		return nil, Initiator{}, fmt.Errorf("%w: %s, in force is %s; ask anew", ErrCharter, i.Charter.Short(), in.Short())
	}
	key, err := credential.SignatureKey(s.Signature)
	if err != nil {
		return nil, Initiator{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	who, err := Enrolled(c, i.Initiator, key)
	if err != nil {
		return nil, Initiator{}, err
	}
	digest := canon.Sum(s.Raw)
	if err := key.Verify(Namespace, digest[:], s.Signature); err != nil {
		return nil, Initiator{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return i, who, nil
}

// OpenUnder is Open under the version that the intent names, which it answers too.
// Whether that is enough is another question: its initiator may be gone from the
// version in force.
func (s Signed) OpenUnder(charters charter.Lookup) (*Intent, Initiator, *charter.Charter, error) {
	i, err := Parse(s.Raw)
	if err != nil {
		return nil, Initiator{}, nil, err
	}
	c, ok := charters(i.Charter)
	if !ok {
		return nil, Initiator{}, nil, fmt.Errorf("%w: %s, which was never in force here; ask anew", ErrCharter, i.Charter.Short())
	}
	i, who, err := s.Open(c)
	return i, who, c, err
}

// Enrolled is who asks under that name and key, as c has it.
func Enrolled(c *charter.Charter, name string, key credential.Key) (Initiator, error) {
	who, keys, err := initiator(c, name)
	if err != nil {
		return Initiator{}, err
	}
	if !slices.Contains(keys, key) {
		return Initiator{}, fmt.Errorf("%w: key %s is not enrolled for %q", ErrSignature, key.Fingerprint(), name)
	}
	who.Key = key
	return who, nil
}

func initiator(c *charter.Charter, name string) (Initiator, []credential.Key, error) {
	person, isPerson := c.Person(name)
	service, isService := c.Service(name)
	switch {
	case isPerson && isService:
		// A charter that validates has no such name; without this a change there would make a service a person.
		return Initiator{}, nil, fmt.Errorf("%w: %q is a person and a service", ErrInitiator, name)
	case isPerson:
		return Initiator{Name: person.Name, Org: person.Org, Groups: slices.Clone(person.Groups)}, person.Keys, nil
	case isService && !service.Initiates():
		return Initiator{}, nil, fmt.Errorf("%w: %q only reads", ErrInitiator, name)
	case isService:
		return Initiator{Name: service.Name, Org: service.Org, Service: true}, []credential.Key{service.Key}, nil
	}
	return Initiator{}, nil, fmt.Errorf("%w: %q; the charter must list the name", ErrInitiator, name)
}

// ToProto is the wire form.
func (s Signed) ToProto() *pb.SignedMessage {
	return &pb.SignedMessage{Raw: s.Raw, Signature: s.Signature}
}

// FromProto checks presence and size before anything is parsed.
func FromProto(m *pb.SignedMessage) (Signed, error) {
	switch {
	case m == nil || len(m.Raw) == 0:
		return Signed{}, fmt.Errorf("%w: it is missing", ErrMalformed)
	case len(m.Raw) > MaxRaw:
		return Signed{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(m.Raw), MaxRaw)
	case len(m.Signature) == 0:
		return Signed{}, fmt.Errorf("%w: it is not signed", ErrSignature)
	case len(m.Signature) > credential.MaxSignature:
		return Signed{}, fmt.Errorf("%w: signature of %d bytes, at most %d", ErrSignature, len(m.Signature), credential.MaxSignature)
	}
	return Signed{Raw: m.Raw, Signature: m.Signature}, nil
}
