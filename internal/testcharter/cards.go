package testcharter

import (
	"slices"
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/policy"
)

// Cards prove the keys that a version has and the one before has not. Whoever is new
// has the key that SSH or Identity gives for their name, or for "NAME's second".
func (f *Fixture) Cards(t testing.TB, next, after *charter.Charter) []string {
	t.Helper()
	var out []string
	for _, c := range next.NewKeys(after) {
		var line string
		var err error
		switch c.Kind {
		case charter.CardSigner:
			n := slices.IndexFunc(next.Signers, func(s charter.Signer) bool { return string(s.Name) == c.Name })
			line, err = charter.NewSignerCard(f.process(t, c), next.Signers[n].Name, c.Org, places(n))
		case charter.CardCoordinator:
			line, err = charter.NewCoordinatorCard(f.process(t, c), c.Name, c.Org, "127.0.0.1:7200")
		case charter.CardPerson:
			line, err = charter.NewPersonCard(f.holder(t, c.Name, c.Key), c.Name, c.Org)
		case charter.CardService:
			line, err = charter.NewServiceCard(f.holder(t, c.Name, c.Key), c.Name, c.Org)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, line)
	}
	return out
}

func (f *Fixture) process(t testing.TB, c charter.Card) *identity.Key {
	t.Helper()
	for _, name := range []string{c.Name, c.Name + "'s second"} {
		if key := Identity(t, name); key.ID() == c.Peer {
			return key
		}
	}
	t.Fatalf("testcharter has no identity %s of %s", c.Peer, c.Name)
	return nil
}

// holder is the signer of a person's or service's key.
func (f *Fixture) holder(t testing.TB, name string, key credential.Key) credential.Signer {
	t.Helper()
	mine := []credential.Signer{SSH(t, name), SSH(t, name+"'s second"), P256(t, name)}
	for _, group := range []map[string]credential.Signer{f.People, f.Spare, f.Services} {
		if s, ok := group[name]; ok {
			mine = append([]credential.Signer{s}, mine...)
		}
	}
	for _, s := range mine {
		if s.Key() == key {
			return s
		}
	}
	t.Fatalf("testcharter has no key %s of %s", key.Fingerprint(), name)
	return nil
}

// Lists adds two lists that approvers keep, staff and the sanctions banned; an edit for
// New. Until a version of banned is signed nothing is paid.
func Lists(c *charter.Charter) {
	keepers := func() *policy.Requirement { return &policy.Requirement{Group: "approvers", K: 2} }
	c.Destinations = append(c.Destinations,
		charter.DestinationList{Name: "staff", Keepers: keepers()},
		charter.DestinationList{Name: "banned", Kind: policy.ListSanctions, Keepers: keepers(), MaxAge: "24h"})
	for i := range c.Rules {
		if c.Rules[i].Name == "payments" {
			c.Rules[i].Destinations = append(c.Rules[i].Destinations, "staff")
		}
	}
}
