package gate_test

import (
	"testing"

	"coffer/approval"
	"coffer/gate"
	"coffer/intent"
)

// FuzzCheck sends raw bytes that lack one approval: whatever is done to them, the
// gate neither panics nor permits, and its verdict can be signed.
func FuzzCheck(f *testing.F) {
	honest := payment(f).input()
	made := ceremony(f).input()
	token := tokenPayment(f).input()
	for _, in := range []gate.Input{honest, token} {
		f.Add(in.Intent.Raw, in.Intent.Signature, in.Statements[0].Raw, in.Statements[0].Signature, in.Unsigned)
	}
	f.Add(made.Intent.Raw, made.Intent.Signature, made.Statements[0].Raw, made.Statements[0].Signature, []byte(nil))
	f.Add([]byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil))

	f.Fuzz(func(t *testing.T, rawIntent, intentSig, rawStatement, statementSig, unsigned []byte) {
		in := honest
		in.Intent = intent.Signed{Raw: rawIntent, Signature: intentSig}
		in.Statements = []approval.Signed{{Raw: rawStatement, Signature: statementSig}}
		in.Unsigned = unsigned
		a, v := gate.Check(in)
		if a != nil {
			t.Fatal("permitted with one approval of two")
		}
		if err := v.Validate(); err != nil {
			t.Fatalf("the verdict cannot be signed: %v", err)
		}
		gate.Judge(in)
		in.Wallet = nil
		if c, _ := gate.CheckCeremony(in); c != nil {
			t.Fatal("a ceremony is permitted with one approval of two")
		}
	})
}
