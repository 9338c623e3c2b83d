package gate_test

import (
	"testing"

	"coffer/canon"
	"coffer/chain/evm"
	"coffer/gate"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/verdict"
)

func TestAuthorizedIsWhatWasJudged(t *testing.T) {
	for name, s := range map[string]*scene{"payment": payment(t), "token": tokenPayment(t), "cancel": cancelling(t)} {
		in := s.input()
		a, v := gate.Check(in)
		if !a.Valid() {
			t.Fatalf("%s: refused: %+v", name, v)
		}
		u, err := evm.Decode(in.Unsigned)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Intent() != s.intent.Digest() || a.Intent() != canon.Sum(in.Intent.Raw):
			t.Errorf("%s: of another intent", name)
		case a.Charter() != s.f.Charter.Digest():
			t.Errorf("%s: of another charter", name)
		case a.Session() != sessionID:
			t.Errorf("%s: of another session", name)
		case a.SigningDigest() != u.Digest() || a.Transaction() != canon.Digest(u.Digest()):
			t.Errorf("%s: of another transaction", name)
		case a.IsChallenge():
			t.Errorf("%s: passes as a challenge", name)
		}
		if v.Outcome != verdict.Sign || v.Intent != a.Intent() || v.Transaction != a.Transaction() || v.Signer != "north" || len(v.Matched) != 1 {
			t.Errorf("%s: verdict %+v", name, v)
		}
	}
}

func TestCeremonyIsWhatWasJudged(t *testing.T) {
	s := ceremony(t)
	c, v := gate.CheckCeremony(s.input())
	if !c.Valid() {
		t.Fatalf("refused: %+v", v)
	}
	if c.Wallet() != "reserve" || c.Intent() != s.intent.Digest() || c.Charter() != s.f.Charter.Digest() || c.Cluster() != s.f.Charter.Cluster ||
		c.Quorum() != s.f.Charter.Quorum || !c.Signers().Equal(s.f.Charter.Parties()) {
		t.Errorf("the permission differs from the intent: %+v", c)
	}
	c.Signers()[0] = "mallory"
	if !c.Signers().Equal(s.f.Charter.Parties()) {
		t.Error("a caller can change who takes part")
	}
}

func TestZeroPermissionsAreNotValid(t *testing.T) {
	var a *gate.Authorized
	var c *gate.Ceremony
	if a.Valid() || new(gate.Authorized).Valid() || c.Valid() || new(gate.Ceremony).Valid() || a.IsChallenge() {
		t.Error("nil or zero passes for a permission")
	}
}

func TestChallenge(t *testing.T) {
	f := testcharter.New(t)
	w, _ := f.Wallet("treasury")
	ceremony := canon.Sum([]byte("a ceremony"))
	a := gate.Challenge(sessionID, w, ceremony)
	if !a.Valid() || !a.IsChallenge() || a.Session() != sessionID || a.Intent() != ceremony || a.Charter() != w.Charter {
		t.Fatalf("challenge %+v", a)
	}
	// The golden vector of docs/encoding.md.
	want := canon.New("coffer/challenge/v1").Digest(w.Cluster).Digest(w.Charter).String("treasury").Uint64(1).
		Bytes(w.PublicKey[:]).Digest(ceremony).Digest(sessionID).Sum()
	if a.SigningDigest() != want || a.Transaction() != want {
		t.Errorf("challenge digest %x, want %s", a.SigningDigest(), want)
	}
	if b := gate.Challenge(canon.Sum([]byte("another session")), w, ceremony); b.SigningDigest() == a.SigningDigest() {
		t.Error("two sessions sign the same challenge")
	}
	if gate.Challenge(canon.Digest{}, w, ceremony) != nil || gate.Challenge(sessionID, nil, ceremony) != nil || gate.Challenge(sessionID, w, canon.Digest{}) != nil {
		t.Error("a challenge for nothing")
	}
}

// What at most once rests on: who may have the slot.
func TestSlotPasses(t *testing.T) {
	for name, c := range map[string]struct {
		of     *scene
		holder func(*scene) *gate.Holder
	}{
		"nobody's": {payment(t), func(*scene) *gate.Holder { return nil }},
		"the same intent, signed before: a higher fee": {payment(t), func(s *scene) *gate.Holder {
			return &gate.Holder{Intent: s.intent.Digest(), State: "signed", Expires: now + 60}
		}},
		"expired and never released": {payment(t), func(*scene) *gate.Holder {
			return &gate.Holder{Intent: other, State: gate.HolderReserved, Expires: now}
		}},
		"the cancel of a signed one": {cancelling(t), func(s *scene) *gate.Holder {
			return &gate.Holder{Intent: s.intent.Cancel.Subject, State: "signed", Expires: now + 60}
		}},
	} {
		in := c.of.input()
		in.Journal.Slot = c.holder(c.of)
		same := c.of.intent.Digest()
		in.Journal.Reference = &same
		if a, v := gate.Check(in); !a.Valid() {
			t.Errorf("%s: refused: %+v", name, v.Reasons)
		}
	}
}

// Judge answers people before there is a transaction, and never hides a refusal
// behind what merely waits.
func TestJudge(t *testing.T) {
	s := payment(t)
	in := s.input()
	in.Unsigned, in.Session = nil, canon.Digest{}
	if v := gate.Judge(in); v.Outcome != verdict.Sign || !v.Transaction.IsZero() {
		t.Errorf("an honest intent: %+v", v)
	}
	in.Statements = nil
	v := gate.Judge(in)
	if v.Outcome != verdict.Wait || len(v.Missing) == 0 {
		t.Errorf("without approvals: %+v", v)
	}
	s.approvers, s.unsigned = nil, func(u *evm.Unsigned) { u.To[0] ^= 1 }
	v = gate.Judge(s.input())
	if v.Outcome != verdict.Refuse || v.Reasons[len(v.Reasons)-1].Check != "G-TX-MATCH" {
		t.Errorf("a false transaction without approvals: %+v", v)
	}
	if v := gate.Judge(ceremony(t).input()); v.Outcome != verdict.Sign {
		t.Errorf("an honest ceremony: %+v", v)
	}
	if v := gate.Judge(gate.Input{}); v.Outcome != verdict.Refuse {
		t.Errorf("nothing at all: %+v", v)
	}
}

// The same input gives the same answer and is left as it was.
func TestCheckIsPure(t *testing.T) {
	s := payment(t)
	in := s.input()
	_, one := gate.Check(in)
	_, two := gate.Check(in)
	if one.Outcome != verdict.Sign || string(one.Encode()) != string(two.Encode()) {
		t.Errorf("two answers: %+v, %+v", one, two)
	}
	if i, err := intent.Parse(in.Intent.Raw); err != nil || i.Digest() != s.intent.Digest() {
		t.Error("the input changed")
	}
}
