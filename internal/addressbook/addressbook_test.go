package addressbook_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"coffer/charter"
	"coffer/identity"
	"coffer/internal/addressbook"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/store"
)

var now = time.Unix(testcharter.Now, 0)

// shelf is a charter and a file to keep a book in.
type shelf struct {
	*testcharter.Fixture
	t    testing.TB
	path string
	db   *bbolt.DB
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	s := &shelf{Fixture: testcharter.New(t), t: t, path: filepath.Join(t.TempDir(), "signer.db")}
	var err error
	if s.db, err = store.Create(s.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	return s
}

// open opens the book of a signer, or a coordinator's for an empty name, after a restart.
func (s *shelf) open(self party.ID, at charter.Places) *addressbook.Book {
	s.t.Helper()
	if err := s.db.Close(); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.db, err = store.Open(s.path); err != nil {
		s.t.Fatal(err)
	}
	var own *addressbook.Own
	if self != "" {
		own = &addressbook.Own{Key: s.Signers[self], At: at}
	}
	b, err := addressbook.Open(s.db, s.Charter, s.File.Cards, own)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func at(port int) charter.Places {
	return charter.Places{P2P: []string{fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", port)}, GRPC: fmt.Sprintf("192.0.2.1:%d", port)}
}

// record is one of a key at a port; the sequence and port tell records apart.
func record(t testing.TB, key *identity.Key, sequence uint64, port int) (raw, signature []byte) {
	t.Helper()
	raw, signature, err := charter.NewAddressRecord(key, sequence, at(port))
	if err != nil {
		t.Fatal(err)
	}
	return raw, signature
}

func (s *shelf) take(b *addressbook.Book, key *identity.Key, sequence uint64, port int) (bool, error) {
	s.t.Helper()
	raw, signature := record(s.t, key, sequence, port)
	_, changed, err := b.Take(raw, signature, now)
	return changed, err
}

func (s *shelf) want(b *addressbook.Book, id party.ID, sequence uint64, port int) {
	s.t.Helper()
	a, ok := b.Newest(id)
	if !ok || a.Sequence != sequence || port != 0 && !a.Places().Equal(at(port)) {
		s.t.Errorf("%s is %+v, want sequence %d at port %d", id, a, sequence, port)
	}
}

func TestHighestSequenceCounts(t *testing.T) {
	s := newShelf(t)
	b := s.open("", charter.Places{})
	south := s.Signers["south"]
	s.want(b, "south", 1, 0) // of its card
	if len(b.Records()) != 0 {
		t.Error("a card passes for a record that stands alone")
	}
	for _, c := range []struct {
		sequence uint64
		port     int
		changed  bool
		err      error
	}{
		{2, 2, true, nil},
		{2, 2, false, nil},
		{2, 3, false, addressbook.ErrStale}, // whoever came first stays: all must not swing to and fro
		{1, 1, false, addressbook.ErrStale},
		{9, 9, true, nil},
		{8, 8, false, addressbook.ErrStale},
		{9, 9, false, nil},
	} {
		if changed, err := s.take(b, south, c.sequence, c.port); changed != c.changed || !errors.Is(err, c.err) {
			t.Errorf("sequence %d, port %d: changed %t, %v", c.sequence, c.port, changed, err)
		}
	}
	s.want(b, "south", 9, 9)
	s.want(b, "north", 1, 0)
	b = s.open("", charter.Places{})
	s.want(b, "south", 9, 9)
	if r := b.Records(); len(r) != 1 || r[0].Signer != "south" {
		t.Errorf("records after a restart: %v", r)
	}
}

// The record that says what the card says is handed on, and is no move.
func TestMoved(t *testing.T) {
	s := newShelf(t)
	b := s.open("", charter.Places{})
	card, _ := s.File.Address("south")
	raw, signature, err := charter.NewAddressRecord(s.Signers["south"], 1, card.Places())
	if err != nil {
		t.Fatal(err)
	}
	if r, changed, err := b.Take(raw, signature, now); err != nil || !changed || r.Moved {
		t.Errorf("%+v, %t, %v", r, changed, err)
	}
	raw, signature = record(t, s.Signers["south"], 2, 2)
	if r, changed, err := b.Take(raw, signature, now); err != nil || !changed || !r.Moved {
		t.Errorf("%+v, %t, %v", r, changed, err)
	}
}

func TestRefusals(t *testing.T) {
	s := newShelf(t)
	b := s.open("north", at(1))
	good, signature := record(t, s.Signers["south"], 5, 5)
	_, other := record(t, s.Signers["west"], 5, 5)
	refuse := func(name string, want error, raw, signature []byte) {
		t.Helper()
		_, changed, err := b.Take(raw, signature, now)
		if err == nil || changed || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: changed %t, %v", name, changed, err)
		}
	}
	refuse("of another's signature", charter.ErrSignature, good, other)
	refuse("unsigned", charter.ErrSignature, good, nil)
	for i := range good {
		bent := append([]byte(nil), good...)
		bent[i] ^= 1
		refuse(fmt.Sprintf("byte %d changed", i), nil, bent, signature)
	}
	raw, sig := record(t, testcharter.Identity(t, "mallory"), 5, 5)
	refuse("of a stranger", addressbook.ErrForeign, raw, sig)
	raw, sig = record(t, s.Coordinator, 5, 5)
	refuse("of the coordinator", addressbook.ErrForeign, raw, sig)
	raw, sig = record(t, s.Signers["south"], 1<<63, 5)
	refuse("that ends all counting", nil, raw, sig)
	nowhere := charter.AddressRecord{Peer: s.Signers["south"].ID(), Sequence: 5, GRPC: "192.0.2.1:1"}
	refuse("without a place for peers", nil, nowhere.Encode(), s.Signers["south"].Sign(nowhere.Encode()))
	s.want(b, "south", 1, 0)
	if changed, err := s.take(b, s.Signers["south"], 5, 5); !changed || err != nil {
		t.Errorf("the honest one: %t, %v", changed, err)
	}
}

func TestOwnRecord(t *testing.T) {
	s := newShelf(t)
	card, _ := s.File.Address("north")
	b := s.open("north", card.Places())
	s.want(b, "north", 1, 0)
	if r := b.Records(); len(r) != 1 || r[0].Signer != "north" {
		t.Fatalf("the own record does not stand alone: %v", r)
	}
	b = s.open("north", at(7)) // it moved
	s.want(b, "north", 2, 7)
	b = s.open("north", at(7)) // and stays
	s.want(b, "north", 2, 7)
	// A restore brought an old store back: others know a newer record of this signer.
	// Theirs is outdone, once.
	for _, sequence := range []uint64{2, 40} {
		raw, signature := record(t, s.Signers["north"], sequence, 99)
		r, changed, err := b.Take(raw, signature, now)
		if err != nil || !changed || r.Address.Sequence != sequence+1 || !r.Address.Places().Equal(at(7)) {
			t.Errorf("a forgotten sequence %d: %+v, %t, %v", sequence, r.Address, changed, err)
		}
		if _, changed, err := b.Take(raw, signature, now); changed || !errors.Is(err, addressbook.ErrStale) {
			t.Errorf("again: %t, %v", changed, err)
		}
	}
	b = s.open("north", at(7))
	s.want(b, "north", 41, 7)
	b = s.open("north", card.Places()) // back home
	s.want(b, "north", 42, 0)
	raw, signature := record(t, s.Signers["north"], 1<<62, 1)
	if _, _, err := b.Take(raw, signature, now); err == nil {
		t.Error("counted beyond the last sequence")
	}
}

// Records cost a sync each; a signer that makes them without end waits.
func TestMovesAreLimited(t *testing.T) {
	s := newShelf(t)
	b := s.open("", charter.Places{})
	taken := 0
	for n := uint64(2); n < 200; n++ {
		switch _, err := s.take(b, s.Signers["south"], n, 5); {
		case err == nil:
			taken++
		case !errors.Is(err, addressbook.ErrOften):
			t.Fatal(err)
		}
	}
	if taken > 20 {
		t.Errorf("%d moves at once", taken)
	}
	if changed, err := s.take(b, s.Signers["west"], 2, 5); !changed || err != nil {
		t.Errorf("another signer is held up: %v", err)
	}
	raw, signature := record(t, s.Signers["south"], 500, 5)
	if _, changed, err := b.Take(raw, signature, now.Add(time.Minute)); !changed || err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	s := newShelf(t)
	b := s.open("", charter.Places{})
	if _, err := s.take(b, s.Signers["south"], 2, 2); err != nil {
		t.Fatal(err)
	}
	table, err := store.OpenTable(s.db, "addresses")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.NewWriter(s.db).Do(func(tx *bbolt.Tx) error { return table.Put(tx, []byte("south"), []byte("junk")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := addressbook.Open(s.db, s.Charter, s.File.Cards, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a damaged record: %v", err)
	}
}

// A later version of the charter brings signers with their cards, and other identities of
// old ones. Records of who is no longer listed count neither now nor after a restart.
func TestFollowsTheCharter(t *testing.T) {
	s := newShelf(t)
	b := s.open("", charter.Places{})
	for port, id := range []party.ID{"north", "south", "west"} {
		if changed, err := s.take(b, s.Signers[id], 5, 7100+port); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	next := &charter.Charter{Cluster: s.Charter.Cluster, Version: 2, Quorum: s.Charter.Quorum}
	south, east := testcharter.Identity(t, "south's second"), testcharter.Identity(t, "east")
	next.Signers = []charter.Signer{
		{Name: "east", Org: "auditor", Peer: east.ID()}, {Name: "north", Org: "exchange", Peer: s.Signers["north"].ID()}, {Name: "south", Org: "custodian", Peer: south.ID()},
	}
	card := func(key *identity.Key, name party.ID, port int) string {
		t.Helper()
		line, err := charter.NewSignerCard(key, name, "custodian", at(port))
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	cards := []string{card(south, "south", 7201)}
	if err := b.Use(next, cards, nil); err == nil {
		t.Fatal("a signer without a card")
	}
	s.want(b, "west", 5, 7102) // nothing has changed
	cards = append(cards, card(east, "east", 7202))
	if err := b.Use(next, cards, nil); err != nil {
		t.Fatal(err)
	}
	s.Charter, s.File.Cards = next, append(s.File.Cards, cards...)
	for _, when := range []string{"at once", "after a restart"} {
		t.Run(when, func(t *testing.T) {
			s.want(b, "north", 5, 7100)
			s.want(b, "south", 1, 7201)
			s.want(b, "east", 1, 7202)
			if _, ok := b.Newest("west"); ok {
				t.Error("a signer that was removed is known")
			}
			for _, old := range []party.ID{"south", "west"} {
				if _, err := s.take(b, s.Signers[old], 9, 7300); !errors.Is(err, addressbook.ErrForeign) {
					t.Errorf("a record of %s's old identity: %v", old, err)
				}
			}
		})
		b = s.open("", charter.Places{})
	}
	// A signer that changes its own identity announces where the new one is.
	own := s.open("north", at(7100))
	north := testcharter.Identity(t, "north's second")
	after := &charter.Charter{Cluster: next.Cluster, Version: 3, Quorum: next.Quorum, Signers: append([]charter.Signer(nil), next.Signers...)}
	after.Signers[1].Peer = north.ID()
	if err := own.Use(after, []string{card(north, "north", 7100)}, &addressbook.Own{Key: north, At: at(7101)}); err != nil {
		t.Fatal(err)
	}
	s.want(own, "north", 2, 7101)
}
