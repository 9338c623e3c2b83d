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
	CodeEnrolled  = "APPROVAL_ENROLLED"  // by a person or key that only one of the two charters lists
	CodeFrozen    = "APPROVAL_FROZEN"    // the person is frozen
	CodeInitiator = "APPROVAL_INITIATOR" // the initiator approves
	CodeExpired   = "APPROVAL_EXPIRED"   // its time is over
	CodeFuture    = "APPROVAL_FUTURE"    // its time has not come
	CodeKind      = "APPROVAL_KIND"      // says nothing about an intent
	CodeWithdrawn = "APPROVAL_WITHDRAWN" // the person took it back
	CodeNoVoice   = "APPROVAL_NO_VOICE"  // a no of somebody whom nobody asks
)

// Under is what statements are judged by: the charter in force and the one that the
// intent was made under, which may be the same. Who counts must be enrolled in both.
type Under struct {
	Force *charter.Charter // the version in force
	Made  *charter.Charter // the version that the intent names
	// Frozen are the people whose yes does not count, with the freezes that say so. Their
	// no does: whoever freezes somebody must not silence a veto by it.
	Frozen map[string][]canon.Digest
	Lists  map[string]charter.ListState // what the keepers of lists signed last
	Now    int64
}

// Granted is what the statements come to.
type Granted struct {
	Votes   []policy.Vote // one for each person and kind of key, in order of names, as the charter in force has the people
	Made    []policy.Vote // the same, as the charter of the intent has them
	Noes    []No          // in order of names; Weigh says which of them end the intent
	Refused []Refusal     // in the order of the statements, withdrawn ones last
}

// No is a person's reject, veto or cancel.
type No struct {
	Person string
	Kind   Kind
	Org    string
	Groups []string // of either charter: what narrows needs one of them
}

// Refusal says why a statement does not count. Person is what the statement claims,
// and empty where it could not be read.
type Refusal struct {
	Person string
	Code   string
	Text   string
}

