package authority_test

import (
	"testing"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/internal/testcharter"
)

const now = testcharter.Now

func freezeBy(t *testing.T, f *testcharter.Fixture, person, scope, name string, nonce byte) authority.Record {
	t.Helper()
	z := authority.Freeze{Cluster: f.Charter.Cluster, Scope: scope, Name: name, Reason: "strange requests", By: person, Time: now, Nonce: [16]byte{nonce}}
	r := authority.Record{Kind: authority.KindFreeze, Raw: z.Encode()}
	s := &approval.Statement{Cluster: f.Charter.Cluster, Kind: approval.Freeze, Subject: r.ID(), Person: person, Issued: now, Expires: now + 60}
	signed, err := approval.Sign(s, f.Key(t, person))
	if err != nil {
		t.Fatal(err)
	}
	r.Statements = []approval.Signed{signed}
	return r
}

func TestFreezeIsReceipted(t *testing.T) {
	f := testcharter.New(t)
	l, err := authority.NewLedger(f.Charter, f.Signers["north"])
	if err != nil {
		t.Fatal(err)
	}
	r := freezeBy(t, f, "bob", authority.ScopeWallet, "treasury", 1)
	parsed, err := authority.Parse(r.Encode())
	if err != nil {
		t.Fatal(err)
	}
	before := l.Head("north", 0, canon.Digest{}, now)
	events, err := l.Add(parsed, now)
	if err != nil || len(events) != 1 || events[0].Kind != authority.EventFrozen {
		t.Fatalf("%v, %v", events, err)
	}
	held := l.Freezes()
	if len(held) != 1 || !held[0].Receipts.Has("north") || held[0].Effective {
		t.Fatalf("held: %+v", held)
	}
	if l.Frozen().Wallet("treasury") == nil || l.Frozen().Wallet("other") != nil {
		t.Errorf("frozen: %+v", l.Frozen())
	}
	if after := l.Head("north", 0, canon.Digest{}, now); after.Agrees(before) {
		t.Error("the head is the same after a freeze")
	}
	if events, err := l.Add(parsed, now); err != nil || events != nil {
		t.Errorf("the same again: %v, %v", events, err)
	}
}
