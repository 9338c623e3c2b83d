package approval

import (
	"bytes"
	"fmt"

	"coffer/canon"
	"coffer/credential"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

const (
	// Domain begins every encoded statement.
	Domain = "coffer/statement/v1"
	// Namespace is the SSHSIG namespace of statements.
	Namespace = "coffer-statement-v1"
	// MaxRaw bounds the canonical bytes.
	MaxRaw = 4 << 10
	// MaxLifetime is the longest time from Issued to Expires, in seconds.
	MaxLifetime = 30 * 24 * 3600
	// MaxSkew is how far in the future an approval may be issued, in seconds: clocks differ.
	MaxSkew = 5 * 60
	// MaxStatements is how many are looked at for one intent.
	MaxStatements = 64

	maxWord = 32
	maxTime = 253402300799 // the end of the year 9999
)

// Kind is what a statement says about its subject. All but Approve narrow.
type Kind string

const (
	Approve  Kind = "approve"
	Reject   Kind = "reject"   // ends the intent
	Withdraw Kind = "withdraw" // takes one's own approval back, for good
	Veto     Kind = "veto"     // ends the intent while it waits
	Cancel   Kind = "cancel"   // ends the intent while it is locked
	Freeze   Kind = "freeze"   // stops everything; its subject is no intent
)

func (k Kind) known() bool {
	switch k {
	case Approve, Reject, Withdraw, Veto, Cancel, Freeze:
		return true
	}
	return false
}

// Statement is what people sign, always the same fields.
type Statement struct {
	Cluster canon.Digest
	Kind    Kind
	Subject canon.Digest // of the intent
	Person  string       // name in the charter
	Issued  int64        // Unix seconds
	Expires int64        // until but not at
	Nonce   [16]byte     // makes statements distinct; counting needs no memory of it
}

// Validate checks the shape, without a charter.
func (s *Statement) Validate() error {
	if s == nil {
		return fmt.Errorf("%w: there is none", ErrMalformed)
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
	}
	switch {
	case s.Cluster.IsZero():
		return bad("cluster is missing")
	case !s.Kind.known():
		return bad("kind %.40q: want approve, reject, withdraw, veto, cancel or freeze", string(s.Kind))
	case s.Subject.IsZero():
		return bad("subject is missing")
	case s.Issued < 0 || s.Issued > maxTime || s.Expires < 0 || s.Expires > maxTime:
		return bad("issued %d or expires %d is no time between 1970 and 9999", s.Issued, s.Expires)
	case s.Expires <= s.Issued:
		return bad("expires %d is not after issued %d", s.Expires, s.Issued)
	case s.Expires-s.Issued > MaxLifetime:
		return bad("expires %d s after it was issued; at most %d s (30 days)", s.Expires-s.Issued, MaxLifetime)
	}
	if err := policy.CheckName(s.Person); err != nil {
		return bad("person: %w", err)
	}
	return nil
}

// Encode is the canonical form, or nil for a statement that does not validate.
func (s *Statement) Encode() []byte {
	if s.Validate() != nil {
		return nil
	}
	return canon.New(Domain).
		Digest(s.Cluster).String(string(s.Kind)).Digest(s.Subject).String(s.Person).
		Time(s.Issued).Time(s.Expires).Bytes(s.Nonce[:]).Encoded()
}

// Digest is what the person's key signs, and zero for a statement that does not validate.
func (s *Statement) Digest() canon.Digest {
	raw := s.Encode()
	if raw == nil {
		return canon.Digest{}
	}
	return canon.Sum(raw)
}

// Parse decodes canonical bytes. It says nothing of who made them.
func Parse(raw []byte) (*Statement, error) {
	if len(raw) > MaxRaw {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(raw), MaxRaw)
	}
	d := canon.NewDecoder(Domain, raw)
	s := &Statement{
		Cluster: d.Digest(), Kind: Kind(d.String(maxWord)), Subject: d.Digest(), Person: d.String(maxWord),
		Issued: d.Time(), Expires: d.Time(),
	}
	nonce := d.Bytes(len(s.Nonce))
	if d.Err() == nil && len(nonce) != len(s.Nonce) {
		d.Fail(fmt.Errorf("nonce has %d bytes, want %d", len(nonce), len(s.Nonce)))
	}
	copy(s.Nonce[:], nonce)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Encode(), raw) {
		return nil, fmt.Errorf("%w: not in its canonical encoding", ErrMalformed)
	}
	return s, nil
}

// Signed is a statement as it travels: the exact bytes whose digest was signed.
type Signed struct {
	Raw       []byte `json:"raw"`
	Signature []byte `json:"signature"` // of the person's credential
}

// Sign signs s with a key of the person that it names; Tally checks that it is one.
func Sign(s *Statement, key credential.Signer) (Signed, error) {
	if err := s.Validate(); err != nil {
		return Signed{}, err
	}
	raw := s.Encode()
	digest := canon.Sum(raw)
	sig, err := key.Sign(Namespace, digest[:])
	if err != nil {
		return Signed{}, fmt.Errorf("sign %s: %w", s.Kind, err)
	}
	return Signed{Raw: raw, Signature: sig}, nil
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
