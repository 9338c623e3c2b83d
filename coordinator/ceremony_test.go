package coordinator_test

import (
	"testing"

	"coffer/dkg"
	"coffer/envelope"
	"coffer/party"
)

// Signers stop in the last moment of a ceremony, when all have signed the record and none
// has heard of it. The coordinator asks again, and they finish it from their disks.
func TestWalletOutlivesAStop(t *testing.T) {
	w := newWorld(t)
	attested, n := make(chan struct{}), 0
	w.Net.SetTamper(func(_, _ party.ID, data []byte) []byte {
		e, err := envelope.Parse(data)
		if err != nil || e.Kind != dkg.KindAttest {
			return data
		}
		if n++; n == 6 {
			close(attested)
		}
		return nil
	})
	id := w.mustSubmit(w.CreateWallet("WALLET-1"))
	w.approve(id)
	<-attested
	w.Members["b"].Stop()
	w.Net.SetTamper(nil)
	w.Members["b"].Start()
	if view := w.wantDone(id); view.Wallet == nil {
		t.Error("done, and no wallet")
	}
	w.VerifyAudits()
}
