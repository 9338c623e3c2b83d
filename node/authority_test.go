package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/audit"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/engine"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/store"
	"coffer/verdict"
)

// frozenAt waits until a signer holds a freeze.
func (w *world) frozenAt(id canon.Digest, at ...party.ID) {
	w.t.Helper()
	for _, m := range at {
		w.Eventually(fmt.Sprintf("%s holds the freeze", m), func() bool {
			return slices.ContainsFunc(w.Members[m].Status().Freezes, func(f *pb.FreezeState) bool { return canon.Digest(f.Id) == id })
		})
	}
}

// A freeze at one signer, which the coordinator cannot reach, stops all; only the admins
// lift it, through any signer's socket.
func TestFreezeThroughOneSigner(t *testing.T) {
	w := newWorld(t, cluster.Config{Doors: true})
	o := w.payment()
	w.mustSign(o, "a", "b")
	w.Members["c"].Door.Shut(true)
	id, effective := w.Members["c"].Freeze(authority.ScopeCluster, "")
	if !effective {
		t.Error("two of three are connected, and it is not effective")
	}
	w.frozenAt(id, "a", "b")
	next := w.payment()
	for _, s := range []party.ID{"a", "b"} {
		if got := w.judge(s, next); got != "G-FROZEN-CLUSTER" {
			t.Errorf("%s judges %s", s, got)
		}
	}
	for s, a := range w.session(t.Context(), next, "a", "b") {
		if got := w.how(s, a); got != "G-FROZEN-CLUSTER" {
			t.Errorf("%s answers %s", s, got)
		}
	}
	// One admin is none.
	f := w.Fixture()
	lift := f.UnfreezeRecord(t, w.Charter, time.Now().Unix(), []canon.Digest{id}, "bob")
	w.Members["b"].Bring(lift)
	if got := w.judge("b", next); got != "G-FROZEN-CLUSTER" {
		t.Errorf("lifted by one: %s", got)
	}
	w.Members["b"].Bring(f.Say(t, lift, approval.Approve, time.Now().Unix(), "carol"))
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" is free", func() bool { return len(w.Members[s].Status().Freezes) == 0 })
	}
	w.Fresh()
	w.mustSign(next, "a", "b")
	w.audits("c", "FREEZE", "LIFT")
}

// audits demands that a signer wrote entries of these codes.
func (w *world) audits(id party.ID, codes ...string) {
	w.t.Helper()
	w.Members[id].Stop()
	raw, err := os.ReadFile(w.Members[id].Dir.Audit() + "/records")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, code := range codes {
		if !strings.Contains(string(raw), code) {
			w.t.Errorf("%s is not in the audit log of %s", code, id)
		}
	}
	if _, err := audit.Verify(w.Members[id].Dir.Audit()); err != nil {
		w.t.Error(err)
	}
}

// meanwhile has something done to a signer whose loop stands still, until its own head
// shows it: it is on disk there, and only the loop has not heard. It runs in that loop,
// and closes done when the loop has heard.
func (w *world) meanwhile(id party.ID, done chan struct{}, change func(), shows func(before, now authority.Head) bool) {
	api := w.Members[id].Operator()
	head := func() (h authority.Head) {
		st, err := api.Status(context.Background(), &pb.StatusRequest{})
		if err == nil {
			h, err = authority.OpenHead(st.Head, st.HeadSignature, w.Charter)
		}
		if err != nil {
			w.t.Error(err)
		}
		return h
	}
	before := head()
	go func() { defer close(done); change() }()
	for deadline := time.Now().Add(30 * time.Second); !shows(before, head()); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Errorf("%s does not take it within 30 s", id)
			return
		}
	}
}

func closed(c <-chan struct{}) func() bool {
	return func() bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
}

