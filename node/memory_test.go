package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"coffer/approval"
	"coffer/canon"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/store"
)

const now = testcharter.Now

type notes struct {
	*testcharter.Fixture
	t    *testing.T
	path string
	db   *bbolt.DB
	m    *memory
}

func newNotes(t *testing.T, limits memoryLimits) *notes {
	t.Helper()
	n := &notes{Fixture: testcharter.New(t), t: t, path: filepath.Join(t.TempDir(), "signer.db")}
	db, err := store.Create(n.path)
	n.must(err)
	n.must(db.Close())
	n.open(limits, now)
	t.Cleanup(func() { _ = n.db.Close() })
	return n
}

func (n *notes) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *notes) open(limits memoryLimits, at int64) {
	n.t.Helper()
	var err error
	n.db, err = store.Open(n.path)
	n.must(err)
	n.m, err = openMemory(n.db, limits, at)
	n.must(err)
}

func (n *notes) reopen(limits memoryLimits, at int64) {
	n.t.Helper()
	n.must(n.db.Close())
	n.open(limits, at)
}

// payment is who's intent with a reference.
func (n *notes) payment(who, ref string, expires int64) intent.Signed {
	n.t.Helper()
	i := n.Payment(now)
	i.Initiator, i.Reference, i.Expires = who, ref, expires
	signed, err := intent.Sign(i, n.Key(n.t, who))
	n.must(err)
	return signed
}

func (n *notes) note(r request, asked bool) {
	n.t.Helper()
	_, err := n.m.note(n.Charter, n.Charter.Only(), r, asked, now)
	n.must(err)
}

func (n *notes) knows(s intent.Signed) bool {
	n.t.Helper()
	e, err := n.m.get(canon.Sum(s.Raw))
	n.must(err)
	return e != nil
}

