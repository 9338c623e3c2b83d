package node_test

import (
	"encoding/hex"
	"sync"
	"testing"

	"coffer/audit"
	"coffer/envelope"
	"coffer/identity"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/signing"
)

// A signer that signs two nonces for one run ends the session, and what it signed is
// in the other's audit log, as a proof for anybody.
func TestEvidenceIsKept(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	a, b := w.Members["a"], w.Members["b"]
	liar, err := identity.Load(b.Dir.Identity())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var nonce *envelope.Envelope
	w.Net.SetTamper(func(from, to party.ID, data []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		e, err := envelope.Parse(data)
		switch {
		case err != nil || from != "b" || to != "a":
		case e.Kind == signing.KindNonce:
			nonce = &e
		case nonce != nil:
			other := signing.Nonce{Run: nonce.Run, Value: [32]byte{1}}
			return envelope.Sign(liar, nonce.Header, other.Encode()).Encode()
		}
		return data
	})
	o := w.payment()
	attempt := cluster.Attempt()
	answers := w.Session(t.Context(), []party.ID{"a", "b"}, func(party.ID) *pb.SignRequest { return o.request(attempt, "a", "b") })
	if f := answers["a"].Failed; f == nil || f.Code != envelope.CodeEquivocation || len(f.Culprits) != 1 || f.Culprits[0] != "b" {
		t.Fatalf("a ended with %+v", answers["a"])
	}
	w.Net.SetTamper(nil)

	a.Stop()
	key, err := identity.Load(a.Dir.Identity())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(a.Dir.Audit(), key, "coffer/"+w.Charter.Cluster.String()+"/signer/a")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i := range log.Size() {
		e, err := log.Record(i)
		if err != nil {
			t.Fatal(err)
		}
		if e.Code != "RUN_FAILED" || e.Detail["first"] == "" {
			continue
		}
		field := func(name string) []byte {
			raw, err := hex.DecodeString(e.Detail[name])
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		proof := envelope.Evidence{First: field("first"), FirstSignature: field("first_signature"), Second: field("second"), SecondSignature: field("second_signature")}
		if who, err := proof.Verify(liar.ID()); err != nil || who != "b" {
			t.Errorf("the proof names %q: %v", who, err)
		}
		return
	}
	t.Error("no proof in the audit log")
}
