package coordinator_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"coffer/approval"
	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cluster"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// freeze is a person's, with the statement that makes it one.
func (w *world) freeze(who, scope, name string) authority.Record {
	w.t.Helper()
	f := authority.Freeze{Cluster: w.Charter.Cluster, Scope: scope, Name: name, Reason: "strange requests", By: who, Time: time.Now().Unix()}
	attempt := cluster.Attempt()
	copy(f.Nonce[:], attempt)
	r := authority.Record{Kind: authority.KindFreeze, Raw: f.Encode()}
	r.Statements = []approval.Signed{w.State(who, approval.Freeze, r.ID())}
	return r
}

// hand gives records to the coordinator.
func (w *world) hand(records ...authority.Record) *pb.ExchangeResponse {
	w.t.Helper()
	req := &pb.ExchangeRequest{}
	for _, r := range records {
		req.Records = append(req.Records, r.Encode())
	}
	reply, err := w.API.Exchange(w.t.Context(), req)
	w.must(err)
	return reply
}

// unfreeze is signed by the admins, bob and carol.
func (w *world) unfreeze(ids ...canon.Digest) authority.Record {
	w.t.Helper()
	return w.Fixture().UnfreezeRecord(w.t, w.Charter, time.Now().Unix(), ids, "bob", "carol")
}

// taken hands records to the coordinator, and wants them taken.
func (w *world) taken(records ...authority.Record) {
	w.t.Helper()
	if reply := w.hand(records...); len(reply.Refused) != 0 {
		w.t.Fatalf("refused: %v", reply.Refused)
	}
}

// While an intent is frozen the signers are not asked about it, and its view says by whom
// and why it is frozen and what lifts that; also after a restart. Once that is lifted it
// goes on by itself.
func TestFrozenFlow(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	for _, c := range []struct {
		name  string
		scope string
		of    string
	}{{"cluster", authority.ScopeCluster, ""}, {"wallet", authority.ScopeWallet, "treasury"}, {"initiator", authority.ScopePerson, "alice"}} {
		t.Run(c.name, func(t *testing.T) {
			w := newFunded(t)
			var id, stands canon.Digest
			w.paid(0, func() {
				id = w.mustSubmit(w.payment("FROZEN", 1))
				freeze := w.freeze("bob", c.scope, c.of)
				stands = freeze.ID()
				w.taken(freeze)
				if v := w.get(id); !slices.ContainsFunc(v.Missing, func(m string) bool { return strings.Contains(m, "an unfreeze of ") }) {
					t.Errorf("missing: %q", v.Missing)
				}
				w.approve(id)
				says := func(v *pb.IntentView) bool {
					return v.Stage == pb.Stage_STAGE_SIGNING && strings.Contains(v.Detail, "by bob: strange requests") && strings.Contains(v.Detail, "coffer unfreeze") && v.Progress == v.Detail
				}
				w.until(id, "said to be frozen", says)
				w.RestartDesk()
				if v := w.until(id, "said to be frozen after a restart", says); len(v.SignedBy) != 0 {
					t.Errorf("signed by %v", v.SignedBy)
				}
			})
			w.paid(1, func() {
				w.taken(w.unfreeze(stands))
				w.wantDone(id)
			})
		})
	}

	t.Run("something else", func(t *testing.T) {
		w.hand(w.freeze("bob", authority.ScopeWallet, "other"), w.freeze("bob", authority.ScopePerson, "carol"))
		id := w.mustSubmit(w.payment("FREE", 1))
		if v := w.get(id); strings.Contains(v.Detail, "frozen") {
			t.Errorf("%q", v.Detail)
		}
	})
}

// What is handed in is verified; junk and records that nobody may make are named, and an
// operator and everybody else is shown what stands.
func TestExchangeRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	forged := w.freeze("bob", authority.ScopeCluster, "")
	forged.Statements = []approval.Signed{w.State("carol", approval.Freeze, forged.ID())}
	reply, err := w.API.Exchange(t.Context(), &pb.ExchangeRequest{Records: [][]byte{[]byte("junk"), forged.Encode()}})
	w.must(err)
	if len(reply.Refused) != 2 || reply.Refused[0].Code != authority.CodeMalformed || reply.Refused[1].Code == "" || len(reply.Records) != 0 {
		t.Errorf("refused: %v", reply.Refused)
	}
	_, err = w.API.Exchange(t.Context(), &pb.ExchangeRequest{Have: make([]*pb.RecordRef, exchange.MaxRefs+1)})
	wantCode(t, err, codes.InvalidArgument, "references")
	good := w.freeze("bob", authority.ScopeCluster, "")
	w.hand(good)
	w.hand(good) // again: nothing new, and no error
	state, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
	w.must(err)
	if len(state.Freezes) != 1 || state.Freezes[0].By != "bob" || state.CharterVersion != 1 {
		t.Errorf("the cluster is %v", state)
	}
	reply, err = w.API.Exchange(t.Context(), &pb.ExchangeRequest{Fetch: true})
	w.must(err)
	if len(reply.Records) != 1 {
		t.Errorf("a newcomer is answered %d records", len(reply.Records))
	}
}

