package testcharter

import (
	"testing"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

// Next is the version after old, edited and valid.
func (f *Fixture) Next(t testing.TB, old *charter.Charter, edit func(*charter.Charter)) *charter.Charter {
	t.Helper()
	c, err := old.Clone()
	if err != nil {
		t.Fatal(err)
	}
	c.Follow(old)
	edit(c)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Card is a person's card for a key that is not in the charter yet.
func Card(t testing.TB, key credential.Signer, name, org string) string {
	t.Helper()
	line, err := charter.NewPersonCard(key, name, org)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// SignerCard is the card of a signer's new identity.
func SignerCard(t testing.TB, key *identity.Key, name party.ID, org string) string {
	t.Helper()
	line, err := charter.NewSignerCard(key, name, org, charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/7009"}, GRPC: "127.0.0.1:7109"})
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// CharterRecord proposes a version, approved by people with their first keys, for an hour.
func (f *Fixture) CharterRecord(t testing.TB, c *charter.Charter, now int64, cards []string, people ...string) authority.Record {
	t.Helper()
	r := authority.Record{Kind: authority.KindCharter, Raw: c.Encode(), Cards: cards}
	return f.Say(t, r, approval.Approve, now, people...)
}

// ListRecord proposes a version of a list.
func (f *Fixture) ListRecord(t testing.TB, name string, version uint64, previous canon.Digest, now int64, entries []policy.Destination, people ...string) authority.Record {
	t.Helper()
	l := authority.ListVersion{Cluster: f.Charter.Cluster, Name: name, Version: version, Previous: previous, Issued: now, Entries: authority.SortEntries(entries)}
	return f.Say(t, authority.Record{Kind: authority.KindList, Raw: l.Encode()}, approval.Approve, now, people...)
}

// FreezeRecord is a freeze by a person or a signer; the nonce tells freezes apart.
func (f *Fixture) FreezeRecord(t testing.TB, by, scope, name string, now int64, nonce byte) authority.Record {
	t.Helper()
	z := authority.Freeze{Cluster: f.Charter.Cluster, Scope: scope, Name: name, Reason: "strange requests", By: by, Time: now, Nonce: [16]byte{nonce}}
	if key, ok := f.Signers[party.ID(by)]; ok {
		return z.SignedBy(key)
	}
	return f.Say(t, authority.Record{Kind: authority.KindFreeze, Raw: z.Encode()}, approval.Freeze, now, by)
}

// UnfreezeRecord lifts freezes under version c, within an hour.
func (f *Fixture) UnfreezeRecord(t testing.TB, c *charter.Charter, now int64, freezes []canon.Digest, people ...string) authority.Record {
	t.Helper()
	u := authority.Unfreeze{Cluster: c.Cluster, Charter: c.Digest(), Freezes: authority.SortDigests(freezes), Reason: "all is well", Time: now, Expires: now + 3600}
	return f.Say(t, authority.Record{Kind: authority.KindUnfreeze, Raw: u.Encode()}, approval.Approve, now, people...)
}

// OrderRecord is what people say against an intent.
func (f *Fixture) OrderRecord(t testing.TB, kind approval.Kind, intent canon.Digest, now int64, people ...string) authority.Record {
	t.Helper()
	return f.Say(t, authority.Record{Kind: authority.KindOrder, Raw: intent[:]}, kind, now, people...)
}

// Say adds statements of people about a record, with their first keys, for an hour.
func (f *Fixture) Say(t testing.TB, r authority.Record, kind approval.Kind, now int64, people ...string) authority.Record {
	t.Helper()
	r.Statements = append([]approval.Signed(nil), r.Statements...)
	for _, p := range people {
		r.Statements = append(r.Statements, f.SayWith(t, r, kind, now, p, f.Key(t, p)))
	}
	return r
}

// SayWith is one statement with a key of any owner.
func (f *Fixture) SayWith(t testing.TB, r authority.Record, kind approval.Kind, now int64, person string, key credential.Signer) approval.Signed {
	t.Helper()
	s := &approval.Statement{Cluster: f.Charter.Cluster, Kind: kind, Subject: r.Subject(), Person: person, Issued: now, Expires: now + 3600}
	signed, err := approval.Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Witness adds receipts of signers under their first identities.
func (f *Fixture) Witness(t testing.TB, r authority.Record, now int64, signers ...party.ID) authority.Record {
	t.Helper()
	r.Receipts = append([]authority.Receipt(nil), r.Receipts...)
	for _, id := range signers {
		r.Receipts = append(r.Receipts, authority.NewReceipt(f.Signers[id], f.Charter.Cluster, id, r.ID(), now))
	}
	return r
}
