package addressbook

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

const (
	tableName    = "addresses"
	recordDomain = "coffer/stored-address/v1"

	// MaxRaw and MaxRecords bound what is taken at once; a charter has at most 20 signers.
	MaxRaw     = 4 << 10
	MaxRecords = 64

	// maxSequence leaves room to count on for whoever is told a sequence of its own that
	// it does not remember.
	maxSequence = 1 << 62

	burst    = 20
	oneEvery = time.Minute
)

var (
	// ErrForeign: the record is of no signer of the charter.
	ErrForeign = errors.New("address record is of no signer of this charter")
	// ErrStale: a record of the same or a higher sequence is known.
	ErrStale = errors.New("address record is not newer than the known one")
	// ErrOften: the signer has moved so often that its records are taken slowly.
	ErrOften = errors.New("the signer moves too often: try again in a minute")
)

// Record is a signer's record with its signature.
type Record struct {
	Signer    party.ID
	Address   charter.AddressRecord
	Raw       []byte
	Signature []byte
	Moved     bool // what Take gives back: it names other places than those known before
}

// ToProto is the record as it travels.
func (r Record) ToProto() *pb.SignedRecord {
	return &pb.SignedRecord{Raw: r.Raw, Signatures: []*pb.NamedSignature{{Name: string(r.Signer), Signature: r.Signature}}}
}

// FromProto takes a record off the wire; nothing is verified yet.
func FromProto(r *pb.SignedRecord) (raw, signature []byte, err error) {
	if len(r.GetSignatures()) != 1 || len(r.GetRaw()) > MaxRaw {
		return nil, nil, fmt.Errorf("address record: want one signature and at most %d bytes", MaxRaw)
	}
	return r.Raw, r.Signatures[0].GetSignature(), nil
}

// Own is the signer whose book it is.
type Own struct {
	Key *identity.Key
	At  charter.Places // where it is to be reached now
}

// Book is a store of records. It may be used by several goroutines.
type Book struct {
	charter *charter.Charter
	own     *Own // nil at a coordinator
	self    party.ID
	table   *store.Table
	writer  *store.Writer

	mu     sync.Mutex // guards what follows; held while writing, so that memory and disk agree
	cards  map[party.ID]charter.AddressRecord
	newest map[party.ID]Record
	spent  map[party.ID]allowance
}

type allowance struct {
	left float64
	at   time.Time
}

// Open reads and verifies the table, and makes it if it was never made. With own, the
// book begins with a record of where that signer is now: the known one if it says so,
// else the next in sequence.
//
// cards are those of the charter's file and of the versions that followed; who is not in
// the charter that is in force does not count.
func Open(db *bbolt.DB, c *charter.Charter, cards []string, own *Own) (*Book, error) {
	table, err := store.OpenTable(db, tableName)
	if err != nil {
		return nil, fmt.Errorf("open address book: %w", err)
	}
	b := &Book{
		own: own, table: table, writer: store.NewWriter(db),
		cards: map[party.ID]charter.AddressRecord{}, newest: map[party.ID]Record{}, spent: map[party.ID]allowance{},
	}
	if err := b.list(c, cards); err != nil {
		return nil, err
	}
	err = store.View(db, func(tx *bbolt.Tx) error {
		return table.ForEach(tx, nil, func(key, value []byte) error {
			d := canon.NewDecoder(recordDomain, value)
			raw, signature := d.Bytes(MaxRaw), d.Bytes(64)
			if err := d.Finish(); err != nil {
				return fmt.Errorf("address of %q: %w: store %w", key, err, store.ErrCorrupt)
			}
			r, err := b.parse(raw, signature)
			if errors.Is(err, ErrForeign) {
				return nil // of a signer that is none any more
			}
			if err != nil {
				return fmt.Errorf("address of %q: %w: store %w", key, err, store.ErrCorrupt)
			}
			b.newest[r.Signer] = r
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open address book: %w", err)
	}
	if own == nil {
		return b, nil
	}
	return b, b.announceOwn()
}

// Use has the book follow another version of the charter: cards are those of the keys
// that it adds. own, if set, is the signer's new identity. Records of identities that the
// version does not list count no more.
func (b *Book) Use(c *charter.Charter, cards []string, own *Own) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.list(c, cards); err != nil {
		return err
	}
	for id, r := range b.newest {
		if s, ok := c.Signer(id); !ok || s.Peer != r.Address.Peer {
			delete(b.newest, id)
		}
	}
	if own == nil {
		return nil
	}
	b.own = own
	return b.announceOwn()
}

// list sets the charter and each signer's card: one of cards, or the one that is known.
func (b *Book) list(c *charter.Charter, cards []string) error {
	next := map[party.ID]charter.AddressRecord{}
	for _, line := range cards {
		card, err := charter.ParseCard(line)
		if err != nil || card.Kind != charter.CardSigner {
			continue // people's, or of another program's version: whose card is missing is said below
		}
		s, ok := c.SignerByPeer(card.Address.Peer)
		if ok && string(s.Name) == card.Name && card.Address.Sequence > next[s.Name].Sequence {
			next[s.Name] = card.Address
		}
	}
	for _, s := range c.Signers {
		if known := b.cards[s.Name]; known.Peer == s.Peer && known.Sequence > next[s.Name].Sequence {
			next[s.Name] = known
		}
		if _, ok := next[s.Name]; !ok {
			return fmt.Errorf("there is no address of signer %q: its card is missing", s.Name)
		}
	}
	b.charter, b.cards = c, next
	return nil
}

// announceOwn makes a record of where the own signer is, if none says so yet.
func (b *Book) announceOwn() error {
	me, ok := b.charter.SignerByPeer(b.own.Key.ID())
	if !ok {
		return fmt.Errorf("address book: identity %s: %w", b.own.Key.ID(), ErrForeign)
	}
	b.self = me.Name
	mine, alone := b.newest[b.self]
	known, _ := b.address(b.self)
	switch {
	case !known.Places().Equal(b.own.At):
		return b.announce(known.Sequence + 1)
	case !alone || mine.Address.Sequence < known.Sequence:
		return b.announce(known.Sequence) // what the card says, to be handed on alone
	}
	return nil
}

// parse verifies a record under the charter.
func (b *Book) parse(raw, signature []byte) (Record, error) {
	if len(raw) > MaxRaw {
		return Record{}, fmt.Errorf("address record of %d bytes, at most %d", len(raw), MaxRaw)
	}
	a, err := charter.ParseAddressRecord(raw, signature)
	if err != nil {
		return Record{}, err
	}
	s, ok := b.charter.SignerByPeer(a.Peer)
	switch {
	case !ok:
		return Record{}, fmt.Errorf("%w: identity %s", ErrForeign, a.Peer)
	case len(a.P2P) == 0:
		return Record{}, fmt.Errorf("address record of %q names no place for the other signers", s.Name)
	case a.Sequence > maxSequence:
		return Record{}, fmt.Errorf("address record of %q has sequence %d, at most %d", s.Name, a.Sequence, uint64(maxSequence))
	}
	return Record{Signer: s.Name, Address: a, Raw: bytes.Clone(raw), Signature: bytes.Clone(signature)}, nil
}

// address is the newest of record and card.
func (b *Book) address(id party.ID) (charter.AddressRecord, bool) {
	card, ok := b.cards[id]
	if r, there := b.newest[id]; there && r.Address.Sequence >= card.Sequence {
		return r.Address, true
	}
	return card, ok
}

// Newest is where a signer is reached.
func (b *Book) Newest(id party.ID) (charter.AddressRecord, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.address(id)
}

// Records are those that stand alone, by signer.
func (b *Book) Records() []Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Record, 0, len(b.newest))
	for _, r := range b.newest {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y Record) int { return strings.Compare(string(x.Signer), string(y.Signer)) })
	return out
}

