package coordinator_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"coffer/approval"
	"coffer/audit"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/coordinator"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/partial"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// onChain starts a funded treasury with these settings of its chain.
func onChain(t *testing.T, s coordinator.ChainSettings) *world {
	t.Helper()
	return &world{cluster.NewTreasury(t, func(c *cluster.Config) {
		s.URL = c.Chain.URL
		c.Chain = s
	}).Fund(), t}
}

// eventually asks for an intent until ok: also beyond its end, where Watch is over.
func (w *world) eventually(id canon.Digest, what string, ok func(*pb.IntentView) bool) (v *pb.IntentView) {
	w.t.Helper()
	w.Eventually(fmt.Sprintf("intent %s %s", id.Short(), what), func() bool {
		v = w.get(id)
		return ok(v)
	})
	return v
}

func (w *world) audited(code string) (n int) {
	w.t.Helper()
	w.StopDesk()
	log, err := audit.Open(w.Desk.Audit(), w.DeskKey, "coffer/"+w.Charter.Cluster.String()+"/coordinator/desk")
	w.must(err)
	defer func() { w.must(log.Close()) }()
	for at := range log.Size() {
		e, err := log.Record(at)
		w.must(err)
		if e.Code == code {
			n++
		}
	}
	return n
}

// outside has signers sign without the coordinator: what a quorum can always do.
func (w *world) outside(i intent.Signed, fees evm.Fees) []byte {
	w.t.Helper()
	parsed, err := intent.Parse(i.Raw)
	w.must(err)
	u, err := evm.Build(parsed, w.Charter, fees)
	w.must(err)
	attempt, statements := cluster.Attempt(), w.Approvals(i)
	var partials []partial.Partial
	for id, a := range w.Session(w.t.Context(), []party.ID{"a", "b"}, func(party.ID) *pb.SignRequest {
		return &pb.SignRequest{Intent: i.ToProto(), Statements: statements, UnsignedTx: u.Encode(), Signers: []string{"a", "b"}, Attempt: attempt}
	}) {
		if a.Partial == nil {
			w.t.Fatalf("signer %s gives no partial: %+v", id, a)
		}
		partials = append(partials, partial.Partial{Session: canon.Digest(a.Partial.Session), R: [33]byte(a.Partial.R), S: [32]byte(a.Partial.S)})
	}
	sig, err := partial.Combine(u.Digest(), w.Record.PublicKey, 2, partials)
	w.must(err)
	raw, _, err := u.Assemble(sig)
	w.must(err)
	return raw
}

func (w *world) fees(v *pb.Sent) *evm.Unsigned {
	w.t.Helper()
	_, u, err := evm.Recover(v.RawTx)
	w.must(err)
	if u.FeeCap.Cmp(new(big.Int).SetBytes(v.FeeCap)) != 0 || u.TipCap.Cmp(new(big.Int).SetBytes(v.TipCap)) != 0 {
		w.t.Errorf("shown with fee cap %x, tip cap %x", v.FeeCap, v.TipCap)
	}
	return u
}

func broadcast(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST }

func versions(n int) func(*pb.IntentView) bool {
	return func(v *pb.IntentView) bool { return len(v.Sent) >= n }
}

func says(words string) func(*pb.IntentView) bool {
	return func(v *pb.IntentView) bool { return strings.Contains(v.Detail+" "+v.Progress, words) }
}