// A session that was released when the freeze came does not give its partial: the freeze
// was on disk before it left.
func TestFreezeStopsAPartial(t *testing.T) {
	for scope, name := range map[string]string{authority.ScopeCluster: "", authority.ScopeWallet: cluster.WalletName, authority.ScopePerson: "alice"} {
		t.Run(scope, func(t *testing.T) {
			w := newWorld(t, cluster.Config{})
			o := w.payment()
			var told sync.Once
			done := make(chan struct{})
			w.hosts.on(func(id party.ID, e *engine.Event) bool {
				if id == "a" && e.Partial != nil {
					told.Do(func() {
						w.meanwhile("a", done, func() { w.Members["a"].Freeze(scope, name) }, func(before, now authority.Head) bool { return now.Freezes != before.Freezes })
					})
				}
				return true
			})
			answers := w.session(t.Context(), o, "a", "b")
			w.Eventually("the freeze came", closed(done))
			if got := w.how("a", answers["a"]); !strings.HasPrefix(got, "G-FROZEN") {
				t.Errorf("a answers %s", got)
			}
		})
	}
}

// A freeze that comes from another signer ends sessions under way, in either phase.
func TestFreezeEndsWhatRuns(t *testing.T) {
	for phase, at := range map[string]func(*engine.Event) bool{
		"prepare": func(e *engine.Event) bool { return e.Out != nil },
		"release": func(e *engine.Event) bool { return e.Prepared },
	} {
		t.Run(phase, func(t *testing.T) {
			w := newWorld(t, cluster.Config{})
			o := w.payment()
			reached, held := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.hosts.on(func(id party.ID, e *engine.Event) bool {
				if id == "b" && at(e) {
					once.Do(func() { close(reached) })
					<-held // b does not go on
				}
				return true
			})
			ended := make(chan map[party.ID]cluster.Answer, 1)
			go func() { ended <- w.session(context.WithoutCancel(t.Context()), o, "a", "b") }()
			w.Eventually("the session is so far", func() bool { return closed(reached)() && w.Members["a"].Status().ActiveSessions == 1 })
			id, _ := w.Members["c"].Freeze(authority.ScopeWallet, cluster.WalletName)
			w.frozenAt(id, "a")
			w.Eventually("it has ended at a", func() bool { return w.Members["a"].Status().ActiveSessions == 0 })
			close(held)
			for s, a := range <-ended {
				if a.Partial != nil {
					t.Errorf("%s gave a partial", s)
				}
			}
			if got := w.judge("a", w.payment()); got != "G-FROZEN-WALLET" {
				t.Errorf("judged %s", got)
			}
		})
	}
}

// A freeze ends a ceremony under way, and none begins.
func TestFreezeEndsACeremony(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	reached, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "b" && e.Out != nil {
			once.Do(func() { close(reached) })
			<-held
		}
		return true
	})
	ended := make(chan error, 1)
	body := &intent.CreateWalletBody{Quorum: w.Charter.Quorum, Signers: w.Charter.Parties()}
	i := w.Cluster.Sign("alice", &intent.Intent{Kind: intent.CreateWallet, Wallet: "second", Reference: "WALLET-2", CreateWallet: body})
	go func() {
		_, err := w.Ceremony(context.WithoutCancel(t.Context()), i, w.Approvals(i))
		ended <- err
	}()
	w.Eventually("the ceremony runs", func() bool { return closed(reached)() && w.Members["a"].Status().ActiveSessions == 1 })
	id, _ := w.Members["c"].Freeze(authority.ScopePerson, "alice")
	w.frozenAt(id, "a")
	w.Eventually("it has ended at a", func() bool { return w.Members["a"].Status().ActiveSessions == 0 })
	close(held)
	if err := <-ended; err == nil {
		t.Error("there is a wallet")
	}
	if n := len(w.Members["a"].Status().Wallets); n != 1 {
		t.Errorf("a has %d wallets", n)
	}
	if _, err := w.Members["b"].CreateWallet(t.Context(), i, w.Approvals(i), cluster.Attempt()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("ceremony of a frozen person: %v", err)
	}
}

