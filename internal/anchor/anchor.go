package anchor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"coffer/audit"
	"coffer/identity"
	"coffer/store"
)

// ErrOlder says that a store has not seen what the audit log beside it has.
var ErrOlder = errors.New("is an older copy: it has forgotten what was done since; keep it for inquiry and put the newest one back")

const (
	tableName = "anchor"
	detail    = "store" // of every audit entry: the store's generation
)

var sizeKey = []byte("audit")

// Log is an audit log that is tied to a store.
type Log struct {
	*audit.Log
	db *bbolt.DB
}

// Open opens the audit log in dir and ties it to db. renewed says that db was made anew
// on purpose, so that the log rightly knows of more than it; the caller then appends an
// entry, which is the first of the new store.
func Open(db *bbolt.DB, dir string, key *identity.Key, origin string, renewed bool) (_ *Log, err error) {
	table, size, err := least(db)
	if err != nil {
		return nil, err
	}
	log, err := audit.OpenSince(dir, key, origin, size)
	if err != nil {
		return nil, err
	}
	l := &Log{log, db}
	if !renewed {
		if err := l.compare(); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	store.Beside(db, func(tx *bbolt.Tx) error {
		return table.Put(tx, sizeKey, binary.BigEndian.AppendUint64(nil, uint64(log.Size())))
	})
	return l, nil
}

// Handover passes the log in dir, which is not open, on to another identity, unless db
// knows of more entries than it has.
func Handover(db *bbolt.DB, dir string, from, to *identity.Key, origin string) error {
	_, size, err := least(db)
	if err != nil {
		return err
	}
	return audit.Handover(dir, from, to, origin, size)
}

// least is how many audit entries db knows of.
func least(db *bbolt.DB) (table *store.Table, size int64, err error) {
	if table, err = store.OpenTable(db, tableName); err != nil {
		return nil, 0, err
	}
	err = store.View(db, func(tx *bbolt.Tx) error {
		raw, ok, err := table.Get(tx, sizeKey)
		if err != nil || !ok {
			return err
		}
		if len(raw) != 8 {
			return fmt.Errorf("record of the audit log's size has %d bytes: store %w", len(raw), store.ErrCorrupt)
		}
		size = int64(binary.BigEndian.Uint64(raw))
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open store %s: %w", db.Path(), err)
	}
	return table, size, nil
}

// compare demands that the store is not older than the newest entry that knows it.
func (l *Log) compare() error {
	have, err := store.Generation(l.db)
	if err != nil {
		return err
	}
	for i := l.Size() - 1; i >= 0; i-- {
		e, err := l.Record(i)
		if err != nil {
			return err
		}
		text, ok := e.Detail[detail]
		if !ok {
			continue // of the log itself
		}
		known, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("audit entry %d: the store's generation is %q: %w", i, text, audit.ErrDamaged)
		}
		if known > have {
			return fmt.Errorf("store %s %w (it is of generation %d; audit entry %d of %s was written at generation %d)",
				l.db.Path(), ErrOlder, have, i, time.Unix(e.Time, 0).UTC().Format(time.RFC3339), known)
		}
		return nil
	}
	return nil
}

// Append writes an event with the store's generation, and returns when it is on disk.
func (l *Log) Append(e audit.Event) (int64, error) {
	generation, err := store.Generation(l.db)
	if err != nil {
		return 0, err
	}
	e.Detail = maps.Clone(e.Detail)
	if e.Detail == nil {
		e.Detail = map[string]string{}
	}
	e.Detail[detail] = strconv.FormatUint(generation, 10)
	return l.Log.Append(e)
}

// Failed reports the failed write of either that made it refuse all others, if any.
func (l *Log) Failed() error { return errors.Join(store.Failed(l.db), l.Log.Failed()) }