// What hangs is signed again at a higher fee, by its own session, and is paid once.
func TestBump(t *testing.T) {
	t.Parallel()
	w := onChain(t, coordinator.ChainSettings{BumpAfter: coordinator.Duration(time.Second)})
	held := func(t *testing.T, ref string, change func(*intent.Intent)) (id canon.Digest, i intent.Signed) {
		t.Helper()
		w.Miner.Hold(true)
		t.Cleanup(func() { w.Miner.Hold(false) })
		advice, err := w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
		w.must(err)
		draft := w.Payment(w.Record, ref, advice.Nonce, 1)
		if change != nil {
			change(draft)
		}
		i = w.Sign("alice", draft)
		id = w.mustSubmit(i)
		return id, i
	}

	t.Run("the newest version is mined", func(t *testing.T) {
		w.paid(1, func() {
			id, _ := held(t, "NEWEST", nil)
			w.approve(id)
			v := w.until(id, "bumped twice", func(v *pb.IntentView) bool {
				return len(v.Sent) >= 3 && strings.Contains(v.Progress, v.Sent[2].TxHash) // stored, and sent too
			})
			for n := range 2 {
				old, young := w.fees(v.Sent[n]), w.fees(v.Sent[n+1])
				least := evm.Outbid(old)
				if young.Nonce != old.Nonce || young.Value.Cmp(old.Value) != 0 || young.FeeCap.Cmp(least.FeeCap) < 0 || young.TipCap.Cmp(least.TipCap) < 0 {
					t.Errorf("version %d: %+v, after %+v", n+2, young, old)
				}
				if len(v.Sent[n+1].SignedBy) != 2 {
					t.Errorf("version %d is signed by %v", n+2, v.Sent[n+1].SignedBy)
				}
			}
			w.Miner.Hold(false)
			v = w.wantDone(id)
			// A fourth one may be signed and not sent when the block is made.
			if v.TxHash == v.Sent[0].TxHash || v.TxHash == v.Sent[1].TxHash || v.Confirmations == 0 {
				t.Errorf("mined is %s, %d confirmations; sent were %v", v.TxHash, v.Confirmations, v.Sent)
			}
		})
	})

	t.Run("an older version is mined", func(t *testing.T) {
		w.paid(1, func() {
			id, _ := held(t, "OLDER", nil)
			w.approve(id)
			v := w.until(id, "bumped", versions(2))
			// The pool forgets all, and gets the first from somebody else.
			w.StopDesk()
			w.must(w.Miner.Rewind(t.Context(), 0))
			_, err := w.Chain.Broadcast(t.Context(), v.Sent[0].RawTx)
			w.must(err)
			w.must(w.Miner.Seal(1))
			w.StartDesk()
			v = w.wantDone(id)
			if v.TxHash != v.Sent[0].TxHash || string(v.RawTx) != string(v.Sent[0].RawTx) {
				t.Errorf("mined is %s of %v", v.TxHash, v.Sent)
			}
		})
	})

	t.Run("the fee cap is reached", func(t *testing.T) {
		w.paid(1, func() {
			id, _ := held(t, "CAP", func(i *intent.Intent) {
				fees, err := w.Chain.Fees(t.Context())
				w.must(err)
				i.FeeCap = new(big.Int).Mul(fees.FeeCap, big.NewInt(evm.PlainGas))
			})
			w.approve(id)
			v := w.until(id, "at its cap", says("the fee cap is reached"))
			if len(v.Sent) != 1 || !strings.Contains(v.Detail, "wait for lower fees, or cancel") {
				t.Errorf("%d versions, %q", len(v.Sent), v.Detail)
			}
			w.Miner.Hold(false)
			w.wantDone(id)
		})
	})

	t.Run("approvals that have expired", func(t *testing.T) {
		w.paid(1, func() {
			id, _ := held(t, "STALE", nil)
			for _, who := range []string{"bob", "carol"} {
				st := &approval.Statement{
					Cluster: w.Charter.Cluster, Kind: approval.Approve, Subject: id, Person: who,
					Issued: time.Now().Unix(), Expires: time.Now().Unix() + 10,
				}
				signed, err := approval.Sign(st, w.People[who])
				w.must(err)
				_, err = w.API.State(t.Context(), &pb.StateRequest{Statement: signed.ToProto()})
				w.must(err)
			}
			w.until(id, "without approvals", says("approvals have expired"))
			w.Miner.Hold(false)
			w.wantDone(id)
		})
	})

	// What is signed stays good: it is sent, whenever the endpoint takes it.
	t.Run("expired before it was sent first", func(t *testing.T) {
		w.paid(1, func() {
			w.Gate.Fail("eth_sendRawTransaction", true)
			expires := time.Now().Unix() + 10
			id, _ := held(t, "LATE", func(i *intent.Intent) { i.NotBefore, i.Expires = expires-60, expires })
			w.approve(id)
			w.until(id, "signed", broadcast)
			w.Eventually("the intent has expired", func() bool { return time.Now().Unix() > expires })
			w.Gate.Fail("eth_sendRawTransaction", false)
			v := w.until(id, "expired", says("the intent has expired"))
			if len(v.Sent) != 1 {
				t.Errorf("%d versions were signed for an intent that had expired", len(v.Sent))
			}
			w.Miner.Hold(false)
			w.wantDone(id)
		})
	})

	t.Run("a version that was signed elsewhere is mined", func(t *testing.T) {
		w.paid(1, func() {
			id, i := held(t, "ELSEWHERE", nil)
			w.approve(id)
			v := w.until(id, "signed", broadcast)
			fees := evm.Outbid(w.fees(v.Sent[0]))
			fees.FeeCap.Mul(fees.FeeCap, big.NewInt(2)) // more than any bump that comes in between
			fees.TipCap.Mul(fees.TipCap, big.NewInt(2))
			raw := w.outside(i, fees)
			_, err := w.Chain.Broadcast(t.Context(), raw)
			w.must(err)
			w.must(w.Miner.Seal(1))
			v = w.wantDone(id)
			last := v.Sent[len(v.Sent)-1]
			if string(v.RawTx) != string(raw) || string(last.RawTx) != string(raw) || len(last.SignedBy) != 0 {
				t.Errorf("mined is %s, signed by %v, want 0x%x", v.TxHash, last.SignedBy, evm.Hash(raw))
			}
		})
	})

	t.Run("the nonce is used by something else", func(t *testing.T) {
		w.paid(0, func() {
			id, i := held(t, "FOREIGN", nil)
			w.approve(id)
			v := w.until(id, "signed", broadcast)
			fees := evm.Outbid(w.fees(v.Sent[0]))
			fees.FeeCap.Mul(fees.FeeCap, big.NewInt(2))
			fees.TipCap.Mul(fees.TipCap, big.NewInt(2))
			raw := w.outside(w.cancelOf(i, "FOREIGN-BY"), fees)
			hash, err := w.Chain.Broadcast(t.Context(), raw)
			w.must(err)
			w.must(w.Miner.Seal(1))
			v = w.wantEnd(id, pb.Stage_STAGE_FAILED, "NONCE_USED")
			if !strings.Contains(v.Detail, fmt.Sprintf("0x%x", hash)) || !strings.Contains(v.Detail, "no intent known here") {
				t.Errorf("%q does not name transaction %x", v.Detail, hash)
			}
		})
	})
	w.VerifyAudits()
	if w.audited("BUMP") < 3 {
		t.Error("bumps are not in the audit log")
	}
}