// A freeze outlives restarts of all signers, whatever the coordinator says.
func TestFreezeOutlivesRestarts(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	id, _ := w.Members["a"].Freeze(authority.ScopeCluster, "")
	w.frozenAt(id, "a", "b", "c")
	o := w.payment()
	for range 3 {
		for _, s := range []party.ID{"a", "b", "c"} {
			w.Members[s].Stop()
		}
		for _, s := range []party.ID{"a", "b", "c"} {
			w.Members[s].Start()
			if got := w.judge(s, o); got != "G-FROZEN-CLUSTER" {
				t.Errorf("%s judges %s", s, got)
			}
		}
	}
}

// A signer that was off hears of a freeze from its peers before it signs.
func TestSignerThatWasOffCatchesUp(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	w.Members["c"].Stop()
	id, effective := w.Members["a"].Freeze(authority.ScopeCluster, "")
	if !effective {
		t.Error("two of three have it")
	}
	w.Members["c"].Start() // waits until it is fresh
	w.frozenAt(id, "c")
}

// The endpoint for orders takes freezes of people and orders about intents, and nothing
// that widens; a flood of junk from one address stops no order from another.
func TestOwnEndpoint(t *testing.T) {
	w := newWorld(t, cluster.Config{Signer: cluster.TakeOrders})
	f := w.Fixture()
	now := time.Now().Unix()
	flood := w.Members["a"].Orders("127.0.0.1")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var busy sync.WaitGroup
	for n := range 4 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_, _ = flood.Exchange(ctx, &pb.ExchangeRequest{Records: [][]byte{[]byte(fmt.Sprint("junk ", n))}})
			}
		})
	}
	w.Eventually("the flood is refused", func() bool {
		_, err := flood.Exchange(ctx, &pb.ExchangeRequest{})
		return status.Code(err) == codes.ResourceExhausted
	})
	next := w.next(func(c *charter.Charter) { c.Name = w.Charter.Name })
	calm := w.Members["a"].Orders("127.0.0.2")
	if got := w.Members["a"].Hand(calm.Exchange, f.CharterRecord(t, next, now, nil, "bob", "carol")); len(got) != 1 || !strings.HasPrefix(got[0], authority.CodeMalformed) {
		t.Errorf("a version of the charter: %v", got)
	}
	freeze := f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	if got := w.Members["a"].Hand(calm.Exchange, freeze); len(got) != 0 {
		t.Errorf("the freeze: %v", got)
	}
	if got := w.judge("a", w.payment()); got != "G-FROZEN-CLUSTER" {
		t.Errorf("a judges %s", got)
	}
	w.frozenAt(freeze.ID(), "b", "c")
	// A stranger's freeze is none, and is counted, not written.
	before := w.Members["a"].Status().AuditSize
	foreign := f.SayWith(t, f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 2), approval.Freeze, now, "alice", testcharter.SSH(t, "mallory"))
	bad := f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 2)
	bad.Statements = []approval.Signed{foreign}
	if got := w.Members["a"].Hand(calm.Exchange, bad); len(got) != 1 {
		t.Errorf("a stranger's freeze: %v", got)
	}
	if after := w.Members["a"].Status().AuditSize; after != before {
		t.Errorf("the audit log grew by %d", after-before)
	}
	stop()
	busy.Wait()
}

// An order about an intent that one signer heard by its own endpoint counts at all.
func TestOrderByTheOwnEndpoint(t *testing.T) {
	w := newWorld(t, cluster.Config{Signer: cluster.TakeOrders})
	o := w.payment()
	order := w.Fixture().OrderRecord(t, approval.Reject, canon.Sum(o.intent.Raw), time.Now().Unix(), "carol")
	if got := w.Members["c"].Hand(w.Members["c"].Orders("127.0.0.1").Exchange, order); len(got) != 0 {
		t.Fatal(got)
	}
	for _, s := range []party.ID{"a", "b", "c"} {
		w.Eventually(string(s)+" refuses", func() bool { return w.judge(s, o) == "G-REJECTED" })
	}
}

// next is the version after the one in force.
func (w *world) next(edit func(*charter.Charter)) *charter.Charter {
	w.t.Helper()
	return w.Fixture().Next(w.t, w.Charter, edit)
}

