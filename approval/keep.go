package approval

import (
	"fmt"
	"slices"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
)

// Verify says whose statement about the subject this is: of a person whom the charter
// lists, signed by a key of that person. Whether it counts now is Tally's to say.
func Verify(c *charter.Charter, subject canon.Digest, signed Signed) (*Statement, error) {
	return Under{Force: c, Made: c}.Verify(subject, signed)
}

// Verify is the same for a person whom either of the two charters lists.
func (u Under) Verify(subject canon.Digest, signed Signed) (*Statement, error) {
	s, _, refusal := u.verify(subject, signed)
	if refusal != nil {
		return nil, fmt.Errorf("%s: %s", refusal.Code, refusal.Text)
	}
	return s, nil
}

// Keep adds a statement, which the caller has verified, to those of one intent, and
// says whether that changed them. Of one person, kind of statement and kind of key
// only the one that lasts longest is kept: nobody can fill the list that signers read,
// so that the word of somebody else finds no place, and an old statement that is shown
// again displaces no newer one.
func Keep(list []Signed, signed Signed) (kept []Signed, changed bool, err error) {
	s, at, err := place(signed)
	if err != nil {
		return list, false, err
	}
	for n := range list {
		old, oldAt, err := place(list[n])
		if err != nil {
			return list, false, err
		}
		if oldAt != at {
			continue
		}
		if old.Expires >= s.Expires {
			return list, false, nil
		}
		kept = slices.Clone(list)
		kept[n] = signed
		return kept, true, nil
	}
	if len(list) >= MaxStatements {
		return list, false, fmt.Errorf("the intent has %d statements already, signers read no more", MaxStatements)
	}
	return append(slices.Clone(list), signed), true, nil
}

// place is what only one statement of an intent has.
func place(signed Signed) (*Statement, [3]string, error) {
	s, err := Parse(signed.Raw)
	if err != nil {
		return nil, [3]string{}, err
	}
	key, err := credential.SignatureKey(signed.Signature)
	if err != nil {
		return nil, [3]string{}, err
	}
	return s, [3]string{s.Person, string(s.Kind), key.Kind}, nil
}

// Narrows says whether a statement of this kind can only take away: whoever has seen
// one need not be shown it again for it to count.
func (k Kind) Narrows() bool { return k.known() && k != Approve && k != Freeze }
