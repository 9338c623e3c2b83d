package keyshare

import (
	"errors"
	"fmt"

	"coffer/canon"
	"coffer/party"
)

// MetaDomain begins the canonical bytes of Meta.
const MetaDomain = "coffer/keyshare/v1"

// PreParamsDomain begins the associated data of sealed pre-parameters.
const PreParamsDomain = "coffer/preparams/v1"

const (
	maxName = 64
	// A set has at most 20 parties (party.Quorum); the margin only keeps the decoder bounded.
	maxSigners = 32
)

// Meta says which share of which key a record is. It is public; it is bound to the
// sealed bytes as associated data.
type Meta struct {
	Cluster  canon.Digest
	Wallet   string
	Epoch    uint64
	Party    party.ID
	Quorum   party.Quorum
	Signers  party.Set
	Ceremony canon.Digest
}

// Validate refuses a Meta that names no possible share.
func (m Meta) Validate() error {
	switch {
	case m.Cluster.IsZero():
		return errors.New("share's cluster is missing")
	case m.Wallet == "" || len(m.Wallet) > maxName:
		return fmt.Errorf("share's wallet name has %d bytes, want 1 to %d", len(m.Wallet), maxName)
	case m.Ceremony.IsZero():
		return errors.New("share's ceremony is missing")
	}
	if err := m.Quorum.Validate(); err != nil {
		return fmt.Errorf("share's %w", err)
	}
	sorted, err := party.NewSet(m.Signers...)
	if err != nil {
		return fmt.Errorf("share's signers: %w", err)
	}
	if !sorted.Equal(m.Signers) {
		return errors.New("share's signers are not sorted: build the set with party.NewSet")
	}
	if len(m.Signers) != m.Quorum.Of {
		return fmt.Errorf("share's quorum is %s, but it lists %d signers", m.Quorum, len(m.Signers))
	}
	if !m.Signers.Has(m.Party) {
		return fmt.Errorf("share's party %q is not among its signers", m.Party)
	}
	return nil
}

// AD is the canonical encoding, used as associated data.
func (m Meta) AD() []byte {
	return canon.New(MetaDomain).
		Digest(m.Cluster).
		String(m.Wallet).
		Uint64(m.Epoch).
		String(string(m.Party)).
		Uint64(uint64(m.Quorum.Need)).
		Uint64(uint64(m.Quorum.Of)).
		Strings(m.Signers.Strings()).
		Digest(m.Ceremony).
		Encoded()
}

// ParseMeta is the inverse of AD; it refuses whatever Validate refuses.
func ParseMeta(b []byte) (Meta, error) {
	d := canon.NewDecoder(MetaDomain, b)
	m := Meta{Cluster: d.Digest(), Wallet: d.String(maxName), Epoch: d.Uint64(), Party: party.ID(d.String(maxName))}
	need, of := d.Uint64(), d.Uint64()
	// Checked before the conversion, so that no large number wraps into a small one.
	if need > maxSigners || of > maxSigners {
		d.Fail(fmt.Errorf("share's quorum %d-of-%d is out of range", need, of))
		need, of = 0, 0
	}
	m.Quorum = party.Quorum{Need: int(need), Of: int(of)}
	for _, name := range d.Strings(maxSigners, maxName) {
		m.Signers = append(m.Signers, party.ID(name))
	}
	m.Ceremony = d.Digest()
	if err := d.Finish(); err != nil {
		return Meta{}, fmt.Errorf("parse share's meta: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Meta{}, err
	}
	return m, nil
}

// Equal compares all fields.
func (m Meta) Equal(o Meta) bool {
	return m.Cluster == o.Cluster && m.Wallet == o.Wallet && m.Epoch == o.Epoch && m.Party == o.Party &&
		m.Quorum == o.Quorum && m.Signers.Equal(o.Signers) && m.Ceremony == o.Ceremony
}

// PreParamsAD is the associated data of sealed pre-parameters: they belong to no
// wallet yet, and must never open as a share.
func PreParamsAD() []byte { return canon.New(PreParamsDomain).Encoded() }
