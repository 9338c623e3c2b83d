package approval

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/policy"
)

// Codes of refused statements.
const (
	CodeMalformed = "APPROVAL_MALFORMED" // not a canonical statement, or too many of them
	CodeCluster   = "APPROVAL_CLUSTER"   // made for another cluster
	CodeSubject   = "APPROVAL_SUBJECT"   // about another intent
	CodePerson    = "APPROVAL_PERSON"    // by nobody whom the charter lists
	CodeSignature = "APPROVAL_SIGNATURE" // not signed by a key of that person
	CodeInitiator = "APPROVAL_INITIATOR" // the initiator approves
	CodeExpired   = "APPROVAL_EXPIRED"   // its time is over
	CodeFuture    = "APPROVAL_FUTURE"    // its time has not come
	CodeKind      = "APPROVAL_KIND"      // says nothing about an intent
	CodeWithdrawn = "APPROVAL_WITHDRAWN" // the person took it back
)

// Granted is what the statements come to.
type Granted struct {
	Votes    []policy.Vote // one for each person and kind of key, in order of names
	Rejected []string      // who ended the intent, in order of names; any ends it
	Refused  []Refusal     // in the order of the statements, withdrawn ones last
}

// Refusal says why a statement does not count. Person is what the statement claims,
// and empty where it could not be read.
type Refusal struct {
	Person string
	Code   string
	Text   string
}

// Tally counts the statements about intent i, whose digest is subject, at time now.
// It verifies each of them; that i itself is what its initiator signed, the caller
// has verified (intent.Signed.Open).
func Tally(c *charter.Charter, i *intent.Intent, subject canon.Digest, statements []Signed, now int64) Granted {
	var g Granted
	refuse := func(person, code, format string, args ...any) {
		g.Refused = append(g.Refused, Refusal{person, code, fmt.Sprintf(format, args...)})
	}
	switch {
	case c == nil || i == nil || subject.IsZero() || i.Digest() != subject:
		refuse("", CodeSubject, "the subject is not the digest of the intent: nothing counts")
		return g
	case i.Cluster != c.Cluster:
		refuse("", CodeCluster, "the intent is of cluster %s, this is %s: nothing counts", i.Cluster.Short(), c.Cluster.Short())
		return g
	case len(statements) > MaxStatements:
		refuse("", CodeMalformed, "there are %d statements, at most %d are looked at: nothing counts", len(statements), MaxStatements)
		return g
	}

	// Two passes, so that a withdrawal counts wherever in the list it stands.
	type approver struct {
		person charter.Person
		kinds  map[string]bool // of the keys that approved
	}
	approvers := map[string]approver{}
	withdrawn, rejected := map[string]bool{}, map[string]bool{}
	for _, signed := range statements {
		s, person, key, refusal := verify(c, subject, signed)
		if refusal != nil {
			g.Refused = append(g.Refused, *refusal)
			continue
		}
		switch s.Kind {
		case Reject, Veto, Cancel:
			rejected[s.Person] = true
		case Withdraw:
			withdrawn[s.Person] = true
		case Approve:
			switch {
			case s.Person == i.Initiator:
				refuse(s.Person, CodeInitiator, "%q asked for it, so somebody else must approve", s.Person)
			// Written without sums of outside numbers: now may be anything.
			case s.Issued > now && s.Issued-MaxSkew > now:
				refuse(s.Person, CodeFuture, "approval of %q is issued at %d, now it is %d; check the clocks", s.Person, s.Issued, now)
			case now >= s.Expires:
				refuse(s.Person, CodeExpired, "approval of %q expired at %d, now it is %d; approve anew", s.Person, s.Expires, now)
			default:
				a, ok := approvers[s.Person]
				if !ok {
					a = approver{person, map[string]bool{}}
					approvers[s.Person] = a
				}
				a.kinds[key.Kind] = true
			}
		default:
			refuse(s.Person, CodeKind, "a %s says nothing about an intent", s.Kind)
		}
	}
	g.Rejected = slices.Sorted(maps.Keys(rejected))
	for _, name := range slices.Sorted(maps.Keys(approvers)) {
		a := approvers[name]
		if withdrawn[name] {
			refuse(name, CodeWithdrawn, "%q withdrew the approval; what is wanted after all must be asked for anew", name)
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(a.kinds)) {
			g.Votes = append(g.Votes, policy.Vote{Person: name, Org: a.person.Org, Groups: slices.Clone(a.person.Groups), KeyKind: kind})
		}
	}
	return g
}

// verify says whose statement about the subject this is, or why it is nobody's.
func verify(c *charter.Charter, subject canon.Digest, signed Signed) (*Statement, charter.Person, credential.Key, *Refusal) {
	none := func(person, code, format string, args ...any) (*Statement, charter.Person, credential.Key, *Refusal) {
		return nil, charter.Person{}, credential.Key{}, &Refusal{person, code, fmt.Sprintf(format, args...)}
	}
	s, err := Parse(signed.Raw)
	if err != nil {
		return none("", CodeMalformed, "%v", err)
	}
	if s.Cluster != c.Cluster {
		return none(s.Person, CodeCluster, "statement of %q is for cluster %s, this is %s", s.Person, s.Cluster.Short(), c.Cluster.Short())
	}
	if s.Subject != subject {
		return none(s.Person, CodeSubject, "statement of %q is about %s, not about %s", s.Person, s.Subject.Short(), subject.Short())
	}
	person, ok := c.Person(s.Person)
	if !ok {
		return none(s.Person, CodePerson, "the charter lists no person %q", s.Person)
	}
	key, err := credential.SignatureKey(signed.Signature)
	if err != nil {
		return none(s.Person, CodeSignature, "statement of %q: %v", s.Person, err)
	}
	if !slices.Contains(person.Keys, key) {
		return none(s.Person, CodeSignature, "statement of %q is signed by key %s, which is not enrolled for that person", s.Person, key.Fingerprint())
	}
	digest := canon.Sum(signed.Raw)
	if err := key.Verify(Namespace, digest[:], signed.Signature); err != nil {
		hint := ""
		if errors.Is(err, credential.ErrNamespace) {
			hint = "; it was made for another purpose"
		}
		return none(s.Person, CodeSignature, "statement of %q: %v%s", s.Person, err, hint)
	}
	return s, person, key, nil
}
