package book

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/party"
	"coffer/store"
)

const (
	tableName = "authority"
	rootKey   = "root"
	itemKey   = "record/"

	// saveEvery is how much of a delay may be lost by a crash; it is waited again.
	saveEvery = 10 * time.Second
)

// Book is a ledger on disk. It may be used by several goroutines.
type Book struct {
	db     *bbolt.DB
	table  *store.Table
	writer *store.Writer

	mu     sync.Mutex // guards what follows; held while writing, so that memory and disk agree
	ledger *authority.Ledger
	self   *identity.Key
	late   time.Duration // of uptime that is not on disk yet
	anew   bool          // a version of the charter changed since uptime was last told
	failed error         // sticky: memory may be ahead of the disk
}

// Open reads the table, and makes it if it was never made; it verifies every signature
// again. root is version 1 of the charter, verified and pinned. self is the signer's
// identity; a book without one is an observer's and signs no receipts.
func Open(db *bbolt.DB, root *charter.Charter, self *identity.Key, now int64) (*Book, error) {
	fail := func(err error) (*Book, error) { return nil, fmt.Errorf("open authority records: %w", err) }
	table, err := store.OpenTable(db, tableName)
	if err != nil {
		return fail(err)
	}
	b := &Book{db: db, table: table, writer: store.NewWriter(db), self: self}
	if b.ledger, err = authority.NewLedger(root, self); err != nil {
		return fail(err)
	}
	digest := root.Digest()
	var kept []authority.Kept
	var known []byte
	err = store.View(db, func(tx *bbolt.Tx) error {
		kept = nil
		if known, _, err = table.Get(tx, []byte(rootKey)); err != nil {
			return err
		}
		return table.ForEach(tx, []byte(itemKey), func(key, value []byte) error {
			k, err := authority.ParseKept(value)
			id := k.Record.ID()
			if err == nil && !bytes.Equal(key, keyOf(id)) {
				err = fmt.Errorf("record %s stands under another key", id.Short())
			}
			if err != nil {
				return fmt.Errorf("%w: store %w", err, store.ErrCorrupt)
			}
			kept = append(kept, k)
			return nil
		})
	})
	if err != nil {
		return fail(err)
	}
	switch {
	case known == nil && len(kept) > 0:
		return fail(fmt.Errorf("there are records and no charter that they are about: store %w", store.ErrCorrupt))
	case known != nil && !bytes.Equal(known, digest[:]):
		return fail(errors.New("they belong to another charter: is this another signer's store?"))
	}
	if err := b.ledger.Restore(kept, now); err != nil {
		return fail(fmt.Errorf("%w: store %w", err, store.ErrCorrupt))
	}
	err = b.writer.Do(func(tx *bbolt.Tx) error {
		if known != nil {
			return nil
		}
		return table.Put(tx, []byte(rootKey), digest[:])
	})
	if err != nil {
		return fail(err)
	}
	return b, b.save()
}

func keyOf(id canon.Digest) []byte { return append([]byte(itemKey), id[:]...) }

