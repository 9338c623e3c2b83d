package authority

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

const (
	headDomain = "coffer/head/v1"
	// MaxHead bounds an encoded head.
	MaxHead = 1 << 10
)

// Head is a signer's word on where it stands.
type Head struct {
	Cluster   canon.Digest
	Signer    party.ID
	Version   uint64
	Charter   canon.Digest // in force
	Freezes   canon.Digest // of all that are active, and of all that are lifted
	Lists     canon.Digest // of the versions of all lists that keepers keep
	Records   canon.Digest // of all records: whoever has the same lacks nothing
	AuditSize uint64
	AuditRoot canon.Digest
	Time      int64 // Unix seconds
}

// Encode is what the signer's identity signs.
func (h Head) Encode() []byte {
	return canon.New(headDomain).Digest(h.Cluster).String(string(h.Signer)).Uint64(h.Version).Digest(h.Charter).
		Digest(h.Freezes).Digest(h.Lists).Digest(h.Records).Uint64(h.AuditSize).Digest(h.AuditRoot).Time(h.Time).Encoded()
}

// Sign is the head as it travels, with the signature of the signer that it names.
func (h Head) Sign(key *identity.Key) (raw, signature []byte) {
	raw = h.Encode()
	return raw, key.Sign(raw)
}

// ParseHead decodes canonical bytes. It says nothing of who made them.
func ParseHead(raw []byte) (Head, error) {
	if len(raw) > MaxHead {
		return Head{}, fmt.Errorf("head of %d bytes, at most %d", len(raw), MaxHead)
	}
	d := canon.NewDecoder(headDomain, raw)
	h := Head{
		Cluster: d.Digest(), Signer: party.ID(d.String(maxWord)), Version: d.Uint64(), Charter: d.Digest(),
		Freezes: d.Digest(), Lists: d.Digest(), Records: d.Digest(), AuditSize: d.Uint64(), AuditRoot: d.Digest(), Time: d.Time(),
	}
	if err := d.Finish(); err != nil {
		return Head{}, fmt.Errorf("head: %w", err)
	}
	if err := policy.CheckName(string(h.Signer)); err != nil {
		return Head{}, fmt.Errorf("head: signer: %w", err)
	}
	if !bytes.Equal(h.Encode(), raw) {
		return Head{}, fmt.Errorf("head: not in its canonical encoding")
	}
	return h, nil
}

// OpenHead reads a head and verifies that a signer of the charter signed it.
func OpenHead(raw, signature []byte, c *charter.Charter) (Head, error) {
	h, err := ParseHead(raw)
	if err != nil {
		return Head{}, err
	}
	if h.Cluster != c.Cluster {
		return Head{}, fmt.Errorf("head of signer %q is of cluster %s, this is %s", h.Signer, h.Cluster.Short(), c.Cluster.Short())
	}
	s, ok := c.Signer(h.Signer)
	if !ok {
		return Head{}, fmt.Errorf("head: the charter lists no signer %q", h.Signer)
	}
	if err := s.Peer.Verify(raw, signature); err != nil {
		return Head{}, fmt.Errorf("head of signer %q: %w", h.Signer, err)
	}
	return h, nil
}

// Agrees says that two signers stand at the same charter, freezes and lists. How far
// their audit logs are, and whether one has heard a word that counts for nothing yet,
// does not matter.
func (h Head) Agrees(o Head) bool {
	return h.Cluster == o.Cluster && h.Version == o.Version && h.Charter == o.Charter && h.Freezes == o.Freezes && h.Lists == o.Lists
}

// Seen is the newest head of another signer. Age is what passed since it was heard from
// that signer itself, by a clock that nobody can turn.
type Seen struct {
	Head Head
	Age  time.Duration
}

// Freshness is what the heads of the others come to.
type Freshness struct {
	Fresh   bool
	Agree   party.Set // young, and where this signer is
	Differ  party.Set // young, and elsewhere: one of the two has to catch up
	Silent  party.Set // nothing heard for too long
	Missing int       // how many more must agree
}

// Fresh says whether a signer may sign: at least need others, whose heads are not older
// than within, stand where it stands. A head of the signer itself, a second one of the
// same signer, and one of another cluster count for nothing.
func Fresh(own Head, seen []Seen, need int, within time.Duration) Freshness {
	newest := map[party.ID]Seen{}
	for _, s := range seen {
		if s.Head.Signer == own.Signer || s.Head.Cluster != own.Cluster || s.Age < 0 {
			continue
		}
		if old, ok := newest[s.Head.Signer]; !ok || s.Age < old.Age {
			newest[s.Head.Signer] = s
		}
	}
	var f Freshness
	for id, s := range newest {
		switch {
		case s.Age > within:
			f.Silent = append(f.Silent, id)
		case s.Head.Agrees(own):
			f.Agree = append(f.Agree, id)
		default:
			f.Differ = append(f.Differ, id)
		}
	}
	for _, set := range []party.Set{f.Agree, f.Differ, f.Silent} {
		slices.Sort(set)
	}
	f.Missing = max(0, need-len(f.Agree))
	f.Fresh = f.Missing == 0
	return f
}
