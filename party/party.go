package party

import (
	"fmt"
	"slices"
)

// ID is a signer's name in the charter: 1 to 32 of a-z, 0-9 and '-', beginning with a letter.
type ID string

// Set is a sorted list of distinct parties. Use NewSet; every function here keeps it sorted.
type Set []ID

// NewSet sorts a copy of ids and refuses duplicates.
func NewSet(ids ...ID) (Set, error) {
	s := slices.Clone(ids)
	slices.Sort(s)
	for i := 1; i < len(s); i++ {
		if s[i] == s[i-1] {
			return nil, fmt.Errorf("signer %q is named twice", s[i])
		}
	}
	return s, nil
}

// Has reports membership.
func (s Set) Has(id ID) bool { _, ok := slices.BinarySearch(s, id); return ok }

// Index is the position of id, or -1.
func (s Set) Index(id ID) int {
	if i, ok := slices.BinarySearch(s, id); ok {
		return i
	}
	return -1
}

// Without returns the set less id.
func (s Set) Without(id ID) Set {
	out := make(Set, 0, len(s))
	for _, x := range s {
		if x != id {
			out = append(out, x)
		}
	}
	return out
}

// Equal compares two sets.
func (s Set) Equal(o Set) bool { return slices.Equal(s, o) }

// SubsetOf reports whether every member of s is in o.
func (s Set) SubsetOf(o Set) bool {
	for _, id := range s {
		if !o.Has(id) {
			return false
		}
	}
	return true
}

// Strings returns the names, for canonical encodings and protobuf.
func (s Set) Strings() []string {
	out := make([]string, len(s))
	for i, id := range s {
		out[i] = string(id)
	}
	return out
}

// SetFrom is NewSet over plain strings, as protobuf carries them.
func SetFrom(names []string) (Set, error) {
	ids := make([]ID, len(names))
	for i, n := range names {
		ids[i] = ID(n)
	}
	return NewSet(ids...)
}

// Quorum says that exactly Need of Of signers sign.
type Quorum struct {
	Need int `json:"need"`
	Of   int `json:"of"`
}

// Validate refuses a quorum whose two disjoint halves could both sign: 2·Need > Of
// makes any two quorums share a signer.
func (q Quorum) Validate() error {
	switch {
	case q.Need < 2:
		return fmt.Errorf("quorum %s: need is at least 2, or one signer alone holds the key", q)
	case q.Of > 20:
		return fmt.Errorf("quorum %s: at most 20 signers", q)
	case q.Need > q.Of:
		return fmt.Errorf("quorum %s: need is more than there are signers", q)
	case 2*q.Need <= q.Of:
		return fmt.Errorf("quorum %s: two groups of signers could sign without sharing a member; need more than half", q)
	}
	return nil
}

func (q Quorum) String() string { return fmt.Sprintf("%d-of-%d", q.Need, q.Of) }