// Tally counts the statements about intent i, whose digest is subject. It verifies each
// of them; that i itself is what its initiator signed, the caller has verified
// (intent.Signed.Open).
func Tally(u Under, i *intent.Intent, subject canon.Digest, statements []Signed) Granted {
	var g Granted
	refuse := func(person, code, format string, args ...any) {
		g.Refused = append(g.Refused, Refusal{person, code, fmt.Sprintf(format, args...)})
	}
	switch {
	case u.Force == nil || u.Made == nil || i == nil || subject.IsZero() || i.Digest() != subject:
		refuse("", CodeSubject, "the subject is not the digest of the intent: nothing counts")
		return g
	case i.Cluster != u.Force.Cluster || i.Charter != u.Made.Digest():
		refuse("", CodeCluster, "the intent is of cluster %s under charter %s, this is %s: nothing counts", i.Cluster.Short(), i.Charter.Short(), u.Force.Cluster.Short())
		return g
	case len(statements) > MaxStatements:
		refuse("", CodeMalformed, "there are %d statements, at most %d are looked at: nothing counts", len(statements), MaxStatements)
		return g
	}

	// Two passes, so that a withdrawal counts wherever in the list it stands.
	type approver struct {
		author
		kinds map[string]bool // of the keys that approved
	}
	approvers, withdrawn, noes := map[string]approver{}, map[string]bool{}, map[string]No{}
	for _, signed := range statements {
		s, by, refusal := u.verify(subject, signed)
		if refusal != nil {
			g.Refused = append(g.Refused, *refusal)
			continue
		}
		switch s.Kind {
		case Reject, Veto, Cancel:
			noes[s.Person+" "+string(s.Kind)] = by.no(s.Kind)
		case Withdraw:
			withdrawn[s.Person] = true
		case Approve:
			switch ids := u.Frozen[s.Person]; {
			case s.Person == i.Initiator:
				refuse(s.Person, CodeInitiator, "%q asked for it, so somebody else must approve", s.Person)
			case by.force == nil || by.made == nil:
				refuse(s.Person, CodeEnrolled, "%q is enrolled with this key in %s only, and who approves must be in both", s.Person, by.where())
			case len(ids) > 0:
				refuse(s.Person, CodeFrozen, "%q is frozen (%s); the approval counts again when that is lifted", s.Person, ids[0].Short())
			// Written without sums of outside numbers: now may be anything.
			case s.Issued > u.Now && s.Issued-MaxSkew > u.Now:
				refuse(s.Person, CodeFuture, "approval of %q is issued at %d, now it is %d; check the clocks", s.Person, s.Issued, u.Now)
			case u.Now >= s.Expires:
				refuse(s.Person, CodeExpired, "approval of %q expired at %d, now it is %d; approve anew", s.Person, s.Expires, u.Now)
			default:
				a, ok := approvers[s.Person]
				if !ok {
					a = approver{by, map[string]bool{}}
					approvers[s.Person] = a
				}
				a.kinds[by.key.Kind] = true
			}
		default:
			refuse(s.Person, CodeKind, "a %s says nothing about an intent", s.Kind)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(noes)) {
		g.Noes = append(g.Noes, noes[at])
	}
	for _, name := range slices.Sorted(maps.Keys(approvers)) {
		a := approvers[name]
		if withdrawn[name] {
			refuse(name, CodeWithdrawn, "%q withdrew the approval; what is wanted after all must be asked for anew", name)
			continue
		}
		for _, kind := range slices.Sorted(maps.Keys(a.kinds)) {
			g.Votes, g.Made = append(g.Votes, vote(a.force, kind)), append(g.Made, vote(a.made, kind))
		}
	}
	return g
}

func vote(p *charter.Person, kind string) policy.Vote {
	return policy.Vote{Person: p.Name, Org: p.Org, Groups: slices.Clone(p.Groups), KeyKind: kind}
}

// author is whose statement it is, as each of the two charters has the person; nil where
// it does not list the person with the key that signed.
type author struct {
	force, made *charter.Person
	key         credential.Key
}

func (a author) where() string {
	if a.force != nil {
		return "the charter in force"
	}
	return "the charter that the intent was made under"
}

// no is what the author of a no may say it as: all that either charter makes of the person.
func (a author) no(k Kind) No {
	n := No{Kind: k}
	for _, p := range []*charter.Person{a.made, a.force} {
		if p != nil {
			n.Person, n.Org = p.Name, p.Org
			n.Groups = append(n.Groups, p.Groups...)
		}
	}
	slices.Sort(n.Groups)
	n.Groups = slices.Compact(n.Groups)
	return n
}

// verify says whose statement about the subject this is, or why it is nobody's.
func (u Under) verify(subject canon.Digest, signed Signed) (*Statement, author, *Refusal) {
	none := func(person, code, format string, args ...any) (*Statement, author, *Refusal) {
		return nil, author{}, &Refusal{person, code, fmt.Sprintf(format, args...)}
	}
	s, err := Parse(signed.Raw)
	if err != nil {
		return none("", CodeMalformed, "%v", err)
	}
	if s.Cluster != u.Force.Cluster {
		return none(s.Person, CodeCluster, "statement of %q is for cluster %s, this is %s", s.Person, s.Cluster.Short(), u.Force.Cluster.Short())
	}
	if s.Subject != subject {
		return none(s.Person, CodeSubject, "statement of %q is about %s, not about %s", s.Person, s.Subject.Short(), subject.Short())
	}
	inForce, listed := u.Force.Person(s.Person)
	asMade, wasListed := u.Made.Person(s.Person)
	if !listed && !wasListed {
		return none(s.Person, CodePerson, "the charter lists no person %q", s.Person)
	}
	by := author{}
	if by.key, err = credential.SignatureKey(signed.Signature); err != nil {
		return none(s.Person, CodeSignature, "statement of %q: %v", s.Person, err)
	}
	if listed && slices.Contains(inForce.Keys, by.key) {
		by.force = &inForce
	}
	if wasListed && slices.Contains(asMade.Keys, by.key) {
		by.made = &asMade
	}
	if by.force == nil && by.made == nil {
		return none(s.Person, CodeSignature, "statement of %q is signed by key %s, which is not enrolled for that person", s.Person, by.key.Fingerprint())
	}
	digest := canon.Sum(signed.Raw)
	if err := by.key.Verify(Namespace, digest[:], signed.Signature); err != nil {
		hint := ""
		if errors.Is(err, credential.ErrNamespace) {
			hint = "; it was made for another purpose"
		}
		return none(s.Person, CodeSignature, "statement of %q: %v%s", s.Person, err, hint)
	}
	return s, by, nil
}
