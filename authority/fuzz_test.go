package authority_test

import (
	"bytes"
	"testing"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	"coffer/policy"
)

// FuzzParse sends altered records through a whole ledger: each has one encoding, none
// brings it to panic, and nothing stands in the end but what the seeds' people signed.
func FuzzParse(f *testing.F) {
	x := testcharter.New(f, testcharter.Lists)
	next := x.Next(f, x.Charter, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	freeze := x.FreezeRecord(f, "bob", authority.ScopeCluster, "", now, 1)
	list := x.ListRecord(f, "staff", 1, canon.Digest{}, now, []policy.Destination{{Chain: testcharter.Chain, Address: testcharter.Supplier, Label: "coffee"}}, "alice", "bob")
	lift := x.UnfreezeRecord(f, x.Charter, now, []canon.Digest{freeze.ID()}, "alice", "bob")
	seeds := []authority.Record{
		freeze, x.FreezeRecord(f, "north", authority.ScopeWallet, "treasury", now, 2), list, lift,
		x.CharterRecord(f, next, now, nil, "alice", "bob"), x.OrderRecord(f, "reject", canon.Sum([]byte("intent")), now, "carol"),
	}
	signed := map[canon.Digest]bool{}
	for _, r := range seeds {
		signed[r.ID()] = true
		f.Add(r.Encode())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := authority.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Encode(), raw) {
			t.Fatal("one record, two encodings")
		}
		if back, err := authority.ParseLine(r.Line()); err != nil || back.Sum() != r.Sum() {
			t.Fatalf("does not read back from its line: %v", err)
		}
		l, err := authority.NewLedger(x.Charter, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Add(r, now); err != nil && authority.CodeOf(err) == "" {
			t.Fatalf("refused without a code: %v", err)
		}
		if l.InForce().Version != 1 {
			t.Fatal("a version took force that no signer has")
		}
		if stands := l.Frozen().Any() || len(l.Lists()) > 0 || l.Lifted(freeze.ID()) || len(l.Records()) > 0; stands && !signed[r.ID()] {
			t.Fatalf("nobody signed what stands: %+v", l.Records())
		}
	})
}

// FuzzBodies: what people sign has one encoding for one meaning.
func FuzzBodies(f *testing.F) {
	id := canon.Sum([]byte("freeze"))
	freeze := authority.Freeze{Cluster: id, Scope: authority.ScopePerson, Name: "bob", Reason: "strange requests", By: "north", Time: now}
	unfreeze := authority.Unfreeze{Cluster: id, Charter: id, Freezes: []canon.Digest{id}, Reason: "all is well", Time: now, Expires: now + 60}
	list := authority.ListVersion{Cluster: id, Name: "staff", Version: 1, Issued: now, Entries: []policy.Destination{{Chain: "dev", Address: testcharter.Supplier, Label: "coffee"}}}
	head := authority.Head{Cluster: id, Signer: "north", Version: 2, Charter: id, Time: now}
	for _, raw := range [][]byte{freeze.Encode(), unfreeze.Encode(), list.Encode(), head.Encode()} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var again []byte
		if x, err := authority.ParseFreeze(raw); err == nil {
			again = x.Encode()
		}
		if x, err := authority.ParseUnfreeze(raw); err == nil {
			again = x.Encode()
		}
		if x, err := authority.ParseList(raw); err == nil {
			again = x.Encode()
		}
		if x, err := authority.ParseHead(raw); err == nil {
			again = x.Encode()
		}
		if again != nil && !bytes.Equal(again, raw) {
			t.Fatal("one meaning, two encodings")
		}
	})
}

// FuzzParseKept: what a holder's disk gives back is as it was, or refused, by itself and
// by a ledger.
func FuzzParseKept(f *testing.F) {
	x := testcharter.New(f)
	r := x.FreezeRecord(f, "bob", authority.ScopeCluster, "", now, 1)
	f.Add(authority.Kept{Record: r, Arrived: now, Complete: true, Final: true}.Encode())
	next := x.CharterRecord(f, x.Next(f, x.Charter, func(c *charter.Charter) { c.Admin.Delay = "1h" }), now, nil, "alice", "bob")
	f.Add(authority.Kept{Record: next, Arrived: now, Complete: true, Counted: []canon.Digest{{1}}, Waited: 5}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := authority.ParseKept(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(k.Encode(), raw) {
			t.Fatal("one record, two encodings")
		}
		l, err := authority.NewLedger(x.Charter, x.Signers["north"])
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Restore([]authority.Kept{k}, now); err == nil && l.Frozen().Any() && k.Record.ID() != r.ID() {
			t.Fatalf("nobody made the freeze %+v", l.Freezes())
		}
	})
}
