package main

import (
	"testing"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

// A signer that has another identity by now said what it said: its old verdicts are no
// lies of the coordinator's, and no word on what is still to be signed.
func TestVerdictOfAnIdentityBefore(t *testing.T) {
	t.Parallel()
	f := testcharter.New(t)
	now := unixNow()
	name := f.Charter.Signers[0].Name
	next := f.Next(t, f.Charter, func(c *charter.Charter) { c.Signers[0].Peer = testcharter.Identity(t, "another").ID() })
	ledger, err := authority.NewLedger(f.Charter, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := f.CharterRecord(t, next, now, []string{testcharter.SignerCard(t, testcharter.Identity(t, "another"), name, next.Signers[0].Org)}, "alice", "bob", "carol")
	if _, err := ledger.Add(f.Witness(t, r, now, f.Charter.Signers[1].Name, f.Charter.Signers[2].Name), now); err != nil {
		t.Fatal(err)
	}
	if ledger.InForce().Digest() != next.Digest() {
		t.Fatal("the version with the other identity is not in force")
	}
	c := &client{home: &home{ledger: ledger}, charter: next}
	id := canon.Sum([]byte("an intent"))
	says := func(key *identity.Key, under canon.Digest, stage pb.Stage) (*verdict.Verdict, error) {
		t.Helper()
		raw, signature, err := verdict.Verdict{Cluster: next.Cluster, Signer: name, Intent: id, Charter: under, Outcome: "sign", Time: now}.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return c.verdict(&shown{id: id, view: &pb.IntentView{Stage: stage}}, &pb.SignerVerdict{Signer: string(name), Verdict: raw, Signature: signature})
	}
	old, newer := f.Signers[name], testcharter.Identity(t, "another")
	if v, err := says(old, f.Charter.Digest(), pb.Stage_STAGE_DONE); err != nil || v.Outcome != "sign" {
		t.Errorf("of what is over: %v, %v", v, err)
	}
	if v, err := says(old, f.Charter.Digest(), pb.Stage_STAGE_APPROVAL); err != nil || v.Outcome != "unknown" || len(v.Reasons) != 1 {
		t.Errorf("of what waits: %v, %v", v, err)
	}
	if v, err := says(newer, f.Charter.Digest(), pb.Stage_STAGE_APPROVAL); err != nil || v.Outcome != "sign" {
		t.Errorf("by the identity that it has: %v, %v", v, err)
	}
	if _, err := says(old, next.Digest(), pb.Stage_STAGE_DONE); err == nil {
		t.Error("an identity that was given up speaks under the version that took it away")
	}
	if _, err := says(testcharter.Identity(t, "mallory"), f.Charter.Digest(), pb.Stage_STAGE_DONE); err == nil {
		t.Error("somebody else's verdict is taken")
	}
}
