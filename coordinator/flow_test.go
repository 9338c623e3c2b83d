package coordinator_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/intent"
	"coffer/internal/cluster"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
	"coffer/wallet"
)

func wantCode(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// A wallet is asked for, approved, generated, and known to all; its name is then taken.
func TestWallet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.mustSubmit(w.CreateWallet("WALLET-1"))
	_, err := w.submit(w.CreateWallet("WALLET-2"))
	wantCode(t, err, codes.Aborted, "wallet", "choose another name")
	w.approve(first)
	view := w.wantDone(first)
	signed, err := wallet.FromProto(view.Wallet)
	w.must(err)
	record, err := signed.Open(w.Charter.Only())
	w.must(err)
	if record.Name != cluster.WalletName {
		t.Errorf("the record is of %q", record.Name)
	}
	_, err = w.submit(w.CreateWallet("WALLET-3"))
	wantCode(t, err, codes.AlreadyExists, "choose another name")
	w.RestartDesk()
	reply, err := w.API.Wallets(t.Context(), &pb.WalletsRequest{})
	w.must(err)
	if len(reply.Wallets) != 1 || string(reply.Wallets[0].Raw) != string(view.Wallet.Raw) {
		t.Errorf("after a restart the coordinator knows %d wallets", len(reply.Wallets))
	}
}

// A coordinator that is stopped during the ceremony finds out whether the wallet
// exists, and has one made if not.
func TestWalletAfterRestart(t *testing.T) {
	t.Parallel()
	for _, after := range []int{1, 3} {
		t.Run(fmt.Sprintf("after %d changes", after), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := w.mustSubmit(w.CreateWallet("WALLET-1"))
			w.approve(id)
			changes := 0
			w.until(id, "changed so often", func(v *pb.IntentView) bool {
				changes++
				return ended(v) || v.Stage == pb.Stage_STAGE_SIGNING && changes > 2*after
			})
			w.RestartDesk()
			w.wantDone(id)
		})
	}
}

// The signers finished while the coordinator did not listen: it takes their word, signed.
func TestWalletMadeUnheard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.CreateWallet("WALLET-1")
	id := w.mustSubmit(i)
	w.must(w.state("bob", approval.Approve, id))
	w.StopDesk()
	_, err := w.Ceremony(t.Context(), i, w.Approvals(i))
	w.must(err)
	w.StartDesk()
	w.must(w.state("carol", approval.Approve, id))
	w.wantDone(id)
}

