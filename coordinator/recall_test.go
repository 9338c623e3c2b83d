package coordinator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"coffer/approval"
	"coffer/canon"
	"coffer/intent"
	"coffer/internal/anchor"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// teller is a signer that tells whatever a test wants.
type teller struct {
	pb.SignerClient
	tell func(*pb.RecallRequest) (*pb.RecallResponse, error)
}

func (t *teller) Recall(_ context.Context, req *pb.RecallRequest, _ ...grpc.CallOption) (*pb.RecallResponse, error) {
	return t.tell(req)
}

type rebuilt struct {
	*testcharter.Fixture
	t *testing.T
	c *Coordinator
}

func newRebuilt(t *testing.T) *rebuilt {
	t.Helper()
	r := &rebuilt{Fixture: testcharter.New(t), t: t}
	path := filepath.Join(t.TempDir(), "coordinator.db")
	r.must(emptyStore(path))
	db, err := store.Open(path)
	r.must(err)
	r.c = &Coordinator{cluster: r.Charter.Cluster, db: db, key: r.Coordinator, settings: &Settings{Name: "desk"}, log: slog.New(slog.DiscardHandler), running: map[canon.Digest]chan struct{}{}, watchers: map[canon.Digest][]chan struct{}{}}
	r.c.seen, err = r.c.newObserver()
	r.must(err)
	r.c.items, err = openItems(db)
	r.must(err)
	r.c.rebuild, err = openRebuild(db)
	r.must(err)
	r.c.audit, err = anchor.Open(db, t.TempDir(), r.Coordinator, "coffer/test/coordinator/desk", true)
	r.must(err)
	now := &roster{charter: r.Charter}
	for _, s := range r.Charter.Signers {
		now.signers = append(now.signers, newSigner(s.Name, s.Peer, nil))
	}
	r.c.roster.Store(now)
	t.Cleanup(func() { r.must(errors.Join(r.c.audit.Close(), db.Close())) })
	return r
}

func (r *rebuilt) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// known is dave's payment with bob's approval, as an honest signer tells it.
func (r *rebuilt) known(ref, state string) *pb.KnownIntent {
	r.t.Helper()
	i := r.Payment(testcharter.Now)
	i.Reference = ref
	return &pb.KnownIntent{
		Intent: r.Sign(r.t, i).ToProto(), State: state, Seen: testcharter.Now,
		Statements: []*pb.SignedMessage{r.State(r.t, "bob", approval.Approve, i, testcharter.Now).ToProto()},
	}
}

func id(k *pb.KnownIntent) canon.Digest { return canon.Sum(k.GetIntent().GetRaw()) }

func inOrder(list ...*pb.KnownIntent) []*pb.KnownIntent {
	slices.SortFunc(list, func(a, b *pb.KnownIntent) int {
		x, y := id(a), id(b)
		return bytes.Compare(x[:], y[:])
	})
	return list
}

// ask has a signer tell these pages, one after the other.
func (r *rebuilt) ask(signer int, pages ...*pb.RecallResponse) (found int, err error) {
	s, n := r.c.signers()[signer], 0
	s.api = &teller{tell: func(*pb.RecallRequest) (*pb.RecallResponse, error) {
		n++
		return pages[min(n, len(pages))-1], nil
	}}
	return r.c.recallAll(r.t.Context(), s)
}

func page(list ...*pb.KnownIntent) *pb.RecallResponse {
	return &pb.RecallResponse{Intents: inOrder(list...)}
}

// What a signer tells counts as far as people signed it, and not a bit further.
func TestRecallBelievesNothing(t *testing.T) {
	for name, edit := range map[string]func(r *rebuilt, k *pb.KnownIntent){
		"another's signature": func(r *rebuilt, k *pb.KnownIntent) { k.Intent.Signature = r.known("OTHER", "noted").Intent.Signature },
		"another amount": func(r *rebuilt, k *pb.KnownIntent) {
			i, err := intent.Parse(k.Intent.Raw)
			r.must(err)
			i.Transfer.Amount.Add(i.Transfer.Amount, i.Transfer.Amount)
			k.Intent.Raw = i.Encode()
		},
		"somebody who is not enrolled": func(r *rebuilt, k *pb.KnownIntent) {
			i, err := intent.Parse(k.Intent.Raw)
			r.must(err)
			signed, err := intent.Sign(i, testcharter.SSH(t, "mallory"))
			r.must(err)
			k.Intent = signed.ToProto()
		},
		"another cluster": func(r *rebuilt, k *pb.KnownIntent) {
			i := r.Payment(testcharter.Now)
			i.Cluster = canon.Sum([]byte("elsewhere"))
			k.Intent = r.Sign(t, i).ToProto()
		},
		"no intent": func(_ *rebuilt, k *pb.KnownIntent) { k.Intent = nil },
		"junk":      func(_ *rebuilt, k *pb.KnownIntent) { k.Intent.Raw = []byte("junk") },
		"too large": func(_ *rebuilt, k *pb.KnownIntent) { k.Intent.Raw = make([]byte, intent.MaxRaw+1) },
		"too many statements": func(_ *rebuilt, k *pb.KnownIntent) {
			k.Statements = slices.Repeat(k.Statements, approval.MaxStatements+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRebuilt(t)
			bad, good := r.known("BAD", "signed"), r.known("GOOD", "signed")
			edit(r, bad)
			if found, err := r.ask(0, page(bad, good)); err != nil || found != 1 {
				t.Errorf("found %d, %v", found, err)
			}
			all, err := r.c.items.all()
			r.must(err)
			if len(all) != 1 || all[0].ID != id(good) {
				t.Errorf("%d intents", len(all))
			}
		})
	}
}

