package access

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/policy"
)

const (
	// Domain begins every encoded grant.
	Domain = "coffer/access/v1"
	// Namespace is that of the signatures under grants: one means nothing as a statement.
	Namespace = "coffer-access-v1"
	// MaxGrant bounds a signed grant as it travels.
	MaxGrant = 16 << 10
	// MaxLifetime is the longest time from Issued to Expires.
	MaxLifetime = 24 * time.Hour
	// MaxSkew is how far in the future a grant may be issued: clocks differ.
	MaxSkew = 5 * time.Minute

	signedDomain = "coffer/access/v1/signed"
	maxRaw       = 1 << 10
	maxTime      = 253402300799 // the end of the year 9999
)

var (
	// ErrMalformed says that bytes are no grant.
	ErrMalformed = errors.New("not a grant")
	// ErrRefused says that a grant does not hold, under this charter or now.
	ErrRefused = errors.New("grant refused")
)

// Grant lets one TLS key speak for a person or a service.
type Grant struct {
	Cluster canon.Digest
	Name    string      // person or service in the charter
	Client  identity.ID // the TLS certificate that it is shown with
	Issued  int64       // Unix seconds
	Expires int64       // until but not at
}

// Validate checks the shape, without a charter.
func (g *Grant) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
	}
	switch {
	case g == nil:
		return bad("there is none")
	case g.Cluster.IsZero():
		return bad("cluster is missing")
	case g.Issued < 0 || g.Issued > maxTime || g.Expires < 0 || g.Expires > maxTime:
		return bad("issued %d or expires %d is no time between 1970 and 9999", g.Issued, g.Expires)
	case g.Expires <= g.Issued:
		return bad("expires %d is not after issued %d", g.Expires, g.Issued)
	case g.Expires-g.Issued > int64(MaxLifetime/time.Second):
		return bad("it lasts %d s, at most %v", g.Expires-g.Issued, MaxLifetime)
	}
	if err := policy.CheckName(g.Name); err != nil {
		return bad("name: %w", err)
	}
	if _, err := g.Client.PublicKey(); err != nil {
		return bad("client: %w", err)
	}
	return nil
}

// Encode is the canonical form, or nil for a grant that does not validate.
func (g *Grant) Encode() []byte {
	if g.Validate() != nil {
		return nil
	}
	return canon.New(Domain).Digest(g.Cluster).String(g.Name).String(string(g.Client)).Time(g.Issued).Time(g.Expires).Encoded()
}

// Parse decodes canonical bytes. It says nothing of who made them.
func Parse(raw []byte) (*Grant, error) {
	if len(raw) > maxRaw {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(raw), maxRaw)
	}
	d := canon.NewDecoder(Domain, raw)
	g := &Grant{Cluster: d.Digest(), Name: d.String(64), Client: identity.ID(d.String(128)), Issued: d.Time(), Expires: d.Time()}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(g.Encode(), raw) {
		return nil, fmt.Errorf("%w: not in its canonical encoding", ErrMalformed)
	}
	return g, nil
}

// Sign makes a grant as it travels, by a key of the person or service that it names.
func Sign(g *Grant, key credential.Signer) ([]byte, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	raw := g.Encode()
	digest := canon.Sum(raw)
	signature, err := key.Sign(Namespace, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign a grant: %w", err)
	}
	return canon.New(signedDomain).Bytes(raw).Bytes(signature).Encoded(), nil
}

// open parses a grant as it travels.
func open(signed []byte) (g *Grant, raw, signature []byte, err error) {
	if len(signed) > MaxGrant {
		return nil, nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(signed), MaxGrant)
	}
	d := canon.NewDecoder(signedDomain, signed)
	raw, signature = d.Bytes(maxRaw), d.Bytes(credential.MaxSignature)
	if err := d.Finish(); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	g, err = Parse(raw)
	return g, raw, signature, err
}

// Verify opens a grant that is by a key which c lists for the name in it. It says
// nothing of the time; see Valid.
func Verify(c *charter.Charter, signed []byte) (*Grant, error) {
	g, raw, signature, err := open(signed)
	if err != nil {
		return nil, err
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
	}
	if g.Cluster != c.Cluster {
		return nil, refuse("it is for cluster %s, this one is %s", g.Cluster.Short(), c.Cluster.Short())
	}
	keys := keysOf(c, g.Name)
	if len(keys) == 0 {
		return nil, refuse("%q is not in the charter in force", g.Name)
	}
	key, err := credential.SignatureKey(signature)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if !slices.Contains(keys, key) {
		return nil, refuse("key %s is not enrolled for %q", key.Fingerprint(), g.Name)
	}
	digest := canon.Sum(raw)
	if err := key.Verify(Namespace, digest[:], signature); err != nil {
		return nil, refuse("%w", err)
	}
	return g, nil
}

func keysOf(c *charter.Charter, name string) []credential.Key {
	if p, ok := c.Person(name); ok {
		return p.Keys
	}
	if s, ok := c.Service(name); ok {
		return []credential.Key{s.Key}
	}
	return nil
}

// Valid says whether the grant holds at now.
func (g *Grant) Valid(now time.Time) error {
	switch t := now.Unix(); {
	case t >= g.Expires:
		return fmt.Errorf("%w: it ended at %s", ErrRefused, time.Unix(g.Expires, 0).UTC().Format(time.RFC3339))
	case g.Issued > t+int64(MaxSkew/time.Second):
		return fmt.Errorf("%w: it was issued at %s, which is in the future here: look at the clocks", ErrRefused, time.Unix(g.Issued, 0).UTC().Format(time.RFC3339))
	}
	return nil
}
