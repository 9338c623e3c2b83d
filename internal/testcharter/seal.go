package testcharter

import (
	"fmt"
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
)

// places are the addresses of the n-th signer of a charter.
func places(n int) charter.Places {
	return charter.Places{P2P: []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", 7001+n)}, GRPC: fmt.Sprintf("127.0.0.1:%d", 7101+n)}
}

// seal validates c, and makes its file: a card for every key that the fixture has,
// and the signatures of all signers. A key that an edit brought along has no card.
func (f *Fixture) seal(t testing.TB, c *charter.Charter) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	f.Charter, f.File = c, &charter.File{Charter: c, Signatures: []charter.Signature{}}
	card := func(line string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f.File.Cards = append(f.File.Cards, line)
	}
	processes := map[identity.ID]*identity.Key{f.Coordinator.ID(): f.Coordinator}
	for _, key := range f.Signers {
		processes[key.ID()] = key
	}
	keys := map[credential.Key]credential.Signer{}
	for _, group := range []map[string]credential.Signer{f.People, f.Spare, f.Services} {
		for _, s := range group {
			keys[s.Key()] = s
		}
	}
	for n, s := range c.Signers {
		if key, ok := processes[s.Peer]; ok {
			card(charter.NewSignerCard(key, s.Name, s.Org, places(n)))
			if err := f.File.Sign(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range c.Coordinators {
		if key, ok := processes[s.Peer]; ok {
			card(charter.NewCoordinatorCard(key, s.Name, s.Org, "127.0.0.1:7200"))
		}
	}
	for _, p := range c.People {
		for _, k := range p.Keys {
			if s, ok := keys[k]; ok {
				card(charter.NewPersonCard(s, p.Name, p.Org))
			}
		}
	}
	for _, s := range c.Services {
		if key, ok := keys[s.Key]; ok {
			card(charter.NewServiceCard(key, s.Name, s.Org))
		}
	}
}
