package node_test

import (
	"testing"

	"coffer/chain/evm"
	"coffer/internal/cluster"
	"coffer/partial"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// A wallet and a payment, through real stores, sockets and logs.
func TestWalletAndPayment(t *testing.T) {
	c := cluster.New(t, cluster.Config{})
	record := c.Wallet()
	i := c.Sign("alice", c.Payment(record, "INV-1", 0, 15))
	u := c.Unsigned(i)
	statements := c.Approvals(i)
	attempt := cluster.Attempt()
	answers := c.Session(t.Context(), []party.ID{"a", "c"}, func(party.ID) *pb.SignRequest {
		return &pb.SignRequest{Intent: i.ToProto(), Statements: statements, UnsignedTx: u.Encode(), Signers: []string{"a", "c"}, Attempt: attempt}
	})
	var partials []partial.Partial
	for id, a := range answers {
		if a.Partial == nil {
			t.Fatalf("signer %s: %+v", id, a)
		}
		partials = append(partials, partial.Partial{Session: [32]byte(a.Partial.Session), R: [33]byte(a.Partial.R), S: [32]byte(a.Partial.S)})
	}
	sig, err := partial.Combine(u.Digest(), record.PublicKey, 2, partials)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := u.Assemble(sig)
	if err != nil {
		t.Fatal(err)
	}
	from, _, err := evm.Recover(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := evm.AddressOf(record.PublicKey); err != nil || from != want {
		t.Fatalf("signed by %s, want %s", from, want)
	}
}