// save writes what changed in the ledger. After a failure the book takes nothing more:
// what memory holds might not survive.
func (b *Book) save() error {
	if b.failed != nil {
		return b.failed
	}
	put, gone := b.ledger.Changes()
	if len(put)+len(gone) == 0 {
		return nil
	}
	err := b.writer.Do(func(tx *bbolt.Tx) error {
		for _, k := range put {
			raw := k.Encode()
			// What could not be read again would keep the next start from its store.
			if _, err := authority.ParseKept(raw); err != nil {
				return err
			}
			if err := b.table.Put(tx, keyOf(k.Record.ID()), raw); err != nil {
				return err
			}
		}
		for _, id := range gone {
			if err := b.table.Delete(tx, keyOf(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.failed = fmt.Errorf("keep authority records: %w", err)
		return b.failed
	}
	b.late = 0
	return nil
}

// Add is Ledger.Add; what it took is on disk when it returns. An error that is no
// authority.Refusal is of the disk, and the book takes nothing more.
func (b *Book) Add(r authority.Record, now int64) ([]authority.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return nil, b.failed
	}
	events, err := b.ledger.Add(r, now)
	b.anew = b.anew || slices.ContainsFunc(events, func(e authority.Event) bool { return e.Of == authority.KindCharter })
	if failed := b.save(); failed != nil {
		return nil, failed
	}
	return events, err
}

// Freeze makes this signer's own order, on disk when it returns.
func (b *Book) Freeze(scope, name, reason string, now int64) (authority.Record, []authority.Event, error) {
	if b.self == nil {
		return authority.Record{}, nil, errors.New("an observer freezes nothing")
	}
	c := b.InForce()
	me, ok := c.SignerByPeer(b.self.ID())
	if !ok {
		return authority.Record{}, nil, fmt.Errorf("the charter in force does not list %s", b.self.ID())
	}
	f := authority.Freeze{Cluster: c.Cluster, Scope: scope, Name: name, Reason: reason, By: string(me.Name), Time: now}
	if _, err := rand.Read(f.Nonce[:]); err != nil {
		return authority.Record{}, nil, err
	}
	r := f.SignedBy(b.self)
	events, err := b.Add(r, now)
	if err != nil {
		return authority.Record{}, nil, err
	}
	r, _ = b.Record(r.ID())
	return r, events, nil
}

// Advance is Ledger.Advance. What has been waited goes to disk now and then; a crash
// loses at most ten seconds of it, which are waited again. What passed before a version
// came, or a rival of it went, was not waited for it: a process that was stopped for a
// day may hear of the version first, and of the day after.
func (b *Book) Advance(elapsed time.Duration, now int64) ([]authority.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return nil, b.failed
	}
	if b.anew {
		b.anew, elapsed = false, 0
	}
	events := b.ledger.Advance(elapsed, now)
	if b.late += elapsed; len(events) == 0 && b.late < saveEvery {
		return nil, nil
	}
	b.late = 0
	return events, b.save()
}

// Use is Ledger.Use.
func (b *Book) Use(self *identity.Key, now int64) ([]authority.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return nil, b.failed
	}
	b.self = self
	return b.ledger.Use(self, now), b.save()
}

// Failed is the failed write after which the book takes nothing more, if there was one.
func (b *Book) Failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// InForce is Ledger.InForce.
func (b *Book) InForce() *charter.Charter { return get(b, (*authority.Ledger).InForce) }

// History is Ledger.History.
func (b *Book) History() []*charter.Charter { return get(b, (*authority.Ledger).History) }

// Pending is Ledger.Pending.
func (b *Book) Pending() []authority.Pending { return get(b, (*authority.Ledger).Pending) }

// Freezes is Ledger.Freezes.
func (b *Book) Freezes() []authority.Held { return get(b, (*authority.Ledger).Freezes) }

// Frozen is Ledger.Frozen.
func (b *Book) Frozen() authority.Frozen { return get(b, (*authority.Ledger).Frozen) }

// Lists is Ledger.Lists.
func (b *Book) Lists() map[string]authority.ListState { return get(b, (*authority.Ledger).Lists) }

// Refs is Ledger.Refs.
func (b *Book) Refs() []authority.Ref { return get(b, (*authority.Ledger).Refs) }

// Records is Ledger.Records. After a failed write nothing is shown: this signer's receipts
// among it might be of what is not on its disk.
func (b *Book) Records() []authority.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return nil
	}
	return b.ledger.Records()
}

func get[T any](b *Book, f func(*authority.Ledger) T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f(b.ledger)
}

// Charter is Ledger.Charter.
func (b *Book) Charter(d canon.Digest) (*charter.Charter, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ledger.Charter(d)
}

// Orders is Ledger.Orders.
func (b *Book) Orders(intent canon.Digest) []approval.Signed {
	return get(b, func(l *authority.Ledger) []approval.Signed { return l.Orders(intent) })
}

// Lifted is Ledger.Lifted.
func (b *Book) Lifted(freeze canon.Digest) bool {
	return get(b, func(l *authority.Ledger) bool { return l.Lifted(freeze) })
}

// Record is Ledger.Record, as Records is Ledger.Records.
func (b *Book) Record(id canon.Digest) (authority.Record, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return authority.Record{}, false
	}
	return b.ledger.Record(id)
}

// Missing is Ledger.Missing, as Records is Ledger.Records.
func (b *Book) Missing(have []authority.Ref, limit int) (records []authority.Record, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return nil, false
	}
	return b.ledger.Missing(have, limit)
}

// Head is Ledger.Head.
func (b *Book) Head(signer party.ID, auditSize uint64, auditRoot canon.Digest, now int64) authority.Head {
	return get(b, func(l *authority.Ledger) authority.Head { return l.Head(signer, auditSize, auditRoot, now) })
}

// File is Ledger.File.
func (b *Book) File(root *charter.File) *charter.File {
	return get(b, func(l *authority.Ledger) *charter.File { return l.File(root) })
}

// Receipts are the names of the signers that have receipted a record.
func (b *Book) Receipts(id canon.Digest) party.Set {
	r, _ := b.Record(id)
	var out party.Set
	for _, x := range r.Receipts {
		out = append(out, x.Signer)
	}
	slices.Sort(out)
	return out
}
