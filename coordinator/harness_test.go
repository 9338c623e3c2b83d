package coordinator_test

import (
	"context"
	"math/big"
	"testing"
	"time"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/intent"
	"coffer/internal/cluster"
	pb "coffer/proto/coffer/v1"
)

type world struct {
	*cluster.Treasury
	t testing.TB
}

func newWorld(t testing.TB) *world  { t.Helper(); return &world{cluster.NewTreasury(t), t} }
func newFunded(t testing.TB) *world { t.Helper(); return &world{cluster.NewTreasury(t).Fund(), t} }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// payment is alice's for the supplier, at the next nonce.
func (w *world) payment(ref string, tenths int64) intent.Signed {
	w.t.Helper()
	advice, err := w.API.Advise(w.t.Context(), &pb.AdviseRequest{Wallet: w.Record.Name, Chain: "dev", Asset: "ETH"})
	w.must(err)
	return w.Sign("alice", w.Payment(w.Record, ref, advice.Nonce, tenths))
}

func (w *world) submit(i intent.Signed) (*pb.SubmitResponse, error) {
	return w.API.Submit(w.t.Context(), &pb.SubmitRequest{Intent: i.ToProto()})
}

func (w *world) mustSubmit(i intent.Signed) canon.Digest {
	w.t.Helper()
	reply, err := w.submit(i)
	w.must(err)
	if reply.Existed {
		w.t.Fatal("a new intent existed")
	}
	return canon.Sum(i.Raw)
}

func (w *world) state(who string, kind approval.Kind, id canon.Digest) error {
	_, err := w.API.State(w.t.Context(), &pb.StateRequest{Statement: w.State(who, kind, id).ToProto()})
	return err
}

func (w *world) approve(id canon.Digest) {
	w.t.Helper()
	w.must(w.state("bob", approval.Approve, id))
	w.must(w.state("carol", approval.Approve, id))
}

func (w *world) get(id canon.Digest) *pb.IntentView {
	w.t.Helper()
	view, err := w.API.Get(w.t.Context(), &pb.GetRequest{Id: id.String()})
	w.must(err)
	return view
}

// until watches an intent until ok.
func (w *world) until(id canon.Digest, what string, ok func(*pb.IntentView) bool) *pb.IntentView {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	stream, err := w.API.Watch(ctx, &pb.GetRequest{Id: id.String()})
	w.must(err)
	var last *pb.IntentView
	for {
		view, err := stream.Recv()
		if err != nil {
			w.t.Fatalf("intent %s is not %s: %v; last: %v", id.Short(), what, err, last)
		}
		if last = view; ok(view) {
			return view
		}
	}
}

func ended(v *pb.IntentView) bool {
	return v.Stage == pb.Stage_STAGE_DONE || v.Stage == pb.Stage_STAGE_FAILED || v.Stage == pb.Stage_STAGE_REFUSED
}

func (w *world) end(id canon.Digest) *pb.IntentView { w.t.Helper(); return w.until(id, "ended", ended) }

func (w *world) wantDone(id canon.Digest) *pb.IntentView {
	w.t.Helper()
	view := w.end(id)
	if view.Stage != pb.Stage_STAGE_DONE {
		w.t.Fatalf("intent %s ended %s: %s %s", id.Short(), view.Stage, view.FailureCode, view.Detail)
	}
	return view
}

func (w *world) wantEnd(id canon.Digest, stage pb.Stage, code string) *pb.IntentView {
	w.t.Helper()
	view := w.end(id)
	if view.Stage != stage || view.FailureCode != code {
		w.t.Fatalf("intent %s ended %s %s (%s), want %s %s", id.Short(), view.Stage, view.FailureCode, view.Detail, stage, code)
	}
	return view
}

// paid runs f and demands that the supplier then has so many tenths of an ether more.
func (w *world) paid(tenths int64, f func()) {
	w.t.Helper()
	supplier, err := evm.ParseAddress(cluster.Supplier)
	w.must(err)
	before, err := w.Chain.Balance(w.t.Context(), supplier)
	w.must(err)
	f()
	after, err := w.Chain.Balance(w.t.Context(), supplier)
	w.must(err)
	if got := new(big.Int).Sub(after, before); got.Cmp(cluster.Tenths(tenths)) != 0 {
		w.t.Errorf("the supplier got %s wei, want %s", got, cluster.Tenths(tenths))
	}
}
