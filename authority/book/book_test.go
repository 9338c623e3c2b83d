package book_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"coffer/approval"
	"coffer/authority"
	"coffer/authority/book"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/store"
)

const now = testcharter.Now

// shelf is a cluster's fixture and a file to keep a book in.
type shelf struct {
	*testcharter.Fixture
	t    testing.TB
	path string
	db   *bbolt.DB
	self party.ID
}

func newShelf(t testing.TB, self party.ID, edits ...func(*charter.Charter)) *shelf {
	t.Helper()
	s := &shelf{Fixture: testcharter.New(t, edits...), t: t, path: filepath.Join(t.TempDir(), "signer.db"), self: self}
	var err error
	if s.db, err = store.Create(s.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	return s
}

// open opens the book after a restart.
func (s *shelf) open(at int64) *book.Book {
	s.t.Helper()
	if err := s.db.Close(); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.db, err = store.Open(s.path); err != nil {
		s.t.Fatal(err)
	}
	b, err := book.Open(s.db, s.Charter, s.Signers[s.self], at)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shelf) add(b *book.Book, r authority.Record) {
	s.t.Helper()
	if _, err := b.Add(r, now); err != nil {
		s.t.Fatalf("%s: %v", r.Kind, err)
	}
}

func head(b *book.Book) authority.Head { return b.Head("x", 0, canon.Digest{}, now) }

func (s *shelf) next(edit func(*charter.Charter)) *charter.Charter {
	return s.Next(s.t, s.Charter, edit)
}

func desk(c *charter.Charter) { c.People[3].Groups = []string{"initiators", "desk"} }

// TestFreezeSurvivesRestarts: a freeze stays over a thousand starts, whatever the clock,
// and whatever is shown again between.
func TestFreezeSurvivesRestarts(t *testing.T) {
	s := newShelf(t, "north")
	b := s.open(now)
	z := s.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	lifted := s.FreezeRecord(t, "dave", authority.ScopeWallet, "treasury", now, 2)
	u := s.UnfreezeRecord(t, s.Charter, now, []canon.Digest{lifted.ID()}, "alice", "bob")
	for _, r := range []authority.Record{z, lifted, u} {
		s.add(b, r)
	}
	want := head(b)
	for n := range 1000 {
		at := now + int64(n)*86400
		if n%2 == 1 {
			at = 5 // the clock was set back
		}
		b = s.open(at)
		if len(b.Frozen().Cluster) != 1 || len(b.Frozen().Wallets) != 0 || !head(b).Agrees(want) {
			t.Fatalf("start %d: %+v", n, b.Frozen())
		}
		if _, err := b.Add(lifted, at); authority.CodeOf(err) != authority.CodeFreezeLifted {
			t.Fatalf("start %d: %v", n, err)
		}
	}
}

// TestOnDiskWhenTaken: what Add took is in a copy of the file made the moment after, with
// the receipt of this signer.
func TestOnDiskWhenTaken(t *testing.T) {
	s := newShelf(t, "north", func(c *charter.Charter) { c.Admin.Delay = "1h" })
	b := s.open(now)
	z, _, err := b.Freeze(authority.ScopeCluster, "", "the disk makes noises", now)
	if err != nil {
		t.Fatal(err)
	}
	s.add(b, s.CharterRecord(t, s.next(desk), now, nil, "alice", "bob"))
	s.add(b, s.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "alice"))
	from, err := os.Open(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), "copy.db")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	again, err := book.Open(db, s.Charter, s.Signers["north"], now)
	if err != nil {
		t.Fatal(err)
	}
	if head(again) != head(b) || !again.Receipts(z.ID()).Has("north") || len(again.Orders(canon.Digest{1})) != 1 || !again.Pending()[0].Complete {
		t.Errorf("the copy holds %+v, %+v", again.Freezes(), again.Pending())
	}
}

// TestDelaySurvivesRestarts: at most ten seconds of a delay are waited twice, and none of
// it is skipped.
func TestDelaySurvivesRestarts(t *testing.T) {
	s := newShelf(t, "north", func(c *charter.Charter) { c.Admin.Delay = "1m" })
	b := s.open(now)
	s.add(b, s.CharterRecord(t, s.next(desk), now, nil, "alice", "bob"))
	step := func(d time.Duration) {
		t.Helper()
		if _, err := b.Advance(d, now); err != nil {
			t.Fatal(err)
		}
	}
	step(time.Hour) // of before it came
	for range 35 {
		step(time.Second)
	}
	b = s.open(now + 1_000_000)
	if due := b.Pending()[0].Due; due < 25*time.Second || due > 35*time.Second {
		t.Fatalf("%s are left", due)
	}
	for range 34 {
		step(time.Second)
	}
	if b.InForce().Version != 2 && b.Pending()[0].Due > time.Second {
		t.Fatalf("version %d, %+v", b.InForce().Version, b.Pending())
	}
	step(time.Second)
	if b = s.open(now); b.InForce().Version != 2 || len(b.History()) != 2 || !b.Receipts(b.InForce().Digest()).Has("north") {
		t.Errorf("version %d", b.InForce().Version)
	}
}

