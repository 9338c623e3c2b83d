package gate_test

import (
	"math/big"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/credential"
	"coffer/gate"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/verdict"
)

const now = testcharter.Now

var sessionID = canon.Sum([]byte("a session"))

// scene is one request to one signer, in its parts. input puts them together, so
// that a case alters one part and everything that depends on it (digests,
// signatures, approvals) is honest again.
type scene struct {
	t         testing.TB
	f         *testcharter.Fixture
	force     *charter.Charter // in force; nil: the fixture's own, under which the intent is made
	intent    *intent.Intent
	fees      evm.Fees
	approvers []string
	unsigned  func(*evm.Unsigned) // alters the transaction after it was built honestly
	in        func(*gate.Input)   // alters the finished input
}

func payment(t testing.TB, edits ...func(*charter.Charter)) *scene {
	f := testcharter.New(t, edits...)
	return &scene{
		t: t, f: f, intent: f.Payment(now), approvers: []string{"alice", "bob"},
		fees: evm.Fees{TipCap: gwei(1), FeeCap: gwei(30), Gas: evm.PlainGas},
	}
}

func tokenPayment(t testing.TB) *scene {
	s := payment(t)
	s.intent, s.fees.Gas = s.f.TokenPayment(now), 100_000
	return s
}

func cancelling(t testing.TB) *scene {
	s := payment(t)
	s.intent = s.f.Cancel(now, s.intent)
	return s
}

func ceremony(t testing.TB) *scene {
	s := payment(t)
	s.intent = s.f.CreateWallet(now, "reserve")
	return s
}

// guarded is a payment in a cluster where erin, of the security group, has a veto.
func guarded(t testing.TB, edits ...func(*charter.Charter)) *scene {
	s := payment(t, append([]func(*charter.Charter){withVeto(t)}, edits...)...)
	s.f.People["erin"] = testcharter.SSH(t, "erin")
	return s
}

func withVeto(t testing.TB) func(*charter.Charter) {
	return func(c *charter.Charter) {
		c.People = append(c.People, charter.Person{Name: "erin", Org: "auditor", Groups: []string{"security"}, Keys: []credential.Key{testcharter.SSH(t, "erin").Key()}})
		c.Veto = []string{"security"}
	}
}

func gwei(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1_000_000_000)) }

func (s *scene) input() gate.Input {
	s.t.Helper()
	in := gate.Input{
		Now: now, Self: "north", Charter: s.f.Charter, Made: s.f.Charter, Session: sessionID, Journal: gate.View{LastTime: now - 10},
		Intent: s.f.Sign(s.t, s.intent), Statements: s.f.Approve(s.t, s.intent, now, s.approvers...),
	}
	if s.force != nil {
		in.Charter = s.force
	}
	in.Here = head("north", in.Charter)
	in.Heads = []authority.Seen{{Head: head("south", in.Charter), Age: 5 * time.Second}}
	if s.intent.Kind != intent.CreateWallet {
		in.Wallet, _ = s.f.Wallet(testcharter.Wallet)
		u, err := evm.Build(s.intent, s.f.Charter, s.fees)
		if err != nil {
			s.t.Fatal(err)
		}
		if s.unsigned != nil {
			s.unsigned(u)
		}
		in.Unsigned = u.Encode()
	}
	if s.in != nil {
		s.in(&in)
	}
	return in
}

// ask gives the input to the decision that its kind calls for.
func ask(in gate.Input, asCeremony bool) (permitted bool, v verdict.Verdict) {
	if asCeremony {
		c, v := gate.CheckCeremony(in)
		return c.Valid(), v
	}
	a, v := gate.Check(in)
	return a.Valid(), v
}

// head is where a signer stands when a charter is in force.
func head(signer party.ID, c *charter.Charter) authority.Head {
	return authority.Head{Cluster: c.Cluster, Signer: signer, Version: c.Version, Charter: c.Digest()}
}

// since has the charter changed after the intent was made.
func since(edit func(*charter.Charter)) func(*scene) {
	return func(s *scene) { s.force = s.f.Next(s.t, s.f.Charter, edit) }
}

// statement alters one statement of the first approver and signs it anew.
func (s *scene) statement(edit func(*approval.Statement)) approval.Signed {
	s.t.Helper()
	st := s.f.Statement(s.approvers[0], approval.Approve, s.intent, now)
	edit(st)
	signed, err := approval.Sign(st, s.f.Key(s.t, st.Person))
	if err != nil {
		s.t.Fatal(err)
	}
	return signed
}