func TestPayments(t *testing.T) {
	t.Parallel()
	w := newFunded(t)

	t.Run("is mined and read back", func(t *testing.T) {
		w.paid(15, func() {
			id := w.mustSubmit(w.payment("MINED", 15))
			if v := w.get(id); v.Stage != pb.Stage_STAGE_APPROVAL || len(v.Missing) != 1 || !v.PreviewAllows || len(v.Verdicts) != 3 {
				t.Errorf("before approvals: %s, missing %q, %d verdicts", v.Stage, v.Missing, len(v.Verdicts))
			}
			w.approve(id)
			v := w.wantDone(id)
			from, u, err := evm.Recover(v.RawTx)
			w.must(err)
			if from != w.Account || u.Value.Cmp(cluster.Tenths(15)) != 0 || len(v.SignedBy) != 2 || v.Block == 0 {
				t.Errorf("from %s, value %s, by %v in block %d", from, u.Value, v.SignedBy, v.Block)
			}
		})
	})

	t.Run("against a rule", func(t *testing.T) {
		i := w.payment("TOO-MUCH", 30)
		_, err := w.submit(i)
		wantCode(t, err, codes.PermissionDenied, "2 ETH", "--anyway")
		if list, err := w.API.List(t.Context(), &pb.ListRequest{PendingOnly: true}); err != nil || len(list.Intents) != 0 {
			t.Errorf("a refused request left %d intents (%v)", len(list.GetIntents()), err)
		}
		_, err = w.API.Submit(t.Context(), &pb.SubmitRequest{Intent: i.ToProto(), Anyway: true})
		w.must(err)
		v := w.wantEnd(canon.Sum(i.Raw), pb.Stage_STAGE_REFUSED, "REFUSED")
		if len(v.Verdicts) != 3 {
			t.Fatalf("%d verdicts, want one of every signer", len(v.Verdicts))
		}
		for n, s := range w.Charter.Signers {
			says, err := verdict.Verify(v.Verdicts[n].Verdict, v.Verdicts[n].Signature, s.Peer)
			if err != nil || says.Outcome != verdict.Refuse || len(says.Reasons) == 0 || says.Reasons[0].Check != "G-POLICY" {
				t.Errorf("signer %s: %+v, %v", s.Name, says, err)
			}
			if !strings.Contains(v.Detail, string(s.Name)+": ") {
				t.Errorf("%q does not quote signer %s", v.Detail, s.Name)
			}
		}
	})

	t.Run("the same reference pays once", func(t *testing.T) {
		w.paid(1, func() {
			first := w.mustSubmit(w.payment("ONCE", 1))
			reply, err := w.submit(w.payment("ONCE", 1)) // other salt, nonce and times
			w.must(err)
			if !reply.Existed || reply.Intent.Id != first.String() {
				t.Errorf("existed %v, intent %s, want %s", reply.Existed, reply.Intent.Id, first)
			}
			w.approve(first)
			w.wantDone(first)
			reply, err = w.submit(w.payment("ONCE", 1))
			w.must(err)
			if !reply.Existed || reply.Intent.Stage != pb.Stage_STAGE_DONE {
				t.Errorf("after it was paid: existed %v, %s", reply.Existed, reply.Intent.Stage)
			}
			_, err = w.submit(w.payment("ONCE", 2))
			wantCode(t, err, codes.AlreadyExists, `"ONCE"`, "choose a new reference")
		})
	})

	t.Run("the same reference at the same time", func(t *testing.T) {
		w.paid(1, func() {
			const many = 6
			requests := make([]intent.Signed, many)
			for n := range requests {
				requests[n] = w.payment("RACE", 1)
			}
			replies := make(chan *pb.SubmitResponse, many)
			for _, i := range requests {
				go func() {
					reply, err := w.submit(i)
					if err != nil {
						t.Errorf("submit: %v", err)
					}
					replies <- reply
				}()
			}
			ids, fresh := map[string]bool{}, 0
			for range many {
				reply := <-replies
				ids[reply.GetIntent().GetId()] = true
				if !reply.GetExisted() {
					fresh++
				}
			}
			if len(ids) != 1 || fresh != 1 {
				t.Fatalf("%d intents, %d of them new", len(ids), fresh)
			}
			for id := range ids {
				d, err := canon.ParseDigest(id)
				w.must(err)
				w.approve(d)
				w.wantDone(d)
			}
		})
	})

	t.Run("rejected", func(t *testing.T) {
		w.paid(0, func() {
			id := w.mustSubmit(w.payment("REJECTED", 1))
			w.must(w.state("bob", approval.Approve, id))
			w.must(w.state("carol", approval.Reject, id))
			if v := w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED"); !strings.Contains(v.Detail, "carol") {
				t.Errorf("%q does not name carol", v.Detail)
			}
			wantCode(t, w.state("carol", approval.Approve, id), codes.FailedPrecondition, "has ended", "rejected by carol")
		})
	})

	t.Run("expires", func(t *testing.T) {
		advice, err := w.API.Advise(t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
		w.must(err)
		i := w.Payment(w.Record, "EXPIRES", advice.Nonce, 1)
		i.NotBefore, i.Expires = time.Now().Unix()-60, time.Now().Unix()+2
		id := w.mustSubmit(w.Sign("alice", i))
		w.wantEnd(id, pb.Stage_STAGE_FAILED, "EXPIRED")
	})

	t.Run("two at once take consecutive nonces", func(t *testing.T) {
		w.paid(3, func() {
			one := w.payment("FIRST", 1)
			same := w.Payment(w.Record, "SECOND", nonceOf(t, one), 2)
			first := w.mustSubmit(one)
			_, err := w.submit(w.Sign("alice", same))
			wantCode(t, err, codes.Aborted, "nonce", "sign again")
			two := w.payment("SECOND", 2)
			if nonceOf(t, two) != nonceOf(t, one)+1 {
				t.Errorf("nonces %d and %d", nonceOf(t, one), nonceOf(t, two))
			}
			second := w.mustSubmit(two)
			w.approve(second) // it waits for the first one's block
			w.until(second, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })
			wantCode(t, w.state("bob", approval.Reject, second), codes.FailedPrecondition, "signed", "cancel")
			w.approve(first)
			w.wantDone(first)
			w.wantDone(second)
		})
	})

	t.Run("withdrawn", func(t *testing.T) {
		w.paid(0, func() {
			id := w.mustSubmit(w.payment("WITHDRAWN", 1))
			w.must(w.state("bob", approval.Approve, id))
			w.must(w.state("bob", approval.Withdraw, id))
			w.must(w.state("carol", approval.Approve, id))
			if v := w.get(id); v.Stage != pb.Stage_STAGE_APPROVAL || len(v.Missing) == 0 {
				t.Errorf("%s, missing %q", v.Stage, v.Missing)
			}
			w.must(w.state("alice", approval.Reject, id)) // whoever asked may stop it
			w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
		})
	})

	t.Run("cancelled while it waits for people", func(t *testing.T) {
		w.paid(0, func() {
			i := w.payment("CANCEL-1", 1)
			id := w.mustSubmit(i)
			by := w.mustSubmit(w.cancelOf(i, "CANCEL-1-BY"))
			_, err := w.submit(w.cancelOf(i, "CANCEL-1-AGAIN"))
			wantCode(t, err, codes.Aborted, "a cancel of intent")
			w.approve(by)
			w.wantDone(by)
			w.wantEnd(id, pb.Stage_STAGE_FAILED, "CANCELLED")
		})
	})

	t.Run("cancelled after it was signed", func(t *testing.T) {
		w.paid(0, func() {
			w.Gate.Fail("eth_sendRawTransaction", true)
			i := w.payment("CANCEL-2", 1)
			id := w.mustSubmit(i)
			w.approve(id)
			w.until(id, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })
			by := w.mustSubmit(w.cancelOf(i, "CANCEL-2-BY"))
			w.approve(by)
			cancel := w.until(by, "signed", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_BROADCAST })
			// The endpoint comes back for the cancel first.
			_, err := w.Chain.Broadcast(t.Context(), cancel.RawTx)
			w.must(err)
			w.Gate.Fail("eth_sendRawTransaction", false)
			w.wantDone(by)
			if v := w.end(id); v.Stage != pb.Stage_STAGE_FAILED || v.FailureCode != "CANCELLED" {
				t.Errorf("the payment ended %s %s", v.Stage, v.FailureCode)
			}
			old, err := evm.Decode(w.get(id).UnsignedTx)
			w.must(err)
			young, err := evm.Decode(cancel.UnsignedTx)
			w.must(err)
			tenth := new(big.Int).Div(new(big.Int).Mul(old.FeeCap, big.NewInt(11)), big.NewInt(10))
			if young.Nonce != old.Nonce || young.FeeCap.Cmp(tenth) < 0 {
				t.Errorf("cancel has nonce %d and fee cap %s, the payment %d and %s", young.Nonce, young.FeeCap, old.Nonce, old.FeeCap)
			}
			_, err = w.submit(w.cancelOf(w.payment("CANCEL-3", 1), "CANCEL-3-BY"))
			wantCode(t, err, codes.NotFound, "cancel")
		})
	})

	t.Run("one signer is down", func(t *testing.T) {
		w.paid(1, func() {
			w.Members["a"].Stop()
			id := w.mustSubmit(w.payment("WITHOUT-A", 1))
			w.approve(id)
			if v := w.wantDone(id); strings.Join(v.SignedBy, ",") != "b,c" {
				t.Errorf("signed by %v", v.SignedBy)
			}
			w.Members["a"].Start()
		})
	})

	t.Run("two signers are down", func(t *testing.T) {
		w.paid(1, func() {
			w.Members["a"].Stop()
			w.Members["b"].Stop()
			id := w.mustSubmit(w.payment("WAITS", 1))
			w.approve(id)
			w.until(id, "waiting", func(v *pb.IntentView) bool {
				return strings.Contains(v.Progress, "1 signer of 3 would sign now, 2 needed")
			})
			w.Members["b"].Start()
			w.wantDone(id)
			w.Members["a"].Start()
		})
	})

	t.Run("rejected while signers are down", func(t *testing.T) {
		w.paid(0, func() {
			w.Members["a"].Stop()
			w.Members["b"].Stop()
			id := w.mustSubmit(w.payment("REJECT-LATE", 1))
			w.approve(id)
			w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_SIGNING })
			w.must(w.state("bob", approval.Reject, id))
			w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
			id = w.mustSubmit(w.payment("WITHDRAW-LATE", 1))
			w.approve(id)
			w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_SIGNING })
			w.must(w.state("bob", approval.Withdraw, id))
			w.until(id, "back with the people", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_APPROVAL && len(v.Missing) == 1 })
			w.Members["a"].Start()
			w.Members["b"].Start()
			w.must(w.state("bob", approval.Reject, id))
			w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
		})
	})

	// Last, since it may leave a nonce that only a cancel could use.
	t.Run("statements during signing are kept", func(t *testing.T) {
		id := w.mustSubmit(w.payment("KEPT", 1))
		w.approve(id)
		w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage != pb.Stage_STAGE_APPROVAL })
		taken := w.state("bob", approval.Reject, id)
		v := w.end(id)
		rejects := 0
		for _, s := range v.Statements {
			st, err := approval.Parse(s.Raw)
			w.must(err)
			if st.Kind == approval.Reject {
				rejects++
			}
		}
		if taken == nil && (v.FailureCode != "REJECTED" || rejects != 1) {
			t.Errorf("a reject was taken, and the intent ended %s %s with %d rejects kept", v.Stage, v.Detail, rejects)
		}
		if taken != nil && (v.Stage != pb.Stage_STAGE_DONE || rejects != 0) {
			t.Errorf("a reject came too late (%v), and the intent ended %s %s", taken, v.Stage, v.Detail)
		}
	})
}

func nonceOf(t *testing.T, s intent.Signed) uint64 {
	t.Helper()
	i, err := intent.Parse(s.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return i.Nonce
}

// cancelOf is alice's cancel of a payment.
func (w *world) cancelOf(s intent.Signed, ref string) intent.Signed {
	w.t.Helper()
	old, err := intent.Parse(s.Raw)
	w.must(err)
	return w.Sign("alice", &intent.Intent{
		Kind: intent.Cancel, Wallet: old.Wallet, Chain: old.Chain, Account: old.Account, Nonce: old.Nonce, Reference: ref,
		FeeCap: big.NewInt(2e15), Cancel: &intent.CancelBody{Subject: old.Digest()},
	})
}
