package store

import (
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"

	"coffer/internal/crashpoint"
)

// Writer is the one writer of a database's tables. Changes that arrive while a
// commit is under way are committed together by the next one, with one sync.
type Writer struct {
	db *bbolt.DB

	// commit is held by the caller that commits for all that wait. It is taken
	// before mu and never while holding mu.
	commit sync.Mutex

	mu      sync.Mutex // guards the rest
	waiting []*change
	failed  error // sticky
}

type change struct {
	apply func(*bbolt.Tx) error
	err   error
	done  bool
}

// maxGroup bounds the work that is redone when one change of a group is refused.
const maxGroup = 128

// NewWriter starts nothing; it needs no closing.
func NewWriter(db *bbolt.DB) *Writer { return &Writer{db: db} }

// Do runs f in a write transaction and returns when it is on disk. When f returns
// an error, nothing of it is written and the error is returned as it is. f may run
// more than once, on the same or a later state, so it must not carry anything over
// from a run before; only its last run counts.
func (w *Writer) Do(f func(*bbolt.Tx) error) error {
	c := &change{apply: f}
	w.mu.Lock()
	if w.failed != nil {
		defer w.mu.Unlock()
		return w.refusal()
	}
	w.waiting = append(w.waiting, c)
	w.mu.Unlock()

	w.commit.Lock()
	defer w.commit.Unlock()
	// Whoever held the lock before may have committed this change too; every change
	// was queued before its caller asked for the lock, so it is either done or waiting.
	for !c.done {
		w.mu.Lock()
		group := w.waiting[:min(len(w.waiting), maxGroup)]
		w.waiting = w.waiting[len(group):]
		failed := w.failed
		w.mu.Unlock()
		if failed != nil {
			for _, c := range group {
				c.err, c.done = w.refusal(), true
			}
			continue
		}
		w.run(group)
	}
	return c.err
}

// run commits a group; a change that refuses is taken out and the others start over,
// so that what it wrote before it refused is gone with the transaction.
func (w *Writer) run(group []*change) {
	for len(group) > 0 {
		refused := -1
		err := crashpoint.Write("store.commit")
		if err == nil {
			err = update(w.db, func(tx *bbolt.Tx) error {
				for i, c := range group {
					if err := c.apply(tx); err != nil {
						refused = i
						return err
					}
				}
				return nil
			})
		}
		crashpoint.Hit("store.committed")
		switch {
		case err == nil:
			for _, c := range group {
				c.done = true
			}
			return
		case refused >= 0 && !errors.Is(err, ErrCorrupt):
			group[refused].err, group[refused].done = err, true
			group = append(append([]*change(nil), group[:refused]...), group[refused+1:]...)
		default:
			// The commit failed, or a record is damaged. Part of it may be on disk: the
			// truth is known again only when a restart has read the whole file.
			w.mu.Lock()
			w.failed = err
			w.mu.Unlock()
			for _, c := range group {
				c.err, c.done = w.refusal(), true
			}
			return
		}
	}
}

// Failed reports the failure that made this writer refuse, if any.
func (w *Writer) Failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		return nil
	}
	return w.refusal()
}

func (w *Writer) refusal() error { return fmt.Errorf("%w: %w", ErrFailed, w.failed) }
