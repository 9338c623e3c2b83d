package gate_test

import (
	"testing"

	"coffer/gate"
)

// BenchmarkCheck is a signer's whole judgement of a payment with its approvals.
func BenchmarkCheck(b *testing.B) {
	in := payment(b).input()
	for b.Loop() {
		if a, v := gate.Check(in); a == nil {
			b.Fatal(v)
		}
	}
}