// A transaction that the endpoint forgot is handed over again.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.paid(1, func() {
		w.Miner.Hold(true)
		id := w.mustSubmit(w.payment("FORGOTTEN", 1))
		w.approve(id)
		w.until(id, "with the endpoint", says("waiting for the block"))
		w.must(w.Miner.Rewind(t.Context(), 0))
		w.Miner.Hold(false)
		w.wantDone(id)
	})
}

// Blocks are counted, and a block that the chain takes back is noticed: while they are
// counted, and after the end, with the coordinator running or not.
func TestReorganisation(t *testing.T) {
	t.Parallel()

	t.Run("counting", func(t *testing.T) {
		t.Parallel()
		w := onChain(t, coordinator.ChainSettings{Confirmations: 3})
		w.paid(1, func() {
			id := w.mustSubmit(w.payment("THREE", 1))
			w.approve(id)
			v := w.until(id, "mined", says("1 of 3 confirmations"))
			if v.Stage != pb.Stage_STAGE_CONFIRMATION || v.Confirmations != 1 || v.ConfirmationsWanted != 3 || len(v.BlockHash) != 32 {
				t.Errorf("%s, %d of %d confirmations, block %d %x", v.Stage, v.Confirmations, v.ConfirmationsWanted, v.Block, v.BlockHash)
			}
			wantCode(t, w.state("bob", approval.Reject, id), codes.FailedPrecondition, "signed", "cancel")
			w.must(w.Miner.Seal(1))
			w.until(id, "confirmed once more", says("2 of 3 confirmations"))
			w.RestartDesk()
			w.Miner.Hold(true)
			w.must(w.Miner.Rewind(t.Context(), 2))
			w.must(w.Miner.Seal(3))
			w.Miner.Hold(false)
			w.until(id, "in another block", func(now *pb.IntentView) bool {
				return len(now.BlockHash) > 0 && string(now.BlockHash) != string(v.BlockHash)
			})
			w.must(w.Miner.Seal(2))
			if v := w.wantDone(id); v.Confirmations < 3 || len(v.Sent) != 1 {
				t.Errorf("done with %d confirmations, %d versions", v.Confirmations, len(v.Sent))
			}
		})
		if w.audited("REORG") != 1 {
			t.Error("the reorganisation is not in the audit log once")
		}
	})

	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		w := newFunded(t)
		for _, running := range []bool{true, false} {
			w.paid(1, func() {
				id := w.mustSubmit(w.payment(fmt.Sprintf("ENDED-%v", running), 1))
				w.approve(id)
				v := w.wantDone(id)
				if !running {
					w.StopDesk()
				}
				w.Miner.Hold(true)
				w.must(w.Miner.Rewind(t.Context(), 1))
				w.must(w.Miner.Seal(2))
				if !running {
					w.StartDesk()
				}
				w.eventually(id, "reopened", broadcast)
				w.Miner.Hold(false)
				again := w.eventually(id, "mined again", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_DONE })
				if string(again.BlockHash) == string(v.BlockHash) || again.TxHash != v.TxHash {
					t.Errorf("%s in block %x, was %s in %x", again.TxHash, again.BlockHash, v.TxHash, v.BlockHash)
				}
			})
		}
		if w.audited("REORG") != 2 {
			t.Error("the reorganisations are not in the audit log")
		}
	})

	// The cancel is mined, its block goes, and the payment is mined after all: both say so.
	t.Run("cancel", func(t *testing.T) {
		t.Parallel()
		w := newFunded(t)
		w.paid(1, func() {
			w.Miner.Hold(true)
			i := w.payment("SUBJECT", 1)
			id := w.mustSubmit(i)
			w.approve(id)
			payment := w.until(id, "with the endpoint", says("waiting for the block"))
			by := w.mustSubmit(w.cancelOf(i, "SUBJECT-BY"))
			w.approve(by)
			w.until(by, "with the endpoint", says("waiting for the block"))
			w.must(w.Miner.Seal(1))
			w.wantDone(by)
			w.wantEnd(id, pb.Stage_STAGE_FAILED, "CANCELLED")
			w.must(w.Miner.Rewind(t.Context(), 1))
			_, err := w.Chain.Broadcast(t.Context(), payment.RawTx)
			w.must(err)
			w.must(w.Miner.Seal(2))
			w.eventually(id, "done", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_DONE })
			v := w.eventually(by, "failed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_FAILED })
			if v.FailureCode != "NONCE_USED" || !strings.Contains(v.Detail, id.Short()) {
				t.Errorf("the cancel ended %s: %s", v.FailureCode, v.Detail)
			}
		})
	})
}
