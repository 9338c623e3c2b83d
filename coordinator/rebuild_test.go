package coordinator_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"coffer/approval"
	"coffer/canon"
	"coffer/coordinator"
	"coffer/intent"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// A coordinator that lost everything but its identity, settings and charter finds again
// what was paid, what waits and what people said of it, and pays nothing twice.
func TestRebuild(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	var paid, waits, signed, unheard, rejected, cancelled, cancel, expires, wallet canon.Digest
	w.paid(5, func() {
		paid = w.mustSubmit(w.payment("PAID", 1))
		w.approve(paid)
		w.wantDone(paid)

		// Cancelled after it was signed.
		w.Gate.Fail("eth_sendRawTransaction", true)
		i := w.payment("CANCELLED", 1)
		cancelled = w.mustSubmit(i)
		w.approve(cancelled)
		w.until(cancelled, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })
		cancel = w.mustSubmit(w.cancelOf(i, "CANCEL"))
		w.approve(cancel)
		w.until(cancel, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })
		w.Gate.Fail("eth_sendRawTransaction", false)
		w.wantDone(cancel)
		w.end(cancelled)

		rejected = w.mustSubmit(w.payment("REJECTED", 1))
		w.must(w.state("bob", approval.Approve, rejected))
		w.must(w.state("carol", approval.Reject, rejected))
		w.wantEnd(rejected, pb.Stage_STAGE_FAILED, "REJECTED")

		// Sent, and mined while the coordinator is dead.
		w.Miner.Hold(true)
		unheard = w.mustSubmit(w.payment("UNHEARD", 1))
		w.approve(unheard)
		w.until(unheard, "sent", func(v *pb.IntentView) bool { return strings.Contains(v.Progress, "waiting for the block") })

		// Signed, and never sent.
		w.Gate.Fail("eth_sendRawTransaction", true)
		signed = w.mustSubmit(w.payment("SIGNED", 1))
		w.approve(signed)
		w.until(signed, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })

		waits = w.mustSubmit(w.payment("WAITS", 2))
		w.must(w.state("bob", approval.Approve, waits))
		i2 := w.Payment(w.Record, "EXPIRES", 77, 1)
		i2.NotBefore, i2.Expires = time.Now().Unix()-60, time.Now().Unix()+10
		expires = w.mustSubmit(w.Sign("alice", i2))
		second, err := intent.Parse(w.CreateWallet("SECOND-WALLET").Raw)
		w.must(err)
		second.Wallet = "second"
		wallet = w.mustSubmit(w.Sign("alice", second))
		w.must(w.state("bob", approval.Approve, wallet))
		w.Eventually("two signers know it all", func() bool {
			for _, member := range []party.ID{"a", "b"} {
				known := 0
				reply, err := w.Members[member].API().Recall(t.Context(), &pb.RecallRequest{})
				w.must(err)
				for _, k := range reply.Intents {
					if id := canon.Sum(k.Intent.Raw); id == waits && len(k.Statements) == 1 || id == wallet && len(k.Statements) == 1 || id == rejected && len(k.Statements) == 2 || id == expires {
						known++
					}
				}
				if known != 4 {
					return false
				}
			}
			return true
		})

		hash := w.get(paid).TxHash
		w.LoseDesk()
		if _, err := coordinator.New(coordinator.Config{Dir: w.Desk, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "--rebuild") {
			t.Fatalf("started without its store: %v", err)
		}
		if _, err := os.Stat(w.Desk.Store()); err == nil {
			t.Fatal("a store was made although nobody asked for it")
		}
		w.Gate.Fail("eth_sendRawTransaction", false)
		w.Miner.Hold(false)
		w.Eventually("it is mined", func() bool {
			nonce, err := w.Chain.Nonce(t.Context(), w.Account)
			return err == nil && nonce == 3
		})

		// One signer is not enough: a payment that the other two signed could be missing.
		w.Members["b"].Stop()
		w.Members["c"].Stop()
		w.Rebuild = true
		w.StartDesk()
		w.Eventually("a has told", func() bool {
			_, err := w.submit(w.Sign("alice", w.Payment(w.Record, "PAID", 9, 1)))
			wantCode(t, err, codes.Unavailable, "lost its store", "of 2")
			return strings.Contains(err.Error(), "1 of 2")
		})
		_, err = w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
		wantCode(t, err, codes.Unavailable, "missing are b, c")
		w.RestartDesk() // on the way, too
		w.Members["b"].Start()
		w.Eventually("requests are taken", func() bool {
			_, err := w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
			return err == nil
		})

		if v := w.wantDone(paid); v.TxHash != hash || v.Block == 0 {
			t.Errorf("paid as %s in block %d, before it was %s", v.TxHash, v.Block, hash)
		}
		w.wantDone(unheard)
		w.wantDone(cancel)
		if v := w.end(cancelled); v.FailureCode != "CANCELLED" && v.FailureCode != "NONCE_USED" {
			t.Errorf("the cancelled one ended %s %s", v.FailureCode, v.Detail)
		}
		w.wantEnd(rejected, pb.Stage_STAGE_FAILED, "REJECTED")
		w.wantEnd(expires, pb.Stage_STAGE_FAILED, "EXPIRED")
		w.wantDone(signed) // signed once more, with the same nonce

		// The same references pay once, also now; another request on one is refused.
		reply, err := w.submit(w.payment("PAID", 1))
		w.must(err)
		if !reply.Existed || reply.Intent.Id != paid.String() || reply.Intent.Stage != pb.Stage_STAGE_DONE {
			t.Errorf("existed %v: %s %s", reply.Existed, reply.Intent.Id, reply.Intent.Stage)
		}
		_, err = w.submit(w.payment("UNHEARD", 2))
		wantCode(t, err, codes.AlreadyExists, "choose a new reference")

		// What waited for people waits for the same people.
		w.until(waits, "waiting", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_APPROVAL && len(v.Statements) == 1 })
		w.must(w.state("carol", approval.Approve, waits))
		w.wantDone(waits)
		w.Members["c"].Start()
		w.must(w.state("carol", approval.Approve, wallet))
		w.wantDone(wallet)
	})

	// The next nonce is the chain's, and the wallets are there.
	id := w.mustSubmit(w.payment("AFTER", 1))
	w.approve(id)
	w.wantDone(id)
	wallets, err := w.API.Wallets(t.Context(), &pb.WalletsRequest{})
	w.must(err)
	if len(wallets.Wallets) != 2 {
		t.Errorf("%d wallets", len(wallets.Wallets))
	}
	w.RestartDesk()
	w.wantDone(paid)
}

