package node_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

type exchanger = func(context.Context, *pb.ExchangeRequest, ...grpc.CallOption) (*pb.ExchangeResponse, error)

// holds says whether a signer holds a freeze.
func (w *world) holds(id party.ID, freeze canon.Digest) bool {
	st, err := w.Members[id].Ask()
	return err == nil && slices.ContainsFunc(st.Freezes, func(f *pb.FreezeState) bool { return canon.Digest(f.Id) == freeze })
}

// A freeze stops the signer that takes it within a second, and those that it reaches
// within five, also by way of another one, while the coordinator reaches nobody.
func TestFreezeInTime(t *testing.T) {
	w := newWorld(t, cluster.Config{Doors: true, Signer: cluster.TakeOrders})
	o := w.payment()
	for _, m := range w.Members {
		m.Door.Shut(true)
	}
	w.Net.Cut("a", "c")
	freeze := w.Fixture().FreezeRecord(t, "alice", authority.ScopeCluster, "", time.Now().Unix(), 1)
	began := time.Now()
	if no := w.Members["c"].Hand(w.Members["c"].Orders("127.0.0.1").Exchange, freeze); len(no) > 0 {
		t.Fatal(no)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("c took %s", took)
	}
	w.frozenAt(freeze.ID(), "a", "b", "c")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the others took %s", took)
	}
	for _, id := range []party.ID{"a", "b", "c"} {
		if got := w.judge(id, o); got != "G-FROZEN-CLUSTER" {
			t.Errorf("%s judges %s", id, got)
		}
	}
}

// Whoever misspells what is to be frozen is told so, and not that it is frozen.
func TestFreezeOfNothing(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	for _, req := range []*pb.FreezeRequest{
		{Scope: authority.ScopeWallet, Name: "tresury", Reason: "x"}, {Scope: authority.ScopePerson, Name: "alise", Reason: "x"},
		{Scope: "house", Reason: "x"}, {Scope: authority.ScopeCluster}, {Scope: authority.ScopeCluster, Reason: strings.Repeat("x", 201)},
	} {
		_, err := w.Members["a"].Operator().Freeze(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	if st := w.Members["a"].Status(); len(st.Freezes) != 0 {
		t.Errorf("frozen: %v", st.Freezes)
	}
}

// While the cluster is frozen no payment and no new wallet is signed; approved cancels,
// versions of the charter, orders, further freezes and the unfreeze go on.
func TestWhatGoesOnWhileFrozen(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o, waits := w.payment(), w.payment()
	w.mustSign(o, "a", "b")
	id, _ := w.Members["a"].Freeze(authority.ScopeCluster, "")
	w.frozenAt(id, "a", "b", "c")
	w.Fresh()
	w.expect(w.session(t.Context(), waits, "a", "b"), map[party.ID]string{"a": "G-FROZEN-CLUSTER", "b": "G-FROZEN-CLUSTER"})
	i := w.CreateWallet("WALLET-2")
	if _, err := w.Members["b"].CreateWallet(t.Context(), i, w.Approvals(i), cluster.Attempt()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a ceremony: %v", err)
	}
	w.mustSign(w.order(cancelOf(w, mustParse(t, o))), "a", "c")
	if st := w.Members["b"].Status(); len(st.Freezes) != 1 || !st.Freezes[0].Effective || st.Freezes[0].Reason == "" || len(st.Wallets) != 1 {
		t.Errorf("b tells: %v", st.Freezes)
	}
	second, _ := w.Members["b"].Freeze(authority.ScopeWallet, cluster.WalletName)
	order := w.Fixture().OrderRecord(t, approval.Reject, canon.Sum(waits.intent.Raw), time.Now().Unix(), "carol")
	w.Members["c"].Bring(order)
	next := w.next(func(c *charter.Charter) { c.Rules[0].MaxAmount = []string{"1 ETH"} })
	w.Adopt("b", next, nil, "a", "b", "c")
	w.Fresh()
	w.Members["c"].Bring(w.Fixture().UnfreezeRecord(t, next, time.Now().Unix(), []canon.Digest{id, second}, "bob", "carol"))
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" is free", func() bool { return len(w.Members[s].Status().Freezes) == 0 })
		w.Eventually(string(s)+" has the order", func() bool { return w.judge(s, waits) == "G-REJECTED" })
	}
}