// withoutCarol has dave approve in carol's place.
func (w *world) withoutCarol() (*charter.Charter, []string) {
	w.t.Helper()
	w.People["dave"] = testcharter.SSH(w.t, "dave")
	dave := charter.Person{Name: "dave", Org: "auditor", Groups: []string{"approvers"}}
	next := w.next(func(c *charter.Charter) {
		c.People = slices.DeleteFunc(c.People, func(p charter.Person) bool { return p.Name == "carol" })
		dave.Keys = append(dave.Keys, w.People["dave"].Key())
		c.People = append(c.People, dave)
	})
	return next, []string{testcharter.Card(w.t, w.People["dave"], "dave", "auditor")}
}

// An approver who was removed between approval and signing approves no more, without a
// restart of anything; what is pending lives on under both versions.
func TestApproverRemovedBeforeSigning(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment() // approved by bob and carol under version 1
	old := w.Charter
	next, cards := w.withoutCarol()
	w.Adopt("c", next, cards, "a", "b", "c")
	w.Fresh()
	for s, a := range w.session(t.Context(), o, "a", "b") {
		if got := w.how(s, a); got != "G-APPROVALS" {
			t.Errorf("%s answers %s", s, got)
		}
	}
	if w.Charter == old {
		t.Fatal("no other version")
	}
	w.audits("a", "CHARTER_IN_FORCE")
}

// A version that takes force while a session runs is looked at before the partial leaves.
func TestApproverRemovedBeforeThePartial(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	next, cards := w.withoutCarol()
	record := w.Fixture().CharterRecord(t, next, time.Now().Unix(), cards, "bob", "carol")
	var told sync.Once
	done := make(chan struct{})
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "a" && e.Partial != nil {
			told.Do(func() {
				w.meanwhile("a", done, func() { w.Members["a"].Bring(record) }, func(_, now authority.Head) bool { return now.Version == 2 })
			})
		}
		return true
	})
	a := w.session(t.Context(), o, "a", "b")["a"]
	w.Eventually("the version came", closed(done))
	if a.Refused == nil {
		t.Fatalf("a answers %s", w.how("a", a))
	}
	v, err := verdict.Parse(a.Refused.Verdict)
	if err != nil || !slices.ContainsFunc(v.Reasons, func(r verdict.Reason) bool { return r.Check == "G-APPROVALS" }) {
		t.Errorf("a answers %+v, %v", v, err)
	}
}

// What others said grows old while a session runs: the last look asks again, although
// nothing came.
func TestStaleBeforeThePartial(t *testing.T) {
	w := newWorld(t, cluster.Config{Draft: func(d *charter.Draft) { d.Freshness = &charter.Freshness{Heads: 2, Within: "10s"} }})
	o := w.payment()
	w.Net.Partition(party.Set{"c"})
	var once sync.Once
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "a" && e.Partial != nil {
			once.Do(func() {
				w.Eventually("what c said is old", func() bool {
					st := w.Members["a"].Status()
					// Well past the 10 s: c's clock is an estimate, of which the age is a part.
					return !st.Fresh && slices.ContainsFunc(st.Heads, func(h *pb.HeadState) bool { return h.Signer == "c" && h.AgeMs > 12_000 })
				})
			})
		}
		return true
	})
	a := w.session(t.Context(), o, "a", "b")["a"]
	if got := w.how("a", a); got != "G-FRESH" {
		t.Errorf("a answers %s", got)
	}
}

