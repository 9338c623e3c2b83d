package coordinator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/coordinator"
	"coffer/credential"
	"coffer/identity"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
)

// propose makes the version after the one in force, and the record that bob and carol,
// the admins, approve.
func (w *world) propose(cards []string, edit func(*charter.Charter)) (authority.Record, *charter.Charter) {
	w.t.Helper()
	next, err := w.Charter.Clone()
	w.must(err)
	next.Follow(w.Charter)
	edit(next)
	w.must(next.Succeeds(w.Charter))
	r := authority.Record{Kind: authority.KindCharter, Raw: next.Encode(), Cards: cards}
	r.Statements = []approval.Signed{w.State("bob", approval.Approve, r.ID()), w.State("carol", approval.Approve, r.ID())}
	return r, next
}

// version waits until the coordinator has a version in force.
func (w *world) version(want uint64) {
	w.t.Helper()
	w.Eventually("the version is in force at the coordinator", func() bool {
		state, err := w.API.Cluster(w.t.Context(), &pb.ClusterRequest{})
		return err == nil && state.CharterVersion == want
	})
}

func without(people []charter.Person, name string) []charter.Person {
	return slices.DeleteFunc(people, func(p charter.Person) bool { return p.Name == name })
}

// The coordinator takes a version for the one in force only when the signers say that it
// is, hands on what it was given, and keeps what is under way.
func TestCharterChanges(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	before := w.mustSubmit(w.payment("BEFORE", 1))
	w.must(w.state("bob", approval.Approve, before))
	r, next := w.propose(nil, func(c *charter.Charter) {
		c.Rules[0].MaxAmount = []string{"1 ETH"} // it was 2
	})
	reply := w.hand(r)
	if len(reply.Refused) != 0 {
		t.Fatalf("refused: %v", reply.Refused)
	}
	w.version(2)
	if v := w.get(before); v.Stage != pb.Stage_STAGE_APPROVAL || len(v.Missing) != 1 {
		t.Errorf("%s, missing %q", v.Stage, v.Missing)
	}
	old := w.payment("TOO-MUCH", 11) // names the version before, which permits it
	_, err := w.submit(old)
	wantCode(t, err, codes.PermissionDenied, "1 ETH")
	w.RestartDesk()
	w.version(2)
	file, err := charter.ReadFile(w.Desk.Charter())
	w.must(err)
	ledger, err := authority.Open(file, time.Now().Unix())
	w.must(err)
	if ledger.InForce().Digest() != next.Digest() {
		t.Errorf("the charter's file leads to version %d", ledger.InForce().Version)
	}

	// Without its store, and with version 1 alone that nobody has signed, it hears of the rest
	// from the signers, and takes what they remember only then.
	w.Charter = next
	after := w.mustSubmit(w.payment("AFTER", 1))
	w.Eventually("every signer remembers it", func() bool {
		for _, m := range w.Members {
			reply, err := m.API().Recall(t.Context(), &pb.RecallRequest{})
			if err != nil || !slices.ContainsFunc(reply.Intents, func(k *pb.KnownIntent) bool { return canon.Sum(k.Intent.Raw) == after }) {
				return false
			}
		}
		return true
	})
	w.LoseDesk()
	file.Records, file.Signatures = nil, nil
	w.must(charter.WriteFile(w.Desk.Charter(), file))
	w.Rebuild = true
	w.StartDesk()
	w.version(2)
	for id, people := range map[canon.Digest]int{before: 1, after: 0} {
		w.Eventually("what waits is found again", func() bool {
			v, err := w.API.Get(t.Context(), &pb.GetRequest{Id: id.String()})
			return err == nil && v.Stage == pb.Stage_STAGE_APPROVAL && len(v.Statements) == people
		})
	}
}

// One signer says that a version is in force, and one is less than Need: an observer
// does not believe it. What the coordinator does or hides makes no difference to signers.
func TestCharterNeedsSigners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Members["b"].Stop()
	w.Members["c"].Stop()
	r, _ := w.propose(nil, func(c *charter.Charter) { c.Rules[0].MaxAmount = []string{"1 ETH"} })
	w.hand(r)
	w.Eventually("a has it in force", func() bool {
		st, err := w.Members["a"].API().Status(t.Context(), &pb.StatusRequest{})
		return err == nil && st.CharterVersion == 2
	})
	w.Eventually("its receipt is here", func() bool {
		reply, err := w.API.Exchange(t.Context(), &pb.ExchangeRequest{Fetch: true})
		w.must(err)
		for _, raw := range reply.Records {
			got, err := authority.Parse(raw)
			w.must(err)
			if got.ID() == r.ID() && len(got.Receipts) == 1 {
				return true
			}
		}
		return false
	})
	state, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
	w.must(err)
	if state.CharterVersion != 1 {
		t.Error("a version is in force by the word of one signer")
	}
	w.Members["b"].Start()
	w.version(2)
	w.Members["c"].Start()
}