// Two freezes at once both hold everywhere; an unfreeze lifts what it names and nothing
// else; and what was lifted does not come back by being shown again.
func TestTwoFreezesAtOnce(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	f, now := w.Fixture(), time.Now().Unix()
	w.Net.Cut("a", "b")
	w.Net.Cut("b", "c")
	w.Net.Cut("a", "c")
	first, second := f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1), f.FreezeRecord(t, "bob", authority.ScopeCluster, "", now, 2)
	w.Members["a"].Bring(first)
	w.Members["b"].Bring(second)
	w.Net.Heal()
	for _, z := range []authority.Record{first, second} {
		w.frozenAt(z.ID(), "a", "b", "c")
	}
	w.Members["c"].Bring(f.UnfreezeRecord(t, w.Charter, now, []canon.Digest{first.ID()}, "bob", "carol"))
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" lifts the first", func() bool { return !w.holds(s, first.ID()) })
		if no := w.Members[s].Hand(w.Members[s].Operator().Exchange, first); len(no) != 1 || !strings.HasPrefix(no[0], authority.CodeFreezeLifted) {
			t.Errorf("%s, shown the first again: %v", s, no)
		}
		if w.holds(s, first.ID()) || !w.holds(s, second.ID()) {
			t.Errorf("%s holds %v", s, w.Members[s].Status().Freezes)
		}
		if got := w.judge(s, w.payment()); got != "G-FROZEN-CLUSTER" {
			t.Errorf("%s judges %s", s, got)
		}
	}
}

// A signer that was off or alone catches up by whatever way, and believes nobody for
// bringing it: its operator's file, the coordinator, a peer.
func TestCatchUpByAnyWay(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	f, now := w.Fixture(), time.Now().Unix()
	root := w.Charter
	w.Net.Partition(party.Set{"c"})
	two := w.next(func(c *charter.Charter) { c.Rules[0].MaxAmount = []string{"1 ETH"} })
	three := f.Next(t, two, func(c *charter.Charter) { c.Rules[0].MaxAmount = []string{"0.5 ETH"} })
	w.Adopt("a", two, nil, "a", "b")
	w.Adopt("a", three, nil, "a", "b")
	w.Charter = root // c's
	c := w.Members["c"]
	reply, err := w.Members["b"].Operator().Exchange(t.Context(), &pb.ExchangeRequest{Fetch: true})
	if err != nil {
		t.Fatal(err)
	}
	chain := map[uint64]authority.Record{}
	for _, raw := range reply.Records {
		r, err := authority.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		v, err := charter.Parse(r.Raw)
		if err != nil {
			t.Fatal(err)
		}
		chain[v.Version] = r
	}
	// A chain with a hole, one of other people's signatures, and one with a version altered.
	forged := f.Next(t, root, func(c *charter.Charter) { c.Rules[0].MaxAmount = []string{"2000 ETH"} })
	byStrangers := authority.Record{Kind: authority.KindCharter, Raw: forged.Encode()}
	for _, who := range []string{"bob", "carol"} {
		byStrangers.Statements = append(byStrangers.Statements, f.SayWith(t, byStrangers, approval.Approve, now, who, testcharter.SSH(t, "mallory")))
	}
	altered := chain[2]
	altered.Raw = forged.Encode()
	for what, bad := range map[string]struct {
		r    authority.Record
		code string
	}{
		"a hole": {chain[3], authority.CodeCharterGap}, "strangers": {byStrangers, authority.CodeSignature}, "altered": {altered, authority.CodeSignature},
	} {
		for way, exchange := range map[string]exchanger{"operator": c.Operator().Exchange, "coordinator": c.API().Exchange} {
			if no := c.Hand(exchange, bad.r); len(no) != 1 || !strings.HasPrefix(no[0], bad.code) {
				t.Errorf("%s by the %s: %v", what, way, no)
			}
		}
	}
	if st := c.Status(); st.CharterVersion != 1 {
		t.Fatalf("c goes by version %d", st.CharterVersion)
	}
	// The operator's file has one, the coordinator brings the other, the peers a freeze.
	c.Bring(chain[2])
	w.Eventually("version 2 by the operator", func() bool { return c.Status().CharterVersion == 2 })
	if no := c.Hand(c.API().Exchange, chain[3]); len(no) > 0 {
		t.Errorf("version 3 by the coordinator: %v", no)
	}
	w.Eventually("version 3 by the coordinator", func() bool { return c.Status().CharterVersion == 3 })
	id, _ := w.Members["a"].Freeze(authority.ScopeCluster, "")
	if w.holds("c", id) {
		t.Error("c is not alone")
	}
	w.Net.Heal()
	w.frozenAt(id, "c")
	w.Charter = three
	w.Fresh()
	// Another version 2, complete, is too late to take force, and is a fork: the admins' keys
	// sign two things. c freezes, and that reaches the others.
	c.Hand(c.Operator().Exchange, f.CharterRecord(t, forged, now, nil, "bob", "carol"))
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" freezes", func() bool {
			return slices.ContainsFunc(w.Members[s].Status().Freezes, func(f *pb.FreezeState) bool { return f.By == "c" })
		})
		if st := w.Members[s].Status(); st.CharterVersion != 3 || st.NextVersion != 0 {
			t.Errorf("%s: version %d, next %d", s, st.CharterVersion, st.NextVersion)
		}
	}
	w.audits("c", "CHARTER_IN_FORCE", "CHARTER_FORK")
}