// Take verifies a record and keeps it if it is newer than the known one; changed says
// so. One that is known already is no error. A newer record of the own signer is one
// that it does not remember, of before a restore: it is answered with a still newer one,
// and that is what comes back.
func (b *Book) Take(raw, signature []byte, now time.Time) (r Record, changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, known := range b.newest {
		if bytes.Equal(known.Raw, raw) {
			return known, false, nil // the common case, without a signature to verify
		}
	}
	if r, err = b.parse(raw, signature); err != nil {
		return Record{}, false, err
	}
	known, _ := b.address(r.Signer)
	if mine := r.Signer == b.self; r.Address.Sequence < known.Sequence || !mine && r.Address.Sequence == known.Sequence && !bytes.Equal(raw, known.Encode()) {
		return r, false, fmt.Errorf("%w: that of %q has sequence %d, known is %d", ErrStale, r.Signer, r.Address.Sequence, known.Sequence)
	}
	if !b.spend(r.Signer, now) {
		return r, false, fmt.Errorf("%w: %q", ErrOften, r.Signer)
	}
	r.Moved = !r.Address.Places().Equal(known.Places())
	if r.Signer == b.self {
		if err := b.announce(r.Address.Sequence + 1); err != nil {
			return r, false, err
		}
		mine := b.newest[b.self]
		mine.Moved = true // worth a word: this signer was restored, or somebody has its key
		return mine, true, nil
	}
	if err := b.keep(r); err != nil {
		return r, false, err
	}
	return r, true, nil
}

func (b *Book) spend(id party.ID, now time.Time) bool {
	a, ok := b.spent[id]
	if !ok {
		a = allowance{left: burst, at: now}
	}
	if passed := now.Sub(a.at); passed > 0 {
		a.left, a.at = min(burst, a.left+float64(passed)/float64(oneEvery)), now
	}
	if a.left < 1 {
		b.spent[id] = a
		return false
	}
	a.left--
	b.spent[id] = a
	return true
}

func (b *Book) announce(sequence uint64) error {
	if sequence > maxSequence {
		return fmt.Errorf("address record: sequence %d is over %d: somebody else uses this signer's identity", sequence, uint64(maxSequence))
	}
	raw, signature, err := charter.NewAddressRecord(b.own.Key, sequence, b.own.At)
	if err != nil {
		return err
	}
	r, err := b.parse(raw, signature)
	if err != nil {
		return err
	}
	return b.keep(r)
}

func (b *Book) keep(r Record) error {
	value := canon.New(recordDomain).Bytes(r.Raw).Bytes(r.Signature).Encoded()
	if err := b.writer.Do(func(tx *bbolt.Tx) error { return b.table.Put(tx, []byte(r.Signer), value) }); err != nil {
		return fmt.Errorf("keep address of %q: %w", r.Signer, err)
	}
	b.newest[r.Signer] = r
	return nil
}
