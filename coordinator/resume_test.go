package coordinator_test

import (
	"fmt"
	"strings"
	"testing"

	"coffer/approval"
	"coffer/canon"
	pb "coffer/proto/coffer/v1"
)

// A coordinator that is stopped at any moment and started again goes on where it was,
// and pays exactly once.
func TestStopAtEveryStage(t *testing.T) {
	t.Parallel()
	w := newFunded(t)

	t.Run("before and between approvals", func(t *testing.T) {
		w.paid(1, func() {
			id := w.mustSubmit(w.payment("STOP-APPROVAL", 1))
			w.RestartDesk()
			w.must(w.state("bob", "approve", id))
			w.RestartDesk()
			if v := w.get(id); v.Stage != pb.Stage_STAGE_APPROVAL || len(v.Statements) != 1 {
				t.Errorf("%s with %d statements", v.Stage, len(v.Statements))
			}
			w.must(w.state("carol", "approve", id))
			w.wantDone(id)
			w.RestartDesk()
			reply, err := w.submit(w.payment("STOP-APPROVAL", 1))
			w.must(err)
			if !reply.Existed {
				t.Error("after a restart the reference is forgotten")
			}
		})
	})

	t.Run("before an approver heard the answer", func(t *testing.T) {
		w.paid(1, func() {
			id := w.mustSubmit(w.payment("STOP-ANSWER", 1))
			w.must(w.state("bob", approval.Approve, id))
			ask := &pb.StateRequest{Statement: w.State("carol", approval.Approve, id).ToProto()}
			_, err := w.API.State(t.Context(), ask)
			w.must(err)
			w.RestartDesk()
			w.wantDone(id)
			// The same statement once more is no new one, which would come too late.
			reply, err := w.API.State(t.Context(), ask)
			if err != nil || len(reply.Intent.Statements) != 2 {
				t.Errorf("the same statement again: %v, %v", reply, err)
			}
			if err := w.state("carol", approval.Approve, id); err == nil {
				t.Error("another statement about a payment that is done was taken")
			}
		})
	})

	for after := 1; after <= 8; after++ {
		t.Run(fmt.Sprintf("after %d changes", after), func(t *testing.T) {
			w.paid(1, func() {
				id := w.mustSubmit(w.payment(fmt.Sprintf("STOP-%d", after), 1))
				w.approve(id)
				changes := 0
				w.until(id, "changed so often", func(v *pb.IntentView) bool {
					changes++
					return ended(v) || changes > after
				})
				w.RestartDesk()
				w.wantDone(id)
			})
		})
	}

	t.Run("with too few signers", func(t *testing.T) {
		w.paid(1, func() {
			w.Members["b"].Stop()
			w.Members["c"].Stop()
			id := w.mustSubmit(w.payment("STOP-SIGNING", 1))
			w.approve(id)
			w.until(id, "waiting", func(v *pb.IntentView) bool { return strings.Contains(v.Progress, "2 needed") })
			for range 6 { // more often than tries are allowed: to be stopped is no failure
				w.RestartDesk()
			}
			w.Members["b"].Start()
			w.wantDone(id)
			w.Members["c"].Start()
		})
	})

	for name, fault := range map[string]func(on bool){
		"the transaction is not taken":   func(on bool) { w.Gate.Fail("eth_sendRawTransaction", on) },
		"the answer to it gets lost":     func(on bool) { w.Gate.Lose("eth_sendRawTransaction", on) },
		"receipts are not to be had":     func(on bool) { w.Gate.Fail("eth_getTransactionReceipt", on) },
		"the chain's endpoint is broken": func(on bool) { w.Gate.Fail("eth_chainId", on); w.Gate.Fail("eth_getTransactionReceipt", on) },
	} {
		t.Run(name, func(t *testing.T) {
			w.paid(1, func() {
				id := w.mustSubmit(w.payment(strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", "")), 1))
				fault(true)
				w.approve(id)
				w.until(id, "signed", func(v *pb.IntentView) bool {
					return v.Stage == pb.Stage_STAGE_BROADCAST && strings.Contains(v.Progress, "chain")
				})
				w.RestartDesk()
				fault(false)
				w.wantDone(id)
			})
		})
	}

	t.Run("many at once", func(t *testing.T) {
		w.paid(5, func() {
			var ids []canon.Digest
			for n := range 5 {
				ids = append(ids, w.mustSubmit(w.payment(fmt.Sprintf("MANY-%d", n), 1)))
			}
			for _, id := range ids {
				w.approve(id)
			}
			w.RestartDesk()
			for _, id := range ids {
				w.wantDone(id)
			}
		})
	})
}
