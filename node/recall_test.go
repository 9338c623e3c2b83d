package node_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/engine"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

// recalled pages through all that a signer remembers.
func (w *world) recalled(id party.ID) map[canon.Digest]*pb.KnownIntent {
	w.t.Helper()
	out := map[canon.Digest]*pb.KnownIntent{}
	var last []byte
	for {
		reply, err := w.Members[id].API().Recall(w.t.Context(), &pb.RecallRequest{After: last, Limit: 2})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, k := range reply.Intents {
			digest := canon.Sum(k.Intent.Raw)
			if bytes.Compare(digest[:], last) <= 0 {
				w.t.Fatal("intents are not in order")
			}
			out[digest], last = k, digest[:]
		}
		if !reply.More {
			return out
		}
	}
}

// What a signer was shown it tells again, also after a restart, and how far it went.
func TestRecall(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	signed, judged := w.payment(), w.payment()
	for range 3 {
		w.judge("a", w.payment())
	}
	w.judge("a", judged)
	w.mustSign(signed, "a", "c")
	w.Members["a"].Stop()
	w.Members["a"].Start()
	for id, want := range map[party.ID]map[string]string{
		"a": {"signed": "signed", "judged": "noted"}, "b": {}, "c": {"signed": "signed"},
	} {
		known := w.recalled(id)
		for name, o := range map[string]order{"signed": signed, "judged": judged} {
			k := known[canon.Sum(o.intent.Raw)]
			if k.GetState() != want[name] {
				t.Errorf("signer %s, %s payment: %q, want %q", id, name, k.GetState(), want[name])
			}
			if k == nil {
				continue
			}
			if len(k.Statements) != 2 || k.Verdict != nil || (len(k.UnsignedTx) > 0) != (name == "signed") || k.Seen == 0 {
				t.Errorf("signer %s, %s payment: %d statements, %d bytes of transaction, seen %d", id, name, len(k.Statements), len(k.UnsignedTx), k.Seen)
			}
		}
		// The wallet's own intent is among them: all took part in its ceremony.
		made := 0
		for _, k := range known {
			if k.State == "released" && len(k.UnsignedTx) == 0 {
				made++
			}
		}
		if made != 1 {
			t.Errorf("signer %s remembers %d ceremonies", id, made)
		}
	}
	if known := w.recalled("a"); len(known) != 6 {
		t.Errorf("a remembers %d intents", len(known))
	}
}

// The operator reads the same, with this signer's own verdict and whose word counts here:
// nobody's who is frozen, and with what came by another way than the coordinator.
func TestOperatorRecalls(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	w.judge("a", o)
	id := canon.Sum(o.intent.Raw)
	shown := func() (*pb.KnownIntent, *verdict.Verdict) {
		t.Helper()
		reply, err := w.Members["a"].Operator().Recall(t.Context(), &pb.RecallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range reply.Intents {
			if !bytes.Equal(k.Intent.Raw, o.intent.Raw) {
				continue
			}
			signer, _ := w.Charter.Signer("a")
			v, err := verdict.Verify(k.Verdict.GetVerdict(), k.Verdict.GetSignature(), signer.Peer)
			if err != nil {
				t.Fatal(err)
			}
			return k, v
		}
		t.Fatal("the operator is not told of it")
		return nil, nil
	}
	if k, v := shown(); v.Outcome != verdict.Sign || !slices.Equal(k.ApprovedBy, []string{"bob of exchange", "carol of custodian"}) || len(k.RejectedBy) != 0 {
		t.Errorf("%s: approved by %v, rejected by %v", v.Outcome, k.ApprovedBy, k.RejectedBy)
	}
	w.Members["a"].Freeze(authority.ScopePerson, "carol")
	if k, v := shown(); v.Outcome != verdict.Wait || !slices.Equal(k.ApprovedBy, []string{"bob of exchange"}) {
		t.Errorf("carol is frozen, %s: approved by %v", v.Outcome, k.ApprovedBy)
	}
	w.Members["a"].Bring(w.Fixture().OrderRecord(t, approval.Reject, id, time.Now().Unix(), "carol"))
	if k, v := shown(); v.Outcome != verdict.Refuse || !slices.Equal(k.RejectedBy, []string{"carol"}) {
		t.Errorf("carol rejects, %s: rejected by %v", v.Outcome, k.RejectedBy)
	}
}

// A coordinator cannot unsay a person's no: who saw it once counts it, whatever is shown later.
func TestNarrowingIsRemembered(t *testing.T) {
	for _, kind := range []approval.Kind{approval.Reject, approval.Withdraw, approval.Veto, approval.Cancel} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, cluster.Config{})
			o := w.payment()
			id := canon.Sum(o.intent.Raw)
			no := o
			no.statements = append(no.statements[:2:2], w.State("carol", kind, id).ToProto())
			want := map[bool]string{true: "G-APPROVALS", false: "G-REJECTED"}[kind == approval.Withdraw]
			if got := w.judge("a", no); got != want {
				t.Errorf("shown to a: %s", got)
			}
			w.Members["a"].Stop()
			w.Members["a"].Start()
			if got := w.judge("a", o); got != want {
				t.Errorf("hidden from a: %s", got)
			}
			if got := w.how("a", w.Members["a"].Sign(t.Context(), o.request(cluster.Attempt(), "a", "c"))); got != want {
				t.Errorf("asked to sign, a answers %s", got)
			}
			// The others hear of it from a, whatever the coordinator shows them.
			for _, id := range []party.ID{"b", "c"} {
				w.Eventually("the other signers count it", func() bool { return w.judge(id, o) == want })
			}
		})
	}
}

// A no that comes while the session is prepared stops its release.
func TestNarrowingStopsTheRelease(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	no := o
	no.statements = append(no.statements[:2:2], w.State("carol", approval.Reject, canon.Sum(o.intent.Raw)).ToProto())
	told := false
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "a" && !told && e.Out != nil { // the first protocol message: the request was judged before
			told = true
			if got := w.judge("c", no); got != "G-REJECTED" {
				t.Errorf("shown to c: %s", got)
			}
		}
		return true
	})
	answers := w.session(t.Context(), o, "a", "c")
	if got := w.how("c", answers["c"]); !told || got != "G-REJECTED" {
		t.Errorf("c answers %s (told: %v)", got, told)
	}
	if answers["a"].Partial != nil {
		t.Error("a gave a partial")
	}
}
