package testcharter_test

import (
	"testing"

	"coffer/approval"
	"coffer/chain/evm/eip55"
	"coffer/charter"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/policy"
)

// What other tests take for granted.
func TestFixture(t *testing.T) {
	f := testcharter.New(t)
	if err := f.Charter.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := f.File.Verify(); err != nil {
		t.Fatal(err)
	}
	if again := testcharter.New(t); again.Charter.Digest() != f.Charter.Digest() {
		t.Fatal("the charter is not the same every time")
	}
	other := testcharter.New(t, func(c *charter.Charter) { c.Name = "other" })
	if other.Charter.Digest() == f.Charter.Digest() {
		t.Fatal("the edit did nothing")
	}
	for _, a := range []string{testcharter.Supplier, testcharter.Second, testcharter.Stranger, testcharter.USDC, testcharter.Account("x")} {
		if _, err := eip55.Parse(a); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Charter.Policy(); err != nil {
		t.Fatal(err)
	}
	pay := f.Payment(testcharter.Now)
	for name, i := range map[string]*intent.Intent{
		"payment": pay, "token": f.TokenPayment(testcharter.Now), "cancel": f.Cancel(testcharter.Now, pay), "wallet": f.CreateWallet(testcharter.Now, "reserve"),
	} {
		got, _, err := f.Sign(t, i).Open(f.Charter)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		decide := func(people ...string) policy.Outcome {
			u := approval.Under{Force: f.Charter, Made: f.Charter, Now: testcharter.Now}
			w := approval.Weigh(u, got, got.Digest(), f.Approve(t, got, testcharter.Now, people...))
			if len(w.Refused) > 0 {
				t.Fatalf("%s: %v", name, w.Refused)
			}
			d := w.Decision
			if d.Outcome == policy.Deny {
				t.Fatalf("%s: %+v", name, d)
			}
			return d.Outcome
		}
		if got := decide(); got != policy.Wait {
			t.Fatalf("%s without approvals: %v", name, got)
		}
		if got := decide("alice", "bob"); got != policy.Allow {
			t.Fatalf("%s with two approvals: %v", name, got)
		}
	}
	if _, signed := f.Wallet(testcharter.Wallet); true {
		if _, err := signed.Open(f.Charter.Only()); err != nil {
			t.Fatal(err)
		}
	}
}