// A signer that hears of nobody, or of a liar alone, signs nothing once what it heard is
// old, if the charter asks for the heads of all others (threat C17). The liar is one that
// says what suits a: that it stands where a stands, under a charter by which carol approves.
func TestPartitionedSigner(t *testing.T) {
	w := newWorld(t, cluster.Config{Draft: func(d *charter.Draft) { d.Freshness = &charter.Freshness{Heads: 2, Within: "10s"} }})
	w.mustSign(w.payment(), "a", "b")
	o := w.payment()
	w.Net.Partition(party.Set{"c"})
	next, cards := w.withoutCarol()
	old := w.Charter
	w.Adopt("c", next, cards, "c")
	w.Charter = old // the one that a and b have
	w.Eventually("a is stale", func() bool { return !w.Members["a"].Status().Fresh })
	for _, o := range []order{o, w.payment()} { // approved before, and approved by carol after her removal
		for s, a := range w.session(t.Context(), o, "a", "b") {
			if got := w.how(s, a); got != "G-FRESH" {
				t.Errorf("%s answers %s", s, got)
			}
		}
	}
	w.Net.Heal()
	w.Eventually("a has the version", func() bool { return w.Members["a"].Status().CharterVersion == 2 })
	w.Fresh()
	for s, a := range w.session(t.Context(), o, "a", "b") {
		if got := w.how(s, a); got != "G-APPROVALS" {
			t.Errorf("%s answers %s", s, got)
		}
	}
}

// With the usual Of-Need heads, one in a 2-of-3, a lying peer alone keeps a signer fresh
// that is cut off from the rest: what docs/threat-model.md says of C17.
func TestPartitionedWithALiar(t *testing.T) {
	w := newWorld(t, cluster.Config{Draft: func(d *charter.Draft) { d.Freshness = &charter.Freshness{Heads: 1, Within: "10s"} }})
	w.Net.Partition(party.Set{"c"})
	next, cards := w.withoutCarol()
	old := w.Charter
	w.Adopt("c", next, cards, "c")
	w.Charter = old
	w.Eventually("what a heard of c is old", func() bool {
		return !slices.ContainsFunc(w.Members["a"].Status().Heads, func(h *pb.HeadState) bool { return h.Signer == "c" && h.AgeMs <= 10_000 })
	})
	w.mustSign(w.payment(), "a", "b")
	// Without the liar it stops, too.
	w.Net.Partition(party.Set{"a"})
	w.Eventually("a is stale", func() bool { return !w.Members["a"].Status().Fresh })
	if got := w.judge("a", w.payment()); got != "G-FRESH" {
		t.Errorf("a judges %s", got)
	}
}

// A stale signer signs nothing under the charter that it has: the others' heads differ,
// and nothing but what they have makes it agree.
func TestStaleSignerSignsNothing(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	w.Members["a"].Stop()
	next, cards := w.withoutCarol()
	w.Adopt("b", next, cards, "b", "c")
	w.Net.SetTamper(func(_, to party.ID, data []byte) []byte {
		if to == "a" && strings.Contains(string(data[:min(len(data), 40)]), authority.Domain) {
			return nil // somebody keeps the records from a
		}
		return data
	})
	w.Members["a"].Launch(false)
	w.Eventually("a knows that it is behind", func() bool {
		st, err := w.Members["a"].Ask()
		return err == nil && !st.Sealed && len(st.Heads) == 2 && !st.Fresh
	})
	if got := w.judge("a", o); got != "G-FRESH" {
		t.Errorf("a judges %s", got)
	}
	w.Net.SetTamper(nil)
	w.Eventually("a has caught up", func() bool { return w.Members["a"].Status().CharterVersion == 2 })
	w.Eventually("a judges under both", func() bool { return w.judge("a", o) == "G-APPROVALS" })
}

// A lying peer's heads about others, and forged ones about itself, count for nothing.
func TestForgedHeads(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	var stolen atomic.Pointer[[]byte]
	var forged atomic.Int64
	w.Net.SetTamper(func(from, to party.ID, data []byte) []byte {
		isHead := strings.Contains(string(data[:min(len(data), 40)]), "coffer/head-frame/v1")
		switch {
		case from == "c" && to == "b" && isHead:
			stolen.Store(&data)
		case from == "c" && to == "a":
			return nil
		case from == "b" && to == "a" && isHead:
			head := stolen.Load()
			if head == nil {
				return nil
			}
			forged.Add(1)
			return *head // b hands on what c said, for its own
		}
		return data
	})
	id, _ := w.Members["c"].Freeze(authority.ScopePerson, "alice") // a hears of it from b
	w.frozenAt(id, "a")
	many := forged.Load() + 2
	w.Eventually("a has heard forged heads", func() bool { return forged.Load() >= many })
	if st := w.Members["a"].Status(); st.Fresh {
		t.Errorf("a counts a head of c that b brings: %v", st.Heads)
	}
}