// An approver who is removed between approval and signing counts no more; the intent goes
// back to the people and says so. A caller who is removed is refused at the next call.
func TestRemovedBetweenApprovalAndSigning(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	carol, err := w.Dial("carol")
	w.must(err)
	t.Cleanup(func() { _ = carol.Close() })
	reads := func() error {
		_, err := pb.NewCoordinatorClient(carol).Wallets(t.Context(), &pb.WalletsRequest{})
		return err
	}
	w.must(reads())
	w.paid(0, func() {
		w.Gate.Fail("eth_estimateGas", true) // approved, and not signed
		id := w.mustSubmit(w.payment("REMOVED", 1))
		w.approve(id)
		w.until(id, "with the signers", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_SIGNING })
		dave := testcharter.Card(t, testcharter.SSH(t, "dave"), "dave", "custodian")
		r, _ := w.propose([]string{dave}, func(c *charter.Charter) {
			c.People = without(c.People, "carol")
			c.People = append(c.People, charter.Person{Name: "dave", Org: "custodian", Groups: []string{"approvers"}, Keys: []credential.Key{parsed(t, dave).Key}})
		})
		if reply := w.hand(r); len(reply.Refused) != 0 {
			t.Fatalf("refused: %v", reply.Refused)
		}
		w.version(2)
		w.Gate.Fail("eth_estimateGas", false)
		v := w.until(id, "back with the people", func(v *pb.IntentView) bool { return v.Stage == pb.Stage_STAGE_APPROVAL && len(v.Missing) > 0 })
		if len(v.SignedBy) != 0 {
			t.Errorf("signed by %v", v.SignedBy)
		}
	})
	wantCode(t, reads(), codes.Unauthenticated, "")
}

// An intent whose initiator has another key by now is refused by every signer, and says so.
func TestInitiatorsKeyReplaced(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	conn, err := w.Dial("bob")
	w.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	id := w.mustSubmit(w.payment("OLD-KEY", 1))
	second := testcharter.SSH(t, "alice's second")
	r, _ := w.propose([]string{testcharter.Card(t, second, "alice", "exchange")}, func(c *charter.Charter) {
		for n := range c.People {
			if c.People[n].Name == "alice" {
				c.People[n].Keys = []credential.Key{second.Key()}
			}
		}
	})
	w.taken(r)
	var v *pb.IntentView
	w.Eventually("it has ended", func() bool {
		v, err = pb.NewCoordinatorClient(conn).Get(t.Context(), &pb.GetRequest{Id: id.String()})
		return err == nil && ended(v)
	})
	if v.Stage != pb.Stage_STAGE_REFUSED || v.FailureCode != "PREVIEW" || !strings.Contains(v.Detail, "in the charter in force") {
		t.Errorf("%s %s: %s", v.Stage, v.FailureCode, v.Detail)
	}
}

// A coordinator goes over to its next identity when the charter lists it, without being
// told to; whoever knows only the old charter still reaches it, and signers that were off
// meanwhile hear of the change from it.
func TestRotate(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.Members["c"].Stop()
	card, err := coordinator.Rotate(w.Desk)
	w.must(err)
	if again, err := coordinator.Rotate(w.Desk); err != nil || parsed(t, again).Peer != parsed(t, card).Peer {
		t.Errorf("again: %v: another identity", err)
	}
	id := w.mustSubmit(w.payment("ACROSS", 1))
	w.must(w.state("bob", approval.Approve, id))
	r, _ := w.propose([]string{card}, func(c *charter.Charter) { c.Coordinators[0].Peer = parsed(t, card).Peer })
	if reply := w.hand(r); len(reply.Refused) != 0 {
		t.Fatalf("refused: %v", reply.Refused)
	}
	w.Eventually("it has the next identity", func() bool {
		key, err := identity.Load(w.Desk.Identity())
		if err != nil || key.ID() != parsed(t, card).Peer {
			return false
		}
		w.DeskKey = key // signers that have caught up answer nobody else
		return true
	})
	// w.API asks for the old identity still.
	w.Eventually("it serves again", func() bool {
		_, err := w.API.Get(t.Context(), &pb.GetRequest{Id: id.String()})
		return err == nil
	})
	w.Members["c"].Start()
	w.Eventually("c has caught up and answers", func() bool {
		state, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
		if err != nil {
			return false
		}
		for _, s := range state.Signers {
			if s.Name == "c" {
				return s.Reachable && s.Status.GetCharterVersion() == 2
			}
		}
		return false
	})
	w.RestartDesk() // its log went over too
	w.version(2)
}

func parsed(t *testing.T, line string) charter.Card {
	t.Helper()
	card, err := charter.ParseCard(line)
	if err != nil {
		t.Fatal(err)
	}
	return card
}