// TestRotatedIdentity: what is in force gets a receipt of the new identity.
func TestRotatedIdentity(t *testing.T) {
	s := newShelf(t, "north")
	b := s.open(now)
	z, _, err := b.Freeze(authority.ScopeCluster, "", "first", now)
	if err != nil {
		t.Fatal(err)
	}
	fresh := testcharter.Identity(t, "north's second")
	c := s.next(func(c *charter.Charter) { c.Signers[0].Peer = fresh.ID() })
	s.add(b, s.CharterRecord(t, c, now, []string{testcharter.SignerCard(t, fresh, "north", "exchange")}, "alice", "bob"))
	if !b.Receipts(c.Digest()).Has("north") {
		t.Error("the old identity is no witness of the version that ends it")
	}
	if len(b.Receipts(z.ID())) != 0 {
		t.Error("the receipt of the old identity counts on")
	}
	if _, err := b.Use(fresh, now); err != nil {
		t.Fatal(err)
	}
	if !b.Receipts(z.ID()).Has("north") || len(b.Freezes()) != 1 {
		t.Error("the new identity has not receipted")
	}
	s.Signers["north"] = fresh
	if b = s.open(now); len(b.Freezes()) != 1 || b.InForce().Version != 2 {
		t.Error("it does not come back")
	}
	if _, _, err := b.Freeze(authority.ScopeWallet, "treasury", "second", now); err != nil {
		t.Error(err)
	}
}

// TestAlteredStore: a record that is not what was written is found when the book opens,
// also when the checksums were made to fit.
func TestAlteredStore(t *testing.T) {
	alter := map[string]func(k *authority.Kept){
		"a statement is missing": func(k *authority.Kept) { k.Record.Statements = k.Record.Statements[:1] },
		"a forged receipt":       func(k *authority.Kept) { k.Record.Receipts[0].Time++ },
		"another record":         func(k *authority.Kept) { k.Record.Raw = append(k.Record.Raw, 0) },
	}
	for name, f := range alter {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, "north")
			b := s.open(now)
			r := s.CharterRecord(t, s.next(desk), now, nil, "alice", "bob")
			s.add(b, r)
			table, err := store.OpenTable(s.db, "authority")
			if err != nil {
				t.Fatal(err)
			}
			id := r.ID()
			key := append([]byte("record/"), id[:]...)
			err = store.NewWriter(s.db).Do(func(tx *bbolt.Tx) error {
				raw, _, err := table.Get(tx, key)
				if err != nil {
					return err
				}
				k, err := authority.ParseKept(raw)
				if err != nil {
					return err
				}
				f(&k)
				return table.Put(tx, key, k.Encode())
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := book.Open(s.db, s.Charter, s.Signers["north"], now); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("it opens: %v", err)
			}
		})
	}
	s := newShelf(t, "north")
	s.open(now)
	other := testcharter.New(t, func(c *charter.Charter) { c.Name = "other" })
	if _, err := book.Open(s.db, other.Charter, nil, now); err == nil {
		t.Error("it opens under another charter")
	}
}

// TestFailedDisk: a freeze that could not be written is not acknowledged, stops this
// process all the same, and nothing more is taken.
func TestFailedDisk(t *testing.T) {
	s := newShelf(t, "north")
	b := s.open(now)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	freeze := s.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	events, err := b.Add(freeze, now)
	if err == nil || authority.CodeOf(err) != "" || len(events) != 0 {
		t.Fatalf("%v, %v", events, err)
	}
	if !b.Frozen().Any() || b.Failed() == nil {
		t.Error("it goes on as if nobody had frozen")
	}
	_, known := b.Record(freeze.ID())
	if missing, _ := b.Missing(nil, 1<<20); known || len(missing)+len(b.Records())+len(b.Receipts(freeze.ID())) > 0 {
		t.Error("it shows others a receipt of what is not on disk")
	}
	if _, err := b.Add(s.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 2), now); err == nil {
		t.Error("a book that failed takes more")
	}
	if _, err := b.Advance(time.Minute, now); err == nil {
		t.Error("a book that failed goes on waiting")
	}
}

func TestObserverFreezesNothing(t *testing.T) {
	s := newShelf(t, "")
	b := s.open(now)
	if _, _, err := b.Freeze(authority.ScopeCluster, "", "x", now); err == nil {
		t.Error("it does")
	}
	s.add(b, s.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1))
	if h := b.Freezes(); len(h) != 1 || len(h[0].Receipts) != 0 {
		t.Errorf("%+v", h)
	}
}