// A signer that another one replaces says so and signs nothing; the others go on, and the
// new one joins with the charter's file and its records.
func TestSignerReplaced(t *testing.T) {
	w := newWorld(t, cluster.Config{Spares: 1})
	o := w.payment()
	card, err := charter.ParseCard(w.Members["d"].Card)
	if err != nil {
		t.Fatal(err)
	}
	next := w.next(func(c *charter.Charter) {
		for n, s := range c.Signers {
			if s.Name == "c" {
				c.Signers[n] = charter.Signer{Name: "d", Org: card.Org, Peer: card.Peer}
			}
		}
	})
	w.Adopt("a", next, []string{w.Members["d"].Card}, "a", "b", "c")
	w.Eventually("c says so", func() bool {
		conn, err := rpc.DialUnix(w.Members["c"].Dir.Socket())
		if err != nil {
			return false // it is opened anew
		}
		defer conn.Close()
		reply, err := pb.NewOperatorClient(conn).Doctor(t.Context(), &pb.DoctorRequest{})
		return err == nil && slices.ContainsFunc(reply.Findings, func(f *pb.Finding) bool { return f.Subject == "charter" && f.Level == pb.Level_LEVEL_FAIL })
	})
	if a := w.Members["c"].Sign(t.Context(), o.request(cluster.Attempt(), "b", "c")); a.Partial != nil {
		t.Error("the signer that was replaced signs")
	}
	var file *charter.File
	w.Eventually("charter.json of a proves the version", func() bool {
		if file, err = charter.ReadFile(w.Members["a"].Dir.Charter()); err != nil {
			return false
		}
		c, err := node.Newest(file)
		return err == nil && c.Digest() == next.Digest()
	})
	if _, err := node.Join(w.Members["d"].Dir, file, w.File.Charter.Digest()); err == nil {
		t.Error("d joined the version before")
	}
	if _, err := node.Join(w.Members["d"].Dir, file, next.Digest()); err != nil {
		t.Fatal(err)
	}
	w.Members["d"].Start()
	if st := w.Members["d"].Status(); st.CharterVersion != 2 || !st.Fresh {
		t.Errorf("d: version %d, fresh %v", st.CharterVersion, st.Fresh)
	}
	w.Eventually("a and b are fresh", func() bool { return w.Members["a"].Status().Fresh && w.Members["b"].Status().Fresh })
	w.mustSign(o, "a", "b")
}