// A rejection that was handed in as a record, for the signers, ends the intent here too.
func TestOrderAsARecord(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	id := w.mustSubmit(w.payment("ORDER", 1))
	r := authority.Record{Kind: authority.KindOrder, Raw: id[:], Statements: []approval.Signed{w.State("bob", approval.Reject, id)}}
	w.hand(r)
	w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
	// And one that was handed in as a statement is a record for everybody.
	other := w.mustSubmit(w.payment("ORDER-2", 1))
	w.must(w.state("carol", approval.Reject, other))
	w.wantEnd(other, pb.Stage_STAGE_FAILED, "REJECTED")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reply, err := w.API.Exchange(ctx, &pb.ExchangeRequest{Fetch: true})
	w.must(err)
	found := false
	for _, raw := range reply.Records {
		r, err := authority.Parse(raw)
		w.must(err)
		found = found || r.Kind == authority.KindOrder && r.Subject() == other
	}
	if !found {
		t.Error("the rejection is no record")
	}
}

// The yes of a frozen approver does not count, and the view says whose and why; it counts
// again, and the intent goes on by itself, once that is lifted.
func TestFrozenApprover(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.Gate.Fail("eth_estimateGas", true) // approved, and not signed
	id := w.mustSubmit(w.payment("APPROVER", 1))
	w.approve(id)
	w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_SIGNING })
	freeze := w.freeze("bob", authority.ScopePerson, "carol")
	w.taken(freeze)
	v := w.until(id, "back with the people", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_APPROVAL })
	if !strings.Contains(v.Detail, `"carol" is frozen`) || len(v.Missing) != 1 || !strings.HasPrefix(v.Missing[0], "1 of 2 approvals") || !strings.Contains(strings.Join(v.Preview, "; "), `"carol" is frozen`) {
		t.Errorf("%q, missing %q, preview %q", v.Detail, v.Missing, v.Preview)
	}
	wantCode(t, w.state("carol", approval.Approve, id), codes.PermissionDenied, "APPROVAL_FROZEN")
	w.Gate.Fail("eth_estimateGas", false)
	w.paid(1, func() {
		w.taken(w.unfreeze(freeze.ID()))
		w.wantDone(id)
	})
	// Frozen people's no counts: it must not be silenced.
	other := w.mustSubmit(w.payment("APPROVER-2", 1))
	w.taken(w.freeze("bob", authority.ScopePerson, "carol"))
	w.must(w.state("carol", approval.Reject, other))
	w.wantEnd(other, pb.Stage_STAGE_FAILED, "REJECTED")
}

// A list that is too old denies, and ends nothing that is under way: that waits for the
// next version, says so, and goes on by itself.
func TestStaleList(t *testing.T) {
	t.Parallel()
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) {
		c.Draft = func(d *charter.Draft) {
			d.Destinations = append(d.Destinations, charter.DestinationList{
				Name: "banned", Kind: policy.ListSanctions, Keepers: &policy.Requirement{Group: "approvers", K: 2}, MaxAge: "24h",
			})
		}
	}).Fund(), t}
	now := time.Now().Unix()
	version := func(n uint64, previous canon.Digest, issued int64) canon.Digest {
		l := authority.ListVersion{Cluster: w.Charter.Cluster, Name: "banned", Version: n, Previous: previous, Issued: issued}
		r := w.Fixture().Say(t, authority.Record{Kind: authority.KindList, Raw: l.Encode()}, approval.Approve, now, "bob", "carol")
		w.taken(r)
		return r.ID()
	}
	_, err := w.submit(w.payment("NEVER-ISSUED", 1))
	wantCode(t, err, codes.PermissionDenied, `sanctions list "banned" does not count`)
	first := version(1, canon.Digest{}, now)
	w.Gate.Fail("eth_estimateGas", true)
	id := w.mustSubmit(w.payment("STALE", 1))
	w.approve(id)
	w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_SIGNING })
	second := version(2, first, now-48*3600) // too old when it is signed
	v := w.until(id, "waiting for the list", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_APPROVAL })
	if !strings.Contains(v.Detail, "waits for the next version of a list") || !strings.Contains(v.Detail, "banned") || v.PreviewAllows {
		t.Errorf("%q, preview allows: %v", v.Detail, v.PreviewAllows)
	}
	w.Gate.Fail("eth_estimateGas", false)
	w.paid(1, func() {
		version(3, second, now)
		w.wantDone(id)
	})
}
