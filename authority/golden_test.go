package authority_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/internal/testcharter"
	"coffer/policy"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew")

// The signed and stored bytes of this package, by name.
func TestGolden(t *testing.T) {
	f := testcharter.New(t)
	cluster, intent := canon.Sum([]byte("golden cluster")), canon.Sum([]byte("golden intent"))
	freeze := authority.Freeze{Cluster: cluster, Scope: authority.ScopeWallet, Name: "treasury", Reason: "strange requests", By: "bob", Time: now, Nonce: [16]byte{1}}
	unfreeze := authority.Unfreeze{
		Cluster: cluster, Charter: canon.Sum([]byte("golden charter")), Freezes: authority.SortDigests([]canon.Digest{freeze.ID(), intent}),
		Reason: "all is well", Time: now, Expires: now + 3600, Nonce: [16]byte{2},
	}
	list := authority.ListVersion{
		Cluster: cluster, Name: "suppliers", Version: 2, Previous: intent, Issued: now,
		Entries: authority.SortEntries([]policy.Destination{{Chain: "dev", Address: testcharter.Second, Label: "tea"}, {Chain: "dev", Address: testcharter.Supplier, Label: "coffee"}}),
	}
	state := func(kind approval.Kind, subject canon.Digest) approval.Signed {
		s := &approval.Statement{Cluster: cluster, Kind: kind, Subject: subject, Person: "bob", Issued: now, Expires: now + 60}
		signed, err := approval.Sign(s, testcharter.SSH(t, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	north := f.Signers["north"]
	receipt := authority.NewReceipt(north, cluster, "north", freeze.ID(), now)
	frozen := authority.Record{
		Kind: authority.KindFreeze, Raw: freeze.Encode(), Statements: []approval.Signed{state(approval.Freeze, freeze.ID())}, Receipts: []authority.Receipt{receipt},
	}
	order := authority.Record{Kind: authority.KindOrder, Raw: intent[:], Statements: []approval.Signed{state(approval.Reject, intent)}}
	head := authority.Head{
		Cluster: cluster, Signer: "north", Version: 2, Charter: canon.Digest{1}, Freezes: canon.Digest{2}, Lists: canon.Digest{3},
		Records: canon.Digest{4}, AuditSize: 5, AuditRoot: canon.Digest{6}, Time: now,
	}
	_, signature := head.Sign(north)
	kept := authority.Kept{Record: frozen, Arrived: now, Complete: true, Waited: 7, Counted: []canon.Digest{{8}}, Forks: []canon.Digest{{9}}}
	got := map[string]string{
		"freeze": hex.EncodeToString(freeze.Encode()), "unfreeze": hex.EncodeToString(unfreeze.Encode()), "list": hex.EncodeToString(list.Encode()),
		"freeze-record": hex.EncodeToString(frozen.Encode()), "freeze-record-line": frozen.Line(), "freeze-record-sum": frozen.Sum().String(),
		"order-record": hex.EncodeToString(order.Encode()), "order-id": order.ID().String(), "receipt": hex.EncodeToString(receipt.Signature),
		"head": hex.EncodeToString(head.Encode()), "head-signature": hex.EncodeToString(signature), "kept": hex.EncodeToString(kept.Encode()),
	}
	if *update {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(got)) {
			fmt.Fprintln(&out, name, got[name])
		}
		if err := os.WriteFile("testdata/golden.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		name, value, _ := strings.Cut(line, " ")
		want[name] = value
	}
	for name, value := range got {
		if want[name] != value {
			t.Errorf("%s is\n%s\nwant\n%s", name, value, want[name])
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d vectors in the file, %d made", len(want), len(got))
	}

	for _, r := range []authority.Record{frozen, order} {
		back, err := authority.Parse(r.Encode())
		if err != nil || back.Sum() != r.Sum() {
			t.Errorf("%s does not read back: %v", r.Kind, err)
		}
		if back, err = authority.ParseLine(r.Line()); err != nil || back.ID() != r.ID() {
			t.Errorf("%s does not read back from its line: %v", r.Kind, err)
		}
	}
	if back, err := authority.ParseUnfreeze(unfreeze.Encode()); err != nil || !slices.Equal(back.Encode(), unfreeze.Encode()) {
		t.Errorf("unfreeze: %v", err)
	}
	if back, err := authority.ParseList(list.Encode()); err != nil || back.Digest() != list.Digest() {
		t.Errorf("list: %v", err)
	}
	if back, err := authority.ParseFreeze(freeze.Encode()); err != nil || back.ID() != freeze.ID() {
		t.Errorf("freeze: %v", err)
	}
	if back, err := authority.ParseHead(head.Encode()); err != nil || back != head {
		t.Errorf("head: %v", err)
	}
	if back, err := authority.ParseKept(kept.Encode()); err != nil || !slices.Equal(back.Encode(), kept.Encode()) {
		t.Errorf("kept: %v", err)
	}
}