func TestRecallBelievesNoStatement(t *testing.T) {
	r := newRebuilt(t)
	k := r.known("INV-1", "noted")
	forged := r.State(t, "carol", approval.Approve, r.Payment(testcharter.Now), testcharter.Now) // of another intent
	mine := &pb.SignedMessage{Raw: k.Statements[0].Raw, Signature: forged.Signature}
	k.Statements = append(k.Statements, forged.ToProto(), mine, nil, k.Statements[0])
	if found, err := r.ask(0, page(k)); err != nil || found != 1 {
		t.Fatalf("found %d, %v", found, err)
	}
	it, err := r.c.items.get(id(k))
	r.must(err)
	if len(it.Statements) != 1 || !bytes.Equal(it.Statements[0].Raw, k.Statements[0].Raw) {
		t.Errorf("%d statements are kept", len(it.Statements))
	}
}

// A signer that does not keep to the rules of telling is not heard to the end, and
// costs no memory and no time.
func TestRecallEnds(t *testing.T) {
	r := newRebuilt(t)
	one, two := inOrder(r.known("ONE", "noted"), r.known("TWO", "noted"))[0], (*pb.KnownIntent)(nil)
	two = inOrder(one, r.known("THREE", "noted"), r.known("FOUR", "noted"))[2]
	var junk []*pb.KnownIntent
	for n := range 60 {
		junk = append(junk, &pb.KnownIntent{Intent: &pb.SignedMessage{Raw: []byte{byte(n)}, Signature: []byte("x")}})
	}
	for name, c := range map[string]struct {
		pages []*pb.RecallResponse
		says  string
	}{
		"twice the same":     {[]*pb.RecallResponse{{Intents: []*pb.KnownIntent{one, one}}}, "out of order"},
		"out of order":       {[]*pb.RecallResponse{{Intents: []*pb.KnownIntent{two, one}}}, "out of order"},
		"a page again":       {[]*pb.RecallResponse{{Intents: []*pb.KnownIntent{one}, More: true}}, "out of order"},
		"more of nothing":    {[]*pb.RecallResponse{{More: true}}, "tells nothing"},
		"more than asked":    {[]*pb.RecallResponse{{Intents: slices.Repeat([]*pb.KnownIntent{one}, maxRecalled+1)}}, "at most"},
		"junk without end":   {[]*pb.RecallResponse{page(junk...)}, "do not verify"},
		"missing in between": {[]*pb.RecallResponse{{Intents: []*pb.KnownIntent{nil, nil}}}, "out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.ask(1, c.pages...); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if r.c.underWay() == nil || len(r.c.rebuild.heard) != 0 {
				t.Error("it counts as heard")
			}
		})
	}
}

// Of two intents with one reference the one goes on that more signers went on with, in
// whatever order they are told, and the other one is not forgotten.
func TestRecallSettlesReferences(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
		r := newRebuilt(t)
		i := r.Payment(testcharter.Now)
		i.Salt[0]++
		paid, raced := r.known("INV-7", "signed"), &pb.KnownIntent{Intent: r.Sign(t, i).ToProto(), State: "noted", Seen: testcharter.Now - 9}
		if pi, err := intent.Parse(paid.Intent.Raw); err != nil || pi.Reference != i.Reference {
			t.Fatal("the references differ")
		}
		tells := [][]*pb.KnownIntent{{paid, raced}, {paid}, {raced}}
		for n, k := range order {
			if n == 2 && r.c.underWay() != nil {
				t.Error("two of three were heard and it goes on")
			}
			found, err := r.ask(k, page(tells[k]...))
			r.must(err)
			r.must(r.c.heard(r.c.signers()[k], found))
		}
		first, err := r.c.items.byReference("dave", "INV-7")
		r.must(err)
		if first == nil || first.ID != id(paid) || first.released() != 2 {
			t.Errorf("told in order %v, the reference stands for %+v", order, first)
		}
		other, err := r.c.items.get(id(raced))
		r.must(err)
		moved, err := r.c.found(t.Context(), &item{ID: other.ID, Intent: other.Intent, Stage: pb.Stage_STAGE_SIGNING, Recalled: other.Recalled}, i)
		r.must(err)
		if ended, err := r.c.items.get(id(raced)); !moved || err != nil || ended.Code != "REFERENCE_USED" {
			t.Errorf("the other one: %+v, %v", ended, err)
		}
	}
}

// A rebuilding that is broken off goes on where it was.
func TestRebuildingIsRemembered(t *testing.T) {
	r := newRebuilt(t)
	if err := r.c.underWay(); err == nil || !strings.Contains(err.Error(), "0 of 2") || !strings.Contains(err.Error(), "north, south, west") {
		t.Errorf("at first: %v", err)
	}
	found, err := r.ask(0, page(r.known("INV-1", "noted")))
	r.must(err)
	r.must(r.c.heard(r.c.signers()[0], found))
	r.c.rebuild, err = openRebuild(r.c.db)
	r.must(err)
	if err := r.c.underWay(); err == nil || !strings.Contains(err.Error(), "1 of 2") || !strings.Contains(err.Error(), "missing are south, west") {
		t.Errorf("after one: %v", err)
	}
	if r.c.rebuild.wants(r.c.signers()[0]) || !r.c.rebuild.wants(r.c.signers()[1]) {
		t.Error("the wrong signers are asked")
	}
	r.must(r.c.heard(r.c.signers()[2], 0))
	r.c.rebuild, err = openRebuild(r.c.db)
	r.must(err)
	if err := r.c.underWay(); err != nil || !r.c.rebuild.wants(r.c.signers()[1]) {
		t.Errorf("after two: %v", err)
	}
	if err := emptyStore(r.c.db.Path()); err == nil {
		t.Error("a store was replaced")
	}
}