// Two complete versions of one number: neither takes force, all signers freeze, write it
// down and tell their operators.
func TestForkFreezes(t *testing.T) {
	w := newWorld(t, cluster.Config{Draft: func(d *charter.Draft) { d.Admin.Delay = "1h" }})
	f, now := w.Fixture(), time.Now().Unix()
	w.Members["a"].Bring(f.CharterRecord(t, w.next(func(c *charter.Charter) { c.Rules[0].FeeCap = "0.1 ETH" }), now, nil, "bob", "carol"))
	w.Members["c"].Bring(f.CharterRecord(t, w.next(func(c *charter.Charter) { c.Rules[0].FeeCap = "0.2 ETH" }), now, nil, "bob", "carol"))
	o := w.payment()
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" is frozen", func() bool { return w.judge(s, o) == "G-FROZEN-CLUSTER" })
		if st := w.Members[s].Status(); st.CharterVersion != 1 || st.NextVersion != 0 {
			t.Errorf("%s: version %d, next %d", s, st.CharterVersion, st.NextVersion)
		}
	}
	w.audits("b", "CHARTER_FORK", "FREEZE")
}

// What only waits comes from whoever proposes it: charter.json, which a start reads, holds
// none of it, and it outlives the start all the same.
func TestWaitingVersionStaysOutOfTheFile(t *testing.T) {
	w := newWorld(t, cluster.Config{Draft: func(d *charter.Draft) { d.Admin.Delay = "1h" }})
	a := w.Members["a"]
	a.Bring(w.Fixture().CharterRecord(t, w.next(func(c *charter.Charter) { c.Rules[0].FeeCap = "0.1 ETH" }), time.Now().Unix(), nil, "bob", "carol"))
	for range 2 {
		w.Eventually("the version waits", func() bool { return a.Status().NextVersion == 2 })
		file, err := charter.ReadFile(a.Dir.Charter())
		if err != nil {
			t.Fatal(err)
		}
		if len(file.Records) != 0 {
			t.Errorf("charter.json has %d records of what is not in force", len(file.Records))
		}
		a.Stop()
		a.Start()
	}
}
