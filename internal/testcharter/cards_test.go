package testcharter_test

import (
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/internal/testcharter"
)

// The next version has new people, keys and identities, and each is proved.
func TestCards(t *testing.T) {
	f := testcharter.New(t, testcharter.Lists)
	next := f.Next(t, f.Charter, func(c *charter.Charter) {
		c.People = append(c.People, charter.Person{Name: "erin", Org: "auditor", Groups: []string{"approvers"}, Keys: []credential.Key{testcharter.SSH(t, "erin").Key()}})
		c.People[0].Keys = []credential.Key{testcharter.SSH(t, "alice's second").Key()}
		c.Services[0].Key = testcharter.SSH(t, "payroll's second").Key()
		c.Signers[1].Peer = testcharter.Identity(t, "south's second").ID()
		c.Coordinators[0].Peer = testcharter.Identity(t, "desk's second").ID()
	})
	if err := next.Succeeds(f.Charter); err != nil {
		t.Fatal(err)
	}
	cards := f.Cards(t, next, f.Charter)
	if len(cards) != 5 {
		t.Errorf("%d cards", len(cards))
	}
	if err := charter.VerifyCards(next, f.Charter, cards); err != nil {
		t.Fatal(err)
	}
	third := f.Next(t, next, func(c *charter.Charter) { c.Services = nil })
	if len(f.Cards(t, third, next)) != 0 {
		t.Error("nobody is new, and there are cards")
	}
}