// What a lost coordinator had sent may still wait in a pool. It is signed once more at
// its nonce, and whichever version is mined, the supplier is paid once.
func TestRebuildWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.paid(1, func() {
		w.Miner.Hold(true)
		id := w.mustSubmit(w.payment("POOL", 1))
		w.approve(id)
		w.until(id, "sent", func(v *pb.IntentView) bool { return strings.Contains(v.Progress, "waiting for the block") })
		w.LoseDesk()
		w.Rebuild = true
		w.StartDesk()
		w.Eventually("requests are taken", func() bool {
			_, err := w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
			return err == nil
		})
		w.until(id, "signed again", func(v *pb.IntentView) bool { return len(v.Sent) > 0 })
		w.Miner.Hold(false)
		if v := w.wantDone(id); v.Block == 0 {
			t.Errorf("done in block %d", v.Block)
		}
	})
}

// What was signed before the store was lost may be mined whatever people and signers say
// now: it is not called dead, which would invite somebody to pay again.
func TestRebuildKeepsWatchOfWhatMayBeMined(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.paid(1, func() {
		w.Miner.Hold(true)
		id := w.mustSubmit(w.payment("POOL", 1))
		w.approve(id)
		w.until(id, "sent", func(v *pb.IntentView) bool { return strings.Contains(v.Progress, "waiting for the block") })
		w.LoseDesk()
		for _, m := range w.Members { // so that it cannot simply be signed again
			_, err := m.Operator().Seal(t.Context(), &pb.SealRequest{})
			w.must(err)
		}
		w.Rebuild = true
		w.StartDesk()
		w.Eventually("requests are taken", func() bool {
			_, err := w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
			return err == nil
		})
		w.must(w.state("carol", approval.Reject, id))
		v := w.until(id, "watched", func(v *pb.IntentView) bool { return ended(v) || strings.Contains(v.Detail, "only a cancel stops it") })
		if ended(v) || len(v.RawTx) > 0 || v.Stage != pb.Stage_STAGE_SIGNING {
			t.Errorf("rejected after a rebuild: %s %s %s, %d bytes of transaction", v.Stage, v.FailureCode, v.Detail, len(v.RawTx))
		}
		w.Miner.Hold(false)
		if v := w.wantDone(id); v.Block == 0 {
			t.Errorf("done in block %d", v.Block)
		}
	})
}
