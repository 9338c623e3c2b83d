package main

import (
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

// What the coordinator kept of a signer from before its identity was changed is no lie;
// what no identity of that signer has said is one.
func TestSaidBefore(t *testing.T) {
	f := testcharter.New(t)
	fresh, id := testcharter.Identity(t, "north's second"), canon.Digest{7}
	next := f.Next(t, f.Charter, func(c *charter.Charter) { c.Signers[0].Peer = fresh.ID() })
	history := []*charter.Charter{f.Charter, next}
	v := &verdict.Verdict{Cluster: next.Cluster, Signer: "north", Intent: id, Charter: f.Charter.Digest(), Outcome: verdict.Sign, Time: testcharter.Now}
	say := func(by, signer string) *pb.SignerVerdict {
		t.Helper()
		key := fresh
		if by != "fresh" {
			key = f.Signers["north"]
		}
		if by == "south" {
			key = f.Signers["south"]
		}
		raw, signature, err := v.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return &pb.SignerVerdict{Signer: signer, Verdict: raw, Signature: signature}
	}
	if !saidBefore(history, id, say("old", "north")) || !saidBefore(history, id, say("fresh", "north")) {
		t.Error("north's own words, before and after, are held against the coordinator")
	}
	for what, rec := range map[string]*pb.SignerVerdict{"another signer's key": say("south", "north"), "another signer's name": say("old", "south"), "nobody's name": say("old", "mallory")} {
		if saidBefore(history, id, rec) {
			t.Errorf("%s passes", what)
		}
	}
	if saidBefore(history, canon.Digest{8}, say("old", "north")) {
		t.Error("what was said of another intent passes")
	}
	if saidBefore(history[1:], id, say("old", "north")) {
		t.Error("an identity that it never had by these versions passes")
	}
}