func parse(t *testing.T, s intent.Signed) *intent.Intent {
	t.Helper()
	i, err := intent.Parse(s.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// What people signed is there after a restart, once each, whoever else came with it.
func TestMemoryKeepsWhatPeopleSigned(t *testing.T) {
	n := newNotes(t, usualLimits)
	signed := n.payment("dave", "INV-1", now+3600)
	i := parse(t, signed)
	alice, bob := n.State(t, "alice", approval.Approve, i, now), n.State(t, "bob", approval.Approve, i, now)
	forged := bob
	forged.Signature = alice.Signature
	other := n.State(t, "carol", approval.Approve, n.TokenPayment(now), now)
	n.note(request{intent: signed, statements: []approval.Signed{alice, forged, other, {Raw: []byte("junk")}}}, false)
	n.note(request{intent: signed, statements: []approval.Signed{bob}, unsigned: []byte("not permitted")}, false)
	n.note(request{intent: signed, unsigned: []byte("permitted")}, true)
	size := n.m.all
	n.note(request{intent: signed, statements: []approval.Signed{alice, bob}, unsigned: []byte("permitted")}, true)
	n.reopen(usualLimits, now)
	e, err := n.m.get(i.Digest())
	n.must(err)
	if e == nil || len(e.statements) != 2 || string(e.unsigned) != "permitted" || !e.asked || e.seen != now {
		t.Fatalf("remembered %+v", e)
	}
	if g := approval.Tally(approval.Under{Force: n.Charter, Made: n.Charter, Now: now}, i, i.Digest(), e.statements); len(g.Votes) != 2 || len(g.Refused) != 0 {
		t.Errorf("its statements come to %+v", g)
	}
	if n.m.all != size || n.m.used["dave"] != size {
		t.Errorf("counts %d and %d bytes, want %d", n.m.all, n.m.used["dave"], size)
	}
}

// What no enrolled initiator signed, or lives too long, takes no room.
func TestMemoryTakesNoJunk(t *testing.T) {
	n := newNotes(t, usualLimits)
	unsigned := n.payment("dave", "INV-1", now+3600)
	unsigned.Signature = n.payment("dave", "INV-2", now+3600).Signature
	stranger := n.Payment(now)
	foreign, err := intent.Sign(stranger, testcharter.SSH(t, "mallory"))
	n.must(err)
	for name, s := range map[string]intent.Signed{
		"junk": {Raw: []byte("junk"), Signature: []byte("junk")}, "another intent's signature": unsigned, "a stranger": foreign,
		"expired": n.payment("dave", "INV-3", now), "for ever": n.payment("dave", "INV-4", now-60+intent.MaxLifetime),
	} {
		if name == "for ever" { // begins later, so that it ends later than an intent of now may
			i := parse(t, s)
			i.NotBefore, i.Expires = now+3600, now+3600+intent.MaxLifetime
			s, err = intent.Sign(i, n.Key(t, "dave"))
			n.must(err)
		}
		n.note(request{intent: s}, true)
		if n.knows(s) {
			t.Errorf("%s is remembered", name)
		}
	}
	if len(n.m.known) != 0 || n.m.all != 0 {
		t.Errorf("%d intents, %d bytes", len(n.m.known), n.m.all)
	}
}

// An initiator who asks without end pushes out the own intents, those that end first,
// and nobody else's.
func TestMemoryIsBounded(t *testing.T) {
	one := func(n *notes) int {
		n.note(request{intent: n.payment("dave", "SIZE-00", now+3600)}, false)
		return n.m.all
	}
	size := one(newNotes(t, usualLimits))
	limits := memoryLimits{initiator: 5*size + size/2, all: 8*size + size/2}
	n := newNotes(t, limits)
	hers := n.payment("alice", "HERS-00", now+60)
	n.note(request{intent: hers}, false)
	var his []intent.Signed
	for k := range 20 {
		his = append(his, n.payment("dave", fmt.Sprintf("FLOOD%02d", k), now+3600+int64(k)))
		n.note(request{intent: his[k]}, false)
		if n.m.used["dave"] > limits.initiator || n.m.all > limits.all {
			t.Fatalf("after %d intents %d bytes of dave's, %d in all", k+1, n.m.used["dave"], n.m.all)
		}
	}
	if !n.knows(hers) || n.knows(his[14]) || !n.knows(his[15]) || !n.knows(his[19]) {
		t.Errorf("alice's %v, dave's 15th %v, 16th %v, last %v", n.knows(hers), n.knows(his[14]), n.knows(his[15]), n.knows(his[19]))
	}
	// Over the limit of all, it is who has most that loses.
	for k := range 4 {
		n.note(request{intent: n.payment("bob", fmt.Sprintf("BOBS-%02d", k), now+60)}, false)
	}
	if !n.knows(hers) || n.knows(his[15]) || len(n.m.known) != 8 {
		t.Errorf("%d are known, alice's %v, dave's 16th %v", len(n.m.known), n.knows(hers), n.knows(his[15]))
	}
	n.reopen(limits, now)
	if len(n.m.known) != 8 || n.m.all > limits.all {
		t.Errorf("after a restart %d are known, %d bytes", len(n.m.known), n.m.all)
	}
}

func TestMemoryForgetsWhatIsLongOver(t *testing.T) {
	n := newNotes(t, usualLimits)
	old, young := n.payment("dave", "OLD", now+60), n.payment("dave", "YOUNG", now+3600)
	n.note(request{intent: old}, false)
	n.note(request{intent: young}, false)
	n.reopen(usualLimits, now+60+memoryFor)
	if !n.knows(old) {
		t.Error("forgotten a second early")
	}
	n.reopen(usualLimits, now+60+memoryFor+1)
	if n.knows(old) || !n.knows(young) || n.m.used["dave"] != n.m.all {
		t.Errorf("old %v, young %v", n.knows(old), n.knows(young))
	}
}

// A record that says something else than its key is named as corruption at the start.
func TestMemoryIsCheckedAtStart(t *testing.T) {
	n := newNotes(t, usualLimits)
	n.note(request{intent: n.payment("dave", "INV-1", now+60)}, false)
	for id := range n.m.known {
		e, err := n.m.get(id)
		n.must(err)
		n.must(n.m.writer.Do(func(tx *bbolt.Tx) error { return n.m.table.Put(tx, make([]byte, 32), e.encode()) }))
	}
	n.must(n.db.Close())
	db, err := store.Open(n.path)
	n.must(err)
	n.db = db
	if _, err := openMemory(db, usualLimits, now); err == nil || !strings.Contains(err.Error(), "memory of intents") {
		t.Errorf("opened: %v", err)
	}
	if _, err := os.Stat(n.path); err != nil {
		t.Error(err)
	}
}