// A signer goes over to its next identity when the charter lists it, and its audit log goes on.
func TestIdentityRotated(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	line, err := node.Rotate(w.Members["a"].Dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := node.Rotate(w.Members["a"].Dir); err != nil || again != line {
		t.Errorf("the second time: %v", err)
	}
	card, err := charter.ParseCard(line)
	if err != nil {
		t.Fatal(err)
	}
	next := w.next(func(c *charter.Charter) { c.Signers[0].Peer = card.Peer })
	w.Adopt("b", next, []string{line}, "a", "b", "c")
	w.Eventually("a has the next identity", func() bool {
		st, err := w.Members["a"].Ask()
		return err == nil && st.PeerId == string(card.Peer) && !st.Sealed
	})
	key, err := identity.Load(w.Members["a"].Dir.Identity())
	if err != nil || key.ID() != card.Peer {
		t.Errorf("identity.key: %v", err)
	}
	w.Fresh()
	w.mustSign(w.payment(), "a", "b")
	w.Members["a"].Stop()
	w.Members["a"].Start()
	w.mustSign(w.payment(), "a", "c")
	w.VerifyAudits()
}

// An older copy of the log is no more handed over to the next identity than it is opened
// at any start, and stays as it is.
func TestOlderLogAtRotation(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	a := w.Members["a"]
	copied := func(from string) map[string][]byte {
		files := map[string][]byte{}
		for _, name := range []string{"records", "hashes", "checkpoint"} {
			raw, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = raw
		}
		return files
	}
	put := func(files map[string][]byte) {
		for name, raw := range files {
			if err := os.WriteFile(filepath.Join(a.Dir.Audit(), name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.Stop()
	older := copied(a.Dir.Audit())
	before, err := os.ReadFile(a.Dir.Identity())
	if err != nil {
		t.Fatal(err)
	}
	a.Start()
	line, err := node.Rotate(a.Dir)
	if err != nil {
		t.Fatal(err)
	}
	card, err := charter.ParseCard(line)
	if err != nil {
		t.Fatal(err)
	}
	w.Adopt("b", w.next(func(c *charter.Charter) { c.Signers[0].Peer = card.Peer }), []string{line}, "a", "b", "c")
	w.Eventually("a has the next identity", func() bool {
		st, err := a.Ask()
		return err == nil && st.PeerId == string(card.Peer)
	})
	a.Stop()
	newest := copied(a.Dir.Audit())

	// As after a crash between the log and the key.
	if err := store.Move(a.Dir.Identity(), a.Dir.NextIdentity()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.Dir.Identity(), before, 0o600); err != nil {
		t.Fatal(err)
	}
	put(older)
	if _, err := node.New(node.Config{Dir: a.Dir, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("with an older log: %v", err)
	}
	if now := copied(a.Dir.Audit()); !maps.EqualFunc(now, older, bytes.Equal) {
		t.Error("the older log was changed")
	}
	put(newest)
	a.Start()
	if st := a.Status(); st.PeerId != string(card.Peer) {
		t.Errorf("with the newest log it is %s", st.PeerId)
	}
	w.VerifyAudits()
}

// A signer that is away while the others take its next identity for its own is admitted by
// none of them; the coordinator asks for the next identity, and brings the version.
func TestIdentityRotatedWhileAway(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	line, err := node.Rotate(w.Members["a"].Dir)
	if err != nil {
		t.Fatal(err)
	}
	card, err := charter.ParseCard(line)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := party.NewSet("a")
	if err != nil {
		t.Fatal(err)
	}
	w.Net.Partition(alone)
	w.Adopt("b", w.next(func(c *charter.Charter) { c.Signers[0].Peer = card.Peer }), []string{line}, "b", "c")
	known, err := w.Members["b"].Operator().Exchange(t.Context(), &pb.ExchangeRequest{Fetch: true})
	if err != nil {
		t.Fatal(err)
	}
	api := w.Members["a"].API() // under the identity of the version that a has not heard of
	w.Eventually("a is asked as its next identity, and goes over to it", func() bool {
		_, err := api.Exchange(t.Context(), &pb.ExchangeRequest{Records: known.Records})
		st, askErr := w.Members["a"].Ask()
		return err == nil && askErr == nil && st.PeerId == string(card.Peer)
	})
}

// A freeze that reaches nobody is not called effective; it is once the others have it.
func TestFreezeOfALoneSigner(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	alone, err := party.NewSet("a")
	if err != nil {
		t.Fatal(err)
	}
	w.Net.Partition(alone)
	id, effective := w.Members["a"].Freeze(authority.ScopeCluster, "")
	if effective {
		t.Error("effective with one of three")
	}
	o := w.payment()
	if got := w.judge("a", o); got != "G-FROZEN-CLUSTER" {
		t.Errorf("a judges %s", got)
	}
	w.mustSign(o, "b", "c") // they cannot know
	w.Net.Heal()
	w.frozenAt(id, "b", "c")
	w.Eventually("a knows that it is effective", func() bool {
		return slices.ContainsFunc(w.Members["a"].Status().Freezes, func(f *pb.FreezeState) bool { return f.Effective })
	})
}
